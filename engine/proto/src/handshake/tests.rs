//! The opening handshake: the RFC's sample, both ends in memory, and each way to get it wrong.

use alloc::{format, string::String, string::ToString, vec, vec::Vec};

use super::*;
use crate::{HeadLimits, InvalidHeader, Request, RequestError};

mod client;

const KEY_LINE: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const NONCE: [u8; 16] = *b"the sample nonce";

/// The lines of a good request, each alone, so that tests can leave out or change one.
const LINES: [&str; 5] = [
    "Host: server.example.com\r\n",
    "Upgrade: websocket\r\n",
    "Connection: Upgrade\r\n",
    KEY_LINE,
    "Sec-WebSocket-Version: 13\r\n",
];

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 16_384, headers_max: 100, target_bytes_max: 8000 };

fn head(lines: &[&str]) -> Vec<u8> {
    format!("GET /chat HTTP/1.1\r\n{}\r\n", lines.concat()).into_bytes()
}

/// The good lines with the one that begins like `line` replaced by it.
fn with(line: &str) -> Vec<u8> {
    let name = line.split(':').next().unwrap();
    head(&LINES.map(|good| if good.starts_with(&format!("{name}:")) { line } else { good }))
}

/// Another request line and these lines.
fn of(line: &str, lines: &[&str]) -> Vec<u8> {
    format!("{line}\r\n{}\r\n", lines.concat()).into_bytes()
}

/// The good lines and more.
fn and(more: &str) -> Vec<u8> {
    [&head(&LINES)[..head(&LINES).len() - 2], more.as_bytes(), b"\r\n"].concat()
}

/// `Ok(true)` for an offer, `Ok(false)` for plain HTTP.
fn verdict(head: &[u8]) -> Result<bool, RequestError> {
    Request::parse(head, &LIMITS)?.upgrade().map(|offer| offer.is_some())
}

fn answer(
    request: &[u8],
    protocol: Option<&str>,
    headers: &[(&str, &str)],
) -> Result<Vec<u8>, AcceptError> {
    let request = Request::parse(request, &LIMITS).unwrap();
    let offer = request.upgrade().unwrap().unwrap();
    let mut out = vec![];
    accept_response(&mut out, &offer, protocol, headers).map(|()| out)
}

