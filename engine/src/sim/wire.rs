//! A TCP connection in memory, seen from both ends, and how often which fault strikes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::dice::Dice;

/// Both directions of one connection.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) to_server: VecDeque<u8>,
    pub(super) to_client: VecDeque<u8>,
    /// The client has sent FIN.
    pub(super) client_fin: bool,
    /// The client has reset the connection, or is gone.
    pub(super) client_reset: bool,
    /// The server has sent FIN.
    pub(super) server_fin: bool,
    /// The server has shut its socket down both ways.
    pub(super) server_shut: bool,
    /// The server has closed its socket with input unread: what the client has not read yet is
    /// lost to it.
    pub(super) server_reset: bool,
    pub(super) server_closed: bool,
    /// When the server accepted it.
    pub(super) accepted_ms: Option<u64>,
    /// Times at which bytes have come that the shard has not been handed yet, oldest first, each
    /// with their number.
    pub(super) arrivals: VecDeque<(u64, usize)>,
    /// When the server first looked, for the deadline under way, at what had come.
    pub(super) asked_ms: Option<u64>,
    /// The network has failed between the two, with this error number.
    pub(super) broken: Option<i32>,
    /// How many bytes the kernels hold for a client that does not read.
    pub(super) window_bytes: usize,
}

impl Wire {
    /// Bytes of the client arrive. A socket that is shut down both ways takes none any more: the
    /// kernel answers with a reset.
    pub(super) fn arrive(&mut self, now_ms: u64, bytes: &[u8]) {
        if !bytes.is_empty() && !self.server_shut {
            self.to_server.extend(bytes);
            self.arrivals.push_back((now_ms, bytes.len()));
        }
    }

    /// The shard is handed bytes.
    pub(super) fn note_taken(&mut self, mut bytes: usize) {
        while bytes > 0 {
            // None, if the connection was reset meanwhile.
            let Some((_, arrived)) = self.arrivals.front_mut() else { break };
            let taken = bytes.min(*arrived);
            *arrived -= taken;
            bytes -= taken;
            if *arrived == 0 {
                self.arrivals.pop_front();
            }
        }
        if self.arrivals.is_empty() {
            self.asked_ms = None;
        }
    }

    /// Nothing of what was sent is on its way any more.
    pub(super) fn lose_input(&mut self) {
        self.to_server.clear();
        self.arrivals.clear();
    }
}

pub(super) type SharedWire = Rc<RefCell<Wire>>;

/// Percentages, drawn once per run, so that runs differ in kind and not only in order: in one
/// everything is short, in another accepting keeps failing, in a third nothing goes wrong.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    /// An operation that could complete does not yet.
    pub(super) delay: usize,
    pub(super) short_receive: usize,
    pub(super) short_send: usize,
    /// A socket is found writable long after there is room.
    pub(super) writable_late: usize,
    /// A shard wakes up without a cause.
    pub(super) spurious: usize,
    /// A multishot operation ends after a success.
    pub(super) lost_more: usize,
    pub(super) accept_exhausted: usize,
    /// A cancelled accept still succeeds first.
    pub(super) cancel_late: usize,
    /// The network fails in one of the ways it can.
    pub(super) broken: usize,
    /// Completions are handed out over several ticks.
    pub(super) hand_out_late: usize,
    pub(super) reset: usize,
    pub(super) clock_jump: usize,
    /// A client misbehaves.
    pub(super) hostile: usize,
    /// A shard is not scheduled for long.
    pub(super) stuck_shard: usize,
}

impl Faults {
    /// Each fault is off in about half of the runs, and rare or frequent in the others.
    pub(super) fn draw(dice: &Dice) -> Self {
        let percent = |rates: &[usize]| if dice.chance(50) { *dice.pick(rates) } else { 0 };
        Self {
            delay: percent(&[10, 30, 60]),
            short_receive: percent(&[20, 60, 95]),
            short_send: percent(&[20, 60, 95]),
            writable_late: percent(&[10, 50]),
            spurious: percent(&[2, 30]),
            lost_more: percent(&[2, 10, 50]),
            accept_exhausted: percent(&[5, 30]),
            cancel_late: percent(&[30, 80]),
            broken: percent(&[1, 3]),
            hand_out_late: percent(&[60, 90]),
            reset: percent(&[1, 4]),
            clock_jump: percent(&[3, 10]),
            hostile: percent(&[10, 40]),
            stuck_shard: percent(&[2, 5]),
        }
    }

    /// For the end of a run: what must complete does so in time.
    pub(super) fn none() -> Self {
        Self {
            delay: 0,
            short_receive: 0,
            short_send: 0,
            writable_late: 0,
            spurious: 0,
            lost_more: 0,
            accept_exhausted: 0,
            cancel_late: 0,
            broken: 0,
            hand_out_late: 0,
            reset: 0,
            clock_jump: 0,
            hostile: 0,
            stuck_shard: 0,
        }
    }
}
