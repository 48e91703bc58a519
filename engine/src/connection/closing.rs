//! The end of a connection as the connection sees it. `shard/closing.rs` tells the handler and the
//! driver.

use ringwire_proto::CloseCode;

use super::ending::Ending;
use super::slot::{Failing, Marks, PeerSide, Session, Stage};
use super::tally::Tally;
use super::write_buffer::CONTROL_FRAME_BYTES_MAX;
use crate::shard::core::Core;

/// What a connection is closed with for [`Overflow::Close`](crate::Overflow::Close).
pub(super) const WRITE_BUFFER_FULL: (CloseCode, &str) =
    (CloseCode::TRY_AGAIN_LATER, "write buffer full");

impl<S> Session<S> {
    /// Has the shard fail this connection as soon as no callback runs.
    pub(crate) fn fail_later(&mut self, core: &mut Core, code: CloseCode, reason: &'static str) {
        if !self.is_failing() {
            self.failing = Failing::Fail;
            core.failing.push_back((self.key, Ending::Fail(code, reason)));
        }
    }

    /// Has the shard cut this connection off as soon as no callback runs. Nothing is queued any
    /// more until then, and no message handed out.
    pub(crate) fn terminate_later(&mut self, core: &mut Core) {
        self.failing = Failing::CutOff;
        core.failing.push_back((self.key, Ending::CutOff));
    }

    /// The application or the server closes the connection. One that is about to be failed for
    /// a full write buffer is closed for that: the peer must not take what it got for everything.
    pub(crate) fn close(&mut self, core: &mut Core, code: CloseCode, reason: &str) {
        // It may turn out only now that what was published in this tick does not fit.
        self.serve_published(core);
        let (code, reason) = if self.is_failing() { WRITE_BUFFER_FULL } else { (code, reason) };
        self.begin_close(core, code, reason);
    }

    /// Queues our Close frame and leaves every topic: no data goes out after it.
    pub(crate) fn begin_close(&mut self, core: &mut Core, code: CloseCode, reason: &str) {
        if self.stage != Stage::Open {
            return;
        }
        self.serve_published(core);
        self.unsubscribe_all(core);
        let Self { outgoing, writes, .. } = self;
        writes.append(&mut core.pool, CONTROL_FRAME_BYTES_MAX, |out| {
            outgoing.close(out, code, reason);
        });
        self.enter_closing(core);
    }

    /// The peer sends nothing more that matters.
    pub(crate) fn expect_no_more(&mut self, core: &mut Core) {
        if self.peer_side == PeerSide::Open {
            self.peer_side = PeerSide::Done;
            self.tally = Tally::default();
        }
        self.mark_dirty(core);
    }

    /// From here on the connection only gets rid of its last bytes.
    pub(crate) fn enter_closing(&mut self, core: &mut Core) {
        self.stage = Stage::Closing;
        self.since_ms = core.now_ms as u32;
        // Little has been acknowledged soon; else the kernel is asked when the tick ends.
        self.marks.set(Marks::RECOUNTING, self.owed_bytes > 1_024);
        if !self.marks.contains(Marks::RECOUNTING) {
            self.count_progress_from_now(core, 0);
        }
        let deadline = core.now_ms + u64::from(core.config.close_timeout_ms);
        core.timers.schedule_no_later(self.key.slot, deadline);
        self.mark_dirty(core);
    }
}
