//! A folder of a test's own, for files of Unix sockets. It goes with everything in it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::SockAddr;

pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringwire-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the folder for temporary files takes one");
        Self { path }
    }

    /// The path of a socket in it.
    pub fn socket(&self) -> PathBuf {
        self.path.join("ws.sock")
    }

    /// The same, as one connects to it.
    pub fn addr(&self) -> SockAddr {
        SockAddr::unix(self.socket()).expect("it is short enough")
    }

    /// The same, as a server listens on it.
    pub fn listen(&self) -> String {
        format!("unix:{}", self.socket().display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
