//! An epoll instance, edge-triggered (epoll(7)): a descriptor is added once, and each event says
//! that something has happened to it since the last one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::driver::{Token, Wait};

/// What is watched for: input (also urgent), its end, and room for output. Errors and the end of
/// both directions are always told.
const WATCHED: libc::c_int =
    libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLOUT | libc::EPOLLET;

/// What is watched of a listener that several epoll instances watch: a connection. One of them is
/// told, that which has been added first of those whose thread waits (epoll_ctl(2), `EPOLLEXCLUSIVE`,
/// kernel 4.5).
const WATCHED_BY_ONE: libc::c_int = libc::EPOLLIN | libc::EPOLLET | libc::EPOLLEXCLUSIVE;

const AT_END: u32 = (libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const READABLE: u32 = AT_END | libc::EPOLLIN as u32;
const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// Something has happened to what was added as `token`.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) token: Token,
    mask: u32,
}

impl Event {
    /// A receive would find bytes, the end, or an error.
    pub(super) fn is_readable(self) -> bool {
        self.mask & READABLE != 0
    }

    /// There is more to find than bytes, or bytes behind a mark: only a receive that finds nothing
    /// shows that nothing is left.
    pub(super) fn is_at_end(self) -> bool {
        self.mask & AT_END != 0
    }

    /// A send would be taken, or fail.
    pub(super) fn is_writable(self) -> bool {
        self.mask & WRITABLE != 0
    }
}

pub(super) struct Poll {
    epoll: OwnedFd,
    events: Box<[libc::epoll_event]>,
}

impl Poll {
    /// Events of one call: 6 KiB, and 15,000 descriptors that become ready at once take 30 calls.
    pub(super) const EVENTS_MAX: usize = 512;

    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above made `fd`, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; Self::EVENTS_MAX];
        Ok(Self { epoll, events: events.into_boxed_slice() })
    }

    /// Watches a descriptor until it is closed.
    ///
    /// # Errors
    ///
    /// `ENOSPC` beyond `fs.epoll.max_user_watches`, `ENOMEM`.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, WATCHED, token)
    }

    /// Watches a listener that other instances watch too, until it is [removed](Self::remove).
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub(super) fn add_shared(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, WATCHED_BY_ONE, token)
    }

    /// Watches it no more. Events that have been told already stay.
    ///
    /// # Panics
    ///
    /// If it was not watched.
    pub(super) fn remove(&self, fd: BorrowedFd<'_>, token: Token) {
        let removed = self.control(libc::EPOLL_CTL_DEL, fd, WATCHED_BY_ONE, token);
        removed.expect("what is watched can be removed");
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        watched: libc::c_int,
        token: Token,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: watched as u32, u64: token.encode() };
        // SAFETY: both descriptors are open, and `event` lives across the call.
        let done = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits for events, and returns how many there are; none when the time is over or a signal
    /// has come.
    pub(super) fn wait(&mut self, wait: Wait) -> usize {
        let timeout_ms = match wait {
            Wait::No => 0,
            Wait::Millis(ms) => i32::try_from(ms).unwrap_or(i32::MAX),
            Wait::Forever => -1,
        };
        // SAFETY: the pointer and the length are those of `events`, which lives across the call.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                timeout_ms,
            )
        };
        match usize::try_from(count) {
            Ok(count) => count,
            Err(_) => {
                let error = io::Error::last_os_error();
                assert_eq!(error.raw_os_error(), Some(libc::EINTR), "epoll_wait: {error}");
                0
            }
        }
    }

    /// An event of the last wait.
    pub(super) fn event(&self, index: usize) -> Event {
        let libc::epoll_event { events: mask, u64: user_data } = self.events[index];
        Event { token: Token::decode(user_data), mask }
    }
}
