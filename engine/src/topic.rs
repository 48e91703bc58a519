//! Topics of one shard: who subscribes to what, and the log of this tick's publishes.
//!
//! A publish appends its frame to the log once and touches no subscriber. When the tick
//! ends, the log becomes one shared run of bytes, and every subscriber gets references to
//! the stretches meant for it. Each connection's `position` says how far into the log of
//! all time it has been served; a direct send first serves the publishes before it, so what
//! a connection sees is in the order of the program. This file never sends anything.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

/// A topic of this shard, which exists while it has a subscriber and until the tick ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicId(u32);

/// What one connection is subscribed to. Boxed: most connections of most servers have none.
#[derive(Default)]
pub(crate) struct Subscriptions {
    topics: Vec<Subscription>,
    /// Bytes of the log of all time this connection has been served.
    pub(crate) position: u64,
}

#[derive(Clone, Copy)]
struct Subscription {
    topic: TopicId,
    /// Where in the topic's list of subscribers this connection stands.
    index: u32,
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn contains(&self, topic: TopicId) -> bool {
        self.topics.iter().any(|subscription| subscription.topic == topic)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn index_of(&self, topic: TopicId) -> Option<u32> {
        let subscription = self.topics.iter().find(|subscription| subscription.topic == topic);
        subscription.map(|subscription| subscription.index)
    }

    fn set_index(&mut self, topic: TopicId, index: u32) {
        let subscription = self.topics.iter_mut().find(|subscription| subscription.topic == topic);
        subscription.expect("a topic lists only its subscribers").index = index;
    }
}

struct Topic {
    name: Arc<str>,
    /// Slots, in no order.
    subscribers: Vec<u32>,
}

/// The topics of a shard.
#[derive(Default)]
pub(crate) struct Topics {
    ids: HashMap<Arc<str>, TopicId>,
    topics: Slab<Topic>,
    /// Topics that have lost their last subscriber in this tick. The log may still name
    /// them, so their ids are not used again before it is handed out.
    deserted: Vec<TopicId>,
}

/// A subscriber that changed places in a topic's list because another one left.
pub(crate) struct Moved {
    pub(crate) slot: u32,
    topic: TopicId,
    index: u32,
}

impl Moved {
    pub(crate) fn note(&self, subscriptions: &mut Subscriptions) {
        subscriptions.set_index(self.topic, self.index);
    }
}

impl Topics {
    pub(crate) fn find(&self, name: &str) -> Option<TopicId> {
        self.ids.get(name).copied()
    }

    /// The topic's name to be shared; one nobody here subscribes to is copied.
    pub(crate) fn name(&self, name: &str) -> Arc<str> {
        match self.find(name) {
            Some(topic) => Arc::clone(&self.topics[topic.0 as usize].name),
            None => name.into(),
        }
    }

    pub(crate) fn subscribers(&self, topic: TopicId) -> &[u32] {
        &self.topics[topic.0 as usize].subscribers
    }

    /// Adds `slot` to the topic. The caller has made sure that it was not subscribed.
    pub(crate) fn subscribe(&mut self, name: &str, slot: u32, subscriptions: &mut Subscriptions) {
        let topic = self.find(name).unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            let topic = Topic { name: Arc::clone(&name), subscribers: Vec::new() };
            let id = TopicId(self.topics.insert(topic) as u32);
            self.ids.insert(name, id);
            id
        });
        let subscribers = &mut self.topics[topic.0 as usize].subscribers;
        let index = subscribers.len() as u32;
        subscribers.push(slot);
        subscriptions.topics.push(Subscription { topic, index });
    }

    /// Takes the connection out of a topic. The subscriber that took its place in the list,
    /// if any, must be told.
    pub(crate) fn unsubscribe(
        &mut self,
        topic: TopicId,
        subscriptions: &mut Subscriptions,
    ) -> Option<Moved> {
        let at =
            subscriptions.topics.iter().position(|subscription| subscription.topic == topic)?;
        let index = subscriptions.topics.swap_remove(at).index;
        let subscribers = &mut self.topics[topic.0 as usize].subscribers;
        subscribers.swap_remove(index as usize);
        if let Some(&slot) = subscribers.get(index as usize) {
            return Some(Moved { slot, topic, index });
        }
        if subscribers.is_empty() {
            self.deserted.push(topic);
        }
        None
    }

    /// Forgets the topics nobody is subscribed to. To be called when the log is empty.
    pub(crate) fn forget_deserted(&mut self) {
        for topic in self.deserted.drain(..) {
            let id = topic.0 as usize;
            // It may have gained a subscriber again, or have been deserted twice.
            if self.topics.get(id).is_some_and(|topic| topic.subscribers.is_empty()) {
                let topic = self.topics.remove(id);
                self.ids.remove(&topic.name);
            }
        }
    }

    /// Shows every subscriber of every topic with its place in the list.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check(&self, mut look: impl FnMut(u32, TopicId, u32)) {
        for (id, topic) in &self.topics {
            for (index, &slot) in topic.subscribers.iter().enumerate() {
                look(slot, TopicId(id as u32), index as u32);
            }
        }
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check_empty(&self) {
        assert!(self.topics.is_empty() && self.ids.is_empty(), "a topic of nobody");
    }

    /// Any topic the connection is subscribed to: for leaving them all.
    pub(crate) fn any_of(subscriptions: &Subscriptions) -> Option<TopicId> {
        subscriptions.topics.last().map(|subscription| subscription.topic)
    }
}

