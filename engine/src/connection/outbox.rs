//! What a connection has to send: direct messages, publishes and control frames, with the room there
//! is for them, the high-water mark, and what happens beyond.

use std::rc::Rc;

use ringwire_proto::{Message, Outgoing, Unmasked, frame_header_bytes};

use super::closing::WRITE_BUFFER_FULL;
use super::slot::{Marks, Pending, Session, Stage};
use super::write_buffer::{CONTROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX};
use crate::config::Overflow;
use crate::connection::send_status::SendStatus;
use crate::driver::Run;
use crate::fanout::publish_log::{Delivery, Part, SealedTick, frames};
use crate::shard::core::Core;

impl<S> Session<S> {
    /// Queues one message in a callback about this connection, in the order of the program with
    /// what was published.
    #[inline]
    pub(crate) fn send(&mut self, core: &mut Core, message: Message<'_>) -> SendStatus {
        let payload_bytes = message.payload().len();
        let frame_bytes = frame_header_bytes(payload_bytes) + payload_bytes;
        self.send_with(core, frame_bytes, |session, core| {
            let is_first = core.forward.is_showing() && !session.writes.is_waiting();
            if is_first && core.forward.claim(message) {
                session.writes.reserve_first(frame_bytes);
            } else {
                let Self { outgoing, writes, .. } = session;
                writes.append(&mut core.pool, frame_bytes, |out| outgoing.message(out, message));
            }
        })
    }

    /// Queues one message in a callback about another connection: if it is that one's message, it
    /// is copied.
    pub(crate) fn send_other(&mut self, core: &mut Core, message: Message<'_>) -> SendStatus {
        let frame_bytes = frame_header_bytes(message.payload().len()) + message.payload().len();
        self.send_with(core, frame_bytes, |session, core| {
            let Self { outgoing, writes, .. } = session;
            writes.append(&mut core.pool, frame_bytes, |out| outgoing.message(out, message));
        })
    }

    /// Queues an encoded data frame of another thread.
    pub(crate) fn send_frame(&mut self, core: &mut Core, frame: &[u8]) -> SendStatus {
        self.send_with(core, frame.len(), |session, core| {
            session.writes.append(&mut core.pool, frame.len(), |out| {
                out.extend_from_slice(frame);
            });
        })
    }

    /// Queues an encoded data frame that others share.
    pub(crate) fn send_shared(&mut self, core: &mut Core, frame: &Rc<Vec<u8>>) -> SendStatus {
        self.send_with(core, frame.len(), |session, core| {
            session.writes.attach(&mut core.pool, Run::whole(frame), session.sending);
        })
    }

    #[inline]
    fn send_with(
        &mut self,
        core: &mut Core,
        frame_bytes: usize,
        queue: impl FnOnce(&mut Self, &mut Core),
    ) -> SendStatus {
        self.serve_published(core);
        // Behind a message that did not fit nothing smaller may slip in: that would be a hole.
        if self.stage != Stage::Open || self.is_failing() {
            return SendStatus::Dropped;
        }
        if !self.has_room(core, frame_bytes) {
            self.overflow(core);
            return SendStatus::Dropped;
        }
        queue(self, core);
        core.metrics.messages_sent += 1;
        self.mark_dirty(core);
        self.note_mark(core)
    }

    /// A message that arrives when nothing is queued always fits; else the sum counts.
    fn has_room(&self, core: &Core, frame_bytes: usize) -> bool {
        let unsent = self.writes.unsent_bytes();
        let is_alone = unsent == 0 && frame_bytes <= FRAME_BYTES_MAX;
        is_alone || unsent + frame_bytes <= core.config.write_bytes_max
    }

    fn note_mark(&mut self, core: &mut Core) -> SendStatus {
        if self.writes.unsent_bytes() <= core.config.write_bytes_mark {
            return SendStatus::Queued;
        }
        self.marks.insert(Marks::OVER_MARK);
        core.is_quiet = false;
        SendStatus::Backpressure
    }

    #[cold]
    fn overflow(&mut self, core: &mut Core) {
        core.metrics.messages_dropped += 1;
        if core.config.overflow == Overflow::Close {
            let (code, reason) = WRITE_BUFFER_FULL;
            self.fail_later(core, code, reason);
        }
    }

    /// Gives the connection what was published to its topics in this tick so far.
    #[inline]
    pub(crate) fn serve_published(&mut self, core: &mut Core) {
        if self.subscriptions.is_some() && !core.log.is_empty() {
            self.serve_published_now(core);
        }
    }

    #[cold]
    fn serve_published_now(&mut self, core: &mut Core) {
        let Some(mut subscriptions) = self.subscriptions.take() else {
            return;
        };
        let position = std::mem::replace(&mut subscriptions.position, core.log.end());
        let indexes = core.log.pieces_after(position);
        let pieces = indexes.clone().map(|index| core.log.piece(index));
        let wanted = pieces.filter(|piece| subscriptions.contains(piece.topic));
        let bytes = wanted.map(|piece| piece.bytes_after(position)).sum();
        let fits = self.has_room(core, bytes);
        if bytes > 0 && self.stage == Stage::Open && !self.is_failing() {
            let short = core.log.short();
            for index in indexes {
                let piece = core.log.piece(index);
                if subscriptions.contains(piece.topic) {
                    let part = piece.part_after(position, &short);
                    self.take_part(core, &part, fits);
                }
            }
            self.mark_dirty(core);
            self.note_mark(core);
        }
        self.subscriptions = Some(subscriptions);
    }

