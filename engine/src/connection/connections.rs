//! The slab of a shard's slots. A look-up by [`Key`] compares the generation, so a late completion
//! or an old id cannot reach the slot's next connection. When a slot is freed is decided elsewhere.
//!
//! One slot can be lent together with the [`Others`]: a callback of one connection may then reach
//! every other connection of the shard. That is why this is not the crate `slab`, whose entries
//! cannot be split.

use std::net::SocketAddr;

use super::slot::Slot;
use crate::driver::{Key, Socket};
use crate::shard::guard::guard;
use crate::sys::KernelSocket;

/// No entry: there are fewer (`SLOTS_MAX`).
const NONE: u32 = u32::MAX;

/// A slot and its socket.
pub(crate) struct Tenant<S, K> {
    pub(crate) slot: Slot<S>,
    pub(crate) socket: K,
}

enum Entry<S, K> {
    /// With the next vacant entry, or `NONE`.
    Vacant(u32),
    Taken(Tenant<S, K>),
}

/// Two cache lines, and what every idle connection takes; whoever makes it more should know.
const _: () = assert!(size_of::<Entry<(), KernelSocket>>() == 128);

impl<S, K> Entry<S, K> {
    fn tenant(&self) -> Option<&Tenant<S, K>> {
        match self {
            Self::Vacant(_) => None,
            Self::Taken(tenant) => Some(tenant),
        }
    }

    #[inline]
    fn tenant_mut(&mut self) -> Option<&mut Tenant<S, K>> {
        match self {
            Self::Vacant(_) => None,
            Self::Taken(tenant) => Some(tenant),
        }
    }

    #[inline]
    fn tenant_of(&mut self, key: Key) -> Option<&mut Tenant<S, K>> {
        self.tenant_mut().filter(|tenant| tenant.slot.session.key == key)
    }
}

/// The connections of a shard whose driver has sockets of type `K`.
pub(crate) struct Connections<S, K> {
    entries: Vec<Entry<S, K>>,
    /// The first vacant entry, or `NONE`.
    vacant: u32,
    taken: usize,
    /// The next tenant's generation. A counter of the whole shard: it repeats only after
    /// 2³² connections, so two tenants of one slot never share it in practice, and a key is
    /// compared, never trusted.
    generation: u32,
    slots_max: usize,
}

impl<S, K> Connections<S, K> {
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
    pub(crate) fn insert(&mut self, socket: K, make: impl FnOnce(Key) -> Slot<S>) -> Key {
        assert!(!self.is_full());
        self.generation = self.generation.wrapping_add(1);
        let slot = if self.vacant == NONE { self.entries.len() as u32 } else { self.vacant };
        let key = Key { slot, generation: self.generation };
        let entry = Entry::Taken(Tenant { slot: make(key), socket });
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
        Some(&mut self.tenant_of(key)?.slot)
    }

    /// The slot and its socket, if `key`'s tenant still has it.
    #[inline]
    pub(crate) fn tenant_of(&mut self, key: Key) -> Option<&mut Tenant<S, K>> {
        self.entries.get_mut(key.slot as usize)?.tenant_of(key)
    }

    /// The slot, if `key`'s tenant still has it, and all others beside it.
    #[inline]
    pub(crate) fn lend(&mut self, key: Key) -> Option<(&mut Slot<S>, Others<'_, S, K>)> {
        let taken = self.taken;
        let (before, rest) = self.entries.split_at_mut_checked(key.slot as usize)?;
        let (entry, after) = rest.split_first_mut()?;
        let Tenant { slot, socket } = entry.tenant_of(key)?;
        Some((slot, Others { before, after, socket: Some(socket), taken }))
    }

