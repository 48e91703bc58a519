//! The write buffer of a connection: *sealed* bytes, which are in flight or go out next, and one
//! *open* buffer behind them, to which new frames are appended. Also the pool of open buffers, so
//! that an idle connection owns none.
//!
//! Bytes leave in the order in which they were appended. Limits are checked in `outbox.rs`.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::driver::{Lease, Outbound, Run};

/// A run up to this size is copied behind bytes that wait anyway: one send for both beats
/// two, and memory held by a slow subscriber stays its own. Four kilobytes is where a copy
/// (some 100 ns) still costs a small part of what a send does.
pub(crate) const COPY_BYTES_MAX: usize = 4_096;

/// An open buffer is sealed before it grows beyond this, unless a single frame does: a buffer
/// that doubled without end would take twice the memory its bytes are charged for, and three
/// times while it moves. 64 KiB: what one send on loopback takes in one segment.
const OPEN_BYTES_MAX: usize = 64 << 10;

#[derive(Default)]
pub(crate) struct WriteBuffer {
    /// Goes out last: the open buffer, or a run that was published to an idle connection.
    last: Option<Outbound>,
    /// Goes out before `last`; used only by connections that fall behind.
    #[allow(clippy::box_collection)] // a thin pointer: almost every connection has none
    sealed: Option<Box<VecDeque<Outbound>>>,
    /// All bytes not yet taken by the kernel, those in flight included. 32 bits keep the slot
    /// small; `Config` and [`FRAME_BYTES_MAX`] keep the sum below.
    unsent_bytes: u32,
    /// How much of the outbound in flight the kernel has taken by short sends.
    sent_bytes: u32,
}

/// Longest frame that can be queued: with `write_bytes_max` (at most 1 GiB) of others before it,
/// the sum stays below 2³².
pub(crate) const FRAME_BYTES_MAX: usize = 3 << 30;

/// The longest control frame of ours (RFC 6455 §5.5: a payload of at most 125 bytes).
pub(crate) const CONTROL_FRAME_BYTES_MAX: usize = 2 + 125;

