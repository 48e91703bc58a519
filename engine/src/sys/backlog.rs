//! The bytes of a connection that the kernel holds: unread input (`SIOCINQ`) and unacknowledged output
//! (`SIOCOUTQ`; both in tcp(7)).
//!
//! A Unix socket has both too. What it has sent is acknowledged when the peer has read it, in units of
//! one send (36 KiB at most, kernel 6.18), and each counts with the kernel's overhead: some 800 bytes
//! for a small one. So a peer that reads is seen to make progress, in steps.
//!
//! Used when a deadline is about to end a
//! connection, when the engine pings it, and when it starts to close.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that have come and were not received yet; 0 of a peer that is gone.
pub(super) fn unread_bytes(socket: BorrowedFd<'_>) -> u32 {
    ask(socket, libc::FIONREAD)
}

/// Bytes that were sent and not acknowledged yet; 0 of a peer that is gone.
pub(super) fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> u32 {
    ask(socket, libc::TIOCOUTQ)
}

fn ask(socket: BorrowedFd<'_>, request: libc::Ioctl) -> u32 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one `c_int`, and the pointer names one that lives across the
    // call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut bytes) };
    if result == 0 { u32::try_from(bytes).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What the peer has read is acknowledged, and nothing else.
    #[test]
    fn both_directions_of_a_unix_socket_are_seen() {
        let (mut server, mut client) = UnixStream::pair().unwrap();
        client.write_all(b"unread").unwrap();
        assert_eq!(unread_bytes(server.as_fd()), 6);
        server.read_exact(&mut [0; 6]).unwrap();
        assert_eq!(unread_bytes(server.as_fd()), 0);
        server.set_nonblocking(true).unwrap();
        let mut sent_bytes = 0;
        while let Ok(bytes) = server.write(&[0; 65_536]) {
            sent_bytes += bytes;
        }
        let mut before = unacknowledged_bytes(server.as_fd());
        assert!(before as usize >= sent_bytes);
        // Each unit is acknowledged when all of it has been read.
        const UNIT_BYTES: usize = 64 << 10;
        for _ in 0..sent_bytes / UNIT_BYTES {
            client.read_exact(&mut [0; UNIT_BYTES]).unwrap();
            let left = unacknowledged_bytes(server.as_fd());
            assert!(left < before, "{left} after {before}");
            before = left;
        }
        client.set_nonblocking(true).unwrap();
        while client.read(&mut [0; UNIT_BYTES]).is_ok_and(|bytes| bytes > 0) {}
        assert_eq!(unacknowledged_bytes(server.as_fd()), 0);
    }

    #[test]
    fn both_directions_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(unread_bytes(server.as_fd()), 0);
        assert_eq!(unacknowledged_bytes(server.as_fd()), 0);
        client.write_all(b"unread").unwrap();
        // Loopback delivers within the call, but the kernel does not promise it.
        server.peek(&mut [0]).unwrap();
        assert_eq!(unread_bytes(server.as_fd()), 6);
        server.read_exact(&mut [0; 6]).unwrap();
        assert_eq!(unread_bytes(server.as_fd()), 0);
        // More than the client's kernel takes for a client that does not read.
        server.set_nonblocking(true).unwrap();
        while server.write(&[0; 65_536]).is_ok() {}
        assert!(unacknowledged_bytes(server.as_fd()) > 0);
    }
}