/// Consecutive publishes to one topic: a range of the log of all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) topic: TopicId,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The frames published in this tick, in the order of the program.
#[derive(Default)]
pub(crate) struct Log {
    /// The run being written: nobody else refers to it until it is sealed.
    run: Rc<Vec<u8>>,
    stretches: Vec<Stretch>,
    /// Position of the run's first byte in the log of all time.
    start: u64,
    /// Runs of earlier ticks, oldest first. Once their subscribers have sent them, their
    /// memory is used again.
    retired: VecDeque<Rc<Vec<u8>>>,
    /// The longest run so far.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) run_bytes_max: usize,
}

/// Runs kept for reuse. More are in use only while some subscriber is slow, and then it is
/// the subscribers that keep them.
const RETIRED_MAX: usize = 8;
/// A run that a burst has grown beyond this is not kept for reuse: a reference to a few of
/// its bytes keeps all of its memory.
const RETIRED_BYTES_MAX: usize = 64 << 10;
/// Most bytes published in one tick of one shard; offsets into a run are 32 bits wide.
/// Reached only by a handler that publishes a gigabyte at once.
const LOG_BYTES_MAX: usize = 1 << 30;

impl Log {
    pub(crate) fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    /// Position in the log of all time behind everything published so far.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.run.len() as u64
    }

    /// Whether a frame of that size still fits into this tick.
    pub(crate) fn has_room(&self, frame_bytes: usize) -> bool {
        self.run.len() + frame_bytes <= LOG_BYTES_MAX
    }

    /// Adds one frame for the subscribers of `topic`.
    pub(crate) fn append(&mut self, topic: TopicId, append: impl FnOnce(&mut Vec<u8>)) {
        let start = self.end();
        append(Rc::get_mut(&mut self.run).expect("an unsealed run is nobody else's"));
        let end = self.end();
        match self.stretches.last_mut() {
            Some(last) if last.topic == topic => last.end = end,
            _ => self.stretches.push(Stretch { topic, start, end }),
        }
    }

    /// The stretches that reach beyond `position`, by index.
    pub(crate) fn stretches_after(&self, position: u64) -> Range<usize> {
        self.stretches.partition_point(|stretch| stretch.end <= position)..self.stretches.len()
    }

    pub(crate) fn stretch(&self, index: usize) -> Stretch {
        self.stretches[index]
    }

    /// The bytes of `stretch` from `position` on.
    pub(crate) fn bytes_after(&self, stretch: Stretch, position: u64) -> &[u8] {
        let start = stretch.start.max(position) - self.start;
        &self.run[start as usize..(stretch.end - self.start) as usize]
    }

    /// Ends the tick: the log as one shared run that begins at the returned position, and
    /// its stretches. Give the latter back with [`Log::restart`].
    pub(crate) fn seal(&mut self) -> (Rc<Vec<u8>>, u64, Vec<Stretch>) {
        let start = self.start;
        self.start = self.end();
        let fresh = self.unused_run();
        let run = std::mem::replace(&mut self.run, fresh);
        #[cfg(any(test, feature = "sim"))]
        {
            self.run_bytes_max = self.run_bytes_max.max(run.len());
        }
        if run.capacity() <= RETIRED_BYTES_MAX {
            if self.retired.len() == RETIRED_MAX {
                self.retired.pop_front();
            }
            self.retired.push_back(Rc::clone(&run));
        }
        (run, start, std::mem::take(&mut self.stretches))
    }

    /// Takes the emptied list of stretches back, for its memory.
    pub(crate) fn restart(&mut self, mut stretches: Vec<Stretch>) {
        stretches.clear();
        self.stretches = stretches;
    }

    /// An empty run: a retired one nobody refers to any more, else a new one.
    fn unused_run(&mut self) -> Rc<Vec<u8>> {
        let unused = self.retired.iter_mut().position(|run| Rc::get_mut(run).is_some());
        let mut run = unused.and_then(|at| self.retired.remove(at)).unwrap_or_default();
        Rc::get_mut(&mut run).expect("just seen to be the only reference").clear();
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_lives_as_long_as_it_has_subscribers() {
        let mut topics = Topics::default();
        let mut subscriptions = [Subscriptions::default(), Subscriptions::default()];
        for (slot, subscriptions) in subscriptions.iter_mut().enumerate() {
            topics.subscribe("news", slot as u32, subscriptions);
        }
        let news = topics.find("news").unwrap();
        assert_eq!(topics.subscribers(news), [0, 1]);
        let moved = topics.unsubscribe(news, &mut subscriptions[0]).unwrap();
        assert_eq!(moved.slot, 1);
        moved.note(&mut subscriptions[1]);
        assert_eq!(topics.subscribers(news), [1]);
        assert!(topics.unsubscribe(news, &mut subscriptions[0]).is_none());
        assert!(topics.unsubscribe(news, &mut subscriptions[1]).is_none());
        assert_eq!(topics.find("news"), Some(news));
        topics.forget_deserted();
        assert_eq!(topics.find("news"), None);
        assert!(topics.topics.is_empty());
    }

    #[test]
    fn consecutive_publishes_to_one_topic_are_one_stretch() {
        let (a, b) = (TopicId(0), TopicId(1));
        let mut log = Log::default();
        for (topic, frame) in [(a, "1"), (a, "22"), (b, "3"), (a, "4")] {
            log.append(topic, |bytes| bytes.extend_from_slice(frame.as_bytes()));
        }
        let after = |position| -> Vec<(TopicId, Vec<u8>)> {
            let stretches = log.stretches_after(position).map(|index| log.stretch(index));
            stretches.map(|s| (s.topic, log.bytes_after(s, position).to_vec())).collect()
        };
        assert_eq!(after(0), [(a, b"122".to_vec()), (b, b"3".to_vec()), (a, b"4".to_vec())]);
        assert_eq!(after(2), [(a, b"2".to_vec()), (b, b"3".to_vec()), (a, b"4".to_vec())]);
        assert_eq!(after(5), []);
    }

    #[test]
    fn a_run_nobody_holds_is_used_again() {
        let mut log = Log::default();
        let publish = |log: &mut Log| {
            log.append(TopicId(0), |bytes| bytes.extend_from_slice(b"frame"));
            let (run, start, stretches) = log.seal();
            log.restart(stretches);
            (run, start)
        };
        let (held, start) = publish(&mut log);
        assert_eq!(start, 0);
        let (free, start) = publish(&mut log);
        assert_eq!(start, 5);
        let address = free.as_ptr();
        drop(free);
        let reused = (0..3).any(|_| publish(&mut log).0.as_ptr() == address);
        assert!(reused);
        assert_eq!(**held, *b"frame");
    }

    #[test]
    fn no_more_runs_are_kept_than_may_be_used_again() {
        let mut log = Log::default();
        let held: Vec<_> = (0..=RETIRED_MAX)
            .map(|_| {
                log.append(TopicId(0), |bytes| bytes.extend_from_slice(b"frame"));
                let (run, _, stretches) = log.seal();
                log.restart(stretches);
                run
            })
            .collect();
        let references: Vec<usize> = held.iter().map(Rc::strong_count).collect();
        let kept_by_the_log = [2; RETIRED_MAX];
        assert_eq!(references, [&[1], &kept_by_the_log[..]].concat(), "the oldest is let go");
    }
}
