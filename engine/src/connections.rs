//! The slab of a shard's slots. A look-up by [`Key`] compares the generation, so a late completion
//! or an old id cannot reach the slot's next connection. When a slot is freed is decided elsewhere.
//!
//! One slot can be lent together with the [`Others`]: a callback of one connection may then reach
//! every other connection of the shard. That is why this is not the crate `slab`, whose entries
//! cannot be split.

use crate::driver::Key;
use crate::guard::guard;
use crate::slot::Slot;

/// No entry: there are fewer (`SLOTS_MAX`).
const NONE: u32 = u32::MAX;

enum Entry<S> {
    /// With the next vacant entry, or `NONE`.
    Vacant(u32),
    Taken(Slot<S>),
}

/// Two cache lines, and what every idle connection takes; whoever makes it more should know.
/// (The simulator's sockets are larger.)
#[cfg(not(any(test, feature = "sim")))]
const _: () = assert!(size_of::<Entry<()>>() == 128);

impl<S> Entry<S> {
    fn slot(&self) -> Option<&Slot<S>> {
        match self {
            Self::Vacant(_) => None,
            Self::Taken(slot) => Some(slot),
        }
    }

    #[inline]
    fn slot_mut(&mut self) -> Option<&mut Slot<S>> {
        match self {
            Self::Vacant(_) => None,
            Self::Taken(slot) => Some(slot),
        }
    }

    #[inline]
    fn tenant(&mut self, key: Key) -> Option<&mut Slot<S>> {
        self.slot_mut().filter(|slot| slot.session.key == key)
    }
}

pub(crate) struct Connections<S> {
    entries: Vec<Entry<S>>,
    /// The first vacant entry, or `NONE`.
    vacant: u32,
    taken: usize,
    /// The next tenant's generation. A counter of the whole shard: it repeats only after
    /// 2³² connections, so two tenants of one slot never share it in practice, and a key is
    /// compared, never trusted.
    generation: u32,
    slots_max: usize,
}

impl<S> Connections<S> {
    /// Sets address space aside for `slots_max` slots, so that a growing server never
    /// stops to move its slots. Pages are taken as slots are first used.
    pub(crate) fn new(slots_max: usize) -> Self {
        let entries = Vec::with_capacity(slots_max);
        Self { entries, vacant: NONE, taken: 0, generation: 0, slots_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.taken
    }

    pub(crate) fn is_full(&self) -> bool {
        self.taken == self.slots_max
    }

    /// Puts a tenant in. The caller has made sure there is room.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Key) -> Slot<S>) -> Key {
        assert!(!self.is_full());
        self.generation = self.generation.wrapping_add(1);
        let slot = if self.vacant == NONE { self.entries.len() as u32 } else { self.vacant };
        let key = Key { slot, generation: self.generation };
        let entry = Entry::Taken(make(key));
        match self.entries.get_mut(slot as usize) {
            None => self.entries.push(entry),
            Some(place) => {
                let Entry::Vacant(next) = std::mem::replace(place, entry) else {
                    unreachable!("the list of vacant entries names vacant ones")
                };
                self.vacant = next;
            }
        }
        self.taken += 1;
        key
    }

    /// The slot, if `key`'s tenant still has it.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Slot<S>> {
        self.entries.get_mut(key.slot as usize)?.tenant(key)
    }

    /// The slot, if `key`'s tenant still has it, and all others beside it.
    #[inline]
    pub(crate) fn lend(&mut self, key: Key) -> Option<(&mut Slot<S>, Others<'_, S>)> {
        let taken = self.taken;
        let (before, rest) = self.entries.split_at_mut_checked(key.slot as usize)?;
        let (entry, after) = rest.split_first_mut()?;
        Some((entry.tenant(key)?, Others { before, after, taken }))
    }

    /// All slots, where no connection is concerned.
    pub(crate) fn lend_all(&mut self) -> Others<'_, S> {
        Others { before: &mut self.entries, after: &mut [], taken: self.taken }
    }

    /// Whoever has the slot now: for lists that are kept exact (subscribers, timers).
    #[inline]
    pub(crate) fn tenant_mut(&mut self, slot: u32) -> &mut Slot<S> {
        self.entries[slot as usize].slot_mut().expect("a list names a vacant slot")
    }

    pub(crate) fn remove(&mut self, key: Key) -> Slot<S> {
        let place = &mut self.entries[key.slot as usize];
        let Entry::Taken(slot) = std::mem::replace(place, Entry::Vacant(self.vacant)) else {
            panic!("a slot is freed once")
        };
        assert_eq!(slot.session.key, key);
        self.vacant = key.slot;
        self.taken -= 1;
        slot
    }

    /// Bytes of address space that [`new`](Self::new) sets aside for each slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Entry<S>>();

    #[cfg(any(test, feature = "sim"))]
    fn slots(&self) -> impl Iterator<Item = &Slot<S>> {
        self.entries.iter().filter_map(Entry::slot)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &crate::slot::Session<S>> {
        self.slots().map(|slot| &slot.session)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn has(&self, key: Key) -> bool {
        let slot = self.entries.get(key.slot as usize).and_then(Entry::slot);
        slot.is_some_and(|slot| slot.session.key == key)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn session(&self, slot: u32) -> &crate::slot::Session<S> {
        &self.entries[slot as usize].slot().expect("a list names a vacant slot").session
    }

    /// The keys of the tenants from this slot on, in the order of their slots. A walk in several
    /// parts looks at each slot once: slots before its part cost nothing.
    pub(crate) fn keys_from(&self, slot: u32) -> impl Iterator<Item = Key> {
        let entries = self.entries.get(slot as usize..).unwrap_or_default();
        entries.iter().filter_map(Entry::slot).map(|slot| slot.session.key)
    }

    /// The keys of all tenants, for the rare walk over everything.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.keys_from(0).collect()
    }
}

impl<S> Drop for Connections<S> {
    /// A shard that ends in order has none left. One that panics drops what the application kept,
    /// which is the application's code: its panic on top would abort the process.
    fn drop(&mut self) {
        for entry in self.entries.drain(..) {
            let Entry::Taken(slot) = entry else { continue };
            let state = slot.session.state;
            let _ = guard(|| drop(state));
        }
    }
}

/// Every slot of a shard but the one that was lent with them.
pub(crate) struct Others<'a, S> {
    before: &'a mut [Entry<S>],
    after: &'a mut [Entry<S>],
    taken: usize,
}

impl<S> Others<'_, S> {
    /// The slot, if `key`'s tenant still has it and it is not the one that was lent.
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut Slot<S>> {
        self.entry(key.slot)?.tenant(key)
    }

    /// Whoever has the slot now, unless it is the one that was lent.
    pub(crate) fn tenant(&mut self, slot: u32) -> Option<&mut Slot<S>> {
        self.entry(slot)?.slot_mut()
    }

    fn entry(&mut self, slot: u32) -> Option<&mut Entry<S>> {
        let index = slot as usize;
        match index.checked_sub(self.before.len()) {
            None => Some(&mut self.before[index]),
            Some(0) => None,
            Some(behind) => self.after.get_mut(behind - 1),
        }
    }

    /// How many connections the shard has, with the one that was lent.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// The same, for a shorter time.
    #[inline]
    pub(crate) fn reborrow(&mut self) -> Others<'_, S> {
        Others { before: self.before, after: self.after, taken: self.taken }
    }
}
