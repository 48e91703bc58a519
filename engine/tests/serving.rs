//! The server over real sockets with a client we did not write (tungstenite): messages of
//! every length, closing, topics on one shard and on two, other threads.

mod harness;

use std::collections::HashSet;
use std::net::TcpStream;
use std::sync::mpsc::{Sender, channel};

use harness::recorder::{Acts, recorded};
use harness::{PATIENCE, ServerFrame, TestServer, text, wait_until};
use ringwire::{
    CloseCode, Config, Conn, ConnId, Context, Handler, Message, Offer, Request, Upgrade,
};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message as Theirs, WebSocket};

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

fn connect(server: &TestServer) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, _) = tungstenite::client(format!("ws://{}/", server.addr()), stream).unwrap();
    socket
}

#[test]
fn echoes_every_length_around_its_boundaries() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    let mut socket = connect(&server);
    // Frame length forms, the receive buffer's size, and the message limit.
    let lengths = [0, 1, 2, 125, 126, 127, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20];
    for length in lengths {
        let binary: Vec<u8> = (0..length).map(|i| i as u8).collect();
        socket.send(Theirs::Binary(binary.clone().into())).unwrap();
        assert_eq!(socket.read().unwrap(), Theirs::Binary(binary.into()));
        let text = "é".repeat(length / 2);
        socket.send(Theirs::Text(text.clone().into())).unwrap();
        assert_eq!(socket.read().unwrap(), Theirs::Text(text.into()));
    }
}

/// What a handler logs: who it is, where from, and what it has yet to send.
#[test]
fn a_connection_says_what_it_is() {
    let acts = Acts {
        message: |conn, message| {
            conn.send(message);
            let (id, peer, bytes) = (conn.id(), conn.peer_addr(), conn.buffered_bytes());
            conn.send(&format!("{id} {peer:?} {bytes}")[..]);
            conn.send(&format!("{conn:?}")[..]);
        },
        ..Acts::default()
    };
    let (server, _calls) = recorded(Config::new(), acts);
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let mut client = server.open();
        client.send(&text("hello"));
        assert_eq!(client.read_frame(), ServerFrame::text("hello"));
        let told = String::from_utf8(client.read_frame().payload).unwrap();
        let (id, rest) = told.split_once(' ').unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is another connection's");
        // A frame of five bytes has a header of two.
        assert_eq!(rest, format!("{:?} 7", client.stream.local_addr().ok()));
        let debug = String::from_utf8(client.read_frame().payload).unwrap();
        assert!(debug.contains("stage: Open"), "{debug}");
        drop(client);
        server.wait_until_empty();
    }
}

#[test]
fn a_ping_is_answered_and_a_close_is_echoed() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    let mut socket = connect(&server);
    socket.send(Theirs::Ping(b"are you there?".as_slice().into())).unwrap();
    assert_eq!(socket.read().unwrap(), Theirs::Pong(b"are you there?".as_slice().into()));
    let frame = CloseFrame { code: 4_321.into(), reason: "bye".into() };
    socket.close(Some(frame)).unwrap();
    let Theirs::Close(Some(echo)) = socket.read().unwrap() else { panic!("no Close") };
    assert_eq!(u16::from(echo.code), 4_321);
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    drop(socket);
    wait_until("the slot is free", || server.handle().metrics().connections_now == 0);
}

#[test]
fn ten_thousand_messages_in_flight_come_back_in_order() {
    let config = Config::new().write_bytes_max(16 << 20);
    let server = TestServer::start(1, config, |_| Echo);
    let mut socket = connect(&server);
    for number in 0..10_000 {
        socket.write(Theirs::Text(format!("message {number}").into())).unwrap();
    }
    socket.flush().unwrap();
    for number in 0..10_000 {
        assert_eq!(socket.read().unwrap(), Theirs::Text(format!("message {number}").into()));
    }
}

/// Joins every connection to one topic, publishes what it receives, and reports.
struct Room {
    opened: Sender<(usize, ConnId)>,
    closed: Sender<(u16, String)>,
}

impl Handler for Room {
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

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        conn.subscribe("room").unwrap();
        self.opened.send((conn.shard(), conn.id())).unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        match message {
            Message::Text("leave") => {
                conn.publish("room", "before leaving");
                conn.publish_all("room", "all, before leaving");
                assert!(conn.unsubscribe("room"));
                conn.publish_all("room", "after leaving");
                conn.send("left");
            }
            Message::Text(text) if text.starts_with("others ") => conn.publish("room", text),
            message => conn.publish_all("room", message),
        }
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        _state: &mut (),
        code: CloseCode,
        reason: &str,
    ) {
        conn.publish("room", "somebody left");
        self.closed.send((code.as_u16(), reason.to_owned())).unwrap();
    }
}

