//! What a shard lends to a callback, and the one place in which callbacks are called: each is
//! guarded, its panic is counted, and what it leaves behind is settled.

use super::core::Core;
use super::desk::Desk;
use super::guard::guard;
use crate::conn::Conn;
use crate::connection::connections::Others;
use crate::connection::slot::Session;
use crate::context::Context;
use crate::driver::{Key, Socket};
use crate::handler::Handler;

/// The shard without the connection that a callback is about.
pub(crate) struct Lent<'a, H: Handler, K> {
    pub(crate) handler: &'a mut H,
    pub(crate) core: &'a mut Core,
    pub(crate) desk: &'a mut Desk<H::Command>,
    pub(crate) others: Others<'a, H::State, K>,
}

impl<H: Handler, K: Socket> Lent<'_, H, K> {
    /// Calls a callback about an open connection; `None` if it has panicked. The caller then fails
    /// the connection ([`PANICKED`](crate::protocol::websocket::PANICKED)).
    #[inline]
    pub(crate) fn call<R>(
        &mut self,
        session: &mut Session<H::State>,
        callback: impl FnOnce(&mut H, &mut Conn<'_, H>, &mut H::State) -> R,
    ) -> Option<R> {
        // Moved out and back, so that it can be used together with the connection.
        let mut state = session.state.take();
        let lent_state = state.as_mut().expect("a callback's connection has been upgraded");
        let (handler, context) = self.context(Some(session), None);
        let mut conn = Conn::new(context);
        let returned = guard(|| callback(handler, &mut conn, lent_state));
        let returned = settle(&mut conn, returned);
        session.state = state;
        returned
    }

    /// Calls a callback about no open connection, perhaps about a request that came by a socket;
    /// `None` if it has panicked.
    pub(crate) fn call_shard<R>(
        &mut self,
        requesting: Option<Key>,
        callback: impl FnOnce(&mut H, &mut Context<'_, H>) -> R,
    ) -> Option<R> {
        let (handler, mut context) = self.context(None, requesting);
        let returned = guard(|| callback(handler, &mut context));
        settle(&mut context, returned)
    }

    #[inline]
    fn context<'c>(
        &'c mut self,
        current: Option<&'c mut Session<H::State>>,
        requesting: Option<Key>,
    ) -> (&'c mut H, Context<'c, H>) {
        let Self { handler, core, desk, others } = self;
        (handler, Context { core, desk, others, current, requesting })
    }
}

#[inline]
fn settle<H: Handler, R>(context: &mut Context<'_, H>, returned: Option<R>) -> Option<R> {
    context.settle();
    if returned.is_none() {
        context.core.note_panic();
    }
    returned
}
