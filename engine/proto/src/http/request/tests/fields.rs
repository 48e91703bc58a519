//! What a request says beyond its first line: query, cookies, body, expectation, persistence.

use super::*;

#[test]
fn query_parameters_come_in_order_and_decoded() {
    let table: [(&str, &[(&str, &str)]); 7] = [
        ("", &[]),
        ("&&", &[]),
        ("a", &[("a", "")]),
        ("a=b=c&&d", &[("a", "b=c"), ("d", "")]),
        ("=a&a=", &[("", "a"), ("a", "")]),
        ("%61=%26%3D+%zz", &[("a", "&= %zz")]),
        ("a=%ff;b=c", &[("a", "\u{fffd};b=c")]),
    ];
    for (query, expected) in table {
        let head = format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
        let params: Vec<_> = parse(head.as_bytes()).unwrap().query_params().collect();
        let params: Vec<_> = params.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(params, expected, "{query}");
    }
}

#[test]
fn cookies_are_found_by_name_in_any_field() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; t=\"x y\"\r\ncookie: a=c; d=\r\n\r\n";
    let request = parse(head).unwrap();
    let table = [("a", Some("b")), ("t", Some("x y")), ("d", Some("")), ("A", None), ("", None)];
    for (name, value) in table {
        assert_eq!(request.cookie(name), value, "{name}");
    }
    assert_eq!(request.cookies().count(), 4);
}

/// RFC 6750 §2.1.
#[test]
fn bearer_tokens() {
    let table = [
        ("", None),
        ("Authorization: Bearer abc.d-e_f\r\n", Some("abc.d-e_f")),
        ("authorization:bEARER   abc\r\n", Some("abc")),
        ("Authorization: Bearer a b\r\n", Some("a b")),
        ("Authorization: Bearer\r\n", None),
        ("Authorization: Bearer \r\n", None),
        ("Authorization: Bearers abc\r\n", None),
        ("Authorization: Basic abc\r\n", None),
        ("Authorization: abc\r\n", None),
        ("Proxy-Authorization: Bearer abc\r\n", None),
    ];
    for (line, expected) in table {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n");
        assert_eq!(parse(head.as_bytes()).unwrap().bearer_token(), expected, "{line}");
    }
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\r\n\r\n";
    assert_eq!(parse(head).unwrap().bearer_token(), None);
}

#[test]
fn a_body_is_attached_and_then_there() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    let request = parse(head).unwrap();
    assert_eq!((request.method(), request.body_framing()), (Method::Post, BodyFraming::Length(4)));
    assert_eq!(request.body(), b"");
    let body = b"room".to_vec();
    let request = request.with_body(&body);
    assert_eq!((request.body(), request.host()), (&b"room"[..], "a"));
}

/// RFC 9112 §9.3.
#[test]
fn who_keeps_the_connection() {
    let table = [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: closed, x-close\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive,,\tclose ,x\r\n", false),
        ("1.1", "Connection: keep-alive\r\nconnection: Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", false),
        ("1.0", "Connection: close\r\n", false),
    ];
    for (version, lines, expected) in table {
        for method in ["GET", "HEAD", "POST"] {
            let head = format!("{method} / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
            assert_eq!(parse(head.as_bytes()).unwrap().keep_alive(), expected, "{head}");
        }
    }
}

/// RFC 9110 §10.1.1.
#[test]
fn expectations() {
    let body = "Content-Length: 1\r\n";
    let table = [
        ("1.1", body, "", Ok(false)),
        ("1.1", body, "Expect:\r\n", Ok(false)),
        ("1.1", body, "Expect: ,\r\n", Ok(false)),
        ("1.1", body, "Expect: 100-continue\r\n", Ok(true)),
        ("1.1", body, "expect:\t100-Continue \r\n", Ok(true)),
        ("1.1", body, "Expect: 100-continue\r\nExpect: , 100-continue,\r\n", Ok(true)),
        ("1.1", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", Ok(true)),
        ("1.1", "", "Expect: 100-continue\r\n", Ok(false)),
        ("1.1", "Content-Length: 0\r\n", "Expect: 100-continue\r\n", Ok(false)),
        ("1.0", body, "Expect: 100-continue\r\n", Ok(false)),
        ("1.1", body, "Expect: 100\r\n", Err(RequestError::Expectation)),
        ("1.1", body, "Expect: 100-continue-x\r\n", Err(RequestError::Expectation)),
        ("1.1", body, "Expect: 100-continue;a=b\r\n", Err(RequestError::Expectation)),
        ("1.1", body, "Expect: 100-continue, x\r\n", Err(RequestError::Expectation)),
        ("1.1", body, "Expect: x\r\nExpect: 100-continue\r\n", Err(RequestError::Expectation)),
        ("1.1", "", "Expect: 200-ok\r\n", Err(RequestError::Expectation)),
        ("1.0", "", "Expect: 200-ok\r\n", Err(RequestError::Expectation)),
    ];
    for (version, body, lines, expected) in table {
        let head = format!("POST / HTTP/{version}\r\nHost: a\r\n{body}{lines}\r\n");
        let expects = parse(head.as_bytes()).map(|request| request.expects_continue());
        assert_eq!(expects, expected, "{head}");
    }
    assert_eq!(verdict("Host: a\r\nExpect: x\r\n"), Some(RequestError::Expectation));
}
