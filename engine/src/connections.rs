//! The slab of a shard's slots. A look-up by [`Key`] compares the generation, so a late completion
//! or an old id cannot reach the slot's next connection. When a slot is freed is decided elsewhere.

use std::panic::{AssertUnwindSafe, catch_unwind};

use slab::Slab;

use crate::driver::Key;
use crate::slot::Slot;

pub(crate) struct Connections<S> {
    slots: Slab<Slot<S>>,
    /// The next tenant's generation. A counter of the whole shard: it repeats only after
    /// 2³² connections, so two tenants of one slot never share it in practice, and a key is
    /// compared, never trusted.
    generation: u32,
    slots_max: usize,
    /// Slots below this one have had a tenant.
    slots_used: u32,
}

impl<S> Connections<S> {
    /// Sets address space aside for `slots_max` slots, so that a growing server never
    /// stops to move its slots. Pages are taken as slots are first used.
    pub(crate) fn new(slots_max: usize) -> Self {
        Self { slots: Slab::with_capacity(slots_max), generation: 0, slots_max, slots_used: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() == self.slots_max
    }

    /// Puts a tenant in. The caller has made sure there is room.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Key) -> Slot<S>) -> Key {
        assert!(!self.is_full());
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let key = Key { slot: entry.key() as u32, generation: self.generation };
        entry.insert(make(key));
        self.slots_used = self.slots_used.max(key.slot + 1);
        key
    }

    /// The slot, if `key`'s tenant still has it.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Slot<S>> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.session.key == key)
    }

    /// Whoever has the slot now: for lists that are kept exact (subscribers, timers).
    #[inline]
    pub(crate) fn tenant_mut(&mut self, slot: u32) -> &mut Slot<S> {
        &mut self.slots[slot as usize]
    }

    pub(crate) fn remove(&mut self, key: Key) -> Slot<S> {
        let slot = self.slots.remove(key.slot as usize);
        assert_eq!(slot.session.key, key);
        slot
    }

    /// Bytes of address space that [`new`](Self::new) sets aside for each slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Option<Slot<S>>>() + size_of::<usize>();

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &crate::slot::Session<S>> {
        self.slots.iter().map(|(_, slot)| &slot.session)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn has(&self, key: Key) -> bool {
        self.slots.get(key.slot as usize).is_some_and(|slot| slot.session.key == key)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn session(&self, slot: u32) -> &crate::slot::Session<S> {
        &self.slots[slot as usize].session
    }

    /// The keys of the tenants from this slot on, in the order of their slots. A walk in several
    /// parts looks at each slot once: slots before its part cost nothing.
    pub(crate) fn keys_from(&self, slot: u32) -> impl Iterator<Item = Key> {
        let slots = (slot..self.slots_used).filter_map(|slot| self.slots.get(slot as usize));
        slots.map(|slot| slot.session.key)
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
        for slot in self.slots.drain() {
            let state = slot.session.state;
            let _ = catch_unwind(AssertUnwindSafe(|| drop(state)));
        }
    }
}
