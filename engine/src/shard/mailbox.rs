//! The mailbox by which other threads reach a shard: a bounded queue of commands, the stop flag,
//! and the sleep flag. Only [`Mailbox::push_waiting`] blocks, and no shard calls it.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::task;

use bytes::Bytes;
use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use crate::config::Config;
use crate::driver::Key;
use crate::error::HandleError;
use crate::metrics::{Metrics, MetricsCells};
use crate::shard::guard::guard;
use crate::shard::sleep_flag::SleepFlag;
use crate::sys::Waker;
use crate::ticket::Place;
use ringwire_proto::{CloseCode, Response};

/// What other threads may ask of a shard. `C` is the application's own command.
#[derive(Debug)]
pub(crate) enum Command<C> {
    /// Publish an encoded frame, here and on the other shards.
    Publish { topic: Arc<str>, frame: Bytes },
    /// Send an encoded frame to one connection, if it is still there.
    Send { key: Key, frame: Bytes },
    /// Send an encoded frame to several connections, those that are still there.
    SendMany { keys: Box<[Key]>, frame: Bytes },
    /// Close one connection, if it is still there.
    Close { key: Key, code: CloseCode, reason: Box<str> },
    /// Cut one connection off, if it is still there.
    Terminate { key: Key },
    /// Give it to the handler.
    Custom(C),
    /// Answer a ticket with a `Verdict<S>`, where `S` is the handler's state.
    Answer { place: Place, verdict: Box<dyn Any + Send> },
    /// Serve a connection that somebody else has upgraded.
    Adopt(Adopted),
    /// Answer a ticket with a response, or as one that was dropped.
    Respond { place: Place, response: Option<Response> },
}

/// A connection that somebody else has upgraded.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) socket: OwnedFd,
    /// What has been read behind the request already.
    pub(crate) leftover: Vec<u8>,
    /// The handler's state.
    pub(crate) state: Box<dyn Any + Send>,
}

impl<C> Command<C> {
    /// How many connections it is about, for one that may be about many.
    pub(crate) fn connections(&self) -> usize {
        if let Self::SendMany { keys, .. } = self { keys.len() } else { 1 }
    }

    /// Bytes of messages in it, and of lists of connections.
    fn bytes(&self) -> usize {
        match self {
            Self::Publish { frame, .. } | Self::Send { frame, .. } => frame.len(),
            Self::SendMany { keys, frame } => frame.len() + size_of_val(&**keys),
            Self::Adopt(adopted) => adopted.leftover.len(),
            Self::Close { .. }
            | Self::Terminate { .. }
            | Self::Custom(_)
            | Self::Answer { .. }
            | Self::Respond { .. } => 0,
        }
    }
}

pub(crate) struct Mailbox<C> {
    commands: SegQueue<Command<C>>,
    room: Room,
    waiting: Waiting,
    stop: AtomicBool,
    /// The shard is gone: nothing will be taken any more.
    ended: AtomicBool,
    /// Commands that were queued and will not be carried out.
    lost: AtomicU64,
    /// Those of them whose `Drop` panicked.
    panics: AtomicU64,
    /// Commands for which there was no room.
    refused: AtomicU64,
    pub(crate) sleep: SleepFlag,
    waker: Arc<Waker>,
    /// The waker was used since the simulator looked last.
    #[cfg(any(test, feature = "sim"))]
    roused: AtomicBool,
    /// Padded: written every tick, while the flag above is read by every publisher.
    pub(crate) metrics: CachePadded<MetricsCells>,
}

/// How much may wait in the queue, and does.
struct Room {
    entries: AtomicUsize,
    bytes: AtomicUsize,
    entries_max: usize,
    bytes_max: usize,
}

