//! The incoming half: limits, memory, the order of frames, and above all that cuts make no
//! difference.

mod limits;

use alloc::{string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    Event, HEADER_BYTES_MAX, Message,
    frame::append_any_frame,
    fuzz::{
        hear, hear_in_pieces,
        naive::{self, Heard},
    },
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const LIMITS: IncomingLimits = IncomingLimits { message_bytes_max: 1000, fragment_charge_bytes: 8 };

type Verdict = Result<Vec<Heard>, (Vec<Heard>, ProtocolError)>;

fn key(receiver: Role) -> Option<[u8; 4]> {
    (receiver == Role::Server).then_some(KEY)
}

/// A frame as `receiver` must get it.
fn frame(receiver: Role, fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    append_any_frame(&mut out, fin, opcode, key(receiver), payload);
    out
}

/// The header of a data frame to a server, with none of its payload.
fn bare_header(fin: bool, opcode: Opcode, payload_bytes: u64) -> Vec<u8> {
    let mut out = vec![];
    Header { fin, rsv: 0, opcode, mask: Some(KEY), payload_bytes }.append(&mut out);
    out
}

/// Frames to a server, one behind the other.
fn frames(frames: &[(bool, Opcode, &[u8])]) -> Vec<u8> {
    frames.iter().flat_map(|(fin, op, payload)| frame(Role::Server, *fin, *op, payload)).collect()
}

fn hear_whole(stream: &[u8]) -> Verdict {
    hear(Role::Server, &LIMITS, stream, stream.len().max(1))
}

fn fails(stream: &[u8]) -> Option<ProtocolError> {
    hear_whole(stream).err().map(|(_, error)| error)
}

/// Takes all of `stream` and expects no event.
fn feed_silently(incoming: &mut Incoming, stream: &[u8], limits: &IncomingLimits) {
    let mut input = stream.to_vec();
    assert_eq!(incoming.receive(&mut input, limits).next(), None);
}

use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};

#[test]
fn a_message_of_every_length_arrives_in_one_frame_for_both_roles() {
    let limits = IncomingLimits { message_bytes_max: 70_000, ..LIMITS };
    for role in [Role::Server, Role::Client] {
        for length in [0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 69_999, 70_000] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let stream = frame(role, true, Binary, &payload);
            let expected = Ok(vec![Heard::Binary(payload)]);
            assert_eq!(hear(role, &limits, &stream, stream.len()), expected);
            assert_eq!(hear(role, &limits, &stream, 1000), expected);
            let text = vec![b'x'; length];
            let stream = frame(role, true, Text, &text);
            assert_eq!(hear(role, &limits, &stream, 4096), Ok(vec![Heard::Text(text)]));
        }
        let stream = frame(role, true, Binary, &vec![0; 70_001]);
        assert_eq!(hear(role, &limits, &stream, 9), Err((vec![], ProtocolError::MessageTooBig)));
    }
}

#[test]
fn a_whole_message_is_lent_from_the_input_itself() {
    // One on the short path, one with an 8-byte length, one that is a Ping.
    for (opcode, length) in [(Binary, 100), (Text, 70_000), (Ping, 5)] {
        let limits = IncomingLimits { message_bytes_max: 70_000, ..LIMITS };
        let mut input = frame(Role::Server, true, opcode, &vec![b'x'; length]);
        let range = input.as_ptr_range();
        let mut incoming = Incoming::new(Role::Server);
        let mut events = incoming.receive(&mut input, &limits);
        let payload = match events.next() {
            Some(Ok(Event::Message(message))) => message.payload(),
            Some(Ok(Event::Ping(payload))) => payload,
            other => panic!("{other:?}"),
        };
        assert!(payload.len() == length && range.contains(&payload.as_ptr()));
    }
}

#[test]
fn one_read_may_hold_many_frames_and_the_start_of_one() {
    let mut stream = frames(&[
        (true, Text, b"one"),
        (true, Ping, b"p"),
        (true, Binary, b""),
        (false, Text, b"tw"),
        (true, Pong, b""),
        (true, Continuation, b"o"),
    ]);
    stream.push(0x81);
    let expected = vec![
        Heard::Text(b"one".to_vec()),
        Heard::Ping(b"p".to_vec()),
        Heard::Binary(vec![]),
        Heard::Pong(vec![]),
        Heard::Text(b"two".to_vec()),
    ];
    assert_eq!(hear_whole(&stream), Ok(expected));
}