impl WriteBuffer {
    /// All bytes not yet taken by the kernel.
    #[inline]
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes as usize
    }

    /// Whether anything waits for a send (bytes in flight do not).
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.sealed.is_some() || self.last.as_ref().is_some_and(|last| last.bytes() > 0)
    }

    /// Lets `append` add bytes at the end, about `bytes` of them.
    #[inline]
    pub(crate) fn append<R>(
        &mut self,
        pool: &mut BufferPool,
        bytes: usize,
        append: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> R {
        let open = match &mut self.last {
            Some(Outbound::Own(open)) if open.len() + bytes <= open.capacity() => open,
            _ => self.room_for(pool, bytes),
        };
        let before = open.len();
        let result = append(open);
        self.unsent_bytes += (open.len() - before) as u32;
        result
    }

    /// The open buffer with room for `bytes` more: the one there is, grown, or a new one.
    fn room_for(&mut self, pool: &mut BufferPool, bytes: usize) -> &mut Vec<u8> {
        let is_full = match &self.last {
            Some(Outbound::Own(open)) => !open.is_empty() && open.len() + bytes > OPEN_BYTES_MAX,
            _ => true,
        };
        if is_full {
            self.open(pool);
        }
        let Some(Outbound::Own(open)) = &mut self.last else {
            unreachable!("opened just before");
        };
        let needed = open.len() + bytes;
        if needed > open.capacity() {
            let doubled = (open.capacity() * 2).min(OPEN_BYTES_MAX);
            open.reserve_exact(doubled.max(needed) - open.len());
        }
        open
    }

    /// Puts an open buffer at the end, behind what is there.
    fn open(&mut self, pool: &mut BufferPool) {
        let mut open = pool.take();
        match self.last.take() {
            Some(Outbound::Run(run)) if run.as_slice().len() <= COPY_BYTES_MAX => {
                open.extend_from_slice(run.as_slice());
            }
            Some(last) => self.seal(last),
            None => {}
        }
        self.last = Some(Outbound::Own(open));
    }

    /// Leaves room for a frame of so many bytes, which [`put_first`](Self::put_first) brings.
    /// Nothing may be waiting.
    pub(crate) fn reserve_first(&mut self, frame_bytes: usize) {
        debug_assert!(!self.is_waiting());
        self.unsent_bytes += frame_bytes as u32;
    }

    /// Puts what room was left for in front of what has been queued since.
    pub(crate) fn put_first(&mut self, outbound: Outbound) {
        if self.is_waiting() {
            self.sealed.get_or_insert_default().push_front(outbound);
        } else {
            self.last = Some(outbound);
        }
    }

    fn seal(&mut self, outbound: Outbound) {
        self.sealed.get_or_insert_default().push_back(outbound);
    }

    /// Adds a run at the end: by reference where that saves a copy, else by copying. A reference
    /// keeps all of a run's memory: it is for the caller to see that this is what is sent.
    /// `in_flight` says whether a send is.
    pub(crate) fn attach(&mut self, pool: &mut BufferPool, run: Run, in_flight: bool) {
        let bytes = run.as_slice().len();
        let is_alone = !in_flight && !self.is_waiting();
        if is_alone || bytes > COPY_BYTES_MAX {
            self.unsent_bytes += bytes as u32;
            if let Some(last) = self.last.replace(Outbound::Run(run))
                && last.bytes() > 0
            {
                self.seal(last);
            }
        } else {
            self.append(pool, bytes, |open| open.extend_from_slice(run.as_slice()));
        }
    }

    /// What to send next, if anything waits.
    #[inline]
    pub(crate) fn next_outbound(&mut self) -> Option<Outbound> {
        self.sent_bytes = 0;
        if let Some(sealed) = &mut self.sealed {
            let outbound = sealed.pop_front();
            if sealed.is_empty() {
                self.sealed = None;
            }
            return outbound;
        }
        self.last.take().filter(|last| last.bytes() > 0)
    }

    /// The kernel took `bytes` more of `outbound`. Returns it with the offset to go on from
    /// if that was not all; else its buffer goes back to the pool.
    #[inline]
    pub(crate) fn advance(
        &mut self,
        pool: &mut BufferPool,
        outbound: Outbound,
        bytes: usize,
    ) -> Option<(Outbound, usize)> {
        self.unsent_bytes -= bytes as u32;
        self.sent_bytes += bytes as u32;
        if (self.sent_bytes as usize) < outbound.bytes() {
            return Some((outbound, self.sent_bytes as usize));
        }
        pool.reclaim(outbound);
        None
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn owns_nothing(&self) -> bool {
        self.last.is_none() && self.sealed.is_none()
    }

    /// Bytes that wait by reference, and the memory those references keep.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn shared_bytes(&self) -> (usize, usize) {
        let outbounds = self.sealed.iter().flat_map(|sealed| sealed.iter()).chain(&self.last);
        let mut kept = std::collections::BTreeMap::new();
        let mut bytes = 0;
        for outbound in outbounds {
            if let Outbound::Run(run) = outbound {
                bytes += run.as_slice().len();
                kept.insert(run.bytes.as_ptr(), run.bytes.capacity());
            }
        }
        (bytes, kept.values().sum())
    }

    /// Drops everything that waits.
    pub(crate) fn clear(&mut self, pool: &mut BufferPool) {
        while let Some(outbound) = self.next_outbound() {
            pool.reclaim(outbound);
        }
        self.unsent_bytes = 0;
    }
}

/// Write buffers between uses, the most recently used on top.
pub(crate) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    pooled_bytes: usize,
    /// What was freed instead of kept, since this was last taken.
    freed_bytes: usize,
    /// Receive buffers that have been sent from, for the shard to recycle.
    leases: Vec<Lease>,
}

