//! How threads without a ring wake this one.

use std::sync::Arc;

use io_uring::{opcode, types};

use super::UringDriver;
use crate::driver::{Operation, Token, Wait};
use crate::sys::waker::Waker;

impl UringDriver {
    /// Lets threads without a ring wake this one. Each write to the eventfd completes the
    /// multishot poll, which is edge-triggered and so needs no read.
    pub(in crate::sys) fn poll_waker(&mut self, waker: Arc<Waker>) {
        self.waker = Some(waker);
        self.arm_waker();
    }

    pub(super) fn arm_waker(&mut self) {
        let Some(waker) = &self.waker else { return };
        let fd = types::Fd(waker.as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true);
        self.push(poll.build().user_data(Token::of_shard(Operation::Wake).encode()));
    }

    /// The poll of the waker has failed (for want of memory, say): armed again, but not at once,
    /// since it may fail again.
    pub(super) fn retry_waker(&mut self) {
        const BACK_OFF_MS: u64 = 100;
        self.waker_retry_ms = Some(crate::sys::clock::now_ms() + BACK_OFF_MS);
    }

    /// Arms the waker's poll again if it is time; until then nobody else may wake the shard in
    /// time, so it wakes by itself.
    pub(super) fn bound_by_waker(&mut self, wait: Wait) -> Wait {
        let Some(retry_ms) = self.waker_retry_ms else { return wait };
        let left_ms = retry_ms.saturating_sub(crate::sys::clock::now_ms()) as u32;
        if left_ms == 0 {
            self.waker_retry_ms = None;
            self.arm_waker();
            // What was left meanwhile woke nobody.
            return Wait::No;
        }
        match wait {
            Wait::No => Wait::No,
            Wait::Millis(ms) => Wait::Millis(ms.min(left_ms)),
            Wait::Forever => Wait::Millis(left_ms),
        }
    }
}
