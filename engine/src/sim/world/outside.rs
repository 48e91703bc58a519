//! Other threads: they use a handle, answer tickets, and wait for room in the queue of a shard.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::World;
use crate::error::HandleError;
use crate::handle::Handle;
use crate::sim::model::errands::{Deed, Errand};

/// A task that waits until a shard's queue has room.
pub(super) struct Sender {
    shard: usize,
    number: u64,
    pushing: Pin<Box<dyn Future<Output = Result<(), HandleError>>>>,
    woken: Arc<Woken>,
}

/// Whether a task may go on.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Senders at once.
const SENDERS_MAX: usize = 4;

impl World {
    /// Another thread does something.
    pub(super) fn go_outside(&mut self) {
        let is_errand = self.dice.chance(self.model.borrow().habits.errands);
        match self.dice.below(4) {
            _ if !is_errand => self.send_command(),
            0 => self.tell(),
            1 => self.tell_patiently(),
            2 => self.terminate(),
            _ => self.answer_tickets(1),
        }
        self.note_wakes();
    }

    fn send_command(&mut self) {
        if self.dice.chance(60) {
            let topic = *self.dice.pick(&["a", "b", "c"]);
            let payload = self.model.borrow_mut().foreign_publish(topic);
            let published = self.handle.publish(topic, payload.as_str());
            let mut model = self.model.borrow_mut();
            match published {
                Ok(()) => model.note_foreign(&payload),
                Err(_) => model.errands.refused += 1,
            }
            return;
        }
        let Some((to, id)) = self.somebody() else { return };
        let mut model = self.model.borrow_mut();
        model.tenants.get_mut(&to).expect("named just before").note_unseen();
        if self.dice.chance(80) {
            let payload = model.foreign_message(to);
            let bytes = payload.len() + ringwire_proto::frame_header_bytes(payload.len());
            let has_room = model.has_room(id.shard(), bytes);
            let sent = self.handle.send(id, payload.as_str());
            model.note_pushed(id.shard(), has_room, sent);
            if sent.is_ok() {
                model.note_foreign(&payload);
            }
        } else {
            model.tenants.get_mut(&to).expect("named just before").may_be_closing = true;
            let has_room = model.has_room(id.shard(), 0);
            let closed = self.handle.close(id, ringwire_proto::CloseCode::NORMAL, "foreign");
            model.note_pushed(id.shard(), has_room, closed);
        }
    }

    /// Whoever has or had a connection: its slot may be somebody else's now.
    fn somebody(&self) -> Option<(usize, crate::conn::ConnId)> {
        let model = self.model.borrow();
        let named = model.tenants.iter().filter_map(|(&to, tenant)| Some((to, tenant.id?)));
        let named: Vec<_> = named.collect();
        (!named.is_empty()).then(|| *self.dice.pick(&named))
    }

    fn terminate(&mut self) {
        let Some((to, id)) = self.somebody() else { return };
        if self.dice.chance(70) {
            return;
        }
        let mut model = self.model.borrow_mut();
        let has_room = model.has_room(id.shard(), 0);
        let terminated = self.handle.terminate(id);
        model.note_pushed(id.shard(), has_room, terminated);
        if terminated.is_ok() {
            model.note_terminating(to);
        }
    }

    /// Gives commands to a shard, perhaps more than fit.
    fn tell(&mut self) {
        let shard = self.dice.below(self.shards.len());
        for _ in 0..*self.dice.pick(&[1, 1, 3, 80]) {
            let errand = self.make_errand();
            let ticket = errand.ticket();
            let number = errand.number;
            let has_room = self.model.borrow().has_room(shard, 0);
            let told = self.handle.command(shard, errand);
            let mut model = self.model.borrow_mut();
            model.note_pushed(shard, has_room, told);
            match told {
                Ok(()) => model.errands.note_boxed(shard, number),
                Err(_) => model.note_ticket_dropped(ticket),
            }
        }
    }

    fn make_errand(&self) -> Errand {
        let mut model = self.model.borrow_mut();
        let deed = model.make_deed(&self.dice);
        model.errands.make(deed)
    }

    /// A task that waits for room.
    fn tell_patiently(&mut self) {
        if self.senders.len() == SENDERS_MAX {
            return;
        }
        let shard = self.dice.below(self.shards.len());
        let errand = self.model.borrow_mut().errands.make(Deed::Nothing);
        let number = errand.number;
        let handle: Handle<Errand> = self.handle.clone();
        let pushing = Box::pin(async move { handle.waiting().command(shard, errand).await });
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.senders.push(Sender { shard, number, pushing, woken });
        self.go_on_sending();
    }

    /// The tasks that were woken try again.
    pub(super) fn go_on_sending(&mut self) {
        let model = &self.model;
        self.senders.retain_mut(|sender| {
            if !sender.woken.0.swap(false, Ordering::Relaxed) {
                return true;
            }
            let waker = Waker::from(Arc::clone(&sender.woken));
            let has_room = model.borrow().has_room(sender.shard, 0);
            let pushed = sender.pushing.as_mut().poll(&mut Context::from_waker(&waker));
            let mut model = model.borrow_mut();
            let is_ended = model.ended[sender.shard];
            match pushed {
                Poll::Pending => {
                    assert!(!has_room && !is_ended, "a sender waits, and there is room");
                    return true;
                }
                Poll::Ready(Ok(())) => {
                    assert!(has_room && !is_ended, "a sender was let in, and there is no room");
                    model.errands.note_boxed(sender.shard, sender.number);
                }
                Poll::Ready(Err(error)) => {
                    assert!(is_ended && error == HandleError::Stopped, "a sender got {error}");
                }
            }
            false
        });
        self.note_wakes();
    }

    /// Answers so many tickets.
    pub(super) fn answer_tickets(&mut self, count: usize) {
        for _ in 0..count {
            let mut model = self.model.borrow_mut();
            let Some(held) = model.pick_held(&self.dice) else { break };
            let state = model.state_for(held.client());
            held.answer(&mut model.requests, state, &self.dice);
        }
        self.note_wakes();
    }

    /// What an eventfd would do.
    pub(super) fn note_wakes(&self) {
        let mut woken = self.kernel.woken.borrow_mut();
        for (shard, mailbox) in self.mailboxes.iter().enumerate() {
            woken[shard] |= mailbox.take_roused();
        }
    }
}
