//! What a server under test speaks: how a connection is opened, and what a message looks like
//! on its way there and back. It never waits for more than the opening handshake.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use clap::ValueEnum;
use ringwire_proto::{Message, Opcode, Outgoing, append_frame};
use serde::{Deserialize, Serialize};

/// What a server under test speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Dialect {
    /// WebSocket: an opening handshake, masked frames there, unmasked frames back.
    #[default]
    #[value(name = "websocket")]
    WebSocket,
    /// Raw TCP: the same masked frames there, the very same bytes back.
    Raw,
    /// Socket.IO 4 over WebSocket: events in text frames.
    #[value(name = "socket.io")]
    SocketIo,
}

/// Mask key of every frame: what it is does not matter to a server, and a fixed one keeps the
/// client cheap.
const MASK_KEY: [u8; 4] = [0x12, 0x9B, 0x5E, 0xC4];

/// The key of RFC 6455 §1.3, and the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The longest head or opening packet read: far above what any server sends.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

impl Dialect {
    /// Opens a connected stream, to where the first message may be sent.
    ///
    /// # Errors
    ///
    /// The server answers something else, or nothing.
    pub fn open(self, stream: &mut TcpStream) -> io::Result<()> {
        if self == Self::Raw {
            return Ok(());
        }
        stream.write_all(self.upgrade_request().as_bytes())?;
        let mut reader = BufReader::new(&*stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.by_ref().take(HEAD_BYTES_MAX).read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        check_head(&head)?;
        if self == Self::SocketIo {
            expect_packet(&mut reader, "0{")?;
            let mut connect = Vec::new();
            append_masked(&mut connect, Message::Text("40"));
            reader.get_mut().write_all(&connect)?;
            expect_packet(&mut reader, "40{")?;
        }
        if reader.buffer().is_empty() {
            Ok(())
        } else {
            Err(io::Error::other("the server speaks before it is spoken to"))
        }
    }

    /// The opening request of a connection; empty where there is none.
    #[must_use]
    pub fn upgrade_request(self) -> String {
        let target = match self {
            Self::Raw => return String::new(),
            Self::WebSocket => "/",
            Self::SocketIo => "/socket.io/?EIO=4&transport=websocket",
        };
        format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    }

    /// The payload of message `number`, of which there are as many as differ in their bytes:
    /// a message that takes another's place is noticed.
    #[must_use]
    pub fn payload(self, number: usize, bytes: usize) -> Vec<u8> {
        let bytes = (0..bytes).map(|index| (index + number * 31) as u8);
        match self {
            Self::WebSocket | Self::Raw => bytes.collect(),
            Self::SocketIo => bytes.map(|byte| b'a' + byte % 26).collect(),
        }
    }

    /// Appends a message as a client sends it.
    pub fn append_request(self, out: &mut Vec<u8>, payload: &[u8]) {
        match self {
            Self::WebSocket | Self::Raw => append_masked(out, Message::Binary(payload)),
            Self::SocketIo => append_masked(out, Message::Text(&event(payload))),
        }
    }

    /// Appends a message as it must come back.
    pub fn append_answer(self, out: &mut Vec<u8>, payload: &[u8]) {
        match self {
            Self::WebSocket => append_frame(out, Opcode::Binary, payload),
            Self::Raw => append_masked(out, Message::Binary(payload)),
            Self::SocketIo => append_frame(out, Opcode::Text, event(payload).as_bytes()),
        }
    }

    /// Whether a server may put control frames between two messages.
    #[must_use]
    pub fn has_control_frames(self) -> bool {
        self != Self::Raw
    }
}

/// Appends the answer to a Ping.
pub fn append_pong(out: &mut Vec<u8>, payload: &[u8]) {
    let pong = Outgoing::client(|| MASK_KEY).pong(out, payload);
    pong.expect("a Ping's payload fits its Pong");
}

/// A response head must say 101 and answer the key of the request.
///
/// # Errors
///
/// It says something else, which the error quotes.
pub fn check_head(head: &str) -> io::Result<()> {
    if head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT) {
        Ok(())
    } else {
        Err(io::Error::other(format!("no 101 but {head:?}")))
    }
}

fn append_masked(out: &mut Vec<u8>, message: Message<'_>) {
    Outgoing::client(|| MASK_KEY).message(out, message);
}

/// A Socket.IO event as `socket.emit("message", payload)` makes it.
fn event(payload: &[u8]) -> String {
    let payload = std::str::from_utf8(payload).expect("payloads of this dialect are letters");
    format!("42[\"message\",\"{payload}\"]")
}

/// Reads one short text frame of a server, which must begin with `start`.
fn expect_packet(reader: &mut impl Read, start: &str) -> io::Result<()> {
    let mut header = [0; 2];
    reader.read_exact(&mut header)?;
    let length = match header {
        [0x81, length @ 0..=125] => u64::from(length),
        [0x81, 126] => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            u64::from(u16::from_be_bytes(length))
        }
        _ => return Err(io::Error::other(format!("no text frame but {header:02x?}"))),
    };
    let mut packet = String::new();
    reader.take(length.min(HEAD_BYTES_MAX)).read_to_string(&mut packet)?;
    if packet.starts_with(start) {
        Ok(())
    } else {
        Err(io::Error::other(format!("no packet {start:?} but {packet:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(dialect: Dialect, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        dialect.append_request(&mut out, payload);
        out
    }

    fn answer(dialect: Dialect, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        dialect.append_answer(&mut out, payload);
        out
    }

    #[test]
    fn a_websocket_message_goes_masked_and_comes_back_plain() {
        let masked = [0x82, 0x82, 0x12, 0x9B, 0x5E, 0xC4, 0x12 ^ 7, 0x9B ^ 8];
        assert_eq!(request(Dialect::WebSocket, &[7, 8]), masked);
        assert_eq!(answer(Dialect::WebSocket, &[7, 8]), [0x82, 2, 7, 8]);
    }

    #[test]
    fn a_raw_message_comes_back_as_it_went() {
        assert_eq!(request(Dialect::Raw, &[7, 8]), answer(Dialect::Raw, &[7, 8]));
        assert_eq!(request(Dialect::Raw, &[7, 8]), request(Dialect::WebSocket, &[7, 8]));
    }

    #[test]
    fn a_socket_io_message_is_an_event_in_a_text_frame() {
        assert_eq!(answer(Dialect::SocketIo, b"abc"), b"\x81\x1342[\"message\",\"abc\"]");
        let payload = Dialect::SocketIo.payload(3, 1_000);
        assert!(payload.iter().all(u8::is_ascii_lowercase));
    }

    #[test]
    fn messages_of_one_size_differ() {
        let dialect = Dialect::WebSocket;
        assert_ne!(dialect.payload(0, 64), dialect.payload(1, 64));
    }

    #[test]
    fn only_a_101_with_the_right_answer_opens() {
        let right = format!("HTTP/1.1 101 Switching Protocols\r\nX: {ACCEPT}\r\n\r\n");
        check_head(&right).unwrap();
        check_head(&right.replace("101", "200")).unwrap_err();
        check_head(&right.replace(ACCEPT, "another")).unwrap_err();
    }

    #[test]
    fn an_opening_packet_is_read_to_its_end() {
        let mut bytes = &b"\x81\x040{ab\x82"[..];
        expect_packet(&mut bytes, "0{").unwrap();
        assert_eq!(bytes, b"\x82");
        expect_packet(&mut &b"\x81\x0241"[..], "40{").unwrap_err();
        expect_packet(&mut &b"\x82\x0240"[..], "40").unwrap_err();
    }
}
