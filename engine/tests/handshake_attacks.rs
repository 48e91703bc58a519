//! Opening handshakes that are wrong or hostile, and the status each is answered with.
//! A new attack is one line of a table. What comes after a 101 is never at fault here, and
//! never looked at.

mod harness;

use harness::recorder::{Acts, recorded};
use harness::requests::{CONNECTION, HOST, KEY, UPGRADE, VERSION, first_line, plus, with, without};
use harness::{Echo, TestServer, assert_is_date, handshake, ping, text};
use ringwire::{Config, Request, Response};

/// A name to find the row by, what is sent, and the status it is answered with.
type Attack = (&'static str, Vec<u8>, u16);

/// Sends each attack with more behind it in the same segment: a frame, and a handshake
/// nothing is wrong with. There must be one response, then FIN, and nothing of what is
/// behind it may be answered, as HTTP or as frames (RFC 9112 §9.3, request smuggling).
fn expect_refusals(attacks: &[Attack]) {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    for (name, request, status) in attacks {
        println!("attack: {name}");
        let mut client = server.connect();
        client.send(&[&request[..], &text("smuggled"), &handshake(), &ping(b"smuggled")].concat());
        let response = client.read_last_response();
        assert_eq!(response.status, *status, "{response:?}");
        assert_eq!(response.header("Connection"), Some("close"));
        assert_is_date(&response);
        let length = response.header("Content-Length").expect("a body has a length");
        if request.starts_with(b"HEAD ") {
            // RFC 9110 §9.3.2, on every path.
            assert_eq!(response.body, b"", "{response:?}");
            assert_ne!(length, "0", "as for GET");
        } else {
            assert_eq!(length, response.body.len().to_string(), "{response:?}");
        }
        match status {
            405 => {
                let refused = request.split(|&byte| byte == b' ').next().unwrap();
                let allow = response.header("Allow").expect("RFC 9110 §15.5.6");
                assert!(allow.split(", ").all(|method| method.as_bytes() != refused), "{allow}");
                assert!(allow.starts_with("GET, "), "{allow}");
            }
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
        ("PROPFIND *", first_line("PROPFIND * HTTP/1.1"), 405),
        ("TRACE", first_line("TRACE / HTTP/1.1"), 405),
        ("HEAD cannot upgrade", first_line("HEAD / HTTP/1.1"), 405),
        ("methods have a case", first_line("get / HTTP/1.1"), 405),
        ("an invented method", first_line("GETS / HTTP/1.1"), 405),
        ("HTTP/1.0", first_line("GET / HTTP/1.0"), 426),
        ("HEAD in HTTP/1.0", first_line("HEAD / HTTP/1.0"), 426),
        ("POST in HTTP/1.0", first_line("POST / HTTP/1.0"), 405),
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
        ("asterisk for HEAD", first_line("HEAD * HTTP/1.1"), 400),
        ("asterisk and more", first_line("OPTIONS ** HTTP/1.1"), 400),
        ("fragment in the target", first_line("GET /#top HTTP/1.1"), 400),
        ("target not in ASCII", first_line("GET /caf\u{e9} HTTP/1.1"), 400),
        ("two spaces", first_line("GET  / HTTP/1.1"), 400),
        ("tab for a space", first_line("GET\t/ HTTP/1.1"), 400),
        ("space behind the version", first_line("GET / HTTP/1.1 "), 400),
        ("space in front", first_line(" GET / HTTP/1.1"), 400),
        ("empty line in front", first_line("\r\nGET / HTTP/1.1"), 400),
    ]);
}

/// Neither origin-form nor absolute-form (RFC 9112 §3.2), or with what has no place in a target
/// (RFC 9110 §4.2). A query that looks like an absolute target leads nowhere.
#[test]
fn targets_that_are_none() {
    let targets = [
        "x?u=http://localhost/ws",
        "://localhost/x",
        "localhost:80",
        "localhost/ws",
        "?a=b",
        "http:/ws",
        "http:localhost/ws",
        "http://",
        "http:///path",
        "http:///",
        "http://?a=b",
        "http://:80/path",
        "http://user@localhost/",
        "http://user:password@localhost/",
        "http://localhost@evil.example/",
        "http://@localhost/",
        "http://localhost:65536/",
        "http://localhost:-1/",
        "http://localhost:http/",
        "http://[::1/",
        "http://::1/",
        "http://[localhost]/",
        "http://[fe80::1%25eth0]/",
        "http://local%zzhost/",
        "http://localhost%/",
        "http://a,b/",
        "http://localhost\\@evil.example/",
        "http://localhost#fragment",
        "http://localhost/#fragment",
        "http://localhost?a#fragment",
        "/#fragment",
        "ftp://localhost/",
        "file:///etc/passwd",
        "javascript://localhost/",
        "httpx://localhost/",
        "x-ws://localhost/",
    ];
    let get = targets.map(|target| (target, first_line(&format!("GET {target} HTTP/1.1")), 400));
    let head = targets.map(|target| (target, first_line(&format!("HEAD {target} HTTP/1.1")), 400));
    expect_refusals(&[get, head].concat());
}

/// RFC 9110 §9.3.2: whatever is wrong, the answer to HEAD has no body.
#[test]
fn a_head_request_never_gets_a_body() {
    let head = |lines: &str| format!("HEAD / HTTP/1.1\r\n{lines}\r\n").into_bytes();
    let long = "a".repeat(9_000);
    expect_refusals(&[
        ("upgrade", first_line("HEAD / HTTP/1.1"), 405),
        ("no Host", head(""), 400),
        ("a body", head("Host: a\r\nContent-Length: 5\r\n"), 400),
        ("a long target", first_line(&format!("HEAD /{long} HTTP/1.1")), 414),
        ("a target without end", format!("HEAD /{}", "a".repeat(100_000)).into_bytes(), 414),
        ("a head without end", head(&format!("X: {}", "a".repeat(100_000))), 431),
        ("many headers", head(&"X: 1\r\n".repeat(200)), 431),
        ("bare LF", b"HEAD / HTTP/1.1\nHost: a\r\n\r\n".to_vec(), 400),
        ("HTTP/2.0", first_line("HEAD / HTTP/2.0"), 400),
        ("folded", head("Host: a\r\n b\r\n"), 400),
        ("plain, refused by default", head("Host: a\r\nConnection: close\r\n"), 426),
        ("a proxy took Upgrade away", first_line("HEAD / HTTP/1.0"), 426),
    ]);
}

/// What a plain `proxy_pass` of nginx makes of a browser's handshake, byte for byte: HTTP/1.0 and
/// `Connection: close` before 1.29.7, HTTP/1.1 since; Upgrade and Connection are dropped. The
/// answer says which lines are missing.
#[test]
fn a_handshake_that_lost_its_parts_behind_a_proxy() {
    let rest = "Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0\r\n\
        Origin: http://chat.example\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    let heads = [
        ("GET /ws HTTP/1.0\r\nHost: 127.0.0.1:9001\r\nConnection: close\r\n", 426),
        ("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nConnection: keep-alive\r\n", 426),
        ("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nConnection: close\r\n", 426),
        ("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n", 426),
        // One or two of the three lines are there.
        ("GET /ws HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", 426),
        ("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: close\r\n", 400),
        ("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n", 426),
    ];
    // The answer comes before the application is asked.
    let page = |_: &Request<'_>| Response::new(200);
    let acts = Acts { request: page, ..Acts::default() };
    let (server, _calls) = recorded(Config::new(), acts);
    for (head, status) in heads {
        let mut client = server.connect();
        client.send(format!("{head}{rest}").as_bytes());
        let response = client.read_last_response();
        assert_eq!(response.status, status, "{head}");
        assert_eq!(response.header("Content-Type"), Some("text/plain"));
        let body = String::from_utf8(response.body).unwrap();
        for line in [
            "proxy_http_version 1.1;",
            "proxy_set_header Upgrade $http_upgrade;",
            "proxy_set_header Connection \"upgrade\";",
        ] {
            assert!(body.contains(line), "{head}{body}");
        }
    }
    assert_eq!(server.handle().metrics().handshakes_refused, heads.len() as u64);
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
    let server = TestServer::start(1, Config::new(), |_| Echo);
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
        ("Host with a comma", with(HOST, &["Host: a.example,b.example"]), 400),
        ("Host with a bad port", with(HOST, &["Host: a.example:x"]), 400),
        ("Host with a port too high", with(HOST, &["Host: a.example:65536"]), 400),
        ("Host is only a port", with(HOST, &["Host: :80"]), 400),
        ("Host in IPv6 without brackets", with(HOST, &["Host: ::1"]), 400),
        ("Host in half a bracket", with(HOST, &["Host: [::1"]), 400),
        ("Host with a bad escape", with(HOST, &["Host: a%zz"]), 400),
        ("Host is a URI", with(HOST, &["Host: http://a.example"]), 400),
        ("Host not in ASCII", with(HOST, &["Host: caf\u{e9}.example"]), 400),
        ("Origin repeated", plus("Origin: http://a\r\nOrigin: http://b\r\n"), 400),
        ("empty Origin", plus("Origin: \r\n"), 400),
        ("Origin not in ASCII", plus("Origin: http://caf\u{e9}.example\r\n"), 400),
        (
            "two Origins, one of them here",
            plus("Origin: http://localhost\r\nOrigin: null\r\n"),
            400,
        ),
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
        ("a target over its limit", first_line(&format!("GET /{} HTTP/1.1", long(8_192))), 414),
        ("a first line over 16 KiB", first_line(&format!("GET /{} HTTP/1.1", long(17_000))), 414),
        ("a first line without end", [b'a'].repeat(100_000), 414),
        ("one value of 16 KiB", plus(format!("Cookie: {}\r\n", long(16_384))), 431),
        ("one name of 16 KiB", plus(format!("{}: 1\r\n", long(16_384))), 431),
        ("two values of 8 KiB", plus(format!("Cookie: {}\r\n", long(8_192)).repeat(2)), 431),
        ("a head without end", plus(format!("Cookie: {}", long(100_000))), 431),
        ("over 100 headers", plus(headers(96)), 431),
        ("over 128 headers", plus(headers(200)), 431),
        ("over 16 KiB of short headers", plus(headers(1_800)), 431),
    ]);
}

#[test]
fn subprotocols_that_are_no_list_of_distinct_tokens() {
    let protocols = |list: &str| plus(format!("Sec-WebSocket-Protocol: {list}\r\n"));
    let too_many: Vec<String> = (0..40).map(|i| format!("p{i}")).collect();
    expect_refusals(&[
        ("an empty element between two of one name", protocols("chat,,chat"), 400),
        ("no token", protocols("chat/1"), 400),
        ("two words", protocols("super chat"), 400),
        ("quoted", protocols("\"chat\""), 400),
        ("not in ASCII", protocols("ch\u{e4}t"), 400),
        ("twice", protocols("chat, chat"), 400),
        ("twice in two lines", plus("Sec-WebSocket-Protocol: a\r\n".repeat(2)), 400),
        ("too many", protocols(&too_many.join(", ")), 400),
    ]);
}

/// What stands behind a refused request is not HTTP and no frames, also when it comes in
/// receive buffers of its own. It used to be parsed as frames until the response was out,
/// and counted as a violation.
#[test]
fn much_behind_a_refused_upgrade_is_dropped_unseen() {
    let config = Config::new().receive_buffer_bytes(512);
    let server = TestServer::start(1, config, |_| Echo);
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
