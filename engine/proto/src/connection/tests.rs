//! Two ends that talk to each other in memory.

use alloc::{string::String, vec, vec::Vec};

use super::*;
use crate::{Header, Opcode};

const LIMITS: IncomingLimits = IncomingLimits { message_bytes_max: 1000, fragment_charge_bytes: 8 };

/// One end, with the bytes for the other and what it has heard.
struct End<K> {
    connection: Connection<K>,
    out: Vec<u8>,
    heard: Vec<String>,
}

type Keys = fn() -> [u8; 4];

fn pair() -> (End<Keys>, End<Unmasked>) {
    let keys: Keys = || [1, 2, 3, 4];
    (End::new(Connection::client(keys)), End::new(Connection::server()))
}

impl<K: MaskKeys> End<K> {
    fn new(connection: Connection<K>) -> Self {
        Self { connection, out: vec![], heard: vec![] }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let heard = &mut self.heard;
        let mut input = bytes.to_vec();
        self.connection.receive(&mut input, &LIMITS, &mut self.out, |_, _, event| {
            heard.push(match event {
                Event::Message(Message::Text(text)) => text.into(),
                Event::Message(Message::Binary(bytes)) => alloc::format!("{bytes:?}"),
                Event::Ping(payload) => alloc::format!("ping {payload:?}"),
                Event::Pong(payload) => alloc::format!("pong {payload:?}"),
                Event::Close(close) => alloc::format!("close {} {}", close.code, close.reason),
            });
        })
    }

    fn say(&mut self, text: &str) -> bool {
        self.connection.message(&mut self.out, Message::Text(text))
    }

    fn close(&mut self, code: CloseCode, reason: &str) -> bool {
        self.connection.close(&mut self.out, code, reason)
    }

    fn take_out(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.out)
    }
}

#[test]
fn a_conversation_from_hello_to_goodbye() {
    let (mut client, mut server) = pair();
    client.say("hello");
    client.connection.ping(&mut client.out, b"?").unwrap();
    client.close(CloseCode::NORMAL, "goodbye");
    server.hear(&client.take_out()).unwrap();
    assert_eq!(server.heard, ["hello", "ping [63]", "close 1000 goodbye"]);
    assert!(server.connection.may_close_transport());
    assert!(!client.connection.may_close_transport());
    client.hear(&server.take_out()).unwrap();
    assert_eq!(client.heard, ["pong [63]", "close 1000 "]);
    assert!(client.connection.may_close_transport());
    assert!(client.out.is_empty(), "a Close is not answered twice");
}

#[test]
fn a_ping_is_answered_with_its_payload_before_what_the_event_sends() {
    let (mut client, mut server) = pair();
    for length in [0, 1, 125] {
        let payload = vec![7; length];
        client.connection.ping(&mut client.out, &payload).unwrap();
        let mut input = client.take_out();
        let connection = &mut server.connection;
        connection
            .receive(&mut input, &LIMITS, &mut server.out, |outgoing, out, _| {
                outgoing.message(out, Message::Text("after"));
            })
            .unwrap();
        client.hear(&server.take_out()).unwrap();
        assert_eq!(client.heard, [alloc::format!("pong {payload:?}"), "after".into()]);
        client.heard.clear();
    }
}

#[test]
fn an_unsolicited_pong_is_not_answered() {
    let (mut client, mut server) = pair();
    client.connection.outgoing.pong(&mut client.out, b"unasked").unwrap();
    server.hear(&client.take_out()).unwrap();
    assert_eq!((server.heard.len(), server.out.len()), (1, 0));
}

#[test]
fn a_flood_of_pings_is_answered_with_fewer_bytes_than_it_has() {
    // tyrus#954, tinymux#1083: what is owed to a peer that floods must be bounded by what it sends.
    let (mut client, mut server) = pair();
    for length in (0..=125).cycle().take(1000) {
        client.connection.ping(&mut client.out, &vec![1; length]).unwrap();
    }
    let flood = client.take_out();
    server.hear(&flood).unwrap();
    assert_eq!(server.heard.len(), 1000);
    assert_eq!(server.out.len(), flood.len() - 1000 * 4, "an answer lacks the mask key");
}

