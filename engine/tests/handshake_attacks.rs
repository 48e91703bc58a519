//! Opening handshakes that are wrong, hostile or merely unusual, and what each is answered.
//! A new attack is one line of a table. What comes after the 101 is never at fault here.

mod harness;

use std::iter::{once, repeat_n};
use std::time::Duration;

use harness::recorder::{Acts, recorded};
use harness::{RawClient, ServerFrame, TestServer, frame, handshake, header, ping, text};
use ringwire::{Config, Conn, Handler, Message, Offer, Request, Response, Upgrade};

/// A name to find the row by, what is sent, and the status it is answered with.
type Attack = (&'static str, Vec<u8>, u16);

/// Echoes, and leaves everything else as it is by default.
struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

const HOST: &str = "Host";
const UPGRADE: &str = "Upgrade";
const CONNECTION: &str = "Connection";
const VERSION: &str = "Sec-WebSocket-Version";
const KEY: &str = "Sec-WebSocket-Key";

/// The opening handshake with `lines` in the place of the header `name`.
fn with(name: &str, lines: &[&str]) -> Vec<u8> {
    let head = String::from_utf8(handshake()).unwrap();
    let prefix = format!("{name}: ");
    let mut request = String::new();
    for line in head.trim_end().split("\r\n") {
        if line.starts_with(&prefix) {
            lines.iter().for_each(|line| request.push_str(&format!("{line}\r\n")));
        } else {
            request.push_str(&format!("{line}\r\n"));
        }
    }
    request.push_str("\r\n");
    request.into_bytes()
}

fn without(name: &str) -> Vec<u8> {
    with(name, &[])
}

/// The opening handshake with more bytes before its empty line: none to many lines, each
/// with its CRLF.
fn plus(lines: impl AsRef<[u8]>) -> Vec<u8> {
    let mut head = handshake();
    head.truncate(head.len() - 2);
    [&head, lines.as_ref(), b"\r\n"].concat()
}

/// The opening handshake with another first line.
fn first_line(line: &str) -> Vec<u8> {
    let head = handshake();
    let end = head.windows(2).position(|two| two == b"\r\n").unwrap();
    [line.as_bytes(), &head[end..]].concat()
}

/// Sends each attack with more behind it in the same segment: a frame, and a handshake
/// nothing is wrong with. There must be one response, then FIN, and nothing of what is
/// behind it may be answered, as HTTP or as frames (RFC 9112 §9.3, request smuggling).
fn expect_refusals(attacks: &[Attack]) {
    let Some(server) = TestServer::start(1, Config::default(), |_| Echo) else { return };
    for (name, request, status) in attacks {
        println!("attack: {name}");
        let mut client = server.connect();
        client.send(&[&request[..], &text("smuggled"), &handshake(), &ping(b"smuggled")].concat());
        let response = client.read_last_response();
        assert_eq!(response.status, *status, "{response:?}");
        assert_eq!(response.header("Connection"), Some("close"));
        let length = response.header("Content-Length").expect("a body has a length");
        assert_eq!(length, response.body.len().to_string(), "{response:?}");
        match status {
            405 => assert_eq!(response.header("Allow"), Some("GET, HEAD")),
            426 => assert_eq!(response.header(UPGRADE), Some("websocket")),
            _ => {}
        }
        server.assert_serves();
    }
    let metrics = server.handle().metrics();
    assert_eq!(metrics.messages_received, attacks.len() as u64, "only those of assert_serves");
    assert_eq!(metrics.violations, 0, "no frames, no broken ones");
    server.wait_until_empty();
}

#[test]
fn request_lines() {
    expect_refusals(&[
        ("POST", first_line("POST / HTTP/1.1"), 405),
        ("PUT", first_line("PUT / HTTP/1.1"), 405),
        ("CONNECT", first_line("CONNECT localhost:80 HTTP/1.1"), 405),
        ("OPTIONS *", first_line("OPTIONS * HTTP/1.1"), 405),
        ("TRACE", first_line("TRACE / HTTP/1.1"), 405),
        ("HEAD cannot upgrade", first_line("HEAD / HTTP/1.1"), 405),
        ("methods have a case", first_line("get / HTTP/1.1"), 405),
        ("an invented method", first_line("GETS / HTTP/1.1"), 405),
        ("HTTP/1.0", first_line("GET / HTTP/1.0"), 400),
        ("HTTP/0.9", first_line("GET /"), 400),
        ("HTTP/2.0", first_line("GET / HTTP/2.0"), 400),
        ("HTTP/1.2", first_line("GET / HTTP/1.2"), 400),
        ("version without number", first_line("GET / HTTP"), 400),
        ("version in small letters", first_line("GET / http/1.1"), 400),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400),
        ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        ("a frame without handshake", [&text("hello")[..], b"\r\n\r\n"].concat(), 400),
        ("no target", first_line("GET HTTP/1.1"), 400),
        ("target without slash", first_line("GET chat HTTP/1.1"), 400),
        ("asterisk", first_line("GET * HTTP/1.1"), 400),
        ("fragment in the target", first_line("GET /#top HTTP/1.1"), 400),
        ("target not in ASCII", first_line("GET /caf\u{e9} HTTP/1.1"), 400),
        ("two spaces", first_line("GET  / HTTP/1.1"), 400),
        ("tab for a space", first_line("GET\t/ HTTP/1.1"), 400),
        ("space behind the version", first_line("GET / HTTP/1.1 "), 400),
        ("space in front", first_line(" GET / HTTP/1.1"), 400),
        ("empty line in front", first_line("\r\nGET / HTTP/1.1"), 400),
    ]);
}