    /// All slots, where no connection is concerned.
    pub(crate) fn lend_all(&mut self) -> Others<'_, S, K> {
        Others { before: &mut self.entries, after: &mut [], socket: None, taken: self.taken }
    }

    /// Whoever has the slot now: for lists that are kept exact (subscribers, timers).
    #[inline]
    pub(crate) fn tenant_mut(&mut self, slot: u32) -> &mut Tenant<S, K> {
        self.entries[slot as usize].tenant_mut().expect("a list names a vacant slot")
    }

    pub(crate) fn remove(&mut self, key: Key) -> Tenant<S, K> {
        let place = &mut self.entries[key.slot as usize];
        let Entry::Taken(tenant) = std::mem::replace(place, Entry::Vacant(self.vacant)) else {
            panic!("a slot is freed once")
        };
        assert_eq!(tenant.slot.session.key, key);
        self.vacant = key.slot;
        self.taken -= 1;
        tenant
    }

    /// Bytes of address space that [`new`](Self::new) sets aside for each slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Entry<S, K>>();

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Tenant<S, K>> {
        self.entries.iter().filter_map(Entry::tenant)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn has(&self, key: Key) -> bool {
        let tenant = self.entries.get(key.slot as usize).and_then(Entry::tenant);
        tenant.is_some_and(|tenant| tenant.slot.session.key == key)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn session(&self, slot: u32) -> &crate::connection::slot::Session<S> {
        &self.entries[slot as usize].tenant().expect("a list names a vacant slot").slot.session
    }

    /// The keys of the tenants from this slot on, in the order of their slots. A walk in several
    /// parts looks at each slot once: slots before its part cost nothing.
    pub(crate) fn keys_from(&self, slot: u32) -> impl Iterator<Item = Key> {
        let entries = self.entries.get(slot as usize..).unwrap_or_default();
        entries.iter().filter_map(Entry::tenant).map(|tenant| tenant.slot.session.key)
    }

    /// The keys of all tenants, for the rare walk over everything.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.keys_from(0).collect()
    }
}

impl<S, K> Drop for Connections<S, K> {
    /// A shard that ends in order has none left. One that panics drops what the application kept,
    /// which is the application's code: its panic on top would abort the process.
    fn drop(&mut self) {
        for entry in self.entries.drain(..) {
            let Entry::Taken(tenant) = entry else { continue };
            let state = tenant.slot.session.state;
            let _ = guard(|| drop(state));
        }
    }
}

/// Every slot of a shard but the one that was lent with them.
pub(crate) struct Others<'a, S, K> {
    before: &'a mut [Entry<S, K>],
    after: &'a mut [Entry<S, K>],
    /// Of the one that was lent.
    socket: Option<&'a K>,
    taken: usize,
}

impl<S, K> Others<'_, S, K> {
    fn entry(&mut self, slot: u32) -> Option<&mut Entry<S, K>> {
        let index = slot as usize;
        match index.checked_sub(self.before.len()) {
            None => Some(&mut self.before[index]),
            Some(0) => None,
            Some(behind) => self.after.get_mut(behind - 1),
        }
    }
}

/// The [`Others`] as a callback sees them, whatever sockets they have.
pub(crate) trait Neighbours<S> {
    /// The slot, if `key`'s tenant still has it and it is not the one that was lent.
    fn get(&mut self, key: Key) -> Option<&mut Slot<S>>;

    /// Whoever has the slot now, unless it is the one that was lent.
    fn tenant(&mut self, slot: u32) -> Option<&mut Slot<S>>;

    /// How many connections the shard has, with the one that was lent.
    fn taken(&self) -> usize;

    /// The address of the peer of the one that was lent, if one was and its socket still has it.
    fn peer_addr(&self) -> Option<SocketAddr>;
}

impl<S, K: Socket> Neighbours<S> for Others<'_, S, K> {
    fn get(&mut self, key: Key) -> Option<&mut Slot<S>> {
        Some(&mut self.entry(key.slot)?.tenant_of(key)?.slot)
    }

    fn tenant(&mut self, slot: u32) -> Option<&mut Slot<S>> {
        Some(&mut self.entry(slot)?.tenant_mut()?.slot)
    }

    fn taken(&self) -> usize {
        self.taken
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket.and_then(Socket::peer_addr)
    }
}
