//! The provided-buffer ring: receive buffers the kernel picks from, one ring per shard.
//!
//! At first only a small set of the receive buffers is provided. It doubles each time the kernel runs
//! out of buffers (`ENOBUFS`), and shrinks again after a quiet time. So a quiet server touches few
//! pages, and a busy one does not starve. (io_uring_provided_buffers(7); kernel 5.19.)

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::receive_buffers::{Mapping, ReceiveBuffers};
use super::ring_setup::RingConfig;

/// The ring and the buffers behind it.
pub(super) struct BufferRing {
    /// `entries` × 16 bytes that kernel and shard share; entry 0 also holds the tail.
    ring: Mapping,
    buffers: ReceiveBuffers,
    /// How many are provided now, and how many shall be after the next `provide`.
    provided: usize,
    provided_target: usize,
    /// How many are provided at first, and again after a flood.
    provided_min: usize,
    is_short: bool,
    /// The kernel has run out since the last `trim`.
    was_short: bool,
    /// Position of the next entry, counting all ever written; the ring's index is its
    /// remainder by the number of entries, a power of two that divides 2¹⁶.
    tail: u16,
}

impl BufferRing {
    /// Maps `receive_buffers_max` buffers; none is provided yet.
    pub(super) fn new(config: &RingConfig) -> io::Result<Self> {
        let entries = config.receive_buffers_max;
        Ok(Self {
            ring: Mapping::new(entries * size_of::<BufRingEntry>())?,
            buffers: ReceiveBuffers::new(entries, config.receive_buffer_bytes)?,
            provided: 0,
            provided_target: config.receive_buffers_min.clamp(1, entries),
            provided_min: config.receive_buffers_min.clamp(1, entries),
            is_short: false,
            was_short: false,
            tail: 0,
        })
    }

    /// The address to register with the kernel, and the number of entries.
    pub(super) fn registration(&self) -> (u64, u16) {
        (self.ring.start.as_ptr() as u64, self.buffers.len() as u16)
    }

    /// Tops the provided buffers up to the target, with one store of the tail.
    pub(super) fn provide(&mut self) {
        if std::mem::take(&mut self.is_short) {
            self.provided_target = (self.provided_target * 2).min(self.buffers.len());
        }
        let before = self.tail;
        while self.provided < self.provided_target {
            let Some(buffer) = self.buffers.provide() else {
                break;
            };
            self.write_entry(buffer);
            self.provided += 1;
        }
        if self.tail != before {
            self.publish_tail();
        }
    }

    /// The kernel has filled `buffer`: it is leased from here on.
    ///
    /// # Panics
    ///
    /// If the kernel used a buffer it did not have.
    pub(super) fn lease(&mut self, buffer: u16) {
        self.buffers.lease(buffer);
        self.provided -= 1;
    }

    /// A lease is over; the buffer is provided again by the next `provide`.
    ///
    /// # Panics
    ///
    /// If it was not leased.
    pub(super) fn recycle(&mut self, buffer: u16) {
        self.buffers.recycle(buffer);
    }

    /// The kernel ran out of buffers: the next `provide` provides up to twice as many. Several
    /// connections that found none in one tick are one shortage.
    pub(super) fn grow(&mut self) {
        self.is_short = true;
        self.was_short = true;
    }

    /// If more buffers are in use than at first, and there was no shortage since this was called
    /// last: gives the pages behind every buffer back that holds nothing, and provides no more
    /// than at first from now on. The kernel must have no completion under way that names a buffer:
    /// between two enters of a ring with DEFER_TASKRUN, with its completion queue empty.
    pub(super) fn trim(&mut self) {
        let was_short = std::mem::take(&mut self.was_short);
        if was_short || self.provided_target == self.provided_min {
            return;
        }
        self.provided_target = self.provided_min;
        self.buffers.give_pages_back();
    }

    /// The first `bytes` bytes of a leased buffer.
    ///
    /// # Panics
    ///
    /// If it is not leased or shorter than that.
    #[inline]
    pub(super) fn leased(&mut self, buffer: u16, bytes: usize) -> &mut [u8] {
        self.buffers.leased(buffer, bytes)
    }

