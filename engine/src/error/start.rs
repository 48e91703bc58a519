//! The reasons why a server does not start.

use std::os::fd::RawFd;
use std::{fmt, io};

use crate::server::listen_addr::ListenAddr;
use crate::sys::{BindError, MAPPING_BUFFERS, MadeError, RING_SETUP, RingError};

/// The reason why a server did not start. Each `Display` text names the cause and, where there is
/// one, the remedy. By then every thread of the server has ended and its ports are free.
///
/// Who has to act: the author of the program for [`Config`](Self::Config), [`Address`](Self::Address)
/// and [`ShardPanicked`](Self::ShardPanicked), whoever runs the machine for all others.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of range or contradicts another one. The program has to give another value.
    Config {
        /// The broken rule.
        rule: &'static str,
    },
    /// The text given to `listen` is not `ADDR:PORT`, or its name has no address. The program has to
    /// give another text, or the name an address.
    Address {
        /// The text given to `listen`.
        address: String,
        /// The error of resolving it.
        source: io::Error,
    },
    /// What stands behind `unix:` in the text given to `listen` cannot be the name of a socket. The
    /// program has to give another one.
    UnixName {
        /// The text given to `listen`.
        address: String,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// Two calls of `listen` or `listen_on` ask for the same address, or one for an address that the
    /// other one's covers, as 0.0.0.0 does. The program has to leave out one of them.
    ListenedTwice {
        /// The first of them.
        address: ListenAddr,
        /// The second one.
        other: ListenAddr,
    },
    /// The descriptor given to `listen_on` is no listening stream socket. The program has to give
    /// one.
    NotListening {
        /// Its number.
        descriptor: RawFd,
        /// What it is instead.
        reason: &'static str,
    },
    /// Something other than a socket is at the path of a Unix socket. It is kept: remove it, or
    /// choose another path.
    NotASocket {
        /// The requested path.
        address: ListenAddr,
    },
    /// Another socket listens on the address, and still did after
    /// [`bind_timeout_ms`](crate::Config::bind_timeout_ms). Stop its process, or choose another
    /// port.
    AddressInUse {
        /// The requested address.
        address: ListenAddr,
    },
    /// The server cannot listen on the address for another reason, which `source` names: the machine
    /// does not have the address, or the user must not use the port.
    Listen {
        /// The requested address.
        address: ListenAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// This kernel has no io_uring (`ENOSYS`). Run Linux 6.1 or newer, or choose
    /// [`DriverChoice::Auto`](crate::DriverChoice::Auto), as for the next four.
    Missing,
    /// A seccomp filter forbids io_uring (`EPERM` while the sysctl allows it). Change the profile of
    /// the container.
    ForbiddenBySeccomp,
    /// `kernel.io_uring_disabled` forbids io_uring. Set the sysctl to 0.
    ForbiddenBySysctl {
        /// The value of the sysctl, 1 or 2.
        value: u8,
    },
    /// Even the smallest io_urings do not fit into `RLIMIT_MEMLOCK` (`ENOMEM`). Raise the limit, or
    /// run fewer shards.
    LockedMemory {
        /// Locked memory of the smallest rings of all shards together.
        needed_bytes: usize,
        /// Locked memory that the user may have, over all of its processes.
        limit_bytes: usize,
    },
    /// The kernel is older than 6.1 or lacks an operation. Run a newer one.
    KernelTooOld {
        /// The missing feature or operation.
        missing: &'static str,
    },
    /// The memory or address space that a setting needs is not available. Lower the setting, or give
    /// the process more.
    Memory {
        /// The purpose of the memory, and the setting to lower.
        what: &'static str,
        /// Size of the memory.
        bytes: usize,
    },
    /// The machine refused another resource: threads, descriptors, memory. `source` says which limit
    /// to raise.
    Machine {
        /// The step that failed.
        step: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// Making the handler of a shard panicked: a bug of the application, whose message the panic hook
    /// got (by default it is on standard error).
    ShardPanicked {
        /// The shard's number.
        shard: usize,
    },
}

impl StartError {
    /// Whether the reason is that io_uring does not work here.
    /// [`DriverChoice::Auto`](crate::DriverChoice::Auto) takes epoll then.
    #[must_use]
    pub fn is_io_uring_unavailable(&self) -> bool {
        match self {
            Self::Missing
            | Self::ForbiddenBySeccomp
            | Self::ForbiddenBySysctl { .. }
            | Self::LockedMemory { .. }
            | Self::KernelTooOld { .. } => true,
            // No limit is to blame: the machine, or the control group, has no memory for rings.
            Self::Machine { step: RING_SETUP, source } => {
                source.raw_os_error() == Some(libc::ENOMEM)
            }
            _ => false,
        }
    }

    pub(crate) fn from_epoll(error: RingError) -> Self {
        match error {
            RingError::Refused { step, source } => Self::Machine { step, source },
            RingError::TooOld { missing } => Self::KernelTooOld { missing },
        }
    }

    /// `locked_memory` is what the smallest rings of all shards need and the limit they are charged
    /// to, if there is one.
    pub(crate) fn from_ring(
        error: RingError,
        sysctl: Option<u8>,
        locked_memory: impl FnOnce() -> Option<(usize, usize)>,
    ) -> Self {
        match error {
            RingError::TooOld { missing } => Self::KernelTooOld { missing },
            RingError::Refused { step, source } => match source.raw_os_error() {
                Some(libc::ENOSYS) => Self::Missing,
                Some(libc::EPERM | libc::EACCES) => match sysctl {
                    Some(value @ 1..) => Self::ForbiddenBySysctl { value },
                    _ => Self::ForbiddenBySeccomp,
                },
                Some(libc::ENOMEM) if step != MAPPING_BUFFERS => match locked_memory() {
                    Some((needed_bytes, limit_bytes)) => {
                        Self::LockedMemory { needed_bytes, limit_bytes }
                    }
                    None => Self::Machine { step, source },
                },
                _ => Self::Machine { step, source },
            },
        }
    }

    pub(crate) fn from_bind(error: BindError) -> Self {
        match error {
            BindError::Refused { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                Self::AddressInUse { address }
            }
            BindError::Refused { address, source } => Self::Listen { address, source },
            BindError::NotASocket { address } => Self::NotASocket { address },
            BindError::Twice { address } => Self::ListenedTwice { other: address.clone(), address },
        }
    }

    pub(crate) fn from_made(error: MadeError) -> Self {
        match error {
            MadeError::Unfit { descriptor, reason } => Self::NotListening { descriptor, reason },
            MadeError::Refused(source) => {
                Self::Machine { step: "looking at the socket of listen_on", source }
            }
        }
    }
}

/// What to do about an address that cannot be listened on.
fn listen_remedy(address: &ListenAddr, source: &io::Error) -> Option<&'static str> {
    match (address, source.kind()) {
        (ListenAddr::Tcp(_), io::ErrorKind::PermissionDenied) => Some(
            "ports below net.ipv4.ip_unprivileged_port_start (1,024) need CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd)",
        ),
        (ListenAddr::Tcp(_), io::ErrorKind::AddrNotAvailable) => {
            Some("choose an address of this machine (`ip addr` lists them), or 0.0.0.0 for all")
        }
        (ListenAddr::Unix(_), io::ErrorKind::NotFound) => {
            Some("make its folder first (RuntimeDirectory= in systemd)")
        }
        (ListenAddr::Unix(_), io::ErrorKind::PermissionDenied) => Some(
            "give this user the folder (RuntimeDirectory= in systemd), and remove a socket of another user that is there",
        ),
        _ => None,
    }
}

/// The value of `kernel.io_uring_disabled` (kernel 6.6), if there is one.
pub(crate) fn io_uring_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { rule } => write!(f, "the settings contradict themselves: {rule}"),
            Self::Address { address, source } => {
                write!(f, "cannot listen on \"{address}\": {source}; give ADDR:PORT, such as 127.0.0.1:9001, or unix:PATH")
            }
            Self::UnixName { address, rule } => {
                write!(f, "cannot listen on \"{address}\": {rule}")
            }
            Self::ListenedTwice { address, other } if address == other => {
                write!(f, "cannot listen on {address} twice: name it once")
            }
            Self::ListenedTwice { address, other } => write!(
                f,
                "cannot listen on both {address} and {other}, as one covers the other: name one of them"
            ),
            Self::NotListening { descriptor, reason } => write!(
                f,
                "cannot accept from descriptor {descriptor}, which was given to listen_on: it {reason}"
            ),
            Self::AddressInUse { address: address @ ListenAddr::Tcp(_) } => write!(
                f,
                "cannot listen on {address}: another process or server does; stop it (`ss -ltnp` names it) or choose another port (0 picks a free one)"
            ),
            Self::AddressInUse { address } => write!(
                f,
                "cannot listen on {address}: another process or server does; stop it (`ss -lxp` names it) or choose another path"
            ),
            Self::NotASocket { address } => write!(
                f,
                "cannot listen on {address}: what is there is no socket, and is kept; remove it or choose another path"
            ),
            Self::Listen { address, source } => {
                write!(f, "cannot listen on {address}: {source}")?;
                listen_remedy(address, source).map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
            }
            Self::Missing => f.write_str(
                "this kernel has no io_uring (ENOSYS): run Linux 6.1 or newer with CONFIG_IO_URING; some container runtimes and gVisor lack it",
            ),
            Self::ForbiddenBySeccomp => f.write_str(
                "io_uring is forbidden by a seccomp filter (EPERM), as Docker's and containerd's default profiles do: allow io_uring_setup, io_uring_enter and io_uring_register in the profile (docker run --security-opt seccomp=PROFILE.json)",
            ),
            Self::ForbiddenBySysctl { value } => write!(
                f,
                "io_uring is forbidden by kernel.io_uring_disabled={value}: set it to 0 (sysctl -w kernel.io_uring_disabled=0), or with 1 run as a member of the group in kernel.io_uring_group"
            ),
            Self::LockedMemory { needed_bytes, limit_bytes } => write!(
                f,
                "the rings of all shards need at least {} KiB of locked memory, and this user may lock {} KiB in all of its processes (ENOMEM): raise the limit (ulimit -l unlimited, LimitMEMLOCK=infinity in systemd, docker run --ulimit memlock=-1) or run fewer shards",
                needed_bytes / 1024,
                limit_bytes / 1024
            ),
            Self::Memory { what, bytes } => {
                write!(f, "{bytes} bytes cannot be had for {what}")
            }
            Self::KernelTooOld { missing } => write!(
                f,
                "this kernel lacks {missing}: run Linux 6.1 or newer, best the latest of a maintained series"
            ),
            Self::Machine { step, source } => write!(f, "{step} failed: {source}"),
            Self::ShardPanicked { shard } => write!(f, "shard {shard} panicked"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address { source, .. }
            | Self::Listen { source, .. }
            | Self::Machine { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32, sysctl: Option<u8>) -> StartError {
        let source = io::Error::from_raw_os_error(errno);
        let error = RingError::Refused { step: "io_uring_setup", source };
        StartError::from_ring(error, sysctl, || Some((64 << 20, 8 << 20)))
    }

    /// Memory that is short for another reason is not blamed on the limit.
    #[test]
    fn no_limit_no_blame() {
        for (step, locked_memory) in
            [(RING_SETUP, None), (MAPPING_BUFFERS, Some((64 << 20, 8 << 20)))]
        {
            let source = io::Error::from_raw_os_error(libc::ENOMEM);
            let error = RingError::Refused { step, source };
            let error = StartError::from_ring(error, None, || locked_memory);
            let is_unavailable = error.is_io_uring_unavailable();
            assert_eq!(is_unavailable, step == RING_SETUP, "epoll maps buffers too");
            let error = error.to_string();
            assert!(error.starts_with(step) && !error.contains("locked"), "{error}");
        }
    }

    #[test]
    fn each_refusal_names_its_cause_and_remedy() {
        let told = [
            (refused(libc::ENOSYS, None), "CONFIG_IO_URING"),
            (refused(libc::EPERM, Some(0)), "seccomp"),
            (refused(libc::EPERM, None), "seccomp"),
            (refused(libc::EPERM, Some(2)), "kernel.io_uring_disabled=2"),
            (refused(libc::ENOMEM, Some(0)), "LimitMEMLOCK"),
            (refused(libc::EMFILE, Some(0)), "io_uring_setup failed"),
        ];
        for (error, words) in told {
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn epoll_is_taken_only_where_io_uring_is_not_to_be_had() {
        for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::ENOMEM] {
            assert!(refused(errno, Some(1)).is_io_uring_unavailable(), "{errno}");
        }
        assert!(!refused(libc::EMFILE, Some(0)).is_io_uring_unavailable());
        let source = io::Error::from_raw_os_error(libc::EPERM);
        let error = StartError::from_epoll(RingError::Refused { step: "epoll_create1", source });
        assert!(!error.is_io_uring_unavailable());
    }
}
