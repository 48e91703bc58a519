//! Listeners that the application made, or inherited: what they must be, and what they are given.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::listener::{End, Listening, address_of};
use super::unix_listener::FileId;
use crate::server::listen_addr::ListenAddr;

/// A listening stream socket that others may listen on too.
#[derive(Debug)]
pub(crate) struct MadeListener {
    socket: Socket,
    address: ListenAddr,
    is_only_v6: bool,
    /// Which socket it is, whatever its descriptor.
    socket_id: FileId,
}

/// Why a descriptor cannot be accepted from.
#[derive(Debug)]
pub(crate) enum MadeError {
    Unfit {
        descriptor: RawFd,
        reason: &'static str,
    },
    /// The kernel says no.
    Refused(io::Error),
}

impl MadeListener {
    /// Checks what a descriptor is, and takes another descriptor of it, which is closed on exec(3).
    pub(crate) fn new(given: &OwnedFd) -> Result<Self, MadeError> {
        let socket = Socket::from(given.try_clone().map_err(MadeError::Refused)?);
        let unfit = |reason| MadeError::Unfit { descriptor: given.as_raw_fd(), reason };
        let kind = socket.r#type().map_err(|_| unfit("is no socket"))?;
        let domain = socket.domain().map_err(MadeError::Refused)?;
        if kind != Type::STREAM {
            return Err(unfit("is a socket, but not a stream socket (SOCK_STREAM)"));
        }
        let is_unix = domain == Domain::UNIX;
        if !is_unix && !(is_tcp(&socket).map_err(MadeError::Refused)?) {
            return Err(unfit("is neither a TCP socket nor a Unix socket"));
        }
        if !socket.is_listener().map_err(MadeError::Refused)? {
            return Err(unfit("does not listen; call listen(2) on it before"));
        }
        let address = address_of(&socket).map_err(MadeError::Refused)?;
        let is_only_v6 = domain == Domain::IPV6 && socket.only_v6().map_err(MadeError::Refused)?;
        let socket_id = id_of(&socket).map_err(MadeError::Refused)?;
        Ok(Self { socket, address, is_only_v6, socket_id })
    }

    pub(crate) fn address(&self) -> &ListenAddr {
        &self.address
    }

    pub(crate) fn tcp_addr(&self) -> Option<SocketAddr> {
        self.address.tcp()
    }

    /// Whether it takes connections of IPv4 by an IPv6 address.
    pub(crate) fn takes_ipv4_too(&self) -> bool {
        let is_any = self.tcp_addr().is_some_and(|address| address.ip().is_unspecified());
        is_any && self.tcp_addr().is_some_and(|address| address.is_ipv6()) && !self.is_only_v6
    }

    /// Whether both are the same socket.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.socket_id == other.socket_id
    }

    /// The file of a Unix socket, if it is still there.
    pub(super) fn file(&self) -> Option<FileId> {
        let ListenAddr::Unix(path) = &self.address else { return None };
        std::fs::symlink_metadata(path).ok().map(|metadata| FileId::of(&metadata))
    }

    /// Nothing of it is changed here: other processes may have it too.
    pub(super) fn into_listening(self) -> Listening {
        let is_tcp = self.tcp_addr().is_some();
        Listening::new(self.socket, End::Leave { is_tcp })
    }
}

fn is_tcp(socket: &Socket) -> io::Result<bool> {
    let is_internet = matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6);
    let protocol = socket.protocol()?;
    // Multipath TCP has the options of TCP (Linux Documentation/networking/mptcp.rst).
    Ok(is_internet && (protocol == Some(Protocol::TCP) || protocol == Some(Protocol::MPTCP)))
}

fn id_of(socket: &Socket) -> io::Result<FileId> {
    let file = std::fs::File::from(OwnedFd::from(socket.try_clone()?));
    Ok(FileId::of(&file.metadata()?))
}