#[test]
fn upgrade_and_connection_are_lists_of_tokens() {
    expect_refusals(&[
        ("no Upgrade", without(UPGRADE), 426),
        ("empty Upgrade", with(UPGRADE, &["Upgrade: "]), 426),
        ("a longer token", with(UPGRADE, &["Upgrade: xwebsocketx"]), 426),
        ("a token with a version", with(UPGRADE, &["Upgrade: websocket/13"]), 426),
        ("h2c", with(UPGRADE, &["Upgrade: h2c"]), 426),
        ("Upgrade not in ASCII", with(UPGRADE, &["Upgrade: websocket\u{ff}"]), 426),
        ("Connection not in ASCII", with(CONNECTION, &["Connection: \u{ff}upgrade"]), 400),
        ("two words, no comma", with(UPGRADE, &["Upgrade: web socket"]), 426),
        ("no Connection", without(CONNECTION), 400),
        ("empty Connection", with(CONNECTION, &["Connection: "]), 400),
        ("Connection: close", with(CONNECTION, &["Connection: close"]), 400),
        ("Connection: noupgrade", with(CONNECTION, &["Connection: noupgrade"]), 400),
        ("Connection: upgrade-insecure", with(CONNECTION, &["Connection: upgrade-x"]), 400),
        ("no comma", with(CONNECTION, &["Connection: keep-alive Upgrade"]), 400),
    ]);
}

