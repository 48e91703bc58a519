//! The plain requests of a simulated client, and its handshake behind them: what it writes.

use std::collections::VecDeque;

use ringwire_proto::client_request;

use super::{Client, KEY, Stage};
use crate::sim::dice::Dice;
use crate::sim::model::tickets::Will;

/// A request that was made and has no response yet. Places are counted in bytes from the start of
/// the connection.
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) is_head: bool,
    pub(super) is_handshake: bool,
    /// What the engine answers it with, before any handler is called.
    pub(super) refused: Option<u16>,
    /// It says that it is the last one.
    pub(super) closes: bool,
    pub(super) start: u64,
    pub(super) head_end: u64,
    /// Beyond everything, if it is never whole.
    pub(super) end: u64,
    /// When its first byte, its head and its last byte were written.
    pub(super) first_ms: Option<u64>,
    pub(super) head_ms: Option<u64>,
    pub(super) whole_ms: Option<u64>,
    pub(super) expects_continue: bool,
    /// Not to be written before the server says so.
    pub(super) body_held: Option<Vec<u8>>,
}

/// The requests of a client.
pub(super) struct Plain {
    /// The oldest first.
    pub(super) asked: VecDeque<Asked>,
    pub(super) next: u64,
    /// Plain requests still to be made.
    pub(super) left: usize,
    pub(super) upgrades: bool,
    /// It does not wait for answers.
    pub(super) pipelines: bool,
    /// It sends FIN behind the last one, and reads on.
    pub(super) half_closes: bool,
    pub(super) has_ended: bool,
    pub(super) written: u64,
    /// Of a response so far.
    pub(super) read: Vec<u8>,
    pub(super) any_answer: bool,
    /// A response said that it was the last one.
    pub(super) is_over: bool,
    /// It has sent more than may wait behind the oldest request; the same of the one before that,
    /// whose response the client may have before the server knows that it is out.
    pub(super) is_early: bool,
    pub(super) was_early: bool,
}

/// For whoever asks why a connection has ended.
impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { asked, has_ended, written, any_answer, is_over, is_early, .. } = self;
        let asked: Vec<_> = asked.iter().map(|asked| (asked.number, asked.whole_ms)).collect();
        write!(f, "unanswered {asked:?}, {written} written, answered {any_answer}, ")?;
        write!(f, "{:?} of a response, ", String::from_utf8_lossy(&self.read))?;
        write!(f, "ended {has_ended}, over {is_over}, early {is_early}")
    }
}

impl Plain {
    pub(super) fn draw(dice: &Dice, is_plain: bool) -> Self {
        Self {
            asked: VecDeque::new(),
            next: 1,
            left: if is_plain { dice.between(1, 6) } else { 0 },
            upgrades: !is_plain || dice.chance(60),
            pipelines: is_plain && dice.chance(50),
            half_closes: is_plain && dice.chance(15),
            has_ended: false,
            written: 0,
            read: Vec::new(),
            any_answer: false,
            is_over: false,
            is_early: false,
            was_early: false,
        }
    }

    /// Whether more has been written behind the oldest request than may wait for its answer.
    pub(super) fn has_too_much_behind(&self, early_bytes_max: usize) -> bool {
        let behind = self.asked.front().map(|asked| self.written.saturating_sub(asked.end));
        behind.is_some_and(|behind| behind > early_bytes_max as u64)
    }

    /// Time has passed that is nobody's.
    pub(super) fn skip_time(&mut self, ms: u64) {
        for asked in &mut self.asked {
            for time_ms in [&mut asked.first_ms, &mut asked.head_ms, &mut asked.whole_ms] {
                *time_ms = time_ms.map(|time_ms| time_ms + ms);
            }
        }
    }
}

/// Ways in which a request has a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    /// Chunked, with an error in it.
    Broken,
}

impl Client {
    /// The first request, and perhaps more behind it.
    pub(super) fn ask_first(&mut self) {
        self.ask();
        while self.plain.pipelines && self.dice.chance(60) && self.can_ask() {
            self.ask();
        }
    }

    /// The next request, if it is time for one.
    pub(super) fn ask_on(&mut self) {
        let is_idle = self.plain.asked.is_empty() && self.out.is_empty();
        if (is_idle || self.plain.pipelines) && self.can_ask() {
            self.ask();
        }
    }

    fn can_ask(&self) -> bool {
        let Plain { asked, left, upgrades, has_ended, is_over, .. } = &self.plain;
        let is_held = asked.iter().any(|asked| asked.body_held.is_some());
        let is_last = asked.iter().any(|asked| asked.end == u64::MAX);
        !(is_held || is_last || *has_ended || *is_over) && (*left > 0 || *upgrades)
    }

    fn ask(&mut self) {
        if self.plain.left > 0 {
            self.plain.left -= 1;
            self.ask_plainly();
        } else if std::mem::take(&mut self.plain.upgrades) {
            self.ask_for_upgrade();
        }
    }

    fn made(&self) -> u64 {
        self.plain.written + self.out.len() as u64
    }

    fn draw_will(&self) -> Will {
        let habits = self.model.borrow().habits;
        match () {
            () if self.dice.chance(habits.tickets) => {
                if self.dice.chance(80) {
                    Will::Later
                } else {
                    Will::Both
                }
            }
            () if self.dice.chance(2) => Will::Panic,
            () => Will::Now,
        }
    }

