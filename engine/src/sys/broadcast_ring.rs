//! A bounded ring: one shard publishes, every other shard reads with its own cursor.
//!
//! It is sound because an entry is written only when no reader can read it: every cursor has passed
//! it or is *evicted*. A reader that is a whole ring or too many bytes behind is evicted when the
//! publisher needs the room, unless it is reading at that moment. Its next read tells it how many
//! entries it lost. The publisher does not wait, the ring does not grow, and an entry that all
//! readers have read is dropped. The ring knows nothing of what an entry contains.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;

use crate::sys::sync::{AtomicU64, UnsafeCell, fence};

/// A ring of at least `capacity` entries, rounded up to a power of two, for `readers`. Entries
/// not read by all hold at most `bytes_max` bytes in sum, or a single one more.
pub(crate) fn broadcast_ring<T: Clone + Send + Sync>(
    capacity: usize,
    bytes_max: usize,
    readers: usize,
) -> (Publisher<T>, Vec<Reader<T>>) {
    let capacity = capacity.next_power_of_two();
    let ring = Arc::new(Ring {
        slots: (0..capacity).map(|_| UnsafeCell::new(None)).collect(),
        tail: CachePadded::new(AtomicU64::new(0)),
        surplus: CachePadded::new(AtomicU64::new(0)),
        cursors: (0..readers).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
    });
    let readers = (0..readers)
        .map(|cursor| Reader { ring: Arc::clone(&ring), cursor, surplus_counted: 0 })
        .collect();
    let publisher = Publisher {
        ring,
        tail: 0,
        writable_to: capacity as u64,
        cleared_to: 0,
        sizes: VecDeque::new(),
        unread_bytes: 0,
        bytes_max,
    };
    (publisher, readers)
}

struct Ring<T> {
    slots: Box<[UnsafeCell<Option<T>>]>,
    /// How many entries were ever published.
    tail: CachePadded<AtomicU64>,
    /// What the entries below the tail stand for beyond one each, in sum; may be ahead of it.
    surplus: CachePadded<AtomicU64>,
    /// Per reader: how many entries it is past, and its state in the two low bits.
    cursors: Box<[CachePadded<AtomicU64>]>,
}

// SAFETY: a slot is written by the one publisher only while no reader may look at it, and
// otherwise only read (the protocol at `Publisher::publish` and `Reader::read`); entries
// move to the publisher's thread and are read from the others.
unsafe impl<T: Send + Sync> Sync for Ring<T> {}

/// The reader is looking at slots from its position on: they must not be written.
const READING: u64 = 1;
/// The publisher goes ahead without the reader; the position is where it stood.
const EVICTED: u64 = 2;
const STATE_BITS: u32 = 2;

const fn position(cursor: u64) -> u64 {
    cursor >> STATE_BITS
}

const fn cursor_at(position: u64, state: u64) -> u64 {
    position << STATE_BITS | state
}

/// The writing end. There is one.
pub(crate) struct Publisher<T> {
    ring: Arc<Ring<T>>,
    tail: u64,
    /// Entries below this position may be written without looking at the cursors again.
    writable_to: u64,
    /// Entries below this position have been dropped.
    cleared_to: u64,
    /// Bytes of each entry from `cleared_to` on, and their sum.
    sizes: VecDeque<usize>,
    unread_bytes: usize,
    bytes_max: usize,
}

