//! Which driver a server runs on: what its owner asks for, and what it got.

use std::fmt;
use std::str::FromStr;

/// Which driver a server shall run on. Default [`Auto`](Self::Auto).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where it works, else epoll. A warning in the log then names what keeps io_uring
    /// from working, and the remedy.
    #[default]
    Auto,
    /// io_uring (Linux 6.1 or newer). The server does not start where it does not work.
    IoUring,
    /// epoll (Linux 5.4 or newer), also where io_uring works.
    Epoll,
}

/// The driver that a server runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring.
    IoUring,
    /// epoll.
    Epoll,
}

impl DriverKind {
    /// `io_uring` or `epoll`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDriver(String);

impl fmt::Display for InvalidDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no driver; give auto, io_uring or epoll", self.0)
    }
}

impl std::error::Error for InvalidDriver {}

impl FromStr for DriverChoice {
    type Err = InvalidDriver;

    /// `auto`, `io_uring` or `epoll`.
    fn from_str(text: &str) -> Result<Self, InvalidDriver> {
        match text {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(InvalidDriver(text.to_owned())),
        }
    }
}

impl fmt::Display for DriverChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_understood() {
        for choice in [DriverChoice::Auto, DriverChoice::IoUring, DriverChoice::Epoll] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "uring".parse::<DriverChoice>().unwrap_err();
        assert_eq!(error.to_string(), "`uring` is no driver; give auto, io_uring or epoll");
    }
}
