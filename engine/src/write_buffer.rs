//! What a connection has yet to send: *sealed* bytes, which the driver has or will get
//! next, and behind them one *open* buffer, to which frames are appended meanwhile. Also the pool the
//! open buffers come from, so that an idle connection has none.
//!
//! Order out is order in. This file never sends and never limits: it counts.

use std::collections::VecDeque;

use crate::driver::{Lease, Outbound, Run};

/// A run up to this size is copied behind bytes that wait anyway: one send for both beats
/// two, and memory held by a slow subscriber stays its own. Four kilobytes is where a copy
/// (some 100 ns) still costs a small part of what a send does.
const COPY_BYTES_MAX: usize = 4_096;

#[derive(Default)]
pub(crate) struct WriteBuffer {
    /// Goes out last: the open buffer, or a run that was published to an idle connection.
    last: Option<Outbound>,
    /// Goes out before `last`; used only by connections that fall behind.
    #[allow(clippy::box_collection)] // a thin pointer: almost every connection has none
    sealed: Option<Box<VecDeque<Outbound>>>,
    /// All bytes not yet taken by the kernel, those in flight included.
    unsent_bytes: usize,
    /// How much of the outbound in flight the kernel has taken by short sends.
    sent_bytes: usize,
}

impl WriteBuffer {
    /// All bytes not yet taken by the kernel.
    #[inline]
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Whether anything waits for a send (bytes in flight do not).
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.sealed.is_some() || self.last.as_ref().is_some_and(|last| last.bytes() > 0)
    }

    /// Lets `append` add bytes at the end.
    #[inline]
    pub(crate) fn append<R>(
        &mut self,
        pool: &mut BufferPool,
        append: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> R {
        let open = match &mut self.last {
            Some(Outbound::Own(open)) => open,
            _ => self.open(pool),
        };
        let before = open.len();
        let result = append(open);
        self.unsent_bytes += open.len() - before;
        result
    }

    /// Puts an open buffer at the end, where there is none.
    fn open(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        let mut open = pool.take();
        match self.last.take() {
            Some(Outbound::Run(run)) if run.as_slice().len() <= COPY_BYTES_MAX => {
                open.extend_from_slice(run.as_slice());
            }
            Some(last) => self.seal(last),
            None => {}
        }
        match self.last.insert(Outbound::Own(open)) {
            Outbound::Own(open) => open,
            _ => unreachable!("inserted just before"),
        }
    }

    /// Leaves room for a frame of so many bytes, which [`put_first`](Self::put_first) brings.
    /// Nothing may be waiting.
    pub(crate) fn reserve_first(&mut self, frame_bytes: usize) {
        debug_assert!(!self.is_waiting());
        self.unsent_bytes += frame_bytes;
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

    /// Adds a run at the end: by reference where that saves a copy, else by copying.
    /// `in_flight` says whether a send is.
    pub(crate) fn attach(&mut self, pool: &mut BufferPool, run: Run, in_flight: bool) {
        let bytes = run.as_slice().len();
        // A reference keeps the whole run: worth it only for most of one, lest a slow
        // subscriber of a quiet topic hold what busy ones published.
        let is_most_of_it = bytes * 2 >= run.bytes.len();
        let is_alone = !in_flight && !self.is_waiting();
        if is_most_of_it && (is_alone || bytes > COPY_BYTES_MAX) {
            self.unsent_bytes += bytes;
            if let Some(last) = self.last.replace(Outbound::Run(run))
                && last.bytes() > 0
            {
                self.seal(last);
            }
        } else {
            self.append(pool, |open| open.extend_from_slice(run.as_slice()));
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
        self.unsent_bytes -= bytes;
        self.sent_bytes += bytes;
        if self.sent_bytes < outbound.bytes() {
            return Some((outbound, self.sent_bytes));
        }
        pool.reclaim(outbound);
        None
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn owns_nothing(&self) -> bool {
        self.last.is_none() && self.sealed.is_none()
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
    /// Receive buffers that have been sent from, for the shard to recycle.
    leases: Vec<Lease>,
}

/// A fresh buffer's size: a few small frames; larger ones grow it once and it comes back.
const BUFFER_BYTES_MIN: usize = 512;
/// A buffer that one large message has grown beyond this is not kept.
const BUFFER_BYTES_KEPT_MAX: usize = 1 << 20;
/// What the pool keeps in all: the buffers of a full tick of small sends, or a handful of
/// large ones.
const POOL_BYTES_MAX: usize = 2 << 20;

impl BufferPool {
    pub(crate) fn new() -> Self {
        Self { buffers: Vec::new(), pooled_bytes: 0, leases: Vec::new() }
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
            Outbound::Run(_) => return,
            Outbound::Received(received) => return self.leases.push(received.lease),
        };
        let kept = self.pooled_bytes + buffer.capacity();
        if buffer.capacity() <= BUFFER_BYTES_KEPT_MAX && kept <= POOL_BYTES_MAX {
            buffer.clear();
            self.pooled_bytes = kept;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

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
        buffer.append(&mut pool, |open| open.extend_from_slice(b"own1"));
        buffer.attach(&mut pool, run(b"run2", 0, 4), false);
        buffer.attach(&mut pool, run(&large, 0, large.len()), false);
        buffer.append(&mut pool, |open| open.extend_from_slice(b"own2"));
        buffer.attach(&mut pool, run(b"xxrun3xxxxxxxx", 2, 6), false);
        assert_eq!(buffer.unsent_bytes(), 20 + large.len());
        let (out, sends) = drain(&mut buffer, &mut pool);
        assert_eq!(out, [b"run1own1run2".as_slice(), &large, b"own2run3"].concat());
        assert_eq!(sends, 3);
    }

    #[test]
    fn a_lone_run_is_shared_and_a_small_part_of_one_is_not() {
        let mut pool = BufferPool::new();
        for (start, end, shared) in [(0, 10, true), (3, 9, true), (4, 6, false)] {
            let mut buffer = WriteBuffer::default();
            buffer.attach(&mut pool, run(b"0123456789", start, end), false);
            let outbound = buffer.next_outbound().unwrap();
            assert_eq!(matches!(outbound, Outbound::Run(_)), shared, "{start}..{end}");
        }
    }

    #[test]
    fn a_short_send_goes_on_at_the_right_byte() {
        let mut pool = BufferPool::new();
        let mut buffer = WriteBuffer::default();
        buffer.append(&mut pool, |open| open.extend_from_slice(b"abcdef"));
        let outbound = buffer.next_outbound().unwrap();
        buffer.append(&mut pool, |open| open.extend_from_slice(b"later"));
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
