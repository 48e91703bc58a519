//! Opening everything that a server listens on: the addresses of names, Unix sockets, and listeners
//! that were made elsewhere.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::listener::{End, Group, Listener, canonical};
use super::made_listener::MadeListener;
use super::unix_listener::{self, FileId, UnixName};
use crate::server::listen_addr::ListenAddr;

/// Ports tried for a name with several addresses, until one is free on all of them.
const PORTS_TRIED_MAX: usize = 32;

/// How often an address in use is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// The same for a Unix socket, whose owner is connected to each time.
const UNIX_RETRY: Duration = Duration::from_millis(50);

/// What to listen on.
#[derive(Debug)]
pub(crate) enum Target {
    /// Every address of a name.
    Name(Vec<SocketAddr>),
    Unix(UnixName),
    Made(MadeListener),
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub(crate) enum BindError {
    Refused {
        address: ListenAddr,
        source: io::Error,
    },
    /// What is at the path of a Unix socket is something else.
    NotASocket {
        address: ListenAddr,
    },
    /// This server listens there already.
    Twice {
        address: ListenAddr,
    },
}

impl BindError {
    fn is_in_use(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if is_in_use(source))
    }
}

/// Listens on every target with a listener for each of `count` shards, and returns a group per
/// address. All addresses of a name get the same port. An address this machine does not have is
/// passed over if the name has another one. An address in use is tried for `patience`: the
/// listeners of a process that was killed stay until the kernel has torn its rings down. The files
/// of Unix sockets get `unix_mode`.
///
/// # Errors
///
/// The first address that cannot be listened on.
pub(crate) fn listen(
    targets: Vec<Target>,
    count: usize,
    unix_mode: u32,
    patience: Duration,
) -> Result<Vec<Group>, BindError> {
    let start = Instant::now();
    let all_v4 = targets.iter().flat_map(ipv4_ports).collect::<Vec<_>>();
    // Files of sockets that this server has, also by way of its application.
    let mut files: Vec<FileId> = targets.iter().filter_map(file_of).collect();
    let mut groups: Vec<Group> = Vec::new();
    for target in targets {
        let is_patient = || start.elapsed() < patience;
        match target {
            Target::Name(addresses) => {
                let listen = || listen_on_name(&addresses, &all_v4, count);
                groups.extend(while_in_use(RETRY, is_patient, listen)?);
            }
            Target::Unix(name) => {
                let bind = || unix_listener::bind(&name, unix_mode, &files);
                let listening = while_in_use(UNIX_RETRY, is_patient, bind)?;
                if let End::Remove(file) = &listening.end {
                    files.push(file.id());
                }
                groups.push(listening.share(count));
            }
            Target::Made(made) => groups.push(made.into_listening().share(count)),
        }
    }
    Ok(groups)
}

fn file_of(target: &Target) -> Option<FileId> {
    match target {
        Target::Made(made) => made.file(),
        _ => None,
    }
}

/// Tries until somebody else's listener is gone.
fn while_in_use<T>(
    retry: Duration,
    is_patient: impl Fn() -> bool,
    mut bind: impl FnMut() -> Result<T, BindError>,
) -> Result<T, BindError> {
    loop {
        match bind() {
            Err(error) if error.is_in_use() && is_patient() => std::thread::sleep(retry),
            bound => return bound,
        }
    }
}

fn listen_on_name(
    addresses: &[SocketAddr],
    all_v4: &[u16],
    count: usize,
) -> Result<Vec<Group>, BindError> {
    let mut tried = 1;
    loop {
        match listen_on_one_port(addresses, all_v4, count) {
            // The port that was picked for the first address is taken on another one.
            Err(error)
                if error.is_in_use() && addresses[0].port() == 0 && tried < PORTS_TRIED_MAX =>
            {
                tried += 1;
            }
            listening => return listening,
        }
    }
}

fn listen_on_one_port(
    addresses: &[SocketAddr],
    all_v4: &[u16],
    count: usize,
) -> Result<Vec<Group>, BindError> {
    let mut groups: Vec<Group> = Vec::new();
    let mut missing = None;
    for &address in addresses {
        let refused =
            |source| BindError::Refused { address: ListenAddr::Tcp(canonical(address)), source };
        let mut target = address;
        if let Some(first) = groups.first()
            && address.port() == 0
        {
            target.set_port(first[0].bound_addr().map_err(refused)?.port());
        }
        match Listener::bind_shared(target, count, is_only_v6(target, all_v4)) {
            Ok(group) => groups.push(group),
            Err(source) if is_missing(&source) => {
                missing.get_or_insert((address, source));
            }
            Err(source) => return Err(refused(source)),
        }
    }
    match missing {
        Some((address, source)) if groups.is_empty() => {
            Err(BindError::Refused { address: ListenAddr::Tcp(canonical(address)), source })
        }
        Some((address, source)) => {
            tracing::info!(%address, error = %source, "not listened on: this machine lacks it");
            Ok(groups)
        }
        None => Ok(groups),
    }
}

/// The ports at which IPv4 is listened on.
fn ipv4_ports(target: &Target) -> Vec<u16> {
    let is_v4 = |address: &SocketAddr| canonical(*address).is_ipv4();
    let ports = |addresses: &[SocketAddr]| {
        addresses.iter().filter(|address| is_v4(address)).map(SocketAddr::port).collect()
    };
    match target {
        Target::Name(addresses) => ports(addresses),
        Target::Made(made) => ports(made.tcp_addr().as_slice()),
        Target::Unix(_) => Vec::new(),
    }
}

/// `[::]` takes the connections of IPv4 too, unless an IPv4 address of that port is listened on.
fn is_only_v6(address: SocketAddr, all_v4: &[u16]) -> bool {
    address.ip() == Ipv6Addr::UNSPECIFIED
        && all_v4.iter().any(|&port| port == address.port() || port == 0)
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// The machine has no such address, or nothing of its family.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
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

    fn listen_on(
        name: Vec<SocketAddr>,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<Group>, BindError> {
        listen(vec![Target::Name(name)], count, 0o660, patience)
    }

    #[test]
    fn a_second_group_on_the_same_port_is_refused() {
        let group = Listener::bind_group(loopback(0), 2).unwrap();
        let taken = group[0].local_addr().unwrap();
        let error = Listener::bind_group(taken, 2).unwrap_err();
        assert!(is_in_use(&error));
        let error = listen_on(vec![taken], 1, Duration::from_millis(50)).unwrap_err();
        assert!(error.is_in_use());
    }

    #[test]
    fn all_addresses_of_a_name_get_one_port_and_those_that_are_missing_none() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let nobodys = SocketAddr::from(([192, 0, 2, 1], 0));
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        let name = vec![nobodys, loopback(0), other];
        let groups = listen_on(name, 2, Duration::ZERO).unwrap();
        assert_eq!(groups.len(), 2);
        let ports = ports(&groups);
        assert_eq!(ports, [ports[0]; 4]);
        let error = listen_on(vec![nobodys], 1, Duration::ZERO).unwrap_err();
        assert!(matches!(error, BindError::Refused { source, .. } if is_missing(&source)));
    }

    #[test]
    fn a_port_that_becomes_free_is_taken() {
        let group = Listener::bind_group(loopback(0), 2).unwrap();
        let taken = group[0].local_addr().unwrap();
        let freeing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(group);
        });
        listen_on(vec![taken], 2, Duration::from_secs(60)).unwrap();
        freeing.join().unwrap();
    }
}
