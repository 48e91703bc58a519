//! What handlers do to themselves: panics in every callback, every method called from every
//! callback, and closes that cause closes. The connection concerned ends in order or goes on
//! as documented; all others go on; one open is matched by one close.

mod harness;

use std::panic::resume_unwind;
use std::sync::mpsc::{Sender, channel};

use harness::recorder::{Acts, Call, recorded};
use harness::{PATIENCE, RawClient, ServerFrame, TestServer, close, handshake, text, wait_until};
use ringwire::{
    CloseCode, Config, Conn, Context, Handler, Message, Offer, Reply, Request, Response,
};
use ringwire::{SendStatus, Upgrade};

/// Panics in one callback, for connections and requests to `/panic`; echoes otherwise.
struct Fragile {
    callback: &'static str,
    closes: Sender<(bool, u16, String)>,
}

/// Whether a connection is to panic, and where.
#[derive(Clone, Copy, Default)]
struct Fuse {
    callback: &'static str,
    is_meant: bool,
}

impl Fuse {
    fn burn(self, callback: &'static str) {
        if self.is_meant && self.callback == callback {
            // As `panic!`, but without the message on standard error.
            resume_unwind(Box::new("on purpose"));
        }
    }
}

/// What is kept for each connection: dropping it is the application's code as well.
#[derive(Default)]
struct Kept(Fuse);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.burn("drop");
    }
}

impl Fragile {
    fn fuse(&self, request: &Request<'_>) -> Fuse {
        Fuse { callback: self.callback, is_meant: request.path() == "/panic" }
    }
}

impl Handler for Fragile {
    type State = Kept;
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _: &Offer<'_>,
    ) -> Upgrade<Kept> {
        let fuse = self.fuse(request);
        fuse.burn("on_upgrade");
        Upgrade::accept(Kept(fuse))
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, state: &mut Kept) {
        conn.subscribe("everybody").unwrap();
        state.0.burn("on_open");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, state: &mut Kept, message: Message<'_>) {
        conn.send(message);
        state.0.burn("on_message");
    }

    fn on_drain(&mut self, _conn: &mut Conn<'_, Self>, state: &mut Kept) {
        state.0.burn("on_drain");
    }

    fn on_close(
        &mut self,
        _conn: &mut Conn<'_, Self>,
        state: &mut Kept,
        code: CloseCode,
        reason: &str,
    ) {
        let fuse = state.0;
        self.closes.send((fuse.is_meant, code.as_u16(), reason.to_owned())).unwrap();
        fuse.burn("on_close");
    }

    fn on_request(&mut self, _cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        self.fuse(request).burn("on_request");
        Response::new(204).into()
    }
}

fn request(path: &str) -> Vec<u8> {
    String::from_utf8(handshake()).unwrap().replace("GET /", &format!("GET {path}")).into_bytes()
}

fn open_at(server: &TestServer, path: &str) -> RawClient {
    let mut client = server.connect();
    client.send(&request(path));
    assert_eq!(client.read_status(), 101);
    client
}