/// Streams of every kind, good and bad, short enough to be cut everywhere.
fn streams() -> Vec<Vec<u8>> {
    let mut streams = vec![
        frames(&[(true, Text, b"Hello"), (true, Binary, &[0; 126])]),
        frames(&[(true, Text, b""), (true, Binary, b""), (true, Ping, b""), (true, Pong, b"")]),
        frames(&[
            (false, Text, "κό".as_bytes()),
            (true, Ping, b"ping within"),
            (false, Continuation, b""),
            (true, Pong, b""),
            (true, Continuation, "σμε".as_bytes()),
            (true, Text, b"next"),
        ]),
        frames(&[(false, Text, b"\xf0\x9f"), (false, Continuation, b"\x98"), (true, Ping, b"x")]),
        frames(&[(false, Text, b"\xf0\x9f"), (true, Continuation, b"\x98\x80")]),
        frames(&[(false, Text, b"\xf0\x9f"), (true, Continuation, b"\x98")]),
        frames(&[(true, Text, b"ends inside \xe2\x82")]),
        frames(&[(false, Binary, b"\xff\xfe"), (true, Continuation, b"\xff")]),
        frames(&[(true, Close, b"\x03\xe8bye"), (true, Text, b"ignored")]),
        frames(&[(false, Text, b"a"), (true, Close, b""), (true, Continuation, b"ignored")]),
        frames(&[(true, Close, b"\x03")]),
        frames(&[(true, Close, b"\x03\xed")]),
        frames(&[(true, Close, b"\x03\xe8\xff")]),
        frames(&[(true, Continuation, b"of nothing")]),
        frames(&[(false, Text, b"a"), (true, Text, b"b")]),
        frames(&[(false, Binary, &[1; 600]), (true, Continuation, &[1; 401])]),
        frames(&[(true, Text, &[b'x'; 1001])]),
        frame(Role::Client, true, Text, b"unmasked"),
    ];
    for bad in [&b"\xff"[..], b"a\xc0", b"\xed\xa0\x80", b"\xf4\x90", b"abc\xe1\x80A"] {
        streams.push(frames(&[(false, Text, bad), (true, Continuation, b"!")]));
    }
    for bits in [3, 7, 11, 15] {
        streams.push([frames(&[(true, Text, b"a")]), vec![0x80 | bits, 0x80]].concat());
    }
    let bad_lengths: [&[u8]; 4] = [
        b"\x82\xfe\x00\x7d",
        b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff",
        b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\x89\xfe\x00\xff",
    ];
    streams.extend(bad_lengths.map(|header| [header, &[0; 30]].concat()));
    streams
}

#[test]
fn every_stream_in_two_pieces_cut_anywhere_is_heard_alike() {
    for stream in streams() {
        let whole = hear_whole(&stream);
        assert_eq!(whole, naive::hear(Role::Server, &LIMITS, &stream), "{stream:x?}");
        assert_eq!(hear(Role::Server, &LIMITS, &stream, 1), whole, "{stream:x?} byte by byte");
        for cut in 1..stream.len() {
            let pieces = hear_in_pieces(Role::Server, &LIMITS, &stream, [cut]);
            assert_eq!(pieces, whole, "{stream:x?} cut at {cut}");
        }
    }
}

#[test]
fn every_short_stream_in_three_pieces_is_heard_alike() {
    for stream in streams().iter().filter(|stream| stream.len() < 80) {
        let whole = hear_whole(stream);
        for first in 1..stream.len() {
            for second in 1..stream.len() - first {
                let pieces = hear_in_pieces(Role::Server, &LIMITS, stream, [first, second]);
                assert_eq!(pieces, whole, "{stream:x?} cut at {first} and {second} later");
            }
        }
    }
}

#[test]
fn violations_of_order_mask_and_bits_are_told_apart() {
    use ProtocolError::*;
    let start = frames(&[(false, Text, b"a")]);
    assert_eq!(fails(&frames(&[(true, Continuation, b"")])), Some(NothingToContinue));
    assert_eq!(
        fails(&[&start[..], &frames(&[(true, Text, b"")])].concat()),
        Some(MessageInterrupted)
    );
    assert_eq!(fails(&[&start[..], &[0x82]].concat()), Some(MessageInterrupted));
    assert_eq!(fails(&[0xc1]), Some(ReservedBits));
    assert_eq!(fails(&[&start[..], &[0xc0]].concat()), Some(ReservedBits));
    assert_eq!(fails(&[0x83]), Some(ReservedOpcode));
    assert_eq!(fails(&[0x0a]), Some(FragmentedControl));
    for first in [0x81, 0x82, 0x88, 0x89, 0x8a, 0x01] {
        assert_eq!(fails(&[first, 0x00]), Some(Unmasked));
        let verdict = hear(Role::Client, &LIMITS, &[first, 0x80], 2);
        assert_eq!(verdict, Err((vec![], Masked)));
    }
}

