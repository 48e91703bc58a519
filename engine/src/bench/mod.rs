//! The internal parts that the benches measure: a write buffer, the timer wheel, the ring between
//! shards, and a whole shard over memory.
//!
//! It exists only with the feature `bench` and has no stable interface. Each type wraps the code
//! that serves, not a copy.

mod lone_shard;
mod memory_driver;

pub use lone_shard::LoneShard;

use crate::connection::write_buffer::{BufferPool, WriteBuffer};
use crate::shard::timer_wheel::TimerWheel;
use crate::sys::{Publisher, Reader, broadcast_ring};

/// The write buffer of one connection, with the pool behind it.
pub struct Writes {
    buffer: WriteBuffer,
    pool: BufferPool,
}

impl Default for Writes {
    fn default() -> Self {
        Self { buffer: WriteBuffer::default(), pool: BufferPool::new() }
    }
}

impl Writes {
    /// Adds a frame at the end.
    pub fn append(&mut self, frame: &[u8]) {
        self.buffer.append(&mut self.pool, frame.len(), |open| open.extend_from_slice(frame));
    }

    /// Has everything sent by a kernel that takes at most `bytes_max` bytes a time, and returns
    /// how many bytes that were.
    pub fn send_all(&mut self, bytes_max: usize) -> usize {
        let mut sent_bytes = 0;
        while let Some(outbound) = self.buffer.next_outbound() {
            let mut rest = Some((outbound, 0));
            while let Some((outbound, offset)) = rest {
                let bytes = (outbound.bytes() - offset).min(bytes_max);
                sent_bytes += bytes;
                rest = self.buffer.advance(&mut self.pool, outbound, bytes);
            }
        }
        sent_bytes
    }
}

/// The timer wheel of one shard.
pub struct Timers(TimerWheel);

impl Timers {
    /// A wheel for so many slots, at this time.
    #[must_use]
    pub fn new(now_ms: u64, slots: usize) -> Self {
        Self(TimerWheel::new(now_ms, slots))
    }

    /// Sets the slot's deadline, replacing the one it had.
    pub fn schedule(&mut self, slot: u32, at_ms: u64) {
        self.0.schedule(slot, at_ms);
    }

    /// Takes the slot's deadline away, if it has one.
    pub fn remove(&mut self, slot: u32) {
        self.0.remove(slot);
    }

    /// Takes one slot whose deadline is over; `None` when there is no more.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<u32> {
        self.0.pop_due(now_ms)
    }
}

/// A broadcast ring of `entries` numbers with one reader. Numbers, and not frames: what is to be
/// seen is the cost of the ring, not that of a frame's memory.
#[must_use]
pub fn ring_of_numbers(entries: usize) -> (WritingEnd, ReadingEnd) {
    let (publisher, mut readers) = broadcast_ring(entries, usize::MAX, 1);
    let reader = readers.pop().expect("it was asked for one");
    (WritingEnd(publisher), ReadingEnd(reader))
}

/// The end that publishes.
pub struct WritingEnd(Publisher<u64>);

impl WritingEnd {
    /// Publishes a number; `false` if a reader too far behind is reading at this very moment.
    pub fn publish(&mut self, number: u64) -> bool {
        self.0.publish(number, size_of::<u64>()).is_ok()
    }
}

/// The end that reads.
pub struct ReadingEnd(Reader<u64>);

impl ReadingEnd {
    /// Appends at most `entries_max` numbers, and returns how many were lost before them.
    pub fn read(&mut self, entries_max: usize, numbers: &mut Vec<u64>) -> u64 {
        self.0.read(entries_max, numbers)
    }
}
