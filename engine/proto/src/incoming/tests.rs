//! The incoming half: limits, memory, the order of frames, and above all that cuts make no
//! difference.

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
fn a_declared_length_grows_nothing() {
    // gobwas/ws, nats, fastwebsockets: memory was reserved for what a header only announced.
    let limits = IncomingLimits { message_bytes_max: usize::MAX, ..LIMITS };
    for declared in [1 << 20, 1 << 32, (1 << 62) - 1, (1 << 63) - 1] {
        for fin in [true, false] {
            let mut incoming = Incoming::new(Role::Server);
            feed_silently(&mut incoming, &bare_header(fin, Binary, declared), &limits);
            assert_eq!(incoming.buffered_bytes(), 0, "{declared} declared");
            feed_silently(&mut incoming, &[0; 10], &limits);
            assert!(incoming.is_mid_message());
            assert!(incoming.buffered_bytes() <= 20 + 4096);
        }
    }
}

#[test]
fn memory_follows_the_bytes_that_came() {
    /// For the header with which the message can be sent on.
    const ROOM_BYTES: usize = 10;
    let limits = IncomingLimits { message_bytes_max: 1 << 20, ..LIMITS };
    let mut incoming = Incoming::new(Role::Server);
    feed_silently(&mut incoming, &bare_header(true, Binary, 100_000), &limits);
    for pieces in 1..100 {
        feed_silently(&mut incoming, &[0; 1000], &limits);
        let factor = if 1000 * pieces < SPARSE_BYTES - ROOM_BYTES { 2 } else { 8 };
        assert!(incoming.buffered_bytes() <= factor * (1000 * pieces + ROOM_BYTES));
        assert!(incoming.buffered_bytes() <= 100_000 + ROOM_BYTES, "no more than is needed");
    }
    let mut input = [0; 1000];
    let mut events = incoming.receive(&mut input, &limits);
    let Some(Ok(Event::Message(message))) = events.next() else { panic!("the message is whole") };
    assert_eq!(message.len(), 100_000);
    drop(events);
    assert_eq!((incoming.buffered_bytes(), incoming.is_idle()), (0, true));
}

#[test]
fn pings_cut_in_two_do_not_move_a_long_message_again_and_again() {
    let limits = IncomingLimits { message_bytes_max: 1 << 20, ..LIMITS };
    let mut incoming = Incoming::new(Role::Server);
    feed_silently(&mut incoming, &frames(&[(false, Binary, &[1; 100_000])]), &limits);
    feed_silently(&mut incoming, &frames(&[(false, Continuation, &[1; 700_000])]), &limits);
    assert!(incoming.buffered_bytes() <= (1 << 20) + 256);
    let mut capacities = vec![incoming.buffered_bytes()];
    for _ in 0..50 {
        let stream = frames(&[(true, Ping, &[2; 125]), (false, Continuation, &[1; 125])]);
        let (start, rest) = stream.split_at(100);
        feed_silently(&mut incoming, start, &limits);
        let mut rest = rest.to_vec();
        let mut events = incoming.receive(&mut rest, &limits);
        assert_eq!(events.next(), Some(Ok(Event::Ping(&[2; 125]))));
        assert_eq!(events.next(), None);
        capacities.push(incoming.buffered_bytes());
    }
    capacities.dedup();
    assert!(capacities.len() <= 2, "grew {} times", capacities.len() - 1);
}

#[test]
fn too_big_is_known_from_the_header_alone() {
    let cases: [(bool, u64); 4] =
        [(true, 1001), (false, 1001), (true, (1 << 63) - 1), (false, 1 << 62)];
    for (fin, declared) in cases {
        assert_eq!(fails(&bare_header(fin, Text, declared)), Some(ProtocolError::MessageTooBig));
    }
    // The sum over fragments, up to where it would wrap.
    for declared in [401, (1 << 63) - 600, (1 << 63) - 1] {
        let mut stream = frames(&[(false, Text, &[b'x'; 600])]);
        stream.extend(bare_header(true, Continuation, declared));
        assert_eq!(fails(&stream), Some(ProtocolError::MessageTooBig));
    }
    let stream = frames(&[(false, Text, &[b'x'; 600]), (true, Continuation, &[b'x'; 400])]);
    assert_eq!(hear_whole(&stream), Ok(vec![Heard::Text(vec![b'x'; 1000])]));
}

#[test]
fn lengths_that_were_negative_elsewhere_are_refused() {
    // nats CVE-2026-27889, undici CVE-2026-1528, gorilla CVE-2020-27813: 15 bytes that crashed.
    let lengths = [
        (1 << 63, ProtocolError::LengthOutOfRange),
        (u64::MAX, ProtocolError::LengthOutOfRange),
        ((1 << 63) - 1, ProtocolError::MessageTooBig),
        // websocket-driver CVE-2026-54466: a float would have rounded it.
        ((1 << 53) + 1, ProtocolError::MessageTooBig),
    ];
    for (length, error) in lengths {
        assert_eq!(fails(&bare_header(true, Binary, length)), Some(error));
        let mut stream = frames(&[(false, Binary, b"a")]);
        stream.extend(bare_header(true, Continuation, length));
        assert_eq!(fails(&stream), Some(error));
    }
}

