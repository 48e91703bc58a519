//! The mailbox by which other threads reach a shard: a bounded queue of commands, the stop flag,
//! and the sleep flag. No operation blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::driver::Key;
use crate::error::HandleError;
use crate::metrics::{Metrics, MetricsCells};
use crate::sleep_flag::SleepFlag;
use crate::sys::Waker;
use ringwire_proto::CloseCode;

/// What other threads may ask of a shard.
#[derive(Debug)]
pub(crate) enum Command {
    /// Publish an encoded frame, here and on the other shards.
    Publish { topic: Arc<str>, frame: Bytes },
    /// Send an encoded frame to one connection, if it is still there.
    Send { key: Key, frame: Bytes },
    /// Close one connection, if it is still there.
    Close { key: Key, code: CloseCode, reason: Box<str> },
}

pub(crate) struct Mailbox {
    commands: ArrayQueue<Command>,
    stop: AtomicBool,
    /// The shard is gone: nothing will be taken any more.
    ended: AtomicBool,
    /// Commands that were queued and will not be carried out.
    lost: AtomicU64,
    pub(crate) sleep: SleepFlag,
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
            lost: AtomicU64::new(0),
            sleep: SleepFlag::new(),
            waker: Arc::new(waker),
            metrics: CachePadded::default(),
        }
    }

    /// What the shard's driver polls, for callers that have no driver, and for those on epoll.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Leaves a command, from any thread. What was left is carried out, or counted as lost if
    /// the shard ends first.
    pub(crate) fn push(&self, command: Command) -> Result<(), HandleError> {
        if self.ended.load(Ordering::Acquire) {
            return Err(HandleError::Stopped);
        }
        self.commands.push(command).map_err(|_| HandleError::Busy)?;
        // Against `end`: whichever fence comes second sees the other side's store, so a command
        // pushed while the shard ends is counted by it or by us.
        fence(Ordering::SeqCst);
        if self.ended.load(Ordering::Relaxed) {
            self.count_lost();
        }
        self.rouse_by_eventfd();
        Ok(())
    }

    /// Asks the shard to drain and end, from any thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Whether it sleeps or not: if whoever roused it last has died before waking it, the
        // flag is down and the shard asleep.
        self.sleep.lower();
        self.waker.wake();
    }

    fn rouse_by_eventfd(&self) {
        if self.sleep.rouse() {
            self.waker.wake();
        }
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

    /// The shard is gone: further commands are refused, and those still queued are lost.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.count_lost();
    }

    fn count_lost(&self) {
        while self.commands.pop().is_some() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn add_metrics_to(&self, sum: &mut Metrics) {
        self.metrics.add_to(sum);
        sum.commands_lost += self.lost.load(Ordering::Relaxed);
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
    fn a_full_queue_says_so_and_an_ended_shard_too() {
        let mailbox = Mailbox::new(2, Waker::new().unwrap());
        assert_eq!(mailbox.push(close(0)), Ok(()));
        assert_eq!(mailbox.push(close(1)), Ok(()));
        assert_eq!(mailbox.push(close(2)), Err(HandleError::Busy));
        assert!(matches!(mailbox.pop(), Some(Command::Close { key: Key { slot: 0, .. }, .. })));
        mailbox.end();
        assert_eq!(mailbox.push(close(3)), Err(HandleError::Stopped));
        let mut metrics = Metrics::default();
        mailbox.add_metrics_to(&mut metrics);
        assert_eq!(metrics.commands_lost, 1);
    }

    /// Each command that was taken is carried out or counted, wherever the end comes.
    #[test]
    fn no_command_is_lost_without_being_counted() {
        const PUSHERS: u64 = 3;
        for _ in 0..200 {
            let mailbox = Mailbox::new(64, Waker::new().unwrap());
            let (mut carried_out, mut queued) = (0, 0);
            std::thread::scope(|scope| {
                let push = || (0..100).filter(|_| mailbox.push(close(0)).is_ok()).count() as u64;
                let pushers: Vec<_> = (0..PUSHERS).map(|_| scope.spawn(push)).collect();
                for _ in 0..50 {
                    carried_out += u64::from(mailbox.pop().is_some());
                }
                mailbox.end();
                queued = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
            });
            let mut metrics = Metrics::default();
            mailbox.add_metrics_to(&mut metrics);
            assert_eq!(queued, carried_out + metrics.commands_lost);
        }
    }
}