/// A fresh buffer's size: a few small frames; larger ones grow it once and it comes back.
const BUFFER_BYTES_MIN: usize = 512;
/// A buffer that one large message has grown beyond this is not kept.
const BUFFER_BYTES_KEPT_MAX: usize = 256 << 10;
/// What the pool keeps in all: the buffers of a full tick of small sends, or a handful of
/// large ones.
const POOL_BYTES_MAX: usize = 2 << 20;
/// What it keeps of that when it is trimmed.
const POOL_BYTES_QUIET: usize = 256 << 10;

impl BufferPool {
    pub(crate) fn new() -> Self {
        Self { buffers: Vec::new(), pooled_bytes: 0, freed_bytes: 0, leases: Vec::new() }
    }

    #[inline]
    fn take(&mut self) -> Vec<u8> {
        match self.buffers.pop() {
            Some(buffer) => {
                self.pooled_bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(BUFFER_BYTES_MIN),
        }
    }

    /// Lets go of what a crowd has left here beyond what a quiet server needs.
    pub(crate) fn trim(&mut self) {
        while self.pooled_bytes > POOL_BYTES_QUIET
            && let Some(buffer) = self.buffers.pop()
        {
            self.pooled_bytes -= buffer.capacity();
            self.freed_bytes += buffer.capacity();
        }
        self.buffers.shrink_to(POOL_BYTES_QUIET / BUFFER_BYTES_MIN);
        self.leases.shrink_to_fit();
    }

    /// Receive buffers that are not sent from any more.
    #[inline]
    pub(crate) fn pop_lease(&mut self) -> Option<Lease> {
        self.leases.pop()
    }

    /// Keeps the buffer for its next use, if it is one and small enough.
    #[inline]
    pub(crate) fn reclaim(&mut self, outbound: Outbound) {
        let mut buffer = match outbound {
            Outbound::Own(buffer) => buffer,
            Outbound::Run(run) => return self.let_go(run),
            Outbound::Received(received) => return self.leases.push(received.lease),
        };
        let kept = self.pooled_bytes + buffer.capacity();
        if buffer.capacity() <= BUFFER_BYTES_KEPT_MAX && kept <= POOL_BYTES_MAX {
            buffer.clear();
            self.pooled_bytes = kept;
            self.buffers.push(buffer);
        } else {
            self.freed_bytes += buffer.capacity();
        }
    }

    /// The last reference to a run frees its memory.
    #[inline]
    fn let_go(&mut self, run: Run) {
        if let Some(bytes) = Rc::into_inner(run.bytes) {
            self.freed_bytes += bytes.capacity();
        }
    }

    /// What was freed since this was last taken, in bytes.
    pub(crate) fn freed_bytes(&self) -> usize {
        self.freed_bytes
    }

    /// As [`freed_bytes`](Self::freed_bytes), and begins anew.
    pub(crate) fn take_freed_bytes(&mut self) -> usize {
        std::mem::take(&mut self.freed_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8], start: usize, end: usize) -> Run {
        Run { bytes: Rc::new(bytes.to_vec()), start: start as u32, end: end as u32 }
    }

    fn slice(outbound: &Outbound) -> &[u8] {
        match outbound {
            Outbound::Own(bytes) => bytes,
            Outbound::Run(run) => run.as_slice(),
            Outbound::Received(_) => panic!("lies in a receive buffer"),
        }
    }

    fn drain(buffer: &mut WriteBuffer, pool: &mut BufferPool) -> (Vec<u8>, usize) {
        let (mut out, mut sends) = (Vec::new(), 0);
        while let Some(outbound) = buffer.next_outbound() {
            out.extend_from_slice(slice(&outbound));
            let bytes = outbound.bytes();
            assert!(buffer.advance(pool, outbound, bytes).is_none());
            sends += 1;
        }
        assert_eq!(buffer.unsent_bytes(), 0);
        (out, sends)
    }

    #[test]
    fn order_out_is_order_in_whatever_is_shared() {
        let large = vec![7; COPY_BYTES_MAX + 1];
        let mut pool = BufferPool::new();
        let mut buffer = WriteBuffer::default();
        buffer.attach(&mut pool, run(b"run1", 0, 4), false);
        buffer.append(&mut pool, 4, |open| open.extend_from_slice(b"own1"));
        buffer.attach(&mut pool, run(b"run2", 0, 4), false);
        buffer.attach(&mut pool, run(&large, 0, large.len()), false);
        buffer.append(&mut pool, 4, |open| open.extend_from_slice(b"own2"));
        buffer.attach(&mut pool, run(b"xxrun3xxxxxxxx", 2, 6), false);
        assert_eq!(buffer.unsent_bytes(), 20 + large.len());
        let (out, sends) = drain(&mut buffer, &mut pool);
        assert_eq!(out, [b"run1own1run2".as_slice(), &large, b"own2run3"].concat());
        assert_eq!(sends, 3);
    }

    #[test]
    fn a_lone_run_is_shared_and_one_behind_others_if_it_is_large() {
        let large = vec![7; COPY_BYTES_MAX + 1];
        for (bytes, is_alone, shared) in
            [(&b"small"[..], true, true), (b"small", false, false), (&large, false, true)]
        {
            let mut pool = BufferPool::new();
            let mut buffer = WriteBuffer::default();
            buffer.attach(&mut pool, run(bytes, 0, bytes.len()), !is_alone);
            let outbound = buffer.next_outbound().unwrap();
            assert_eq!(matches!(outbound, Outbound::Run(_)), shared, "{} bytes", bytes.len());
        }
    }

    /// What waits once took up to twice its bytes, since its buffer doubled.
    #[test]
    fn what_waits_takes_the_memory_it_is_charged_for() {
        for message_bytes in [1, 100, 1_024, 5_000, 40_000, 70_000, 300_000] {
            let mut pool = BufferPool::new();
            let mut buffer = WriteBuffer::default();
            while buffer.unsent_bytes() < 1 << 20 {
                buffer.append(&mut pool, message_bytes, |open| {
                    open.resize(open.len() + message_bytes, 0);
                });
            }
            let unsent = buffer.unsent_bytes();
            let mut capacity = 0;
            while let Some(outbound) = buffer.next_outbound() {
                let Outbound::Own(bytes) = outbound else { panic!("nothing is shared here") };
                capacity += bytes.capacity();
            }
            assert!(
                capacity * 100 <= unsent * 115,
                "{capacity} for {unsent}, {message_bytes} each"
            );
        }
    }

    #[test]
    fn a_short_send_goes_on_at_the_right_byte() {
        let mut pool = BufferPool::new();
        let mut buffer = WriteBuffer::default();
        buffer.append(&mut pool, 6, |open| open.extend_from_slice(b"abcdef"));
        let outbound = buffer.next_outbound().unwrap();
        buffer.append(&mut pool, 5, |open| open.extend_from_slice(b"later"));
        let (outbound, offset) = buffer.advance(&mut pool, outbound, 2).unwrap();
        assert_eq!(&slice(&outbound)[offset..], b"cdef");
        let (outbound, offset) = buffer.advance(&mut pool, outbound, 3).unwrap();
        assert_eq!(&slice(&outbound)[offset..], b"f");
        assert_eq!(buffer.unsent_bytes(), 6);
        assert!(buffer.advance(&mut pool, outbound, 1).is_none());
        assert_eq!(drain(&mut buffer, &mut pool).0, b"later");
    }

    #[test]
    fn the_pool_is_bounded_and_does_not_keep_giants() {
        let mut pool = BufferPool::new();
        pool.reclaim(Outbound::Own(Vec::with_capacity(BUFFER_BYTES_KEPT_MAX + 1)));
        assert_eq!(pool.buffers.len(), 0);
        for _ in 0..10_000 {
            pool.reclaim(Outbound::Own(Vec::with_capacity(BUFFER_BYTES_MIN)));
        }
        assert_eq!(pool.buffers.len(), POOL_BYTES_MAX / BUFFER_BYTES_MIN);
        assert_eq!(pool.take().capacity(), BUFFER_BYTES_MIN);
    }
}
