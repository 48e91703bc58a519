//! The client's end of a connection to a test shard.

use ringwire_proto::{
    CloseCode, Connection, Event, HeadLimits, HeadScan, IncomingLimits, Message, check_response,
    client_request,
};

use super::driver::SharedWire;
use crate::message::AsMessage;

/// What a client has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping with its payload. The client has answered it.
    Ping(Vec<u8>),
    /// A pong with its payload.
    Pong(Vec<u8>),
    /// The server's Close frame, with its code and its reason. The client has answered it.
    Close(CloseCode, String),
    /// The connection has ended, after a Close frame or without one. The client has ended its side,
    /// too.
    End,
}

/// A response of plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResponse {
    /// The status.
    pub status: u16,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl TestResponse {
    /// The first field of this name, in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A test needs no randomness.
type ClientConnection = Connection<fn() -> [u8; 4]>;

enum Stage {
    /// The handshake is on its way.
    Opening,
    Open(Box<ClientConnection>),
    /// Refused, or over.
    Over,
}

/// A client with a WebSocket connection to a [`TestShard`](super::TestShard), or with the wish for
/// one. Dropping it does not end the connection; [`leave`](Self::leave) does.
pub struct TestClient {
    pub(super) wire: SharedWire,
    stage: Stage,
    protocols: Vec<String>,
    end_told: bool,
}

/// The client's nonce (RFC 6455 §4.1). A test needs no randomness.
const KEY: [u8; 16] = *b"the sample nonce";

impl TestClient {
    pub(super) fn begin(wire: SharedWire, target: &str, headers: &[(&str, &str)]) -> Self {
        let is_protocol = |name: &str| name.eq_ignore_ascii_case("Sec-WebSocket-Protocol");
        let offered = headers.iter().filter(|(name, _)| is_protocol(name));
        let protocols: Vec<String> = offered
            .flat_map(|(_, value)| value.split(','))
            .map(|name| name.trim().to_owned())
            .collect();
        let names: Vec<&str> = protocols.iter().map(String::as_str).collect();
        let others: Vec<(&str, &str)> =
            headers.iter().copied().filter(|(name, _)| !is_protocol(name)).collect();
        let mut request = Vec::new();
        client_request(&mut request, "localhost", target, KEY, &names, &others)
            .expect("a target and headers that can be sent");
        wire.borrow_mut().to_server.extend_from_slice(&request);
        Self { wire, stage: Stage::Opening, protocols, end_told: false }
    }

    /// Whether the handshake has been answered.
    pub(super) fn is_answered(&mut self) -> bool {
        self.take_head();
        !matches!(self.stage, Stage::Opening) || self.wire.borrow().server_left
    }

    /// The response with which the handshake was refused, once it has come.
    pub fn response(&mut self) -> Option<TestResponse> {
        self.take_head();
        match self.stage {
            Stage::Opening => {
                let response = read_response(&self.wire)?;
                self.stage = Stage::Over;
                Some(response)
            }
            Stage::Open(_) | Stage::Over => None,
        }
    }

    /// Whether the connection is open.
    pub fn is_open(&mut self) -> bool {
        self.take_head();
        matches!(self.stage, Stage::Open(_))
    }

    /// Sends a message, which the shard gets with its next `run`.
    ///
    /// # Panics
    ///
    /// If the connection is not open.
    pub fn send(&mut self, message: impl AsMessage) {
        let message = message.as_message();
        self.write(|connection, out| {
            let _ = connection.message(out, message);
        });
    }

    /// Sends a ping.
    ///
    /// # Panics
    ///
    /// If the connection is not open, or the payload has more than 125 bytes.
    pub fn ping(&mut self, payload: &[u8]) {
        self.write(|connection, out| {
            connection.ping(out, payload).expect("a payload of at most 125 bytes");
        });
    }

    /// Sends a Close frame.
    ///
    /// # Panics
    ///
    /// If the connection is not open.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.write(|connection, out| {
            let _ = connection.close(out, code, reason);
        });
    }

    /// Sends bytes as they are, to break a rule with.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.wire.borrow_mut().to_server.extend_from_slice(bytes);
    }

    /// Ends the connection without a Close frame.
    pub fn leave(&mut self) {
        self.wire.borrow_mut().client_left = true;
    }

    /// Stops reading: the server's write buffer fills from here on. Or goes on reading.
    pub fn stop_reading(&mut self, is_stopped: bool) {
        self.wire.borrow_mut().is_full = is_stopped;
    }

    /// What has come since the last call, in order.
    ///
    /// # Panics
    ///
    /// If the server breaks the protocol.
    pub fn received(&mut self) -> Vec<Received> {
        self.take_head();
        let mut received = Vec::new();
        let mut wire = self.wire.borrow_mut();
        if let Stage::Open(connection) = &mut self.stage {
            let mut input = std::mem::take(&mut wire.to_client);
            let limits = IncomingLimits { message_bytes_max: usize::MAX, ..Default::default() };
            let mut answers = Vec::new();
            connection
                .receive(&mut input, &limits, &mut answers, |_, _, event| {
                    received.push(match event {
                        Event::Message(Message::Text(text)) => Received::Text(text.to_owned()),
                        Event::Message(Message::Binary(bytes)) => Received::Binary(bytes.to_vec()),
                        Event::Ping(payload) => Received::Ping(payload.to_vec()),
                        Event::Pong(payload) => Received::Pong(payload.to_vec()),
                        Event::Close(close) => Received::Close(close.code, close.reason.to_owned()),
                    });
                })
                .expect("the server keeps to the protocol");
            wire.to_server.extend_from_slice(&answers);
        }
        if wire.server_left && !self.end_told {
            self.end_told = true;
            wire.client_left = true;
            received.push(Received::End);
        }
        received
    }

    /// The text messages among what [`received`](Self::received) returns.
    pub fn texts(&mut self) -> Vec<String> {
        let texts = self.received().into_iter().filter_map(|received| match received {
            Received::Text(text) => Some(text),
            _ => None,
        });
        texts.collect()
    }

    fn write(&mut self, write: impl FnOnce(&mut ClientConnection, &mut Vec<u8>)) {
        self.take_head();
        let Stage::Open(connection) = &mut self.stage else { panic!("the connection is not open") };
        write(connection, &mut self.wire.borrow_mut().to_server);
    }

    /// Takes the 101, if it has come.
    fn take_head(&mut self) {
        if !matches!(self.stage, Stage::Opening) {
            return;
        }
        let mut wire = self.wire.borrow_mut();
        if !wire.to_client.starts_with(b"HTTP/1.1 101 ") {
            return;
        }
        let Ok(Some(head_bytes)) = HeadScan::new().scan(&wire.to_client, &HeadLimits::default())
        else {
            return;
        };
        let protocols: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
        check_response(&wire.to_client[..head_bytes], KEY, &protocols)
            .expect("a 101 that opens the connection");
        wire.to_client.drain(..head_bytes);
        let keys: fn() -> [u8; 4] = || [0x12, 0x34, 0x56, 0x78];
        self.stage = Stage::Open(Box::new(Connection::client(keys)));
    }
}

pub(super) fn write_request(
    wire: &SharedWire,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    wire.borrow_mut().to_server.extend_from_slice(request.as_bytes());
}

/// A response that is whole.
pub(super) fn read_response(wire: &SharedWire) -> Option<TestResponse> {
    let mut wire = wire.borrow_mut();
    let head_end = wire.to_client.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&wire.to_client[..head_end]).expect("a head is ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let response = TestResponse { status, headers, body: Vec::new() };
    let length =
        response.header("content-length").map_or(0, |text| text.parse().expect("a number"));
    let body_end = (head_end + length).min(wire.to_client.len());
    let body = wire.to_client[head_end..body_end].to_vec();
    wire.to_client.drain(..body_end);
    Some(TestResponse { body, ..response })
}
