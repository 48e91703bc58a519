//! Setting up an io_uring: its flags, its size, the features it needs, and the errors. Used only
//! while a server starts.

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

/// The step that makes a ring.
pub(crate) const RING_SETUP: &str = "io_uring_setup";

/// The step that takes address space and no locked memory.
pub(crate) const MAPPING_BUFFERS: &str = "mapping the receive buffers";

/// Fewest completion entries a ring is made with when locked memory is short.
const COMPLETION_ENTRIES_MIN: u32 = 512;

/// Sizes the rings of all shards before the first is made, so that all of them fit into
/// `locked_bytes_max`: halved together until they do, or until they are as small as may be.
pub(crate) fn fit_rings(config: RingConfig, shards: usize, locked_bytes_max: usize) -> RingConfig {
    let mut fit = config;
    while ring_bytes(&fit).saturating_mul(shards) > locked_bytes_max
        && fit.completion_entries / 2 >= COMPLETION_ENTRIES_MIN
    {
        (fit.submission_entries, fit.completion_entries) = halved(&fit);
    }
    fit
}

/// Locked memory that the smallest rings of so many shards take.
pub(crate) fn ring_bytes_min(config: RingConfig, shards: usize) -> usize {
    ring_bytes(&fit_rings(config, shards, 0)).saturating_mul(shards)
}

/// What the kernel charges for one ring, in whole pages: submission entries of 64 bytes,
/// completion entries of 16 behind a head, the index of the submission entries (before 6.6), and
/// the ring of receive buffers, 16 bytes each.
fn ring_bytes(config: &RingConfig) -> usize {
    const PAGE_BYTES: usize = 4_096;
    const HEAD_BYTES: usize = 320;
    let submission = config.submission_entries.next_power_of_two() as usize;
    let completion = config.completion_entries.next_power_of_two() as usize;
    [
        submission * 64,
        HEAD_BYTES + completion * 16 + submission * 4,
        config.receive_buffers_max * 16,
    ]
    .into_iter()
    .map(|bytes| bytes.next_multiple_of(PAGE_BYTES))
    .sum()
}

fn halved(config: &RingConfig) -> (u32, u32) {
    ((config.submission_entries / 2).max(1), config.completion_entries / 2)
}

pub(super) fn refused(step: &'static str) -> impl FnOnce(io::Error) -> RingError {
    move |source| RingError::Refused { step, source }
}

/// Leaves out the one flag that is newer than the floor if need be, and halves the queues while
/// memory is short: other processes of the user may have locked some (`fit_rings` cannot know).
pub(super) fn set_up(config: &RingConfig) -> Result<IoUring, RingError> {
    let asked_entries = config.completion_entries;
    let mut config = *config;
    let mut no_sqarray = true;
    loop {
        let mut builder = IoUring::builder();
        builder
            .setup_clamp()
            .setup_cqsize(config.completion_entries)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_defer_taskrun();
        if no_sqarray {
            builder.setup_no_sqarray(); // kernel 6.6
        }
        let source = match builder.build(config.submission_entries) {
            Ok(ring) => {
                let entries = config.completion_entries;
                if entries < asked_entries {
                    tracing::warn!(entries, "memory for rings is short (ENOMEM): a smaller one");
                }
                return Ok(ring);
            }
            Err(source) => source,
        };
        match source.raw_os_error() {
            Some(libc::EINVAL) if no_sqarray => no_sqarray = false,
            Some(libc::EINVAL) => {
                return Err(RingError::TooOld { missing: "IORING_SETUP_DEFER_TASKRUN" });
            }
            Some(libc::ENOMEM) if config.completion_entries / 2 >= COMPLETION_ENTRIES_MIN => {
                (config.submission_entries, config.completion_entries) = halved(&config);
            }
            _ => {
                return Err(RingError::Refused { step: RING_SETUP, source });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rings_of_all_shards_fit_together() {
        let config = RingConfig::default();
        const LOCKED_BYTES: usize = 8 << 20;
        for shards in [1, 47, 64, 128, 256] {
            let fit = fit_rings(config, shards, LOCKED_BYTES);
            assert!(ring_bytes(&fit) * shards <= LOCKED_BYTES, "{shards}: {fit:?}");
        }
        let fit = fit_rings(config, 1, LOCKED_BYTES);
        assert_eq!(fit.completion_entries, config.completion_entries);
        // Never smaller than a ring that works, nor larger than asked for.
        let fit = fit_rings(config, 100_000, LOCKED_BYTES);
        assert_eq!(fit.completion_entries, COMPLETION_ENTRIES_MIN);
        let small = RingConfig { submission_entries: 1, completion_entries: 2, ..config };
        assert_eq!(fit_rings(small, 100_000, 0).completion_entries, 2);
    }
}
