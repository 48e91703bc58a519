//! The head of a request, checked once and then only looked at.
//!
//! Never answers, and never sees what stands behind the head.

use alloc::borrow::Cow;
use core::mem::MaybeUninit;

use super::{
    BodyFraming, Fields, HEADERS_MAX, HeadLimits, HeadScan, Method, RequestError,
    authority::Authority, cookies, fields::Repeated, is_token, list, target::Target,
};

/// A request of HTTP/1.1 or 1.0: its head, and its body if one has been attached.
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
    framing: BodyFraming,
    expects_continue: bool,
    body: &'a [u8],
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
        let method = Method::parse(method).ok_or(RequestError::Method)?;
        if target.len() > limits.target_bytes_max {
            return Err(RequestError::TargetTooLong);
        }
        let Target { authority, path, query } =
            Target::parse(method, target).ok_or(RequestError::Target)?;
        let fields = Fields::of_head(head);
        let framing = BodyFraming::parse(&fields, method, minor_version == 0)?;
        // RFC 9112 §3.2.2: the field is ignored then, but RFC 9112 §3.2 wants it all the same.
        let field = host(&fields, minor_version)?;
        let host = authority.unwrap_or(field);
        let origin = origin(&fields)?;
        // HTTP/1.0 did not know 100 (RFC 9110 §10.1.1).
        let expects_continue =
            expects_continue(&fields)? && minor_version != 0 && framing != BodyFraming::None;
        Ok(Self {
            method,
            minor_version,
            target,
            path,
            query,
            host,
            origin,
            fields,
            framing,
            expects_continue,
            body: &[],
        })
    }

    /// The same request with its body, which [`BodyReader`](super::BodyReader) has read.
    pub const fn with_body(self, body: &'a [u8]) -> Self {
        Self { body, ..self }
    }

    /// The method.
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

    /// All pairs of the query in order, each a name with its value, decoded as
    /// `application/x-www-form-urlencoded`: `+` is a space, a pair without `=` has an empty value,
    /// and bytes that are not UTF-8 are replaced.
    pub fn query_params(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        form_urlencoded::parse(self.query.unwrap_or_default().as_bytes())
    }

    /// The first value of this name in the Cookie headers, see [`cookies`](Self::cookies). Names are
    /// compared with case. A browser sends the cookie of the longest path first (RFC 6265 §5.4).
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.cookies().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// All cookies in order, each a name with its value, of however many Cookie headers
    /// (RFC 6265 §4.2).
    ///
    /// Values come as they were sent, percent-encoding included, but without a pair of double
    /// quotes around them. A cookie without a name, or not in UTF-8, is passed over.
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        cookies::of(&self.fields)
    }

    /// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1), as it was sent. `None` without
    /// this header, for another scheme, and for a token that is not text.
    pub fn bearer_token(&self) -> Option<&'a str> {
        let (scheme, token) =
            str::from_utf8(self.header("Authorization")?).ok()?.split_once(' ')?;
        // Schemes have no case (RFC 9110 §11.1), and any number of spaces may follow (§11.4).
        scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start_matches(' '))
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

    /// The body; empty if there is none, or if it has not been attached.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// How the end of the body is found that follows this head, if one does.
    pub const fn body_framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the client waits for `100 Continue` ([`CONTINUE`](super::CONTINUE)) before it sends
    /// the body that it has announced (RFC 9110 §10.1.1). A server that has already received some of
    /// the body may omit it; one that will not read the body answers with a final status instead,
    /// and ends the connection.
    pub const fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the client may send a further request on this connection (RFC 9112 §9.3): not in
    /// HTTP/1.0, and not with `Connection: close`.
    pub fn keep_alive(&self) -> bool {
        !self.is_http_1_0() && !self.fields.list_has("Connection", "close")
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

/// Whether there is the one expectation that is known, and no other (RFC 9110 §10.1.1).
fn expects_continue(fields: &Fields<'_>) -> Result<bool, RequestError> {
    let mut expectations = fields.values("Expect").flat_map(list).peekable();
    let is_any = expectations.peek().is_some();
    match expectations.all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(is_any),
        false => Err(RequestError::Expectation),
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