impl<T> Publisher<T> {
    /// Publishes one entry of so many bytes to every reader.
    ///
    /// # Errors
    ///
    /// Gives the entry back if a reader too far behind is reading at this very moment; it
    /// will have moved on soon.
    pub(crate) fn publish(&mut self, entry: T, bytes: usize) -> Result<(), T> {
        let has_room = self.tail < self.writable_to && self.unread_bytes + bytes <= self.bytes_max;
        if !has_room && !self.make_room(bytes) {
            return Err(entry);
        }
        let index = self.tail as usize & (self.ring.slots.len() - 1);
        // SAFETY: `tail < writable_to`: when that bound was set, every reader was evicted or
        // had passed the entry this slot held (Acquire in `advance`, so its reads are over).
        // A reader comes back only at or past the tail of that moment (`rejoin`), so it will
        // not look at this position before the store below publishes it.
        self.ring.slots[index].with_mut(|slot| unsafe { *slot = Some(entry) });
        self.sizes.push_back(bytes);
        self.unread_bytes += bytes;
        self.tail += 1;
        // Release: whoever sees the tail sees the entry.
        self.ring.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Says what all entries stand for beyond one each, in sum and the next one included, so that
    /// a reader that loses some knows what it has lost. To be called before that one is published.
    pub(crate) fn weigh(&self, surplus: u64) {
        // Released with the tail, behind which it is looked at.
        self.ring.surplus.store(surplus, Ordering::Relaxed);
    }

    /// Drops what every reader has read. To be called now and then: entries are otherwise
    /// kept until their place is needed.
    pub(crate) fn clear_read(&mut self) {
        if self.cleared_to < self.tail {
            self.advance(0);
        }
    }

    /// Makes room for one entry of so many bytes, evicting the readers in its way.
    #[cold]
    fn make_room(&mut self, bytes: usize) -> bool {
        let capacity = self.ring.slots.len() as u64;
        let mut oldest_kept = (self.tail + 1).saturating_sub(capacity).max(self.cleared_to);
        // Sizes are those from `cleared_to` on.
        let dropped = (oldest_kept - self.cleared_to) as usize;
        let mut kept_bytes: usize = self.sizes.iter().skip(dropped).sum();
        for size in self.sizes.iter().skip(dropped) {
            if kept_bytes + bytes <= self.bytes_max {
                break;
            }
            kept_bytes -= size;
            oldest_kept += 1;
        }
        self.advance(oldest_kept)
    }

    /// Evicts the readers that have not read everything below `oldest_kept`, and drops what
    /// all others have read. `false` if one of the former is reading right now.
    fn advance(&mut self, oldest_kept: u64) -> bool {
        // Pairs with the fence in `rejoin`: either this pass sees the reader's cursor, or the
        // reader sees a tail no older than `self.tail`, which is at or past any bound set here.
        fence(Ordering::SeqCst);
        let mut slowest = self.tail;
        for cursor in &self.ring.cursors {
            let seen = cursor.load(Ordering::Acquire);
            if seen & EVICTED != 0 {
                continue;
            }
            if position(seen) >= oldest_kept {
                slowest = slowest.min(position(seen));
                continue;
            }
            let evicted = cursor_at(position(seen), EVICTED);
            let idle = cursor_at(position(seen), 0);
            // Acquire on failure and success: what the reader read before is over.
            if cursor.compare_exchange(idle, evicted, Ordering::AcqRel, Ordering::Acquire).is_err()
            {
                return false;
            }
        }
        self.writable_to = slowest + self.ring.slots.len() as u64;
        self.clear_to(slowest);
        true
    }

    /// Drops the entries below `end`, which every reader has passed or will never see.
    fn clear_to(&mut self, end: u64) {
        while self.cleared_to < end {
            let index = self.cleared_to as usize & (self.ring.slots.len() - 1);
            // SAFETY: `end` is at most the position of every reader that is not evicted
            // (`advance`), and one that comes back does so at or past the tail.
            self.ring.slots[index].with_mut(|slot| unsafe { *slot = None });
            self.unread_bytes -= self.sizes.pop_front().expect("a size for each entry");
            self.cleared_to += 1;
        }
    }
}

/// One reading end, with its own cursor.
pub(crate) struct Reader<T> {
    ring: Arc<Ring<T>>,
    cursor: usize,
    surplus_counted: u64,
}

impl<T: Clone> Reader<T> {
    /// Whether there is anything to read (or a loss to learn of).
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        position(self.ring.cursors[self.cursor].load(Ordering::Relaxed))
            != self.ring.tail.load(Ordering::Acquire)
    }

    /// Appends at most `entries_max` entries in the order they were published, and returns
    /// how many were lost before them.
    pub(crate) fn read(&mut self, entries_max: usize, entries: &mut Vec<T>) -> u64 {
        let cursor = &self.ring.cursors[self.cursor];
        let seen = cursor.load(Ordering::Relaxed);
        let idle = cursor_at(position(seen), 0);
        let reading = cursor_at(position(seen), READING);
        let claimed = seen & EVICTED == 0
            && cursor.compare_exchange(idle, reading, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let start = if claimed { position(seen) } else { self.rejoin() };
        let end = self.ring.tail.load(Ordering::Acquire).min(start + entries_max as u64);
        for position in start..end {
            let index = position as usize & (self.ring.slots.len() - 1);
            // SAFETY: the cursor stands at `start` and is neither idle nor evicted, so the
            // publisher does not write any position from `start` to `start + capacity`; it
            // has published all below the tail, which was read with Acquire.
            let entry = self.ring.slots[index].with(|slot| unsafe { (*slot).clone() });
            entries.push(entry.expect("below the tail every slot holds an entry"));
        }
        // Release: the reads above are over before the publisher sees the new position.
        self.ring.cursors[self.cursor].store(cursor_at(end, 0), Ordering::Release);
        start - position(seen)
    }

    /// What the entries lost by the last `read` stood for beyond one each. It may include what an
    /// entry still to be read stands for; that one then counts for less.
    pub(crate) fn lost_surplus(&mut self) -> u64 {
        self.count_surplus(self.ring.surplus.load(Ordering::Relaxed))
    }

    /// What an entry up to which there is so much surplus stands for beyond one, as far as it has
    /// not been counted.
    pub(crate) fn count_surplus(&mut self, surplus: u64) -> u64 {
        let uncounted = surplus.saturating_sub(self.surplus_counted);
        self.surplus_counted += uncounted;
        uncounted
    }

    /// Comes back after an eviction, in the state READING; returns the new position.
    #[cold]
    fn rejoin(&mut self) -> u64 {
        let cursor = &self.ring.cursors[self.cursor];
        let stale = self.ring.tail.load(Ordering::Acquire);
        cursor.store(cursor_at(stale, READING), Ordering::Release);
        // The publisher may have gone on without us between the two lines above. Pairs with
        // the fence in `advance`: a pass that did not see the cursor had a tail no newer
        // than the one read now, and writes less than a lap past it.
        fence(Ordering::SeqCst);
        let position = self.ring.tail.load(Ordering::Acquire);
        cursor.store(cursor_at(position, READING), Ordering::Release);
        position
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests;

#[cfg(all(test, ringwire_loom))]
mod loom_tests;
