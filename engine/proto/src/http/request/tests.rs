//! Requests as they should be, and each way they should not.

use alloc::{borrow::Cow, format, string::String, vec, vec::Vec};

use super::*;
use crate::http::Persistence;

mod fields;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 8192, headers_max: 10, target_bytes_max: 100 };

fn parse(head: &[u8]) -> Result<Request<'_>, RequestError> {
    Request::parse(head, &LIMITS)
}

/// The verdict on a GET of `/` with these header lines.
fn verdict(lines: &str) -> Option<RequestError> {
    parse(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes()).err()
}

/// The verdict on a request with this request line.
fn line_verdict(line: &str) -> Option<RequestError> {
    parse(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).err()
}

#[test]
fn a_request_shows_what_it_says() {
    let head = b"GET /a%20b?x=1&y=%C3%A9+z&x=2 HTTP/1.1\r\nHost: a.example:80\r\n\
        Origin: http://b\r\nCookie:  c=\xff\t\r\ncookie: d\r\n\r\n";
    let request = parse(head).unwrap();
    assert_eq!(request.method(), Method::Get);
    assert_eq!(request.target(), "/a%20b?x=1&y=%C3%A9+z&x=2");
    assert_eq!((request.path(), request.query()), ("/a%20b", Some("x=1&y=%C3%A9+z&x=2")));
    assert_eq!(request.query_param("x"), Some(Cow::Borrowed("1")));
    assert_eq!(request.query_param("y").as_deref(), Some("é z"));
    assert_eq!(request.query_param("z"), None);
    let params: Vec<_> = request.query_params().collect();
    assert_eq!(
        params,
        [("x".into(), "1".into()), ("y".into(), "é z".into()), ("x".into(), "2".into())]
    );
    assert_eq!((request.host(), request.origin()), ("a.example:80", Some("http://b")));
    assert_eq!(request.header("COOKIE"), Some(&b"c=\xff"[..]));
    assert_eq!(request.header("none"), None);
    let names: Vec<_> = request.headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["Host", "Origin", "Cookie", "cookie"]);
}

#[test]
fn a_request_without_query_or_origin_has_none() {
    let request = parse(b"HEAD / HTTP/1.1\r\nhost:[::1]:9001\r\n\r\n").unwrap();
    assert_eq!((request.method(), request.host()), (Method::Head, "[::1]:9001"));
    assert_eq!((request.query(), request.query_param("a"), request.origin()), (None, None, None));
    assert_eq!((request.query_params().count(), request.cookies().count()), (0, 0));
    let request = parse(b"GET /? HTTP/1.1\r\nHost: a\r\nOrigin: null\r\n\r\n").unwrap();
    assert_eq!((request.query(), request.origin()), (Some(""), Some("null")));
}

