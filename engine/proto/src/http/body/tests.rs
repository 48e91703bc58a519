//! Bodies in any cut, each boundary, and a naive twin that reads the same.

use alloc::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::fuzz::check_body;

/// A stream, the body in it with what is left behind it, or its error.
type Case = (&'static str, Result<Option<(&'static str, &'static str)>, RequestError>);

fn read(
    stream: &[u8],
    framing: BodyFraming,
    body_bytes_max: usize,
) -> Result<Option<(Vec<u8>, usize)>, RequestError> {
    let mut body = vec![];
    match BodyReader::new(framing, body_bytes_max)?.read(stream, &mut body)? {
        BodyProgress::More => Ok(None),
        BodyProgress::Whole { consumed_bytes } => Ok(Some((body, consumed_bytes))),
    }
}

/// Whole, in two pieces of any lengths, and byte by byte.
fn check_every_cut(stream: &[u8], framing: BodyFraming, body_bytes_max: usize) {
    let in_two = (1..stream.len().min(255) as u8).map(|cut| [cut, 255]).collect::<Vec<_>>();
    let cuts = in_two.iter().map(|cuts| &cuts[..]).chain([&[][..], &[1], &[2], &[3]]);
    check_body(stream, framing, body_bytes_max, cuts);
}

fn check_cases(framing: BodyFraming, body_bytes_max: usize, cases: &[Case]) {
    for &(stream, expected) in cases {
        let expected = expected
            .map(|whole| whole.map(|(body, rest)| (body.into(), stream.len() - rest.len())));
        assert_eq!(read(stream.as_bytes(), framing, body_bytes_max), expected, "{stream:?}");
        check_every_cut(stream.as_bytes(), framing, body_bytes_max);
    }
}

#[test]
fn a_request_without_a_body_is_whole_at_once() {
    for framing in [BodyFraming::None, BodyFraming::Length(0)] {
        assert_eq!(read(b"GET /", framing, 0), Ok(Some((vec![], 0))));
        assert_eq!(read(b"", framing, 10), Ok(Some((vec![], 0))));
    }
}

#[test]
fn a_body_of_known_length_ends_there() {
    check_cases(
        BodyFraming::Length(4),
        4,
        &[
            ("", Ok(None)),
            ("roo", Ok(None)),
            ("room", Ok(Some(("room", "")))),
            ("roomGET / HTTP/1.1\r\n", Ok(Some(("room", "GET / HTTP/1.1\r\n")))),
            ("\r\n\0\nx", Ok(Some(("\r\n\0\n", "x")))),
        ],
    );
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_the_body_comes() {
    let table = [(0, 0), (1, 0), (10, 9), (10, 10), (10, 11), (u64::MAX, 10), (1 << 32, 1 << 20)];
    for (length, body_bytes_max) in table {
        let reader = BodyReader::new(BodyFraming::Length(length), body_bytes_max);
        assert_eq!(reader.is_ok(), length <= body_bytes_max as u64, "{length} {body_bytes_max}");
        assert!(reader.is_ok() || reader.err() == Some(RequestError::BodyTooLong));
    }
    assert_eq!(RequestError::BodyTooLong.status(), 413);
}

#[test]
fn chunked_bodies() {
    use RequestError::{BodyTooLong, Chunk};
    check_cases(
        BodyFraming::Chunked,
        20,
        &[
            ("", Ok(None)),
            ("0\r\n\r\n", Ok(Some(("", "")))),
            ("0\r\n\r\nPOST /", Ok(Some(("", "POST /")))),
            ("000\r\n\r\n", Ok(Some(("", "")))),
            ("4\r\nroom\r\n0\r\n\r\nx", Ok(Some(("room", "x")))),
            ("1\r\nr\r\n0003\r\noom\r\n0\r\n\r\n", Ok(Some(("room", "")))),
            (
                "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
                Ok(Some(("01234567890123456789", ""))),
            ),
            ("2\r\n\r\n\r\n0\r\n\r\n", Ok(Some(("\r\n", "")))),
            ("4\r\nroo", Ok(None)),
            ("4\r\nroom\r\n0\r\n\r", Ok(None)),
            // Sizes: digits and nothing else, 16 at most.
            ("0000000000000001\r\nr\r\n0\r\n\r\n", Ok(Some(("r", "")))),
            ("00000000000000001", Err(Chunk)),
            ("00000000000000000", Err(Chunk)),
            ("\r\n", Err(Chunk)),
            (" 1\r\n", Err(Chunk)),
            ("+1\r\n", Err(Chunk)),
            ("-1\r\n", Err(Chunk)),
            ("0x1\r\n", Err(Chunk)),
            ("1_0\r\n", Err(Chunk)),
            ("1g\r\n", Err(Chunk)),
            ("1.\r\n", Err(Chunk)),
            ("1,1\r\n", Err(Chunk)),
            (";a\r\n", Err(Chunk)),
            ("1 \r\n", Err(Chunk)),
            ("1\t\r\n", Err(Chunk)),
            ("1 1\r\n", Err(Chunk)),
            ("\u{661}\r\n", Err(Chunk)),
            // Line ends: CRLF and nothing else.
            ("4\n", Err(Chunk)),
            ("4\r", Ok(None)),
            ("4\rr", Err(Chunk)),
            ("4\r\r\n", Err(Chunk)),
            ("4\r\nroom\n", Err(Chunk)),
            ("4\r\nroom\r0", Err(Chunk)),
            ("4\r\nrooms\r\n", Err(Chunk)),
            ("4\r\nroo\r\n0\r\n", Err(Chunk)),
            ("4\r\nroom0\r\n", Err(Chunk)),
            ("4\r\nroom\r\n\r\n", Err(Chunk)),
            ("0\n", Err(Chunk)),
            ("0\r\n\n", Err(Chunk)),
            ("0\r\n\r\r", Err(Chunk)),
            ("0\r\n\rx", Err(Chunk)),
            // Extensions (RFC 9112 §7.1.1).
            ("1;\r\nr\r\n0;a=b;c=\"d\"\r\n\r\n", Ok(Some(("r", "")))),
            ("1 \t; a = b\r\nr\r\n0\r\n\r\n", Ok(Some(("r", "")))),
            ("1;\u{e9}\r\nr\r\n0\r\n\r\n", Ok(Some(("r", "")))),
            ("1;a\n", Err(Chunk)),
            ("1;a\rb", Err(Chunk)),
            ("1;a\0", Err(Chunk)),
            ("1;a=\"\n\"", Err(Chunk)),
            ("1;a=\"\r\n", Ok(None)),
            ("1;\u{7f}", Err(Chunk)),
            // Trailer fields (RFC 9112 §7.1.2).
            ("0\r\na: b\r\n\r\n", Ok(Some(("", "")))),
            ("0\r\nDigest:\r\nX-Y:\t\u{e9} z\r\n\r\nx", Ok(Some(("", "x")))),
            ("0\r\nContent-Length: 5\r\n\r\nhello", Ok(Some(("", "hello")))),
            ("0\r\na: b\r\n c\r\n\r\n", Err(Chunk)),
            ("0\r\n a: b\r\n\r\n", Err(Chunk)),
            ("0\r\n: b\r\n\r\n", Err(Chunk)),
            ("0\r\na : b\r\n\r\n", Err(Chunk)),
            ("0\r\na\r\n\r\n", Err(Chunk)),
            ("0\r\na: b\n", Err(Chunk)),
            ("0\r\na: b\rc", Err(Chunk)),
            ("0\r\na: \0", Err(Chunk)),
            ("0\r\nGET / HTTP/1.1\r\n", Err(Chunk)),
            // The limit, 20 bytes.
            ("14\r\n01234567890123456789\r\n0\r\n\r\n", Ok(Some(("01234567890123456789", "")))),
            ("15", Err(BodyTooLong)),
            ("14\r\n01234567890123456789\r\n1", Err(BodyTooLong)),
            ("13\r\n0123456789012345678\r\n2", Err(BodyTooLong)),
            ("ffffffffffffffff", Err(BodyTooLong)),
            ("8000000000000000", Err(BodyTooLong)),
            ("00000000000000ff\r\n", Err(BodyTooLong)),
            ("15x", Err(BodyTooLong)),
        ],
    );
    assert_eq!(Chunk.status(), 400);
}

#[test]
fn without_a_limit_no_size_overflows() {
    for size in ["ffffffffffffffff", "8000000000000000", "7fffffffffffffff"] {
        let stream = format!("1\r\na\r\n{size}\r\nb");
        let expected = match size.starts_with('f') {
            true => Err(RequestError::BodyTooLong),
            false => Ok(None),
        };
        assert_eq!(read(stream.as_bytes(), BodyFraming::Chunked, usize::MAX), expected, "{size}");
        check_every_cut(stream.as_bytes(), BodyFraming::Chunked, usize::MAX);
    }
}

/// Go CVE-2023-39326: extensions cost the server what the limit of the body does not count.
#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let chunk = |extension_bytes: usize| format!("1{:;<extension_bytes$}\r\na\r\n", "");
    let end = "0\r\n\r\n";
    let halves = chunk(EXTENSION_BYTES_MAX / 2).repeat(2);
    let table = [
        (format!("{}{end}", chunk(EXTENSION_BYTES_MAX)), true),
        (format!("{halves}{end}"), true),
        (format!("{halves}0;\r\n\r\n"), false),
        (format!("{}{end}", chunk(EXTENSION_BYTES_MAX + 1)), false),
        (format!("1{}", " ".repeat(EXTENSION_BYTES_MAX + 1)), false),
        (format!("1{};a\r\na\r\n{end}", " ".repeat(EXTENSION_BYTES_MAX - 2)), true),
        (chunk(3).repeat(EXTENSION_BYTES_MAX / 3 + 1), false),
    ];
    for (stream, is_fine) in table {
        let verdict = read(stream.as_bytes(), BodyFraming::Chunked, 1 << 20);
        match is_fine {
            true => assert!(matches!(verdict, Ok(Some((_, bytes))) if bytes == stream.len())),
            false => assert_eq!(verdict, Err(RequestError::ChunkExtensions)),
        }
        check_body(stream.as_bytes(), BodyFraming::Chunked, 1 << 20, [&[][..], &[1], &[7, 255]]);
    }
    assert_eq!(RequestError::ChunkExtensions.status(), 400);
}

#[test]
fn trailer_fields_are_bounded_together() {
    let line = |bytes: usize| format!("a:{}\r\n", "b".repeat(bytes - 4));
    let table = [
        (line(TRAILER_BYTES_MAX), true),
        (line(TRAILER_BYTES_MAX / 4).repeat(4), true),
        (line(TRAILER_BYTES_MAX + 1), false),
        (format!("{}b", line(TRAILER_BYTES_MAX)), false),
        ("a".repeat(TRAILER_BYTES_MAX + 1), false),
        ("a:\r\n".repeat(TRAILER_BYTES_MAX), false),
    ];
    for (lines, is_fine) in table {
        let stream = format!("0\r\n{lines}\r\n");
        let verdict = read(stream.as_bytes(), BodyFraming::Chunked, 0);
        match is_fine {
            true => assert_eq!(verdict, Ok(Some((vec![], stream.len())))),
            false => assert_eq!(verdict, Err(RequestError::TrailersTooLong)),
        }
        check_body(stream.as_bytes(), BodyFraming::Chunked, 0, [&[][..], &[1], &[7, 255]]);
    }
    assert_eq!(RequestError::TrailersTooLong.status(), 431);
}

/// An announced megabyte, as a length or as a chunk, is no reason to reserve one.
#[test]
fn room_is_made_for_what_has_come() {
    for (framing, stream) in
        [(BodyFraming::Length(1 << 20), &b"a"[..]), (BodyFraming::Chunked, b"100000\r\na")]
    {
        let mut body = vec![];
        let mut reader = BodyReader::new(framing, 1 << 20).unwrap();
        assert_eq!(reader.read(stream, &mut body), Ok(BodyProgress::More));
        assert!(body == b"a" && body.capacity() < 64);
    }
}

#[test]
fn what_lies_in_the_buffer_already_stays_and_is_not_charged() {
    let mut body = b"earlier".to_vec();
    let mut reader = BodyReader::new(BodyFraming::Chunked, 4).unwrap();
    let whole = BodyProgress::Whole { consumed_bytes: 14 };
    assert_eq!(reader.read(b"4\r\nroom\r\n0\r\n\r\n", &mut body), Ok(whole));
    assert_eq!(body, b"earlierroom");
}

#[test]
fn any_byte_in_any_place_is_read_as_the_naive_twin_does() {
    let stream = b"3;a=b\r\nabc\r\n12 ;c\r\n0123456789abcdefgh\r\n0\r\nx: y\r\n\r\n";
    for at in 0..stream.len() {
        for byte in 0..=u8::MAX {
            let mut stream = stream.to_vec();
            stream[at] = byte;
            check_body(&stream, BodyFraming::Chunked, 30, [&[][..], &[1], &[5, 3]]);
        }
    }
}

proptest! {
    /// Texts of the bytes that mean something, so that many are nearly right.
    #[test]
    fn any_text_is_read_as_the_naive_twin_does(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "0", "1", "2", "a", "F", "\r\n", "\r", "\n", ";", " ", "x", ":", "=", "\0", "\u{e9}",
                "0\r\n", "1\r\nx\r\n", "2;a\r\nxy\r\n", "x: y\r\n", "0\r\n\r\n",
            ]),
            0..24,
        ),
        cuts in prop::collection::vec(0..9u8, 0..9),
        body_bytes_max in 0..9usize,
    ) {
        let stream: String = parts.concat();
        check_body(stream.as_bytes(), BodyFraming::Chunked, body_bytes_max, [&cuts[..], &[], &[1]]);
    }
}
