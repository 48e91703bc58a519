//! The calls of a handle that wait for room in a shard's queue.

use std::future::poll_fn;
use std::task::Poll;

use super::{Handle, IS_SHARD};
use crate::connection::conn_id::ConnId;
use crate::error::HandleError;
use crate::message::{AsMessage, encode};
use crate::shard::mailbox::{Command, Mailbox};

/// The calls of a [`Handle`] that wait while a shard's queue is full: those whose names end in
/// `_blocking` on a thread, the others in a task of any executor. On a shard's thread, in a callback
/// or in what makes the handler, all of them are [`HandleError::OnShard`]: it could wait for itself.
///
/// A command of one thread, or of one task, is queued before its next one. A shard that never takes
/// commands again, because a callback does not return, is waited for as long.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'h, C> {
    pub(super) handle: &'h Handle<C>,
}

impl<C> Waiting<'_, C> {
    /// [`Handle::publish`], which waits for room.
    ///
    /// # Errors
    ///
    /// [`HandleError::Stopped`]; [`HandleError::OnShard`] in a callback, where waiting for a shard
    /// could last for ever.
    pub fn publish_blocking(
        &self,
        topic: &str,
        message: impl AsMessage,
    ) -> Result<(), HandleError> {
        let (mailbox, command) = self.handle.publication(topic, message.as_message());
        push_blocking(mailbox, command)
    }

    /// [`Handle::send`], which waits for room.
    ///
    /// # Errors
    ///
    /// Those of [`publish_blocking`](Self::publish_blocking), and [`HandleError::OtherServer`].
    pub fn send_blocking(&self, id: ConnId, message: impl AsMessage) -> Result<(), HandleError> {
        let frame = encode(message.as_message()).into();
        push_blocking(self.handle.mailbox(id)?, Command::Send { key: id.key, frame })
    }

    /// [`Handle::command`], which waits for room.
    ///
    /// # Errors
    ///
    /// Those of [`publish_blocking`](Self::publish_blocking).
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub fn command_blocking(&self, shard: usize, command: C) -> Result<(), HandleError> {
        push_blocking(&self.handle.mailboxes[shard], Command::Custom(command))
    }

    /// [`Handle::publish`], which waits for room.
    ///
    /// # Errors
    ///
    /// Those of [`publish_blocking`](Self::publish_blocking).
    pub async fn publish(&self, topic: &str, message: impl AsMessage) -> Result<(), HandleError> {
        let (mailbox, command) = self.handle.publication(topic, message.as_message());
        push(mailbox, command).await
    }

    /// [`Handle::send`], which waits for room.
    ///
    /// # Errors
    ///
    /// Those of [`send_blocking`](Self::send_blocking).
    pub async fn send(&self, id: ConnId, message: impl AsMessage) -> Result<(), HandleError> {
        let frame = encode(message.as_message()).into();
        push(self.handle.mailbox(id)?, Command::Send { key: id.key, frame }).await
    }

    /// [`Handle::command`], which waits for room.
    ///
    /// # Errors
    ///
    /// Those of [`publish_blocking`](Self::publish_blocking).
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub async fn command(&self, shard: usize, command: C) -> Result<(), HandleError> {
        push(&self.handle.mailboxes[shard], Command::Custom(command)).await
    }
}

fn push_blocking<C>(mailbox: &Mailbox<C>, command: Command<C>) -> Result<(), HandleError> {
    if IS_SHARD.get() {
        return Err(HandleError::OnShard);
    }
    mailbox.push_waiting(command)
}

async fn push<C>(mailbox: &Mailbox<C>, command: Command<C>) -> Result<(), HandleError> {
    let mut command = Some(command);
    poll_fn(|cx| {
        // Whoever blocks a callback on this would wait for the shard that it blocks.
        if IS_SHARD.get() {
            return Poll::Ready(Err(HandleError::OnShard));
        }
        let taken = command.take().expect("a task polls no longer than it waits");
        match mailbox.poll_push(taken, cx) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(refused) if refused.error == HandleError::Busy => {
                command = Some(refused.command);
                Poll::Pending
            }
            Err(refused) => Poll::Ready(Err(refused.error)),
        }
    })
    .await
}
