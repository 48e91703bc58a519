//! An opening handshake or a request that is answered later: by another thread, or by a later
//! callback of the same shard.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use ringwire_proto::Response;

use crate::driver::Key;
use crate::handle::Handle;
use crate::handler::{Handler, Upgrade};
use crate::shard::mailbox::Command;

/// The right to answer one opening handshake or request later. [`Context::ticket`] makes it;
/// `on_upgrade` then returns [`Upgrade::later`], or `on_request` [`Reply::later`].
///
/// A ticket may go to any thread. It is answered once, which its type sees to:
///
/// ```compile_fail,E0382
/// # use ringwire::{Handler, Response, Ticket};
/// fn twice<H: Handler>(ticket: Ticket<H>) {
///     ticket.respond(Response::new(401));
///     ticket.respond(Response::new(403)); // use of moved value: `ticket`
/// }
/// ```
///
/// One that is dropped is answered with 500.
/// One that is not answered in time ([`ticket_timeout_ms`](crate::Config::ticket_timeout_ms)) is
/// answered with 503 by the engine. Answering one that has expired, or whose peer has gone, has no
/// effect; what was to be the connection's state is dropped.
///
/// [`Context::ticket`]: crate::Context::ticket
/// [`Reply::later`]: crate::Reply::later
#[must_use = "a ticket that is dropped answers with 500"]
pub struct Ticket<H: Handler> {
    handle: Handle<H::Command>,
    place: Place,
    is_answered: bool,
    /// A ticket holds no handler.
    handler: PhantomData<fn(H)>,
}

/// Whose ticket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) server: u32,
    pub(crate) shard: usize,
    pub(crate) key: Key,
    /// Tells the tickets of one connection apart.
    pub(crate) serial: u32,
}

/// What is answered.
pub(crate) enum Verdict<S> {
    Upgrade(Upgrade<S>),
    Response(Response),
    /// The ticket was dropped.
    None,
}

impl<H: Handler> Ticket<H> {
    pub(crate) fn new(handle: Handle<H::Command>, place: Place) -> Self {
        Self { handle, place, is_answered: false, handler: PhantomData }
    }

    /// The number of the shard that has the connection. A thread that cannot send the state itself
    /// gives the ticket back to that shard by a command ([`Handle::command`]), and `on_command`
    /// answers by [`Context::answer`](crate::Context::answer).
    #[must_use]
    pub fn shard(&self) -> usize {
        self.place.shard
    }

    /// Answers an opening handshake from any thread. For a ticket of a request it is 500: an error
    /// of the application, which the log names.
    pub fn upgrade(mut self, upgrade: Upgrade<H::State>)
    where
        H::State: Send,
    {
        let verdict: Box<dyn Any + Send> = Box::new(Verdict::Upgrade(upgrade));
        self.tell(Command::Answer { place: self.place, verdict });
    }

    /// Answers a request, or refuses an opening handshake, from any thread.
    pub fn respond(mut self, response: Response) {
        self.tell(Command::Respond { place: self.place, response: Some(response) });
    }

    pub(crate) fn serial(&self) -> u32 {
        self.place.serial
    }

    /// Where it belongs.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Takes it from its owner, for a callback that answers it at once.
    pub(crate) fn redeem(mut self) {
        self.is_answered = true;
    }

    fn tell(&mut self, command: Command<H::Command>) {
        self.is_answered = true;
        self.handle.answer(self.place.shard, command);
    }
}

impl<H: Handler> Drop for Ticket<H> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.tell(Command::Respond { place: self.place, response: None });
        }
    }
}

impl<H: Handler> fmt::Debug for Ticket<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("place", &self.place).finish_non_exhaustive()
    }
}