type Opened = std::sync::mpsc::Receiver<(usize, ConnId)>;
type Closed = std::sync::mpsc::Receiver<(u16, String)>;

fn room(shards: usize) -> (TestServer, Opened, Closed) {
    let ((opened, opens), (closed, closes)) = (channel(), channel());
    let make = move |_| Room { opened: opened.clone(), closed: closed.clone() };
    (TestServer::start(shards, Config::new(), make), opens, closes)
}

fn expect_text(socket: &mut WebSocket<TcpStream>, text: &str) {
    assert_eq!(socket.read().unwrap(), Theirs::Text(text.into()));
}

#[test]
fn a_publish_comes_before_what_is_sent_after_it() {
    let (server, opens, _closes) = room(1);
    let (mut alice, mut bob) = (connect(&server), connect(&server));
    opens.iter().take(2).for_each(drop);
    alice.send(Theirs::Text("leave".into())).unwrap();
    expect_text(&mut alice, "all, before leaving");
    expect_text(&mut alice, "left");
    expect_text(&mut bob, "before leaving");
    expect_text(&mut bob, "all, before leaving");
    expect_text(&mut bob, "after leaving");
    bob.send(Theirs::Text("others only".into())).unwrap();
    bob.send(Theirs::Text("all".into())).unwrap();
    expect_text(&mut bob, "all");
}

/// The kernel deals connections out by their addresses, so a few dozen reach both shards.
#[test]
fn two_shards_both_own_connections_and_both_deliver_a_publish() {
    let (server, opens, closes) = room(2);
    let mut sockets: Vec<_> = (0..64).map(|_| connect(&server)).collect();
    let shards: HashSet<usize> = opens.iter().take(64).map(|(shard, _)| shard).collect();
    assert_eq!(shards, HashSet::from([0, 1]));

    for number in 0..100 {
        let text = format!("number {number}");
        sockets[0].send(Theirs::Text(text.into())).unwrap();
    }
    for socket in &mut sockets {
        for number in 0..100 {
            expect_text(socket, &format!("number {number}"));
        }
    }

    server.handle().publish("room", "from another thread").unwrap();
    sockets.iter_mut().for_each(|socket| expect_text(socket, "from another thread"));

    drop(sockets.pop());
    assert_eq!(closes.recv_timeout(PATIENCE).unwrap(), (1006, String::new()));
    sockets.iter_mut().for_each(|socket| expect_text(socket, "somebody left"));
}

#[test]
fn other_threads_send_to_one_connection_and_close_it() {
    let (server, opens, closes) = room(2);
    let mut socket = connect(&server);
    let (_, id) = opens.recv_timeout(PATIENCE).unwrap();
    let handle = server.handle();
    handle.send(id, b"only you".as_slice()).unwrap();
    assert_eq!(socket.read().unwrap(), Theirs::Binary(b"only you".as_slice().into()));
    handle.close(id, CloseCode::new(4_000).unwrap(), "enough").unwrap();
    let Theirs::Close(Some(frame)) = socket.read().unwrap() else { panic!("no Close") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4_000, "enough"));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    assert_eq!(closes.recv_timeout(PATIENCE).unwrap().0, 4_000);
    // The id names nothing any more, and that harms nobody.
    handle.send(id, "anyone?").unwrap();
    let mut next = connect(&server);
    opens.recv_timeout(PATIENCE).unwrap();
    next.send(Theirs::Text("all".into())).unwrap();
    expect_text(&mut next, "all");
}

#[test]
fn stopping_says_goodbye_to_everybody() {
    let (server, opens, closes) = room(2);
    let mut sockets: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    opens.iter().take(8).for_each(drop);
    let stopping = std::thread::spawn(move || server.stop());
    for socket in &mut sockets {
        // A shard that stops first may still publish to the other one that somebody left.
        let frame = loop {
            match socket.read().unwrap() {
                Theirs::Text(text) => assert_eq!(text.as_str(), "somebody left"),
                Theirs::Close(Some(frame)) => break frame,
                other => panic!("no Close: {other:?}"),
            }
        };
        assert_eq!(u16::from(frame.code), 1001);
        assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    }
    drop(sockets);
    stopping.join().unwrap().unwrap();
    // Both end here: every shard has dropped its handler.
    assert_eq!(closes.iter().map(|(code, _)| code).collect::<Vec<_>>(), [1001; 8]);
    assert_eq!(opens.iter().count(), 0);
}
