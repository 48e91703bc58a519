//! The plain requests of a simulated client, and its handshake behind them: what it writes, and
//! which answers it may get.

use std::collections::VecDeque;

use ringwire_proto::{check_response, client_request};

use super::{Client, HANDSHAKE_TIMEOUT_MS, KEY, Manners, Stage};
use crate::config::SURPLUS_TIMEOUT_MS;
use crate::sim::dice::Dice;
use crate::sim::model::tickets::{Circumstances, Will};

/// A request that was made and has no response yet. Places are counted in bytes from the start of
/// the connection.
pub(super) struct Asked {
    number: u64,
    is_head: bool,
    is_handshake: bool,
    /// What the engine answers it with, before any handler is called.
    refused: Option<u16>,
    /// It says that it is the last one.
    closes: bool,
    start: u64,
    head_end: u64,
    /// Beyond everything, if it is never whole.
    end: u64,
    /// When its first byte, its head and its last byte were written.
    first_ms: Option<u64>,
    head_ms: Option<u64>,
    whole_ms: Option<u64>,
    expects_continue: bool,
    /// Not to be written before the server says so.
    body_held: Option<Vec<u8>>,
}

/// The requests of a client.
pub(super) struct Plain {
    /// The oldest first.
    asked: VecDeque<Asked>,
    next: u64,
    /// Plain requests still to be made.
    left: usize,
    upgrades: bool,
    /// It does not wait for answers.
    pipelines: bool,
    /// It sends FIN behind the last one, and reads on.
    half_closes: bool,
    has_ended: bool,
    written: u64,
    /// Of a response so far.
    read: Vec<u8>,
    any_answer: bool,
    /// A response said that it was the last one.
    is_over: bool,
    /// It has sent more than may wait for an answer.
    is_early: bool,
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
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether more has been written behind the oldest request than may wait for its answer.
    fn has_too_much_behind(&self, early_bytes_max: usize) -> bool {
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
                if self.dice.chance(80) { Will::Later } else { Will::Both }
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
        let body: Vec<u8> = (0..if has_body { bytes } else { 0 }).map(|i| b'a' + (i % 23) as u8).collect();
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
        coded.extend_from_slice(if framing == Framing::Broken { b"0\r\nx\r\n\r\n" } else { b"0\r\n\r\n" });
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

    /// Reads responses until one of them is a 101; what is behind that.
    pub(super) fn take_responses(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let may_come = !self.plain.is_over || self.manners == Manners::Hostile;
        assert!(may_come, "client {}: bytes behind the last response", self.number);
        self.plain.read.extend_from_slice(bytes);
        loop {
            let read = &self.plain.read;
            let head_bytes = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            let head = String::from_utf8_lossy(&read[..head_bytes]).into_owned();
            let status: u16 = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
            if status == 100 {
                self.plain.read.drain(..head_bytes);
                self.go_on_with_body();
                continue;
            }
            let is_hostile = self.manners == Manners::Hostile;
            let Some(asked) = self.plain.asked.front() else {
                assert!(is_hostile, "client {}: an answer to nothing: {head}", self.number);
                return None;
            };
            let is_bare = asked.is_head || matches!(status, 101 | 204 | 304 | 408);
            let body_bytes = if is_bare { 0 } else { field(&head, "Content-Length").unwrap_or(0) };
            if read.len() < head_bytes + body_bytes as usize {
                return None;
            }
            let opens = check_response(&read[..head_bytes], KEY, &[]).is_ok();
            assert!(opens == (status == 101) || is_hostile, "client {}: {head}", self.number);
            let rest = self.plain.read.split_off(head_bytes + body_bytes as usize);
            self.plain.read = rest;
            let asked = self.plain.asked.pop_front().expect("looked at just before");
            self.plain.any_answer = true;
            let early_bytes_max = self.model.borrow().config.early_bytes_max;
            self.plain.is_early = self.plain.has_too_much_behind(early_bytes_max);
            let is_last = head.contains("\r\nConnection: close\r\n");
            trace!("client {} has {status} for request {}", self.number, asked.number);
            if !is_hostile {
                self.check_answer(&asked, status, &head, is_last);
            }
            if status == 101 {
                return Some(std::mem::take(&mut self.plain.read));
            }
            if is_last || is_hostile {
                assert!(is_hostile || self.plain.read.is_empty(), "bytes behind the last response");
                self.plain.is_over = true;
                self.wire.borrow_mut().client_fin = true;
                self.stage = Stage::Leaving;
                return None;
            }
        }
    }

    fn go_on_with_body(&mut self) {
        let is_hostile = self.manners == Manners::Hostile;
        let Some(asked) = self.plain.asked.front_mut() else {
            assert!(is_hostile, "100 for nothing");
            return;
        };
        let is_expected = std::mem::take(&mut asked.expects_continue);
        assert!(is_expected || is_hostile, "100, and nobody waits, or twice");
        if let Some(body) = asked.body_held.take() {
            self.out.extend_from_slice(&body);
        }
    }

    fn check_answer(&mut self, asked: &Asked, status: u16, head: &str, is_last: bool) {
        let number = self.number;
        let what = format!("client {number}, request {}: {status}", asked.number);
        let model = self.model.borrow();
        let (config, is_stopping) = (&model.config, model.is_stopping);
        let may_be_surplus = config.connections_max < 10;
        let is_named = matches!(status, 200 | 201);
        let named = field(head, "X-Number");
        assert!(named.map_or(!is_named, |named| named == asked.number), "{what}: {named:?}");
        let is_whole = asked.whole_ms.is_some();
        let may_be_last = asked.closes
            || is_stopping
            || may_be_surplus
            || self.plain.has_ended
            || matches!(status, 400 | 403 | 404 | 408 | 413 | 500 | 503);
        assert!(!is_last || may_be_last, "{what}: the connection ends");
        assert!(is_last || status == 101 || !asked.closes, "{what}: the connection stays");
        let circumstances = Circumstances {
            timeout_ms: u64::from(config.ticket_timeout_ms),
            now_ms: &model.now_ms.clone(),
            is_stopping,
            has_ended: self.wire.borrow().client_fin,
        };
        let body_timeout_ms = u64::from(config.body_timeout_ms);
        drop(model);
        match status {
            408 => assert!(self.is_late(asked, body_timeout_ms), "{what}, and it was not late"),
            503 if may_be_surplus && asked.is_handshake => {}
            _ if asked.refused.is_some() => {
                assert_eq!(Some(status), asked.refused, "{what}");
                self.model.borrow_mut().requests.answered += 1;
            }
            _ => {
                assert!(is_whole, "{what}, and it was not all there");
                let id = (number, asked.number);
                let checked = self.model.borrow_mut().requests.check(id, status, &circumstances);
                assert_eq!(checked, Ok(()), "client {number}");
            }
        }
    }

    /// Whether a request may be answered with 408: its head or its body took too long.
    fn is_late(&self, asked: &Asked, body_timeout_ms: u64) -> bool {
        let now_ms = self.kernel.now_ms.get();
        let took = |from_ms: Option<u64>, to_ms: Option<u64>| {
            from_ms.map_or(0, |from_ms| to_ms.unwrap_or(now_ms).saturating_sub(from_ms))
        };
        // The first request has its time from the accept on.
        let since_ms = if asked.start == 0 { self.wire.borrow().accepted_ms } else { asked.first_ms };
        let is_body_late = asked.body_held.is_none() || !asked.expects_continue;
        took(since_ms, asked.head_ms) >= HANDSHAKE_TIMEOUT_MS
            || (is_body_late && took(asked.head_ms, asked.whole_ms) >= body_timeout_ms)
    }

    /// Whether the server may end the connection now, without a word.
    pub(super) fn may_end_plainly(&self) -> bool {
        let model = self.model.borrow();
        let now_ms = self.kernel.now_ms.get();
        let plain = &self.plain;
        if model.is_stopping || plain.is_early {
            return true;
        }
        let accepted_ms = self.wire.borrow().accepted_ms;
        let lived_ms = accepted_ms.map_or(0, |accepted_ms| now_ms.saturating_sub(accepted_ms));
        let may_be_surplus = model.config.connections_max < 10;
        if may_be_surplus && lived_ms >= SURPLUS_TIMEOUT_MS {
            return true;
        }
        let is_answered = plain.asked.iter().all(|asked| asked.whole_ms.is_none());
        let idle_ms = now_ms.saturating_sub(self.wrote_ms);
        let is_idle = if plain.any_answer {
            idle_ms >= u64::from(model.config.keep_alive_timeout_ms)
        } else {
            plain.written == 0 && lived_ms >= HANDSHAKE_TIMEOUT_MS
        };
        plain.is_over || (is_answered && (plain.has_ended || is_idle))
    }

    /// A request that was whole and should have its answer by now, in a world at rest.
    pub(in crate::sim) fn unanswered(&self) -> Option<u64> {
        let front = self.plain.asked.front()?;
        let is_waiting = self.model.borrow().requests.is_waiting((self.number, front.number));
        let waits_for_word = front.body_held.is_some() && front.head_ms.is_some();
        let is_owed = (front.whole_ms.is_some() && !is_waiting) || waits_for_word;
        (is_owed && self.stage == Stage::Opening).then_some(front.number)
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

/// The number in a header.
fn field(head: &str, name: &str) -> Option<u64> {
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
    line.parse().ok()
}