#[test]
fn the_sample_key_of_the_rfc_has_its_sample_answer() {
    // RFC 6455 §1.3
    let head = head(&LINES);
    let request = Request::parse(&head, &LIMITS).unwrap();
    let offer = request.upgrade().unwrap().unwrap();
    assert_eq!(&offer.accept(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(offer.protocols().count(), 0);
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(answer(&head, None, &[]).unwrap(), expected.as_bytes());
    assert_eq!(check_response(expected.as_bytes(), NONCE, &[]), Ok(None));
}

#[test]
fn lines_that_are_fine() {
    let table = [
        with("Upgrade: WebSocket\r\n"),
        with("Upgrade: h2c, websocket\r\n"),
        with("Upgrade: h2c\r\nUpgrade: websocket\r\n"),
        with("Connection: keep-alive, Upgrade\r\n"),
        with("Connection: keep-alive\r\nConnection: ,upgrade,\r\n"),
        with("Connection:\tUPGRADE \r\n"),
        // A nonce whose last character carries bits beyond the sixteenth byte.
        with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZf==\r\n"),
        and("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"),
        and("Origin: null\r\nCookie: \u{ff}\r\n"),
        and("Content-Length: 0\r\n"),
    ];
    for head in table {
        assert_eq!(verdict(&head), Ok(true), "{}", String::from_utf8_lossy(&head));
    }
}

#[test]
fn requests_that_are_plain_http() {
    let table = [
        head(&LINES[..1]),
        head(&[LINES[0], "Upgrade: h2c\r\n"]),
        head(&[LINES[0], "Sec-WebSocket-Protocol: chat\r\n"]),
        // OPTIONS asks what there is, whatever else it says.
        of("OPTIONS / HTTP/1.1", &LINES),
        of("OPTIONS * HTTP/1.0", &LINES),
        // In HTTP/1.0 Upgrade is ignored (RFC 9110 §7.8).
        of("GET / HTTP/1.0", &LINES[..3]),
        of("HEAD / HTTP/1.0", &[]),
    ];
    for head in table {
        assert_eq!(verdict(&head), Ok(false), "{}", String::from_utf8_lossy(&head));
    }
}

#[test]
fn requests_that_are_refused() {
    use RequestError::*;
    let method =
        |method: &str| String::from_utf8(head(&LINES)).unwrap().replace("GET", method).into_bytes();
    let missing = |at: usize| {
        let mut lines = LINES;
        lines[at] = "";
        head(&lines)
    };
    let table = [
        (method("HEAD"), UpgradeMethod),
        (method("POST"), UpgradeMethod),
        (method("PUT"), UpgradeMethod),
        (method("PATCH"), UpgradeMethod),
        (method("DELETE"), UpgradeMethod),
        (method("TRACE"), Method),
        (of("POST / HTTP/1.0", &LINES), UpgradeMethod),
        (of("POST / HTTP/1.1", &LINES[..3]), UpgradeMethod),
        (of("POST / HTTP/1.1", &[LINES[0], "Content-Length: 5\r\n", LINES[1]]), UpgradeMethod),
        (
            of("PUT / HTTP/1.1", &[LINES[0], "Transfer-Encoding: chunked\r\n", LINES[3]]),
            UpgradeMethod,
        ),
        // What is left of a handshake behind a proxy that was not told to pass it on.
        (with("Upgrade: xwebsocketx\r\n"), Upgrade),
        (with("Upgrade: websockets\r\n"), Upgrade),
        (with("Upgrade: web socket\r\n"), Upgrade),
        (with("Upgrade: h2c\r\n"), Upgrade),
        (with("Upgrade: ,\r\n"), Upgrade),
        (missing(1), Upgrade),
        (of("HEAD / HTTP/1.1", &[LINES[0], LINES[3]]), Upgrade),
        (of("GET / HTTP/1.1", &[LINES[0], "Connection: close\r\n", LINES[4]]), Upgrade),
        (of("GET / HTTP/1.0", &LINES), UpgradeVersion),
        (of("GET / HTTP/1.0", &[LINES[0], "Connection: close\r\n", LINES[3]]), UpgradeVersion),
        (of("GET / HTTP/1.0", &LINES[4..]), UpgradeVersion),
        (missing(0), Host),
        (missing(2), Connection),
        (missing(3), WebSocketKey),
        (missing(4), WebSocketVersion),
        (with("Connection: noupgrade\r\n"), Connection),
        (with("Connection: keep-alive\r\n"), Connection),
        (with("Connection: up, grade\r\n"), Connection),
        (with("Connection:\r\n"), Connection),
        (with("Sec-WebSocket-Version: 8\r\n"), WebSocketVersion),
        (with("Sec-WebSocket-Version: 0\r\n"), WebSocketVersion),
        (with("Sec-WebSocket-Version: 14\r\n"), WebSocketVersion),
        (with("Sec-WebSocket-Version: 013\r\n"), WebSocketVersion),
        (with("Sec-WebSocket-Version: 13, 8\r\n"), WebSocketVersion),
        (with("Sec-WebSocket-Version:\r\n"), WebSocketVersion),
        (and("Sec-WebSocket-Version: 13\r\n"), WebSocketVersion),
        (with("Sec-WebSocket-Key:\r\n"), WebSocketKey),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n"), WebSocketKey),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n"), WebSocketKey),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU=\r\n"), WebSocketKey),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWVl\r\n"), WebSocketKey),
        (with("Sec-WebSocket-Key: dGhl!HNhbXBsZSBub25jZQ==\r\n"), WebSocketKey),
        (with("Sec-WebSocket-Key: dGhl-HNhbXBsZSBub25j_Q==\r\n"), WebSocketKey),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25===Q=\r\n"), WebSocketKey),
        (with("Sec-WebSocket-Key: \u{e9}GhlIHNhbXBsZSBub25jZQ=\r\n"), WebSocketKey),
        (and(KEY_LINE), WebSocketKey),
        (and("Content-Length: 5\r\n"), Body),
        (and("Transfer-Encoding: chunked\r\n"), Body),
        (and("Content-Length: 5\r\nExpect: 100-continue\r\n"), Body),
        (and("Expect: 101\r\n"), Expectation),
    ];
    for (head, error) in table {
        assert_eq!(verdict(&head), Err(error), "{}", String::from_utf8_lossy(&head));
    }
    assert_eq!(WebSocketVersion.status(), 426);
}

