//! Slow twins of the fast routines, each as plain as its rule, for tests to compare with.
//!
//! Never shares code with what it checks: only the names of events and errors.

pub mod body;

use alloc::{vec, vec::Vec};

use crate::{IncomingLimits, ProtocolError, Role};

/// An event, owned; text as its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Heard {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, Vec<u8>),
}

/// Byte i of the payload with byte i mod 4 of the key (RFC 6455 §5.3).
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    for (i, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[i % 4];
    }
}

/// Whether some text begins with these bytes: with one of the ends that a character can lack.
pub fn utf8_is_possible(bytes: &[u8]) -> bool {
    let mut ends = vec![vec![]];
    // The second byte decides about overlong forms, surrogates and the end of the range, so the
    // least and the greatest continuation cover all that can follow a first byte.
    for byte in [0x80, 0xbf] {
        ends.push(vec![byte]);
        ends.push(vec![byte, 0x80]);
        ends.push(vec![byte, 0x80, 0x80]);
    }
    ends.iter().any(|end| core::str::from_utf8(&[bytes, end].concat()).is_ok())
}

/// All events in `stream`, and the first violation, looking at one byte after the other.
pub fn hear(
    role: Role,
    limits: &IncomingLimits,
    stream: &[u8],
) -> Result<Vec<Heard>, (Vec<Heard>, ProtocolError)> {
    let mut decoder = Decoder { role, limits: *limits, ..Decoder::default() };
    for &byte in stream {
        if decoder.closed {
            break;
        }
        if let Err(error) = decoder.take(byte) {
            return Err((decoder.heard, error));
        }
    }
    Ok(decoder.heard)
}

struct Decoder {
    role: Role,
    limits: IncomingLimits,
    heard: Vec<Heard>,
    closed: bool,
    /// The frame so far.
    header: Vec<u8>,
    payload: Vec<u8>,
    /// The earlier fragments of the message under way, and its opcode.
    message: Vec<u8>,
    message_opcode: Option<u8>,
    fragments: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            role: Role::Server,
            limits: IncomingLimits::default(),
            heard: vec![],
            closed: false,
            header: vec![],
            payload: vec![],
            message: vec![],
            message_opcode: None,
            fragments: 0,
        }
    }
}

impl Decoder {
    fn take(&mut self, byte: u8) -> Result<(), ProtocolError> {
        if self.header.len() < self.header_bytes() {
            self.header.push(byte);
            self.check_header()?;
        } else {
            let key_start = self.header.len() - self.key_bytes();
            let key = self.header[key_start..].to_vec();
            let mask = key.get(self.payload.len() % 4).copied().unwrap_or(0);
            self.payload.push(byte ^ mask);
            self.check_text()?;
        }
        let is_whole = self.header.len() == self.header_bytes()
            && self.payload.len() as u128 == self.payload_bytes();
        if is_whole { self.finish_frame() } else { Ok(()) }
    }

    fn first(&self) -> u8 {
        self.header[0]
    }

    fn fin(&self) -> bool {
        self.first() >= 128
    }

    fn opcode(&self) -> u8 {
        self.first() % 16
    }

    fn is_control(&self) -> bool {
        self.opcode() >= 8
    }

    /// The 7-bit length.
    fn short_length(&self) -> u8 {
        self.header[1] % 128
    }

