//! The file of a Unix socket, which is removed by whoever has bound it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
    pub(super) fn at(path: &Path) -> io::Result<Self> {
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
