//! Peers that read slowly or not at all: what `send` answers, what is kept, what is dropped,
//! and when such a peer is let go.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use harness::{PATIENCE, RawClient, ServerFrame, TestServer, close, frame, ping, text, wait_until};
use ringwire::{
    CloseCode, Config, Conn, ConnId, Context, Handler, Message, Offer, Overflow, Request,
    SendStatus, Upgrade,
};

/// What the server tells the test.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Sent(SendStatus),
    /// That many pings were taken.
    Pinged(usize),
    Done,
    Drain,
    Close(u16),
}

/// Sends and publishes much on demand: the message is `send COUNT BYTES`, `publish COUNT
/// BYTES`, `ping COUNT`, `close` or `done`.
struct Flooder {
    events: Sender<(ConnId, Event)>,
}

impl Flooder {
    fn tell(&self, conn: &Conn<'_, Self>, event: Event) {
        // A test that is over listens no more.
        let _ = self.events.send((conn.id(), event));
    }
}

/// Message number `index` of a flood: its number is at its start.
fn numbered(index: usize, bytes: usize) -> Vec<u8> {
    let mut message = format!("{index:08}").into_bytes();
    message.resize(bytes, b'.');
    message
}

impl Handler for Flooder {
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
        conn.subscribe("flood").unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        let Message::Text(order) = message else { return };
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["send", count, bytes] => {
                for index in 0..count.parse().unwrap() {
                    let status = conn.send(numbered(index, bytes.parse().unwrap()));
                    self.tell(conn, Event::Sent(status));
                }
            }
            ["publish", count, bytes] => {
                for index in 0..count.parse().unwrap() {
                    conn.publish("flood", numbered(index, bytes.parse().unwrap()));
                }
            }
            ["ping", count] => {
                let pings = 0..count.parse().unwrap();
                let taken = pings
                    .filter(|&index| conn.ping(&numbered(index, 8)) != SendStatus::Dropped)
                    .count();
                self.tell(conn, Event::Pinged(taken));
            }
            ["close"] => conn.close(CloseCode::NORMAL, "enough"),
            _ => {
                conn.send("done");
            }
        }
        self.tell(conn, Event::Done);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        self.tell(conn, Event::Drain);
        conn.send("drained");
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        _state: &mut (),
        code: CloseCode,
        _reason: &str,
    ) {
        self.tell(conn, Event::Close(code.as_u16()));
    }
}

struct Events(Receiver<(ConnId, Event)>);

impl Events {
    fn next(&self) -> Event {
        self.0.recv_timeout(PATIENCE).expect("something happens").1
    }

