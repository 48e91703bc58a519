//! Opening handshakes that come slowly, in part, or not at all.

mod harness;

use std::iter::repeat_n;

use harness::recorder::{Acts, recorded};
use harness::{Echo, TestServer, assert_is_date, handshake};
use ringwire::Config;

/// In one byte at a time the verdict is the same, and finding it costs no more: no byte of
/// the head is looked at twice (CVE-2023-43669 was a head parsed anew with each read).
#[test]
fn a_head_without_end_dripped_in_bytes() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    let mut client = server.connect();
    for byte in handshake().into_iter().take(60).chain(repeat_n(b'a', 16_384)) {
        client.send(&[byte]);
    }
    assert_eq!(client.read_last_response().status, 431);
    server.assert_serves();
}

/// The deadline is for the whole head: bytes dripping in do not extend it (RFC 9110
/// §15.5.9).
#[test]
fn slowloris() {
    let config = Config::new().handshake_timeout_ms(300);
    let server = TestServer::start(1, config, |_| Echo);
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
    let metrics = server.handle().metrics();
    assert_eq!((metrics.handshakes_refused, metrics.connections_silent), (4, 0));
}

/// A probe by TCP, a port scan, a browser that connects ahead: no answer, and no handshake that
/// was refused.
#[test]
fn who_says_nothing_is_told_nothing() {
    let config = Config::new().handshake_timeout_ms(300);
    let server = TestServer::start(1, config, |_| Echo);
    let mut silent = server.connect();
    assert_eq!(silent.read_to_end(), b"");
    server.wait_until_empty();
    let metrics = server.handle().metrics();
    assert_eq!((metrics.handshakes_refused, metrics.connections_silent), (0, 1));
    // A byte makes it a request.
    let mut client = server.connect();
    client.send(b"G");
    assert_eq!(client.read_last_response().status, 408);
    let mut client = server.connect();
    client.send(b"HEAD / HTTP/1.1\r\n");
    let response = client.read_last_response();
    assert_eq!((response.status, &response.body[..]), (408, &b""[..]));
    assert_is_date(&response);
    let metrics = server.handle().metrics();
    assert_eq!((metrics.handshakes_refused, metrics.connections_silent), (2, 1));
    server.assert_serves();
}

#[test]
fn leaving_in_the_middle_of_the_handshake_frees_everything() {
    let (server, calls) = recorded(Config::new(), Acts::default());
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
