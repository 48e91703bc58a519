//! Why an address cannot be listened on.

use std::io;

use crate::server::listen_addr::ListenAddr;

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
    pub(super) fn is_in_use(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if is_in_use(source))
    }
}

pub(super) fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}
