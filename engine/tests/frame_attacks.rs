//! Frames that break RFC 6455 §5 or a limit, and frames that are unusual but right: each with
//! its answer, however its bytes are cut. A new attack is one line of a table.
//! What Close frames say is in `closing.rs`.

mod harness;

use harness::recorder::{Acts, Call, recorded};
use harness::{Echo, ServerFrame, TestServer, binary, frame, handshake, ping, text};
use ringwire::{Config, Conn, Message};

/// A name to find the row by, what is sent, and the code of the Close frame it is answered
/// with.
type Attack = (&'static str, Vec<u8>, u16);

/// Small, so that what reaches it is quickly sent.
const MESSAGE_BYTES_MAX: usize = 1 << 16;

fn config() -> Config {
    Config::new().message_bytes_max(MESSAGE_BYTES_MAX)
}

/// A header without payload: the first byte, the second, the longer length, and a mask key
/// where the second byte announces one.
fn header(first: u8, second: u8, length: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let key: &[u8] = if second & 0x80 != 0 { &KEY } else { &[] };
    [&[first, second], length, key].concat()
}

/// A header with a length of 64 bits.
fn long_header(first: u8, payload_bytes: u64) -> Vec<u8> {
    header(first, 0xFF, &payload_bytes.to_be_bytes())
}

/// Each attack in three ways: after the handshake, in one segment with it, and byte by byte.
fn expect_failures(attacks: &[Attack]) {
    let server = TestServer::start(1, config(), |_| Echo);
    for (name, bytes, code) in attacks {
        println!("attack: {name}");
        let mut client = server.open();
        client.send(bytes);
        client.expect_close(*code);

        let mut client = server.connect();
        client.send(&[&handshake()[..], bytes].concat());
        assert_eq!(client.read_status(), 101);
        client.expect_close(*code);

        let mut client = server.open();
        bytes.iter().take(1_000).for_each(|byte| client.send(&[*byte]));
        client.send(bytes.get(1_000..).unwrap_or_default());
        client.expect_close(*code);

        server.assert_serves();
    }
    let metrics = server.handle().metrics();
    assert_eq!(metrics.violations, 3 * attacks.len() as u64);
    assert_eq!(metrics.messages_received, attacks.len() as u64, "only those of assert_serves");
    server.wait_until_empty();
}

#[test]
fn first_and_second_bytes() {
    let rows: [(&'static str, u8); 21] = [
        ("RSV1 on text", 0xC1),
        ("RSV2 on text", 0xA1),
        ("RSV3 on binary", 0x92),
        ("RSV1 on ping", 0xC9),
        ("RSV2 on pong", 0xAA),
        ("RSV3 on close", 0x98),
        ("all RSV", 0xF1),
        ("RSV1 on a fragment", 0x41),
        ("opcode 3", 0x83),
        ("opcode 4", 0x84),
        ("opcode 5", 0x85),
        ("opcode 6", 0x86),
        ("opcode 7", 0x87),
        ("opcode 11", 0x8B),
        ("opcode 12", 0x8C),
        ("opcode 13", 0x8D),
        ("opcode 14", 0x8E),
        ("opcode 15", 0x8F),
        ("ping without FIN", 0x09),
        ("pong without FIN", 0x0A),
        ("close without FIN", 0x08),
    ];
    let by_first = rows.map(|(name, first)| (name, frame(first, b""), 1002));
    let unmasked = [
        ("text not masked", [&header(0x81, 2, b"")[..], b"hi"].concat(), 1002),
        ("empty text not masked", header(0x81, 0, b""), 1002),
        ("binary not masked", [&header(0x82, 126, &[0, 200])[..], &[0; 200]].concat(), 1002),
        ("ping not masked", header(0x89, 0, b""), 1002),
        ("pong not masked", header(0x8A, 0, b""), 1002),
        ("close not masked", [&header(0x88, 2, b"")[..], &[3, 0xE8]].concat(), 1002),
        ("fragment not masked", header(0x01, 0, b""), 1002),
        ("second fragment not masked", [frame(0x01, b"a"), header(0x80, 0, b"")].concat(), 1002),
    ];
    expect_failures(&[&by_first[..], &unmasked].concat());
}

/// The headers alone, without a byte of what they announce.
#[test]
fn lengths() {
    let over = MESSAGE_BYTES_MAX as u64 + 1;
    expect_failures(&[
        ("0 in 16 bits", header(0x82, 0xFE, &[0, 0]), 1002),
        ("125 in 16 bits", header(0x82, 0xFE, &[0, 125]), 1002),
        ("0 in 64 bits", long_header(0x82, 0), 1002),
        ("125 in 64 bits", long_header(0x82, 125), 1002),
        ("126 in 64 bits", long_header(0x82, 126), 1002),
        ("65,535 in 64 bits", long_header(0x82, 65_535), 1002),
        ("most significant bit", long_header(0x82, 1 << 63), 1002),
        ("2^64 - 1", long_header(0x82, u64::MAX), 1002),
        ("2^64 - 1 in a text", long_header(0x81, u64::MAX), 1002),
        ("2^63 - 1", long_header(0x82, u64::MAX >> 1), 1009),
        ("2^32", long_header(0x82, 1 << 32), 1009),
        ("2^31", long_header(0x82, 1 << 31), 1009),
        ("one over the limit", long_header(0x82, over), 1009),
        ("a text one over the limit", long_header(0x81, over), 1009),
        ("a first fragment over the limit", long_header(0x02, over), 1009),
        (
            "most significant bit in a continuation",
            [frame(0x02, b"a"), long_header(0x80, 1 << 63)].concat(),
            1002,
        ),
        ("a sum that wraps", [frame(0x02, b"a"), long_header(0x80, u64::MAX >> 1)].concat(), 1009),
        ("a sum one over", [frame(0x02, b"a"), long_header(0x80, over - 1)].concat(), 1009),
        (
            "a sum one over, not the last",
            [frame(0x02, b"a"), long_header(0x00, over - 1)].concat(),
            1009,
        ),
        ("ping of 126 bytes", header(0x89, 0xFE, &[0, 126]), 1002),
        ("pong of 126 bytes", header(0x8A, 0xFE, &[0, 126]), 1002),
        ("close of 126 bytes", header(0x88, 0xFE, &[0, 126]), 1002),
        ("ping of 5 bytes in 16 bits", header(0x89, 0xFE, &[0, 5]), 1002),
        ("ping of 64 bits", long_header(0x89, 65_536), 1002),
        ("ping of 2^64 - 1", long_header(0x89, u64::MAX), 1002),
    ]);
}

#[test]
fn fragments_out_of_order_or_without_end() {
    let first = || frame(0x01, b"a");
    let empty = |count| [frame(0x02, b""), frame(0x00, b"").repeat(count)].concat();
    let tiny = |count| [frame(0x02, b"a"), frame(0x00, b"a").repeat(count)].concat();
    let half = binary(&[7; MESSAGE_BYTES_MAX / 2]);
    let halves = |middle: u8, last: u8| {
        let mut frames = [&half[..], &half, &half].concat();
        frames[0] = 0x02;
        frames[half.len()] = middle;
        frames[2 * half.len()] = last;
        frames
    };
    expect_failures(&[
        ("continuation of nothing", frame(0x80, b"a"), 1002),
        ("continuation of nothing, not the last", frame(0x00, b"a"), 1002),
        ("continuation behind a pong", [frame(0x8A, b""), frame(0x80, b"a")].concat(), 1002),
        ("text inside a message", [first(), text("b")].concat(), 1002),
        ("binary inside a message", [first(), binary(b"b")].concat(), 1002),
        ("a second first fragment", [first(), first()].concat(), 1002),
        ("text inside, behind a ping", [first(), frame(0x8A, b"p"), text("b")].concat(), 1002),
        ("reserved opcode inside", [first(), frame(0x83, b"")].concat(), 1002),
        ("RSV1 on a continuation", [first(), frame(0xC0, b"")].concat(), 1002),
        ("a sum over the limit", halves(0x00, 0x80), 1009),
        ("empty fragments without end", empty(3_000), 1009),
        ("fragments of a byte without end", tiny(3_000), 1009),
    ]);
}

/// Not UTF-8 (RFC 3629), each with what is wrong at its end.
const NOT_UTF8: [(&str, &[u8]); 19] = [
    ("overlong NUL", b"\xC0\x80"),
    ("overlong slash in two", b"ok\xC1\xAF"),
    ("overlong in three", b"ok\xE0\x80"),
    ("overlong in three, the longest", b"\xE0\x9F"),
    ("overlong in four", b"\xF0\x80"),
    ("overlong in four, the longest", b"\xF0\x8F"),
    ("first surrogate", b"ok\xED\xA0"),
    ("last surrogate", b"\xED\xBF"),
    ("above 10FFFF", b"ok\xF4\x90"),
    ("F5", b"\xF5"),
    ("five bytes", b"\xF8"),
    ("six bytes", b"\xFC"),
    ("FE", b"\xFE"),
    ("FF", b"ok\xFF"),
    ("continuation byte alone", b"\x80"),
    ("continuation byte behind a whole character", b"\xC3\xA9\xA9"),
    ("lead byte behind a lead byte", b"\xC3\xC3"),
    ("ASCII behind a lead byte", b"\xE2\x82A"),
    ("Autobahn's 6.3", b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xF4\x90"),
];

#[test]
fn text_that_is_not_utf8() {
    let whole = NOT_UTF8.map(|(name, bytes)| (name, frame(0x81, bytes), 1007));
    // The text could go on, but not become valid any more: the rest is not waited for.
    let unfinished = NOT_UTF8.map(|(name, bytes)| {
        let mut frame = frame(0x81, &[bytes, &[b'a'; 20]].concat());
        frame.truncate(frame.len() - 20);
        (name, frame, 1007)
    });
    let first_fragment = NOT_UTF8.map(|(name, bytes)| (name, frame(0x01, bytes), 1007));
    let across_fragments = NOT_UTF8.map(|(name, bytes)| {
        let (most, last) = bytes.split_at(bytes.len() - 1);
        (name, [frame(0x01, most), frame(0x00, last)].concat(), 1007)
    });
    let with_a_ping_between = NOT_UTF8.map(|(name, bytes)| {
        let (most, last) = bytes.split_at(bytes.len() - 1);
        (name, [frame(0x01, most), frame(0x8A, b"\xFF"), frame(0x00, last)].concat(), 1007)
    });
    let cut_short = [
        ("ends in two", frame(0x81, b"ok\xC3"), 1007),
        ("ends in three", frame(0x81, b"\xE2\x82"), 1007),
        ("ends in four", frame(0x81, b"\xF0\x9F\x98"), 1007),
        (
            "last fragment is missing a byte",
            [frame(0x01, b"\xE2"), frame(0x80, b"\x82")].concat(),
            1007,
        ),
        ("last fragment is empty", [frame(0x01, b"\xE2\x82"), frame(0x80, b"")].concat(), 1007),
    ];
    let tables = [whole, unfinished, first_fragment, across_fragments, with_a_ping_between];
    expect_failures(&[tables.as_flattened(), &cut_short].concat());
}

fn pong(payload: &[u8]) -> ServerFrame {
    ServerFrame { first: 0x8A, payload: payload.to_vec() }
}

fn server_text(payload: impl AsRef<[u8]>) -> ServerFrame {
    ServerFrame { first: 0x81, payload: payload.as_ref().to_vec() }
}

fn server_binary(payload: &[u8]) -> ServerFrame {
    ServerFrame { first: 0x82, payload: payload.to_vec() }
}

/// Cuts a message into fragments of these first bytes.
fn fragments(first: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let opcode = if index == 0 { first } else { 0 };
        let fin = if index + 1 == pieces.len() { 0x80 } else { 0 };
        bytes.extend(frame(fin | opcode, piece));
    }
    bytes
}

/// A name to find the row by, what is sent, and what comes back.
type Accepted = (&'static str, Vec<u8>, Vec<ServerFrame>);

fn accepted() -> Vec<Accepted> {
    let key_zero = [&[0x81, 0x85, 0, 0, 0, 0][..], b"hello"].concat();
    let between = [frame(0x01, b"hel"), ping(b"p"), frame(0x8A, b"q"), frame(0x80, b"lo")];
    let euro = fragments(0x01, &[b"\xE2", b"\x82", b"\xAC"]);
    let bytes: Vec<u8> = (0..=255).collect();
    vec![
        ("empty text", text(""), vec![server_text("")]),
        ("empty binary", binary(b""), vec![server_binary(b"")]),
        ("empty fragments", fragments(0x01, &[b"", b"", b""]), vec![server_text("")]),
        ("mask key 0", key_zero, vec![server_text("hello")]),
        ("every byte", binary(&bytes), vec![server_binary(&bytes)]),
        ("126 bytes", binary(&[1; 126]), vec![server_binary(&[1; 126])]),
        (
            "control frames between fragments",
            between.concat(),
            vec![pong(b"p"), server_text("hello")],
        ),
        ("a character over three fragments", euro, vec![server_text("\u{20AC}")]),
        ("NUL", text("a\0b"), vec![server_text("a\0b")]),
        ("byte order mark", text("\u{FEFF}a"), vec![server_text("\u{FEFF}a")]),
        ("non-characters", text("\u{FFFE}\u{FFFF}"), vec![server_text("\u{FFFE}\u{FFFF}")]),
        ("the last character", text("\u{10FFFF}"), vec![server_text("\u{10FFFF}")]),
        ("around the surrogates", text("\u{D7FF}\u{E000}"), vec![server_text("\u{D7FF}\u{E000}")]),
        ("ping of nothing", ping(b""), vec![pong(b"")]),
        ("ping of 125 bytes", ping(&[0xFF; 125]), vec![pong(&[0xFF; 125])]),
        ("two pings", [ping(b"1"), ping(b"2")].concat(), vec![pong(b"1"), pong(b"2")]),
        ("pong nobody asked for", frame(0x8A, b"?"), vec![]),
        ("pong of 125 bytes", frame(0x8A, &[0; 125]), vec![]),
    ]
}

/// Every place to cut gives the same answers, on receive buffers of both sizes.
#[test]
fn right_frames_cut_at_every_byte() {
    let sizes = [config(), config().receive_buffer_bytes(512)];
    for config in sizes {
        let server = TestServer::start(1, config, |_| Echo);
        for (name, bytes, answers) in accepted() {
            println!("accepted: {name}");
            let mut client = server.open();
            for cut in 0..bytes.len() {
                client.send(&bytes[..cut]);
                std::thread::yield_now();
                client.send(&bytes[cut..]);
                for answer in &answers {
                    assert_eq!(client.read_frame(), *answer, "cut at {cut}");
                }
                // The limit is a hundred control frames in a second.
                if cut % 16 == 15 {
                    client = server.open();
                }
            }
            let mut client = server.connect();
            client.send(&[handshake(), bytes, text("end")].concat());
            assert_eq!(client.read_status(), 101);
            for answer in &answers {
                assert_eq!(client.read_frame(), *answer);
            }
            assert_eq!(client.read_frame(), ServerFrame::text("end"));
        }
    }
}

/// Lengths around the mask's and the receive buffer's boundaries, many frames to a buffer and
/// many buffers to a frame.
#[test]
fn every_length_in_one_stream() {
    let config = Config::new()
        .receive_buffer_bytes(512)
        .write_bytes_max(16 << 20)
        .message_bytes_max(MESSAGE_BYTES_MAX);
    let server = TestServer::start(1, config, |_| Echo);
    let lengths = (0..=300).chain(480..=540).chain([1_023, 1_024, 4_095, 65_535, 65_536]);
    let payloads: Vec<Vec<u8>> =
        lengths.map(|length| (0..length).map(|i| (i * 7) as u8).collect()).collect();
    let mut client = server.open();
    for payload in &payloads {
        client.send(&binary(payload));
    }
    for payload in &payloads {
        assert_eq!(client.read_frame(), server_binary(payload));
    }
    let stream: Vec<u8> = payloads.iter().flat_map(|payload| binary(payload)).collect();
    client.send(&stream);
    for payload in &payloads {
        assert_eq!(client.read_frame(), server_binary(payload));
    }
}

#[test]
fn messages_of_exactly_the_limit() {
    let server = TestServer::start(1, config(), |_| Echo);
    let payload = vec![b'x'; MESSAGE_BYTES_MAX];
    let (first, rest) = payload.split_at(1_000);
    let (second, third) = rest.split_at(30_000);
    let in_512: Vec<&[u8]> = payload.chunks(MESSAGE_BYTES_MAX / 512).collect();
    let mut client = server.open();
    let whole = text(std::str::from_utf8(&payload).unwrap());
    let cut_in_three = fragments(0x01, &[first, second, third]);
    for message in [whole, cut_in_three, fragments(0x01, &in_512)] {
        client.send(&message);
        assert_eq!(client.read_frame(), server_text(&payload));
    }
}

/// After our Close, data is read and dropped until the peer's Close; pings too (RFC 6455
/// §5.5.1).
#[test]
fn frames_after_our_close() {
    let close = |conn: &mut Conn<'_, harness::recorder::Recorder>, _: Message<'_>| {
        conn.close(ringwire::CloseCode::NORMAL, "enough");
    };
    let acts = Acts { message: close, ..Acts::default() };
    let (server, calls) = recorded(Config::new(), acts);
    let mut client = server.open();
    client.send(&[text("close"), text("in flight"), ping(b"in flight")].concat());
    assert_eq!(client.read_frame().close_code(), 1000);
    client.send(&[text("late"), ping(b"late"), fragments(0x02, &[b"la", b"te"])].concat());
    client.send(&harness::close(1000, ""));
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    let expected = [Call::Open, Call::Message(b"close".to_vec()), Call::Close(1000, String::new())];
    let calls: Vec<Call> = calls.rest(server).into_iter().map(|(_, call)| call).collect();
    assert_eq!(calls, expected);
}

/// After the peer's Close, whatever follows is ignored, right or wrong (RFC 6455 §5.5.1).
#[test]
fn frames_after_the_peers_close() {
    let (server, calls) = recorded(Config::new(), Acts::default());
    let tails = [
        text("late"),
        ping(b"late"),
        harness::close(1001, "again"),
        header(0x81, 5, b""),
        long_header(0x82, u64::MAX),
        vec![0xFF; 100_000],
    ];
    for tail in tails {
        let mut client = server.open();
        client.send(&[harness::close(1000, "first"), tail].concat());
        client.expect_close(1000);
        assert_eq!(calls.next(), Call::Open);
        assert_eq!(calls.next(), Call::Close(1000, "first".to_owned()));
        // Another piece, when the server's FIN is out: dropped as well, not reset.
        client.send(&text("later"));
        assert_eq!(client.read_to_end(), b"");
    }
    assert_eq!(server.handle().metrics().violations, 0);
    server.assert_serves();
    assert_eq!(calls.rest(server).len(), 3, "open, message and close of assert_serves");
}

/// A violation in the segment of a good message: the message counts, then the connection
/// fails.
#[test]
fn a_good_frame_before_a_bad_one() {
    let server = TestServer::start(1, config(), |_| Echo);
    let mut client = server.connect();
    client.send(&[handshake(), text("good"), frame(0x83, b"bad"), text("never")].concat());
    assert_eq!(client.read_status(), 101);
    assert_eq!(client.read_frame(), ServerFrame::text("good"));
    client.expect_close(1002);
    server.assert_serves();
}
