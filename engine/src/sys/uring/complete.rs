//! Completion entries of the ring become [`Completion`]s.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use io_uring::cqueue;

use super::UringDriver;
use crate::driver::{Completion, Errno, Key, Lease, Operation, Token};
use crate::sys::socket::KernelSocket;

impl UringDriver {
    pub(super) fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion<KernelSocket>> {
        let token = Token::decode(entry.user_data());
        let (result, flags) = (entry.result(), entry.flags());
        match token.operation {
            Operation::Receive => Some(self.complete_receive(token.key, result, flags)),
            Operation::Send => Some(self.complete_send(token.key.slot, result)),
            Operation::Fill => Some(self.complete_fill(token.key.slot, result)),
            Operation::Accept => {
                let listener = token.key.slot as usize;
                let result = errno_or(result).map(|fd| {
                    // SAFETY: the kernel has just made this descriptor for this completion.
                    let socket = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
                    if let Some(Some(listener)) = self.listeners.get(listener) {
                        listener.prepare(&socket);
                    }
                    KernelSocket(socket)
                });
                Some(Completion::Accepted { listener, result, more: cqueue::more(flags) })
            }
            Operation::Wake => {
                // A message from another ring has no F_MORE either, but also no events.
                if result < 0 {
                    self.retry_waker();
                } else if result > 0 && !cqueue::more(flags) {
                    self.arm_waker();
                }
                Some(Completion::Woken)
            }
            // Only failures complete, and they tell nothing: there was nothing to cancel.
            Operation::Cancel => None,
            // The message could not be delivered (for want of memory, say), but the other
            // shard may be asleep: whoever roused it must wake it.
            Operation::Rouse => {
                self.peers[token.key.slot as usize].waker.wake();
                None
            }
            Operation::Close => {
                panic!("closing a socket that was open: {:?}", errno_or(result))
            }
        }
    }

    fn complete_receive(&mut self, key: Key, result: i32, flags: u32) -> Completion<KernelSocket> {
        let more = cqueue::more(flags);
        if !more {
            self.receives_armed -= 1;
        }
        let result = errno_or(result);
        // The end of a stream carries no buffer, whatever the upper bits of the flags say.
        let buffer = cqueue::buffer_select(flags);
        if let Some(buffer) = buffer {
            self.buffers_mut().lease(buffer);
        }
        if result == Err(Errno::NO_BUFFERS) {
            self.buffers_mut().grow();
        }
        let result = match (result, buffer) {
            (Ok(bytes @ 1..), Some(buffer)) => Ok(Some(Lease { buffer, bytes })),
            (Ok(1..), None) => panic!("the kernel received bytes into no buffer"),
            (Ok(0), buffer) => {
                buffer.inspect(|&buffer| self.buffers_mut().recycle(buffer));
                Ok(None)
            }
            (Err(errno), buffer) => {
                buffer.inspect(|&buffer| self.buffers_mut().recycle(buffer));
                Err(errno)
            }
        };
        Completion::Received { key, result, more }
    }

    fn complete_fill(&mut self, index: u32, result: i32) -> Completion<KernelSocket> {
        let fill = self.fills.try_remove(index as usize);
        let (key, mut buffer) = fill.expect("the kernel completes a receive once");
        let result = errno_or(result);
        if let Ok(bytes) = result {
            let filled = buffer.len() + bytes as usize;
            assert!(filled <= buffer.capacity(), "the kernel received more than it was asked to");
            // SAFETY: within the capacity, and the kernel has written the bytes behind the old
            // length, as many as its result says.
            unsafe { buffer.set_len(filled) };
        }
        Completion::Filled { key, result, buffer }
    }

    fn complete_send(&mut self, index: u32, result: i32) -> Completion<KernelSocket> {
        let send = self.sends.try_remove(index as usize);
        let (key, outbound) = send.expect("the kernel completes a send once");
        Completion::Sent { key, result: errno_or(result), outbound }
    }
}

fn errno_or(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno(-result))
}
