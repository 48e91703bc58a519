//! The topics of a connection, and what it publishes.

use ringwire_proto::Message;

use super::slot::Session;
use crate::error::SubscribeError;
use crate::fanout::topic::{Subscriptions, Topics};
use crate::shard::core::Core;

impl<S> Session<S> {
    pub(crate) fn subscribe(&mut self, core: &mut Core, name: &str) -> Result<(), SubscribeError> {
        if name.len() > core.config.topic_bytes_max {
            return Err(SubscribeError::TooLong);
        }
        if !self.is_served() {
            return Ok(());
        }
        self.serve_published(core);
        let known = core.topics.find(name);
        let held = self.subscriptions.as_deref();
        if known.is_some_and(|topic| held.is_some_and(|held| held.contains(topic))) {
            return Ok(());
        }
        if held.map_or(0, Subscriptions::len) >= core.config.subscriptions_max {
            return Err(SubscribeError::TooMany);
        }
        let subscriptions = self.subscriptions.get_or_insert_default();
        core.topics.subscribe(name, self.key.slot, subscriptions);
        subscriptions.position = core.log.end();
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, core: &mut Core, name: &str) -> bool {
        self.serve_published(core);
        let Some(topic) = core.topics.find(name) else {
            return false;
        };
        let Some(subscriptions) = &mut self.subscriptions else {
            return false;
        };
        if !subscriptions.contains(topic) {
            return false;
        }
        core.moved.extend(core.topics.unsubscribe(topic, subscriptions));
        if subscriptions.len() == 0 {
            self.subscriptions = None;
        }
        true
    }

    pub(crate) fn unsubscribe_all(&mut self, core: &mut Core) {
        let Some(mut subscriptions) = self.subscriptions.take() else {
            return;
        };
        while let Some(topic) = Topics::any_of(&subscriptions) {
            core.moved.extend(core.topics.unsubscribe(topic, &mut subscriptions));
        }
    }

    /// Publishes to all subscribers but this connection.
    pub(crate) fn publish(&mut self, core: &mut Core, topic: &str, message: Message<'_>) {
        if self.subscriptions.is_none() {
            return core.publish(topic, message);
        }
        self.serve_published(core);
        core.publish(topic, message);
        if let Some(subscriptions) = &mut self.subscriptions {
            subscriptions.position = core.log.end();
        }
    }
}
