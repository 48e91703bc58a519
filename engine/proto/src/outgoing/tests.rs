//! The outgoing half: what is on the wire, and that nothing follows a Close.

use alloc::{vec, vec::Vec};

use super::*;
use crate::{Event, Header, Incoming, IncomingLimits, ProtocolError, Role};

/// What a client hears of a server's bytes, as one text for each event.
fn heard_by_client(mut bytes: Vec<u8>) -> Vec<alloc::string::String> {
    let limits = IncomingLimits::default();
    let mut incoming = Incoming::new(Role::Client);
    let mut events = incoming.receive(&mut bytes, &limits);
    let mut heard = vec![];
    while let Some(event) = events.next() {
        heard.push(alloc::format!("{:?}", event.unwrap()));
    }
    heard
}

#[test]
fn what_is_sent_is_heard_in_order() {
    let (mut server, mut out) = (Outgoing::server(), vec![]);
    assert!(server.message(&mut out, Message::Text("é")));
    assert_eq!(server.ping(&mut out, b"p"), Ok(true));
    assert!(server.message(&mut out, Message::Binary(&[1])));
    assert_eq!(server.pong(&mut out, &[0; 125]).map(|sent| sent && !server.close_sent()), Ok(true));
    assert!(server.frame(&mut out, false, Opcode::Text, b"a"));
    assert!(server.frame(&mut out, true, Opcode::Continuation, b"b"));
    assert!(server.close(&mut out, CloseCode::GOING_AWAY, "bye"));
    let heard = heard_by_client(out);
    assert_eq!(heard.len(), 6);
    assert_eq!(heard[0], "Message(Text(\"é\"))");
    assert_eq!(heard[1], "Ping([112])");
    assert_eq!(heard[4], "Message(Text(\"ab\"))");
    assert_eq!(heard[5], "Close(Close { code: CloseCode(1001), reason: \"bye\" })");
}

#[test]
fn nothing_follows_a_close() {
    let (mut server, mut out) = (Outgoing::server(), vec![]);
    assert!(!server.close_sent());
    assert!(server.close(&mut out, CloseCode::NORMAL, ""));
    assert!(server.close_sent());
    let only_close = out.clone();
    assert!(!server.close(&mut out, CloseCode::INTERNAL_ERROR, "again"));
    assert!(!server.message(&mut out, Message::Text("late")));
    assert!(!server.frame(&mut out, true, Opcode::Binary, b"late"));
    assert_eq!(server.ping(&mut out, b""), Ok(false));
    assert_eq!(server.pong(&mut out, b""), Ok(false));
    assert_eq!(out, only_close);
}

#[test]
fn control_payloads_have_room_for_125_bytes() {
    let (mut server, mut out) = (Outgoing::server(), vec![]);
    assert_eq!(server.ping(&mut out, &[0; 126]), Err(ControlPayloadTooLong));
    assert_eq!(server.pong(&mut out, &[0; 126]), Err(ControlPayloadTooLong));
    assert!(out.is_empty());
    use alloc::string::ToString;
    assert_eq!(ControlPayloadTooLong.to_string(), "a control frame carries at most 125 bytes");
}

#[test]
fn a_close_carries_its_code_and_as_much_reason_as_fits() {
    let close = |code, reason: &str| {
        let mut out = vec![];
        Outgoing::server().close(&mut out, code, reason);
        out
    };
    assert_eq!(close(CloseCode::NORMAL, "bye"), b"\x88\x05\x03\xe8bye");
    assert_eq!(close(CloseCode::NORMAL, ""), b"\x88\x02\x03\xe8");
    // Codes that are only reported are not on the wire, and neither is a reason without a code.
    assert_eq!(close(CloseCode::NO_STATUS, "x"), b"\x88\x00");
    assert_eq!(close(CloseCode::ABNORMAL, "x"), b"\x88\x00");
    let long = close(CloseCode::NORMAL, &"é".repeat(100));
    assert_eq!((long.len(), &long[..4]), (2 + 2 + 122, &b"\x88\x7c\x03\xe8"[..]));
    let full = close(CloseCode::NORMAL, &"x".repeat(124));
    assert_eq!(full.len(), 2 + 125);
}

#[test]
fn a_client_masks_every_frame_with_a_key_of_its_own() {
    let mut next = 0;
    let keys = move || {
        next += 1;
        [next, 0, 0, next]
    };
    let (mut client, mut out) = (Outgoing::client(keys), vec![]);
    assert!(client.message(&mut out, Message::Binary(&[0; 3])));
    assert_eq!(client.ping(&mut out, b""), Ok(true));
    assert!(client.close(&mut out, CloseCode::NORMAL, ""));
    assert!(!client.message(&mut out, Message::Text("late")));
    let mut keys_seen = vec![];
    let mut at = 0;
    for _ in 0..3 {
        let (header, header_bytes) = Header::decode(&out[at..]).unwrap().unwrap();
        keys_seen.extend(header.mask);
        at += header_bytes + header.payload_bytes as usize;
    }
    assert_eq!(at, out.len());
    assert_eq!(keys_seen, [[1, 0, 0, 1], [2, 0, 0, 2], [3, 0, 0, 3]]);
    assert_eq!(out[6..9], [1, 0, 0]);
}

#[test]
fn a_server_has_no_keys() {
    assert_eq!(Unmasked.next_key(), [0; 4]);
    const { assert!(!Unmasked::MASKED) };
}

#[test]
fn a_server_frame_fails_at_a_server() {
    let mut out = vec![];
    Outgoing::server().message(&mut out, Message::Text("hi"));
    let limits = IncomingLimits::default();
    let mut incoming = Incoming::new(Role::Server);
    let error =
        incoming.receive(&mut out, &limits).next().map(|event: Result<Event<'_>, _>| event.err());
    assert_eq!(error, Some(Some(ProtocolError::Unmasked)));
}
