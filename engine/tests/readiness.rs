//! What a driver that is told of readiness could get wrong: readiness without a byte, bytes behind
//! a mark, the end right behind them, windows that open by bytes, peers that are gone when their
//! turn comes.

mod harness;

use std::net::Shutdown;
use std::time::Duration;

use harness::process::ServerProcess;
use harness::recorder::{Acts, Call, recorded};
use harness::{
    Echo, RawClient, ServerFrame, TestServer, binary, close, frame, handshake, patient, text,
    wait_until,
};
use ringwire::{CloseCode, Config, Conn, Message};
use socket2::{Domain, SockRef, Socket, Type};

fn assert_echoes(client: &mut RawClient) {
    client.send(&text("still there?"));
    assert_eq!(client.read_frame(), ServerFrame::text("still there?"));
}

/// Sends a byte of urgent data (`MSG_OOB`), which is no part of the stream: a receive stops in
/// front of it, however much lies behind.
fn send_urgent(client: &RawClient) {
    let sent = SockRef::from(&client.stream).send_out_of_band(b"!").expect("the server is there");
    assert_eq!(sent, 1);
}

/// Urgent data at every byte of a message: what lies behind it is read too.
#[test]
fn urgent_data_in_the_middle() {
    let server = TestServer::start(1, patient(), |_| Echo);
    let message = text("all of it");
    let mut client = server.open();
    for cut in 0..=message.len() {
        println!("urgent data at {cut}");
        client.send(&message[..cut]);
        send_urgent(&client);
        client.send(&message[cut..]);
        assert_eq!(client.read_frame(), ServerFrame::text("all of it"));
    }
    // In the handshake, and with nothing behind it for a while.
    let mut client = server.connect();
    client.send(&handshake()[..20]);
    send_urgent(&client);
    client.send(&handshake()[20..]);
    assert_eq!(client.read_status(), 101);
    send_urgent(&client);
    assert_echoes(&mut server.open());
    assert_echoes(&mut client);
}

/// In a message larger than a receive buffer, which goes straight into its own.
#[test]
fn urgent_data_in_a_large_message() {
    let server = TestServer::start(1, patient(), |_| Echo);
    let payload: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let message = binary(&payload);
    for cut in [9, 70_000, 131_072, 299_999] {
        println!("urgent data at {cut}");
        let mut client = server.open();
        client.send(&message[..cut]);
        send_urgent(&client);
        client.send(&message[cut..]);
        let echo = client.read_frame();
        assert!(echo.payload == payload, "{echo:?}");
        assert_echoes(&mut client);
    }
}

