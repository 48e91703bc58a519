//! What a server listens on: from what the application asked for to the listeners of each shard. The
//! sockets are opened in `sys/listener.rs`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::error::StartError;
use crate::server::listen_addr::ListenAddr;
use crate::sys::{Group, Listener, MadeListener, Target, UnixName, listen};

/// What the application asked for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// `ADDR:PORT`, `NAME:PORT` or `unix:PATH`.
    Text(String),
    /// A listening socket that the application made.
    Made(Arc<OwnedFd>),
}

/// What a server listens on, and the listeners of each shard.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) addresses: Vec<ListenAddr>,
    /// By shard, one for each address.
    pub(crate) by_shard: Vec<Vec<Listener>>,
}

/// Opens what is asked for, for so many shards.
pub(crate) fn open(
    asked: &[Asked],
    shards: usize,
    unix_mode: u32,
    patience: Duration,
) -> Result<Listening, StartError> {
    if unix_mode & !0o777 != 0 || unix_mode & 0o200 == 0 {
        let rule = "unix_mode must be at most 0o777 and let the owner write (0o200): a server \
                    that starts again must see whether somebody listens there";
        return Err(StartError::Config { rule });
    }
    let targets: Vec<Target> = asked.iter().map(target).collect::<Result<_, _>>()?;
    check_overlaps(&targets)?;
    let groups = listen(targets, shards, unix_mode, patience).map_err(StartError::from_bind)?;
    let addresses = groups.iter().map(|group| group[0].address());
    let addresses = addresses
        .collect::<Result<_, _>>()
        .map_err(|source| StartError::Machine { step: "getsockname", source })?;
    Ok(Listening { addresses, by_shard: by_shard(groups, shards) })
}

fn target(asked: &Asked) -> Result<Target, StartError> {
    match asked {
        Asked::Text(text) => match text.strip_prefix("unix:") {
            None => resolve(text).map(Target::Name),
            Some(name) => UnixName::parse(name)
                .map(Target::Unix)
                .map_err(|rule| StartError::UnixName { address: text.clone(), rule }),
        },
        Asked::Made(descriptor) => {
            MadeListener::new(descriptor).map(Target::Made).map_err(StartError::from_made)
        }
    }
}

/// Every address of a name, each once.
fn resolve(name: &str) -> Result<Vec<SocketAddr>, StartError> {
    let unresolved = |source| StartError::Address { address: name.to_owned(), source };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in name.to_socket_addrs().map_err(unresolved)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unresolved(std::io::Error::other("the name has no address")));
    }
    Ok(addresses)
}

/// An address that one call asks for and another one as well. The kernel would say that it is in
/// use, as if it were another server's.
fn check_overlaps(targets: &[Target]) -> Result<(), StartError> {
    for (index, target) in targets.iter().enumerate() {
        for earlier in &targets[..index] {
            if let Some((address, other)) = overlap(earlier, target) {
                return Err(StartError::ListenedTwice { address, other });
            }
        }
    }
    Ok(())
}

fn overlap(one: &Target, other: &Target) -> Option<(ListenAddr, ListenAddr)> {
    match (one, other) {
        // Two sockets of one address are a group that somebody else has made (SO_REUSEPORT).
        (Target::Made(one), Target::Made(other)) => {
            let is_same = one.is_same(other);
            is_same.then(|| (one.address().clone(), other.address().clone()))
        }
        (Target::Unix(one), Target::Unix(other)) => {
            (one == other).then(|| (one.address(), other.address()))
        }
        (one, other) => {
            let both = tcp_addresses(one)
                .into_iter()
                .flat_map(|one| tcp_addresses(other).into_iter().map(move |other| (one, other)));
            let found =
                both.into_iter().find(|(one, other)| one.covers(other) || other.covers(one));
            found.map(|(one, other)| (one.address.into(), other.address.into()))
        }
    }
}

/// An address of TCP that is, or will be, listened on.
#[derive(Clone, Copy)]
struct TcpAddress {
    address: SocketAddr,
    /// It also takes what comes by IPv4.
    takes_ipv4_too: bool,
}

impl TcpAddress {
    /// Whether what comes to `other` would come to it.
    fn covers(&self, other: &Self) -> bool {
        let (ip, other_ip) = (self.address.ip().to_canonical(), other.address.ip().to_canonical());
        let is_any = ip.is_unspecified()
            && (ip.is_ipv4() == other_ip.is_ipv4() || (ip.is_ipv6() && self.takes_ipv4_too));
        // Port 0 becomes one that is free.
        let has_port = self.address.port() != 0 && self.address.port() == other.address.port();
        has_port && (is_any || (ip == other_ip && scope(self.address) == scope(other.address)))
    }
}

/// The interface of a link-local address (RFC 4007).
fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

fn tcp_addresses(target: &Target) -> Vec<TcpAddress> {
    match target {
        // `[::]` leaves IPv4 to whoever asks for it.
        Target::Name(addresses) => {
            addresses.iter().map(|&address| TcpAddress { address, takes_ipv4_too: false }).collect()
        }
        Target::Made(made) => made
            .tcp_addr()
            .map(|address| TcpAddress { address, takes_ipv4_too: made.takes_ipv4_too() })
            .into_iter()
            .collect(),
        Target::Unix(_) => Vec::new(),
    }
}

/// The listeners of each shard, one for each address.
fn by_shard(groups: Vec<Group>, shards: usize) -> Vec<Vec<Listener>> {
    let mut by_shard: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for group in groups {
        for (listeners, listener) in by_shard.iter_mut().zip(group) {
            listeners.push(listener);
        }
    }
    by_shard
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(texts: &[&str]) -> Result<(), StartError> {
        let text = |text: &&str| target(&Asked::Text((*text).to_owned()));
        check_overlaps(&texts.iter().map(text).collect::<Result<Vec<_>, _>>()?)
    }

    #[test]
    fn what_would_come_to_two_listeners_is_asked_for_twice() {
        for texts in [
            ["127.0.0.1:9001", "127.0.0.1:9001"],
            ["0.0.0.0:9001", "127.0.0.1:9001"],
            ["127.0.0.1:9001", "0.0.0.0:9001"],
            ["[::]:9001", "[::1]:9001"],
            ["[::ffff:127.0.0.1]:9001", "127.0.0.1:9001"],
            ["[fe80::1%2]:9001", "[fe80::1%2]:9001"],
            ["localhost:9001", "127.0.0.1:9001"],
            ["unix:/run/a", "unix:/run/a"],
            ["unix:@a", "unix:@a"],
        ] {
            let error = asked(&texts).expect_err(texts[0]);
            assert!(matches!(error, StartError::ListenedTwice { .. }), "{texts:?}: {error}");
        }
    }

    #[test]
    fn what_comes_to_one_listener_is_asked_for_once() {
        for texts in [
            ["127.0.0.1:9001", "127.0.0.1:9002"],
            ["127.0.0.1:9001", "127.0.0.2:9001"],
            ["127.0.0.1:0", "127.0.0.1:0"],
            ["0.0.0.0:9001", "[::]:9001"],
            ["[::]:9001", "127.0.0.1:9001"],
            ["[::]:9001", "[::ffff:127.0.0.1]:9001"],
            ["[fe80::1%2]:9001", "[fe80::1%3]:9001"],
            ["unix:/run/a", "unix:/run/b"],
            ["unix:/run/a", "unix:@/run/a"],
        ] {
            asked(&texts).unwrap_or_else(|error| panic!("{texts:?}: {error}"));
        }
    }
}
