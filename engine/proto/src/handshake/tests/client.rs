//! The client's end: what it sends, and which answers it takes.

use super::*;

#[test]
fn a_request_of_the_client_is_understood_by_the_server() {
    let mut out = vec![];
    let headers = [("Origin", "http://a"), ("Authorization", "Basic x")];
    client_request(&mut out, "a:9001", "/ws?x=y", NONCE, &["chat", "v2"], &headers).unwrap();
    let request = Request::parse(&out, &LIMITS).unwrap();
    assert_eq!((request.host(), request.target()), ("a:9001", "/ws?x=y"));
    assert_eq!(request.header("authorization"), Some(&b"Basic x"[..]));
    let offer = request.upgrade().unwrap().unwrap();
    assert_eq!(offer.protocols().collect::<Vec<_>>(), ["chat", "v2"]);
    let accepted = answer(&out, None, &[]).unwrap();
    assert_eq!(check_response(&accepted, NONCE, &["chat", "v2"]), Ok(None));
    assert_eq!(check_response(&accepted, [0; 16], &[]), Err(ResponseError::Accept));
}

#[test]
fn a_client_sends_no_broken_request() {
    let bad = [
        ("", "/", &[][..]),
        ("a b", "/", &[]),
        ("a\r\nb", "/", &[]),
        ("a", "", &[]),
        ("a", "x", &[]),
        ("a", "/ b", &[]),
        ("a", "/\r\nb", &[]),
        ("a", "/\u{e9}", &[]),
        ("a", "/", &[""]),
        ("a", "/", &["b c"]),
        ("a", "/", &["b", "b"]),
        ("a", "/", &["b\r\nc: d"]),
    ];
    for (host, target, protocols) in bad {
        let mut out = vec![];
        let refused = client_request(&mut out, host, target, NONCE, protocols, &[]);
        assert_eq!((refused, out.len()), (Err(InvalidHeader), 0), "{host:?} {target:?}");
    }
}

#[test]
fn answers_that_do_not_open_the_connection() {
    use ResponseError::*;
    let good = String::from_utf8(answer(&head(&LINES), None, &[]).unwrap()).unwrap();
    let changed = |from: &str, to: &str| good.replace(from, to);
    let table = [
        (String::new(), Malformed),
        (changed("\r\n\r\n", "\r\n"), Malformed),
        (changed("\r\n\r\n", "\r\n\r\nx"), Malformed),
        (changed("HTTP/1.1", "HTTP/1.0"), Malformed),
        (changed("HTTP/1.1", "HTTP/2"), Malformed),
        (changed("\r\nUpgrade", "\nUpgrade"), Malformed),
        (changed("101", "200"), Status(200)),
        (changed("101", "426"), Status(426)),
        (changed("Upgrade: websocket", "Upgrade: h2c"), Upgrade),
        (changed("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: websocket"), Upgrade),
        (changed("Upgrade: websocket", "x: y"), Upgrade),
        (changed("Connection: Upgrade", "Connection: noupgrade"), Connection),
        (changed("s3pPLMB", "S3pPLMB"), Accept),
        (changed("Sec-WebSocket-Accept", "x"), Accept),
        (changed("\r\n\r\n", "\r\nSec-WebSocket-Accept: x\r\n\r\n"), Accept),
        (changed("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"), Protocol),
        (changed("\r\n\r\n", "\r\nSec-WebSocket-Protocol: \u{e9}\r\n\r\n"), Protocol),
        (changed("\r\n\r\n", "\r\nSec-WebSocket-Protocol: v2, v3\r\n\r\n"), Protocol),
        (
            changed(
                "\r\n\r\n",
                "\r\nSec-WebSocket-Protocol: v2\r\nSec-WebSocket-Protocol: v2\r\n\r\n",
            ),
            Protocol,
        ),
        (changed("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"), Extension),
    ];
    for (response, error) in table {
        assert_eq!(check_response(response.as_bytes(), NONCE, &["v2"]), Err(error), "{response}");
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(
        check_response(good.to_lowercase().replace("http", "HTTP").as_bytes(), NONCE, &[]),
        Err(Accept)
    );
    let nothing = changed("\r\n\r\n", "\r\nSec-WebSocket-Extensions: ,\r\n\r\n");
    assert_eq!(check_response(nothing.as_bytes(), NONCE, &[]), Ok(None));
    let lower = changed("Upgrade: websocket", "upgrade: WebSocket");
    assert_eq!(check_response(lower.as_bytes(), NONCE, &[]), Ok(None));
    assert_eq!(Status(503).to_string(), "status 503 instead of 101");
}
