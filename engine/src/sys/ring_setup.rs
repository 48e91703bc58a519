//! Setting a ring up: which flags, how large, what the kernel must have, and why it may say no.
//! Never used again once a shard runs.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, opcode};

/// Sizes of a ring and its receive buffers; [`Config`](crate::Config) explains each.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Submission entries; more operations in one tick cost a further system call.
    pub submission_entries: u32,
    /// Completion entries, at least four times as many.
    pub completion_entries: u32,
    /// Size of one receive buffer.
    pub receive_buffer_bytes: usize,
    /// Receive buffers provided at first.
    pub receive_buffers_min: usize,
    /// Receive buffers provided at most, a power of two up to 32,768.
    pub receive_buffers_max: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        crate::Config::default().ring()
    }
}

/// Why a ring cannot be had.
#[derive(Debug)]
pub enum RingError {
    /// io_uring_setup(2) or a registration said no.
    Refused {
        /// The step that failed.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel has io_uring but lacks something Ringwire stands on.
    TooOld {
        /// What is missing.
        missing: &'static str,
    },
}

pub(super) fn refused(step: &'static str) -> impl FnOnce(io::Error) -> RingError {
    move |source| RingError::Refused { step, source }
}

/// Halves the queues while locked memory is short (rings are charged to RLIMIT_MEMLOCK on
/// recent kernels), and leaves out the one flag that is newer than the floor if need be.
pub(super) fn set_up(config: &RingConfig) -> Result<IoUring, RingError> {
    const COMPLETION_ENTRIES_MIN: u32 = 512;
    let (mut submission, mut completion) = (config.submission_entries, config.completion_entries);
    let mut no_sqarray = true;
    loop {
        let mut builder = IoUring::builder();
        builder
            .setup_clamp()
            .setup_cqsize(completion)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_defer_taskrun();
        if no_sqarray {
            builder.setup_no_sqarray(); // kernel 6.6
        }
        let source = match builder.build(submission) {
            Ok(ring) => return Ok(ring),
            Err(source) => source,
        };
        match source.raw_os_error() {
            Some(libc::EINVAL) if no_sqarray => no_sqarray = false,
            Some(libc::EINVAL) => {
                return Err(RingError::TooOld { missing: "IORING_SETUP_DEFER_TASKRUN" });
            }
            Some(libc::ENOMEM) if completion / 2 >= COMPLETION_ENTRIES_MIN => {
                completion /= 2;
                submission = (submission / 2).max(1);
            }
            _ => {
                return Err(RingError::Refused { step: "io_uring_setup", source });
            }
        }
    }
}

/// Asks the kernel which operations it has; versions are never parsed.
pub(super) fn check_operations(ring: &IoUring) -> Result<(), RingError> {
    let needed = [
        (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT"),
        (opcode::RecvMulti::CODE, "IORING_OP_RECV"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::Close::CODE, "IORING_OP_CLOSE"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::MsgRingData::CODE, "IORING_OP_MSG_RING"),
    ];
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refused("probing operations"))?;
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, missing)) => Err(RingError::TooOld { missing }),
        None => Ok(()),
    }
}

/// Registers the ring's descriptor with the calling thread, which saves a look-up at every
/// enter (kernel 5.18); returns its index. The crate has this too, but forgets the index. A
/// ring works without it.
pub(super) fn register_ring_fd(ring_fd: RawFd) -> Option<i32> {
    const IORING_REGISTER_RING_FDS: libc::c_uint = 20;
    let mut update = RsrcUpdate { offset: u32::MAX, reserved: 0, data: ring_fd as u64 };
    let registered = register_one(ring_fd, IORING_REGISTER_RING_FDS, &mut update);
    (registered == 1).then_some(update.offset as i32)
}

/// Takes the registration back, which otherwise keeps the ring alive until its thread ends.
pub(super) fn unregister_ring_fd(ring_fd: RawFd, index: i32) {
    const IORING_UNREGISTER_RING_FDS: libc::c_uint = 21;
    let mut update = RsrcUpdate { offset: index as u32, reserved: 0, data: 0 };
    let unregistered = register_one(ring_fd, IORING_UNREGISTER_RING_FDS, &mut update);
    debug_assert_eq!(unregistered, 1);
}

/// `struct io_uring_rsrc_update`: an index (`u32::MAX` is any free one) and a descriptor.
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// io_uring_register(2) with one update; how many were carried out.
fn register_one(ring_fd: RawFd, operation: libc::c_uint, update: &mut RsrcUpdate) -> libc::c_long {
    // SAFETY: the pointer and the count name `update`, which lives across the call.
    unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring_fd,
            operation,
            std::ptr::from_mut(update),
            1,
        )
    }
}
