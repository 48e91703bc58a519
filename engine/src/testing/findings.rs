//! What the simulator has found, as a handler sees it. Each test fails without its fix.

use std::cell::RefCell;
use std::rc::Rc;

use ringwire_proto::{CloseCode, Message, Offer, Request, Response};

use super::*;
use crate::conn::{Conn, ConnId};
use crate::context::Context;
use crate::error::HandleError;
use crate::handler::{Reply, Upgrade};
use crate::ticket::Ticket;

/// Everybody is in one room, in the order in which they came.
#[derive(Default)]
struct Room {
    ids: Vec<ConnId>,
    notes: Rc<RefCell<Vec<String>>>,
    tickets: Vec<Ticket<Room>>,
}

impl Handler for Room {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        if request.path() != "/later" {
            return Upgrade::accept(());
        }
        let ticket = cx.ticket();
        let later = Upgrade::later(&ticket);
        self.tickets.push(ticket);
        later
    }

    fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        if request.path() != "/later" {
            return Response::new(200).into();
        }
        let ticket = cx.ticket();
        let later = Reply::later(&ticket);
        self.tickets.push(ticket);
        later
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _: &mut ()) {
        self.ids.push(conn.id());
        self.notes.borrow_mut().push("open".into());
        assert_eq!(conn.subscribe("room"), Ok(()));
    }

    /// `close 1 3` closes these, `leave` leaves the room, `say` says something to it.
    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _: &mut (), message: Message<'_>) {
        let Message::Text(text) = message else { return };
        for word in text.split(' ') {
            match word {
                "leave" => assert!(conn.unsubscribe("room")),
                "say" => conn.publish_all("room", "said"),
                "command" => {
                    let told = [(); 3].map(|()| conn.command(0, ()));
                    assert_eq!(told, [Ok(()), Ok(()), Err(HandleError::Busy)]);
                }
                "timers" => {
                    for _ in 0..1_300 {
                        let timer = conn.set_timer(Duration::from_millis(10));
                        assert!(timer.is_ok());
                    }
                }
                number => {
                    let id = self.ids[number.parse::<usize>().expect("a number")];
                    conn.close_other(id, CloseCode::NORMAL, "").expect("it is on this shard");
                }
            }
        }
    }

    fn on_close(&mut self, _conn: &mut Conn<'_, Self>, _: &mut (), code: CloseCode, _reason: &str) {
        self.notes.borrow_mut().push(format!("close {code}"));
    }

    fn on_command(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        if let Some(ticket) = self.tickets.pop() {
            cx.answer(ticket, Upgrade::accept(()));
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, _timer: crate::TimerId) {
        self.notes.borrow_mut().push(cx.now_ms().to_string());
    }
}

fn room(config: Config) -> (TestShard<Room>, Rc<RefCell<Vec<String>>>) {
    let notes = Rc::default();
    let room = Room { notes: Rc::clone(&notes), ..Room::default() };
    (TestShard::with_config(config, |_start| room), notes)
}

/// The last of a topic's list takes the place of the one that leaves. Closed in the same callback, it
/// left by its old place: another one's subscription ended, or the shard did.
#[test]
fn a_callback_that_closes_several_ends_their_subscriptions_and_no_others() {
    // Who is closed by the first of five, and who stays.
    let table: [(&str, &[usize]); 6] = [
        ("1 4", &[0, 2, 3]),
        ("1 4 3", &[0, 2]),
        ("4 1", &[0, 2, 3]),
        ("1 2 3 4", &[0]),
        ("leave 4", &[1, 2, 3]),
        ("leave 1 3", &[2, 4]),
    ];
    for (words, staying) in table {
        println!("{words}");
        let (mut shard, _) = room(Config::default());
        let mut clients: Vec<TestClient> =
            (0..5).map(|_| shard.connect("/", &[]).expect("it lets everybody in")).collect();
        clients[0].send(words);
        shard.run();
        clients[0].send("say");
        shard.run();
        for (number, client) in clients.iter_mut().enumerate() {
            let texts = client.texts();
            assert_eq!(texts.len(), usize::from(staying.contains(&number)), "{number}: {texts:?}");
        }
    }
}

