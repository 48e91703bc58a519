//! Binding Unix sockets (unix(7)): the file of a server that was killed is replaced, that of one that
//! listens is not, and nothing but a socket is ever removed.

use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::binding::BindError;
use super::listener::{BACKLOG, End, Listening};
use crate::server::listen_addr::ListenAddr;

/// `sun_path` has 108 bytes, one of which ends a path, or begins an abstract name.
const NAME_BYTES_MAX: usize = 107;

/// How long another server may take to bind in the same folder, which is a few system calls.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Where a Unix socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnixName {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

impl UnixName {
    /// Reads what stands behind `unix:`: a path, or `@` and a name.
    ///
    /// # Errors
    ///
    /// Why it cannot be the name of a socket, with the remedy.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let name = text.strip_prefix('@');
        match name.unwrap_or(text) {
            "" => Err("it has no name; give unix:PATH, or unix:@NAME for an abstract name"),
            bytes if bytes.contains('\0') => Err("it contains a NUL byte; leave it out"),
            bytes if bytes.len() > NAME_BYTES_MAX => Err(
                "its path is longer than the 107 bytes the kernel takes (unix(7)); choose a shorter \
                 one, or one relative to the working directory",
            ),
            bytes if name.is_some() => Ok(Self::Abstract(bytes.as_bytes().to_vec())),
            bytes => Ok(Self::Path(PathBuf::from(bytes))),
        }
    }

    pub(crate) fn address(&self) -> ListenAddr {
        match self {
            Self::Path(path) => ListenAddr::Unix(path.clone()),
            Self::Abstract(name) => ListenAddr::UnixAbstract(name.clone()),
        }
    }
}

/// Which file it is, whatever its path: the device and the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The file of a socket that we have bound.
#[derive(Debug)]
pub(super) struct UnixFile {
    /// Does not depend on the working directory.
    path: PathBuf,
    id: FileId,
}

impl UnixFile {
    fn at(path: &Path) -> io::Result<Self> {
        let id = FileId::of(&fs::symlink_metadata(path)?);
        Ok(Self { path: std::path::absolute(path)?, id })
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Removes it, unless another file is in its place. The kernel gives the inode to no other file
    /// while the socket is open.
    pub(super) fn remove(&self) {
        let is_ours = |metadata: Metadata| FileId::of(&metadata) == self.id;
        if !fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the file of a Unix socket could not be removed");
        }
    }
}

/// Binds and listens. `files` are those of sockets that this server listens on already.
pub(super) fn bind(name: &UnixName, mode: u32, files: &[FileId]) -> Result<Listening, BindError> {
    let refused = |source| BindError::Refused { address: name.address(), source };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused)?;
    match name {
        UnixName::Path(path) => bind_path(socket, path, mode, files),
        UnixName::Abstract(bytes) => {
            let bound = || {
                let bytes = [b"\0", &bytes[..]].concat();
                let path = std::ffi::OsString::from(String::from_utf8(bytes).expect("parsed text"));
                socket.bind(&SockAddr::unix(path)?)?;
                socket.listen(BACKLOG)
            };
            bound().map_err(refused)?;
            Ok(Listening::new(socket, End::ShutDown))
        }
    }
}

fn bind_path(
    socket: Socket,
    path: &Path,
    mode: u32,
    files: &[FileId],
) -> Result<Listening, BindError> {
    let address = ListenAddr::Unix(path.to_owned());
    let refused = |source| BindError::Refused { address: address.clone(), source };
    // A socket that is bound and does not listen yet looks like one that is left over.
    let _lock = lock_folder(path).map_err(refused)?;
    let unix_addr = SockAddr::unix(path).map_err(refused)?;
    match socket.bind(&unix_addr) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            check_what_is_there(path, files)?;
            remove_left_over(path, &unix_addr).map_err(refused)?;
            socket.bind(&unix_addr).map_err(refused)?;
        }
        bound => bound.map_err(refused)?,
    }
    let file = UnixFile::at(path).map_err(refused)?;
    // Removes the file if it fails from here on.
    let listening = Listening::new(socket, End::Remove(file));
    // Nobody can connect before it listens.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(refused)?;
    listening.socket().listen(BACKLOG).map_err(refused)?;
    Ok(listening)
}

/// Of two servers that start at once, none removes the socket of the other: they bind one after the
/// other. The lock ends with the file. `None` where a folder cannot be locked; what is wrong with it,
/// bind says.
fn lock_folder(path: &Path) -> io::Result<Option<File>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) else { return Ok(None) };
    let start = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process keeps its folder locked (flock(2))"));
            }
        }
    }
}

fn check_what_is_there(path: &Path, files: &[FileId]) -> Result<(), BindError> {
    // It may have gone meanwhile; otherwise bind says what is wrong.
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let address = ListenAddr::Unix(path.to_owned());
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket { address });
    }
    if files.contains(&FileId::of(&metadata)) {
        return Err(BindError::Twice { address });
    }
    Ok(())
}

/// Removes the file of a socket that nobody listens on.
fn remove_left_over(path: &Path, unix_addr: &SockAddr) -> io::Result<()> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The backlog of who listens may be full.
    probe.set_nonblocking(true)?;
    let Err(error) = probe.connect(unix_addr) else {
        return Err(ErrorKind::AddrInUse.into());
    };
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => {
            tracing::info!(path = %path.display(), "replacing a socket that nobody listens on");
            fs::remove_file(path).or_else(unless_gone)
        }
        Some(libc::ENOENT) => Ok(()),
        // Its backlog is full, or it is a socket of another type, which knows no listening.
        Some(libc::EAGAIN | libc::EPROTOTYPE) => Err(ErrorKind::AddrInUse.into()),
        _ => Err(error),
    }
}

fn unless_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests;