#[test]
fn versions_and_keys() {
    let versions =
        ["8", "0", "14", "7", "013", "13.0", "+13", "13, 8", "8, 13", "thirteen", "1\u{ff}", ""];
    let versions = versions.map(|version| {
        ("version", with(VERSION, &[&format!("Sec-WebSocket-Version: {version}")]), 426)
    });
    let keys = [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZQ==x",
        // 15 and 17 bytes.
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZWU=",
        // 24 characters, but 18 bytes; or no base64.
        "dGhlIHNhbXBsZSBub25jZQAB",
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhlIHNhbXBsZSBub25j!Q==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25j_w==",
        "dGhlIHNhbXBsZSBub25j\u{e9}==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let keys = keys.map(|key| ("key", with(KEY, &[&format!("Sec-WebSocket-Key: {key}")]), 400));
    let missing_or_repeated = [
        ("no version", without(VERSION), 426),
        ("version repeated", plus("Sec-WebSocket-Version: 13\r\n"), 426),
        ("another version as well", plus("Sec-WebSocket-Version: 8\r\n"), 426),
        ("no key", without(KEY), 400),
        ("key repeated", plus("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
    ];
    expect_refusals(&[&versions[..], &keys, &missing_or_repeated].concat());
}

/// RFC 6455 §4.4: a client of another version learns which one to speak.
#[test]
fn a_wrong_version_is_told_the_right_one() {
    let Some(server) = TestServer::start(1, Config::default(), |_| Echo) else { return };
    let mut client = server.connect();
    client.send(&with(VERSION, &["Sec-WebSocket-Version: 8"]));
    assert_eq!(client.read_last_response().header(VERSION), Some("13"));
}

#[test]
fn hosts_and_origins() {
    expect_refusals(&[
        ("no Host", without(HOST), 400),
        ("empty Host", with(HOST, &["Host: "]), 400),
        ("Host repeated", plus("Host: localhost\r\n"), 400),
        ("another Host as well", plus("host: evil.example\r\n"), 400),
        ("Host is a list", with(HOST, &["Host: a.example, b.example"]), 400),
        ("Host with a path", with(HOST, &["Host: a.example/path"]), 400),
        ("Host with a user", with(HOST, &["Host: user@a.example"]), 400),
        ("Host with a space", with(HOST, &["Host: a example"]), 400),
        ("Host not in ASCII", with(HOST, &["Host: caf\u{e9}.example"]), 400),
        ("Origin repeated", plus("Origin: http://a\r\nOrigin: http://b\r\n"), 400),
        ("empty Origin", plus("Origin: \r\n"), 400),
        ("Origin not in ASCII", plus("Origin: http://caf\u{e9}.example\r\n"), 400),
        ("Origin with a space", plus("Origin: http://a.example http://b.example\r\n"), 400),
    ]);
}

#[test]
fn lines_that_two_readers_could_read_differently() {
    let bare_lf: String = String::from_utf8(handshake()).unwrap().replace("\r\n", "\n");
    expect_refusals(&[
        ("space before the colon", plus("X-A : 1\r\n"), 400),
        ("tab before the colon", plus("X-A\t: 1\r\n"), 400),
        ("space in a name", plus("X A: 1\r\n"), 400),
        ("no colon", plus("X-A\r\n"), 400),
        ("empty name", plus(": 1\r\n"), 400),
        ("slash in a name", plus("X/A: 1\r\n"), 400),
        ("name not in ASCII", plus("X-\u{e9}: 1\r\n"), 400),
        ("NUL in a name", plus("X-\0: 1\r\n"), 400),
        ("folded line", plus("X-A: 1\r\n 2\r\n"), 400),
        ("folded line with a tab", plus("X-A: 1\r\n\t2\r\n"), 400),
        ("folded first header", first_line("GET / HTTP/1.1\r\n X-A: 1"), 400),
        ("bare LF in a value", plus("X-A: 1\nX-B: 2\r\n"), 400),
        ("bare CR in a value", plus("X-A: 1\rX-B: 2\r\n"), 400),
        ("CR CR LF", plus("X-A: 1\r\r\n"), 400),
        ("NUL in a value", plus("X-A: 1\x002\r\n"), 400),
        ("escape in a value", plus("X-A: \x1b[2J\r\n"), 400),
        ("delete in a value", plus("X-A: \x7f\r\n"), 400),
        ("bare LF everywhere", bare_lf.into_bytes(), 400),
        ("bare LF ends the head", [&plus("")[..handshake().len() - 2], b"\n"].concat(), 400),
    ]);
}

#[test]
fn bodies_and_their_lengths() {
    expect_refusals(&[
        ("a body", plus("Content-Length: 5\r\n"), 400),
        ("a chunked body", plus("Transfer-Encoding: chunked\r\n"), 400),
        ("both", plus("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("both, length 0", plus("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("not exactly chunked", plus("Transfer-Encoding: xchunked\r\n"), 400),
        ("chunked twice", plus("Transfer-Encoding: chunked, chunked\r\n"), 400),
        ("gzip, chunked", plus("Transfer-Encoding: gzip, chunked\r\n"), 400),
        ("identity", plus("Transfer-Encoding: identity\r\n"), 400),
        ("empty encoding", plus("Transfer-Encoding: \r\n"), 400),
        ("lengths differ", plus("Content-Length: 0\r\nContent-Length: 5\r\n"), 400),
        ("length twice", plus("Content-Length: 0\r\nContent-Length: 0\r\n"), 400),
        ("length is a list", plus("Content-Length: 0, 0\r\n"), 400),
        ("empty length", plus("Content-Length: \r\n"), 400),
        ("+1", plus("Content-Length: +1\r\n"), 400),
        ("+0", plus("Content-Length: +0\r\n"), 400),
        ("-1", plus("Content-Length: -1\r\n"), 400),
        ("1e1", plus("Content-Length: 1e1\r\n"), 400),
        ("0x0", plus("Content-Length: 0x0\r\n"), 400),
        ("2^64", plus("Content-Length: 18446744073709551616\r\n"), 400),
    ]);
}

#[test]
fn sizes() {
    let long = |bytes: usize| "a".repeat(bytes);
    let headers = |count: usize| (0..count).map(|i| format!("X-{i}: 1\r\n")).collect::<String>();
    expect_refusals(&[
        ("a target over its limit", first_line(&format!("GET /{} HTTP/1.1", long(4_096))), 414),
        ("a first line over 8 KiB", first_line(&format!("GET /{} HTTP/1.1", long(9_000))), 414),
        ("a first line without end", [b'a'].repeat(100_000), 414),
        ("one value of 8 KiB", plus(format!("Cookie: {}\r\n", long(8_192))), 431),
        ("one name of 8 KiB", plus(format!("{}: 1\r\n", long(8_192))), 431),
        ("a head without end", plus(format!("Cookie: {}", long(100_000))), 431),
        ("over 100 headers", plus(headers(96)), 431),
        ("over 128 headers", plus(headers(200)), 431),
        ("over 8 KiB of short headers", plus(headers(900)), 431),
        (
            "nothing but commas",
            plus(format!("Sec-WebSocket-Protocol: {}\r\n", ",".repeat(7_000))),
            400,
        ),
    ]);
}

/// In one byte at a time the verdict is the same, and finding it costs no more: no byte of
/// the head is looked at twice (CVE-2023-43669 was a head parsed anew with each read).
#[test]
fn a_head_without_end_dripped_in_bytes() {
    let Some(server) = TestServer::start(1, Config::default(), |_| Echo) else { return };
    let mut client = server.connect();
    for byte in handshake().into_iter().take(60).chain(repeat_n(b'a', 8_192)) {
        client.send(&[byte]);
    }
    assert_eq!(client.read_last_response().status, 431);
    server.assert_serves();
}

#[test]
fn subprotocols_that_are_no_list_of_distinct_tokens() {
    let protocols = |list: &str| plus(format!("Sec-WebSocket-Protocol: {list}\r\n"));
    let too_many: Vec<String> = (0..40).map(|i| format!("p{i}")).collect();
    expect_refusals(&[
        ("empty", protocols(""), 400),
        ("empty element", protocols("chat,,superchat"), 400),
        ("trailing comma", protocols("chat,"), 400),
        ("no token", protocols("chat/1"), 400),
        ("two words", protocols("super chat"), 400),
        ("quoted", protocols("\"chat\""), 400),
        ("not in ASCII", protocols("ch\u{e4}t"), 400),
        ("twice", protocols("chat, chat"), 400),
        ("twice in two lines", plus("Sec-WebSocket-Protocol: a\r\n".repeat(2)), 400),
        ("too many", protocols(&too_many.join(", ")), 400),
    ]);
}

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
        ("a key with its last bits set", plus("")),
        ("host with a port", with(HOST, &["Host: localhost:9001"])),
        ("host in IPv6", with(HOST, &["Host: [::1]:9001"])),
        ("absolute target", first_line("GET http://localhost/chat?a=b HTTP/1.1")),
        ("odd path", first_line("GET //a/../%00? HTTP/1.1")),
        ("a length of 0", plus("Content-Length: 0\r\n")),
        ("bytes above 0x7f in a value", plus(b"X-A: \x80\xff\r\n")),
        ("an empty value", plus("X-A:\r\n")),
        ("100 headers", plus(headers)),
        ("8 KiB of head", plus(format!("X: {}\r\n", "a".repeat(8_191 - handshake().len() - 5)))),
        ("Origin: null", plus("Origin: null\r\n")),
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
    let Some(server) = TestServer::start(1, Config::default(), |_| Echo) else { return };
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
    let Some(server) = TestServer::start(1, Config::default(), |_| Echo) else { return };
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

/// What stands behind a refused request is not HTTP and no frames, also when it comes in
/// receive buffers of its own. It used to be parsed as frames until the response was out,
/// and counted as a violation.
#[test]
fn much_behind_a_refused_upgrade_is_dropped_unseen() {
    let config = Config { receive_buffer_bytes: 512, ..Config::default() };
    let Some(server) = TestServer::start(1, config, |_| Echo) else { return };
    for tail in [text("smuggled").repeat(2_000), handshake().repeat(200), vec![0xFF; 30_000]] {
        let mut client = server.connect();
        client.send(&[with(VERSION, &["Sec-WebSocket-Version: 8"]), tail].concat());
        let response = client.read_last_response();
        assert_eq!(response.status, 426);
        assert_eq!(response.body.len().to_string(), response.header("Content-Length").unwrap());
    }
    let metrics = server.handle().metrics();
    assert_eq!((metrics.violations, metrics.messages_received), (0, 0));
    assert_eq!((metrics.handshakes_refused, metrics.handshakes_accepted), (3, 0));
}

/// The deadline is for the whole head: bytes dripping in do not extend it (RFC 9110
/// §15.5.9).
#[test]
fn slowloris() {
    let config = Config { handshake_timeout_ms: 300, ..Config::default() };
    let Some(server) = TestServer::start(1, config, |_| Echo) else { return };
    let begins: [(&str, &[u8]); 4] = [
        ("first line", b"GET /"),
        ("header", b"GET / HTTP/1.1\r\nX-Slow: "),
        ("many headers", b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nX: "),
        ("all but the last byte", &handshake()[..handshake().len() - 1]),
    ];
    for (name, begin) in begins {
        println!("dripping: {name}");
        let mut client = server.connect();
        client.send(begin);
        if name == "all but the last byte" {
            assert_eq!(client.read_last_response().status, 408);
        } else {
            client.drip_until_answered(repeat_n(b'a', 1_500));
            assert_eq!(client.read_last_response().status, 408);
        }
        server.assert_serves();
    }
    let mut silent = server.connect();
    assert_eq!(silent.read_last_response().status, 408);
    server.assert_serves();
}

#[test]
fn leaving_in_the_middle_of_the_handshake_frees_everything() {
    let Some((server, calls)) = recorded(Config::default(), Acts::default()) else { return };
    for cut in 0..handshake().len() {
        let mut client = server.connect();
        client.send(&handshake()[..cut]);
        if cut % 2 == 0 {
            client.reset();
        }
    }
    server.wait_until_empty();
    server.assert_serves();
    assert_eq!(calls.rest(server).len(), 3, "open, message and close of assert_serves");
}

/// Only the application can judge origins and credentials; it sees what was sent.
#[test]
fn origins_are_for_on_upgrade_to_judge() {
    let same_origin_only = |request: &Request<'_>, _: &Offer<'_>| match request.origin() {
        Some(origin) if ringwire_proto::is_same_origin(origin, "http", request.host()) => {
            Upgrade::accept(())
        }
        Some(_) => Upgrade::refuse(Response::new(403)),
        None => {
            let response = Response::new(401).header("WWW-Authenticate", "Basic").unwrap();
            Upgrade::refuse(response.body("text/plain", b"who are you?".as_slice()))
        }
    };
    let acts = Acts { upgrade: same_origin_only, ..Acts::default() };
    let Some((server, calls)) = recorded(Config::default(), acts) else { return };
    let origins = [
        ("http://localhost", 101),
        ("http://localhost:80", 101),
        ("HTTP://LOCALHOST", 101),
        ("null", 403),
        ("https://localhost", 403),
        ("http://localhost:8080", 403),
        ("http://localhost.evil.example", 403),
        ("http://evil.example/localhost", 403),
    ];
    for (origin, status) in origins {
        let mut client = server.connect();
        client.send(&plus(format!("Origin: {origin}\r\n")));
        assert_eq!(client.read_status(), status, "{origin}");
    }
    let mut client = server.connect();
    client.send(&[handshake(), text("smuggled")].concat());
    let response = client.read_last_response();
    assert_eq!((response.status, &response.body[..]), (401, &b"who are you?"[..]));
    assert_eq!(response.header("WWW-Authenticate"), Some("Basic"));
    let metrics = server.handle().metrics();
    assert_eq!((metrics.handshakes_accepted, metrics.handshakes_refused), (3, 6));
    drop(client);
    assert_eq!(calls.rest(server).len(), 6, "three opens and three closes");
}

#[test]
fn a_subprotocol_is_one_of_those_offered_or_none() {
    let chat = |_: &Request<'_>, offer: &Offer<'_>| {
        let upgrade = Upgrade::accept(());
        if offer.offers_protocol("chat") { upgrade.protocol("chat") } else { upgrade }
    };
    let acts = Acts { upgrade: chat, ..Acts::default() };
    let Some((server, _calls)) = recorded(Config::default(), acts) else { return };
    let offers = [
        ("Sec-WebSocket-Protocol: chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: superchat, chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: a\r\nsec-websocket-protocol: chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: Chat\r\n", None),
        ("Sec-WebSocket-Protocol: chatter, cha, t\r\n", None),
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
    let Some((server, calls)) = recorded(Config::default(), acts) else { return };
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

#[test]
fn plain_http_on_the_same_port() {
    let page = |request: &Request<'_>| match request.path() {
        "/" => Response::new(200).body("text/html", b"<p>hello</p>".as_slice()),
        "/empty" => Response::new(204),
        _ => Response::new(404),
    };
    let acts = Acts { request: page, ..Acts::default() };
    let Some((server, calls)) = recorded(Config::default(), acts) else { return };
    let requests: [(&str, u16, &[u8], Option<&str>); 5] = [
        ("GET / HTTP/1.1", 200, b"<p>hello</p>", Some("12")),
        ("HEAD / HTTP/1.1", 200, b"", Some("12")),
        ("GET /empty HTTP/1.1", 204, b"", None),
        ("GET /nowhere HTTP/1.1", 404, b"", Some("0")),
        ("HEAD /nowhere HTTP/1.1", 404, b"", Some("0")),
    ];
    for (line, status, body, length) in requests {
        let mut client = server.connect();
        // One request for one connection: the second is not answered.
        client.send(format!("{line}\r\nHost: a\r\n\r\n").repeat(2).as_bytes());
        let response = client.read_last_response();
        assert_eq!((response.status, &response.body[..]), (status, body), "{line}");
        assert_eq!(response.header("Content-Length"), length, "{line}");
        assert_eq!(response.header("Connection"), Some("close"), "{line}");
    }
    assert_eq!(calls.rest(server), [], "a request is no connection");
}

/// A request whose sender says at once that nothing more will come (as `nc -N` does) is
/// answered all the same.
#[test]
fn plain_http_with_half_a_close() {
    let Some(server) = TestServer::start(1, Config::default(), |_| Echo) else { return };
    for request in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), without(VERSION)] {
        let mut client = server.connect();
        client.send(&request);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read_last_response().status, 426);
    }
    server.wait_until_empty();
}

#[test]
fn a_head_that_ends_and_goes_on() {
    let Some(server) = TestServer::start(1, Config::default(), |_| Echo) else { return };
    // Two handshakes: the second is read as a frame, and is none ('G' has RSV1 set).
    let mut client = server.connect();
    client.send(&handshake().into_iter().chain(once(b'G')).collect::<Vec<u8>>());
    assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    client.expect_close(1002);
    server.assert_serves();
}
