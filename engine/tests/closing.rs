//! How connections end: every class of close code, from both ends and at once, with FIN,
//! with RST and without either. One open is matched by one close, whatever happens.
//! What is due to time alone is in `liveness.rs`.

mod harness;

use std::net::Shutdown;
use std::time::Duration;

use harness::recorder::{Acts, Call, Calls, recorded};
use harness::{RawClient, TestServer, binary, close, frame, handshake, ping, text, wait_until};
use ringwire::{CloseCode, Config, Conn, Message, Offer, Request, Response, Upgrade};

/// With nothing that times out by itself, so that an end is never due to one.
fn patient() -> Config {
    Config { close_timeout_ms: 600_000, ..Config::default() }
}

/// Closes with 4000 on the message "close".
fn close_on_demand() -> Acts {
    let message = |conn: &mut Conn<'_, harness::recorder::Recorder>, message: Message<'_>| {
        if message.payload() == b"close" {
            conn.close(CloseCode::new(4000).unwrap(), "as you wish");
        }
    };
    Acts { message, ..Acts::default() }
}

fn open_recorded(server: &TestServer, calls: &Calls) -> RawClient {
    let client = server.open();
    assert_eq!(calls.next(), Call::Open);
    client
}

#[test]
fn codes_that_are_echoed() {
    let (server, calls) = recorded(patient(), Acts::default());
    let codes = (1000..=1003).chain(1007..=1014).chain([3000, 3001, 3999, 4000, 4998, 4999]);
    for code in codes {
        let mut client = open_recorded(&server, &calls);
        client.send(&close(code, "so long \u{2764}"));
        client.expect_close(code);
        assert_eq!(calls.next(), Call::Close(code, "so long \u{2764}".to_owned()));
    }
    let mut client = open_recorded(&server, &calls);
    client.send(&frame(0x88, b""));
    client.expect_close(1005);
    assert_eq!(calls.next(), Call::Close(1005, String::new()), "1005: it had none");
    assert_eq!(server.handle().metrics().violations, 0);
}

#[test]
fn close_frames_that_are_violations() {
    let (server, calls) = recorded(patient(), Acts::default());
    let codes = [0, 1, 500, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 5001];
    let wrong_codes =
        codes.into_iter().chain([9999, u16::MAX]).map(|code| (close(code, "why"), 1002));
    let wrong_payloads = [
        (frame(0x88, b"\x03"), 1002),
        (frame(0x88, b"\x03\xE8\xC3"), 1007),
        (frame(0x88, b"\x03\xE8ok\xED\xA0\x80"), 1007),
        (frame(0x88, &[&[3, 0xE8][..], &[b'a'; 122], b"\xFF"].concat()), 1007),
        // The code is looked at first.
        (frame(0x88, b"\x00\x00\xFF"), 1002),
    ];
    let mut violations = 0;
    for (bytes, code) in wrong_codes.chain(wrong_payloads) {
        println!("close frame: {bytes:x?}");
        let mut client = open_recorded(&server, &calls);
        client.send(&bytes);
        client.expect_close(code);
        assert_eq!(calls.next_close().0, code);
        violations += 1;
    }
    assert_eq!(server.handle().metrics().violations, violations);
    server.assert_serves();
}

#[test]
fn the_longest_reason() {
    let (server, calls) = recorded(patient(), Acts::default());
    let reason = "r".repeat(123);
    let mut client = open_recorded(&server, &calls);
    client.send(&close(4000, &reason));
    client.expect_close(4000);
    assert_eq!(calls.next(), Call::Close(4000, reason));
}

