//! Many bytes published at one moment: who reads gets all of them, and who is behind loses message
//! by message, each of them counted.

mod harness;

use std::sync::{Arc, Barrier};
use std::thread;

use harness::{RawClient, ServerFrame, TestServer, binary, text, wait_until};
use ringwire::{Config, Conn, Context, Handler, Message, Offer, Overflow, Request, Upgrade};

/// Puts every connection into a room, and publishes there what it receives.
struct Room;

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
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.publish_all("room", message);
    }
}

const LARGE_BYTES: usize = 700_000;
const ROUNDS: usize = 10;

/// Reads one large message of each publisher, in whatever order.
fn read_burst(client: &mut RawClient, publishers: usize) {
    let mut seen = vec![false; publishers];
    for _ in 0..publishers {
        let frame = client.read_past_pings();
        assert_eq!((frame.first, frame.payload.len()), (0x82, LARGE_BYTES), "{frame:?}");
        let publisher = frame.payload[0];
        assert!(frame.payload == vec![publisher; LARGE_BYTES], "bytes of another message");
        let is_seen = std::mem::replace(&mut seen[usize::from(publisher)], true);
        assert!(!is_seen, "{publisher} twice");
    }
}

/// The largest messages of several publishers at one moment, with the limits as they are by
/// default: nobody that reads is closed, the publishers included.
#[test]
fn readers_survive_a_burst_of_large_messages() {
    const READERS: usize = 8;
    for publishers in [3, 5] {
        let server = TestServer::start(1, Config::new(), |_| Room);
        let mut clients: Vec<RawClient> =
            (0..READERS + publishers).map(|_| server.open()).collect();
        for _ in 0..ROUNDS {
            let begin = Barrier::new(publishers);
            thread::scope(|scope| {
                for (publisher, client) in clients[..publishers].iter().enumerate() {
                    let mut client = RawClient::from(client.stream.try_clone().unwrap());
                    let (message, begin) = (binary(&[publisher as u8; LARGE_BYTES]), &begin);
                    scope.spawn(move || {
                        begin.wait();
                        client.send(&message);
                    });
                }
                for client in &mut clients {
                    scope.spawn(move || read_burst(client, publishers));
                }
            });
        }
        let metrics = server.handle().metrics();
        assert_eq!((metrics.messages_dropped, metrics.connections_now), (0, clients.len() as u64));
    }
}

/// On any message: sends and publishes what `script` says, to the connection itself.
struct Scripted {
    script: Arc<[Step]>,
}

/// What is done in one callback: nothing goes out meanwhile.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send { bytes: usize },
    Publish { topic: usize, bytes: usize },
}

const TOPICS: [&str; 3] = ["a", "b", "c"];

/// A message by its place in the script.
fn numbered(step: usize, bytes: usize) -> Vec<u8> {
    let mut message = format!("{step:04}").into_bytes();
    message.resize(bytes, b'.');
    message
}

impl Handler for Scripted {
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
        TOPICS[..2].iter().for_each(|topic| conn.subscribe(topic).unwrap());
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        if message == Message::Text("done?") {
            conn.send("done");
            return;
        }
        for (place, step) in self.script.iter().enumerate() {
            match *step {
                Step::Send { bytes } => {
                    conn.send(numbered(place, bytes));
                }
                Step::Publish { topic, bytes } => {
                    conn.publish_all(TOPICS[topic], numbered(place, bytes));
                }
            }
        }
    }
}

const LIMIT_BYTES: usize = 100_000;

/// The places of the messages that arrive, and how many are dropped.
fn expected(script: &[Step]) -> (Vec<usize>, u64) {
    let (mut unsent, mut places, mut dropped) = (0, Vec::new(), 0);
    for (place, step) in script.iter().enumerate() {
        let bytes = match *step {
            Step::Publish { topic: 2, .. } => continue,
            Step::Publish { bytes, .. } | Step::Send { bytes } => bytes,
        };
        let frame_bytes = if bytes < 126 { 2 + bytes } else { 4 + bytes };
        if unsent == 0 || unsent + frame_bytes <= LIMIT_BYTES {
            unsent += frame_bytes;
            places.push(place);
        } else {
            dropped += 1;
        }
    }
    (places, dropped)
}

fn assert_plays(script: &[Step]) {
    let config = Config::new()
        .overflow(Overflow::Drop)
        .write_bytes_mark(LIMIT_BYTES)
        .write_bytes_max(LIMIT_BYTES);
    let steps: Arc<[Step]> = script.into();
    let make = move |_| Scripted { script: Arc::clone(&steps) };
    let server = TestServer::start(1, config, make);
    let mut client = server.open();
    client.send(&text("play"));
    let (places, dropped) = expected(script);
    for place in places {
        let frame = client.read_frame();
        let (Step::Send { bytes } | Step::Publish { bytes, .. }) = script[place];
        assert!(frame.payload == numbered(place, bytes), "not {place} of {script:?}: {frame:?}");
    }
    client.send(&text("done?"));
    assert_eq!(client.read_frame(), ServerFrame::text("done"), "{script:?}");
    let handle = server.handle();
    // `done` was sent in the tick that counts at the latest.
    wait_until("the tick is over", || handle.metrics().messages_received == 2);
    assert_eq!(handle.metrics().messages_dropped, dropped, "{script:?}");
}

/// Each message is looked at alone: what does not fit is counted, and what is behind it and fits
/// arrives.
#[test]
fn what_fits_is_delivered_and_the_rest_is_counted() {
    let send = Step::Send { bytes: 10 };
    let publish = |topic, bytes| Step::Publish { topic, bytes };
    let scripts: [&[Step]; 5] = [
        // One long message behind another, and short ones between and behind them.
        &[send, publish(0, 60_000), publish(0, 60_000), publish(0, 100), publish(0, 200)],
        &[send, publish(0, 99), publish(0, 60_000), publish(0, 99), publish(0, 60_000), send],
        // Several topics, of which one is another's.
        &[send, publish(0, 60_000), publish(1, 60_000), publish(2, 9), publish(1, 30_000)],
        // Short ones only, which lie side by side, until nothing fits.
        &[[send].as_slice(), &[publish(0, 1_000); 120], &[publish(1, 10); 120]].concat(),
        // What is sent directly stands between them.
        &[send, publish(0, 60_000), publish(0, 60_000), send, publish(1, 60_000), publish(0, 5)],
    ];
    for script in scripts {
        let (_, dropped) = expected(script);
        assert!(dropped > 0, "nothing to see: {script:?}");
        assert_plays(script);
    }
}

/// Any other order and size.
#[test]
fn a_thousand_messages_that_fit_or_do_not() {
    for seed in 0..20 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut script = vec![Step::Send { bytes: 1_000 }];
        for _ in 0..50 {
            let bytes = match dice.u8(0..3) {
                0 => dice.usize(4..126),
                1 => dice.usize(126..4_000),
                _ => dice.usize(4_000..60_000),
            };
            script.push(match dice.usize(0..4) {
                3 => Step::Send { bytes },
                topic => Step::Publish { topic, bytes },
            });
        }
        assert_plays(&script);
    }
}