    fn plan(&mut self, body: Vec<u8>) -> u64 {
        let number = self.plain.next;
        self.plain.next += 1;
        let will = self.draw_will();
        self.model.borrow_mut().requests.plan((self.number, number), will, body);
        number
    }

    fn ask_for_upgrade(&mut self) {
        let start = self.made();
        let number = self.plan(Vec::new());
        let refused = self.is_refused.then_some(404);
        let target =
            if self.is_refused { "/nothing".into() } else { format!("/{}/{number}", self.number) };
        client_request(&mut self.out, "sim", &target, KEY, &[], &[]).expect("a valid request");
        let end = self.made();
        let asked = Asked { refused, is_handshake: true, ..Asked::new(number, start, end) };
        self.plain.asked.push_back(asked);
        // Frames may come right behind the request.
        if self.dice.chance(30) {
            self.command();
        }
    }

    fn ask_plainly(&mut self) {
        let method = *self.dice.pick(&["GET", "GET", "HEAD", "OPTIONS", "POST", "POST", "PUT"]);
        let has_body = matches!(method, "POST" | "PUT");
        let limit = self.model.borrow().config.body_bytes_max;
        let bytes = match self.dice.below(6) {
            0 if limit < 3_000 => limit + 1,
            1 if limit < 3_000 => limit,
            2 => 0,
            _ => self.dice.between(1, limit.min(900)),
        };
        let body: Vec<u8> =
            (0..if has_body { bytes } else { 0 }).map(|i| b'a' + (i % 23) as u8).collect();
        let framing = *self.dice.pick(&[Framing::Length, Framing::Length, Framing::Chunked]);
        let framing = if self.dice.chance(4) { Framing::Broken } else { framing };
        let start = self.made();
        let number = self.plan(body.clone());
        let closes = self.dice.chance(8);
        let expects_continue = !body.is_empty() && self.dice.chance(30);
        let mut head = format!("{method} /q/{}/{number} HTTP/1.1\r\nHost: sim\r\n", self.number);
        let has_framing = !body.is_empty() || (has_body && self.dice.chance(50));
        match framing {
            _ if !has_framing => {}
            Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
            Framing::Chunked | Framing::Broken => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        head.push_str(if closes { "Connection: close\r\n" } else { "" });
        head.push_str(if expects_continue { "Expect: 100-continue\r\n" } else { "" });
        head.push_str("\r\n");
        let coded = match framing {
            _ if !has_framing => Vec::new(),
            Framing::Length => body.clone(),
            Framing::Chunked | Framing::Broken => self.in_chunks(&body, framing),
        };
        let refused = match () {
            () if method == "OPTIONS" => Some(204),
            () if body.len() > limit => Some(413),
            () if has_framing && framing == Framing::Broken => Some(400),
            () => None,
        };
        let head_end = start + head.len() as u64;
        let end = head_end + coded.len() as u64;
        self.out.extend_from_slice(head.as_bytes());
        let mut asked = Asked {
            refused,
            closes,
            head_end,
            expects_continue,
            is_head: method == "HEAD",
            ..Asked::new(number, start, end)
        };
        match self.dice.below(20) {
            // Never whole.
            0 => {
                let made = self.out.len() - head.len() + self.dice.below(head.len() + coded.len());
                self.out.extend_from_slice(&coded);
                self.out.truncate(made);
                (asked.end, self.plain.left, self.plain.upgrades) = (u64::MAX, 0, false);
                if made < head.len() {
                    asked.head_end = u64::MAX;
                }
            }
            1..=10 if expects_continue => asked.body_held = Some(coded),
            _ => self.out.extend_from_slice(&coded),
        }
        self.plain.asked.push_back(asked);
    }

    /// A body in chunks, of any sizes.
    fn in_chunks(&self, body: &[u8], framing: Framing) -> Vec<u8> {
        let mut coded = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(self.dice.between(1, rest.len()));
            coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(b"\r\n");
            rest = behind;
        }
        coded.extend_from_slice(if framing == Framing::Broken {
            b"0\r\nx\r\n\r\n"
        } else {
            b"0\r\n\r\n"
        });
        coded
    }

    /// So many bytes have been written.
    pub(super) fn note_written(&mut self, bytes: usize, now_ms: u64) {
        let early_bytes_max = self.model.borrow().config.early_bytes_max;
        let plain = &mut self.plain;
        plain.written += bytes as u64;
        for asked in &mut plain.asked {
            let places = [
                (&mut asked.first_ms, asked.start + 1),
                (&mut asked.head_ms, asked.head_end),
                (&mut asked.whole_ms, asked.end),
            ];
            for (time_ms, place) in places {
                if plain.written >= place {
                    time_ms.get_or_insert(now_ms);
                }
            }
        }
        plain.is_early |= plain.has_too_much_behind(early_bytes_max);
        let is_done = plain.left == 0 && !plain.upgrades && self.out.is_empty();
        let is_held = plain.asked.iter().any(|asked| asked.body_held.is_some());
        if plain.half_closes && is_done && !is_held && self.stage == Stage::Opening {
            plain.has_ended = true;
            self.wire.borrow_mut().client_fin = true;
        }
    }
}

impl Asked {
    fn new(number: u64, start: u64, end: u64) -> Self {
        Self {
            number,
            is_head: false,
            is_handshake: false,
            refused: None,
            closes: false,
            start,
            head_end: end,
            end,
            first_ms: None,
            head_ms: None,
            whole_ms: None,
            expects_continue: false,
            body_held: None,
        }
    }
}