/// All of it has come when the server looks: the data, the mark, more data, and the end.
#[test]
fn urgent_data_and_the_end_at_once() {
    let name = "urgent_data_and_the_end_at_once";
    let server = ServerProcess::start(name, "-c 0", patient(), |_| Echo);
    let mut client = server.open();
    server.stopped_for(Duration::ZERO, || {
        client.send(&text("before"));
        send_urgent(&client);
        client.send(&[text("behind"), close(1000, "")].concat());
        client.stream.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(client.read_frame(), ServerFrame::text("before"));
    assert_eq!(client.read_frame(), ServerFrame::text("behind"));
    client.expect_close(1000);
}

/// FIN in the same instant as the last bytes, whatever they are: every message reaches the handler,
/// and then the end does.
#[test]
fn the_end_right_behind_data() {
    let name = "the_end_right_behind_data";
    let server = ServerProcess::start(name, "-c 0", patient(), |_| Echo);
    for bytes in [0, 1, 125, 4_000, 50_000] {
        let payload = vec![0x5A; bytes];
        let mut clients: Vec<RawClient> = (0..4).map(|_| server.open()).collect();
        println!("{bytes} bytes");
        server.stopped_for(Duration::ZERO, || {
            for (index, client) in clients.iter_mut().enumerate() {
                client.send(&binary(&payload));
                if index % 2 == 0 {
                    client.send(&close(1000, ""));
                }
                client.stream.shutdown(Shutdown::Write).unwrap();
            }
        });
        for (index, client) in clients.iter_mut().enumerate() {
            let echo = client.read_frame();
            assert!(echo.first == 0x82 && echo.payload == payload, "{echo:?}");
            if index % 2 == 0 {
                client.expect_close(1000);
            } else {
                client.read_to_end();
            }
        }
    }
    let metrics = server.stop();
    assert!(metrics.contains("messages_received: 20,"), "{metrics}");
    assert!(metrics.contains("connections_now: 0,"), "{metrics}");
}

/// A peer that has ended its direction, and reads on: it gets everything that was on its way.
#[test]
fn half_a_close_behind_a_large_answer() {
    const FILL_BYTES: usize = 8 << 20;
    let message = |conn: &mut Conn<'_, harness::recorder::Recorder>, _: Message<'_>| {
        conn.send(&vec![7; FILL_BYTES]);
    };
    let config = Config { write_bytes_max: 2 * FILL_BYTES, ..patient() };
    let (server, calls) = recorded(config, Acts { message, ..Acts::default() });
    let mut client = RawClient::open_narrow(server.addr());
    client.send(&[text("fill"), close(1000, "")].concat());
    client.stream.shutdown(Shutdown::Write).unwrap();
    let answer = client.read_frame();
    assert!(answer.payload == vec![7; FILL_BYTES], "{answer:?}");
    client.expect_close(1000);
    assert_eq!(calls.next_close().0, 1000);
    server.wait_until_empty();
}

/// A window that is filled and opened by single bytes: many short sends, each of which waits until
/// the socket is writable again.
#[test]
fn a_window_that_opens_byte_by_byte() {
    const FILL_BYTES: usize = 600_000;
    /// What the peer's machine holds for it at least, and sends at once when there is room.
    const BY_BYTES: usize = 20_000;
    let message = |conn: &mut Conn<'_, harness::recorder::Recorder>, message: Message<'_>| {
        let payload: Vec<u8> = (0..FILL_BYTES).map(|i| (i % 251) as u8).collect();
        match message {
            Message::Text("fill") => conn.send(&payload),
            message => conn.send(message),
        };
    };
    let (server, _calls) = recorded(patient(), Acts { message, ..Acts::default() });
    let mut client = narrowest(&server);
    client.send(&text("fill"));
    client.stream.peek(&mut [0]).expect("it has begun");
    for _ in 0..BY_BYTES {
        client.read_exactly(1);
    }
    // It drains in one go, and then byte by byte again: each turn fills the window.
    client.read_exactly(100_000);
    for _ in 0..BY_BYTES {
        client.read_exactly(1);
    }
    let payload: Vec<u8> = (0..FILL_BYTES).map(|i| (i % 251) as u8).collect();
    let answer = client.read_frame();
    assert!(answer.payload == payload, "{answer:?}");
    assert_echoes(&mut client);
}

/// A client with as small a window as the kernel gives.
fn narrowest(server: &TestServer) -> RawClient {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&server.addr().into()).expect("the server accepts");
    let mut client = RawClient::from(std::net::TcpStream::from(socket));
    client.stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
    client.send(&handshake());
    assert_eq!(client.read_status(), 101);
    client
}

/// RST in every stage of a connection: its slot becomes free, the handler is told once, and the
/// others are served.
#[test]
fn a_reset_in_every_stage() {
    let message =
        |conn: &mut Conn<'_, harness::recorder::Recorder>, message: Message<'_>| match message {
            Message::Text("close") => conn.close(CloseCode::new(4000).unwrap(), ""),
            Message::Text("fill") => {
                conn.send(&vec![0; 30_000_000]);
            }
            message => {
                conn.send(message);
            }
        };
    // A reset right behind data may take a ping to notice (see `PATIENCE`).
    let config = Config { ping_interval_ms: 2_000, handshake_timeout_ms: 5_000, ..patient() };
    let (server, calls) = recorded(config, Acts { message, ..Acts::default() });
    type Stage = (&'static str, fn(&TestServer) -> RawClient, usize);
    let stages: [Stage; 9] = [
        ("before the request's end", |server| sent(server.connect(), &handshake()[..40]), 0),
        ("refused", |server| refused(server), 0),
        ("open and idle", |server| server.open(), 1),
        ("in a header", |server| sent(server.open(), &text("hello")[..1]), 1),
        ("in a large message", |server| sent(server.open(), &binary(&[0; 300_000])[..200_000]), 1),
        ("between fragments", |server| sent(server.open(), &frame(0x01, b"hel")), 1),
        ("while much is being sent", |server| answered(server, &text("fill")), 1),
        ("with a Close under way", |server| closing(server), 1),
        ("behind the server's FIN", |server| draining(server), 1),
    ];
    for (name, reach, closes) in stages {
        println!("reset: {name}");
        reach(&server).reset();
        server.wait_until_empty();
        // Each waits for a close that must come.
        (0..closes).for_each(|_| drop(calls.next_close()));
        server.assert_serves();
        assert_eq!(calls.next_close().0, 1006, "that of assert_serves, which says no goodbye");
    }
    let rest = calls.rest(server);
    assert!(rest.iter().all(|(_, call)| !matches!(call, Call::Close(..))), "{rest:?}");
}

fn sent(mut client: RawClient, bytes: &[u8]) -> RawClient {
    client.send(bytes);
    client
}

fn answered(server: &TestServer, bytes: &[u8]) -> RawClient {
    let client = sent(RawClient::open_narrow(server.addr()), bytes);
    client.stream.peek(&mut [0]).expect("it is answered");
    client
}

fn refused(server: &TestServer) -> RawClient {
    let mut client = sent(server.connect(), b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_status(), 405);
    client
}

/// The server has said its Close and waits for ours.
fn closing(server: &TestServer) -> RawClient {
    let mut client = sent(server.open(), &text("close"));
    assert_eq!(client.read_frame().close_code(), 4000);
    client
}

/// The server has said everything, and reads until our FIN.
fn draining(server: &TestServer) -> RawClient {
    let mut client = sent(server.open(), &frame(0x83, b""));
    client.expect_close(1002);
    client
}

/// Connections that are reset while they wait to be accepted, others among them.
#[test]
fn resets_before_the_accept() {
    let name = "resets_before_the_accept";
    let config = Config { ping_interval_ms: 2_000, ..patient() };
    let server = ServerProcess::start(name, "-c 0", config, |_| Echo);
    let descriptors = server.descriptors();
    let mut staying: Vec<RawClient> = Vec::new();
    server.stopped_for(Duration::ZERO, || {
        for number in 0..90 {
            let client = sent(server.connect(), &handshake());
            match number % 3 {
                0 => staying.push(client),
                1 => client.reset(),
                _ => drop(client),
            }
        }
    });
    for client in &mut staying {
        assert_eq!(client.read_status(), 101);
        assert_echoes(client);
    }
    wait_until("those that are gone are closed", || {
        server.descriptors() == descriptors + staying.len()
    });
    drop(staying);
    let metrics = server.stop();
    assert!(metrics.contains("connections_now: 0,"), "{metrics}");
    assert!(metrics.contains("panics: 0,"), "{metrics}");
}

/// A stop closes the listeners under connections that wait to be accepted: each of them ends.
#[test]
fn listeners_closed_under_a_crowd() {
    for shards in [1, 3] {
        let config = Config { drain_timeout_ms: 500, ..Config::default() };
        let server = TestServer::start(shards, config, |_| Echo);
        let mut open: Vec<RawClient> = (0..20).map(|_| server.open()).collect();
        let mut waiting: Vec<RawClient> = (0..60).map(|_| server.connect()).collect();
        waiting.iter_mut().for_each(|client| client.send(&handshake()));
        let addr = server.addr();
        server.handle().stop();
        for client in &mut open {
            assert_eq!(client.read_frame().close_code(), 1001);
            client.send(&close(1001, ""));
            assert_eq!(client.read_to_end(), b"");
        }
        // Accepted in time or not: none hangs.
        for mut client in waiting {
            client.expect_gone();
        }
        server.stop().expect("no shard panics");
        assert!(std::net::TcpStream::connect(addr).is_err(), "nobody listens any more");
    }
}
