//! Where the body of a request ends, as its head says it (RFC 9112 §6).
//!
//! Never guesses. Two readers of the same bytes must agree about where a request ends, or one of
//! them takes a body for a request (RFC 9112 §11.2), so what could be read in two ways is refused.

use super::{Fields, Method, RequestError, fields::Repeated, is_token, list};

/// How the end of a request's body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body: nothing announces one, or its length is 0.
    None,
    /// A body of this many bytes, at least 1: Content-Length.
    Length(u64),
    /// Chunks, each with its length in front: `Transfer-Encoding: chunked` (RFC 9112 §7.1).
    Chunked,
}

impl BodyFraming {
    /// The framing that a checked head announces. `is_http_1_0` is its version.
    ///
    /// # Errors
    ///
    /// A body on a method that has none here, a Transfer-Encoding that is not `chunked` alone, one
    /// in HTTP/1.0 or beside a Content-Length, and a Content-Length that is not one number.
    pub(crate) fn parse(
        fields: &Fields<'_>,
        method: Method,
        is_http_1_0: bool,
    ) -> Result<Self, RequestError> {
        let is_coded = fields.values("Transfer-Encoding").next().is_some();
        if is_coded && !method.may_have_body() {
            return Err(RequestError::Body);
        }
        if is_coded {
            return check_coding(fields, is_http_1_0).map(|()| Self::Chunked);
        }
        let value = match fields.only("Content-Length") {
            Ok(None) => return Ok(Self::None),
            Ok(Some(value)) => value,
            Err(Repeated) => return Err(RequestError::ContentLength),
        };
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(RequestError::ContentLength);
        }
        match parse_length(value) {
            Some(0) => Ok(Self::None),
            _ if !method.may_have_body() => Err(RequestError::Body),
            Some(length) => Ok(Self::Length(length)),
            None => Err(RequestError::ContentLength),
        }
    }
}

/// The only Transfer-Encoding there may be: one field with one coding, `chunked`, in HTTP/1.1, and
/// no Content-Length, which RFC 9112 §6.1 would allow to be overridden.
fn check_coding(fields: &Fields<'_>, is_http_1_0: bool) -> Result<(), RequestError> {
    // RFC 9112 §6.1: from HTTP/1.0 the framing is faulty, whatever the field says.
    if is_http_1_0 || fields.values("Content-Length").next().is_some() {
        return Err(RequestError::TransferEncoding);
    }
    match fields.only("Transfer-Encoding") {
        Ok(Some(value)) if value.eq_ignore_ascii_case(b"chunked") => Ok(()),
        Ok(Some(value)) if is_unknown_coding(value) => Err(RequestError::TransferCoding),
        _ => Err(RequestError::TransferEncoding),
    }
}

/// Whether the body is chunked and in a coding of another name below that. Its end could be found,
/// so this is not a bad request but one that asks for too much (RFC 9112 §6.1).
fn is_unknown_coding(value: &[u8]) -> bool {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let codings = list(value).count();
    list(value).all(is_token)
        && list(value).enumerate().all(|(i, coding)| is_chunked(coding) == (i + 1 == codings))
        && codings > 1
}

