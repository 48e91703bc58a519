//! The descriptor behind a [`Socket`] of a driver on the kernel: how it is cut off, and what the
//! kernel knows of it. Both drivers ask in the same way.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::SockRef;

use super::backlog;
use super::listener::canonical;
use crate::driver::{Descriptor, Socket};

pub(super) fn descriptor(socket: &Socket) -> &OwnedFd {
    match &socket.0 {
        Descriptor::Open(descriptor) => descriptor,
        #[cfg(any(test, feature = "sim"))]
        Descriptor::Simulated(_) => panic!("a socket of another driver"),
    }
}

pub(super) fn into_descriptor(socket: Socket) -> OwnedFd {
    match socket.0 {
        Descriptor::Open(descriptor) => descriptor,
        #[cfg(any(test, feature = "sim"))]
        Descriptor::Simulated(_) => panic!("a socket of another driver"),
    }
}

/// Shuts both directions down, which wakes whoever waits for the socket: its receive and its send
/// end. Closing the socket then resets the connection if input was unread now.
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
pub(super) fn shut_down(socket: &Socket) {
    let descriptor = descriptor(socket);
    let socket = SockRef::from(descriptor);
    let _ = socket.shutdown(Shutdown::Both);
    // Behind the shutdown, after which the kernel answers new input with a reset.
    if backlog::unread_bytes(descriptor.as_fd()) > 0 {
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
}

/// Sends FIN after what the kernel has taken. An error says that the peer is gone, which the receive
/// will say as well.
pub(super) fn shut_down_write(socket: &Socket) {
    let _ = SockRef::from(descriptor(socket)).shutdown(Shutdown::Write);
}

/// See [`Driver::unread_bytes`](crate::driver::Driver::unread_bytes).
pub(super) fn unread_bytes(socket: &Socket) -> u32 {
    backlog::unread_bytes(descriptor(socket).as_fd())
}

/// See [`Driver::unacknowledged_bytes`](crate::driver::Driver::unacknowledged_bytes).
pub(super) fn unacknowledged_bytes(socket: &Socket) -> u32 {
    backlog::unacknowledged_bytes(descriptor(socket).as_fd())
}

/// See [`Driver::peer_addr`](crate::driver::Driver::peer_addr).
pub(super) fn peer_addr(socket: &Socket) -> Option<SocketAddr> {
    SockRef::from(descriptor(socket)).peer_addr().ok()?.as_socket().map(canonical)
}
