//! What a server listens on, as its owner sees it. Opens nothing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a server listens on ([`Running::local_addrs`](crate::Running::local_addrs)).
///
/// Its text is what [`Builder::listen`](crate::Builder::listen) takes: `127.0.0.1:9001`,
/// `unix:/run/app/ws.sock`, `unix:@name`. Bytes that are not UTF-8 are shown as `U+FFFD`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddr {
    /// An address and a port. If the port asked for was 0, it is the one picked.
    Tcp(SocketAddr),
    /// The path of a Unix socket, as it was given.
    Unix(PathBuf),
    /// A Unix socket with a name in the abstract namespace, which has no file (unix(7)).
    UnixAbstract(Vec<u8>),
}

impl ListenAddr {
    /// The address and the port; `None` for a Unix socket.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::UnixAbstract(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_listen_takes() {
        let tcp: SocketAddr = "[::1]:9001".parse().unwrap();
        assert_eq!(ListenAddr::from(tcp).to_string(), "[::1]:9001");
        assert_eq!(ListenAddr::from(tcp).tcp(), Some(tcp));
        let unix = ListenAddr::Unix("/run/app/ws.sock".into());
        assert_eq!((unix.to_string().as_str(), unix.tcp()), ("unix:/run/app/ws.sock", None));
        let name = ListenAddr::UnixAbstract(b"name".to_vec());
        assert_eq!((name.to_string().as_str(), name.tcp()), ("unix:@name", None));
    }
}
