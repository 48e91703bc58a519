//! Publishes. They come in from the broadcast rings of other shards, and go out to this shard's
//! subscribers and into this shard's broadcast ring.

use ringwire_proto::CloseCode;

use super::Shard;
use super::core::Publication;
use super::lent::Lent;
use crate::config::Overflow;
use crate::connection::slot::Stage;
use crate::driver::Driver;
use crate::handler::{Gap, Handler};
use crate::protocol::websocket::PANICKED;

impl<H: Handler, D: Driver> Shard<H, D> {
    /// Takes what other shards have published into this tick's log.
    pub(super) fn take_broadcasts(&mut self) {
        for reader in 0..self.links.readers.len() {
            if !self.links.readers[reader].is_behind() {
                continue;
            }
            let mut publications = std::mem::take(&mut self.publications);
            let from = &mut self.links.readers[reader];
            let lost = from.read(self.core.tick_limits.taken_max, &mut publications);
            if lost > 0 {
                let publishes = lost + from.lost_surplus();
                self.lose(publishes);
            }
            for publication in publications.drain(..) {
                match publication {
                    Publication::Frame { topic, frame } => {
                        self.core.publish_from_afar(&topic, &frame);
                    }
                    Publication::Gap { surplus, .. } => {
                        let publishes = 1 + self.links.readers[reader].count_surplus(surplus);
                        self.lose(publishes);
                    }
                }
            }
            self.publications = publications;
        }
    }

    #[cold]
    fn lose(&mut self, publishes: u64) {
        self.core.metrics.publishes_lost += publishes;
        self.tell_gap(publishes);
    }

    /// Subscribers have missed something, and nobody knows who: a connection that must see every
    /// message is closed, any other is told.
    #[cold]
    fn tell_gap(&mut self, publishes: u64) {
        if self.gap_warned.is_due(self.core.now_ms) {
            tracing::warn!(
                shard = self.links.shard,
                publishes,
                "publishes of other shards lost, because this shard fell behind: see \
                 broadcast_entries; publishes_lost counts them"
            );
        }
        for key in self.connections.keys() {
            let Self { connections, handler, core, desk, .. } = self;
            // A callback about another one may have ended it.
            let Some((slot, others)) = connections.lend(key) else { continue };
            let session = &mut slot.session;
            if session.subscriptions.is_none() || !session.is_served() {
                continue;
            }
            session.serve_published(core);
            if core.config.overflow == Overflow::Close {
                session.fail_later(core, CloseCode::TRY_AGAIN_LATER, "publishes lost");
                continue;
            }
            let mut lent = Lent { handler, core, desk, others };
            let gap = Gap { publishes };
            let returned =
                lent.call(session, |handler, conn, state| handler.on_gap(conn, state, gap));
            if returned.is_none() {
                let (code, reason) = PANICKED;
                self.fail(key, code, reason);
            }
        }
    }

    /// Ends the tick's log: each subscriber takes its part, and the other shards theirs.
    pub(super) fn hand_out_publishes(&mut self) {
        if !self.core.log.is_empty() {
            self.hand_out_here();
        }
        if self.core.publishes_unlogged > 0 {
            let publishes = std::mem::take(&mut self.core.publishes_unlogged);
            self.tell_gap(publishes);
        }
        // What was told of a gap may have published, and the log names topics.
        if self.core.log.is_empty() {
            self.core.topics.forget_deserted();
        }
        self.links.publisher.clear_read();
        if !self.core.outbox.is_empty() {
            self.hand_out_to_others();
        }
    }

    fn hand_out_here(&mut self) {
        let Self { connections, core, deliveries, .. } = self;
        let tick = core.log.seal();
        deliveries.begin(&tick);
        for index in 0..deliveries.topics() {
            let topic = deliveries.topic(index);
            // Nobody joins or leaves while no callback runs, so the places stay good.
            for place in 0..core.topics.subscribers(topic).len() {
                let slot = core.topics.subscribers(topic)[place];
                let session = &mut connections.tenant_mut(slot).slot.session;
                debug_assert_eq!(session.stage, Stage::Open, "leaving is part of closing");
                let Some(subscriptions) = &session.subscriptions else { continue };
                if subscriptions.position <= tick.start {
                    let delivery = deliveries.of(&tick, subscriptions);
                    session.take_delivery(core, delivery, tick.end);
                } else if subscriptions.position < tick.end {
                    session.take_rest(core, &tick);
                }
            }
        }
        deliveries.end();
        core.log.restart(tick);
    }

    fn hand_out_to_others(&mut self) {
        while let Some(mut publication) = self.core.outbox.pop_front() {
            let bytes = publication.bytes();
            let mut handed_surplus = self.core.gap_surplus;
            if let Publication::Gap { publishes, surplus } = &mut publication {
                handed_surplus += *publishes - 1;
                *surplus = handed_surplus;
                self.links.publisher.weigh(handed_surplus);
            }
            if let Err(refused) = self.links.publisher.publish(publication, bytes) {
                // A reader too far behind is reading right now: the rest waits a tick.
                self.core.outbox.push_front(refused);
                break;
            }
            self.core.outbox_bytes -= bytes;
            self.core.gap_surplus = handed_surplus;
        }
        for shard in 0..self.links.mailboxes.len() {
            if shard != self.links.shard && self.links.mailboxes[shard].sleep.rouse() {
                self.driver.wake(shard);
            }
        }
    }
}
