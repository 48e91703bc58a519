//! How a world ends: it comes to rest, and what was due has arrived; then everybody leaves, and
//! everything is back where it began.

use std::sync::Arc;

use super::{Faults, Sleep, World};
use crate::sim::client::{Client, Manners};

impl World {
    /// No more faults and nothing new: whatever was queued for a polite client arrives, with
    /// the clock standing still.
    pub(super) fn settle(&mut self) {
        *self.kernel.faults.borrow_mut() = Faults::none();
        self.stuck = None;
        self.model.borrow_mut().is_quiet = true;
        if self.dice.chance(50) {
            self.answer_tickets(usize::MAX);
        }
        self.come_to_rest();
        assert!(self.senders.is_empty(), "a sender waits, and every shard is at rest");
        let backlogs = self.kernel.backlogs.borrow();
        assert!(backlogs.iter().all(|backlog| backlog.is_empty()), "nobody accepts");
        let model = self.model.borrow();
        assert_eq!(model.terminated_and_open(), None, "a client was not cut off");
        let left: usize = (0..self.shards.len()).map(|shard| model.errands.left(shard)).sum();
        assert_eq!(left, 0, "commands not carried out");
        let (mut missed, mut gaps_max) = (0, 0);
        for (number, client) in self.clients.iter().enumerate() {
            if client.manners == Manners::Polite && !client.excused {
                assert_eq!(client.unanswered(), None, "client {number}: no answer to a request");
            }
            if client.manners == Manners::Polite && !client.is_gone() && model.serves(number) {
                let missing = model.missing(number);
                assert_eq!(missing, None, "never reached client {number}");
                assert!(client.is_answered(), "a ping of client {number} was not answered");
                assert!(!model.owes_drain(number), "client {number}: no word that there is room");
                missed += model.missed(number);
                let in_gaps = model.missed_in_gaps(number);
                gaps_max = gaps_max.max(in_gaps);
            }
        }
        let dropped: u64 = self.shards.iter().map(|shard| shard.metrics().messages_dropped).sum();
        let counted = dropped - model.sends_dropped.min(dropped);
        assert!(
            model.overflow_closes || missed + model.missed_before_others() <= counted,
            "{missed} messages missed, {counted} counted"
        );
        // Each gap is told to one shard's subscribers, and counted there.
        let lost = self.publishes_lost();
        assert!(gaps_max <= lost + counted, "{gaps_max} publishes missed, {lost} counted");
    }

    /// Every client catches up, every shard ticks if it would, and a little time passes.
    fn round(&mut self, ms: u64) {
        self.steps += 1;
        self.catch_up();
        for shard in 0..self.shards.len() {
            self.tick(shard);
        }
        self.pass_time(ms);
        self.go_on_sending();
        self.check();
    }

    fn catch_up(&mut self) {
        let catching_up = self.clients.iter_mut();
        catching_up.filter(|client| client.manners != Manners::Slow).for_each(Client::catch_up);
    }

    /// Everybody leaves, or the server stops; time passes until the last deadline has. Then
    /// everything is back where it began.
    pub(super) fn end(&mut self) {
        const ROUNDS: usize = 2_000;
        if self.dice.chance(50) {
            self.clients.iter_mut().for_each(Client::leave);
            self.settle_down();
        }
        // Whatever came before, may come while the server stops.
        *self.kernel.faults.borrow_mut() = Faults::draw(&self.dice);
        self.clients.iter_mut().for_each(|client| client.excused = true);
        {
            let mut model = self.model.borrow_mut();
            (model.is_stopping, model.is_quiet) = (true, false);
        }
        self.handle.stop();
        self.note_wakes();
        for round in 0..ROUNDS {
            if self.shards.iter().all(|shard| shard.is_finished()) {
                break;
            }
            if round == 1 {
                self.connect_late();
            }
            if self.dice.chance(20) {
                self.go_outside();
            }
            self.round(100);
            self.end_shards();
        }
        self.end_shards();
        assert!(self.senders.is_empty(), "a sender waits for a shard that has ended");
        for shard in &mut self.shards {
            shard.check_end();
        }
        assert_eq!(*self.kernel.sockets.borrow(), vec![0; self.shards.len()]);
        assert!(self.wires.iter().all(|wire| wire.borrow().is_over()), "a client is left hanging");
        let model = self.model.borrow();
        assert_eq!(model.opens, model.closes, "one open, one close");
        assert!(model.violations.is_empty(), "{:?}", model.violations);
        let shards = model.starts.len();
        assert_eq!((&model.starts, &model.stops), (&vec![1; shards], &vec![1; shards]));
        let lost = self.handle.metrics().commands_lost;
        assert!(self.lost_min <= lost, "{lost} commands lost, {} were left", self.lost_min);
        drop(model);
        self.shards.clear();
        // The model's own.
        let states = Arc::strong_count(&self.model.borrow().live) - 1;
        assert_eq!(states, 0, "states of connections that nobody has dropped");
    }

    /// What `Shard::run` does when everybody is gone.
    fn end_shards(&mut self) {
        for shard in 0..self.shards.len() {
            let mut model = self.model.borrow_mut();
            if self.shards[shard].is_finished() && !model.ended[shard] {
                model.ended[shard] = true;
                self.lost_min += model.errands.left(shard) as u64;
                drop(model);
                self.shards[shard].end();
            }
        }
        self.note_wakes();
        self.go_on_sending();
    }

    /// Somebody connects while the accept is being cancelled.
    fn connect_late(&mut self) {
        if self.shards.iter().all(|shard| shard.driver().is_listening()) {
            self.connect();
            self.clients.iter_mut().for_each(|client| client.excused = true);
        }
    }

    /// Clients that leave in order are gone well before any deadline.
    fn settle_down(&mut self) {
        self.come_to_rest();
        for (number, client) in self.clients.iter().enumerate() {
            let is_polite = client.manners == Manners::Polite && !client.excused;
            assert!(!is_polite || client.is_gone(), "client {number} cannot leave");
        }
    }

    /// Rounds until nothing happens any more. The clock almost stands still: it moves only
    /// while everybody waits, as they do for the pause of an accept, and never as far as a
    /// deadline.
    fn come_to_rest(&mut self) {
        const ROUNDS: u64 = 12_000;
        const ROUNDS_PER_MS: u64 = 32;
        const STILL_MS_MAX: u64 = 400;
        let mut still_ms = 0;
        for round in 1..=ROUNDS {
            let is_still = self.is_still();
            still_ms += u64::from(is_still);
            // Who waits to be accepted waits for the end of a pause, and some sends are held back.
            let is_settled = self.kernel.backlogs.borrow().iter().all(|backlog| backlog.is_empty())
                && self.shards.iter().all(|shard| !shard.driver().is_holding())
                && self.clients.iter().all(Client::is_settled);
            if is_still && (is_settled || still_ms > STILL_MS_MAX) {
                break;
            }
            self.round(u64::from(is_still || round.is_multiple_of(ROUNDS_PER_MS)));
        }
        // The last round may have ended somebody's connection.
        self.catch_up();
    }

    /// Whether no shard would do anything.
    fn is_still(&self) -> bool {
        self.sleeps.iter().all(|sleep| matches!(sleep, Sleep::Until(_)))
            && self.shards.iter().all(|shard| !shard.driver().is_ready())
            && !self.kernel.woken.borrow().contains(&true)
    }
}