#[test]
fn request_lines() {
    use RequestError::*;
    let table = [
        ("GET / HTTP/1.1", None),
        ("HEAD /x?y HTTP/1.1", None),
        ("GET http://a.example/x HTTP/1.1", None),
        ("GET ws://a.example/x?y=/ HTTP/1.1", None),
        ("GET http://a.example HTTP/1.1", None),
        ("GET wss://a.example?x HTTP/1.1", None),
        ("GET / HTTP/1.0", None),
        ("HEAD / HTTP/1.0", None),
        ("OPTIONS / HTTP/1.0", None),
        ("OPTIONS * HTTP/1.0", None),
        ("OPTIONS * HTTP/1.1", None),
        ("OPTIONS /x HTTP/1.1", None),
        ("OPTIONS http://a.example HTTP/1.1", None),
        ("POST / HTTP/1.1", None),
        ("POST / HTTP/1.0", None),
        ("PUT /x HTTP/1.1", None),
        ("PATCH /x HTTP/1.1", None),
        ("DELETE /x HTTP/1.1", None),
        ("POST http://a.example/x HTTP/1.1", None),
        ("POST * HTTP/1.1", Some(Target)),
        ("post / HTTP/1.1", Some(Method)),
        ("TRACE / HTTP/1.1", Some(Method)),
        ("PROPFIND * HTTP/1.1", Some(Method)),
        ("options * HTTP/1.1", Some(Method)),
        ("CONNECT a:80 HTTP/1.1", Some(Method)),
        ("get / HTTP/1.1", Some(Method)),
        ("GET / HTTP/0.9", Some(HttpVersion)),
        ("GET / HTTP/1.00", Some(Malformed)),
        ("GET / HTTP/2.0", Some(HttpVersion)),
        ("GET / HTTP/1.2", Some(HttpVersion)),
        ("GET /", Some(Malformed)),
        ("GET", Some(Malformed)),
        ("GET  / HTTP/1.1", Some(Malformed)),
        ("GET /a b HTTP/1.1", Some(HttpVersion)),
        (" GET / HTTP/1.1", Some(Malformed)),
        ("G(T / HTTP/1.1", Some(Malformed)),
        ("GET * HTTP/1.1", Some(Target)),
        ("GET a HTTP/1.1", Some(Target)),
        ("HEAD * HTTP/1.1", Some(Target)),
        ("OPTIONS a:80 HTTP/1.1", Some(Target)),
        ("GET http://u@a.example/ HTTP/1.1", Some(Target)),
        ("GET http:///x HTTP/1.1", Some(Target)),
        ("GET ftp://a.example/ HTTP/1.1", Some(Target)),
        ("GET /a#b HTTP/1.1", Some(Target)),
    ];
    for (line, expected) in table {
        assert_eq!(line_verdict(line), expected, "{line}");
    }
    assert!(line_verdict("GET /\u{e9} HTTP/1.1").is_some());
    let request = parse(b"GET http://a.example/x?y=/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((request.path(), request.query()), ("/x", Some("y=/")));
}

/// RFC 9112 §3.2.2: the target's host counts, whatever the field says; the field is needed and
/// checked all the same (§3.2).
#[test]
fn the_host_of_the_target_counts_instead_of_the_field() {
    let table = [
        ("/ HTTP/1.1", "Host: a\r\n", Ok("a")),
        ("http://b/ HTTP/1.1", "Host: a\r\n", Ok("b")),
        ("http://b HTTP/1.1", "Host: a:80\r\n", Ok("b")),
        ("ws://b:9001?x HTTP/1.1", "Host: a\r\n", Ok("b:9001")),
        ("HTTPS://[::1]:1/x HTTP/1.1", "Host: a\r\n", Ok("[::1]:1")),
        ("/http://b/ HTTP/1.1", "Host: a\r\n", Ok("a")),
        ("http://b/ HTTP/1.1", "", Err(RequestError::Host)),
        ("http://b/ HTTP/1.1", "Host:\r\n", Err(RequestError::Host)),
        ("http://b/ HTTP/1.1", "Host: b\r\nHost: b\r\n", Err(RequestError::Host)),
        ("http://b/ HTTP/1.1", "Host: u@b\r\n", Err(RequestError::Host)),
        ("http://b/ HTTP/1.0", "", Ok("b")),
        ("http://b/ HTTP/1.0", "Host: a\r\n", Ok("b")),
        ("/ HTTP/1.0", "", Ok("")),
        ("/ HTTP/1.0", "Host: a\r\n", Ok("a")),
        ("/ HTTP/1.0", "Host:\r\n", Err(RequestError::Host)),
        ("/ HTTP/1.0", "Host: a\r\nHost: a\r\n", Err(RequestError::Host)),
        ("/ HTTP/1.0", "Host: a/b\r\n", Err(RequestError::Host)),
    ];
    for (target, lines, expected) in table {
        let head = format!("GET {target}\r\n{lines}\r\n");
        assert_eq!(parse(head.as_bytes()).map(|request| request.host()), expected, "{head}");
    }
}

#[test]
fn a_head_request_is_known_however_broken_or_unfinished() {
    for yes in
        ["HEAD", "HEAD ", "HEAD / HTTP/1.1\r\n", "HEAD\t/", "HEAD\0", "\r\nHEAD / H", "HEAD\r\n"]
    {
        assert!(is_head_request(yes.as_bytes()), "{yes:?}");
    }
    for no in ["", "H", "HEA", "HEADS /", "HEAD-", "head /", "GET /HEAD", "GET / HTTP/1.1\r\nHEAD "]
    {
        assert!(!is_head_request(no.as_bytes()), "{no:?}");
    }
}

#[test]
fn header_lines() {
    use RequestError::*;
    let table = [
        ("Host: a\r\n", None),
        ("HOST:\ta:80 \r\nx:\r\n", None),
        // Host (RFC 9112 §3.2)
        ("", Some(Host)),
        ("Host:\r\n", Some(Host)),
        ("Host: a\r\nHost: a\r\n", Some(Host)),
        ("Host: a\r\nhost: b\r\n", Some(Host)),
        ("Host: a, b\r\n", Some(Host)),
        ("Host: a,b\r\n", Some(Host)),
        ("Host: a/b\r\n", Some(Host)),
        ("Host: a:65536\r\n", Some(Host)),
        ("Host: a:b\r\n", Some(Host)),
        ("Host: :80\r\n", Some(Host)),
        ("Host: ::1\r\n", Some(Host)),
        ("Host: [::1\r\n", Some(Host)),
        ("Host: [::1]x\r\n", Some(Host)),
        ("Host: a%zz\r\n", Some(Host)),
        ("Host: http://a\r\n", Some(Host)),
        ("Host: a:65535\r\n", None),
        ("Host: [2001:DB8::1]:\r\n", None),
        ("Host: %61\r\n", None),
        ("Host: u@a\r\n", Some(Host)),
        ("Host: \u{e9}\r\n", Some(Host)),
        // Syntax (RFC 9112 §5.1, §5.2, §2.2; RFC 9110 §5.5)
        ("Host : a\r\n", Some(Malformed)),
        ("Host: a\r\n folded\r\n", Some(Malformed)),
        ("Host:\r\n a\r\n", Some(Malformed)),
        (" Host: a\r\n", Some(Malformed)),
        (": a\r\nHost: a\r\n", Some(Malformed)),
        ("Host\r\n", Some(Malformed)),
        ("Host: a\r\nx y: b\r\n", Some(Malformed)),
        ("Host: a\r\nx: \u{1}\r\n", Some(Malformed)),
        ("Host: a\r\nx: \u{7f}\r\n", Some(Malformed)),
        ("Host: a\r\nx: b\0\r\n", Some(Malformed)),
        ("Host: a\nx: b\r\n", Some(Malformed)),
        ("Host: a\rx: b\r\n", Some(Malformed)),
        ("Host: a\r\n\u{e9}: b\r\n", Some(Malformed)),
        // Bodies (RFC 9112 §6.1, §6.3)
        ("Host: a\r\nContent-Length: 0\r\n", None),
        ("Host: a\r\nContent-Length: 00\r\n", None),
        ("Host: a\r\nContent-Length: 5\r\n", Some(Body)),
        ("Host: a\r\nContent-Length: 99999999999999999999999\r\n", Some(Body)),
        ("Host: a\r\nContent-Length:\r\n", Some(ContentLength)),
        ("Host: a\r\nContent-Length: +1\r\n", Some(ContentLength)),
        ("Host: a\r\nContent-Length: -1\r\n", Some(ContentLength)),
        ("Host: a\r\nContent-Length: 1e1\r\n", Some(ContentLength)),
        ("Host: a\r\nContent-Length: 0x0\r\n", Some(ContentLength)),
        ("Host: a\r\nContent-Length: 0, 0\r\n", Some(ContentLength)),
        ("Host: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n", Some(ContentLength)),
        ("Host: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n", Some(ContentLength)),
        ("Host: a\r\nTransfer-Encoding: chunked\r\n", Some(Body)),
        ("Host: a\r\nTransfer-Encoding: xchunked\r\n", Some(Body)),
        ("Host: a\r\nTransfer-Encoding:\r\n", Some(Body)),
        ("Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n", Some(Body)),
        // Expectations (RFC 9110 §10.1.1); others are below
        ("Host: a\r\nExpect: 100-continue\r\n", None),
        // Origin (RFC 6454 §7): what no policy can judge
        ("Host: a\r\nOrigin: http://b\r\n", None),
        ("Host: a\r\nOrigin:\r\n", Some(Origin)),
        ("Host: a\r\nOrigin: http://b\r\nOrigin: http://a\r\n", Some(Origin)),
        ("Host: a\r\nOrigin: http://\u{e9}\r\n", Some(Origin)),
        ("Host: a\r\nOrigin: http://a http://b\r\n", Some(Origin)),
    ];
    for (lines, expected) in table {
        assert_eq!(verdict(lines), expected, "{lines:?}");
        if let Some(error) = expected {
            assert_eq!(error.status(), 400);
        }
    }
}

#[test]
fn limits_of_a_head() {
    let fields = |count: usize| format!("Host: a\r\n{}", "x: y\r\n".repeat(count - 1));
    assert_eq!(verdict(&fields(10)), None);
    assert_eq!(verdict(&fields(11)), Some(RequestError::TooManyHeaders));
    assert_eq!(line_verdict(&format!("GET /{} HTTP/1.1", "x".repeat(99))), None);
    let long = line_verdict(&format!("GET /{} HTTP/1.1", "x".repeat(100)));
    assert_eq!(long, Some(RequestError::TargetTooLong));
    let huge = line_verdict(&format!("GET /{} HTTP/1.1", "x".repeat(8192)));
    assert_eq!(huge, Some(RequestError::TargetTooLong));
    let value = verdict(&format!("Host: a\r\nx: {}\r\n", "y".repeat(8192)));
    assert_eq!(value, Some(RequestError::HeadTooLong));
    assert_eq!(RequestError::HeadTooLong.status(), 431);
    assert_eq!(RequestError::TooManyHeaders.status(), 431);
    assert_eq!(RequestError::TargetTooLong.status(), 414);
}

#[test]
fn more_fields_than_the_crate_has_room_for_are_refused_whatever_the_limit() {
    // ws CVE-2024-37890: more headers than expected left the Upgrade header out.
    let limits = HeadLimits { headers_max: usize::MAX, ..LIMITS };
    let head = |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(count - 1));
    assert!(Request::parse(head(HEADERS_MAX).as_bytes(), &limits).is_ok());
    let error = Request::parse(head(HEADERS_MAX + 1).as_bytes(), &limits).err();
    assert_eq!(error, Some(RequestError::TooManyHeaders));
}

