//! One deadline per slot, in a wheel of buckets. Scheduling, moving and removing are O(1) and
//! allocate only when a slot is used for the first time.
//!
//! A deadline fires up to one bucket late and not early. A deadline beyond the wheel's range fires
//! at its end, and the shard schedules it again. A deadline that only moves later is left where it
//! is and scheduled again when it fires. The time is an argument; the wheel reads no clock.

/// Width of a bucket. Deadlines are seconds; 64 ms late is not noticed.
const BUCKET_MS: u64 = 64;
/// 1,024 buckets reach 65 s: most deadlines fire once, the default idle timeout twice.
const BUCKETS: usize = 1_024;
const NONE: u32 = u32::MAX;

/// A doubly linked list through the slots of one bucket.
#[derive(Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
    /// Index of the bucket, or `UNSCHEDULED`.
    bucket: u16,
}

const UNSCHEDULED: u16 = u16::MAX;

impl Link {
    const UNUSED: Self = Self { next: NONE, previous: NONE, bucket: UNSCHEDULED };
}

pub(crate) struct TimerWheel {
    heads: Box<[u32; BUCKETS]>,
    /// One bit per bucket that is not empty.
    occupied: [u64; BUCKETS / 64],
    links: Vec<Link>,
    /// The last bucket time (ms / `BUCKET_MS`) whose deadlines have all fired.
    passed: u64,
}

impl TimerWheel {
    /// Bytes of address space that [`new`](Self::new) sets aside for each slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Link>();

    /// Sets address space aside for `slots_max` slots, so that growing moves nothing.
    pub(crate) fn new(now_ms: u64, slots_max: usize) -> Self {
        Self {
            heads: Box::new([NONE; BUCKETS]),
            occupied: [0; BUCKETS / 64],
            links: Vec::with_capacity(slots_max),
            passed: now_ms / BUCKET_MS,
        }
    }

    /// Sets the slot's deadline, replacing the one it had.
    pub(crate) fn schedule(&mut self, slot: u32, at_ms: u64) {
        self.remove(slot);
        if slot as usize >= self.links.len() {
            self.links.resize(slot as usize + 1, Link::UNUSED);
        }
        let bucket = self.bucket_of(at_ms);
        let next = self.heads[bucket];
        self.links[slot as usize] = Link { next, previous: NONE, bucket: bucket as u16 };
        if next != NONE {
            self.links[next as usize].previous = slot;
        }
        self.heads[bucket] = slot;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    /// Brings the slot's deadline forward if it is later than `at_ms`.
    pub(crate) fn schedule_no_later(&mut self, slot: u32, at_ms: u64) {
        let scheduled = self.links.get(slot as usize).map_or(UNSCHEDULED, |link| link.bucket);
        let is_sooner = scheduled != UNSCHEDULED
            && self.distance(scheduled as usize) <= self.distance(self.bucket_of(at_ms));
        if !is_sooner {
            self.schedule(slot, at_ms);
        }
    }

    /// Takes the slot's deadline away, if it has one.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize) else {
            return;
        };
        let Link { next, previous, bucket } = *link;
        if bucket == UNSCHEDULED {
            return;
        }
        *link = Link::UNUSED;
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous != NONE {
            self.links[previous as usize].next = next;
            return;
        }
        let bucket = bucket as usize;
        self.heads[bucket] = next;
        if next == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// Turns an empty wheel to the present, so that what is scheduled next is not held to its
    /// reach from long ago.
    pub(crate) fn skip_idle_time(&mut self, now_ms: u64) {
        if self.first_occupied().is_none() {
            self.passed = self.passed.max(now_ms / BUCKET_MS);
        }
    }

