//! All contact with the kernel, and the only unsafe code of Ringwire.
//!
//! Each file wraps one mechanism with a safe interface, and justifies its unsafe code within the
//! file. An assumption about the kernel that turns out wrong causes a panic, not undefined
//! behaviour.

#![allow(unsafe_code)]
// Parts of it are public for tools only (feature `driver`).
#![cfg_attr(not(feature = "driver"), allow(unreachable_pub, dead_code))]

mod affinity;
mod allocator;
mod backlog;
mod binding;
mod broadcast_ring;
mod buffer_ring;
mod clock;
#[cfg(test)]
mod contract_tests;
mod epoll;
mod limits;
mod listener;
mod made_listener;
mod opening;
mod receive_buffers;
mod ring_setup;
mod socket;
pub(crate) mod sync;
mod unix_listener;
mod uring;
mod waker;

pub(crate) use affinity::allowed_cpus;
pub use affinity::pin_to;
pub(crate) use binding::{BindError, Target, listen};
pub(crate) use broadcast_ring::{Publisher, Reader, broadcast_ring};
pub use epoll::EpollDriver;
pub(crate) use limits::{descriptors_max, locked_memory_bytes_max, raise_limits};
pub(crate) use listener::Group;
pub use listener::Listener;
pub(crate) use made_listener::{MadeError, MadeListener};
pub(crate) use opening::KernelDriver;
pub(crate) use ring_setup::{MAPPING_BUFFERS, RING_SETUP, fit_rings, ring_bytes_min};
pub use ring_setup::{RingConfig, RingError};
pub use socket::KernelSocket;
pub(crate) use unix_listener::UnixName;
pub use uring::UringDriver;
pub(crate) use waker::Waker;