/// The server's order counts, not the client's, and the letters are compared with case.
#[test]
fn the_first_supported_subprotocol_that_is_offered_is_chosen() {
    let table: [(&str, &[&str], Option<&str>); 8] = [
        ("v1, v2", &["v2", "v1"], Some("v2")),
        ("v2, v1", &["v1", "v2"], Some("v1")),
        ("v1\r\nSec-WebSocket-Protocol: v2", &["v3", "v2"], Some("v2")),
        ("v1", &["V1", "v"], None),
        ("v1", &[], None),
        ("v1", &["v1, v2", ""], None),
        (",", &["v1"], None),
        ("chat", &["chat", "chat"], Some("chat")),
    ];
    for (offered, supported, chosen) in table {
        let head = and(&format!("Sec-WebSocket-Protocol: {offered}\r\n"));
        let request = Request::parse(&head, &LIMITS).unwrap();
        let offer = request.upgrade().unwrap().unwrap();
        assert_eq!(offer.choose_protocol(supported), chosen, "{offered}");
    }
    let head = head(&LINES);
    let offer = Request::parse(&head, &LIMITS).unwrap().upgrade().unwrap().unwrap();
    assert_eq!(offer.choose_protocol(&["v1"]), None);
}

#[test]
fn subprotocols_are_tokens_in_order_without_duplicates() {
    let head = and("Sec-WebSocket-Protocol: chat, v2\r\nSec-WebSocket-Protocol: Chat\r\n");
    let request = Request::parse(&head, &LIMITS).unwrap();
    let offer = request.upgrade().unwrap().unwrap();
    assert_eq!(offer.protocols().collect::<Vec<_>>(), ["chat", "v2", "Chat"]);
    assert!(offer.offers_protocol("v2") && !offer.offers_protocol("V2"));
    let table: [(&str, &[&str]); 7] = [
        ("", &[]),
        (",", &[]),
        (" , ,", &[]),
        ("chat,", &["chat"]),
        (",chat", &["chat"]),
        ("chat, ,v2", &["chat", "v2"]),
        ("chat\r\nSec-WebSocket-Protocol:", &["chat"]),
    ];
    for (value, protocols) in table {
        let head = and(&format!("Sec-WebSocket-Protocol: {value}\r\n"));
        let request = Request::parse(&head, &LIMITS).unwrap();
        let offer = request.upgrade().unwrap().unwrap();
        assert_eq!(offer.protocols().collect::<Vec<_>>(), protocols, "{value:?}");
        assert!(!offer.offers_protocol(""));
        assert_eq!(answer(&head, Some(""), &[]), Err(AcceptError::NotOffered));
    }
    let bad = [
        "a b",
        "a/b",
        "\"chat\"",
        "\u{e9}",
        "chat, chat",
        "chat\r\nSec-WebSocket-Protocol: chat",
        "chat,,chat",
        "a;b",
        "a\u{80}",
    ];
    for value in bad {
        let head = and(&format!("Sec-WebSocket-Protocol: {value}\r\n"));
        assert_eq!(verdict(&head), Err(RequestError::WebSocketProtocol), "{value:?}");
    }
}

#[test]
fn a_request_may_offer_a_few_subprotocols_but_not_thousands() {
    let offer = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("p{n}")).collect();
        verdict(&and(&format!("Sec-WebSocket-Protocol: {}\r\n", names.join(","))))
    };
    assert_eq!(offer(PROTOCOLS_MAX), Ok(true));
    assert_eq!(offer(PROTOCOLS_MAX + 1), Err(RequestError::WebSocketProtocol));
    assert_eq!(offer(1500), Err(RequestError::WebSocketProtocol));
}

