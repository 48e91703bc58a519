//! Requests and handshakes of the simulated clients: what the handler is to do with each, and what
//! has become of it.

use std::collections::BTreeMap;

use ringwire_proto::Response;

use super::{ModelHandler, State};
use crate::handler::Upgrade;
use crate::sim::dice::Dice;
use crate::sim::label::ClientNumber;
use crate::ticket::Ticket;

/// Names a request: the client's number, and the request's among the client's, from 1.
pub(in crate::sim) type RequestId = (ClientNumber, u64);

/// What the handler does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sim) enum Will {
    Now,
    /// Takes a ticket, or two of which the first has no effect.
    Later,
    /// Takes a ticket and answers itself.
    Both,
    Panic,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Unheard,
    Answered(u16),
    /// A ticket is out, since then by the clock of the shard.
    Waiting {
        shard: usize,
        since_ms: u64,
    },
    /// It was answered. `taken_ms` is when the shard had certainly looked.
    Promised {
        shard: usize,
        since_ms: u64,
        status: u16,
        taken_ms: Option<u64>,
    },
}

struct Note {
    will: Will,
    body: Vec<u8>,
    fate: Fate,
}

/// What the answers of a run may depend on beside what was noted.
pub(in crate::sim) struct Circumstances<'a> {
    pub(in crate::sim) timeout_ms: u64,
    /// By shard.
    pub(in crate::sim) now_ms: &'a [u64],
    pub(in crate::sim) is_stopping: bool,
    /// The client's FIN may have come before the answer.
    pub(in crate::sim) has_ended: bool,
}

/// A ticket that nobody has answered yet.
pub(in crate::sim) struct Held {
    ticket: Ticket<ModelHandler>,
    id: RequestId,
    is_handshake: bool,
    /// Its callback has returned something else.
    is_void: bool,
}

impl Held {
    pub(super) fn new(ticket: Ticket<ModelHandler>, id: RequestId, is_handshake: bool) -> Self {
        Self { ticket, id, is_handshake, is_void: false }
    }

    pub(super) fn void(self) -> Self {
        Self { is_void: true, ..self }
    }

    pub(super) fn shard(&self) -> usize {
        self.ticket.shard()
    }

    /// Answers it from any thread, one way or another.
    pub(in crate::sim) fn answer(self, requests: &mut Requests, state: State, dice: &Dice) {
        let Self { ticket, id, is_handshake, is_void } = self;
        let mut promise = |status| {
            if !is_void {
                requests.promise(id, status);
            }
        };
        match dice.below(10) {
            0 => {
                promise(500);
                drop(ticket);
            }
            1 if is_handshake => {
                promise(403);
                ticket.respond(numbered(403, id.1));
            }
            // An error of the application.
            1 => {
                promise(500);
                ticket.upgrade(Upgrade::accept(state));
            }
            _ if is_handshake => {
                promise(101);
                ticket.upgrade(Upgrade::accept(state));
            }
            _ => {
                promise(201);
                ticket.respond(numbered(201, id.1).body("text/plain", vec![b'.'; dice.below(90)]));
            }
        }
    }

    /// The ticket of a handshake, for the callback that answers it with the connection's state.
    pub(super) fn redeem(self, requests: &mut Requests) -> Ticket<ModelHandler> {
        let status = if self.is_handshake { 101 } else { 500 };
        if !self.is_void {
            requests.promise(self.id, status);
        }
        self.ticket
    }

    pub(in crate::sim) fn client(&self) -> ClientNumber {
        self.id.0
    }

    /// The command that it was in was dropped.
    pub(in crate::sim) fn note_dropped(id: RequestId, is_void: bool, requests: &mut Requests) {
        if !is_void {
            requests.promise(id, 500);
        }
    }

    pub(in crate::sim) fn id(&self) -> (RequestId, bool) {
        (self.id, self.is_void)
    }
}

/// A response that says which request it answers.
pub(super) fn numbered(status: u16, number: u64) -> Response {
    let response = Response::new(status).header("X-Number", &number.to_string());
    response.expect("a number may be sent")
}