impl Room {
    fn new(entries_max: usize, bytes_max: usize) -> Self {
        let (entries, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { entries, bytes, entries_max, bytes_max }
    }

    /// Takes room for one command. An empty queue takes one of any size.
    fn take(&self, bytes: usize) -> bool {
        if self.entries.fetch_add(1, Ordering::SeqCst) >= self.entries_max {
            self.entries.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        let before = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        if bytes > 0 && before > 0 && before.saturating_add(bytes) > self.bytes_max {
            self.give_back(bytes);
            return false;
        }
        true
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.entries.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Those who wait for room.
#[derive(Default)]
struct Waiting {
    /// How many there are: the shard takes the lock only if there is somebody.
    count: AtomicUsize,
    tasks: Mutex<Vec<task::Waker>>,
    threads: Condvar,
}

impl Waiting {
    /// There is room, or the shard has ended.
    fn wake(&self) {
        // Against whoever counts himself and then looks for room: whichever comes second sees
        // the other's store.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut tasks = self.tasks.lock();
        self.count.fetch_sub(tasks.len(), Ordering::SeqCst);
        let woken = std::mem::take(&mut *tasks);
        self.threads.notify_all();
        drop(tasks);
        woken.into_iter().for_each(task::Waker::wake);
    }
}

/// A command that was not queued, and why.
pub(crate) struct Refused<C> {
    pub(crate) command: Command<C>,
    pub(crate) error: HandleError,
}

impl<C> Mailbox<C> {
    pub(crate) fn new(config: &Config, waker: Waker) -> Self {
        Self {
            commands: SegQueue::new(),
            room: Room::new(config.command_entries, config.command_bytes_max),
            waiting: Waiting::default(),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            sleep: SleepFlag::new(),
            waker: Arc::new(waker),
            #[cfg(any(test, feature = "sim"))]
            roused: AtomicBool::new(false),
            metrics: CachePadded::default(),
        }
    }

    /// What the shard's driver polls, for callers that have no driver, and for those on epoll.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Leaves a command, from any thread. What was left is carried out, or counted as lost if
    /// the shard ends first. What was refused is counted as well.
    pub(crate) fn push(&self, command: Command<C>) -> Result<(), HandleError> {
        self.try_push(command).map_err(|Refused { error, .. }| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            error
        })
    }

    /// Leaves the answer to a ticket, whether there is room or not: there are no more tickets than
    /// connections.
    pub(crate) fn push_answer(&self, answer: Command<C>) {
        self.room.entries.fetch_add(1, Ordering::SeqCst);
        self.enqueue(answer);
    }

    /// Leaves a command as soon as there is room for it, from a thread that is no shard.
    pub(crate) fn push_waiting(&self, command: Command<C>) -> Result<(), HandleError> {
        let mut refused = match self.try_push(command) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let mut tasks = self.waiting.tasks.lock();
        self.waiting.count.fetch_add(1, Ordering::SeqCst);
        let pushed = loop {
            refused = match self.try_push(refused.command) {
                Ok(()) => break Ok(()),
                Err(Refused { error, .. }) if error != HandleError::Busy => break Err(error),
                Err(refused) => refused,
            };
            self.waiting.threads.wait(&mut tasks);
        };
        self.waiting.count.fetch_sub(1, Ordering::SeqCst);
        pushed
    }

    /// Leaves a command if there is room for it; else has the task woken when there may be.
    pub(crate) fn poll_push(
        &self,
        command: Command<C>,
        cx: &mut task::Context<'_>,
    ) -> Result<(), Refused<C>> {
        let refused = match self.try_push(command) {
            Err(refused) if refused.error == HandleError::Busy => refused,
            pushed => return pushed,
        };
        let mut tasks = self.waiting.tasks.lock();
        // One that polls twice is woken twice.
        tasks.push(cx.waker().clone());
        self.waiting.count.fetch_add(1, Ordering::SeqCst);
        drop(tasks);
        self.try_push(refused.command)
    }

    fn try_push(&self, command: Command<C>) -> Result<(), Refused<C>> {
        if self.ended.load(Ordering::Acquire) {
            return Err(Refused { command, error: HandleError::Stopped });
        }
        if !self.room.take(command.bytes()) {
            return Err(Refused { command, error: HandleError::Busy });
        }
        self.enqueue(command);
        Ok(())
    }

    fn enqueue(&self, command: Command<C>) {
        self.commands.push(command);
        // Against `end`: whichever fence comes second sees the other side's store, so a command
        // pushed while the shard ends is counted by it or by us.
        fence(Ordering::SeqCst);
        if self.ended.load(Ordering::Relaxed) {
            self.count_lost();
        }
        self.rouse_by_eventfd();
    }

    /// Asks the shard to drain and end, from any thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Whether it sleeps or not: if whoever roused it last has died before waking it, the
        // flag is down and the shard asleep.
        self.sleep.lower();
        self.wake();
    }

    fn rouse_by_eventfd(&self) {
        if self.sleep.rouse() {
            self.wake();
        }
    }

    fn wake(&self) {
        #[cfg(any(test, feature = "sim"))]
        self.roused.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Takes the next command. To be followed by [`wake_waiting`](Self::wake_waiting).
    pub(crate) fn pop(&self) -> Option<Command<C>> {
        let command = self.commands.pop()?;
        self.room.give_back(command.bytes());
        Some(command)
    }

    /// Commands have been taken: who waits for room may try again.
    pub(crate) fn wake_waiting(&self) {
        self.waiting.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The shard is gone: further commands are refused, and those still queued are lost.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.count_lost();
        self.waiting.wake();
    }

    fn count_lost(&self) {
        while let Some(command) = self.pop() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            // The application's code, on the way to the end of a shard or of another thread's call.
            if guard(|| drop(command)).is_none() {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A callback's command for its own shard for which there was no room.
    pub(crate) fn count_own_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections of the shard, at most one tick ago.
    pub(crate) fn connections(&self) -> u64 {
        self.metrics.connections()
    }

    pub(crate) fn add_metrics_to(&self, sum: &mut Metrics) {
        self.metrics.add_to(sum);
        sum.commands_lost += self.lost.load(Ordering::Relaxed);
        sum.panics += self.panics.load(Ordering::Relaxed);
        sum.commands_refused += self.refused.load(Ordering::Relaxed);
    }

    /// Whether the shard was woken by its eventfd since this was asked last.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn take_roused(&self) -> bool {
        self.roused.swap(false, Ordering::Relaxed)
    }

    /// How many commands wait, and the bytes of the messages in them.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn waiting_now(&self) -> (usize, usize) {
        let Room { entries, bytes, .. } = &self.room;
        (entries.load(Ordering::SeqCst), bytes.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests;
