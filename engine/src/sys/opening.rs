//! How a server opens a driver on the kernel and joins it to those of the other shards, whichever
//! driver it is.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::epoll::EpollDriver;
use super::listener::Listener;
use super::ring_setup::{RingConfig, RingError};
use super::socket::KernelSocket;
use super::uring::{Peer, UringDriver};
use super::waker::Waker;
use crate::driver::Driver;
use crate::server::driver_choice::DriverKind;

/// A driver that a server may run on.
pub(crate) trait KernelDriver: Driver<Socket = KernelSocket> + Sized + 'static {
    /// Which one it is.
    const KIND: DriverKind;

    /// What the other shards need to wake this one, besides its waker.
    type Door: Send + Sync + 'static;

    /// Opens it on the calling thread, which alone may use it from then on.
    ///
    /// # Errors
    ///
    /// What the kernel refuses, or lacks.
    fn open(config: &RingConfig) -> Result<Self, RingError>;

    /// Its door.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor left.
    fn door(&self) -> io::Result<Self::Door>;

    /// Gives it the listeners to accept from, the doors and wakers of all shards by index, and the
    /// waker of its own.
    ///
    /// # Errors
    ///
    /// If the kernel has no memory left to watch them.
    fn join(
        &mut self,
        listeners: Vec<Listener>,
        doors: &[(Arc<Self::Door>, Arc<Waker>)],
        waker: Arc<Waker>,
    ) -> io::Result<()>;
}

impl KernelDriver for UringDriver {
    const KIND: DriverKind = DriverKind::IoUring;

    /// A descriptor of its ring.
    type Door = OwnedFd;

    fn open(config: &RingConfig) -> Result<Self, RingError> {
        Self::new(config, Vec::new())
    }

    fn door(&self) -> io::Result<OwnedFd> {
        self.duplicate_ring_fd()
    }

    fn join(
        &mut self,
        listeners: Vec<Listener>,
        doors: &[(Arc<OwnedFd>, Arc<Waker>)],
        waker: Arc<Waker>,
    ) -> io::Result<()> {
        self.add_listeners(listeners);
        let peers = doors.iter().cloned().map(|(ring, waker)| Peer { ring, waker });
        self.set_peers(peers.collect());
        self.poll_waker(waker);
        Ok(())
    }
}

impl KernelDriver for EpollDriver {
    const KIND: DriverKind = DriverKind::Epoll;

    /// The waker is all it takes.
    type Door = ();

    fn open(config: &RingConfig) -> Result<Self, RingError> {
        Self::new(config, Vec::new())
    }

    fn door(&self) -> io::Result<()> {
        Ok(())
    }

    fn join(
        &mut self,
        listeners: Vec<Listener>,
        doors: &[(Arc<()>, Arc<Waker>)],
        waker: Arc<Waker>,
    ) -> io::Result<()> {
        self.add_listeners(listeners)?;
        let wakers = doors.iter().map(|(_, waker)| Arc::clone(waker));
        self.join_wakers(wakers.collect(), waker)
    }
}
