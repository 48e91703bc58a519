//! Large messages that go back without being copied: whole, in order with what is sent around
//! them, and without starving anybody of receive buffers when their peer does not read.

mod harness;

use std::os::fd::OwnedFd;

use harness::recorder::{Acts, recorded};
use harness::{PATIENCE, RawClient, ServerFrame, TestServer, binary, handshake, text};
use ringwire::{Config, Conn, Context, Handler, Message, Metrics, Offer, Request, Upgrade};
use socket2::{Domain, Socket, Type};

struct Echo;

impl Handler for Echo {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        Upgrade::accept(())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.send(message);
    }
}

/// Bytes that say where in which message they are.
fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 31 + bytes) as u8).collect()
}

fn server_frame(payload: Vec<u8>) -> ServerFrame {
    ServerFrame { first: 0x82, payload }
}

/// More than what one connection may have unsent by default.
fn roomy() -> Config {
    Config::new()
        .write_bytes_max(64 << 20)
        // However slow the machine: peers here read late.
        .ping_interval_ms(0)
        .idle_timeout_ms(0)
        .write_timeout_ms(0)
}

/// Around the shortest message that is forwarded, the length forms, and a receive buffer's end.
const LENGTHS: [usize; 12] =
    [4_095, 4_096, 4_097, 16_384, 65_521, 65_522, 65_523, 65_535, 65_536, 65_537, 300_000, 1 << 20];

#[test]
fn messages_behind_each_other_come_back_whole_and_in_order() {
    let server = TestServer::start(1, roomy(), |_| Echo);
    let mut client = server.open();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for length in LENGTHS.iter().chain(&LENGTHS) {
            std::io::Write::write_all(&mut writer, &binary(&payload(*length))).unwrap();
            std::io::Write::write_all(&mut writer, &binary(b"small")).unwrap();
        }
    });
    for length in LENGTHS.iter().chain(&LENGTHS) {
        assert!(client.read_frame() == server_frame(payload(*length)), "{length} bytes");
        assert_eq!(client.read_frame(), server_frame(b"small".to_vec()));
    }
    sender.join().unwrap();
}

/// Nothing above would notice if every message were copied.
#[test]
fn an_echo_of_a_large_message_copies_nothing() {
    const MESSAGES: u64 = 10;
    // The first longer than a receive buffer and put together from pieces, the second within one.
    for length in [300_000, 8_192] {
        let server = TestServer::start(1, roomy(), |_| Echo);
        let mut client = server.open();
        for _ in 0..MESSAGES {
            client.send(&binary(&payload(length)));
            assert!(client.read_frame() == server_frame(payload(length)), "{length} bytes");
        }
        drop(client);
        let metrics = metrics_at_the_end(server);
        assert_eq!(metrics.messages_sent, MESSAGES, "{length} bytes");
        assert_eq!(metrics.messages_forwarded, MESSAGES, "{length} bytes");
    }
}

/// Of what is shorter than `forward_bytes_min` nothing, of the same twice one, of a part nothing.
#[test]
fn what_cannot_be_forwarded_is_not_counted_so() {
    let whole: fn(&mut Conn<'_, harness::recorder::Recorder>, Message<'_>) = |conn, message| {
        conn.send(message);
    };
    let twice: fn(&mut Conn<'_, harness::recorder::Recorder>, Message<'_>) = |conn, message| {
        conn.send(message);
        conn.send(message);
    };
    let part: fn(&mut Conn<'_, harness::recorder::Recorder>, Message<'_>) = |conn, message| {
        conn.send(&message.payload()[1..]);
    };
    let acts = [(4_095, whole, 0), (8_192, twice, 1), (8_192, part, 0)];
    for (length, message, forwarded) in acts {
        let acts = Acts { message, ..Acts::default() };
        let (server, _calls) = recorded(roomy(), acts);
        let mut client = server.open();
        client.send(&binary(&payload(length)));
        client.read_frame();
        drop(client);
        assert_eq!(metrics_at_the_end(server).messages_forwarded, forwarded, "{length} bytes");
    }
}

/// Those of a running server may be a tick old.
fn metrics_at_the_end(server: TestServer) -> Metrics {
    let handle = server.handle();
    server.stop().expect("no shard panics");
    handle.metrics()
}

#[test]
fn what_is_sent_around_a_forwarded_message_keeps_its_place() {
    struct Around;
    impl Handler for Around {
        type State = ();
        type Command = ();

        fn on_upgrade(
            &mut self,
            _cx: &mut Context<'_, Self>,
            _request: &Request<'_>,
            _offer: &Offer<'_>,
        ) -> Upgrade<()> {
            Upgrade::accept(())
        }

        fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
            if message.payload()[0] == 0 {
                conn.send("before");
            }
            conn.send(message);
            conn.send("between");
            // The same again, and as another kind: both are copies.
            conn.send(message);
            conn.send(&message.payload()[1..]);
            conn.send("after");
        }
    }
    let server = TestServer::start(1, roomy(), |_| Around);
    let mut client = server.open();
    for length in LENGTHS {
        for first in [0, 1] {
            let mut payload = payload(length);
            payload[0] = first;
            client.send(&binary(&payload));
            if first == 0 {
                assert_eq!(client.read_frame(), ServerFrame::text("before"));
            }
            assert!(client.read_frame() == server_frame(payload.clone()), "{length} bytes");
            assert_eq!(client.read_frame(), ServerFrame::text("between"));
            assert!(client.read_frame() == server_frame(payload.clone()), "{length} bytes");
            assert!(client.read_frame() == server_frame(payload[1..].to_vec()), "{length} bytes");
            assert_eq!(client.read_frame(), ServerFrame::text("after"));
        }
    }
}

/// Each holds a receive buffer until it reads; only so many may.
#[test]
fn peers_that_do_not_read_leave_receive_buffers_to_the_others() {
    const SLEEPERS: usize = 12;
    // 6 MB, beyond what the kernel takes for a peer that does not read (4 MiB by default).
    const MESSAGES: usize = 100;
    // Eight buffers, of which two may go out.
    let config = roomy().receive_buffers_min(8).receive_buffers_max(8);
    let server = TestServer::start(1, config, |_| Echo);
    let message = payload(60_000);
    let mut sleepers: Vec<RawClient> = (0..SLEEPERS).map(|_| narrow_client(&server)).collect();
    for sleeper in &mut sleepers {
        for _ in 0..MESSAGES {
            sleeper.send(&binary(&message));
        }
    }
    let mut client = server.open();
    for _ in 0..50 {
        client.send(&text("still here?"));
        assert_eq!(client.read_frame(), ServerFrame::text("still here?"));
    }
    // What they are owed is all there once they read.
    for sleeper in &mut sleepers {
        for _ in 0..MESSAGES {
            assert!(sleeper.read_frame() == server_frame(message.clone()));
        }
    }
}

/// A client whose kernel takes only a few kilobytes it has not read.
fn narrow_client(server: &TestServer) -> RawClient {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut client = RawClient::from(std::net::TcpStream::from(OwnedFd::from(socket)));
    client.send(&handshake());
    assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    client
}
