//! Opening handshakes that are right, if unusual, and what the application makes of them:
//! whom it accepts, which subprotocol and headers it answers with. What is refused by itself
//! is in `handshake_attacks.rs`, whose pages may connect in `origins.rs`.

mod harness;

use std::time::Duration;

use harness::recorder::{Acts, Call, recorded};
use harness::requests::{CONNECTION, HOST, UPGRADE, VERSION, first_line, plus, with};
use harness::{Echo, RawClient, ServerFrame, TestServer, assert_is_date, frame, handshake, header};
use harness::{ping, text};
use ringwire::{Config, Offer, Request, Response, Upgrade};

/// A name to find the row by, and what is sent.
type Accepted = (&'static str, Vec<u8>);

#[test]
fn unusual_but_right_requests_are_accepted() {
    let extensions = |list: &str| plus(format!("Sec-WebSocket-Extensions: {list}\r\n"));
    let headers: String = (0..95).map(|i| format!("X-{i}: 1\r\n")).collect();
    let accepted: Vec<Accepted> = vec![
        ("plain", handshake()),
        ("keep-alive, Upgrade", with(CONNECTION, &["Connection: keep-alive, Upgrade"])),
        ("no space in the list", with(CONNECTION, &["Connection: keep-alive,upgrade"])),
        ("in two lines", with(CONNECTION, &["Connection: keep-alive", "Connection: UPGRADE"])),
        ("upgrade in capitals", with(UPGRADE, &["upgrade: WebSocket"])),
        ("a list of upgrades", with(UPGRADE, &["Upgrade: h2c, websocket"])),
        ("names in capitals", with(HOST, &["HOST:localhost"])),
        ("spaces around a value", with(VERSION, &["Sec-WebSocket-Version: \t 13 \t"])),
        ("host with a port", with(HOST, &["Host: localhost:9001"])),
        ("host in IPv6", with(HOST, &["Host: [::1]:9001"])),
        ("absolute target", first_line("GET http://localhost/chat?a=b HTTP/1.1")),
        ("odd path", first_line("GET //a/../%00? HTTP/1.1")),
        ("a length of 0", plus("Content-Length: 0\r\n")),
        ("bytes above 0x7f in a value", plus(b"X-A: \x80\xff\r\n")),
        ("an empty value", plus("X-A:\r\n")),
        ("100 headers", plus(headers)),
        ("16 KiB of head", plus(format!("X: {}\r\n", "a".repeat(16_383 - handshake().len() - 5)))),
        ("a Cookie and an Authorization", {
            let (cookie, token) = ("c".repeat(5_900), "t".repeat(5_800));
            plus(format!("Cookie: {cookie}\r\nAuthorization: Bearer {token}\r\n"))
        }),
        ("a field of 8 KiB", plus(format!("Cookie: {}\r\n", "c".repeat(8_192 - 8)))),
        ("a target of 8 KiB", first_line(&format!("GET /{} HTTP/1.1", "a".repeat(8_191)))),
        ("empty elements", plus("Sec-WebSocket-Protocol: , ,chat,, superchat,\r\n")),
        ("an empty list", plus("Sec-WebSocket-Protocol: \r\n")),
        ("a list of commas", plus(format!("Sec-WebSocket-Protocol: {}\r\n", ",".repeat(7_000)))),
        (
            "empty elements in Connection",
            with(CONNECTION, &["Connection: ,, keep-alive,,Upgrade,"]),
        ),
        ("empty elements in Upgrade", with(UPGRADE, &["Upgrade: ,websocket,,"])),
        ("only commas in Extensions", extensions(",,")),
        ("target without a path", first_line("GET http://localhost HTTP/1.1")),
        ("target without a path, with a query", first_line("GET ws://localhost?a=b HTTP/1.1")),
        ("target in TLS, in capitals", first_line("GET WSS://LOCALHOST:9001/ HTTP/1.1")),
        ("host in IPv6 in the target", first_line("GET http://[::1]:9001/ HTTP/1.1")),
        ("host percent-encoded", with(HOST, &["Host: %6cocalhost"])),
        ("own origin", plus("Origin: http://localhost\r\n")),
        ("own origin behind TLS", plus("Origin: https://localhost\r\n")),
        ("unknown extension", extensions("x-unheard-of; a=b")),
        ("permessage-deflate", extensions("permessage-deflate")),
        ("with bits", extensions("permessage-deflate; client_max_window_bits")),
        ("several offers", extensions("permessage-deflate; server_max_window_bits=10, foo")),
        ("7 bits", extensions("permessage-deflate; server_max_window_bits=7")),
        ("16 bits", extensions("permessage-deflate; client_max_window_bits=16")),
        ("08 bits", extensions("permessage-deflate; server_max_window_bits=08")),
        ("quoted bits", extensions("permessage-deflate; server_max_window_bits=\"10\"")),
        ("empty bits", extensions("permessage-deflate; server_max_window_bits=")),
        ("parameter twice", extensions("permessage-deflate; a; a")),
        ("unknown parameter", extensions("permessage-deflate; level=9")),
        ("semicolons only", extensions(&"; ".repeat(3_000))),
        ("quotes only", extensions(&"\"".repeat(7_000))),
        ("no list at all", extensions("")),
    ];
    let server = TestServer::start(1, Config::new(), |_| Echo);
    for (name, request) in accepted {
        println!("accepted: {name}");
        let mut client = server.connect();
        client.send(&request);
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        // The sample of RFC 6455 §1.3.
        assert_eq!(header(&head, "Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(header(&head, UPGRADE), Some("websocket"));
        assert_eq!(header(&head, CONNECTION), Some("Upgrade"));
        // Nothing is agreed to that was not asked of us, nor anything we cannot do.
        assert_eq!(header(&head, "Sec-WebSocket-Extensions"), None);
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), None);
        assert_echoes(&mut client);
        // Compression was not agreed to (RFC 7692 §6, RFC 6455 §5.2).
        client.send(&frame(0xC1, b"compressed"));
        client.expect_close(1002);
    }
}

fn assert_echoes(client: &mut RawClient) {
    client.send(&text("echo"));
    assert_eq!(client.read_frame(), ServerFrame::text("echo"));
}

/// Frames that come with the request are taken after the 101, in order, wherever the bytes
/// are cut.
#[test]
fn frames_right_behind_the_request_cut_at_every_byte() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    let bytes = [handshake(), text("one"), ping(b"two"), frame(0x01, b"th"), frame(0x80, b"ree")];
    let bytes = bytes.concat();
    for cut in 0..=bytes.len() {
        let mut client = server.connect();
        client.send(&bytes[..cut]);
        // Without a pause both parts would often arrive as one.
        std::thread::sleep(Duration::from_millis(1));
        client.send(&bytes[cut..]);
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "cut at {cut}: {head}");
        assert_eq!(client.read_frame(), ServerFrame::text("one"), "cut at {cut}");
        assert_eq!(client.read_frame().first, 0x8A, "cut at {cut}");
        assert_eq!(client.read_frame(), ServerFrame::text("three"), "cut at {cut}");
    }
}