#[test]
fn fragments_as_small_as_their_charge_pass_and_smaller_ones_run_out() {
    // 1000 bytes may cost 2000 and 64 free charges of 8: in pieces of 5 they just do not.
    let in_pieces = |piece_bytes: usize| {
        let mut stream = frames(&[(false, Binary, b"")]);
        for at in (0..1000).step_by(piece_bytes) {
            let end = (at + piece_bytes).min(1000);
            stream.extend(frames(&[(end == 1000, Continuation, &vec![7; end - at])]));
        }
        hear_whole(&stream)
    };
    for piece_bytes in [1000, 100, 8, 6] {
        assert_eq!(in_pieces(piece_bytes), Ok(vec![Heard::Binary(vec![7; 1000])]));
    }
    for piece_bytes in [1, 2, 4, 5] {
        assert_eq!(in_pieces(piece_bytes), Err((vec![], ProtocolError::TooManyFragments)));
    }
}

#[test]
fn endless_empty_fragments_and_a_million_single_bytes_are_cut_off() {
    // ws CVE-2026-48779 and ws#2331: a limit of 16 MiB, defaults otherwise.
    let limits = IncomingLimits { message_bytes_max: 16 << 20, ..IncomingLimits::default() };
    for payload in [&b""[..], b"x"] {
        let mut incoming = Incoming::new(Role::Server);
        feed_silently(&mut incoming, &frames(&[(false, Binary, b"")]), &limits);
        let fragment = frames(&[(false, Continuation, payload)]);
        let failed = (0..1_000_000).find_map(|_| {
            incoming.receive(&mut fragment.clone(), &limits).next().map(|event| event.is_err())
        });
        assert_eq!(failed, Some(true));
    }
}

#[test]
fn the_fragments_autobahn_sends_are_admitted() {
    // Autobahn 9.3.1: 4 MiB in 64-byte fragments, against a limit of 16 MiB.
    let limits = IncomingLimits { message_bytes_max: 16 << 20, ..IncomingLimits::default() };
    let mut stream = frames(&[(false, Text, &[b'*'; 64])]);
    for _ in 2..65_536 {
        stream.extend(frames(&[(false, Continuation, &[b'*'; 64])]));
    }
    stream.extend(frames(&[(true, Continuation, &[b'*'; 64])]));
    let heard = hear(Role::Server, &limits, &stream, 10_000).unwrap();
    assert!(matches!(&heard[..], [Heard::Text(text)] if text.len() == 4 << 20));
}

#[test]
fn limits_without_bounds_do_not_overflow() {
    let limits =
        IncomingLimits { message_bytes_max: usize::MAX, fragment_charge_bytes: usize::MAX };
    let stream = frames(&[(false, Text, b"a"), (true, Continuation, b"b")]);
    assert_eq!(hear(Role::Server, &limits, &stream, 3), Ok(vec![Heard::Text(b"ab".to_vec())]));
    let none = IncomingLimits { message_bytes_max: 0, fragment_charge_bytes: 0 };
    let stream = frames(&[(true, Text, b""), (false, Text, b""), (true, Continuation, b"")]);
    let empty = Heard::Text(vec![]);
    assert_eq!(hear(Role::Server, &none, &stream, 9), Ok(vec![empty.clone(), empty]));
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

/// What a fragmented message reserves follows what came, and ends at the limit.
#[test]
fn fragments_reserve_twice_what_came_at_most_and_never_beyond_the_limit() {
    const LIMIT: usize = 1 << 20;
    let limits = IncomingLimits { message_bytes_max: LIMIT, fragment_charge_bytes: 0 };
    for piece_bytes in [1_000, 20_000, 300_000] {
        let mut incoming = Incoming::new(Role::Server);
        let mut came_bytes = 0;
        while came_bytes < LIMIT {
            let payload = vec![0; piece_bytes.min(LIMIT - came_bytes)];
            let opcode = if came_bytes == 0 { Binary } else { Opcode::Continuation };
            let mut input = frame(Role::Server, false, opcode, &payload);
            assert_eq!(incoming.receive(&mut input, &limits).next(), None);
            came_bytes += payload.len();
            assert!(incoming.buffered_bytes() <= 2 * came_bytes + 4_096, "{came_bytes} came");
            assert!(incoming.buffered_bytes() <= LIMIT + 256, "{came_bytes} came");
        }
        // A ping in between fits into what is set aside beside the message.
        let before = incoming.buffered_bytes();
        let mut ping = frame(Role::Server, true, Opcode::Ping, &[1; 125]);
        let (first, second) = ping.split_at_mut(50);
        assert_eq!(incoming.receive(first, &limits).next(), None);
        assert!(incoming.receive(second, &limits).next().is_some());
        assert!(incoming.buffered_bytes() <= before.max(LIMIT + 256));
    }
}