#[test]
fn extensions_are_ignored_whatever_they_look_like() {
    // ws CVE-2021-32640, websocket-extensions CVE-2020-7662: parsers that took forever.
    for piece in [";", " ", "\"", ",", "=", "a;", "\\", "\u{80}", "\u{ff}", "permessage-deflate;"] {
        let value = piece.repeat(8000 / piece.len());
        let head = and(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
        let answer = String::from_utf8(answer(&head, None, &[]).unwrap()).unwrap();
        assert!(!answer.contains("Extensions"));
    }
}

#[test]
fn invalid_parameters_of_extensions_are_nothing_to_us() {
    // undici CVE-2026-2229: a window size out of range was not caught.
    for bits in ["7", "16", "", "08", "1e9", "\"10\"", "8; server_max_window_bits=9"] {
        let value = format!("permessage-deflate; server_max_window_bits={bits}");
        let head = and(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
        assert_eq!(verdict(&head), Ok(true), "{value}");
    }
}

#[test]
fn long_lists_of_nothing_offer_nothing() {
    // ws CVE-2021-32640 and ESP-IDF CVE-2026-45541.
    for piece in [",", ", ", ",\t ,"] {
        let value = piece.repeat(8000 / piece.len());
        let head = and(&format!("Sec-WebSocket-Protocol: {value}\r\n"));
        assert_eq!(verdict(&head), Ok(true), "{piece:?}");
        let head = with(&format!("Connection: {value}upgrade\r\n"));
        assert_eq!(verdict(&head), Ok(true), "{piece:?}");
    }
    for piece in [";", "\"", "=", "a,", "a,,,"] {
        let value = piece.repeat(8000 / piece.len());
        let head = and(&format!("Sec-WebSocket-Protocol: {value}\r\n"));
        assert_eq!(verdict(&head), Err(RequestError::WebSocketProtocol), "{piece:?}");
    }
}

#[test]
fn high_bytes_in_any_header_are_survived() {
    // Granian: a byte above 0x7f in Sec-WebSocket-Protocol aborted the worker.
    let names = ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"];
    let more = ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Origin", "Cookie"];
    for byte in 0x80..=0xff {
        for name in names.iter().chain(&more) {
            let line = [name.as_bytes(), b": ", &[byte, b',', byte], b"\r\n\r\n"].concat();
            let mut head = head(&LINES);
            head.truncate(head.len() - 2);
            head.extend(line);
            let verdict = verdict(&head);
            let ignored = ["Upgrade", "Connection", "Sec-WebSocket-Extensions", "Cookie"];
            assert_eq!(verdict == Ok(true), ignored.contains(name), "{name}: {verdict:?}");
        }
    }
}

#[test]
fn the_server_answers_only_what_was_offered() {
    let head = and("Sec-WebSocket-Protocol: chat, v2\r\n");
    let accepted = answer(&head, Some("v2"), &[("Set-Cookie", "a=b")]).unwrap();
    let text = String::from_utf8(accepted.clone()).unwrap();
    assert!(text.contains("\r\nSec-WebSocket-Protocol: v2\r\nSet-Cookie: a=b\r\n\r\n"));
    assert_eq!(check_response(&accepted, NONCE, &["chat", "v2"]), Ok(Some("v2")));
    assert_eq!(check_response(&accepted, NONCE, &["chat"]), Err(ResponseError::Protocol));
    for protocol in ["V2", "v3", "chat, v2", ""] {
        assert_eq!(answer(&head, Some(protocol), &[]), Err(AcceptError::NotOffered));
    }
}

#[test]
fn headers_of_the_handshake_and_line_breaks_are_refused() {
    let plain = head(&LINES);
    let bad = [
        ("Upgrade", "h2c"),
        ("connection", "close"),
        ("Sec-WebSocket-Accept", "x"),
        ("Sec-WebSocket-Protocol", "x"),
        ("Sec-WebSocket-Extensions", "x"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("a b", "c"),
        ("a", "b\r\nc: d"),
        ("a", "\n"),
        ("a", "\0"),
        ("", ""),
    ];
    for header in bad {
        let refused = answer(&plain, None, &[("ok", "ok"), header]);
        assert_eq!(refused, Err(AcceptError::InvalidHeader(InvalidHeader)), "{header:?}");
        let mut out = vec![];
        let refused = client_request(&mut out, "a", "/", NONCE, &[], &[header]);
        assert_eq!((refused, out.len()), (Err(InvalidHeader), 0));
    }
    let mut out = vec![];
    let injected = append_accept(&mut out, &[b'x'; ACCEPT_BYTES], Some("a\r\nb: c"), &[]);
    assert_eq!((injected, out.len()), (Err(InvalidHeader), 0));
    assert_eq!(AcceptError::NotOffered.to_string(), "subprotocol not offered by the client");
    let error = AcceptError::from(InvalidHeader);
    assert_eq!(error.to_string(), InvalidHeader.to_string());
}

#[test]
fn frames_right_behind_the_request_are_left_alone() {
    let head = head(&LINES);
    let stream = [&head[..], b"\x81\x80\0\0\0\0"].concat();
    let mut scan = crate::HeadScan::new();
    assert_eq!(scan.scan(&stream, &LIMITS), Ok(Some(head.len())));
    // engine.io CVE-2022-21676: a bad frame in the same read as the request.
    let stream = [&head[..], b"\xff\xff"].concat();
    assert_eq!(crate::HeadScan::new().scan(&stream, &LIMITS), Ok(Some(head.len())));
    let mut frames = stream[head.len()..].to_vec();
    let limits = crate::IncomingLimits::default();
    let mut incoming = crate::Incoming::new(crate::Role::Server);
    let event = incoming.receive(&mut frames, &limits).next().map(|event| event.err());
    assert_eq!(event, Some(Some(crate::ProtocolError::ReservedBits)));
}
