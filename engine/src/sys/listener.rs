//! Listening sockets. TCP addresses have one per shard (SO_REUSEPORT); Unix sockets and listeners that
//! the application made are one socket, which all shards accept from. The driver accepts.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::unix_listener::UnixFile;
use crate::server::listen_addr::ListenAddr;

/// Connections that wait to be accepted, per socket; the kernel cuts it to
/// `net.core.somaxconn` (4,096 by default since Linux 5.4).
pub(super) const BACKLOG: i32 = 4_096;

/// One shard's part of a listening socket.
#[derive(Debug)]
pub struct Listener {
    listening: Arc<Listening>,
    /// Other shards accept from the same socket.
    is_shared: bool,
}

/// The sockets of one address: one part for each shard.
pub(crate) type Group = Vec<Listener>;

/// A listening socket, until the last shard has dropped it.
#[derive(Debug)]
pub(super) struct Listening {
    socket: Socket,
    pub(super) end: End,
}

/// What the end of a listening socket takes.
#[derive(Debug)]
pub(super) enum End {
    /// It is ours.
    ShutDown,
    /// It is ours, and so is its file.
    Remove(UnixFile),
    /// Others may listen on it too: it is only closed. A TCP socket accepted from it may lack what
    /// ours have from their listener.
    Leave { is_tcp: bool },
}

impl Listening {
    pub(super) fn new(socket: Socket, end: End) -> Self {
        Self { socket, end }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// A part for each of `count` shards.
    pub(super) fn share(self, count: usize) -> Group {
        let listening = Arc::new(self);
        let share = || Listener { listening: Arc::clone(&listening), is_shared: count > 1 };
        (0..count).map(|_| share()).collect()
    }
}

impl Drop for Listening {
    /// Ends the listening here and now: an accept in flight would keep the socket, and so the
    /// port, until the kernel has torn its ring down.
    fn drop(&mut self) {
        match &self.end {
            End::ShutDown => {}
            // While the socket listens nobody else takes the file for one that is left over.
            End::Remove(file) => file.remove(),
            // That would end it for everybody.
            End::Leave { .. } => return,
        }
        let _ = self.socket.shutdown(Shutdown::Both);
    }
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
        Self::bind_shared(address, count, false)
    }

    pub(super) fn bind_shared(
        address: SocketAddr,
        count: usize,
        only_v6: bool,
    ) -> io::Result<Vec<Self>> {
        // Bound without SO_REUSEPORT, so that the kernel refuses an address somebody else
        // listens on; the option is set afterwards, which lets the rest of the group join.
        let socket = Self::open(address, only_v6)?;
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        let mut group = vec![Self::listening(socket)?];
        let address = group[0].bound_addr()?;
        for _ in 1..count {
            let socket = Self::open(address, only_v6)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            group.push(Self::listening(socket)?);
        }
        Ok(group)
    }

    /// A shard's own socket.
    fn listening(socket: Socket) -> io::Result<Self> {
        socket.listen(BACKLOG)?;
        Ok(Self { listening: Arc::new(Listening::new(socket, End::ShutDown)), is_shared: false })
    }

    fn open(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier run in TIME_WAIT do not keep a server from starting.
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: a frame is sent when the tick ends, not when an
        // earlier one was acknowledged, and no connection costs a system call for it.
        socket.set_tcp_nodelay(true)?;
        if only_v6 {
            socket.set_only_v6(true)?;
        }
        defer_accept(&socket)?;
        Ok(socket)
    }

    /// The address a TCP socket is bound to; an IPv4 address in IPv6 form as IPv4.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.bound_addr().map(canonical)
    }

    pub(super) fn bound_addr(&self) -> io::Result<SocketAddr> {
        self.socket()
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("a TCP socket has an internet address"))
    }

    /// What it listens on, whatever it is.
    pub(crate) fn address(&self) -> io::Result<ListenAddr> {
        address_of(self.socket())
    }

    /// Whether other shards accept from the same socket.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn socket(&self) -> &Socket {
        self.listening.socket()
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }

    /// An accept that finds nobody waiting returns `EAGAIN` from now on.
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        self.socket().set_nonblocking(true)
    }

    /// Accepts one connection; its socket is closed on exec(3).
    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        let (socket, _) = self.socket().accept()?;
        let socket = socket.into();
        self.prepare(&socket);
        Ok(socket)
    }

    /// Gives a socket accepted from it what ours have from their listener. A connection that waited
    /// before we had the listener was made without it. One that refuses is gone, as the first
    /// receive will say.
    pub(super) fn prepare(&self, socket: &OwnedFd) {
        if matches!(self.listening.end, End::Leave { is_tcp: true }) {
            let _ = SockRef::from(socket).set_tcp_nodelay(true);
        }
    }
}

/// What a listening socket listens on.
pub(super) fn address_of(socket: &Socket) -> io::Result<ListenAddr> {
    let address = socket.local_addr()?;
    let unix = || {
        let path = address.as_pathname().map(|path| ListenAddr::Unix(path.to_owned()));
        path.or_else(|| Some(ListenAddr::UnixAbstract(address.as_abstract_namespace()?.to_owned())))
    };
    let tcp = address.as_socket().map(|address| ListenAddr::Tcp(canonical(address)));
    tcp.or_else(unix).ok_or_else(|| io::Error::other("a listening socket has an address"))
}

/// An IPv4 address is one, also where an IPv6 socket has it as `::ffff:` (RFC 4291 §2.5.5.2).
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
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
    fn an_ipv4_address_is_shown_as_one() {
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:9001".parse().unwrap();
        assert_eq!(canonical(mapped), loopback(9001));
        let scoped: SocketAddr = "[fe80::1%2]:9001".parse().unwrap();
        assert_eq!(canonical(scoped), scoped);
    }
}