#[test]
fn codes_an_application_cannot_send() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        assert_eq!(CloseCode::new(code), None, "{code}");
    }
    let acts = Acts {
        message: |conn, message| match message.payload() {
            b"1005" => conn.close(CloseCode::NO_STATUS, "not sent"),
            b"1006" => conn.close(CloseCode::ABNORMAL, "not sent"),
            // 124 bytes; 123 would end inside a character.
            b"long" => conn.close(CloseCode::NORMAL, &"\u{e9}".repeat(62)),
            b"twice" => {
                conn.close(CloseCode::NORMAL, "first");
                conn.close(CloseCode::GOING_AWAY, "second");
            }
            other => panic!("unexpected: {other:?}"),
        },
        ..Acts::default()
    };
    let (server, _calls) = recorded(patient(), acts);
    let long = [&[3, 0xE8][..], "\u{e9}".repeat(61).as_bytes()].concat();
    let expected: [(&str, &[u8]); 4] =
        [("1005", b""), ("1006", b""), ("long", &long), ("twice", b"\x03\xE8first")];
    for (message, payload) in expected {
        let mut client = server.open();
        client.send(&text(message));
        assert_eq!(client.read_frame().payload, payload, "{message}");
        client.send(&close(1000, ""));
        assert_eq!(client.read_to_end(), b"", "{message}");
    }
}

/// Both Close frames cross on the way: one from each end, one callback.
#[test]
fn closing_from_both_ends_at_once() {
    let acts = Acts {
        open: |conn| conn.close(CloseCode::new(4000).unwrap(), "server"),
        ..Acts::default()
    };
    let (server, calls) = recorded(patient(), acts);
    let mut client = server.connect();
    client.send(&[handshake(), text("late"), close(4001, "client")].concat());
    assert_eq!(client.read_status(), 101);
    client.expect_close(4000);
    drop(client);
    let calls: Vec<Call> = calls.rest(server).into_iter().map(|(_, call)| call).collect();
    assert_eq!(calls, [Call::Open, Call::Close(4001, "client".to_owned())]);
}

#[test]
fn ways_to_answer_the_servers_close() {
    let answers: [(&str, Vec<u8>, u16); 5] = [
        ("the same code", close(4000, "fine"), 4000),
        ("another code", close(1000, ""), 1000),
        ("no code", frame(0x88, b""), 1005),
        ("data before it", [binary(&[0; 100_000]), ping(b""), close(4000, "")].concat(), 4000),
        ("a violation", frame(0x83, b""), 1002),
    ];
    let (server, calls) = recorded(patient(), close_on_demand());
    for (name, answer, code) in answers {
        println!("answer: {name}");
        let mut client = server.open();
        client.send(&text("close"));
        assert_eq!(client.read_frame().close_code(), 4000);
        client.send(&answer);
        assert_eq!(client.read_to_end(), b"", "one Close frame is enough");
        assert_eq!(calls.next_close().0, code);
    }
    let mut client = server.open();
    client.send(&text("close"));
    assert_eq!(client.read_frame().close_code(), 4000);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(calls.next_close(), (1006, String::new()), "FIN instead of a Close frame");
    server.wait_until_empty();
}

/// A peer may leave without a word, in any state and in three ways; that is 1006.
#[test]
fn leaving_without_a_close_frame() {
    let begins: [(&str, Vec<u8>); 6] = [
        ("idle", vec![]),
        ("in a header", text("hello")[..1].to_vec()),
        ("in a payload", text("hello")[..9].to_vec()),
        ("between fragments", frame(0x01, b"hel")),
        ("in a control frame", ping(b"hello")[..8].to_vec()),
        ("in a long message", [0x82, 0xFE, 0xFF, 0xFF, 1, 2, 3, 4].repeat(100)),
    ];
    // A reset right behind data may take a ping to notice (see `PATIENCE`).
    let config = Config { ping_interval_ms: 2_000, ..patient() };
    let (server, calls) = recorded(config, Acts::default());
    for (name, bytes) in begins {
        println!("leaving: {name}");
        for way in ["FIN", "RST", "half a close"] {
            let mut client = server.open();
            client.send(&bytes);
            match way {
                "FIN" => drop(client),
                "RST" => client.reset(),
                _ => {
                    client.stream.shutdown(Shutdown::Write).unwrap();
                    client.expect_gone();
                }
            }
            assert_eq!(calls.next(), Call::Open);
            assert_eq!(calls.next(), Call::Close(1006, String::new()), "{way}");
        }
    }
    server.wait_until_empty();
    server.assert_serves();
    assert_eq!(calls.rest(server).len(), 3, "open, message and close of assert_serves");
}