/// Credentials are for the application to judge; it sees what was sent.
#[test]
fn an_application_refuses_as_it_likes() {
    let nobody = |_: &Request<'_>, _: &Offer<'_>| {
        let response = Response::new(401).header("WWW-Authenticate", "Basic").unwrap();
        Upgrade::refuse(response.body("text/plain", b"who are you?".as_slice()))
    };
    let acts = Acts { upgrade: nobody, ..Acts::default() };
    let (server, calls) = recorded(Config::new(), acts);
    // The origin of one who is refused anyway is of no interest.
    for request in [handshake(), plus("Origin: https://a.example\r\n")] {
        let mut client = server.connect();
        client.send(&[request, text("smuggled")].concat());
        let response = client.read_last_response();
        assert_eq!((response.status, &response.body[..]), (401, &b"who are you?"[..]));
        assert_eq!(response.header("WWW-Authenticate"), Some("Basic"));
        assert_is_date(&response);
    }
    let metrics = server.handle().metrics();
    assert_eq!((metrics.handshakes_accepted, metrics.handshakes_refused), (0, 2));
    assert_eq!(calls.rest(server), []);
}

#[test]
fn a_subprotocol_is_one_of_those_offered_or_none() {
    let chat = |_: &Request<'_>, offer: &Offer<'_>| {
        let upgrade = Upgrade::accept(());
        if offer.offers_protocol("chat") { upgrade.protocol("chat") } else { upgrade }
    };
    let acts = Acts { upgrade: chat, ..Acts::default() };
    let (server, _calls) = recorded(Config::new(), acts);
    let offers = [
        ("Sec-WebSocket-Protocol: chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: superchat, chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: a\r\nsec-websocket-protocol: chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: Chat\r\n", None),
        ("Sec-WebSocket-Protocol: chatter, cha, t\r\n", None),
        ("Sec-WebSocket-Protocol: , ,chat,\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol:\r\nSec-WebSocket-Protocol: chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: ,\r\n", None),
        ("", None),
    ];
    for (offer, chosen) in offers {
        let mut client = server.connect();
        client.send(&plus(offer));
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{offer}{head}");
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), chosen, "{offer}");
        assert_echoes(&mut client);
    }
}