#[test]
fn a_head_is_whole_and_nothing_more() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..head.len() {
        assert_eq!(parse(&head[..end]).err(), Some(RequestError::Malformed));
    }
    assert_eq!(parse(&[&head[..], b"x"].concat()).err(), Some(RequestError::Malformed));
    assert_eq!(
        parse(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").err(),
        Some(RequestError::Malformed)
    );
}

#[test]
fn any_byte_in_any_place_is_survived() {
    let head = b"GET /p?q=r HTTP/1.1\r\nHost: a\r\nOrigin: b\r\nx: y\r\n\r\n";
    for at in 0..head.len() {
        for byte in 0..=u8::MAX {
            let mut head = head.to_vec();
            head[at] = byte;
            if let Ok(request) = parse(&head) {
                assert!(!request.host().is_empty() || request.is_http_1_0());
                assert!(request.path().starts_with('/'));
                assert!(request.headers().count() >= 1);
            }
        }
    }
}

#[test]
fn every_refusal_is_a_whole_response_that_closes() {
    use RequestError::*;
    let all = [
        (Malformed, 400),
        (HttpVersion, 400),
        (Target, 400),
        (Host, 400),
        (Origin, 400),
        (ContentLength, 400),
        (TransferEncoding, 400),
        (TransferCoding, 501),
        (Body, 400),
        (BodyTooLong, 413),
        (Chunk, 400),
        (ChunkExtensions, 400),
        (TrailersTooLong, 431),
        (Expectation, 417),
        (Method, 405),
        (UpgradeMethod, 405),
        (TargetTooLong, 414),
        (HeadTooLong, 431),
        (TooManyHeaders, 431),
        (UpgradeVersion, 426),
        (Upgrade, 426),
        (Connection, 400),
        (WebSocketVersion, 426),
        (WebSocketKey, 400),
        (WebSocketProtocol, 400),
    ];
    for (error, status) in all {
        let mut out = vec![];
        error.response().write(&mut out, false, Persistence::Ends, None);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(error.status(), status);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(body.starts_with(&format!("{error}\n")) && body.ends_with('\n'), "{body}");
        let allow = head.lines().find_map(|line| line.strip_prefix("Allow: "));
        let expected = match error {
            Method => Some("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"),
            // Not the method that was refused (RFC 9110 §15.5.6).
            UpgradeMethod => Some("GET, OPTIONS"),
            _ => None,
        };
        assert_eq!(allow, expected);
        for line in [
            "proxy_http_version 1.1;",
            "proxy_set_header Upgrade $http_upgrade;",
            "proxy_set_header Connection \"upgrade\";",
        ] {
            let is_proxys = matches!(error, UpgradeVersion | Upgrade | Connection);
            assert_eq!(body.contains(line), is_proxys, "{error}");
        }
        assert_eq!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"), status == 426);
        assert_eq!(text.contains("\r\nUpgrade: websocket\r\n"), status == 426);
    }
}
