//! A server that stands still for a while: its process is stopped, or a callback does not return.
//! Whoever spoke meanwhile, or could not be heard, stays connected, whatever was due.
//!
//! Each test arms one kind of deadline, so that it is the first thing due when the server goes on.

mod harness;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::process::ServerProcess;
use harness::{
    NEVER_MS, PATIENCE, RawClient, ServerFrame, TestServer, close, frame, handshake, patient, ping,
    text, wait_until,
};
use ringwire::{CloseCode, Conn, Context, Handler, Message, Offer, Request, Upgrade};

/// The deadline under test. Far more than a client here takes to get ready.
const DEADLINE_MS: u32 = 3_000;
/// How long the server stands still: longer than any deadline that was armed before.
const STILL: Duration = Duration::from_millis(4_000);

/// More than the kernel holds of one connection.
const FILL_BYTES: usize = 30_000_000;

/// Echoes, but for three orders: `observe` tells a connection how others are closed, `fill` sends
/// much, `close` closes with 4000.
struct Ordered;

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
            Message::Text("observe") => {
                conn.subscribe("closes").unwrap();
                conn.send("observing");
            }
            Message::Text("fill") => {
                conn.send(vec![0; FILL_BYTES]);
            }
            Message::Text("close") => conn.close(CloseCode::new(4000).unwrap(), ""),
            message => {
                conn.send(message);
            }
        }
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        _state: &mut (),
        code: CloseCode,
        reason: &str,
    ) {
        conn.publish("closes", format!("{} {reason}", code.as_u16()).as_str());
    }
}

fn observer(server: &ServerProcess) -> RawClient {
    let mut observer = server.open();
    observer.send(&text("observe"));
    assert_eq!(observer.read_past_pings(), ServerFrame::text("observing"));
    observer
}

fn assert_echoes(client: &mut RawClient) {
    client.send(&text("still there?"));
    assert_eq!(client.read_past_pings(), ServerFrame::text("still there?"));
}

/// The request had begun, and its end lies in the socket.
#[test]
fn a_handshake_that_came_meanwhile() {
    let config = patient().handshake_timeout_ms(DEADLINE_MS);
    let name = "a_handshake_that_came_meanwhile";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let mut clients: Vec<RawClient> = (0..20).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(&handshake()[..20]));
    server.stopped_for(STILL, || {
        clients.iter_mut().for_each(|client| client.send(&handshake()[20..]));
    });
    for client in &mut clients {
        assert_eq!(client.read_status(), 101);
        assert_echoes(client);
    }
}

/// One that the server had no time to hear: it gets the rest of its time.
#[test]
fn a_handshake_that_comes_just_afterwards() {
    let config = patient()
        .handshake_timeout_ms(2 * DEADLINE_MS)
        // So that the server waits for a ping to be due, and not for the handshake.
        .ping_interval_ms(500)
        .pong_timeout_ms(NEVER_MS);
    let name = "a_handshake_that_comes_just_afterwards";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let mut busy = server.open();
    let mut client = server.connect();
    client.send(&handshake()[..20]);
    server.stopped_for(STILL * 3, || ());
    assert_echoes(&mut busy);
    client.send(&handshake()[20..]);
    assert_eq!(client.read_status(), 101);
    assert_echoes(&mut client);
}

/// A pong, or anything else, that lies in the socket answers the ping.
#[test]
fn pongs_that_came_meanwhile() {
    // The interval is no shorter, or it is the first thing due.
    let config = patient().ping_interval_ms(DEADLINE_MS).pong_timeout_ms(DEADLINE_MS);
    let name = "pongs_that_came_meanwhile";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let mut clients: Vec<RawClient> = (0..40).map(|_| server.open()).collect();
    for client in &mut clients {
        assert_eq!(client.read_frame().first, 0x89);
    }
    server.stopped_for(STILL, || {
        for (index, client) in clients.iter_mut().enumerate() {
            let answers = [frame(0x8A, b""), ping(b"x"), text("x"), frame(0x8A, b"")[..1].to_vec()];
            client.send(&answers[index % answers.len()]);
        }
    });
    for (index, client) in clients.iter_mut().enumerate() {
        match index % 4 {
            0 => {}
            1 => assert_eq!(
                client.read_past_pings(),
                ServerFrame { first: 0x8A, payload: b"x".into() }
            ),
            2 => assert_eq!(client.read_past_pings(), ServerFrame::text("x")),
            _ => client.send(&frame(0x8A, b"")[1..]),
        }
        assert_echoes(client);
    }
}

/// More than there are receive buffers, and each message fills two of them, so that most receives
/// end without one: they are heard before they are judged all the same.
#[test]
fn more_that_came_meanwhile_than_there_are_buffers() {
    let config = patient()
        .idle_timeout_ms(2 * DEADLINE_MS)
        .receive_buffer_bytes(512)
        .receive_buffers_min(2)
        .receive_buffers_max(2);
    let name = "more_that_came_meanwhile_than_there_are_buffers";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let mut clients: Vec<RawClient> = (0..200).map(|_| server.open()).collect();
    let message = text(&"x".repeat(1_000));
    server.stopped_for(STILL * 2, || {
        clients.iter_mut().for_each(|client| client.send(&message));
    });
    for client in &mut clients {
        assert_eq!(client.read_frame(), ServerFrame::text(&"x".repeat(1_000)));
        assert_echoes(client);
    }
    drop(clients);
    let metrics = server.stop();
    assert!(!metrics.contains("receives_unbuffered: 0,"), "there was a buffer for each: {metrics}");
}

