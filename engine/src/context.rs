//! What every callback may do beside its own connection: reach other connections, publish, set
//! timers, give commands to shards. It is lent for the time of a callback.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringwire_proto::CloseCode;

use crate::connection::conn_id::ConnId;
use crate::connection::connections::Neighbours;
use crate::connection::send_status::{SendCounts, SendStatus};
use crate::connection::slot::{Session, Stage};
use crate::driver::Key;
use crate::error::{HandleError, TooManyTimers};
use crate::handle::Handle;
use crate::handler::{Handler, Upgrade};
use crate::message::{AsMessage, encode};
use crate::shard::addressees::Addressees;
use crate::shard::app_timers::TimerId;
use crate::shard::core::Core;
use crate::shard::desk::Desk;
use crate::shard::mailbox::Command;
use crate::shard::place::Place;
use crate::ticket::{Ticket, Verdict};

/// The shard, as a callback gets it. `H` is the handler.
///
/// Connections are named by [`ConnId`]. One of this shard is reached at once, in the order of the
/// program. One of another shard is reached through that shard's queue, as by a
/// [`Handle`](crate::Handle).
pub struct Context<'a, H: Handler> {
    pub(crate) core: &'a mut Core,
    pub(crate) desk: &'a mut Desk<H::Command>,
    pub(crate) others: &'a mut (dyn Neighbours<H::State> + 'a),
    /// The connection that the callback is about, once it is open.
    pub(crate) current: Option<&'a mut Session<H::State>>,
    /// The connection that a request came by.
    pub(crate) requesting: Option<Key>,
}

/// A connection that a callback names: one of this shard, or another shard's.
enum Named<'c, S> {
    Here(&'c mut Session<S>, &'c mut Core),
    Elsewhere(u16),
    /// It has ended, or is another server's.
    Gone,
}

