//! Peers that read slowly but without a pause, too slowly, or not at all: the first keep their
//! connection and get everything, the others lose it in bounded time.
//!
//! A slow peer paces itself. It reads far more within each deadline than it must, and its receive
//! buffer is so small that its machine acknowledges only what it has read.

mod harness;

use std::time::{Duration, Instant};

use harness::{
    NEVER_MS, PATIENCE, RawClient, ServerFrame, TestServer, binary, patient, ping, text, wait_until,
};
use ringwire::{
    CloseCode, Config, Conn, Context, Handler, Message, Offer, Overflow, Request, Upgrade,
};

/// Echoes, but for some orders: `fill` sends much, `close` closes with 4000, `join` subscribes and
/// `publish` publishes.
struct Ordered;

/// More than the kernel holds of one connection.
const FILL_BYTES: usize = 30_000_000;

impl Handler for Ordered {
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
        match message {
            Message::Text("fill") => {
                conn.send(vec![0; FILL_BYTES]);
            }
            Message::Text("close") => conn.close(CloseCode::new(4000).unwrap(), ""),
            Message::Text("join") => {
                conn.subscribe("room").unwrap();
                conn.send("joined");
            }
            Message::Text("publish") => conn.publish("room", [0; 10_000]),
            message => {
                conn.send(message);
            }
        }
    }
}

fn server(config: Config) -> TestServer {
    TestServer::start(1, config, |_| Ordered)
}

/// Reads 20 kB in some 100 ms.
struct SlowReader {
    client: RawClient,
}

impl SlowReader {
    const PIECE_BYTES: usize = 20_000;

    fn open(server: &TestServer) -> Self {
        Self { client: RawClient::open_narrow(server.addr()) }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
    }

    /// Reads so much, and keeps it for the next frame.
    fn read(&mut self, bytes: usize) {
        for _ in 0..bytes / Self::PIECE_BYTES {
            std::thread::sleep(Duration::from_millis(100));
            self.client.read_exactly(Self::PIECE_BYTES);
        }
    }

    /// Reads on until the connection is gone.
    fn read_until_gone(mut self) {
        loop {
            std::thread::sleep(Duration::from_millis(100));
            if self.client.try_read(Self::PIECE_BYTES).is_none() {
                return;
            }
        }
    }
}

/// All the deadlines that look at how a peer reads or answers.
fn strict() -> Config {
    const DEADLINE_MS: u32 = 2_000;
    patient()
        .idle_timeout_ms(DEADLINE_MS * 3 / 2)
        .ping_interval_ms(DEADLINE_MS / 2)
        .pong_timeout_ms(DEADLINE_MS)
        .write_timeout_ms(DEADLINE_MS)
        .close_timeout_ms(DEADLINE_MS)
}

const PART: usize = 500_000;

/// What the kernel has taken is not what the peer has read: the pings lie behind it, and so does
/// what is written. Ten seconds of reading, with deadlines of two.
#[test]
fn a_reader_that_is_slow_and_never_pauses() {
    let server = server(strict());
    let mut reader = SlowReader::open(&server);
    for _ in 0..4 {
        reader.send(&binary(&[b'x'; PART]));
    }
    reader.read(4 * PART);
    for _ in 0..4 {
        let frame = reader.client.read_past_pings();
        assert!(frame.first == 0x82 && frame.payload == [b'x'; PART], "{frame:?}");
    }
    reader.send(&text("still there?"));
    assert_eq!(reader.client.read_past_pings(), ServerFrame::text("still there?"));
}

/// A Close frame is behind a backlog, of which the kernel holds a part only, for longer than
/// `close_timeout_ms`, and arrives: that of the application, and that of a full write buffer, which
/// is meant for slow readers.
#[test]
fn a_close_reaches_a_slow_reader() {
    let server = server(strict());
    for (order, code) in [("close", 4000), ("a message that does not fit", 1013)] {
        let mut reader = SlowReader::open(&server);
        reader.send(&[text("fill"), text(order)].concat());
        // For more than twice as long. Then the test has seen enough.
        reader.read(1_000_000);
        assert_eq!(reader.client.read_past_pings().payload.len(), FILL_BYTES);
        assert_eq!(reader.client.read_past_pings().close_code(), code);
        reader.send(&harness::close(code, ""));
        assert_eq!(reader.client.read_to_end(), b"");
    }
}

/// A pong goes out in its place, not when the peer has caught up: the server never comes below the
/// mark before it is read.
#[test]
fn a_pong_reaches_a_peer_that_stays_above_the_mark() {
    let config = patient().write_bytes_max(4 * FILL_BYTES);
    let server = server(config);
    let mut client = server.open();
    client.send(&[text("fill"), ping(b"there?"), text("fill")].concat());
    let handle = server.handle();
    wait_until("all of it is received", || handle.metrics().messages_received == 2);
    assert_eq!(client.read_frame().payload.len(), FILL_BYTES);
    assert_eq!(client.read_frame(), ServerFrame { first: 0x8A, payload: b"there?".into() });
    assert_eq!(client.read_frame().payload.len(), FILL_BYTES);
}

