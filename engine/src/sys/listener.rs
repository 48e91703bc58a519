//! Listening sockets, one per shard on one address (SO_REUSEPORT).
//! Never accepts: that is the ring's.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, per shard; the kernel cuts it to
/// `net.core.somaxconn` (4,096 by default since Linux 5.4).
const BACKLOG: i32 = 4_096;

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Binds and listens on `count` sockets that share `address`; port 0 picks one port
    /// for all of them. The kernel deals connections out among them by their addresses
    /// (socket(7), `SO_REUSEPORT`).
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` if any other socket listens there, even one that would share its port:
    /// two servers that silently split the connections are a mistake far more often than a
    /// wish.
    pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        let first = Self::bind_alone(address)?;
        let address = first.local_addr()?;
        let mut group = Vec::with_capacity(count);
        first.socket.set_reuse_port(true)?;
        first.socket.listen(BACKLOG)?;
        group.push(first);
        for _ in 1..count {
            let socket = Self::open(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            group.push(Self { socket });
        }
        Ok(group)
    }

    /// Bound without SO_REUSEPORT, so that the kernel refuses an address somebody else
    /// listens on; the option is set afterwards, which lets the rest of the group join.
    fn bind_alone(address: SocketAddr) -> io::Result<Self> {
        let socket = Self::open(address)?;
        socket.bind(&address.into())?;
        Ok(Self { socket })
    }

    fn open(address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier run in TIME_WAIT do not keep a server from starting.
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: a frame is sent when the tick ends, not when an
        // earlier one was acknowledged, and no connection costs a system call for it.
        socket.set_tcp_nodelay(true)?;
        defer_accept(&socket)?;
        Ok(socket)
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("a TCP socket has an internet address"))
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A WebSocket client speaks first, so a connection is accepted when its request is there (tcp(7),
/// `TCP_DEFER_ACCEPT`): one wake-up instead of two. One that stays silent is accepted after a
/// second all the same, and then has its handshake timeout.
fn defer_accept(socket: &Socket) -> io::Result<()> {
    let seconds: libc::c_int = 1;
    // SAFETY: the pointer and the length name a `c_int` that lives across the call, which is
    // what this option takes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_group_shares_one_port() {
        let group = Listener::bind_group(loopback(0), 3).unwrap();
        let ports: Vec<u16> = group.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [ports[0]; 3]);
        assert_ne!(ports[0], 0);
    }

    #[test]
    fn a_second_group_on_the_same_port_is_refused() {
        let group = Listener::bind_group(loopback(0), 2).unwrap();
        let taken = group[0].local_addr().unwrap();
        let error = Listener::bind_group(taken, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