impl<H: Handler> Context<'_, H> {
    /// The number of this shard, from 0.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.core.shard
    }

    /// How many shards the server has.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.desk.shards()
    }

    /// Connections of this shard now: in the handshake, open or closing.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.others.taken()
    }

    /// Milliseconds on the shard's clock when the tick began. The clock never goes back, and stands
    /// still while the process is stopped.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.core.now_ms
    }

    /// A handle, to be given to other threads.
    #[must_use]
    pub fn handle(&self) -> Handle<H::Command> {
        self.desk.handle()
    }

    /// The address of the peer that the callback is about, or `None` in a callback about nobody, of
    /// a peer on a Unix socket, or if the socket has none any more. Behind a proxy it is the
    /// proxy's. Costs a system call (getpeername(2)).
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.others.peer_addr()
    }

    /// A ticket, to answer the handshake or the request of this callback later. The callback then
    /// returns [`Upgrade::later`] or [`Reply::later`](crate::Reply::later); if it returns another
    /// answer, the ticket has no effect.
    ///
    /// # Panics
    ///
    /// In any other callback than `on_upgrade` and `on_request`.
    pub fn ticket(&mut self) -> Ticket<H> {
        let key = self.requesting.expect("a ticket is for on_upgrade and on_request");
        self.core.ticket_serial = self.core.ticket_serial.wrapping_add(1);
        let serial = self.core.ticket_serial;
        let Core { server, shard, .. } = *self.core;
        Ticket::new(self.desk.handle(), Place { server, shard, key, serial })
    }

    /// Answers a ticket of this shard with an upgrade, after this callback. Unlike
    /// [`Ticket::upgrade`] it does not need a state that can be sent between threads.
    ///
    /// # Panics
    ///
    /// If it is a ticket of another shard ([`Ticket::shard`]) or server. The ticket is dropped then,
    /// which answers 500.
    pub fn answer(&mut self, ticket: Ticket<H>, upgrade: Upgrade<H::State>) {
        let place = ticket.place();
        let own = (self.core.server, self.core.shard);
        assert_eq!((place.server, place.shard), own, "a ticket is answered on its own shard");
        ticket.redeem();
        self.desk.answer(place, Box::new(Verdict::Upgrade(upgrade)));
    }

    /// Publishes a message to all subscribers of one topic, on every shard.
    pub fn publish_all(&mut self, topic: &str, message: impl AsMessage) {
        // Those who have left or joined in this callback keep their place in the order.
        self.core.publish(topic, message.as_message());
    }

    /// Sends a message to any connection.
    ///
    /// To one of this shard it is [`Conn::send`](crate::Conn::send). For one of another shard
    /// [`SendStatus::Queued`] means that the shard's queue has taken the message;
    /// [`SendStatus::Dropped`] that the queue was full, which
    /// [`Metrics::commands_refused`](crate::Metrics::commands_refused) counts.
    #[must_use = "a message to another shard is lost if that shard's queue is full"]
    pub fn send_to(&mut self, id: ConnId, message: impl AsMessage) -> SendStatus {
        let message = message.as_message();
        match self.find(id) {
            Named::Here(session, core) => session.send_other(core, message),
            Named::Gone => SendStatus::Gone,
            Named::Elsewhere(shard) => {
                let frame = encode(message).into();
                let told = self.desk.tell(shard, Command::Send { key: id.key, frame });
                SendStatus::of_command(told)
            }
        }
    }

    /// Sends one message to many connections, as [`send_to`](Self::send_to) does to each. A
    /// connection that is named twice gets it twice.
    ///
    /// The frame is encoded once. The connections of a shard share its memory where that is cheaper
    /// than a copy: if it is longer than 4 KiB, or if nothing else waits for the peer. Each other
    /// shard gets one command for up to 512 of its connections, with the same frame. For connections
    /// that get many messages in common, a [topic](crate::Conn::subscribe) is cheaper still.
    #[must_use = "a message to another shard is lost if that shard's queue is full"]
    pub fn send_many(
        &mut self,
        ids: impl IntoIterator<Item = ConnId>,
        message: impl AsMessage,
    ) -> SendCounts {
        let frame = Rc::new(encode(message.as_message()));
        let mut counts = SendCounts::default();
        let mut addressees = Addressees::default();
        for id in ids {
            match self.find(id) {
                Named::Here(session, core) => counts.add(session.send_shared(core, &frame), 1),
                Named::Gone => counts.add(SendStatus::Gone, 1),
                Named::Elsewhere(_) => addressees.add(id),
            }
        }
        if !addressees.is_empty() {
            let frame = Rc::try_unwrap(frame).unwrap_or_else(|shared| shared.to_vec());
            let tell = |shard, command| self.desk.tell(shard, command);
            addressees.send(&Bytes::from(frame), &mut counts, tell);
        }
        counts
    }

    /// Starts the closing handshake of any connection, as [`Conn::close`](crate::Conn::close) does.
    /// Has no effect if the connection has ended, or is another server's.
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`] if the connection's shard is another one whose queue is full,
    /// [`HandleError::Stopped`] if that one has ended.
    pub fn close_other(
        &mut self,
        id: ConnId,
        code: CloseCode,
        reason: &str,
    ) -> Result<(), HandleError> {
        // A closing connection leaves its topics by the places that it knows of, so each is to know
        // its place now: whoever leaves next may be one that this callback has moved.
        self.settle();
        match self.find(id) {
            Named::Here(session, core) => {
                session.close(core, code, reason);
            }
            Named::Gone => {}
            Named::Elsewhere(shard) => {
                let close = Command::Close { key: id.key, code, reason: reason.into() };
                return self.desk.tell(shard, close);
            }
        }
        self.settle();
        Ok(())
    }

    /// Cuts any connection off, as [`Conn::terminate`](crate::Conn::terminate) does. Has no effect
    /// if it has ended, or is another server's.
    ///
    /// # Errors
    ///
    /// The errors of [`close_other`](Self::close_other).
    pub fn terminate_other(&mut self, id: ConnId) -> Result<(), HandleError> {
        match self.find(id) {
            Named::Here(session, core) => session.terminate_later(core),
            Named::Gone => {}
            Named::Elsewhere(shard) => {
                return self.desk.tell(shard, Command::Terminate { key: id.key });
            }
        }
        Ok(())
    }

    /// The state of another open connection of this shard. `None` for a connection of another
    /// shard, for one that has ended, and for the callback's own, whose state is lent already.
    pub fn state_of(&mut self, id: ConnId) -> Option<&mut H::State> {
        if !self.is_here(id) {
            return None;
        }
        let slot = self.others.get(id.key)?;
        if slot.session.stage == Stage::Open { slot.session.state.as_mut() } else { None }
    }

    /// Whether a connection of this shard is open: sending to it has an effect. `false` for a
    /// connection of another shard.
    pub fn is_open(&mut self, id: ConnId) -> bool {
        let session = match self.find(id) {
            Named::Here(session, _) => session,
            Named::Elsewhere(_) | Named::Gone => return false,
        };
        session.stage == Stage::Open && !session.is_failing()
    }

    /// Gives a command to a shard, this one or another, whose handler gets it in
    /// [`on_command`](Handler::on_command), after this callback.
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`] if so many wait already
    /// ([`command_entries`](crate::Config::command_entries)), [`HandleError::Stopped`] if the shard
    /// has ended.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub fn command(&mut self, shard: usize, command: H::Command) -> Result<(), HandleError> {
        assert!(shard < self.desk.shards(), "there is no shard {shard}");
        if shard == self.core.shard {
            self.desk.tell_self(command)
        } else {
            self.desk.tell(shard as u16, Command::Custom(command))
        }
    }

    /// Calls [`on_timer`](Handler::on_timer) once, when `delay` is over. A delay of less than a
    /// millisecond is one. It is counted from [`now_ms`](Self::now_ms) on, by the same clock, which
    /// does not know of callbacks that took a second or more.
    ///
    /// # Errors
    ///
    /// [`TooManyTimers`] if as many are set as may be
    /// ([`timers_max`](crate::Config::timers_max)).
    pub fn set_timer(&mut self, delay: Duration) -> Result<TimerId, TooManyTimers> {
        self.desk.timers.set(self.core.now_ms, delay, false)
    }

    /// Calls [`on_timer`](Handler::on_timer) again and again, each time `period` after the one
    /// before. A shard that is late skips what it has missed and keeps the rhythm. A period of less
    /// than a millisecond is one.
    ///
    /// # Errors
    ///
    /// Those of [`set_timer`](Self::set_timer).
    pub fn set_interval(&mut self, period: Duration) -> Result<TimerId, TooManyTimers> {
        self.desk.timers.set(self.core.now_ms, period, true)
    }

    /// Takes a timer back. Returns `false` if it has fired for the last time or was taken back.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.desk.timers.cancel(timer)
    }

    fn is_here(&self, id: ConnId) -> bool {
        id.server == self.core.server && usize::from(id.shard) == self.core.shard
    }

    fn find(&mut self, id: ConnId) -> Named<'_, H::State> {
        // Text that somebody has made up may name a shard that there is none of.
        if id.server != self.core.server || usize::from(id.shard) >= self.desk.shards() {
            return Named::Gone;
        }
        if usize::from(id.shard) != self.core.shard {
            return Named::Elsewhere(id.shard);
        }
        let session = match &mut self.current {
            Some(session) if session.key == id.key => Some(&mut **session),
            _ => self.others.get(id.key).map(|slot| &mut slot.session),
        };
        session.map_or(Named::Gone, |session| Named::Here(session, self.core))
    }
}

impl<H: Handler> Context<'_, H> {
    /// Tells subscribers their new places after a callback has left topics.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if !self.core.moved.is_empty() {
            self.note_moved();
        }
    }

    #[cold]
    fn note_moved(&mut self) {
        let mut moved = std::mem::take(&mut self.core.moved);
        for moved in moved.drain(..) {
            let session = match &mut self.current {
                Some(session) if session.key.slot == moved.slot => &mut **session,
                _ => {
                    let slot = self.others.tenant(moved.slot);
                    &mut slot.expect("a topic lists only its subscribers").session
                }
            };
            let subscriptions = session.subscriptions.as_mut();
            moved.note(subscriptions.expect("a topic lists only its subscribers"));
        }
        self.core.moved = moved;
    }
}

/// The key of a connection of this shard.
impl From<ConnId> for Key {
    fn from(id: ConnId) -> Self {
        id.key
    }
}