/// Any progress is not enough: it bounds how long a full write buffer can be held.
#[test]
fn a_reader_below_the_least_rate() {
    let config = patient()
        .write_timeout_ms(1_000)
        // Five times what it reads; the rest of the message would take two minutes.
        .write_rate_bytes_min(1_000_000);
    let server = server(config);
    let mut reader = SlowReader::open(&server);
    reader.send(&text("fill"));
    let handle = server.handle();
    wait_until("it is there", || handle.metrics().messages_sent == 1);
    let reading = std::thread::spawn(|| reader.read_until_gone());
    server.wait_until_empty();
    reading.join().unwrap();
    assert_eq!(server.handle().metrics().connections_reset, 0, "it is the server that ended it");
}

/// At the rate itself, or above, it is served for as long as it takes.
#[test]
fn a_reader_above_the_least_rate() {
    let config = patient().write_timeout_ms(1_000).write_rate_bytes_min(10_000);
    let server = server(config);
    let mut reader = SlowReader::open(&server);
    reader.send(&text("fill"));
    reader.read(1_200_000);
    assert_eq!(reader.client.read_frame().payload.len(), FILL_BYTES);
}

/// A peer that reads nothing is gone in bounded time, whether its backlog lies with us or with the
/// kernel, and whether its machine acknowledges pings or publishes meanwhile.
#[test]
fn peers_that_read_nothing() {
    let config = strict().overflow(Overflow::Drop);
    let server = server(config);
    let mut ours = server.open();
    ours.send(&text("fill"));
    let mut kernels = RawClient::open_narrow(server.addr());
    kernels.send(&binary(&[0; PART]));
    let only_pinged = server.open();
    let mut closed = server.open();
    closed.send(&text("close"));
    let mut closed_behind_much = server.open();
    closed_behind_much.send(&[text("fill"), text("close")].concat());
    let mut subscriber = RawClient::open_narrow(server.addr());
    subscriber.send(&text("join"));
    assert_eq!(subscriber.read_frame(), ServerFrame::text("joined"));
    let mut publisher = server.open();
    let handle = server.handle();
    let start = Instant::now();
    while handle.metrics().connections_now > 1 {
        assert!(start.elapsed() < PATIENCE, "{:?}", handle.metrics());
        publisher.send(&text("publish"));
        std::thread::sleep(Duration::from_millis(20));
    }
    publisher.send(&text("still there?"));
    assert_eq!(publisher.read_past_pings(), ServerFrame::text("still there?"));
    drop((ours, kernels, only_pinged, closed, closed_behind_much, subscriber));
}

/// Who is mute when the server stops has `close_timeout_ms`, however long the drain may take.
#[test]
fn stopping_does_not_wait_for_the_mute() {
    let config = patient().close_timeout_ms(500).drain_timeout_ms(NEVER_MS);
    let server = server(config);
    let mute: Vec<RawClient> = (0..5).map(|_| server.open()).collect();
    let mut stalled = server.open();
    stalled.send(&text("fill"));
    stalled.stream.peek(&mut [0]).expect("it has begun");
    let start = Instant::now();
    server.stop().expect("no shard panics");
    assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
    drop(mute);
}

/// Who makes progress has as long as the drain may take, and no longer.
#[test]
fn stopping_waits_for_those_that_make_progress() {
    const DRAIN: Duration = Duration::from_secs(6);
    let config = patient().close_timeout_ms(2_000).drain_timeout_ms(DRAIN.as_millis() as u32);
    let server = server(config);
    let mut mute = server.open();
    let mut quick = server.open();
    quick.send(&text("fill"));
    let mut reader = SlowReader::open(&server);
    reader.send(&text("fill"));
    let handle = server.handle();
    wait_until("all of it is queued", || handle.metrics().messages_sent == 2);
    let start = Instant::now();
    let stopping = std::thread::spawn(move || server.stop());
    let reading = std::thread::spawn(|| reader.read_until_gone());
    let quicks = quick.read_frame();
    assert_eq!(quicks.payload.len(), FILL_BYTES);
    assert_eq!(quick.read_frame().close_code(), 1001);
    quick.send(&harness::close(1001, ""));
    stopping.join().unwrap().expect("no shard panics");
    let took = start.elapsed();
    // The server's clock is coarse. Without an end to the drain the reader would take minutes.
    let coarse = Duration::from_millis(20);
    assert!(DRAIN - coarse <= took && took < PATIENCE, "it took {took:?}");
    reading.join().unwrap();
    assert_eq!(mute.read_frame().close_code(), 1001);
    mute.expect_gone();
}