    /// What became of each message of the flood asked for last.
    fn statuses(&self) -> Vec<SendStatus> {
        let mut statuses = Vec::new();
        loop {
            match self.next() {
                Event::Sent(status) => statuses.push(status),
                Event::Done => return statuses,
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
}

fn flooder(config: Config) -> (TestServer, Events) {
    let (sender, events) = channel();
    let make = move |_| Flooder { events: sender.clone() };
    (TestServer::start(1, config, make), Events(events))
}

/// Nothing fires but what a test sets.
fn patient() -> Config {
    Config::new()
        .handshake_timeout_ms(600_000)
        .ping_interval_ms(0)
        .idle_timeout_ms(0)
        .write_timeout_ms(0)
        .close_timeout_ms(600_000)
        .write_bytes_max(1 << 20)
}

/// So much that the kernel's buffers on both sides of a loopback connection cannot hold it:
/// they grow to some 10 MiB.
const TOO_MUCH: &str = "send 1 100000000";

const BYTES: usize = 64 << 10;
const HEADER_BYTES: usize = 10;

/// Reads messages of a flood from number 0 on, without a hole, until another frame comes.
fn read_flood(client: &mut RawClient) -> (usize, ServerFrame) {
    for index in 0..100_000 {
        let frame = client.read_frame();
        if frame.first != 0x82 {
            return (index, frame);
        }
        assert!(frame.payload == numbered(index, frame.payload.len()), "out of order: {frame:?}");
    }
    panic!("a flood without end");
}

fn count(statuses: &[SendStatus], status: SendStatus) -> usize {
    statuses.iter().filter(|s| **s == status).count()
}

/// The statuses are a matter of bytes: up to the mark, up to the limit, beyond.
#[test]
fn send_says_what_becomes_of_a_message() {
    let config = patient()
        .write_bytes_mark(4 * (BYTES + HEADER_BYTES))
        .write_bytes_max(10 * (BYTES + HEADER_BYTES))
        .overflow(Overflow::Drop);
    let (server, events) = flooder(config);
    let mut client = server.open();
    client.send(&text(&format!("send 15 {BYTES}")));
    let statuses = events.statuses();
    let expected: Vec<SendStatus> = [
        [SendStatus::Queued].repeat(4),
        [SendStatus::Backpressure].repeat(6),
        [SendStatus::Dropped].repeat(5),
    ]
    .concat();
    assert_eq!(statuses, expected);
    let (messages, frame) = read_flood(&mut client);
    assert_eq!((messages, frame), (10, ServerFrame::text("drained")));
    assert_eq!(events.next(), Event::Drain);
    let handle = server.handle();
    wait_until("the counters are there", || handle.metrics().messages_dropped == 5);
    // The connection goes on, with room for as much again.
    client.send(&text(&format!("send 10 {BYTES}")));
    assert_eq!(count(&events.statuses(), SendStatus::Dropped), 0);
    assert_eq!(read_flood(&mut client), (10, ServerFrame::text("drained")));
}

/// With nothing queued a message of any size is taken; it is a peer's to be slow, not the
/// message's to be long.
#[test]
fn one_message_beyond_the_limit() {
    let config = patient().write_bytes_max(1_000).write_bytes_mark(1_000);
    let (server, events) = flooder(config);
    let mut client = server.open();
    client.send(&text("send 1 5000000"));
    assert_eq!(events.statuses(), [SendStatus::Backpressure]);
    assert_eq!(read_flood(&mut client), (1, ServerFrame::text("drained")));
}

/// A burst counts like one message where nothing is queued: a subscriber that reads is not
/// closed because others publish much at once.
#[test]
fn one_burst_beyond_the_limit() {
    let config = patient().write_bytes_max(1_000).write_bytes_mark(1_000);
    let (server, _events) = flooder(config);
    let mut subscriber = server.open();
    // An answer says that it is subscribed.
    subscriber.send(&text("done"));
    assert_eq!(subscriber.read_frame(), ServerFrame::text("done"));
    let mut publisher = server.open();
    publisher.send(&text("publish 28 618"));
    for index in 0..28 {
        assert_eq!(subscriber.read_frame().payload, numbered(index, 618));
    }
}

/// `Overflow::Close`: a peer sees every message or is closed, never a hole.
#[test]
fn a_full_write_buffer_closes() {
    let (server, events) = flooder(patient());
    let mut client = server.open();
    client.send(&text(&format!("send 100 {BYTES}")));
    let statuses = events.statuses();
    let kept = statuses.iter().position(|status| *status == SendStatus::Dropped).unwrap();
    assert_eq!(count(&statuses[kept..], SendStatus::Dropped), 100 - kept);
    assert_eq!(events.next(), Event::Close(1013));
    let (messages, last) = read_flood(&mut client);
    assert_eq!((messages, last.close_code()), (kept, 1013));
    assert_eq!(client.read_to_end(), b"");
}

/// Nothing smaller slips in behind a message that did not fit.
#[test]
fn behind_a_message_that_did_not_fit_comes_only_the_close() {
    let (server, events) = flooder(patient());
    let mut client = server.open();
    client.send(&[text(&format!("send 100 {BYTES}")), text("done")].concat());
    let (_, last) = read_flood(&mut client);
    assert_eq!(last.close_code(), 1013);
    events.statuses();
}

/// The application's pings count like messages: a handler that pings for whatever it hears
/// must not fill the memory for a peer that does not read. It used to.
#[test]
fn pings_stop_when_the_write_buffer_is_full() {
    const PING_BYTES: usize = 2 + 8;
    let limit = 100 * PING_BYTES;
    let config = patient().write_bytes_max(limit).write_bytes_mark(limit);
    let (server, events) = flooder(config);
    let mut client = server.open();
    client.send(&text("ping 1000"));
    assert_eq!((events.next(), events.next()), (Event::Pinged(100), Event::Done));
    for index in 0..100 {
        let frame = client.read_frame();
        assert_eq!((frame.first, frame.payload), (0x89, numbered(index, 8)));
    }
    // Nobody is closed for it, and there is room again.
    client.send(&text("done"));
    assert_eq!(client.read_frame(), ServerFrame::text("done"));
}

/// Whoever closes behind a message that did not fit does not make it whole: the peer is told
/// 1013, and so is the handler. The peer used to be told 1000.
#[test]
fn closing_behind_a_message_that_did_not_fit() {
    let (server, events) = flooder(patient());
    let mut client = server.open();
    client.send(&[text(&format!("send 100 {BYTES}")), text("close")].concat());
    let (messages, last) = read_flood(&mut client);
    assert!(messages < 100);
    assert_eq!(last.close_code(), 1013);
    events.statuses();
    assert_eq!((events.next(), events.next()), (Event::Done, Event::Close(1013)));
}

/// Closed for a full buffer and flooding itself: the limit on dropped input holds here too.
/// It used to be lost on a connection that had been failed from within.
#[test]
fn a_peer_closed_for_a_full_buffer_that_never_stops_sending() {
    let config = patient().drain_bytes_max(64 << 10);
    let (server, events) = flooder(config);
    let mut client = server.open();
    client.send(&text(&format!("send 100 {BYTES}")));
    events.statuses();
    let (_, last) = read_flood(&mut client);
    assert_eq!(last.close_code(), 1013);
    let chunk = vec![0; 1 << 20];
    let is_cut_off = (0..256).any(|_| client.try_send(&chunk).is_err());
    assert!(is_cut_off, "256 MiB behind a Close frame");
    server.wait_until_empty();
}

/// Its Close frame cannot be sent: the peer is cut off when its time to close is over.
#[test]
fn a_full_write_buffer_and_a_peer_that_never_reads() {
    let config = patient().close_timeout_ms(200);
    let (server, events) = flooder(config);
    let mut client = server.open();
    client.send(&[text(TOO_MUCH), text(&format!("send 1 {BYTES}"))].concat());
    assert_eq!(events.statuses(), [SendStatus::Backpressure]);
    assert_eq!(events.statuses(), [SendStatus::Dropped]);
    assert_eq!(events.next(), Event::Close(1013));
    server.wait_until_empty();
    client.expect_gone();
}

/// Closed by the application with much unsent: what was queued before comes first, and the
/// deadline holds if it does not go out.
#[test]
fn closing_behind_much_that_is_unsent() {
    let (server, events) = flooder(patient());
    let mut client = server.open();
    client.send(&[text("send 1 30000000"), text("close")].concat());
    let (messages, last) = read_flood(&mut client);
    assert_eq!((messages, last.close_code()), (1, 1000));
    client.send(&close(1000, ""));
    assert_eq!(client.read_to_end(), b"");
    events.statuses();

    let config = patient().close_timeout_ms(200);
    let (server, events) = flooder(config);
    let mut client = server.open();
    client.send(&[text(TOO_MUCH), text("close")].concat());
    events.statuses();
    server.wait_until_empty();
    assert_eq!(events.next(), Event::Done);
    assert_eq!(events.next(), Event::Close(1006));
    client.expect_gone();
}

/// One long message and nothing after it: the stall is found although no further event
/// brings the connection up. It used to be found by the next ping only.
#[test]
fn a_peer_that_never_reads_is_cut_off() {
    let config = patient().write_timeout_ms(300);
    let (server, events) = flooder(config);
    let mut client = server.open();
    client.send(&text(TOO_MUCH));
    assert_eq!(events.statuses(), [SendStatus::Backpressure]);
    assert_eq!(events.next(), Event::Close(1006));
    server.wait_until_empty();
    client.expect_gone();
}

/// Whoever reads slowly, but reads, is not cut off: each byte taken counts.
#[test]
fn a_slow_reader_is_not_cut_off() {
    let config = patient().write_timeout_ms(2_000);
    let (server, events) = flooder(config);
    let mut client = server.open();
    client.send(&text("send 1 40000000"));
    assert_eq!(events.statuses(), [SendStatus::Backpressure]);
    // Some three seconds for the first half: longer than the timeout.
    client.read_slowly(20_000_000, 400_000);
    assert_eq!(read_flood(&mut client), (1, ServerFrame::text("drained")));
}

/// A subscriber that does not read loses what does not fit, or is closed; the others get
/// everything.
#[test]
fn publishing_to_a_subscriber_that_does_not_read() {
    for overflow in [Overflow::Drop, Overflow::Close] {
        let config = patient().overflow(overflow).close_timeout_ms(200);
        let (server, events) = flooder(config);
        let mut stalled = server.open();
        stalled.send(&text(TOO_MUCH));
        assert_eq!(events.statuses(), [SendStatus::Backpressure]);
        let mut reader = server.open();
        let mut publisher = server.open();
        for _ in 0..5 {
            publisher.send(&text("publish 5 10000"));
            for index in 0..5 {
                assert_eq!(reader.read_frame().payload, numbered(index, 10_000));
            }
        }
        let handle = server.handle();
        match overflow {
            Overflow::Drop => {
                // Five times five, each of them counted.
                wait_until("they are counted", || handle.metrics().messages_dropped == 25);
                assert_eq!(handle.metrics().connections_now, 3);
            }
            Overflow::Close => {
                wait_until("only two are left", || handle.metrics().connections_now == 2);
                assert!(events.0.try_iter().any(|(_, event)| event == Event::Close(1013)));
            }
        }
    }
}

/// A peer that pings and does not read is owed one pong, the newest (RFC 6455 §5.5.3).
#[test]
fn pings_of_a_peer_that_does_not_read() {
    let (server, events) = flooder(patient());
    let mut client = server.open();
    client.send(&text("send 1 40000000"));
    assert_eq!(events.statuses(), [SendStatus::Backpressure]);
    let pings: Vec<u8> = (0..10).flat_map(|i| ping(format!("ping {i}").as_bytes())).collect();
    // A message that is only received, to know when the pings have been.
    client.send(&[pings, frame(0x82, b"behind")].concat());
    let handle = server.handle();
    wait_until("the pings are received", || handle.metrics().messages_received == 2);
    let (messages, pong) = read_flood(&mut client);
    assert_eq!((messages, pong.first, &pong.payload[..]), (1, 0x8A, &b"ping 9"[..]));
    assert_eq!(client.read_frame(), ServerFrame::text("drained"));
}

/// Sends `fill` back as more than the kernel takes. Publishes any other message, but only when
/// another connection has been reset meanwhile.
struct Belated {
    called: Sender<()>,
    is_reset: Arc<AtomicBool>,
    closes: Sender<u16>,
}

impl Handler for Belated {
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
        conn.subscribe("first").unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        self.called.send(()).unwrap();
        if message == Message::Text("fill") {
            conn.send(vec![0; 100_000_000]);
            return;
        }
        wait_until("the other one is reset", || self.is_reset.load(Ordering::Acquire));
        conn.publish("first", message);
        conn.send("done");
    }

    fn on_close(
        &mut self,
        _: &mut Conn<'_, Self>,
        _state: &mut (),
        code: CloseCode,
        _reason: &str,
    ) {
        self.closes.send(code.as_u16()).unwrap();
    }
}

/// A full buffer is to close it when the tick is over, but then its reset is there first: it is
/// closed once, and nothing is left to be closed again.
#[test]
fn a_reader_that_is_gone_before_its_full_buffer_closes_it() {
    let (called, calls) = channel();
    let (closes, closed) = channel();
    let is_reset = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_reset);
    let make = move |_| Belated {
        called: called.clone(),
        is_reset: Arc::clone(&flag),
        closes: closes.clone(),
    };
    let server = TestServer::start(1, patient(), make);
    let (mut reader, mut writer) = (server.open(), server.open());
    reader.send(&text("fill"));
    calls.recv_timeout(PATIENCE).expect("the callback is called");
    writer.send(&text(&"x".repeat(1_000)));
    calls.recv_timeout(PATIENCE).expect("the callback is called");
    reader.reset();
    is_reset.store(true, Ordering::Release);
    assert_eq!(writer.read_frame(), ServerFrame::text("done"));
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(1006));
    assert_eq!(server.handle().metrics().messages_dropped, 1);
    drop(writer);
    server.wait_until_empty();
    server.stop().expect("no shard panics");
    assert_eq!(closed.try_iter().collect::<Vec<_>>(), [1006], "the writer's");
}
