//! The number of further connections that the process's descriptors allow, over all shards of a
//! server. It is used when a connection is accepted or closed, not on the path of a message.

use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Descriptors {
    left: AtomicUsize,
}

impl Descriptors {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self { left: AtomicUsize::new(connections_max) }
    }

    /// Said once, before anybody connects.
    pub(crate) fn set(&self, connections_max: usize) {
        self.left.store(connections_max, Ordering::Relaxed);
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Takes one for a connection; `false` if none is left.
    pub(crate) fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    pub(crate) fn give_back(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many connections a process that may have `limit` descriptors and has `open` can take,
/// with `reserved` left to everything else. Where descriptors are few, three quarters of what is
/// left go to connections all the same.
pub(crate) fn connections_within(limit: usize, open: usize, reserved: usize) -> usize {
    let left = limit.saturating_sub(open);
    (left - reserved.min(left / 4)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_are_are_taken() {
        let descriptors = Descriptors::new(1);
        assert!(descriptors.take());
        assert!(descriptors.is_exhausted());
        assert!(!descriptors.take());
        descriptors.give_back();
        assert!(descriptors.take());
    }

    #[test]
    fn some_are_left_to_others() {
        assert_eq!(connections_within(1_024, 24, 100), 900);
        assert_eq!(connections_within(64, 12, 100), 39);
        assert_eq!(connections_within(10, 12, 100), 1);
        assert_eq!(connections_within(usize::MAX, 12, 100), usize::MAX - 112);
    }
}
