//! The messages of a load as bytes: one period of what is sent and of what must come back, and
//! how far along a connection is in each. Every byte that comes back is compared; nothing is
//! parsed but a control frame that comes between two messages.

use crate::dialect::{Dialect, append_pong};
use crate::mix::Mix;

/// A period that is repeated for ever on each connection.
#[derive(Debug)]
pub struct Period {
    requests: Stream,
    answers: Stream,
    has_control_frames: bool,
}

/// Messages one behind the other, and where each ends.
#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// A period is at least this long, so that most sends are one copy and most comparisons one
/// piece, and at most so much longer as a message is: it stays in the cache.
const PERIOD_BYTES_MIN: usize = 16 * 1024;

impl Period {
    /// The period of a mix: its sizes at least twice, no two messages in a row alike.
    #[must_use]
    pub fn new(dialect: Dialect, mix: &Mix) -> Self {
        let sizes = mix.sizes();
        let (mut requests, mut answers) = (Stream::default(), Stream::default());
        let mut number = 0;
        while answers.bytes.len() < PERIOD_BYTES_MIN || number < 2 * sizes.len() {
            for &bytes in &sizes {
                let payload = dialect.payload(number, bytes);
                dialect.append_request(&mut requests.bytes, &payload);
                dialect.append_answer(&mut answers.bytes, &payload);
                requests.ends.push(requests.bytes.len());
                answers.ends.push(answers.bytes.len());
                number += 1;
            }
        }
        Self { requests, answers, has_control_frames: dialect.has_control_frames() }
    }
}

/// How far one connection is: what it sends next and what must come next.
#[derive(Debug, Default)]
pub struct Position {
    /// The message of the period that is sent next.
    request: usize,
    /// The message of the period whose answer is due, and how much of the period has come.
    answer: usize,
    offset: usize,
    /// The beginning of a control frame; empty when none is under way.
    control: Vec<u8>,
}

impl Position {
    /// Appends the next `count` requests.
    pub fn append_requests(&mut self, period: &Period, mut count: usize, out: &mut Vec<u8>) {
        let Stream { bytes, ends } = &period.requests;
        while count > 0 {
            let first = self.request;
            let last = (first + count).min(ends.len());
            let start = if first == 0 { 0 } else { ends[first - 1] };
            out.extend_from_slice(&bytes[start..ends[last - 1]]);
            count -= last - first;
            self.request = last % ends.len();
        }
    }

