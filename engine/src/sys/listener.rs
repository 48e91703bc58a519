//! Listening sockets: one per shard and address (SO_REUSEPORT). The driver accepts.

use std::io;
use std::net::{Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, per shard; the kernel cuts it to
/// `net.core.somaxconn` (4,096 by default since Linux 5.4).
const BACKLOG: i32 = 4_096;

/// Ports tried for a name with several addresses, until one is free on all of them.
const PORTS_TRIED_MAX: usize = 32;

/// How often an address in use is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub(crate) struct BindError {
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
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

    fn bind_shared(address: SocketAddr, count: usize, only_v6: bool) -> io::Result<Vec<Self>> {
        // Bound without SO_REUSEPORT, so that the kernel refuses an address somebody else
        // listens on; the option is set afterwards, which lets the rest of the group join.
        let first = Self { socket: Self::open(address, only_v6)? };
        first.socket.bind(&address.into())?;
        let address = first.bound_addr()?;
        let mut group = Vec::with_capacity(count);
        first.socket.set_reuse_port(true)?;
        first.socket.listen(BACKLOG)?;
        group.push(first);
        for _ in 1..count {
            let next = Self { socket: Self::open(address, only_v6)? };
            next.socket.set_reuse_port(true)?;
            next.socket.bind(&address.into())?;
            next.socket.listen(BACKLOG)?;
            group.push(next);
        }
        Ok(group)
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

    /// The address it is bound to; an IPv4 address in IPv6 form as IPv4.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.bound_addr().map(canonical)
    }

    fn bound_addr(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("a TCP socket has an internet address"))
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// An accept that finds nobody waiting returns `EAGAIN` from now on.
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)
    }

    /// Accepts one connection; its socket is closed on exec(3).
    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        self.socket.accept().map(|(socket, _)| socket.into())
    }
}

impl Drop for Listener {
    /// Ends the listening here and now: an accept in flight would keep the socket, and so the
    /// port, until the kernel has torn its ring down.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Listens on every address of every name with `count` sockets each, and returns a group per
/// address. All addresses of a name get the same port. An address this machine does not have is
/// passed over if the name has another one. An address in use is tried for `patience`: the
/// listeners of a process that was killed stay until the kernel has torn its rings down.
///
/// # Errors
///
/// The first address that cannot be listened on.
pub(crate) fn listen(
    names: &[Vec<SocketAddr>],
    count: usize,
    patience: Duration,
) -> Result<Vec<Vec<Listener>>, BindError> {
    let start = Instant::now();
    let mut groups = Vec::new();
    for addresses in names {
        groups.extend(loop {
            match listen_on_name(addresses, names, count) {
                Err(error) if is_in_use(&error.source) && start.elapsed() < patience => {
                    std::thread::sleep(RETRY);
                }
                listening => break listening?,
            }
        });
    }
    Ok(groups)
}

fn listen_on_name(
    addresses: &[SocketAddr],
    names: &[Vec<SocketAddr>],
    count: usize,
) -> Result<Vec<Vec<Listener>>, BindError> {
    let mut tried = 1;
    loop {
        match listen_on_one_port(addresses, names, count) {
            // The port that was picked for the first address is taken on another one.
            Err(error)
                if is_in_use(&error.source)
                    && addresses[0].port() == 0
                    && tried < PORTS_TRIED_MAX =>
            {
                tried += 1;
            }
            listening => return listening,
        }
    }
}

fn listen_on_one_port(
    addresses: &[SocketAddr],
    names: &[Vec<SocketAddr>],
    count: usize,
) -> Result<Vec<Vec<Listener>>, BindError> {
    let mut groups: Vec<Vec<Listener>> = Vec::new();
    let mut missing = None;
    for &address in addresses {
        let refused = |source| BindError { address, source };
        let mut target = address;
        if let Some(first) = groups.first()
            && address.port() == 0
        {
            target.set_port(first[0].bound_addr().map_err(refused)?.port());
        }
        match Listener::bind_shared(target, count, is_only_v6(target, names)) {
            Ok(group) => groups.push(group),
            Err(source) if is_missing(&source) => {
                missing.get_or_insert(refused(source));
            }
            Err(source) => return Err(refused(source)),
        }
    }
    match missing {
        Some(error) if groups.is_empty() => Err(error),
        Some(BindError { address, source }) => {
            tracing::info!(%address, error = %source, "not listened on: this machine lacks it");
            Ok(groups)
        }
        None => Ok(groups),
    }
}

/// `[::]` takes the connections of IPv4 too, unless an IPv4 address of that port is listened on.
fn is_only_v6(address: SocketAddr, names: &[Vec<SocketAddr>]) -> bool {
    let mut all = names.iter().flatten();
    address.ip() == Ipv6Addr::UNSPECIFIED
        && all.any(|other| other.is_ipv4() && (other.port() == address.port() || other.port() == 0))
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// The machine has no such address, or nothing of its family.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
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

    fn ports(groups: &[Vec<Listener>]) -> Vec<u16> {
        groups.iter().flatten().map(|l| l.local_addr().unwrap().port()).collect()
    }

    #[test]
    fn a_group_shares_one_port() {
        let group = Listener::bind_group(loopback(0), 3).unwrap();
        let ports = ports(&[group]);
        assert_eq!(ports, [ports[0]; 3]);
        assert_ne!(ports[0], 0);
    }

    #[test]
    fn a_second_group_on_the_same_port_is_refused() {
        let group = Listener::bind_group(loopback(0), 2).unwrap();
        let taken = group[0].local_addr().unwrap();
        let error = Listener::bind_group(taken, 2).unwrap_err();
        assert!(is_in_use(&error));
        let error = listen(&[vec![taken]], 1, Duration::from_millis(50)).unwrap_err();
        assert!(is_in_use(&error.source));
    }

    #[test]
    fn all_addresses_of_a_name_get_one_port_and_those_that_are_missing_none() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let nobodys = SocketAddr::from(([192, 0, 2, 1], 0));
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        let name = vec![nobodys, loopback(0), other];
        let groups = listen(&[name], 2, Duration::ZERO).unwrap();
        assert_eq!(groups.len(), 2);
        let ports = ports(&groups);
        assert_eq!(ports, [ports[0]; 4]);
        let error = listen(&[vec![nobodys]], 1, Duration::ZERO).unwrap_err();
        assert!(is_missing(&error.source));
    }

    #[test]
    fn a_port_that_becomes_free_is_taken() {
        let group = Listener::bind_group(loopback(0), 2).unwrap();
        let taken = group[0].local_addr().unwrap();
        let freeing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(group);
        });
        listen(&[vec![taken]], 2, Duration::from_secs(60)).unwrap();
        freeing.join().unwrap();
    }

    #[test]
    fn an_ipv4_address_is_shown_as_one() {
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:9001".parse().unwrap();
        assert_eq!(canonical(mapped), loopback(9001));
        let scoped: SocketAddr = "[fe80::1%2]:9001".parse().unwrap();
        assert_eq!(canonical(scoped), scoped);
    }
}
