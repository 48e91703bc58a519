//! Connections over the engine's own driver: bytes out, bytes in, and the end of
//! either as an error. It knows nothing of messages, and never waits but in `wait`.

use std::net::TcpStream;
use std::os::fd::OwnedFd;

use ringwire::driver::{Completion, Errno, KernelSocket, Key, Lease, Outbound, Wait};
use slab::Slab;

use crate::worker_driver::WorkerDriver;

/// The connections of one worker.
pub(crate) struct Sockets {
    driver: WorkerDriver,
    slots: Slab<Slot>,
    /// Of the newest connection: no driver takes it for an earlier one of the same slot.
    generation: u32,
    /// What is being said to one connection; empty between calls.
    outbox: Vec<u8>,
    /// Buffers whose send is over.
    buffers: Vec<Vec<u8>>,
    completions: Vec<Completion<KernelSocket>>,
}

struct Slot {
    socket: KernelSocket,
    key: Key,
    is_sending: bool,
    is_receiving: bool,
    /// It is reset as soon as nothing is in flight.
    is_leaving: bool,
    /// How much of the send in flight the kernel has taken before.
    sent_bytes: usize,
    /// What to send once the send in flight is over.
    waiting: Vec<u8>,
}

/// What becomes of a connection that bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It stays.
    Stay,
    /// It is closed, with whatever SO_LINGER says.
    Leave,
}

impl Sockets {
    /// No connections yet, on the calling thread.
    ///
    /// # Errors
    ///
    /// There is no driver to be had.
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self {
            driver: WorkerDriver::new()?,
            slots: Slab::new(),
            generation: 0,
            outbox: Vec::new(),
            buffers: Vec::new(),
            completions: Vec::new(),
        })
    }

    /// How many connections there are, leaving ones included.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no connection.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes a connected stream and names its slot; the first is 0, and only a slot that was
    /// left is named again.
    pub(crate) fn adopt(&mut self, stream: TcpStream) -> usize {
        let socket = KernelSocket::from(OwnedFd::from(stream));
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let slot = entry.key();
        let key = Key { slot: slot as u32, generation: self.generation };
        self.driver.arm_receive(key, &socket);
        entry.insert(Slot {
            socket,
            key,
            is_sending: false,
            is_receiving: true,
            is_leaving: false,
            sent_bytes: 0,
            waiting: Vec::new(),
        });
        slot
    }

    /// Sends what `fill` appends, behind whatever is under way.
    pub(crate) fn send(&mut self, slot: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        fill(&mut self.outbox);
        self.flush(slot);
    }

    /// Submits what is to be done and waits for completions, which stay until
    /// [`dispatch`](Self::dispatch).
    pub(crate) fn wait(&mut self, wait: Wait) {
        self.driver.tick(wait, &mut self.completions);
    }

    /// Hands received bytes to `receive`, which appends what to send to the same connection.
    ///
    /// # Errors
    ///
    /// What `receive` says; or a connection has ended by itself.
    pub(crate) fn dispatch(
        &mut self,
        mut receive: impl FnMut(usize, &[u8], &mut Vec<u8>) -> Result<Then, String>,
    ) -> Result<(), String> {
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            match completion {
                Completion::Received { key, result, more } => {
                    self.received(key, result, more, &mut receive)?;
                }
                Completion::Sent { key, result, outbound } => self.sent(key, result, outbound)?,
                Completion::Accepted { .. } | Completion::Filled { .. } | Completion::Woken => {}
            }
        }
        self.completions = completions;
        Ok(())
    }

    fn received(
        &mut self,
        key: Key,
        result: Result<Option<Lease>, Errno>,
        more: bool,
        receive: &mut impl FnMut(usize, &[u8], &mut Vec<u8>) -> Result<Then, String>,
    ) -> Result<(), String> {
        let index = key.slot as usize;
        let slot = &mut self.slots[index];
        slot.is_receiving = more;
        if slot.is_leaving {
            if let Ok(Some(lease)) = result {
                self.driver.recycle(lease);
            }
            self.close_if_quiet(index);
            return Ok(());
        }
        match result {
            Ok(Some(lease)) => {
                let then = receive(index, self.driver.received(&lease), &mut self.outbox)?;
                self.driver.recycle(lease);
                if then == Then::Leave {
                    self.leave(index);
                    return Ok(());
                }
                self.flush(index);
            }
            Err(Errno::NO_BUFFERS) => {}
            Ok(None) => return Err("the server has closed a connection".to_owned()),
            Err(errno) => return Err(format!("receiving: {errno}")),
        }
        let slot = &mut self.slots[index];
        if !slot.is_receiving {
            slot.is_receiving = true;
            self.driver.arm_receive(key, &slot.socket);
        }
        Ok(())
    }

    fn flush(&mut self, index: usize) {
        if self.outbox.is_empty() {
            return;
        }
        let slot = &mut self.slots[index];
        if slot.is_sending {
            slot.waiting.append(&mut self.outbox);
            return;
        }
        let next = self.buffers.pop().unwrap_or_default();
        let buffer = std::mem::replace(&mut self.outbox, next);
        slot.is_sending = true;
        self.driver.send(slot.key, &slot.socket, buffer, 0);
    }

    fn sent(
        &mut self,
        key: Key,
        result: Result<u32, Errno>,
        outbound: Outbound,
    ) -> Result<(), String> {
        let slot = &mut self.slots[key.slot as usize];
        let Outbound::Own(mut buffer) = outbound else { unreachable!("no run is ever sent") };
        slot.is_sending = false;
        if slot.is_leaving {
            self.close_if_quiet(key.slot as usize);
            return Ok(());
        }
        slot.sent_bytes += result.map_err(|errno| format!("sending: {errno}"))? as usize;
        if slot.sent_bytes == buffer.len() {
            slot.sent_bytes = 0;
            buffer.clear();
            std::mem::swap(&mut buffer, &mut slot.waiting);
        }
        if buffer.is_empty() {
            self.buffers.push(buffer);
        } else {
            slot.is_sending = true;
            self.driver.send(key, &slot.socket, buffer, slot.sent_bytes);
        }
        Ok(())
    }

    fn leave(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.is_leaving = true;
        if slot.is_receiving || slot.is_sending {
            self.driver.shut_down(slot.key, &slot.socket);
        }
        self.close_if_quiet(index);
    }

    fn close_if_quiet(&mut self, index: usize) {
        let slot = &self.slots[index];
        if !slot.is_receiving && !slot.is_sending {
            self.driver.close(self.slots.remove(index).socket);
        }
    }
}