/// `None` for a number that no `u64` holds.
fn parse_length(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |length, digit| {
        length.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::{
        BodyFraming::{Chunked, Length, None},
        RequestError::{Body, ContentLength, TransferCoding, TransferEncoding},
        *,
    };
    use crate::{HeadLimits, Request};

    fn framing(method: &str, version: &str, lines: &str) -> Result<BodyFraming, RequestError> {
        let head = format!("{method} / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let request = Request::parse(head.as_bytes(), &HeadLimits::default());
        request.map(|request| request.body_framing())
    }

    #[test]
    fn framings_of_methods_with_a_body() {
        let table = [
            ("", Ok(None)),
            ("Content-Length: 0\r\n", Ok(None)),
            ("Content-Length: 000\r\n", Ok(None)),
            ("Content-Length: 5\r\n", Ok(Length(5))),
            ("content-length:\t05 \r\n", Ok(Length(5))),
            ("Content-Length: 18446744073709551615\r\n", Ok(Length(u64::MAX))),
            ("Content-Length: 0000000000000000000000000000005\r\n", Ok(Length(5))),
            ("Content-Length: 18446744073709551616\r\n", Err(ContentLength)),
            ("Content-Length: 99999999999999999999999\r\n", Err(ContentLength)),
            ("Content-Length:\r\n", Err(ContentLength)),
            ("Content-Length: +5\r\n", Err(ContentLength)),
            ("Content-Length: -5\r\n", Err(ContentLength)),
            ("Content-Length: 5 5\r\n", Err(ContentLength)),
            ("Content-Length: 5_0\r\n", Err(ContentLength)),
            ("Content-Length: 0x5\r\n", Err(ContentLength)),
            ("Content-Length: 5e0\r\n", Err(ContentLength)),
            ("Content-Length: 5.0\r\n", Err(ContentLength)),
            ("Content-Length: 5, 5\r\n", Err(ContentLength)),
            ("Content-Length: 5,\r\n", Err(ContentLength)),
            ("Content-Length: \u{665}\r\n", Err(ContentLength)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(ContentLength)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(ContentLength)),
            ("Content-Length: 5\r\nContent-Length:\r\n", Err(ContentLength)),
            ("Content_Length: 5\r\nX-Content-Length: 5\r\n", Ok(None)),
            ("Transfer-Encoding: chunked\r\n", Ok(Chunked)),
            ("transfer-encoding:\tChunked \r\n", Ok(Chunked)),
            ("Transfer-Encoding:\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: ,\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: chunked,\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: ,chunked\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: xchunked\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: chunked chunked\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: identity\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: gzip\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: gzip;x=y, chunked\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(TransferCoding)),
            ("Transfer-Encoding: identity, chunked\r\n", Err(TransferCoding)),
            ("Transfer-Encoding: gzip, deflate, chunked\r\n", Err(TransferCoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(TransferEncoding)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(TransferEncoding)),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(TransferEncoding)),
            ("Content-Length: x\r\nTransfer-Encoding: gzip\r\n", Err(TransferEncoding)),
        ];
        for (lines, expected) in table {
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                assert_eq!(framing(method, "1.1", lines), expected, "{method} {lines}");
                // HTTP/1.0 knew lengths and nothing else.
                let old = match expected {
                    _ if lines.to_ascii_lowercase().contains("transfer-encoding") => {
                        Err(TransferEncoding)
                    }
                    expected => expected,
                };
                assert_eq!(framing(method, "1.0", lines), old, "{method} {lines}");
            }
        }
        assert_eq!((ContentLength.status(), TransferEncoding.status()), (400, 400));
        assert_eq!(TransferCoding.status(), 501);
    }

    #[test]
    fn methods_without_a_body_announce_none() {
        let table = [
            ("", Ok(None)),
            ("Content-Length: 0\r\n", Ok(None)),
            ("Content-Length: 00\r\n", Ok(None)),
            ("Content-Length: 5\r\n", Err(Body)),
            ("Content-Length: 18446744073709551616\r\n", Err(Body)),
            ("Content-Length: 0\r\nContent-Length: 0\r\n", Err(ContentLength)),
            ("Transfer-Encoding: chunked\r\n", Err(Body)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(Body)),
            ("Transfer-Encoding:\r\n", Err(Body)),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(Body)),
        ];
        for (lines, expected) in table {
            for (method, version) in
                [("GET", "1.1"), ("HEAD", "1.1"), ("OPTIONS", "1.1"), ("GET", "1.0")]
            {
                assert_eq!(framing(method, version, lines), expected, "{method} {lines}");
            }
        }
    }
}