/// Closing a socket with unread input sends RST, which takes our Close frame from the peer:
/// browsers then report 1006 (uvicorn#3049, coder/websocket#103). So input is read and
/// dropped until the peer's FIN.
#[test]
fn a_close_frame_is_not_overtaken_by_a_reset() {
    let config = Config { receive_buffer_bytes: 512, ..patient() };
    let (server, _calls) = recorded(config, Acts::default());
    let much = binary(&[b'x'; 60_000]).repeat(10);
    for (bytes, code) in [(frame(0x83, b"bad"), 1002), (close(1000, "bye"), 1000)] {
        let mut client = server.open();
        client.send(&[bytes, much.clone()].concat());
        assert_eq!(client.read_frame().close_code(), code);
        client.send(&much[..300_000]);
        assert_eq!(client.read_to_end(), b"");
        drop(client);
        server.wait_until_empty();
    }
}

/// But not for ever: a peer that goes on and on is cut off.
#[test]
fn a_peer_that_never_stops_sending_is_cut_off() {
    let config = Config { drain_bytes_max: 64 << 10, ..patient() };
    let (server, calls) = recorded(config, Acts::default());
    let mut client = server.open();
    client.send(&frame(0x83, b"bad"));
    assert_eq!(client.read_frame().close_code(), 1002);
    let chunk = vec![0; 1 << 20];
    let is_cut_off = (0..256).any(|_| client.try_send(&chunk).is_err());
    assert!(is_cut_off, "256 MiB behind a Close frame");
    server.wait_until_empty();
    assert_eq!(calls.next_close().0, 1002);
}

/// Behind a request that was refused there are no frames, also while the answer is not read and so
/// is still on its way: they are dropped uncounted, and beyond the limit the peer is cut off.
#[test]
fn a_refused_peer_that_never_stops_sending_is_cut_off() {
    let config = Config { drain_bytes_max: 64 << 10, ..patient() };
    let long_answer = |request: &Request<'_>| match request.path() {
        "/long" => Response::new(404).body("text/plain", vec![b'x'; 30_000_000]),
        _ => Response::new(426),
    };
    let refuse = |_: &Request<'_>, _: &Offer<'_>| {
        Upgrade::refuse(Response::new(404).body("text/plain", vec![b'x'; 30_000_000]))
    };
    let acts = Acts { request: long_answer, upgrade: refuse, ..Acts::default() };
    let (server, calls) = recorded(config, acts);
    let requests: [&[u8]; 4] = [
        b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        &handshake(),
    ];
    // So often that it is more than the receive buffers of a shard hold: Linux 6.1 fills as many as
    // there is input for before the server hears of any.
    let whats: [(&str, Vec<u8>); 3] = [
        ("violations", frame(0x83, b"bad").repeat(100_000)),
        ("messages", binary(&[0; 100]).repeat(10_000)),
        ("pings", ping(b"").repeat(100_000)),
    ];
    for request in requests {
        for (name, chunk) in &whats {
            println!("behind {:?}: {name}", String::from_utf8_lossy(request));
            let mut client = server.connect();
            client.send(request);
            // A peer whose window was closed when it was cut off may be told only after a minute
            // (`tcp_fin_timeout`): it is the server that must have let go of it.
            client.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            let is_cut_off = (0..256).any(|_| client.try_send(chunk).is_err());
            assert!(is_cut_off, "hundreds of megabytes behind a request");
            server.wait_until_empty();
        }
    }
    let metrics = server.handle().metrics();
    // Frames are no requests: too much of them while a request is answered breaks a limit.
    let kept_open = 2 * whats.len() as u64;
    assert!(metrics.violations <= kept_open, "{}", metrics.violations);
    assert_eq!(metrics.messages_received, 0);
    assert_eq!(calls.rest(server), [], "there was no connection");
}

