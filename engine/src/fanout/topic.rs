//! The topics of one shard and their subscribers. The publishes of a tick are in
//! `publish_log.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

/// A topic of this shard, which exists while it has a subscriber and until the tick ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicId(pub(crate) u32);

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

    /// The topics subscribed to, in no order.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.topics.iter().map(|subscription| subscription.topic)
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

    /// What a topic is called.
    pub(crate) fn name_of(&self, topic: TopicId) -> &str {
        &self.topics[topic.0 as usize].name
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
}
