//! Error numbers of the kernel, sorted as an operator would.

use std::fmt;

/// An error number of the kernel (`errno`), without a sign.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No receive buffer was free: no fault of the connection.
    pub const NO_BUFFERS: Self = Self(libc::ENOBUFS);
    /// The operation was cancelled.
    pub const CANCELLED: Self = Self(libc::ECANCELED);

    /// Whether accepting failed because of the one connection that was next, which says
    /// nothing about those behind it (accept(2): `ECONNABORTED`, `EPROTO`, `EPERM`).
    #[must_use]
    pub fn is_of_one_connection(self) -> bool {
        matches!(self.0, libc::ECONNABORTED | libc::EPROTO | libc::EPERM)
    }

    /// Whether accepting failed for want of descriptors or memory, which passes with time
    /// (`EMFILE`, `ENFILE`, `ENOMEM`, `ENOBUFS`).
    #[must_use]
    pub fn is_exhaustion(self) -> bool {
        matches!(self.0, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
    }
}

/// Why a receive or a send failed, as an operator would sort it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionError {
    /// The peer has reset the connection, or is gone (`ECONNRESET`, `EPIPE`, `ENOTCONN`,
    /// `ECONNABORTED`).
    Reset,
    /// The peer's machine has not answered in time (`ETIMEDOUT`).
    TimedOut,
    /// There is no way to the peer (`EHOSTUNREACH`, `ENETUNREACH`, `ENETDOWN`,
    /// `EHOSTDOWN`, `ENONET`).
    Unreachable,
    /// This machine is short of memory (`ENOMEM`, `ENOBUFS`).
    OutOfMemory,
    /// The operation was ended by ourselves (`ECANCELED`).
    Cancelled,
    /// Anything else.
    Other,
}

impl Errno {
    /// What it says of a connection.
    #[must_use]
    pub fn connection_error(self) -> ConnectionError {
        match self.0 {
            libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::ECONNABORTED => {
                ConnectionError::Reset
            }
            libc::ETIMEDOUT => ConnectionError::TimedOut,
            libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENONET => ConnectionError::Unreachable,
            libc::ENOMEM | libc::ENOBUFS => ConnectionError::OutOfMemory,
            libc::ECANCELED => ConnectionError::Cancelled,
            _ => ConnectionError::Other,
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
