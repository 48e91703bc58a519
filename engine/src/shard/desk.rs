//! What callbacks may leave beyond their connections: commands to this shard and to others, and
//! the timers of the application.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use super::links::Links;
use crate::config::Config;
use crate::error::HandleError;
use crate::handle::Handle;
use crate::shard::app_timers::AppTimers;
use crate::shard::guard::guard;
use crate::shard::mailbox::{Command, Mailbox};
use crate::ticket::Place;

pub(crate) struct Desk<C> {
    /// Of every shard, by index.
    mailboxes: Arc<[Mailbox<C>]>,
    handle: Handle<C>,
    /// Commands of this shard to itself, at most `command_entries`.
    own: VecDeque<C>,
    own_max: usize,
    shard: usize,
    /// Answers of this shard's callbacks to tickets: at most one for each connection.
    answers: VecDeque<(Place, Box<dyn Any>)>,
    pub(crate) timers: AppTimers,
}

/// What was left and will not be carried out.
#[derive(Default)]
pub(crate) struct Lost {
    pub(crate) commands: u64,
    /// Those of them whose `Drop` panicked.
    pub(crate) panics: u64,
}

impl<C> Desk<C> {
    pub(crate) fn new(config: &Config, links: &Links<C>) -> Self {
        let mailboxes = Arc::clone(&links.mailboxes);
        let handle = Handle::new(Arc::clone(&mailboxes), links.server).on(links.driver);
        let own_max = config.command_entries;
        let (own, answers) = (VecDeque::new(), VecDeque::new());
        let timers = AppTimers::new(config.timers_max);
        Self { mailboxes, handle, own, own_max, shard: links.shard, answers, timers }
    }

    pub(crate) fn shards(&self) -> usize {
        self.mailboxes.len()
    }

    pub(crate) fn handle(&self) -> Handle<C> {
        self.handle.clone()
    }

    /// Leaves a command in another shard's queue.
    pub(crate) fn tell(&self, shard: u16, command: Command<C>) -> Result<(), HandleError> {
        let mailbox = self.mailboxes.get(usize::from(shard)).ok_or(HandleError::OtherServer)?;
        mailbox.push(command)
    }

    /// Leaves a command to this shard, for after the callback.
    pub(crate) fn tell_self(&mut self, command: C) -> Result<(), HandleError> {
        if self.own.len() >= self.own_max {
            self.mailboxes[self.shard].count_own_refused();
            return Err(HandleError::Busy);
        }
        self.own.push_back(command);
        Ok(())
    }

    pub(crate) fn take_own(&mut self) -> Option<C> {
        self.own.pop_front()
    }

    /// How many of them wait.
    pub(crate) fn own(&self) -> usize {
        self.own.len()
    }

    /// Leaves the answer to a ticket, for after the callback.
    pub(crate) fn answer(&mut self, place: Place, verdict: Box<dyn Any>) {
        self.answers.push_back((place, verdict));
    }

    pub(crate) fn take_answer(&mut self) -> Option<(Place, Box<dyn Any>)> {
        self.answers.pop_front()
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// The shard ends: drops what was left to it, which is the application's code.
    pub(crate) fn lose(&mut self) -> Lost {
        let mut lost = Lost::default();
        let mut count = |dropped: Option<()>| {
            lost.commands += 1;
            lost.panics += u64::from(dropped.is_none());
        };
        while let Some(command) = self.own.pop_front() {
            count(guard(|| drop(command)));
        }
        while let Some(answer) = self.answers.pop_front() {
            count(guard(|| drop(answer)));
        }
        lost
    }
}

impl<C> Drop for Desk<C> {
    /// Of a shard that panics: a panic on top would abort the process.
    fn drop(&mut self) {
        self.lose();
    }
}
