//! Requests with bodies, one behind the other, as a server reads them from a connection.

use alloc::{string::String, vec::Vec};

use super::naive::body;
use crate::{BodyFraming, BodyProgress, BodyReader, HeadLimits, HeadScan, Request, RequestError};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 1024, headers_max: 16, target_bytes_max: 256 };

/// Bodies: where the input is cut makes no difference, and the naive twin reads the same.
///
/// The first byte chooses the limit of a body, the second what the stream is: requests, or one body
/// with the framing of the third. Then come the cuts, their number first.
pub fn http_body(data: &[u8]) {
    let Some((&[limit, kind, length, cuts], rest)) = data.split_first_chunk::<4>() else {
        return;
    };
    let body_bytes_max = usize::from(limit) * 4;
    let (cuts, stream) = rest.split_at(usize::from(cuts % 32).min(rest.len()));
    let all_cuts: [&[u8]; 3] = [cuts, &[], &[1]];
    if kind % 2 == 0 {
        let expected = naive_requests(stream, body_bytes_max);
        for cuts in all_cuts {
            assert_eq!(requests(stream, body_bytes_max, cuts), expected, "{cuts:?}");
        }
    } else {
        let framing = match length {
            0 => BodyFraming::Chunked,
            length => BodyFraming::Length(u64::from(length) * 8),
        };
        check_body(stream, framing, body_bytes_max, all_cuts);
    }
}

/// Reads one body in pieces of these lengths and compares it with the naive twin.
pub fn check_body<'c>(
    stream: &[u8],
    framing: BodyFraming,
    body_bytes_max: usize,
    all_cuts: impl IntoIterator<Item = &'c [u8]>,
) {
    let expected = body::body(stream, framing, body_bytes_max);
    for cuts in all_cuts {
        assert_eq!(read_body(stream, framing, body_bytes_max, cuts), expected, "{cuts:?}");
    }
}

/// What [`BodyReader`] makes of a stream in pieces.
fn read_body(
    stream: &[u8],
    framing: BodyFraming,
    body_bytes_max: usize,
    cuts: &[u8],
) -> body::Body {
    let mut reader = BodyReader::new(framing, body_bytes_max)?;
    let mut body = Vec::new();
    let mut read_bytes = 0;
    for piece in core::iter::once(&[][..]).chain(pieces(stream, cuts)) {
        match reader.read(piece, &mut body) {
            Ok(BodyProgress::More) => read_bytes += piece.len(),
            Ok(BodyProgress::Whole { consumed_bytes }) => {
                assert!(consumed_bytes <= piece.len() && body.len() <= body_bytes_max);
                // It stays whole.
                let again = BodyProgress::Whole { consumed_bytes: 0 };
                assert_eq!(reader.read(b"0\r\n", &mut body), Ok(again));
                return Ok(Some((body, read_bytes + consumed_bytes)));
            }
            Err(error) => {
                assert_eq!(reader.read(b"0\r\n", &mut body), Err(error), "it stays failed");
                assert!(body.len() <= body_bytes_max);
                return Err(error);
            }
        }
        assert!(body.len() <= body_bytes_max);
    }
    Ok(None)
}

/// Targets and bodies of the requests that were whole, and how it ended: with a refusal, or with a
/// request that is the last, or in the middle of one.
type Read = (Vec<(String, Vec<u8>)>, Result<(), RequestError>);

/// All requests of a connection that arrives in pieces, until one is refused or the last.
fn requests(stream: &[u8], body_bytes_max: usize, cuts: &[u8]) -> Read {
    let mut read = Vec::new();
    let mut unread = Vec::new();
    let mut scan = HeadScan::new();
    let mut head_bytes = 0;
    let mut reading: Option<BodyReader> = None;
    let mut body = Vec::new();
    for piece in pieces(stream, cuts) {
        unread.extend_from_slice(piece);
        loop {
            if reading.is_none() {
                head_bytes = match scan.scan(&unread, &LIMITS) {
                    Ok(Some(head_bytes)) => head_bytes,
                    Ok(None) => break,
                    Err(error) => return (read, Err(error)),
                };
            }
            let request = match Request::parse(&unread[..head_bytes], &LIMITS) {
                Ok(request) => request,
                Err(error) => return (read, Err(error)),
            };
            let reader = match reading.take() {
                Some(reader) => Ok(reader),
                None => BodyReader::new(request.body_framing(), body_bytes_max),
            };
            let progress = reader.and_then(|mut reader| {
                let progress = reader.read(&unread[head_bytes..], &mut body)?;
                reading = Some(reader);
                Ok(progress)
            });
            match progress {
                Ok(BodyProgress::More) => {
                    unread.truncate(head_bytes);
                    break;
                }
                Ok(BodyProgress::Whole { consumed_bytes }) => {
                    let request = request.with_body(&body);
                    read.push((request.target().into(), request.body().to_vec()));
                    if !request.keep_alive() {
                        return (read, Ok(()));
                    }
                    body.clear();
                    unread.drain(..head_bytes + consumed_bytes);
                    (scan, reading) = (HeadScan::new(), None);
                }
                Err(error) => return (read, Err(error)),
            }
        }
    }
    (read, Ok(()))
}

/// The same from the whole stream, with bodies and framings as the naive twin reads them.
fn naive_requests(mut stream: &[u8], body_bytes_max: usize) -> Read {
    use RequestError::{Body, ContentLength, TransferCoding, TransferEncoding};
    let mut read = Vec::new();
    loop {
        let head_bytes = match HeadScan::new().scan(stream, &LIMITS) {
            Ok(Some(head_bytes)) => head_bytes,
            Ok(None) => return (read, Ok(())),
            Err(error) => return (read, Err(error)),
        };
        let (head, rest) = stream.split_at(head_bytes);
        let framing = body::framing(&String::from_utf8_lossy(head));
        let request = match Request::parse(head, &LIMITS) {
            Ok(request) => request,
            Err(error) => {
                let is_framing =
                    matches!(error, Body | ContentLength | TransferCoding | TransferEncoding);
                assert!(!is_framing || framing.is_none(), "{error:?} {framing:?}");
                return (read, Err(error));
            }
        };
        assert_eq!(Some(request.body_framing()), framing);
        assert!(!request.expects_continue() || framing != Some(BodyFraming::None));
        match body::body(rest, request.body_framing(), body_bytes_max) {
            Ok(Some((body, body_bytes))) => {
                read.push((request.target().into(), body));
                if !request.keep_alive() {
                    return (read, Ok(()));
                }
                stream = &rest[body_bytes..];
            }
            Ok(None) => return (read, Ok(())),
            Err(error) => return (read, Err(error)),
        }
    }
}

/// The stream in pieces of these lengths, again and again; in one piece without any.
fn pieces<'a>(stream: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut cuts = cuts.iter().cycle();
    core::iter::from_fn(move || {
        let end = cuts.next().map_or(rest.len(), |&bytes| bytes.into()).max(1).min(rest.len());
        let (piece, behind) = rest.split_at(end);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}
