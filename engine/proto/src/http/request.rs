//! The head of a request, checked once and then only looked at.
//!
//! Never answers, and never sees what stands behind the head.

use alloc::borrow::Cow;
use core::mem::MaybeUninit;

use super::{
    Fields, HEADERS_MAX, HeadLimits, HeadScan, RequestError, authority::Authority,
    fields::Repeated, is_token, target::Target,
};

/// The methods that are accepted (RFC 9110 §9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET: a resource, or the start of a WebSocket connection.
    Get,
    /// HEAD: the headers a GET would be answered with.
    Head,
    /// OPTIONS: which methods there are. Load balancers use it as a health check.
    Options,
}

/// A GET, HEAD or OPTIONS request of HTTP/1.1 or 1.0 without a body.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    method: Method,
    minor_version: u8,
    target: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    host: &'a str,
    origin: Option<&'a str>,
    fields: Fields<'a>,
}

impl<'a> Request<'a> {
    /// Reads a whole head, from the method to the empty line.
    ///
    /// Its length is what [`HeadScan::scan`] found; nothing may follow.
    ///
    /// # Errors
    ///
    /// The first thing wrong with it, see [`RequestError`].
    pub fn parse(head: &'a [u8], limits: &HeadLimits) -> Result<Self, RequestError> {
        // The parser would take a bare LF for the end of a line.
        if HeadScan::new().scan(head, limits)? != Some(head.len()) {
            return Err(RequestError::Malformed);
        }
        let (method, target, minor_version) = parse_lines(head, limits)?;
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            _ => return Err(RequestError::Method),
        };
        if target.len() > limits.target_bytes_max {
            return Err(RequestError::TargetTooLong);
        }
        let Target { authority, path, query } =
            Target::parse(method, target).ok_or(RequestError::Target)?;
        let fields = Fields::of_head(head);
        check_no_body(&fields)?;
        // RFC 9112 §3.2.2: the field is ignored then, but RFC 9112 §3.2 wants it all the same.
        let field = host(&fields, minor_version)?;
        let host = authority.unwrap_or(field);
        let origin = origin(&fields)?;
        Ok(Self { method, minor_version, target, path, query, host, origin, fields })
    }

    /// GET, HEAD or OPTIONS.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Whether it is a request of HTTP/1.0, which cannot become a WebSocket (RFC 9110 §7.8).
    pub const fn is_http_1_0(&self) -> bool {
        self.minor_version == 0
    }

    /// The request target as it was sent (RFC 9112 §3.2).
    pub const fn target(&self) -> &'a str {
        self.target
    }

    /// The path, as it was sent: percent-encoded, beginning with `/`. It is `/` where the target is
    /// a URI without a path (`http://host?query`), and `*` for `OPTIONS *`.
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the first `?`, as it was sent.
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The first value of this name in the query, decoded; bytes that are not UTF-8 are replaced.
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        form_urlencoded::parse(self.query?.as_bytes())
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The first value of this header. Names are compared without case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.values(name).next()
    }

    /// All headers in order, each name with its value.
    pub fn headers(&self) -> Fields<'a> {
        self.fields.clone()
    }

    /// The host that is asked for, with the port if one was written: that of the target if the
    /// target names one (`GET http://host/ HTTP/1.1`), else the Host header's (RFC 9112 §3.2.2).
    /// Empty only for a request of HTTP/1.0 that names no host.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// The Origin header: the page a browser was on. `null` is a value, absence is `None`.
    pub const fn origin(&self) -> Option<&'a str> {
        self.origin
    }
}

/// Whether a request is a HEAD, of which perhaps only a part has come, or which is malformed: no
/// answer to it has a body, an error neither (RFC 9110 §9.3.2).
pub fn is_head_request(head_so_far: &[u8]) -> bool {
    head_so_far
        .trim_ascii_start()
        .strip_prefix(b"HEAD")
        // Behind a longer word stands another method.
        .is_some_and(|rest| !rest.first().is_some_and(|&next| is_token(&[next])))
}

/// Request line and headers through `httparse`: method, target and minor version.
fn parse_lines<'a>(
    head: &'a [u8],
    limits: &HeadLimits,
) -> Result<(&'a str, &'a str, u8), RequestError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let headers = &mut headers[..limits.headers_max.min(HEADERS_MAX)];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, headers) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(RequestError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooManyHeaders),
        Err(httparse::Error::Version) => return Err(RequestError::HttpVersion),
        Err(_) => return Err(RequestError::Malformed),
    }
    match (request.method, request.path, request.version) {
        (Some(method), Some(target), Some(version)) => Ok((method, target, version)),
        _ => Err(RequestError::Malformed),
    }
}

/// Bodies are not read, so none may be announced; and what announces one must be clear, or two
/// readers of the same bytes could disagree about where the request ends (RFC 9112 §6.3, §11.2).
fn check_no_body(fields: &Fields<'_>) -> Result<(), RequestError> {
    if fields.values("Transfer-Encoding").next().is_some() {
        return Err(RequestError::Body);
    }
    match fields.only("Content-Length") {
        Ok(None) => Ok(()),
        Ok(Some([])) | Err(Repeated) => Err(RequestError::ContentLength),
        Ok(Some(value)) if !value.iter().all(u8::is_ascii_digit) => {
            Err(RequestError::ContentLength)
        }
        Ok(Some(value)) if value.iter().all(|&digit| digit == b'0') => Ok(()),
        Ok(Some(_)) => Err(RequestError::Body),
    }
}

/// The Host field: exactly one, and `uri-host [ ":" port ]` (RFC 9112 §3.2, RFC 9110 §7.2). HTTP/1.0
/// did not know it.
fn host<'a>(fields: &Fields<'a>, minor_version: u8) -> Result<&'a str, RequestError> {
    let value = match fields.only("Host") {
        Ok(Some(value)) => str::from_utf8(value).map_err(|_| RequestError::Host)?,
        Ok(None) if minor_version == 0 => return Ok(""),
        Ok(None) | Err(Repeated) => return Err(RequestError::Host),
    };
    Authority::parse(value).map(|_| value).ok_or(RequestError::Host)
}

fn origin<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>, RequestError> {
    match fields.only("Origin") {
        Ok(None) => Ok(None),
        Ok(Some(value))
            if !value.is_empty() && value.iter().all(|byte| byte.is_ascii_graphic()) =>
        {
            str::from_utf8(value).map(Some).map_err(|_| RequestError::Origin)
        }
        _ => Err(RequestError::Origin),
    }
}

#[cfg(test)]
mod tests;