/// The FIN had been seen while the response was on its way, and nobody looked at it again: the
/// connection stayed open until a ping was missed, or for ever.
#[test]
fn fin_behind_a_pipelined_handshake_ends_what_it_opens() {
    let (mut shard, notes) = room(Config::default());
    let mut client = shard.begin("/", &[]);
    let handshake = std::mem::take(&mut client.wire.borrow_mut().to_server);
    client::write_request(&client.wire, "GET", "/", &[]);
    client.send_bytes(&handshake);
    client.leave();
    shard.run();
    assert_eq!(notes.borrow()[..], ["open", "close 1006"]);
    assert_eq!(shard.handle().metrics().connections_now, 0);
}

/// What came in one piece with the request was not counted.
#[test]
fn what_comes_with_a_request_is_bounded_like_what_comes_behind_it() {
    let config = Config::new().early_bytes_max(100);
    for (path, bytes, stays) in
        [("/later", 100, true), ("/later", 101, false), ("/", 101, false), ("/", 100, true)]
    {
        println!("{path} {bytes}");
        for method in ["GET", "POST"] {
            let (mut shard, _) = room(config.clone());
            let wire = shard.world.connect();
            client::write_request(&wire, method, path, &[("Content-Length", "0")]);
            // The beginning of a head.
            wire.borrow_mut().to_server.extend(vec![b'G'; bytes]);
            shard.run();
            assert_eq!(wire.borrow().server_left, !stays);
        }
        let (mut shard, _) = room(config.clone());
        let mut client = shard.begin(path, &[]);
        // Frames that have begun; a handshake that is answered at once takes any number of them.
        client.send_bytes(&vec![0x80; bytes]);
        shard.run();
        let is_cut_off = client.wire.borrow().server_left && !client.is_open();
        assert_eq!(is_cut_off, path == "/later" && !stays);
    }
}

/// Silence was counted from the request on: a connection opened by a late ticket was closed at once,
/// or not pinged before the ticket's time was over.
#[test]
fn nobody_is_silent_while_a_ticket_is_out() {
    let config =
        Config::new().ticket_timeout_ms(20_000).ping_interval_ms(1_000).idle_timeout_ms(4_000);
    let (mut shard, _) = room(config);
    let mut client = shard.begin("/later", &[]);
    shard.advance(Duration::from_secs(6));
    shard.handle().command(0, ()).expect("there is room");
    shard.run();
    assert!(client.is_open());
    assert_eq!(client.received(), []);
    shard.advance(Duration::from_millis(1_200));
    assert_eq!(client.received(), [Received::Ping(Vec::new())]);
}

/// They were refused, and `commands_refused` did not say so.
#[test]
fn a_command_of_a_shard_to_itself_that_does_not_fit_is_counted() {
    let (mut shard, _) = room(Config::new().command_entries(2));
    let mut client = shard.connect("/", &[]).expect("it lets everybody in");
    client.send("command");
    shard.run();
    let metrics = shard.handle().metrics();
    assert_eq!((metrics.commands_refused, metrics.commands_lost), (1, 0));
}

/// Beyond a tick's share a shard slept for a millisecond before each further share.
#[test]
fn timers_that_are_due_at_once_fire_at_once() {
    let (mut shard, notes) = room(Config::default());
    let mut client = shard.connect("/", &[]).expect("it lets everybody in");
    client.send("timers");
    shard.advance(Duration::from_millis(100));
    let notes = notes.borrow();
    assert_eq!(notes.len(), 1 + 1_300);
    assert!(notes[1..].iter().all(|note| *note == notes[1]), "{} and {}", notes[1], notes[1_300]);
}
