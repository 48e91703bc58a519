//! A shard that falls behind on what another one publishes: its subscribers are closed or told,
//! before they get anything newer, and every publish is delivered or counted.

mod harness;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use harness::{PATIENCE, RawClient, ServerFrame, TestServer, text, wait_until};
use ringwire::{Config, Conn, Context, Gap, Handler, Message, Offer, Overflow, Request, Upgrade};

/// Puts every connection into a room. `block` blocks the shard until the test lets it go on, `ask`
/// is answered, `burst` publishes many messages at once, and anything else is published.
struct Room {
    opened: Sender<usize>,
    blocked: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

/// Far more than the ring between the shards holds.
const BURST: usize = 50;

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
        // Two topics: who is subscribed to several is told once.
        conn.subscribe("room").unwrap();
        conn.subscribe("another room").unwrap();
        self.opened.send(conn.shard()).unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        match message {
            Message::Text("block") => {
                self.blocked.send(()).unwrap();
                self.go_on.lock().unwrap().recv_timeout(PATIENCE).expect("the test goes on");
            }
            Message::Text("leave") => {
                assert!(conn.unsubscribe("room") && conn.unsubscribe("another room"));
                conn.send("left");
            }
            Message::Text("burst") => {
                for number in 0..BURST {
                    conn.publish_all("room", number.to_string().as_str());
                }
            }
            message => conn.publish_all("room", message),
        }
    }

    fn on_gap(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), gap: Gap) {
        conn.send(format!("gap of {}", gap.publishes).as_str());
    }
}

/// Two shards: `near` is a connection of one, and the others are on the other one.
struct Shards {
    // Dropped first: a server waits some seconds for peers that do not leave.
    near: RawClient,
    far: Vec<RawClient>,
    /// On the far shard too, and subscribed to nothing.
    bystander: RawClient,
    server: TestServer,
    is_blocked: Receiver<()>,
    go_on: Sender<()>,
}

impl Shards {
    fn start(overflow: Overflow) -> Self {
        let config = Config::new().broadcast_entries(2).overflow(overflow);
        let (opened, opens) = channel();
        let ((blocked, is_blocked), (go_on, goes_on)) = (channel(), channel());
        let goes_on = Arc::new(Mutex::new(goes_on));
        let server = TestServer::start(2, config, move |_| Room {
            opened: opened.clone(),
            blocked: blocked.clone(),
            go_on: Arc::clone(&goes_on),
        });
        // The kernel deals them out. That one shard gets fewer than four of a hundred does not
        // happen.
        let mut clients = [Vec::new(), Vec::new()];
        while clients.iter().any(|clients| clients.len() < 4) {
            assert!(clients.iter().map(Vec::len).sum::<usize>() < 100, "all on one shard");
            let client = server.open();
            clients[opens.recv_timeout(PATIENCE).unwrap()].push(client);
        }
        let [mut near, mut far] = clients;
        let mut bystander = far.pop().expect("four of them");
        bystander.send(&text("leave"));
        assert_eq!(bystander.read_frame(), ServerFrame::text("left"));
        let near = near.swap_remove(0);
        Self { near, far, bystander, server, is_blocked, go_on }
    }

    /// While the far shard stands still, publishes on the near one.
    fn publish_while_far_is_blocked(&mut self, publish: impl FnOnce(&mut RawClient)) {
        self.far[0].send(&text("block"));
        self.is_blocked.recv_timeout(PATIENCE).expect("the callback is called");
        publish(&mut self.near);
        self.go_on.send(()).unwrap();
    }
}

/// One message in each tick: the reader is lapped.
fn one_by_one(near: &mut RawClient) {
    for number in 0..BURST {
        let number = number.to_string();
        near.send(&text(&number));
        // Its own copy says that the tick is over.
        assert_eq!(near.read_frame(), ServerFrame::text(&number));
    }
}

/// All in one tick: they do not even fit into what is handed over.
fn at_once(near: &mut RawClient) {
    near.send(&text("burst"));
    for number in 0..BURST {
        assert_eq!(near.read_frame(), ServerFrame::text(&number.to_string()));
    }
}

/// The numbers of a burst, in order, and behind them `end`; where some are missing, a gap of just
/// so many is told in their place. How many were missing.
fn read_burst_with_gaps(client: &mut RawClient) -> usize {
    let (mut next, mut missing, mut told) = (0, 0, 0);
    loop {
        let frame = client.read_frame();
        let word = String::from_utf8(frame.payload).expect("text");
        if let Some(gap) = word.strip_prefix("gap of ") {
            told += gap.parse::<usize>().unwrap();
            continue;
        }
        let number = if word == "end" { BURST } else { word.parse().expect("a number") };
        missing += number - next;
        assert_eq!(told, missing, "in front of {word}");
        if word == "end" {
            return missing;
        }
        next = number + 1;
    }
}

#[test]
fn a_gap_is_told_before_anything_newer() {
    for publish in [one_by_one, at_once] {
        let mut shards = Shards::start(Overflow::Drop);
        shards.publish_while_far_is_blocked(publish);
        let handle = shards.server.handle();
        wait_until("they are counted", || handle.metrics().publishes_lost > 0);
        shards.near.send(&text("end"));
        let missing = shards.far.iter_mut().map(read_burst_with_gaps).collect::<Vec<_>>();
        assert!(missing[0] > 0 && missing.iter().all(|&of| of == missing[0]), "{missing:?}");
        // Once for the shard, and not for each subscriber.
        let missing = missing[0] as u64;
        wait_until("each is counted", || handle.metrics().publishes_lost == missing);
        assert_eq!(shards.near.read_frame(), ServerFrame::text("end"));
        shards.bystander.send(&text("end"));
        for client in shards.far.iter_mut().chain([&mut shards.near]) {
            assert_eq!(client.read_frame(), ServerFrame::text("end"), "nobody else is told");
        }
    }
}

#[test]
fn a_gap_closes_whoever_must_see_everything() {
    for publish in [one_by_one, at_once] {
        let mut shards = Shards::start(Overflow::Close);
        shards.publish_while_far_is_blocked(publish);
        for client in &mut shards.far {
            // What came before the gap may have been delivered, and nothing behind it.
            let mut next = 0;
            let close = loop {
                let frame = client.read_frame();
                if frame.first != 0x81 {
                    break frame;
                }
                assert_eq!(frame, ServerFrame::text(&next.to_string()));
                next += 1;
            };
            assert!(next < BURST);
            assert_eq!(close.close_code(), 1013);
            assert_eq!(&close.payload[2..], b"publishes lost");
            client.send(&harness::close(1013, ""));
            assert_eq!(client.read_to_end(), b"");
        }
        assert!(shards.server.handle().metrics().publishes_lost > 0);
        // Those who have lost nothing stay.
        shards.bystander.send(&text("end"));
        assert_eq!(shards.near.read_frame(), ServerFrame::text("end"));
        shards.near.send(&text("still there?"));
        assert_eq!(shards.near.read_frame(), ServerFrame::text("still there?"));
    }
}
