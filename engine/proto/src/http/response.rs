//! An HTTP response, after which the connection ends or stays.
//!
//! Never a 101, which has no body and no end; that is
//! [`accept_response`](crate::handshake::accept_response).

use alloc::{borrow::Cow, vec::Vec};

use super::{InvalidHeader, is_field_value, is_token};

/// The answer to a request that waits before it sends its body
/// ([`Request::expects_continue`](super::Request::expects_continue)). The final response follows it
/// (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What becomes of the connection after a response (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The next request may come. Only if [`Request::keep_alive`](super::Request::keep_alive) says
    /// so, and if where the request ends is known.
    Stays,
    /// The response is the last one: `Connection: close`.
    Ends,
}

/// A response with a status, headers and a body. It is written with its Content-Length, the Date,
/// and `Connection: close` if it is the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    /// Header lines, each with its CRLF.
    lines: Vec<u8>,
    body: Cow<'static, [u8]>,
}

impl Response {
    /// A response without headers or body.
    ///
    /// # Panics
    ///
    /// If `status` is not a final status, 200 to 599. A 1xx comes before a response and is none:
    /// [`CONTINUE`], [`accept_response`](crate::handshake::accept_response).
    pub const fn new(status: u16) -> Self {
        assert!(status >= 200 && status <= 599, "a response has a status from 200 to 599");
        Self { status, lines: Vec::new(), body: Cow::Borrowed(&[]) }
    }

    /// A response of plain text, in UTF-8.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn text(status: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status).body("text/plain; charset=utf-8", into_bytes(text.into()))
    }

    /// A page in HTML, in UTF-8.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn html(status: u16, page: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status).body("text/html; charset=utf-8", into_bytes(page.into()))
    }

    /// A 401, which must name at least one scheme by which the client can authenticate itself, such
    /// as `Bearer` (RFC 9110 §11.6.1, §15.5.2). The text says what was wrong.
    ///
    /// # Panics
    ///
    /// If `challenge` is not fit for a header.
    pub fn unauthorized(challenge: &str, text: impl Into<Cow<'static, str>>) -> Self {
        let response = Self::text(401, text).header("WWW-Authenticate", challenge);
        response.expect("a challenge is one line of text")
    }

    /// The status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Adds a header.
    ///
    /// # Errors
    ///
    /// The name is no token, the value has a control character, or it is one of Connection,
    /// Content-Length, Date and Transfer-Encoding, which are written here.
    pub fn header(self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        const OWN: [&str; 4] = ["Connection", "Content-Length", "Date", "Transfer-Encoding"];
        check_header(name, value, &OWN)?;
        Ok(self.own_header(name, value))
    }

    /// Sets the body and the Content-Type that describes it. To be called once.
    ///
    /// # Panics
    ///
    /// If `content_type` is not fit for a header.
    pub fn body(self, content_type: &str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        assert!(is_field_value(content_type.as_bytes()), "a content type is one line of text");
        Self { body: body.into(), ..self.own_header("Content-Type", content_type) }
    }

    /// Appends the response; with `head_only`, the answer to a HEAD request, without its body.
    ///
    /// Its length is always told, so that the next response can follow: by Content-Length, which is
    /// that of the body to HEAD too, or by the status (204, 304), which has no body then.
    ///
    /// `date` is the time now as an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110
    /// §5.6.7). A server that knows the time must send it (§6.6.1), so `None` is for those that do
    /// not.
    ///
    /// # Panics
    ///
    /// If `date` is not fit for a header.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        head_only: bool,
        persistence: Persistence,
        date: Option<&str>,
    ) {
        // RFC 9110 §6.4.1 and §8.6: these two have no body, and a 204 has no Content-Length.
        let has_length = !matches!(self.status, 204 | 304);
        // §15.3.6: neither has a 205, which says so by a length of 0.
        let body = if self.status == 205 { &[][..] } else { &self.body };
        out.extend_from_slice(b"HTTP/1.1 ");
        append_number(out, self.status.into());
        out.extend_from_slice(b" ");
        out.extend_from_slice(reason_phrase(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        if let Some(date) = date {
            assert!(is_field_value(date.as_bytes()), "a date is one line of text");
            append_header(out, "Date", date);
        }
        out.extend_from_slice(&self.lines);
        if has_length {
            out.extend_from_slice(b"Content-Length: ");
            append_number(out, body.len());
            out.extend_from_slice(b"\r\n");
        }
        if persistence == Persistence::Ends {
            append_header(out, "Connection", "close");
        }
        out.extend_from_slice(b"\r\n");
        if has_length && !head_only {
            out.extend_from_slice(body);
        }
    }

    /// Adds a header of which only this crate decides.
    pub(crate) fn own_header(mut self, name: &str, value: &str) -> Self {
        append_header(&mut self.lines, name, value);
        self
    }
}

fn into_bytes(text: Cow<'static, str>) -> Cow<'static, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Whether a caller may send this header where the `own` ones are ours.
pub(crate) fn check_header(name: &str, value: &str, own: &[&str]) -> Result<(), InvalidHeader> {
    let is_ours = own.iter().any(|own| own.eq_ignore_ascii_case(name));
    if is_ours || !is_token(name.as_bytes()) || !is_field_value(value.as_bytes()) {
        return Err(InvalidHeader);
    }
    Ok(())
}

/// Appends one header line.
pub(crate) fn append_header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn append_number(out: &mut Vec<u8>, number: usize) {
    if number >= 10 {
        append_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// The words of RFC 9110 §15 and RFC 6585; empty for a status they do not name, which is allowed.
const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        205 => "Reset Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
