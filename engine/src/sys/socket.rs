//! The descriptor behind a [`Socket`] of a driver on the kernel.

use std::os::fd::OwnedFd;

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
