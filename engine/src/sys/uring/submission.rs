//! The queues of the ring, and the one system call.

use std::io;

use io_uring::{squeue, types};

use super::{GeteventsArg, UringDriver};

impl UringDriver {
    /// Queues an entry, submitting first if the queue is full. What that completes is taken out
    /// of the completion queue at once: a tick may queue any number of entries.
    pub(super) fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: what the entries of this driver point to is owned by the driver until
            // their last completion: send bytes in `sends`, receive buffers in `buffers`, those of
            // their own in `fills`.
            // Descriptors are open: a socket is closed only by `close`, which consumes it.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                return;
            }
            self.enter(0, None);
            self.reap();
        }
    }

    /// Empties the kernel's completion queue.
    pub(super) fn reap(&mut self) {
        // The kernel keeps what does not fit and delivers it with a later enter.
        self.overflows += u64::from(self.ring.submission().cq_overflow());
        self.reaped.extend(self.ring.completion());
    }

    /// The one system call. Returns when `want` completions are there, the time is over, a
    /// signal arrived, or the completion queue must be emptied first.
    pub(super) fn enter(&mut self, want: u32, timeout: Option<types::Timespec>) {
        let to_submit = self.ring.submission().len() as u32;
        let timespec = timeout.as_ref().map_or(0, |timeout| std::ptr::from_ref(timeout) as u64);
        let arg = GeteventsArg { sigmask: 0, sigmask_bytes: 8, min_wait_usec: 0, timespec };
        // SAFETY: `arg` is the structure EXT_ARG announces; it and the timespec it points to
        // (`types::Timespec` is the kernel's layout) live across the call. The entries it
        // submits are sound (`push`).
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                to_submit,
                want,
                self.enter_flags,
                &raw const arg,
                size_of::<GeteventsArg>(),
            )
        };
        if entered >= 0 {
            self.starved = 0;
            return;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // The time is over, a signal has come, or completions must be taken first.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY) => {}
            Some(libc::EAGAIN) => self.wait_for_memory(),
            Some(libc::EBADR) => panic!(
                "io_uring_enter: EBADR: the kernel had no memory to keep a completion and has \
                 dropped it, so a connection would never end; give the machine or the container \
                 more memory"
            ),
            _ => panic!("io_uring_enter: {error}"),
        }
    }

    /// The kernel has no memory for requests (EAGAIN): waits a little, since trying again at
    /// once would spin, and gives up after a minute.
    #[cold]
    fn wait_for_memory(&mut self) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
        const STARVED_MAX: u32 = 6_000;
        self.starved += 1;
        assert!(
            self.starved < STARVED_MAX,
            "io_uring_enter: EAGAIN for a minute: the kernel has no memory for requests; give \
             the machine or the container more memory"
        );
        std::thread::sleep(PAUSE);
    }
}