    fn length_bytes(&self) -> usize {
        match self.short_length() {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn key_bytes(&self) -> usize {
        if self.role == Role::Server { 4 } else { 0 }
    }

    fn header_bytes(&self) -> usize {
        if self.header.len() < 2 { 2 } else { 2 + self.length_bytes() + self.key_bytes() }
    }

    fn payload_bytes(&self) -> u128 {
        match self.length_bytes() {
            0 => self.short_length().into(),
            n => self.header[2..2 + n].iter().fold(0, |sum, &byte| sum * 256 + u128::from(byte)),
        }
    }

    fn is_fragment(&self) -> bool {
        !self.is_control() && (!self.fin() || self.message_opcode.is_some())
    }

    fn check_header(&self) -> Result<(), ProtocolError> {
        match self.header.len() {
            1 => self.check_first(),
            2 => self.check_second(),
            n if n >= 3 && self.length_bytes() == 8 && self.header[2] >= 128 => {
                Err(ProtocolError::LengthOutOfRange)
            }
            4 if self.length_bytes() == 2 && self.payload_bytes() < 126 => {
                Err(ProtocolError::LengthNotMinimal)
            }
            8 if self.length_bytes() == 8 && self.header[2..8] == [0; 6] => {
                Err(ProtocolError::LengthNotMinimal)
            }
            _ => Ok(()),
        }?;
        if self.header.len() >= 2 && self.header.len() == self.header_bytes() {
            return self.check_cost();
        }
        Ok(())
    }

    fn check_first(&self) -> Result<(), ProtocolError> {
        if self.first() & 0x70 != 0 {
            Err(ProtocolError::ReservedBits)
        } else if ![0, 1, 2, 8, 9, 10].contains(&self.opcode()) {
            Err(ProtocolError::ReservedOpcode)
        } else if self.is_control() && !self.fin() {
            Err(ProtocolError::FragmentedControl)
        } else if self.opcode() == 0 && self.message_opcode.is_none() {
            Err(ProtocolError::NothingToContinue)
        } else if [1, 2].contains(&self.opcode()) && self.message_opcode.is_some() {
            Err(ProtocolError::MessageInterrupted)
        } else {
            Ok(())
        }
    }

    fn check_second(&self) -> Result<(), ProtocolError> {
        let is_masked = self.header[1] >= 128;
        if self.role == Role::Server && !is_masked {
            Err(ProtocolError::Unmasked)
        } else if self.role == Role::Client && is_masked {
            Err(ProtocolError::Masked)
        } else if self.is_control() && self.short_length() > 125 {
            Err(ProtocolError::ControlTooLong)
        } else {
            Ok(())
        }
    }

    fn check_cost(&self) -> Result<(), ProtocolError> {
        if self.is_control() {
            return Ok(());
        }
        let max = self.limits.message_bytes_max as u128;
        let charge = self.limits.fragment_charge_bytes as u128;
        let message_bytes = self.message.len() as u128 + self.payload_bytes();
        let fragments = self.fragments as u128 + 1;
        if message_bytes > max {
            Err(ProtocolError::MessageTooBig)
        } else if self.is_fragment() && message_bytes + fragments * charge > 2 * max + 64 * charge {
            Err(ProtocolError::TooManyFragments)
        } else {
            Ok(())
        }
    }

    fn check_text(&self) -> Result<(), ProtocolError> {
        let is_text = self.message_opcode.unwrap_or(self.opcode()) == 1;
        let text = [&self.message[..], &self.payload].concat();
        // Only the end is new, and no character has more than four bytes.
        let valid = core::str::from_utf8(&text).map_or_else(|e| e.valid_up_to(), |s| s.len());
        if is_text && !self.is_control() && !utf8_is_possible(&text[valid..]) {
            return Err(ProtocolError::InvalidUtf8);
        }
        Ok(())
    }

    fn finish_frame(&mut self) -> Result<(), ProtocolError> {
        let payload = core::mem::take(&mut self.payload);
        let heard = match self.opcode() {
            8 => Some(self.close(payload)?),
            9 => Some(Heard::Ping(payload)),
            10 => Some(Heard::Pong(payload)),
            opcode => {
                self.message.extend(payload);
                self.fragments += 1;
                let opcode = *self.message_opcode.get_or_insert(opcode);
                if self.fin() { Some(self.finish_message(opcode)?) } else { None }
            }
        };
        self.heard.extend(heard);
        self.header.clear();
        Ok(())
    }

    fn finish_message(&mut self, opcode: u8) -> Result<Heard, ProtocolError> {
        let message = core::mem::take(&mut self.message);
        self.message_opcode = None;
        self.fragments = 0;
        if opcode == 2 {
            return Ok(Heard::Binary(message));
        }
        match core::str::from_utf8(&message) {
            Ok(_) => Ok(Heard::Text(message)),
            Err(_) => Err(ProtocolError::InvalidUtf8),
        }
    }

    fn close(&mut self, payload: Vec<u8>) -> Result<Heard, ProtocolError> {
        self.closed = true;
        let (code, reason) = match payload.len() {
            0 => return Ok(Heard::Close(1005, vec![])),
            1 => return Err(ProtocolError::CloseTruncated),
            _ => (u16::from(payload[0]) * 256 + u16::from(payload[1]), &payload[2..]),
        };
        let may_be_sent = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]
            .contains(&code)
            || (3000..5000).contains(&code);
        if !may_be_sent {
            Err(ProtocolError::CloseCode)
        } else if core::str::from_utf8(reason).is_err() {
            Err(ProtocolError::CloseReason)
        } else {
            Ok(Heard::Close(code, reason.to_vec()))
        }
    }
}
