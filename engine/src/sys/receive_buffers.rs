//! The receive buffers of one shard: their memory, and where each of them is.
//!
//! Every buffer is in exactly one place: spare, provided to the kernel for a receive, or leased to
//! the shard. All of them are mapped at the start. A buffer takes memory from its first use on,
//! and the one that was used last is used next, so that a quiet server touches few pages.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

/// Anonymous memory, page-aligned and zero, unmapped on drop.
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    bytes: NonZeroUsize,
}

impl Mapping {
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(bytes).expect("a mapping has a size");
        // SAFETY: a fresh anonymous mapping aliases nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes.get(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap(2) never maps page zero unasked");
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `bytes` are those of a mapping this value alone owns; whoever
        // drops it has made sure that the kernel writes to it no more (`BufferRing`).
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes.get()) };
        debug_assert_eq!(result, 0);
    }
}

/// Where a buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Spare,
    Provided,
    Leased,
}

/// The size of a page of this machine (sysconf(3)).
fn page_bytes() -> usize {
    // SAFETY: takes no pointer.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("every Linux has a page size")
}

/// The buffers and their places.
pub(super) struct ReceiveBuffers {
    memory: Mapping,
    buffer_bytes: usize,
    places: Box<[Place]>,
    /// Spare buffers, the most recently used on top: it is warm in the cache.
    spare: Vec<u16>,
    /// Buffers that were written to since their pages were last given back.
    is_touched: Box<[bool]>,
}