#[test]
fn every_code_that_may_be_sent_is_echoed() {
    let codes = (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]);
    for code in codes.filter_map(CloseCode::new) {
        let (mut client, mut server) = pair();
        client.close(code, "why");
        server.hear(&client.take_out()).unwrap();
        assert_eq!(server.out, [&[0x88, 2][..], &code.as_u16().to_be_bytes()].concat());
    }
    let (mut client, mut server) = pair();
    client.close(CloseCode::NO_STATUS, "");
    server.hear(&client.take_out()).unwrap();
    assert_eq!((&server.heard[0][..], &server.out[..]), ("close 1005 ", &[0x88, 0][..]));
}

#[test]
fn codes_that_may_not_be_sent_are_a_violation() {
    let numbers = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
    for number in numbers.map(u16::to_be_bytes) {
        let (mut client, mut server) = pair();
        client.connection.outgoing.frame(&mut client.out, true, Opcode::Close, &number);
        assert_eq!(server.hear(&client.take_out()), Err(ProtocolError::CloseCode));
        assert_eq!(server.out[2..4], 1002u16.to_be_bytes());
        assert!(server.connection.may_close_transport());
    }
}

#[test]
fn both_may_close_at_once() {
    let (mut client, mut server) = pair();
    client.close(CloseCode::NORMAL, "c");
    server.close(CloseCode::GOING_AWAY, "s");
    let (to_server, to_client) = (client.take_out(), server.take_out());
    client.hear(&to_client).unwrap();
    server.hear(&to_server).unwrap();
    assert_eq!((&client.heard[0][..], &server.heard[0][..]), ("close 1001 s", "close 1000 c"));
    assert!(client.out.is_empty() && server.out.is_empty(), "one Close each");
    assert!(client.connection.may_close_transport() && server.connection.may_close_transport());
}

#[test]
fn messages_under_way_are_heard_after_our_close() {
    let (mut client, mut server) = pair();
    server.close(CloseCode::GOING_AWAY, "");
    client.say("was under way");
    client.connection.ping(&mut client.out, b"").unwrap();
    server.take_out();
    server.hear(&client.take_out()).unwrap();
    assert_eq!(server.heard, ["was under way", "ping []"]);
    assert!(server.out.is_empty() && !server.connection.may_close_transport());
    assert!(!server.say("too late"));
}

#[test]
fn a_violation_is_told_with_its_code_and_ends_it() {
    let violations: [(&[u8], ProtocolError); 4] = [
        (&[0x81, 0x00], ProtocolError::Unmasked),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], ProtocolError::InvalidUtf8),
        (&[0x82, 0xfe, 0x10, 0, 0, 0, 0, 0], ProtocolError::MessageTooBig),
        (&[0x88, 0x81, 0, 0, 0, 0, 3], ProtocolError::CloseTruncated),
    ];
    for (bytes, error) in violations {
        let (_, mut server) = pair();
        assert_eq!(server.hear(bytes), Err(error));
        let mut expected = vec![];
        Outgoing::server().close(&mut expected, error.close_code(), error.reason());
        assert_eq!(server.out, expected);
        assert!(server.connection.may_close_transport());
        assert_eq!(server.hear(&[0x81, 0x00]), Ok(()), "later input is ignored");
        assert_eq!(server.out, expected);
    }
}

#[test]
fn a_violation_after_our_close_is_not_told() {
    let (_, mut server) = pair();
    server.close(CloseCode::NORMAL, "");
    server.take_out();
    assert!(server.hear(&[0xff]).is_err());
    assert!(server.out.is_empty() && server.connection.may_close_transport());
}

#[test]
fn a_client_refuses_masked_frames() {
    let (mut client, mut other) = pair();
    other.say("unmasked is right");
    client.hear(&other.take_out()).unwrap();
    let (mut impostor, _) = pair();
    impostor.say("masked is wrong");
    assert_eq!(client.hear(&impostor.take_out()), Err(ProtocolError::Masked));
    let (header, _) = Header::decode(&client.out).unwrap().unwrap();
    assert_eq!((header.opcode, header.mask), (Opcode::Close, Some([1, 2, 3, 4])));
}

#[test]
fn echoed_bytes_are_the_ones_sent() {
    // ws CVE-2016-10518 and CVE-2026-45736: memory of others in echoed frames.
    let (mut client, mut server) = pair();
    server.out = Vec::with_capacity(4096);
    server.out.resize(4096, 0xaa);
    server.out.clear();
    client.connection.ping(&mut client.out, b"abc").unwrap();
    client.close(CloseCode::NORMAL, "");
    server.hear(&client.take_out()).unwrap();
    assert_eq!(server.out, b"\x8a\x03abc\x88\x02\x03\xe8");
}