    /// Takes this connection's part of a tick that is over.
    #[inline]
    pub(crate) fn take_delivery(&mut self, core: &mut Core, delivery: &Delivery, end: u64) {
        if let Some(subscriptions) = &mut self.subscriptions {
            subscriptions.position = end;
            self.take_parts(core, &delivery.parts, delivery.bytes);
        }
    }

    /// Takes what this connection has not been served of a tick that is over.
    #[cold]
    pub(crate) fn take_rest(&mut self, core: &mut Core, tick: &SealedTick) {
        let Some(subscriptions) = &mut self.subscriptions else {
            return;
        };
        let position = std::mem::replace(&mut subscriptions.position, tick.end);
        let wanted = tick
            .pieces()
            .iter()
            .filter(|piece| piece.bytes_after(position) > 0 && subscriptions.contains(piece.topic));
        let parts: Vec<Part> =
            wanted.map(|piece| piece.part_after(position, tick.short())).collect();
        let bytes = parts.iter().map(|part| part.run().as_slice().len()).sum();
        self.take_parts(core, &parts, bytes);
    }

    /// Published bytes count like sent ones, but there is nobody to be answered.
    #[inline]
    fn take_parts(&mut self, core: &mut Core, parts: &[Part], bytes: usize) {
        if self.stage != Stage::Open || self.is_failing() || bytes == 0 {
            return;
        }
        let fits = self.has_room(core, bytes);
        parts.iter().for_each(|part| self.take_part(core, part, fits));
        self.mark_dirty(core);
        self.note_mark(core);
    }

    #[inline]
    fn take_part(&mut self, core: &mut Core, part: &Part, fits: bool) {
        match part {
            _ if !fits => self.take_frames_that_fit(core, part),
            Part::Shared(run) => {
                self.writes.attach(&mut core.pool, run.clone(), self.sending);
            }
            Part::Copied(run) => {
                let bytes = run.as_slice();
                self.writes.append(&mut core.pool, bytes.len(), |open| {
                    open.extend_from_slice(bytes);
                });
            }
        }
    }

    /// There is no room for all that was published: what fits goes, message by message, and each
    /// that does not is counted.
    #[cold]
    fn take_frames_that_fit(&mut self, core: &mut Core, part: &Part) {
        for frame in frames(part.run()) {
            // Behind what did not fit nothing slips in, where that closes the connection.
            if self.is_failing() || !self.has_room(core, frame.as_slice().len()) {
                self.overflow(core);
                continue;
            }
            let is_whole = frame.as_slice().len() == frame.bytes.len();
            // What is to be copied stays so, even if it is alone: the tick still writes there.
            let frame = match part {
                Part::Shared(_) if is_whole => Part::Shared(frame),
                _ => Part::Copied(frame),
            };
            self.take_part(core, &frame, true);
        }
    }

    /// Queues the application's ping, unless it cannot be sent any more or there is no room.
    pub(crate) fn ping(&mut self, core: &mut Core, payload: &[u8]) -> SendStatus {
        self.serve_published(core);
        let frame_bytes = frame_header_bytes(payload.len()) + payload.len();
        let is_queued = self.is_served()
            && self.has_room(core, frame_bytes)
            && self.control(core, |outgoing, out| outgoing.ping(out, payload).is_ok());
        self.pings_unanswered = self.pings_unanswered.saturating_add(u16::from(is_queued));
        if is_queued { self.note_mark(core) } else { SendStatus::Dropped }
    }

    /// Queues a ping of the engine's own. It needs no room: one at most is unanswered.
    pub(crate) fn heartbeat(&mut self, core: &mut Core) {
        let is_queued = self.control(core, |outgoing, out| outgoing.ping(out, b"").is_ok());
        self.pings_unanswered = self.pings_unanswered.saturating_add(u16::from(is_queued));
    }

    /// Answers a ping (RFC 6455 §5.5.2). Without room in the write buffer the newest is kept, to
    /// be answered when there is some (§5.5.3 allows to answer only that one).
    pub(crate) fn pong(&mut self, core: &mut Core, payload: &[u8]) {
        self.serve_published(core);
        if !self.has_room(core, frame_header_bytes(payload.len()) + payload.len()) {
            self.pending = Some(Box::new(Pending::Pong(payload.to_vec())));
            return;
        }
        self.control(core, |outgoing, out| outgoing.pong(out, payload).is_ok());
    }

    /// The pong that waits goes out, if there is room for it now.
    pub(crate) fn pong_if_room(&mut self, core: &mut Core) {
        if !matches!(self.pending.as_deref(), Some(Pending::Pong(_))) {
            return;
        }
        if let Some(Pending::Pong(payload)) = self.pending.take().as_deref() {
            self.pong(core, payload);
        }
    }

    fn control(
        &mut self,
        core: &mut Core,
        append: impl FnOnce(&mut Outgoing<Unmasked>, &mut Vec<u8>) -> bool,
    ) -> bool {
        if self.stage != Stage::Open {
            return false;
        }
        self.serve_published(core);
        let Self { outgoing, writes, .. } = self;
        let appended =
            writes.append(&mut core.pool, CONTROL_FRAME_BYTES_MAX, |out| append(outgoing, out));
        self.mark_dirty(core);
        appended
    }
}