    /// Compares `bytes` with what must come next and returns how many answers they complete.
    /// What a control frame asks for is appended to `reply`.
    ///
    /// # Errors
    ///
    /// A byte is wrong, or the server closes the connection.
    pub fn advance(
        &mut self,
        period: &Period,
        mut bytes: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<usize, String> {
        let mut completed = 0;
        while !bytes.is_empty() {
            if !self.control.is_empty() {
                bytes = self.take_control(bytes, reply)?;
                continue;
            }
            let expected = &period.answers.bytes[self.offset..];
            let length = bytes.len().min(expected.len());
            if bytes[..length] == expected[..length] {
                completed += self.step(&period.answers, length);
                bytes = &bytes[length..];
                continue;
            }
            let differs = bytes.iter().zip(expected).position(|(byte, right)| byte != right);
            let differs = differs.expect("the slices differ");
            completed += self.step(&period.answers, differs);
            bytes = &bytes[differs..];
            self.begin_control(period, bytes[0])?;
            bytes = &bytes[1..];
        }
        Ok(completed)
    }

    fn step(&mut self, answers: &Stream, length: usize) -> usize {
        self.offset += length;
        let first = self.answer;
        while answers.ends.get(self.answer).is_some_and(|&end| end <= self.offset) {
            self.answer += 1;
        }
        let completed = self.answer - first;
        if self.offset == answers.bytes.len() {
            (self.offset, self.answer) = (0, 0);
        }
        completed
    }

    /// Between two messages, a byte that begins none of ours may begin a control frame.
    fn begin_control(&mut self, period: &Period, byte: u8) -> Result<(), String> {
        let ends = &period.answers.ends;
        let start = if self.answer == 0 { 0 } else { ends[self.answer - 1] };
        let is_control = byte & 0x88 == 0x88 && period.has_control_frames;
        if self.offset == start && is_control {
            self.control.push(byte);
            return Ok(());
        }
        Err(format!(
            "a wrong answer: byte {} of a message of {} bytes is {byte:#04x}, not {:#04x}",
            self.offset - start,
            ends[self.answer] - start,
            period.answers.bytes[self.offset]
        ))
    }

    /// Takes what belongs to the control frame under way and returns the rest.
    fn take_control<'a>(
        &mut self,
        bytes: &'a [u8],
        reply: &mut Vec<u8>,
    ) -> Result<&'a [u8], String> {
        let frame_bytes = self.control.get(1).map_or(2, |length| 2 + usize::from(length & 0x7F));
        let missing = frame_bytes - self.control.len();
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.control.extend_from_slice(taken);
        if let [first, length, payload @ ..] = &self.control[..]
            && payload.len() == usize::from(length & 0x7F)
        {
            match first & 0x0F {
                0x8 => return Err(format!("the server closes: {}", close_reason(payload))),
                0x9 => append_pong(reply, payload),
                0xA => {}
                _ => return Err(format!("a control frame of no known kind: {first:#04x}")),
            }
            self.control.clear();
        }
        Ok(rest)
    }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("{code} {}", String::from_utf8_lossy(reason))
        }
        _ => "no status code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period() -> Period {
        Period::new(Dialect::WebSocket, &"5:1,300:1,0:1".parse().unwrap())
    }

    #[test]
    fn any_cut_of_the_right_bytes_counts_every_message_once() {
        let period = period();
        let answers = period.answers.bytes.repeat(2);
        for cut in [1, 3, 64, 1_000, answers.len()] {
            let (mut position, mut completed) = (Position::default(), 0);
            for chunk in answers.chunks(cut) {
                completed += position.advance(&period, chunk, &mut Vec::new()).unwrap();
            }
            assert_eq!(completed, 2 * period.answers.ends.len(), "cut at {cut}");
        }
    }

    #[test]
    fn requests_go_round_the_period() {
        let period = period();
        let messages = period.requests.ends.len();
        let mut out = Vec::new();
        let mut position = Position::default();
        position.append_requests(&period, 1, &mut out);
        position.append_requests(&period, 2 * messages - 1, &mut out);
        assert_eq!(out, period.requests.bytes.repeat(2));
    }

    #[test]
    fn a_wrong_byte_is_an_error() {
        let period = period();
        for at in [0, 1, 2, period.answers.bytes.len() - 1] {
            let mut bytes = period.answers.bytes.clone();
            bytes[at] ^= 1;
            let error = Position::default().advance(&period, &bytes, &mut Vec::new()).unwrap_err();
            assert!(error.contains("wrong answer"), "{at}: {error}");
        }
    }

    #[test]
    fn a_message_in_the_place_of_another_is_an_error() {
        let period = Period::new(Dialect::WebSocket, &Mix::uniform(64));
        let second = &period.answers.bytes[period.answers.ends[0]..];
        Position::default().advance(&period, second, &mut Vec::new()).unwrap_err();
    }

    #[test]
    fn a_ping_between_messages_is_answered_wherever_it_is_cut() {
        let period = period();
        let mut bytes = period.answers.bytes[..period.answers.ends[1]].to_vec();
        bytes.splice(period.answers.ends[0]..period.answers.ends[0], *b"\x89\x02hi");
        for cut in 1..bytes.len() {
            let (mut position, mut reply, mut completed) = (Position::default(), Vec::new(), 0);
            for chunk in bytes.chunks(cut) {
                completed += position.advance(&period, chunk, &mut reply).unwrap();
            }
            assert_eq!(completed, 2, "cut at {cut}");
            assert_eq!(reply[..2], [0x8A, 0x82], "cut at {cut}");
            assert_eq!(reply.len(), 8, "cut at {cut}");
        }
    }

    #[test]
    fn a_ping_within_a_message_and_a_close_are_errors() {
        let period = period();
        let mut bytes = period.answers.bytes[..3].to_vec();
        bytes.extend_from_slice(b"\x89\x00");
        Position::default().advance(&period, &bytes, &mut Vec::new()).unwrap_err();
        let close = b"\x88\x07\x03\xF1large";
        let error = Position::default().advance(&period, close, &mut Vec::new()).unwrap_err();
        assert!(error.contains("1009 large"), "{error}");
    }
}
