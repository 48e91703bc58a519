//! A socket of the drivers on the kernel: how it is cut off, and what the kernel knows of it.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

use super::backlog;
use super::listener::canonical;
use crate::driver::Socket;

/// A connected socket of a driver on the kernel. Dropping it closes it.
#[derive(Debug)]
pub struct KernelSocket(pub(super) OwnedFd);

impl Socket for KernelSocket {
    fn unread_bytes(&self) -> u32 {
        backlog::unread_bytes(self.0.as_fd())
    }

    fn unacknowledged_bytes(&self) -> u32 {
        backlog::unacknowledged_bytes(self.0.as_fd())
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        SockRef::from(&self.0).peer_addr().ok()?.as_socket().map(canonical)
    }
}

impl From<OwnedFd> for KernelSocket {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsRawFd for KernelSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Shuts both directions down, which wakes whoever waits for the socket: its receive and its send
/// end. Closing the socket then resets the connection if input was unread now. Returns how many bytes
/// were.
///
/// The kernel resets a connection that is closed with unread input. But a receive that ends here
/// first takes what is unread, and the peer is not told that there is room again (Linux sends no
/// window update behind `SHUT_RD`). So a peer whose window was full was told nothing at all: it
/// hung for up to 100 s, until its probes of the window were far enough apart.
///
/// A Unix socket that is closed with unread input tells its peer of a reset by itself (unix(7)), after
/// what the peer has yet to read; the option changes nothing of it.
///
/// An error says that the peer is gone already, which the receive and the send will say as well.
pub(super) fn shut_down(socket: &KernelSocket) -> u32 {
    let descriptor = &socket.0;
    let socket = SockRef::from(descriptor);
    let _ = socket.shutdown(Shutdown::Both);
    // Behind the shutdown, after which the kernel answers new input with a reset.
    let unread_bytes = backlog::unread_bytes(descriptor.as_fd());
    if unread_bytes > 0 {
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
    unread_bytes
}

/// Sends FIN after what the kernel has taken. An error says that the peer is gone, which the receive
/// will say as well.
pub(super) fn shut_down_write(socket: &KernelSocket) {
    let _ = SockRef::from(&socket.0).shutdown(Shutdown::Write);
}
