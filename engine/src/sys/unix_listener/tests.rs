use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use super::*;

/// A folder of its own, which is removed with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringwire-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> UnixName {
        UnixName::Path(self.0.join("socket"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn path(name: &UnixName) -> &Path {
    let UnixName::Path(path) = name else { panic!("a path") };
    path
}

fn is_in_use(bound: Result<Listening, BindError>) -> bool {
    matches!(
        bound.unwrap_err(),
        BindError::Refused { source, .. } if source.kind() == ErrorKind::AddrInUse
    )
}

#[test]
fn names_that_are_none() {
    let longest = "/".repeat(NAME_BYTES_MAX);
    assert_eq!(UnixName::parse(&longest), Ok(UnixName::Path(longest.clone().into())));
    let abstract_longest = format!("@{longest}");
    assert_eq!(UnixName::parse(&abstract_longest), Ok(UnixName::Abstract(longest.clone().into())));
    for name in ["", "@", "a\0b", "@a\0b", &format!("{longest}/"), &format!("{abstract_longest}/")]
    {
        let rule = UnixName::parse(name).expect_err(name);
        assert!(rule.contains(';'), "a remedy: {rule}");
    }
}

#[test]
fn what_was_left_over_is_replaced() {
    let folder = Folder::new("left-over");
    let name = folder.file();
    // As after SIGKILL: std does not remove the file.
    drop(UnixListener::bind(path(&name)).unwrap());
    let listening = bind(&name, 0o660, &[]).unwrap();
    let mode = fs::metadata(path(&name)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o660);
    UnixStream::connect(path(&name)).unwrap();
    drop(listening);
    assert!(!path(&name).exists(), "it is removed at the end");
}

#[test]
fn who_listens_keeps_his_file() {
    let folder = Folder::new("listens");
    let name = folder.file();
    let first = bind(&name, 0o660, &[]).unwrap();
    assert!(is_in_use(bind(&name, 0o660, &[])));
    let End::Remove(file) = &first.end else { panic!("it has a file") };
    let error = bind(&name, 0o660, &[file.id()]).unwrap_err();
    assert!(matches!(error, BindError::Twice { .. }), "{error:?}");
    UnixStream::connect(path(&name)).unwrap();
    drop(first);
    // A socket that is no stream says nothing of listening.
    let _datagrams = UnixDatagram::bind(path(&name)).unwrap();
    assert!(is_in_use(bind(&name, 0o660, &[])));
    assert!(path(&name).exists());
}

/// The backlog of a server that has no time to accept is full.
#[test]
fn who_is_busy_keeps_his_file() {
    let folder = Folder::new("busy");
    let name = folder.file();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(path(&name)).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let _waiting = UnixStream::connect(path(&name)).unwrap();
    assert!(is_in_use(bind(&name, 0o660, &[])));
}

#[test]
fn what_is_no_socket_is_kept() {
    let folder = Folder::new("no-socket");
    let name = folder.file();
    let kept: [&dyn Fn(&Path); 3] = [
        &|path| fs::write(path, "precious").unwrap(),
        &|path| fs::create_dir(path).unwrap(),
        // Also where it leads to a socket, or nowhere.
        &|path| std::os::unix::fs::symlink("nowhere", path).unwrap(),
    ];
    for make in kept {
        make(path(&name));
        let before = FileId::of(&fs::symlink_metadata(path(&name)).unwrap());
        let error = bind(&name, 0o660, &[]).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error:?}");
        assert_eq!(FileId::of(&fs::symlink_metadata(path(&name)).unwrap()), before);
        let _ = fs::remove_file(path(&name)).or_else(|_| fs::remove_dir(path(&name)));
    }
}

#[test]
fn a_file_of_somebody_else_is_kept_at_the_end() {
    let folder = Folder::new("another");
    let name = folder.file();
    let first = bind(&name, 0o660, &[]).unwrap();
    fs::remove_file(path(&name)).unwrap();
    let _second = bind(&name, 0o660, &[]).unwrap();
    drop(first);
    UnixStream::connect(path(&name)).unwrap();
}

/// Of many that start at once where a file was left over, one listens, and can be connected to.
#[test]
fn servers_that_start_at_once_do_not_remove_each_others_files() {
    let folder = Folder::new("at-once");
    let name = folder.file();
    for _ in 0..50 {
        drop(UnixListener::bind(path(&name)).unwrap());
        let bound: Vec<_> = std::thread::scope(|scope| {
            let bind = || bind(&name, 0o660, &[]);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(bound.len(), 1);
        UnixStream::connect(path(&name)).unwrap();
    }
}

#[test]
fn an_abstract_name_has_no_file() {
    let name = UnixName::Abstract(format!("ringwire-abstract-{}", std::process::id()).into());
    let listening = bind(&name, 0o660, &[]).unwrap();
    assert_eq!(super::super::listener::address_of(listening.socket()).unwrap(), name.address());
    assert!(is_in_use(bind(&name, 0o660, &[])));
    drop(listening);
    bind(&name, 0o660, &[]).unwrap();
}