    fn write_entry(&mut self, buffer: u16) {
        let index = self.tail as usize & (self.buffers.len() - 1);
        let start = self.buffers.start_of(buffer);
        // SAFETY: `index` is below the number of entries the mapping was made for, and a
        // page is aligned enough for an entry.
        let entry = unsafe { self.ring.start.cast::<BufRingEntry>().add(index) };
        // SAFETY: the kernel reads entries from its head up to the published tail only, and
        // at most as many buffers are provided as there are entries: this entry is behind
        // the head. Writing the fields one by one leaves the tail, which lies in the unused
        // field of entry 0, as it is.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(start.as_ptr() as u64);
        entry.set_len(self.buffers.buffer_bytes() as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish_tail(&self) {
        // SAFETY: the mapping begins with entry 0, which is initialised (to zero at least).
        let tail = unsafe { BufRingEntry::tail(self.ring.start.as_ptr().cast()) };
        // SAFETY: a u16 inside the mapping, aligned, and written by this thread only; the
        // kernel reads it. Release: the entries are visible before the tail that covers them.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Gives the memory up for good: for a ring that ends while the kernel may still write.
    pub(super) fn leak(self) {
        std::mem::forget(self.ring);
        self.buffers.leak();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(min: usize, max: usize) -> BufferRing {
        let config = RingConfig {
            receive_buffer_bytes: 4096,
            receive_buffers_min: min,
            receive_buffers_max: max,
            ..RingConfig::default()
        };
        BufferRing::new(&config).unwrap()
    }

    /// What the kernel would read: the published tail and the buffer id of an entry.
    fn published(ring: &BufferRing, index: usize) -> (u16, u16) {
        let base: *const BufRingEntry = ring.ring.start.as_ptr().cast();
        // SAFETY: entry 0 of a live mapping.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: a u16 inside the mapping.
        let tail = unsafe { *tail };
        // SAFETY: `index` is below the number of entries in every use below.
        let entry = unsafe { base.add(index) };
        // SAFETY: every entry of the mapping is initialised, to zero at least.
        let entry = unsafe { &*entry };
        (tail, entry.bid())
    }

    #[test]
    fn a_small_hot_set_is_provided_and_doubles_on_demand() {
        let mut ring = ring(2, 8);
        ring.provide();
        assert_eq!(published(&ring, 1), (2, 1));
        ring.grow();
        ring.provide();
        assert_eq!(published(&ring, 3), (4, 3));
        for _ in 0..5 {
            ring.grow();
            ring.grow();
            ring.provide();
        }
        assert_eq!(published(&ring, 7), (8, 7));
    }

    #[test]
    fn the_buffer_used_last_is_provided_next() {
        let mut ring = ring(2, 8);
        ring.provide();
        ring.lease(0);
        ring.leased(0, 3).copy_from_slice(b"abc");
        assert_eq!(ring.leased(0, 3), b"abc");
        ring.recycle(0);
        ring.provide();
        assert_eq!(published(&ring, 2), (3, 0));
    }

    #[test]
    fn what_is_leased_is_not_provided() {
        let mut ring = ring(4, 4);
        ring.provide();
        (0..4).for_each(|buffer| ring.lease(buffer));
        ring.grow();
        ring.provide();
        assert_eq!(published(&ring, 3), (4, 3), "there is nothing to provide");
        ring.recycle(2);
        ring.provide();
        assert_eq!(published(&ring, 0), (5, 2));
    }

    #[test]
    fn the_ring_wraps_around() {
        let mut ring = ring(4, 4);
        for _ in 0..70_000 {
            ring.provide();
            ring.lease(3);
            ring.recycle(3);
        }
        ring.provide();
        assert_eq!(ring.provided, 4);
    }

    #[test]
    fn what_a_flood_took_is_given_back() {
        let mut ring = ring(2, 8);
        ring.provide();
        for _ in 0..2 {
            ring.grow();
            ring.provide();
        }
        assert_eq!(ring.provided, 8);
        for buffer in 0..8 {
            ring.lease(buffer);
            ring.leased(buffer, 4_096).fill(7);
        }
        for buffer in 1..8 {
            ring.recycle(buffer);
        }
        ring.trim();
        assert_eq!(ring.provided_target, 8, "there was a shortage just before");
        ring.trim();
        ring.provide();
        assert_eq!(ring.provided, 2);
        assert_eq!(ring.leased(0, 4_096), [7; 4_096], "what is leased stays");
        // Entry 8 is entry 0 again, and so on; the buffers that were used last come first.
        let (_, buffer) = published(&ring, 0);
        ring.lease(buffer);
        assert_eq!(ring.leased(buffer, 4_096), [0; 4_096], "fresh pages");
    }
}