#[test]
fn a_word_that_came_meanwhile_of_an_idle_peer() {
    let config = patient().idle_timeout_ms(DEADLINE_MS);
    let name = "a_word_that_came_meanwhile_of_an_idle_peer";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let mut clients: Vec<RawClient> = (0..20).map(|_| server.open()).collect();
    server.stopped_for(STILL, || {
        clients.iter_mut().for_each(|client| client.send(&text("hello")));
    });
    for client in &mut clients {
        assert_eq!(client.read_frame(), ServerFrame::text("hello"));
        assert_echoes(client);
    }
}

/// The rest of a message that had begun.
#[test]
fn the_rest_of_a_message_that_came_meanwhile() {
    let config = patient().message_timeout_ms(DEADLINE_MS);
    let name = "the_rest_of_a_message_that_came_meanwhile";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let whole = text("in two pieces");
    let mut in_pieces = server.open();
    let mut in_fragments = server.open();
    in_pieces.send(&whole[..9]);
    in_fragments.send(&frame(0x01, b"in two "));
    // Answered only when both have begun.
    assert_echoes(&mut server.open());
    server.stopped_for(STILL, || {
        in_pieces.send(&whole[9..]);
        in_fragments.send(&frame(0x80, b"pieces"));
    });
    for mut client in [in_pieces, in_fragments] {
        assert_eq!(client.read_frame(), ServerFrame::text("in two pieces"));
        assert_echoes(&mut client);
    }
}

/// The peer had read nothing when the server was stopped, and reads everything there is meanwhile.
#[test]
fn reading_that_went_on_meanwhile() {
    let config = patient().write_timeout_ms(DEADLINE_MS);
    let name = "reading_that_went_on_meanwhile";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let mut client = server.open();
    client.send(&text("fill"));
    client.stream.peek(&mut [0]).expect("it has begun");
    server.stopped_for(STILL, || client.read_what_is_there());
    // The deadline falls into this pause, in which nothing is taken: memory that is given back
    // after two seconds was due before it when the server went on.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(client.read_frame().payload.len(), FILL_BYTES);
    assert_echoes(&mut client);
}

/// The peer's answer to our Close, which the handler is told of; after the deadline it would be
/// told of none.
#[test]
fn a_close_that_was_answered_meanwhile() {
    let config = patient().close_timeout_ms(DEADLINE_MS);
    let name = "a_close_that_was_answered_meanwhile";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let mut observer = observer(&server);
    let mut client = server.open();
    client.send(&text("close"));
    assert_eq!(client.read_frame().close_code(), 4000);
    server.stopped_for(STILL, || client.send(&close(4001, "fine")));
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(observer.read_frame(), ServerFrame::text("4001 fine"));
}

/// Peers that were pinged before the server stood still, and answer just afterwards.
#[test]
fn standing_still_is_nobodys_silence() {
    let config = patient()
        .ping_interval_ms(500)
        .pong_timeout_ms(2 * DEADLINE_MS)
        .idle_timeout_ms(3 * DEADLINE_MS);
    let name = "standing_still_is_nobodys_silence";
    let server = ServerProcess::start(name, "-c 0", config, |_| Ordered);
    let mut clients: Vec<RawClient> = (0..20).map(|_| server.open()).collect();
    for client in &mut clients {
        assert_eq!(client.read_frame().first, 0x89);
    }
    server.stopped_for(STILL * 3, || ());
    // The server has served somebody since: it is not the first tick that hears them.
    assert_echoes(&mut server.open());
    clients.iter_mut().for_each(assert_echoes);
}

/// Echoes; on `block` it tells so, and goes on when it is told to.
struct Blocking {
    blocked: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Handler for Blocking {
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
        if message == Message::Text("block") {
            self.blocked.send(()).unwrap();
            self.go_on.lock().unwrap().recv_timeout(PATIENCE).expect("the test goes on");
        }
        conn.send(message);
    }
}

/// A callback that takes longer than every deadline of the others: those who answered meanwhile
/// stay, and so do those who answer just afterwards.
#[test]
fn a_callback_that_blocks() {
    let config = patient()
        .handshake_timeout_ms(2 * DEADLINE_MS)
        .ping_interval_ms(500)
        .pong_timeout_ms(DEADLINE_MS)
        .idle_timeout_ms(2 * DEADLINE_MS)
        .message_timeout_ms(DEADLINE_MS)
        .receive_buffers_min(4)
        .receive_buffers_max(4);
    let ((blocked, is_blocked), (go_on, goes_on)) = (channel(), channel());
    let goes_on = Arc::new(Mutex::new(goes_on));
    let make = move |_| Blocking { blocked: blocked.clone(), go_on: Arc::clone(&goes_on) };
    let server = TestServer::start(1, config, make);
    let mut blocking = server.open();
    let mut early: Vec<RawClient> = (0..30).map(|_| server.open()).collect();
    let mut late: Vec<RawClient> = (0..30).map(|_| server.open()).collect();
    let mut opening = server.connect();
    opening.send(&handshake()[..20]);
    for client in early.iter_mut().chain(&mut late) {
        assert_eq!(client.read_frame().first, 0x89);
    }
    blocking.send(&text("block"));
    is_blocked.recv_timeout(PATIENCE).expect("the callback is called");
    early.iter_mut().for_each(|client| client.send(&frame(0x8A, b"")));
    std::thread::sleep(STILL * 2);
    go_on.send(()).unwrap();
    assert_eq!(blocking.read_past_pings(), ServerFrame::text("block"));
    opening.send(&handshake()[20..]);
    assert_eq!(opening.read_status(), 101);
    early.iter_mut().chain(&mut late).chain([&mut opening, &mut blocking]).for_each(assert_echoes);
    let handle = server.handle();
    wait_until("they are counted", || handle.metrics().handshakes_accepted == 62);
    assert_eq!(handle.metrics().connections_now, 62);
}