/// What would break the head open, or contradict it, is never emitted: 500 instead.
#[test]
fn headers_of_the_application_cannot_split_the_response() {
    let as_asked = |request: &Request<'_>, _: &Offer<'_>| {
        let upgrade = Upgrade::accept(());
        match request.path() {
            "/crlf" => upgrade.header("X-User", "a\r\nSet-Cookie: injected"),
            "/lf" => upgrade.header("X-User", "a\nSet-Cookie: injected"),
            "/cr" => upgrade.header("X-User", "a\rSet-Cookie: injected"),
            "/nul" => upgrade.header("X-User", "injected\0"),
            "/name" => upgrade.header("X-User: a\r\nSet-Cookie", "injected"),
            "/empty-name" => upgrade.header("", "injected"),
            "/colon" => upgrade.header("X:", "injected"),
            "/own" => upgrade.header("sec-websocket-accept", "injected"),
            "/extensions" => upgrade.header("Sec-WebSocket-Extensions", "injected"),
            "/protocol" => upgrade.protocol("a\r\nSet-Cookie: injected"),
            "/not-offered" => upgrade.protocol("injected"),
            _ => upgrade.header("Set-Cookie", "fine"),
        }
    };
    let acts = Acts { upgrade: as_asked, ..Acts::default() };
    let (server, calls) = recorded(Config::new(), acts);
    let refused = [
        "/crlf",
        "/lf",
        "/cr",
        "/nul",
        "/name",
        "/empty-name",
        "/colon",
        "/own",
        "/extensions",
        "/protocol",
        "/not-offered",
    ];
    for path in refused {
        let mut client = server.connect();
        client.send(&first_line(&format!("GET {path} HTTP/1.1")));
        let response = client.read_last_response();
        assert_eq!(response.status, 500, "{path}");
        assert!(!response.head.contains("injected"), "{path}: {}", response.head);
    }
    let mut client = server.connect();
    client.send(&handshake());
    assert_eq!(header(&client.read_head(), "Set-Cookie"), Some("fine"));
    drop(client);
    assert_eq!(calls.rest(server).len(), 2, "one open and one close");
    for (name, value) in [("X", "a\r\nb"), ("X", "a\n"), ("X\r\n", "a"), ("Content-Length", "1")] {
        assert!(Response::new(200).header(name, value).is_err(), "{name:?}: {value:?}");
    }
}

/// RFC 9112 §9.6: a client that ends its side may still read (`printf … | nc -N` does). The 101
/// and the replies come, then FIN; without a Close frame it is 1006 to the handler.
#[test]
fn half_a_close_right_behind_an_upgrade() {
    let greet = |conn: &mut ringwire::Conn<'_, harness::recorder::Recorder>| {
        conn.subscribe("all").unwrap();
        conn.send("welcome");
    };
    let echo = |conn: &mut ringwire::Conn<'_, harness::recorder::Recorder>,
                message: ringwire::Message<'_>| {
        conn.send(message);
        conn.publish_all("all", "published");
    };
    let acts = Acts { open: greet, message: echo, ..Acts::default() };
    let (server, calls) = recorded(Config::new(), acts);
    let large = "x".repeat(900_000);
    for payload in [None, Some("hello"), Some(&large[..])] {
        let mut client = server.connect();
        let frame = payload.map_or(Vec::new(), text);
        client.send(&[handshake(), ping(b"p"), frame].concat());
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.read_head().starts_with("HTTP/1.1 101 "));
        assert_eq!(client.read_frame(), ServerFrame::text("welcome"));
        assert_eq!(client.read_frame().first, 0x8A);
        assert_eq!(calls.next(), Call::Open);
        if let Some(payload) = payload {
            assert_eq!(client.read_frame(), ServerFrame::text(payload));
            assert_eq!(client.read_frame(), ServerFrame::text("published"));
            assert_eq!(calls.next(), Call::Message(payload.into()));
        }
        assert_eq!(client.read_to_end(), b"");
        assert_eq!(calls.next_close(), (1006, String::new()));
        server.wait_until_empty();
    }
}

#[test]
fn a_second_request_behind_an_accepted_one() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    // Two handshakes: the second is read as a frame, and is none ('G' has RSV1 set).
    let mut client = server.connect();
    client.send(&[handshake(), handshake()].concat());
    assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    client.expect_close(1002);
    server.assert_serves();
}
