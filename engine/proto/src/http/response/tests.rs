//! Responses byte for byte, and headers that never get out.

use alloc::{format, string::String, string::ToString, vec, vec::Vec};

use super::*;

/// The sample of RFC 9110 §5.6.7.
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn written(response: &Response, head_only: bool) -> String {
    let mut out = vec![];
    response.write(&mut out, head_only, Persistence::Ends, Some(DATE));
    String::from_utf8(out).unwrap()
}

#[test]
fn a_response_is_a_status_headers_and_a_body() {
    let page = Response::new(200).header("X-Y", "z \u{e9}").unwrap().body("text/html", &b"<p>"[..]);
    let head = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Y: z \u{e9}\r\n\
        Content-Type: text/html\r\nContent-Length: 3\r\nConnection: close\r\n\r\n";
    assert_eq!(written(&page, false), format!("{head}<p>"));
    assert_eq!(written(&page, true), head);
    assert_eq!(page.status(), 200);
    let owned = Response::new(404).body("text/plain", vec![b'x'; 1234]);
    assert!(written(&owned, true).contains("\r\nContent-Length: 1234\r\n"));
}

#[test]
fn text_is_text_and_a_401_names_its_scheme() {
    let text = written(&Response::text(404, "caf\u{e9}\n"), false);
    assert!(text.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"), "{text}");
    assert!(text.contains("\r\nContent-Length: 6\r\n") && text.ends_with("\r\n\r\ncaf\u{e9}\n"));
    let page = written(&Response::html(200, "<p>"), false);
    assert!(page.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{page}");
    let text = written(&Response::unauthorized("Bearer", String::from("expired")), false);
    assert!(text.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{text}");
    assert!(
        text.contains("\r\nWWW-Authenticate: Bearer\r\n") && text.ends_with("expired"),
        "{text}"
    );
}

#[test]
fn an_empty_body_has_a_length_where_a_body_could_be() {
    let empty =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let mut out = vec![];
    Response::new(503).write(&mut out, false, Persistence::Ends, None);
    assert_eq!(out, empty.as_bytes());
    let reset = written(&Response::new(205).body("a/b", &b"dropped"[..]), false);
    assert!(reset.contains("\r\nContent-Length: 0\r\n") && reset.ends_with("close\r\n\r\n"));
    for status in [204, 304] {
        let text = written(&Response::new(status).body("a/b", &b"dropped"[..]), false);
        assert!(!text.contains("Content-Length") && text.ends_with("close\r\n\r\n"), "{text}");
    }
}

#[test]
fn statuses_have_their_words_or_none() {
    let table = [
        (201, "Created"),
        (202, "Accepted"),
        (205, "Reset Content"),
        (301, "Moved Permanently"),
        (302, "Found"),
        (303, "See Other"),
        (307, "Temporary Redirect"),
        (308, "Permanent Redirect"),
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (405, "Method Not Allowed"),
        (406, "Not Acceptable"),
        (408, "Request Timeout"),
        (409, "Conflict"),
        (410, "Gone"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (415, "Unsupported Media Type"),
        (417, "Expectation Failed"),
        (421, "Misdirected Request"),
        (422, "Unprocessable Content"),
        (426, "Upgrade Required"),
        (429, "Too Many Requests"),
        (431, "Request Header Fields Too Large"),
        (500, "Internal Server Error"),
        (501, "Not Implemented"),
        (502, "Bad Gateway"),
        (504, "Gateway Timeout"),
        (505, "HTTP Version Not Supported"),
        (299, ""),
        (599, ""),
    ];
    for (status, words) in table {
        let text = written(&Response::new(status), false);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} {words}\r\n")), "{text}");
    }
}

#[test]
fn headers_that_break_the_head_open_are_refused() {
    // undici CVE-2026-1527: CR and LF in what a caller passes on.
    let table = [
        ("", "a"),
        ("a b", "c"),
        ("a:", "b"),
        ("a\r\nb", "c"),
        ("\u{e9}", "a"),
        ("a\0", "b"),
        ("a", "b\r\nSet-Cookie: c"),
        ("a", "\n"),
        ("a", "\r"),
        ("a", "\0"),
        ("a", "\u{7f}"),
        ("Connection", "keep-alive"),
        ("content-length", "5"),
        ("DATE", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("TRANSFER-ENCODING", "chunked"),
    ];
    for (name, value) in table {
        let refused = Response::new(200).header(name, value);
        assert_eq!(refused, Err(InvalidHeader), "{name:?}: {value:?}");
    }
    assert_eq!(InvalidHeader.to_string(), "header name or value not allowed");
}

/// On a connection that stays, the next response begins where the length of this one says. It is
/// the same response otherwise.
#[test]
fn a_connection_ends_only_if_the_response_says_so() {
    let statuses = [200, 201, 204, 205, 206, 299, 302, 304, 400, 404, 413, 426, 500, 599];
    for (status, head_only) in statuses.iter().flat_map(|&status| [(status, false), (status, true)])
    {
        for response in [Response::new(status), Response::new(status).body("a/b", &b"body"[..])] {
            let [stays, ends] = [Persistence::Stays, Persistence::Ends].map(|persistence| {
                let mut out = b"before".to_vec();
                response.write(&mut out, head_only, persistence, Some(DATE));
                String::from_utf8(out).unwrap()
            });
            assert_eq!(ends.replacen("Connection: close\r\n", "", 1), stays);
            assert!(ends.contains("\r\nConnection: close\r\n") && !stays.contains("Connection"));
            let (head, body) = stays.split_once("\r\n\r\n").unwrap();
            let lengths: Vec<_> =
                head.lines().filter_map(|line| line.strip_prefix("Content-Length: ")).collect();
            match status {
                204 | 304 => assert_eq!((lengths.len(), body), (0, "")),
                _ if head_only => assert_eq!((lengths.len(), body), (1, "")),
                _ => assert_eq!(lengths, [body.len().to_string()]),
            }
            let as_to_get = written(&response, false);
            assert!(
                ends.starts_with(&format!("before{}", as_to_get.split_once("\r\n\r\n").unwrap().0))
            );
        }
    }
}

#[test]
fn an_interim_status_is_not_a_response() {
    for status in [0, 100, 101, 102, 103, 199, 600, u16::MAX] {
        let made = std::panic::catch_unwind(|| Response::new(status));
        assert!(made.is_err(), "{status}");
    }
    assert_eq!(CONTINUE, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
#[should_panic(expected = "one line of text")]
fn a_content_type_is_one_line() {
    let _ = Response::new(200).body("a\r\nb", &b""[..]);
}

#[test]
#[should_panic(expected = "a date is one line of text")]
fn a_date_is_one_line() {
    Response::new(200).write(&mut vec![], false, Persistence::Ends, Some("now\r\nX: y"));
}