/// A reset is counted once for the connection, however many operations it ends; what we cut off
/// ourselves is no reset of the peer's, and a FIN is none either.
#[test]
fn resets_are_counted() {
    let acts = Acts {
        message: |conn, message| match message.payload() {
            b"fill" => drop(conn.send(&vec![0; 30_000_000])),
            _ => drop(conn.send(message)),
        },
        ..Acts::default()
    };
    let config = Config { write_timeout_ms: 300, ping_interval_ms: 2_000, ..patient() };
    let (server, calls) = recorded(config.clone(), acts);
    let handle = server.handle();
    // While it is received from only, and while a send is in flight too.
    for (resets, message) in [(1, "idle"), (2, "fill"), (3, "fill")] {
        let mut client = server.open();
        client.send(&text(message));
        client.stream.peek(&mut [0]).expect("it is answered");
        client.reset();
        assert_eq!(calls.next_close(), (1006, String::new()), "{message}");
        server.wait_until_empty();
        assert_eq!(handle.metrics().connections_reset, resets, "{message}");
    }
    // Cut off by us while a send is in flight.
    let mut unread = server.open();
    unread.send(&text("fill"));
    assert_eq!(calls.next_close(), (1006, "timeout".to_owned()));
    server.wait_until_empty();
    drop(server.open());
    assert_eq!(calls.next_close(), (1006, String::new()));
    server.wait_until_empty();
    let metrics = handle.metrics();
    assert_eq!(metrics.connections_reset, 3);
    let others = [
        metrics.connections_timed_out,
        metrics.connections_unreachable,
        metrics.connections_out_of_memory,
        metrics.connections_broken,
    ];
    assert_eq!(others, [0; 4]);
}

/// A peer that keeps its end open, though everything is said, is left after
/// `close_timeout_ms`; also one that never answers our Close.
#[test]
fn closes_that_are_never_finished() {
    let config = Config { close_timeout_ms: 200, ..Config::default() };
    let (server, calls) = recorded(config, close_on_demand());
    let mut unanswering = server.open();
    unanswering.send(&text("close"));
    let mut lingering = server.open();
    lingering.send(&close(4001, "bye"));
    let mut violating = server.open();
    violating.send(&frame(0x83, b""));
    let mut refused = server.connect();
    refused.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    server.wait_until_empty();
    let mut codes: Vec<u16> = (0..3).map(|_| calls.next_close().0).collect();
    codes.sort_unstable();
    assert_eq!(codes, [1002, 1006, 4001]);
    assert_eq!(unanswering.read_frame().close_code(), 4000);
    unanswering.expect_gone();
    lingering.expect_close(4001);
    violating.expect_close(1002);
    assert_eq!(refused.read_last_response().status, 404);
}

/// A drain that meets every stage of a connection: each ends, and the server does.
#[test]
fn stopping_with_connections_in_every_stage() {
    let config = Config { drain_timeout_ms: 300, ..patient() };
    let (server, calls) = recorded(config, close_on_demand());
    let _connected = server.connect();
    let mut opening = server.connect();
    opening.send(&handshake()[..20]);
    let mut open = server.open();
    let mut mid_message = server.open();
    mid_message.send(&frame(0x01, b"hel"));
    let mut closing = server.open();
    closing.send(&text("close"));
    assert_eq!(closing.read_frame().close_code(), 4000);
    let mut draining = server.open();
    draining.send(&close(1000, ""));
    assert_eq!(draining.read_frame().close_code(), 1000);
    let handle = server.handle();
    wait_until("all are accepted", || handle.metrics().connections_now == 6);
    let calls = calls.rest(server);
    let is_close = |call: &Call| matches!(call, Call::Close(..));
    assert_eq!(calls.iter().filter(|(_, call)| is_close(call)).count(), 4);
    assert_eq!(open.read_frame().close_code(), 1001);
    assert_eq!(mid_message.read_frame().close_code(), 1001);
    opening.expect_gone();
    open.expect_gone();
}