#[test]
fn a_message_after_a_finished_fragmented_one_starts_afresh() {
    let stream = frames(&[
        (false, Text, b"a"),
        (true, Continuation, b"b"),
        (false, Binary, b"\xff"),
        (true, Continuation, b"\xfe"),
        (true, Text, b"c"),
        (true, Continuation, b"d"),
    ]);
    let heard = vec![
        Heard::Text(b"ab".to_vec()),
        Heard::Binary(b"\xff\xfe".to_vec()),
        Heard::Text(b"c".to_vec()),
    ];
    assert_eq!(hear_whole(&stream), Err((heard, ProtocolError::NothingToContinue)));
}

#[test]
fn text_fails_before_its_frame_is_whole() {
    // Autobahn 6.4: the byte 0xf4 may start a character, 0xf4 0x90 may not.
    let mut incoming = Incoming::new(Role::Server);
    let stream = frame(Role::Server, true, Text, b"ok \xf4\x90\x80\x80 and more");
    let (start, rest) = stream.split_at(6 + 4);
    feed_silently(&mut incoming, start, &LIMITS);
    let mut input = rest[..1].to_vec();
    assert_eq!(incoming.receive(&mut input, &LIMITS).next(), Some(Err(ProtocolError::InvalidUtf8)));
}

#[test]
fn texts_are_judged_alike_in_frames_in_fragments_and_byte_by_byte() {
    let valid = utf8::tests::VALID.iter().map(|text| (text.as_bytes(), true));
    let invalid = utf8::tests::INVALID.iter().map(|&(bytes, _)| (bytes, false));
    for (text, is_valid) in valid.chain(invalid) {
        let expected = match is_valid {
            true => Ok(vec![Heard::Text(text.to_vec())]),
            false => Err((vec![], ProtocolError::InvalidUtf8)),
        };
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            let stream = frames(&[(false, Text, first), (true, Continuation, second)]);
            assert_eq!(hear_whole(&stream), expected, "{text:x?} cut at {cut}");
            assert_eq!(hear(Role::Server, &LIMITS, &stream, 1), expected, "{text:x?}");
        }
        let binary = frames(&[(true, Binary, text)]);
        assert_eq!(hear_whole(&binary), Ok(vec![Heard::Binary(text.to_vec())]));
    }
}

#[test]
fn after_the_end_nothing_is_heard_any_more() {
    let bad = vec![0xff];
    let close = frames(&[(true, Close, b"")]);
    let more = frames(&[(true, Text, b"more"), (true, Ping, b"")]);
    for last in [bad, close] {
        let mut incoming = Incoming::new(Role::Server);
        let mut input = [&last[..], &more].concat();
        let mut events = incoming.receive(&mut input, &LIMITS);
        assert!(events.next().is_some());
        assert_eq!(events.next(), None);
        assert_eq!(events.unread_bytes(), 0);
        assert_eq!(events.next(), None);
        feed_silently(&mut incoming, &more, &LIMITS);
        assert!(incoming.is_ended() && incoming.is_idle() && !incoming.is_mid_message());
        assert_eq!(incoming.buffered_bytes(), 0);
    }
}

#[test]
fn an_end_frees_the_message_under_way() {
    for last in [&b"\xff"[..], &frames(&[(true, Close, b"")])] {
        let mut incoming = Incoming::new(Role::Server);
        feed_silently(&mut incoming, &frames(&[(false, Binary, &[1; 500])]), &LIMITS);
        assert!(incoming.buffered_bytes() >= 500);
        let mut input = last.to_vec();
        assert!(incoming.receive(&mut input, &LIMITS).next().is_some());
        assert_eq!(incoming.buffered_bytes(), 0);
    }
}

#[test]
fn a_deadline_runs_exactly_while_something_is_unfinished() {
    let stream = frames(&[(false, Text, b"a"), (true, Ping, b"p"), (true, Continuation, b"b")]);
    let mut incoming = Incoming::new(Role::Server);
    feed_silently(&mut incoming, b"", &LIMITS);
    assert!(incoming.is_idle());
    for (byte, received_bytes) in stream.iter().zip(1..) {
        let has_event = incoming.receive(&mut [*byte], &LIMITS).next().is_some();
        // The first two frames have seven bytes each.
        assert_eq!(has_event, [7 + 7, stream.len()].contains(&received_bytes));
        assert_eq!(incoming.is_mid_message(), received_bytes < stream.len());
    }
}

#[test]
fn keys_of_zero_and_unaligned_tails_are_fine() {
    for length in 0..64 {
        let payload: Vec<u8> = (0..length).collect();
        let mut stream = vec![];
        append_any_frame(&mut stream, true, Binary, Some([0; 4]), &payload);
        append_any_frame(&mut stream, true, Binary, Some(KEY), &payload);
        let expected = Ok(vec![Heard::Binary(payload.clone()), Heard::Binary(payload)]);
        assert_eq!(hear_whole(&stream), expected);
        assert_eq!(hear(Role::Server, &LIMITS, &stream, 5), expected);
    }
}

