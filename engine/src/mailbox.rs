//! How other threads reach a shard: a bounded queue of commands, a stop flag, and the
//! sleep flag that keeps a busy shard from being woken.
//!
//! The lost wake is prevented by two fences. Whoever leaves something stores it, then looks
//! at the flag; the shard sets the flag, then looks once more at what was left. Whichever
//! fence comes second in the order of fences sees the other side's store. The mailbox never
//! blocks anyone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::driver::Key;
use crate::error::HandleError;
use crate::metrics::MetricsCells;
use crate::sys::Waker;
use ringwire_proto::CloseCode;

/// What other threads may ask of a shard.
#[derive(Debug)]
pub(crate) enum Command {
    /// Publish an encoded frame, here and on the other shards.
    Publish { topic: Box<str>, frame: Box<[u8]> },
    /// Send an encoded frame to one connection, if it is still there.
    Send { key: Key, frame: Box<[u8]> },
    /// Close one connection, if it is still there.
    Close { key: Key, code: CloseCode, reason: Box<str> },
}

pub(crate) struct Mailbox {
    commands: ArrayQueue<Command>,
    stop: AtomicBool,
    /// The shard is gone: nothing will be taken any more.
    ended: AtomicBool,
    asleep: AtomicBool,
    waker: Arc<Waker>,
    /// Padded: written every tick, while the flag above is read by every publisher.
    pub(crate) metrics: CachePadded<MetricsCells>,
}

impl Mailbox {
    pub(crate) fn new(command_entries: usize, waker: Waker) -> Self {
        Self {
            commands: ArrayQueue::new(command_entries),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            waker: Arc::new(waker),
            metrics: CachePadded::default(),
        }
    }

    /// What the shard's driver polls, for callers that have no ring.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Leaves a command, from any thread.
    pub(crate) fn push(&self, command: Command) -> Result<(), HandleError> {
        if self.ended.load(Ordering::Acquire) {
            return Err(HandleError::Stopped);
        }
        self.commands.push(command).map_err(|_| HandleError::Busy)?;
        self.rouse_by_eventfd();
        Ok(())
    }

    /// Asks the shard to drain and end, from any thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Whether it sleeps or not: if whoever roused it last has died before waking it, the
        // flag is down and the shard asleep.
        self.asleep.store(false, Ordering::Relaxed);
        self.waker.wake();
    }

    fn rouse_by_eventfd(&self) {
        if self.rouse() {
            self.waker.wake();
        }
    }

    /// To be called after something was left for the shard: whether it sleeps and so must
    /// be woken. Only one caller is told so per sleep.
    pub(crate) fn rouse(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }

    /// The shard is about to wait: from here on it must be woken. It looks once more at
    /// everything that might have been left, and does not wait if something was.
    pub(crate) fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake, for whatever reason.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    pub(crate) fn pop(&self) -> Option<Command> {
        self.commands.pop()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(slot: u32) -> Command {
        let key = Key { slot, generation: 1 };
        Command::Close { key, code: CloseCode::NORMAL, reason: "".into() }
    }

    #[test]
    fn a_sleeping_shard_is_woken_once_and_a_busy_one_never() {
        let mailbox = Mailbox::new(4, Waker::new().unwrap());
        assert!(!mailbox.rouse());
        mailbox.fall_asleep();
        assert!(mailbox.rouse());
        assert!(!mailbox.rouse());
    }

    #[test]
    fn a_full_queue_says_so_and_an_ended_shard_too() {
        let mailbox = Mailbox::new(2, Waker::new().unwrap());
        assert_eq!(mailbox.push(close(0)), Ok(()));
        assert_eq!(mailbox.push(close(1)), Ok(()));
        assert_eq!(mailbox.push(close(2)), Err(HandleError::Busy));
        assert!(matches!(mailbox.pop(), Some(Command::Close { key: Key { slot: 0, .. }, .. })));
        mailbox.end();
        assert_eq!(mailbox.push(close(3)), Err(HandleError::Stopped));
    }
}