#[derive(Default)]
pub(in crate::sim) struct Requests {
    notes: BTreeMap<RequestId, Note>,
    /// Requests that clients have the answer to.
    pub(in crate::sim) answered: u64,
}

impl Requests {
    /// A client is about to send it.
    pub(in crate::sim) fn plan(&mut self, id: RequestId, will: Will, body: Vec<u8>) {
        self.notes.insert(id, Note { will, body, fate: Fate::Unheard });
    }

    /// The handler is called with it: once, in order, and with the whole body.
    pub(super) fn hear(&mut self, id: RequestId, body: &[u8]) -> Result<Will, String> {
        let (client, number) = id;
        let before = self.notes.range((client, 0)..id);
        let is_next = before.clone().all(|(_, note)| match note.fate {
            // Answered by the engine: see `client/plain.rs`.
            Fate::Unheard | Fate::Answered(_) | Fate::Promised { .. } => true,
            Fate::Waiting { .. } => false,
        });
        let later = self.notes.range((client, number + 1)..(client + 1, 0));
        let is_last = later.clone().all(|(_, note)| note.fate == Fate::Unheard);
        let note = self.notes.get_mut(&id).ok_or_else(|| format!("{id:?} was never sent"))?;
        if note.fate != Fate::Unheard || !is_next || !is_last {
            return Err(format!("{id:?} is heard out of turn, {:?}", note.fate));
        }
        if note.body != body {
            return Err(format!("{id:?} has a body of {} bytes", body.len()));
        }
        Ok(note.will)
    }

    pub(super) fn note_answered(&mut self, id: RequestId, status: u16) {
        self.note(id).fate = Fate::Answered(status);
    }

    pub(super) fn note_waiting(&mut self, id: RequestId, shard: usize, since_ms: u64) {
        self.note(id).fate = Fate::Waiting { shard, since_ms };
    }

    fn promise(&mut self, id: RequestId, status: u16) {
        let note = self.note(id);
        if let Fate::Waiting { shard, since_ms } = note.fate {
            note.fate = Fate::Promised { shard, since_ms, status, taken_ms: None };
        }
    }

    /// A shard has taken every answer that was left for it.
    pub(in crate::sim) fn note_taken(&mut self, taken_by: usize, now_ms: u64) {
        for note in self.notes.values_mut() {
            if let Fate::Promised { shard, taken_ms, .. } = &mut note.fate
                && *shard == taken_by
            {
                taken_ms.get_or_insert(now_ms);
            }
        }
    }

    /// Whether a request waits for an answer that nobody has given.
    pub(in crate::sim) fn is_waiting(&self, id: RequestId) -> bool {
        self.notes.get(&id).is_some_and(|note| matches!(note.fate, Fate::Waiting { .. }))
    }

    /// A client has the answer: is it the right one?
    pub(in crate::sim) fn check(
        &mut self,
        id: RequestId,
        status: u16,
        circumstances: &Circumstances<'_>,
    ) -> Result<(), String> {
        self.answered += 1;
        let Circumstances { timeout_ms, now_ms, is_stopping, has_ended } = *circumstances;
        let fate = self.note(id).fate;
        let is_right = match fate {
            Fate::Unheard => false,
            Fate::Answered(answered) => answered == status,
            Fate::Waiting { shard, since_ms } => {
                status == 503 && (is_stopping || now_ms[shard] >= since_ms + timeout_ms)
            }
            Fate::Promised { shard, since_ms, status: promised, taken_ms } => {
                let is_late = taken_ms.is_none_or(|taken_ms| taken_ms >= since_ms + timeout_ms)
                    && now_ms[shard] >= since_ms + timeout_ms;
                status == promised
                    || (status == 503 && (is_stopping || is_late))
                    || (status == 500 && promised == 101 && has_ended)
            }
        };
        if is_right { Ok(()) } else { Err(format!("{id:?} was answered with {status}: {fate:?}")) }
    }

    fn note(&mut self, id: RequestId) -> &mut Note {
        self.notes.get_mut(&id).expect("whatever a client sends is planned")
    }
}