#[test]
fn a_headers_bytes_are_never_more_than_the_longest_header() {
    let header = bare_header(true, Binary, 1 << 40);
    assert_eq!(header.len(), HEADER_BYTES_MAX);
    let limits = IncomingLimits { message_bytes_max: usize::MAX, ..LIMITS };
    assert_eq!(hear(Role::Server, &limits, &header, 13), Ok(vec![]));
}

/// A frame that may or may not be allowed where it stands.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        4 => Just(Text),
        3 => Just(Binary),
        6 => Just(Continuation),
        2 => Just(Ping),
        1 => Just(Pong),
    ];
    let text = proptest::collection::vec(
        prop_oneof![8 => Just("a"), 2 => Just("é"), 1 => Just("😀")],
        0..60,
    );
    (opcode, any::<bool>(), text, any::<[u8; 4]>(), 0..4usize).prop_map(
        |(opcode, fin, text, key, cut)| {
            // The cut moves the ends of fragments into characters.
            let text: String = text.concat();
            let payload = &text.as_bytes()[cut.min(text.len())..];
            let payload =
                if opcode.is_control() { &payload[..payload.len().min(125)] } else { payload };
            let mut out = vec![];
            append_any_frame(&mut out, fin || opcode.is_control(), opcode, Some(key), payload);
            out
        },
    )
}

/// Messages in fragments cut anywhere, with Pings between.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let message = (any::<bool>(), ".{0,40}", proptest::collection::vec(0..30usize, 0..6));
    proptest::collection::vec(message, 1..6).prop_map(|messages| {
        let mut out = vec![];
        for (is_text, text, cuts) in messages {
            let mut rest = text.as_bytes();
            let mut opcode = if is_text { Text } else { Binary };
            for cut in cuts {
                let (fragment, next) = rest.split_at(cut.min(rest.len()));
                append_any_frame(&mut out, false, opcode, Some(KEY), fragment);
                append_any_frame(&mut out, true, Ping, Some(KEY), fragment);
                (rest, opcode) = (next, Continuation);
            }
            append_any_frame(&mut out, true, opcode, Some(KEY), rest);
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_frames_in_any_pieces_are_heard_as_the_naive_decoder_does(
        frames in proptest::collection::vec(any_frame(), 1..12),
        pieces in proptest::collection::vec(1..40usize, 0..40),
        message_bytes_max in 0..300usize,
    ) {
        let stream = frames.concat();
        let limits = IncomingLimits { message_bytes_max, fragment_charge_bytes: 16 };
        let expected = naive::hear(Role::Server, &limits, &stream);
        prop_assert_eq!(&hear(Role::Server, &limits, &stream, stream.len()), &expected);
        prop_assert_eq!(&hear_in_pieces(Role::Server, &limits, &stream, pieces), &expected);
    }

    #[test]
    fn a_conversation_in_any_pieces_is_understood(
        stream in conversation(),
        pieces in proptest::collection::vec(1..60usize, 0..40),
    ) {
        let expected = naive::hear(Role::Server, &LIMITS, &stream);
        prop_assert!(expected.is_ok());
        prop_assert_eq!(&hear_in_pieces(Role::Server, &LIMITS, &stream, pieces), &expected);
        prop_assert_eq!(&hear(Role::Server, &LIMITS, &stream, 1), &expected);
    }

    #[test]
    fn any_bytes_are_heard_as_the_naive_decoder_does(
        stream in proptest::collection::vec(any::<u8>(), 1..60),
        is_server in any::<bool>(),
    ) {
        let role = if is_server { Role::Server } else { Role::Client };
        let expected = naive::hear(role, &LIMITS, &stream);
        prop_assert_eq!(&hear(role, &LIMITS, &stream, stream.len()), &expected);
        prop_assert_eq!(&hear(role, &LIMITS, &stream, 1), &expected);
    }
}

#[test]
fn text_is_lent_as_text() {
    let mut input = frames(&[(true, Text, "é".as_bytes())]);
    let mut incoming = Incoming::new(Role::Server);
    let mut events = incoming.receive(&mut input, &LIMITS);
    assert_eq!(events.next(), Some(Ok(Event::Message(Message::Text("é")))));
    assert_eq!(events.next(), None);
}

#[test]
fn the_defaults_are_what_their_documentation_says() {
    let limits = IncomingLimits::default();
    assert_eq!((limits.message_bytes_max, limits.fragment_charge_bytes), (1 << 20, 128));
}
