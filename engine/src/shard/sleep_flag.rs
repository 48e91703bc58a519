//! Whether a shard sleeps: a sleeping shard must be woken, a busy one need not.
//!
//! Two fences prevent a lost wake-up. A sender first stores its entry in a queue of the shard, then
//! reads the flag ([`SleepFlag::rouse`]). The shard first raises the flag ([`SleepFlag::raise`]),
//! then checks its queues again. The fence that comes second in the order of fences sees the other
//! side's store. So either the shard finds the entry, or the sender sees the flag and wakes the
//! shard (in `mailbox.rs` or `shard/fanout.rs`).

use std::sync::atomic::Ordering;

use crate::sys::sync::{AtomicBool, fence};

pub(crate) struct SleepFlag {
    asleep: AtomicBool,
}

impl SleepFlag {
    pub(crate) fn new() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }

    /// The shard is about to wait: from here on it must be woken. It looks once more at
    /// everything that might have been left, and does not wait if something was.
    pub(crate) fn raise(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake, for whatever reason.
    pub(crate) fn lower(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// To be called after something was left: whether the shard sleeps and so must be woken.
    /// Only one caller is told so per sleep, and it must do so.
    pub(crate) fn rouse(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load keeps callers from contending for the flag of a shard that is awake. The
        // exchange writes nothing where another caller was first: the shard may be going to
        // sleep again by now.
        self.asleep.load(Ordering::Relaxed)
            && self
                .asleep
                .compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_shard_is_woken_once_and_a_busy_one_never() {
        let flag = SleepFlag::new();
        assert!(!flag.rouse());
        flag.raise();
        assert!(flag.rouse());
        assert!(!flag.rouse());
        flag.raise();
        flag.lower();
        assert!(!flag.rouse());
    }
}

/// Every interleaving, by loom: `RUSTFLAGS="--cfg ringwire_loom" cargo test --release -p
/// ringwire --lib loom`.
#[cfg(all(test, ringwire_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::Notify;
    use loom::sync::atomic::AtomicUsize;

    use super::*;

    /// Two threads leave something each; the shard takes both, however it sleeps in between.
    /// A shard that waited for a wake nobody sends would be a deadlock, which loom reports.
    #[test]
    fn loom_what_is_left_is_found_or_the_shard_is_woken() {
        // All interleavings with three preemptions: enough for a wake to be lost without the
        // fences, in seconds instead of minutes.
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let shared = Arc::new((SleepFlag::new(), AtomicUsize::new(0), Notify::new()));
            let leaving: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    loom::thread::spawn(move || {
                        let (flag, left, kernel) = &*shared;
                        left.fetch_add(1, Ordering::Release);
                        if flag.rouse() {
                            kernel.notify();
                        }
                    })
                })
                .collect();
            let (flag, left, kernel) = &*shared;
            let mut taken = 0;
            while taken < 2 {
                flag.raise();
                if left.load(Ordering::Acquire) == taken {
                    kernel.wait();
                }
                flag.lower();
                taken = left.load(Ordering::Acquire);
            }
            leaving.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