impl ReceiveBuffers {
    /// Maps `count` buffers, a power of two up to 32,768, of `buffer_bytes` each. All are spare.
    pub(super) fn new(count: usize, buffer_bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 32_768, "checked by Config");
        Ok(Self {
            memory: Mapping::new(count * buffer_bytes)?,
            buffer_bytes,
            places: vec![Place::Spare; count].into_boxed_slice(),
            spare: (0..count as u16).rev().collect(),
            is_touched: vec![false; count].into_boxed_slice(),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The size of each.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Takes the spare buffer that was used last, for the kernel to write to; `None` if there is
    /// none.
    pub(super) fn provide(&mut self) -> Option<u16> {
        let buffer = self.spare.pop()?;
        self.places[buffer as usize] = Place::Provided;
        Some(buffer)
    }

    /// The kernel has filled `buffer`: it is leased from here on.
    ///
    /// # Panics
    ///
    /// If the kernel used a buffer it did not have.
    pub(super) fn lease(&mut self, buffer: u16) {
        let place = &mut self.places[buffer as usize];
        assert_eq!(*place, Place::Provided, "the kernel filled buffer {buffer}, which it had not");
        *place = Place::Leased;
        self.is_touched[buffer as usize] = true;
    }

    /// A lease is over; the buffer is spare again.
    ///
    /// # Panics
    ///
    /// If it was not leased.
    pub(super) fn recycle(&mut self, buffer: u16) {
        let place = &mut self.places[buffer as usize];
        assert_eq!(*place, Place::Leased, "buffer {buffer} is recycled without a lease");
        *place = Place::Spare;
        self.spare.push(buffer);
    }

    /// A buffer that was provided and not filled is spare again.
    ///
    /// # Panics
    ///
    /// If it was not provided.
    pub(super) fn take_back(&mut self, buffer: u16) {
        let place = &mut self.places[buffer as usize];
        assert_eq!(*place, Place::Provided, "buffer {buffer} is taken back from nobody");
        *place = Place::Spare;
        self.spare.push(buffer);
    }

    /// The first `bytes` bytes of a leased buffer.
    ///
    /// # Panics
    ///
    /// If it is not leased or shorter than that.
    #[inline]
    pub(super) fn leased(&mut self, buffer: u16, bytes: usize) -> &mut [u8] {
        assert_eq!(self.places[buffer as usize], Place::Leased, "buffer {buffer} is not leased");
        self.bytes_of(buffer, bytes)
    }

    /// A provided buffer, whole, for a receive that the shard makes itself.
    ///
    /// # Panics
    ///
    /// If it is not provided.
    #[inline]
    pub(super) fn provided(&mut self, buffer: u16) -> &mut [u8] {
        assert_eq!(
            self.places[buffer as usize],
            Place::Provided,
            "buffer {buffer} is not provided"
        );
        self.bytes_of(buffer, self.buffer_bytes)
    }

    #[inline]
    fn bytes_of(&mut self, buffer: u16, bytes: usize) -> &mut [u8] {
        assert!(bytes <= self.buffer_bytes);
        let start = self.start_of(buffer);
        // SAFETY: `bytes` is at most a buffer's size, so all of it lies inside the mapping,
        // which was zero when made and so is initialised. A leased buffer is not in the ring,
        // and a provided one is asked for only by a driver without a ring, so the kernel does not
        // write to it; `&mut self` keeps any other slice of it away.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), bytes) }
    }

    /// Where a buffer lies.
    #[inline]
    pub(super) fn start_of(&self, buffer: u16) -> NonNull<u8> {
        assert!((buffer as usize) < self.places.len());
        // SAFETY: `buffer` is below the number of buffers the mapping was made for.
        unsafe { self.memory.start.add(buffer as usize * self.buffer_bytes) }
    }

    /// Gives the pages behind every buffer back that holds nothing. The kernel must have no
    /// receive under way that has chosen a buffer already.
    pub(super) fn give_pages_back(&mut self) {
        let page_bytes = page_bytes();
        for buffer in 0..self.places.len() {
            if self.places[buffer] == Place::Leased || !self.is_touched[buffer] {
                continue;
            }
            self.is_touched[buffer] = false;
            // Only whole pages can be given back; buffers that share one keep it.
            if self.buffer_bytes.is_multiple_of(page_bytes) {
                let start = self.start_of(buffer as u16);
                // SAFETY: the range is one buffer, inside the mapping. It is not leased, so nobody
                // has a slice of it; what the kernel writes to it later finds fresh zero pages.
                let advised = unsafe {
                    libc::madvise(start.as_ptr().cast(), self.buffer_bytes, libc::MADV_DONTNEED)
                };
                debug_assert_eq!(advised, 0);
            }
        }
    }

    /// How many were written to since their pages were last given back.
    pub(super) fn touched(&self) -> usize {
        self.is_touched.iter().filter(|is_touched| **is_touched).count()
    }

    /// Gives the memory up for good: for a ring that ends while the kernel may still write.
    pub(super) fn leak(self) {
        std::mem::forget(self.memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(count: usize) -> ReceiveBuffers {
        ReceiveBuffers::new(count, 4_096).unwrap()
    }

    #[test]
    #[should_panic(expected = "which it had not")]
    fn a_buffer_filled_twice_is_a_broken_assumption() {
        let mut buffers = buffers(2);
        let buffer = buffers.provide().unwrap();
        buffers.lease(buffer);
        buffers.lease(buffer);
    }

    #[test]
    #[should_panic(expected = "without a lease")]
    fn a_buffer_recycled_twice_is_a_bug() {
        let mut buffers = buffers(2);
        let buffer = buffers.provide().unwrap();
        buffers.lease(buffer);
        buffers.recycle(buffer);
        buffers.recycle(buffer);
    }

    #[test]
    fn the_buffer_that_was_used_last_is_used_next() {
        let mut buffers = buffers(4);
        let first = buffers.provide().unwrap();
        let second = buffers.provide().unwrap();
        buffers.lease(second);
        buffers.take_back(first);
        assert_eq!(buffers.provide(), Some(first));
        buffers.recycle(second);
        assert_eq!(buffers.provide(), Some(second));
    }

    #[test]
    fn pages_of_what_holds_nothing_are_given_back() {
        let mut buffers = buffers(2);
        for buffer in [buffers.provide().unwrap(), buffers.provide().unwrap()] {
            buffers.provided(buffer).fill(7);
            buffers.lease(buffer);
        }
        assert_eq!(buffers.provide(), None);
        buffers.recycle(1);
        buffers.give_pages_back();
        assert_eq!(buffers.touched(), 1);
        assert_eq!(buffers.leased(0, 4_096), [7; 4_096], "what is leased stays");
        let buffer = buffers.provide().unwrap();
        assert_eq!(buffers.provided(buffer), [0; 4_096], "fresh pages");
    }
}
