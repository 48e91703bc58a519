//! The answers that a simulated client gets to its requests, and which of them are right.

use ringwire_proto::check_response;

use super::plain::Asked;
use super::{Client, HANDSHAKE_TIMEOUT_MS, KEY, Manners, Stage};
use crate::config::SURPLUS_TIMEOUT_MS;
use crate::sim::model::tickets::Circumstances;

impl Client {
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
            self.plain.was_early = self.plain.is_early;
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
            || self.wire.borrow().client_fin
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
        let since_ms =
            if asked.start == 0 { self.wire.borrow().accepted_ms } else { asked.first_ms };
        let is_body_late = asked.body_held.is_none() || !asked.expects_continue;
        took(since_ms, asked.head_ms) >= HANDSHAKE_TIMEOUT_MS
            || (is_body_late && took(asked.head_ms, asked.whole_ms) >= body_timeout_ms)
    }

    /// Whether the server may end the connection now, without a word.
    pub(super) fn may_end_plainly(&self) -> bool {
        let model = self.model.borrow();
        let now_ms = self.kernel.now_ms.get();
        let plain = &self.plain;
        if model.is_stopping || plain.is_early || plain.was_early {
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
    pub(in crate::sim) fn unanswered(&self) -> Option<String> {
        let front = self.plain.asked.front()?;
        let is_waiting = self.model.borrow().requests.is_waiting((self.number, front.number));
        let waits_for_word = front.body_held.is_some() && front.head_ms.is_some();
        let is_terminated = self.model.borrow().is_terminated(self.number);
        let is_owed = (front.whole_ms.is_some() && !is_waiting) || waits_for_word;
        (is_owed && !is_terminated && self.stage == Stage::Opening).then(|| self.plain.to_string())
    }
}

/// The number in a header.
fn field(head: &str, name: &str) -> Option<u64> {
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
    line.parse().ok()
}