/// A name of a callback, what its victim does and sees, and the code `on_close` is told.
type Panic = (&'static str, fn(&TestServer), Option<u16>);

const PANICS: [Panic; 7] = [
    (
        "on_upgrade",
        |server| {
            let mut client = server.connect();
            client.send(&[request("/panic"), text("behind it")].concat());
            assert_eq!(client.read_last_response().status, 500);
        },
        None,
    ),
    (
        "on_request",
        |server| {
            let mut client = server.connect();
            client.send(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.read_last_response().status, 500);
        },
        None,
    ),
    (
        "on_open",
        |server| {
            let mut client = server.connect();
            client.send(&[request("/panic"), text("behind it")].concat());
            assert_eq!(client.read_status(), 101);
            client.expect_close(1011);
        },
        Some(1011),
    ),
    (
        "on_message",
        |server| {
            let mut client = open_at(server, "/panic");
            client.send(&text("one").repeat(3));
            assert_eq!(client.read_frame(), ServerFrame::text("one"), "sent before the panic");
            client.expect_close(1011);
        },
        Some(1011),
    ),
    (
        "on_drain",
        |server| {
            let mut client = open_at(server, "/panic");
            let long = "x".repeat(1 << 20);
            client.send(&text(&long));
            assert_eq!(client.read_frame(), ServerFrame::text(&long));
            client.expect_close(1011);
        },
        Some(1011),
    ),
    (
        "on_close",
        |server| {
            let mut client = open_at(server, "/panic");
            client.send(&close(4000, "bye"));
            client.expect_close(4000);
        },
        Some(4000),
    ),
    (
        "drop",
        |server| {
            let mut client = open_at(server, "/panic");
            client.send(&close(4000, "bye"));
            client.expect_close(4000);
        },
        Some(4000),
    ),
];

#[test]
fn panics() {
    for (callback, suffer, code) in PANICS {
        println!("panic in {callback}");
        let (sender, closes) = channel();
        let make = move |_| Fragile { callback, closes: sender.clone() };
        let server = TestServer::start(1, Config::new(), make);
        let mut bystander = open_at(&server, "/");
        for round in 1..=3 {
            suffer(&server);
            bystander.send(&text("still there?"));
            assert_eq!(bystander.read_frame(), ServerFrame::text("still there?"));
            let handle = server.handle();
            wait_until("it is counted", || handle.metrics().panics == round);
            if let Some(code) = code {
                let (is_meant, told, _) = closes.recv_timeout(PATIENCE).unwrap();
                assert_eq!((is_meant, told), (true, code));
            }
        }
        server.handle().publish("everybody", "to those who are left").unwrap();
        assert_eq!(bystander.read_frame(), ServerFrame::text("to those who are left"));
        drop(bystander);
        assert_eq!(closes.recv_timeout(PATIENCE).unwrap(), (false, 1006, String::new()));
        server.stop().unwrap();
        assert_eq!(closes.try_iter().count(), 0, "one close for one open");
    }
}

/// Everything a callback can do with an open connection but closing it.
fn do_all(conn: &mut Conn<'_, harness::recorder::Recorder>) {
    conn.subscribe("room").unwrap();
    conn.subscribe("room").expect("subscribed already");
    conn.publish("room", "to others");
    conn.publish_all("room", "to all");
    assert_eq!(conn.send("direct"), SendStatus::Queued);
    assert!(conn.unsubscribe("room"));
    assert!(!conn.unsubscribe("room"), "not subscribed any more");
    conn.publish_all("room", "to those who stay");
    assert_eq!(conn.ping(b"are you there?"), SendStatus::Queued);
    assert_eq!(conn.ping(&[0; 126]), SendStatus::Dropped, "too long");
    conn.subscribe("room").unwrap();
}

/// What the connection itself gets of [`do_all`], in this order.
fn expect_all(client: &mut RawClient) {
    assert_eq!(client.read_frame(), ServerFrame::text("to all"));
    assert_eq!(client.read_frame(), ServerFrame::text("direct"));
    assert_eq!(client.read_frame().first, 0x89);
}

fn expect_as_subscriber(client: &mut RawClient) {
    for expected in ["to others", "to all", "to those who stay"] {
        assert_eq!(client.read_frame(), ServerFrame::text(expected));
    }
}

/// What is left of everything when the connection is closing: publishing.
fn do_all_in_vain(conn: &mut Conn<'_, harness::recorder::Recorder>) {
    assert_eq!(conn.send("never"), SendStatus::Dropped);
    assert_eq!(conn.subscribe("room"), Ok(()));
    assert!(!conn.is_subscribed("room"), "it is closing");
    assert_eq!(conn.ping(b"never"), SendStatus::Dropped);
    conn.close(CloseCode::GOING_AWAY, "never");
    conn.publish("room", "last words");
    conn.publish_all("room", "last words");
    assert!(!conn.unsubscribe("elsewhere"));
}

fn expect_last_words(client: &mut RawClient) {
    for _ in 0..2 {
        assert_eq!(client.read_frame(), ServerFrame::text("last words"));
    }
}

#[test]
fn every_method_in_every_callback() {
    let acts = Acts {
        open: |conn| conn.subscribe("room").unwrap(),
        message: |conn, message| match message.payload() {
            b"all" => do_all(conn),
            // Over the mark: `on_drain` follows.
            b"drain" => assert_eq!(conn.send([0; 100_000]), SendStatus::Backpressure),
            b"close" => {
                conn.close(CloseCode::NORMAL, "");
                do_all_in_vain(conn);
            }
            _ => {}
        },
        drain: do_all,
        close: do_all_in_vain,
        ..Acts::default()
    };
    let (server, calls) = recorded(Config::new(), acts);
    let mut subscriber = server.open();
    let mut actor = server.open();

    actor.send(&text("all"));
    expect_all(&mut actor);
    expect_as_subscriber(&mut subscriber);

    actor.send(&text("drain"));
    assert_eq!(actor.read_frame().payload.len(), 100_000);
    expect_all(&mut actor);
    expect_as_subscriber(&mut subscriber);

    actor.send(&text("close"));
    assert_eq!(actor.read_frame().close_code(), 1000);
    expect_last_words(&mut subscriber);
    actor.send(&close(1000, ""));
    assert_eq!(actor.read_to_end(), b"");
    expect_last_words(&mut subscriber);
    drop(actor);

    // Left without a Close frame: what is done in vain is the same.
    drop(server.open());
    expect_last_words(&mut subscriber);
    server.open().reset();
    expect_last_words(&mut subscriber);
    subscriber.send(&close(1000, ""));
    subscriber.expect_close(1000);
    drop(subscriber);

    let handle = server.handle();
    let calls = calls.rest(server);
    assert_eq!(handle.metrics().panics, 0, "no assertion in a callback failed");
    let opens: Vec<_> = calls.iter().filter(|(_, call)| *call == Call::Open).collect();
    assert_eq!(opens.len(), 4);
    for (id, _) in opens {
        let of_this: Vec<_> = calls.iter().filter(|(other, _)| other == id).collect();
        let is_close = |call: &Call| matches!(call, Call::Close(..));
        assert_eq!(of_this.iter().filter(|(_, call)| is_close(call)).count(), 1);
        assert_eq!(of_this[0].1, Call::Open, "the first call");
        assert!(is_close(&of_this[of_this.len() - 1].1), "the last call");
    }
}

/// All in `on_open`, with frames already behind the handshake.
#[test]
fn every_method_in_on_open() {
    let acts = Acts { open: do_all, ..Acts::default() };
    let (server, _calls) = recorded(Config::new(), acts);
    let mut first = server.connect();
    first.send(&[handshake(), text("behind it")].concat());
    assert_eq!(first.read_status(), 101);
    expect_all(&mut first);
    assert_eq!(first.read_frame(), ServerFrame::text("behind it"));
    let mut second = server.open();
    expect_all(&mut second);
    expect_as_subscriber(&mut first);

    let acts = Acts {
        open: |conn| {
            conn.close(CloseCode::NORMAL, "");
            do_all_in_vain(conn);
        },
        ..Acts::default()
    };
    let (server, calls) = recorded(Config::new(), acts);
    let mut client = server.connect();
    client.send(&[handshake(), text("behind it"), close(1000, "")].concat());
    assert_eq!(client.read_status(), 101);
    client.expect_close(1000);
    drop(client);
    let handle = server.handle();
    assert_eq!(calls.rest(server).len(), 2, "one open and one close");
    assert_eq!(handle.metrics().panics, 0, "no assertion in a callback failed");
}

/// Each subscriber that is closed for a full buffer publishes its last words to the others,
/// which are full as well: all of them end, each once, and nothing goes round in circles.
#[test]
fn closes_that_cause_closes() {
    const SUBSCRIBERS: usize = 20;
    let acts = Acts {
        open: |conn| conn.subscribe("room").unwrap(),
        message: |conn, message| conn.publish("room", message),
        close: |conn| conn.publish("room", [7; 200_000]),
        ..Acts::default()
    };
    // One message fits, a second does not while the first is unsent. The publisher leaves with
    // a reset behind data, which it may take a ping to notice (see `PATIENCE`).
    let config =
        Config::new().write_bytes_max(250_000).close_timeout_ms(1_000).ping_interval_ms(2_000);
    let (server, calls) = recorded(config, acts);
    let subscribers: Vec<RawClient> = (0..SUBSCRIBERS).map(|_| server.open()).collect();
    let mut publisher = server.open();
    let publish = harness::binary(&[1; 1_000_000]);
    // The kernel takes some of them for each subscriber before the buffers fill.
    for _ in 0..40 {
        if publisher.try_send(&publish).is_err() {
            break;
        }
    }
    let mut closed = Vec::new();
    while closed.len() < SUBSCRIBERS {
        closed.push(calls.next_close().0);
    }
    assert!(closed.iter().all(|code| *code == 1013), "{closed:?}");
    drop((subscribers, publisher));
    server.wait_until_empty();
    drop(server.open());
    let rest = calls.rest(server);
    let closes = rest.iter().filter(|(_, call)| matches!(call, Call::Close(..))).count();
    assert_eq!(closes, 2, "the publisher's and that of the last one");
}

/// Leaving and joining topics while they are being published to, in every order: the lists
/// of subscribers stay right (uWebSockets#1751, #1038).
#[test]
fn subscribers_that_come_and_go_within_one_tick() {
    let acts = Acts {
        open: |conn| conn.subscribe("room").unwrap(),
        message: |conn, message| {
            let Message::Text(order) = message else { return };
            for word in order.split(' ') {
                match word {
                    "leave" => drop(conn.unsubscribe("room")),
                    "join" => conn.subscribe("room").unwrap(),
                    "say" => conn.publish_all("room", order),
                    "close" => conn.close(CloseCode::NORMAL, ""),
                    other => panic!("unexpected: {other}"),
                }
            }
        },
        ..Acts::default()
    };
    let (server, _calls) = recorded(Config::new(), acts);
    let mut clients: Vec<RawClient> = (0..6).map(|_| server.open()).collect();
    // Who acts, what is done, and how often it and each other one hears the order.
    let orders: [(usize, &str, usize, usize); 11] = [
        (0, "say leave", 1, 1),
        (2, "leave say", 0, 1),
        (0, "join say leave say join", 1, 2),
        (2, "say join say", 1, 2),
        (5, "leave join leave join say", 1, 1),
        (1, "say say leave say", 2, 3),
        (1, "leave say", 0, 1),
        (1, "join say", 1, 1),
        (4, "say leave close say", 1, 2),
        (3, "say close say", 1, 2),
        (0, "say", 1, 1),
    ];
    let mut absent = Vec::new();
    for (actor, order, heard, heard_by_others) in orders {
        clients[actor].send(&text(order));
        for (index, client) in clients.iter_mut().enumerate() {
            let times = match index {
                _ if index == actor => heard,
                _ if absent.contains(&index) => 0,
                _ => heard_by_others,
            };
            for _ in 0..times {
                assert_eq!(client.read_frame(), ServerFrame::text(order), "to {index}");
            }
        }
        absent.retain(|index| *index != actor);
        // A closing connection has left all topics.
        let is_move = |word: &&str| matches!(*word, "leave" | "join" | "close");
        if !matches!(order.split(' ').rfind(is_move), None | Some("join")) {
            absent.push(actor);
        }
    }
    for closed in [3, 4] {
        assert_eq!(clients[closed].read_frame().close_code(), 1000);
    }
}
