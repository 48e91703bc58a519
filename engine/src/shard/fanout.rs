//! Publishes and other threads' commands: in from the broadcast rings and the mailbox, out
//! to this shard's subscribers and to the other shards' rings.

use std::rc::Rc;

use super::Shard;
use crate::driver::{Driver, Run};
use crate::handler::Handler;
use crate::mailbox::Command;
use crate::slot::Stage;

/// Entries taken from one ring, and commands from the mailbox, per tick: as many as a full
/// batch of completions may bring, so that neither side starves the other.
const TAKEN_PER_TICK_MAX: usize = 512;

impl<H: Handler, D: Driver> Shard<H, D> {
    /// Takes what other shards have published into this tick's log.
    pub(super) fn take_broadcasts(&mut self) {
        for reader in &mut self.links.readers {
            if reader.is_behind() {
                let lost = reader.read(TAKEN_PER_TICK_MAX, &mut self.publications);
                self.core.metrics.publishes_lost += lost;
            }
        }
        for publication in self.publications.drain(..) {
            self.core.publish_from_afar(&publication);
        }
    }

    pub(super) fn take_commands(&mut self) {
        for _ in 0..TAKEN_PER_TICK_MAX {
            let Some(command) = self.mailbox().pop() else {
                break;
            };
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Publish { topic, frame } => self.core.publish_frame(topic, frame),
            Command::Send { key, frame } => {
                if let Some(slot) = self.connections.get_mut(key) {
                    slot.session.send_frame(&mut self.core, &frame);
                }
            }
            Command::Close { key, code, reason } => {
                if let Some(slot) = self.connections.get_mut(key) {
                    slot.session.close(&mut self.core, code, &reason);
                    self.note_moved();
                }
            }
        }
    }

    /// Ends the tick's log: each subscriber takes its part, and the other shards theirs.
    pub(super) fn hand_out_publishes(&mut self) {
        if !self.core.log.is_empty() {
            self.hand_out_here();
        }
        self.core.topics.forget_deserted();
        self.links.publisher.clear_read();
        if !self.core.outbox.is_empty() {
            self.hand_out_to_others();
        }
    }

    fn hand_out_here(&mut self) {
        let (bytes, run_start, stretches) = self.core.log.seal();
        for stretch in &stretches {
            let run = Run {
                bytes: Rc::clone(&bytes),
                start: (stretch.start - run_start) as u32,
                end: (stretch.end - run_start) as u32,
            };
            // Nobody joins or leaves while no callback runs, so the index stays good.
            for index in 0..self.core.topics.subscribers(stretch.topic).len() {
                let slot = self.core.topics.subscribers(stretch.topic)[index];
                let session = &mut self.connections.tenant_mut(slot).session;
                debug_assert_eq!(session.stage, Stage::Open, "leaving is part of closing");
                session.take_run(&mut self.core, run_start, &run, stretch.end);
            }
        }
        self.core.log.restart(stretches);
    }

    fn hand_out_to_others(&mut self) {
        while let Some(publication) = self.core.outbox.pop_front() {
            let bytes = publication.frame.len();
            if let Err(refused) = self.links.publisher.publish(publication, bytes) {
                // A reader too far behind is reading right now: the rest waits a tick.
                self.core.outbox.push_front(refused);
                break;
            }
            self.core.outbox_bytes -= bytes;
        }
        for shard in 0..self.links.mailboxes.len() {
            if shard != self.links.shard && self.links.mailboxes[shard].sleep.rouse() {
                self.driver.wake(shard);
            }
        }
    }
}