    /// Takes one slot whose deadline is over. Call until `None`.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<u32> {
        let now = now_ms / BUCKET_MS;
        let first = self.first_occupied().map(|ahead| self.passed + ahead as u64);
        let Some(bucket_time) = first.filter(|&bucket_time| bucket_time <= now) else {
            self.passed = self.passed.max(now);
            return None;
        };
        // Everything before this bucket is empty; the bucket itself stays ahead of `passed`
        // until it is empty too.
        self.passed = bucket_time - 1;
        let slot = self.heads[bucket_time as usize % BUCKETS];
        self.remove(slot);
        Some(slot)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_scheduled(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.bucket != UNSCHEDULED)
    }

    /// When the slot's deadline fires at the latest, if it has one.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn scheduled_ms(&self, slot: u32) -> Option<u64> {
        let bucket = self.links.get(slot as usize)?.bucket;
        let ahead = (bucket != UNSCHEDULED).then(|| self.distance(bucket as usize))?;
        Some((self.passed + ahead as u64) * BUCKET_MS)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.links.iter().all(|link| link.bucket == UNSCHEDULED) && self.first_occupied().is_none()
    }

    /// How long until the first deadline is over; `None` without one.
    pub(crate) fn wait_ms(&self, now_ms: u64) -> Option<u64> {
        let ahead = self.first_occupied()?;
        Some(((self.passed + ahead as u64) * BUCKET_MS).saturating_sub(now_ms))
    }

    /// The bucket that begins at or after `at_ms`, but not one that has passed and not one
    /// beyond the edge.
    fn bucket_of(&self, at_ms: u64) -> usize {
        let time = at_ms.div_ceil(BUCKET_MS);
        let time = time.clamp(self.passed + 1, self.passed + BUCKETS as u64 - 1);
        time as usize % BUCKETS
    }

    /// How many buckets ahead of `passed`: 1 to `BUCKETS - 1`, or 0 for `passed` itself.
    fn distance(&self, bucket: usize) -> usize {
        bucket.wrapping_sub(self.passed as usize) % BUCKETS
    }

    /// How many buckets ahead the first one is that is not empty.
    fn first_occupied(&self) -> Option<usize> {
        let start = (self.passed as usize + 1) % BUCKETS;
        let (first_word, first_bit) = (start / 64, start % 64);
        // The first word twice: its upper bits first, its lower bits after a whole turn.
        for step in 0..=self.occupied.len() {
            let word = (first_word + step) % self.occupied.len();
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= !0 << first_bit;
            }
            if bits != 0 {
                let bucket = word * 64 + bits.trailing_zeros() as usize;
                return Some(self.distance(bucket));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(wheel: &mut TimerWheel, now_ms: u64) -> Vec<u32> {
        let mut due: Vec<u32> = std::iter::from_fn(|| wheel.pop_due(now_ms)).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn a_deadline_fires_late_by_less_than_a_bucket_and_never_early() {
        for at_ms in [1, 63, 64, 65, 1_000, 60_000] {
            let mut wheel = TimerWheel::new(0, 8);
            wheel.schedule(7, at_ms);
            assert!(drain(&mut wheel, at_ms - 1).is_empty());
            assert_eq!(drain(&mut wheel, at_ms + BUCKET_MS), [7]);
            assert_eq!(wheel.wait_ms(at_ms), None);
        }
    }

    #[test]
    fn waiting_for_what_it_says_is_enough() {
        let mut wheel = TimerWheel::new(10_000_123, 8);
        wheel.schedule(0, 10_005_000);
        let wait = wheel.wait_ms(10_000_123).unwrap();
        assert_eq!(drain(&mut wheel, 10_000_123 + wait), [0]);
    }

    #[test]
    fn beyond_the_edge_fires_at_the_edge() {
        let mut wheel = TimerWheel::new(0, 8);
        wheel.schedule(1, 1_000_000);
        assert_eq!(drain(&mut wheel, 65_535), [1]);
    }

    #[test]
    fn moving_and_removing() {
        let mut wheel = TimerWheel::new(0, 8);
        for slot in 0..4 {
            wheel.schedule(slot, 5_000);
        }
        wheel.remove(1);
        wheel.remove(1);
        wheel.schedule(2, 9_000);
        wheel.schedule_no_later(3, 7_000);
        wheel.schedule_no_later(0, 1_000);
        assert_eq!(drain(&mut wheel, 1_100), [0]);
        assert_eq!(drain(&mut wheel, 5_100), [3]);
        assert_eq!(drain(&mut wheel, 9_100), [2]);
    }

    /// Against the plainest thing that can be right: a list of deadlines.
    #[test]
    fn behaves_like_a_list_of_deadlines() {
        const SLOTS: usize = 40;
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let mut now = 12_345;
        let mut wheel = TimerWheel::new(now, SLOTS);
        let mut list = [None; SLOTS];
        for _ in 0..200_000 {
            let slot = random(SLOTS as u64) as usize;
            match random(10) {
                0..6 => {
                    let at = now + random(60_000);
                    wheel.schedule(slot as u32, at);
                    list[slot] = Some(at);
                }
                6 => {
                    wheel.remove(slot as u32);
                    list[slot] = None;
                }
                7 => {
                    let at = now + random(60_000);
                    wheel.schedule_no_later(slot as u32, at);
                    list[slot] = Some(list[slot].map_or(at, |was: u64| was.min(at)));
                }
                _ => {
                    now += random(3_000);
                    for fired in std::iter::from_fn(|| wheel.pop_due(now)).take(SLOTS + 1) {
                        let at = list[fired as usize].take().expect("fires what was scheduled");
                        assert!(at <= now, "fired early");
                    }
                    for at in list.iter().flatten() {
                        assert!(at + BUCKET_MS > now, "fired late");
                    }
                }
            }
        }
    }
}
