//! What a handler can do, tried in memory: contexts, commands, timers, tickets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

mod http;
mod tickets;

use ringwire_proto::{CloseCode, Message, Offer, Request, Response};

use super::driver::SharedWire;
use super::*;
use crate::TimerId;
use crate::conn::{Conn, ConnId, SendStatus};
use crate::context::Context;
use crate::error::HandleError;
use crate::handler::{Reply, Upgrade};
use crate::ticket::Ticket;

/// Does what messages say, and notes what it is told.
struct Actor {
    notes: Rc<RefCell<Vec<String>>>,
    names: HashMap<String, ConnId>,
    tickets: HashMap<String, Ticket<Actor>>,
    timers: Vec<TimerId>,
}

enum Order {
    Note(String),
    /// Accepts the handshake of that name.
    Accept(String),
    /// The same, by another thread's way.
    AcceptFromAfar(String),
    Refuse(String),
    Forget(String),
    Respond(String),
    Panic,
}

impl Actor {
    fn note(&self, note: impl Into<String>) {
        self.notes.borrow_mut().push(note.into());
    }
}

impl Handler for Actor {
    type State = String;
    type Command = Order;

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        assert_eq!((cx.shard(), cx.shards(), cx.connections()), (0, 1, 0));
        self.note("start");
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<String> {
        assert!(cx.peer_addr().is_some());
        let name = request.path()[1..].to_owned();
        if request.query_param("later").is_some() {
            let ticket = cx.ticket();
            let upgrade = Upgrade::later(&ticket);
            self.tickets.insert(name, ticket);
            return upgrade;
        }
        if name == "panic-upgrade" {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        Upgrade::accept(name)
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, name: &mut String) {
        self.names.insert(name.clone(), conn.id());
        conn.subscribe("all").unwrap();
        self.note(format!("open {name}"));
        if name == "panic-open" {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, name: &mut String, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        let words: Vec<&str> = text.split(' ').collect();
        let other = |at: usize| self.names.get(words[at]).copied();
        match words[..] {
            ["who"] => {
                conn.send(&*name);
            }
            ["tell", _, what] => {
                let id = other(1).expect("a known name");
                let status = conn.send_to(id, what);
                conn.send(format!("{status:?}"));
            }
            ["rename", _, new] => {
                let id = other(1).expect("a known name");
                let renamed = conn.state_of(id).map(|state| *state = new.to_owned());
                conn.send(format!("{}", renamed.is_some()));
            }
            ["close", _] => {
                let id = other(1).expect("a known name");
                conn.close_other(id, CloseCode::NORMAL, "by another").unwrap();
            }
            ["terminate", _] => {
                let id = other(1).expect("a known name");
                conn.terminate_other(id).unwrap();
                assert_eq!(conn.send_to(id, "too late"), SendStatus::Dropped);
            }
            ["open?", _] => {
                let is_open = conn.is_open(other(1).expect("a known name"));
                conn.send(format!("{is_open}"));
            }
            ["topics"] => {
                let topics = conn.topics().collect::<Vec<_>>().join(",");
                let is_subscribed = conn.is_subscribed("all");
                conn.send(format!("{topics} {is_subscribed}"));
            }
            ["leave-all"] => assert!(conn.unsubscribe("all")),
            ["timer", ms] => {
                let delay = Duration::from_millis(ms.parse().unwrap());
                self.timers.push(conn.set_timer(delay).unwrap());
            }
            ["interval", ms] => {
                let period = Duration::from_millis(ms.parse().unwrap());
                self.timers.push(conn.set_interval(period).unwrap());
            }
            ["cancel"] => {
                let timer = self.timers.pop().unwrap();
                assert!(conn.cancel_timer(timer) && !conn.cancel_timer(timer));
            }
            ["order", what] => {
                conn.command(0, Order::Note(what.to_owned())).unwrap();
                self.note("ordered");
            }
            ["panic"] => std::panic::resume_unwind(Box::new("on purpose")),
            _ => panic!("what is {text}?"),
        }
    }

    fn on_pong(&mut self, _conn: &mut Conn<'_, Self>, name: &mut String, payload: &[u8]) {
        self.note(format!("pong of {name}: {}", String::from_utf8_lossy(payload)));
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        name: &mut String,
        code: CloseCode,
        _reason: &str,
    ) {
        self.names.remove(name);
        self.note(format!("close {name} {code}"));
        conn.publish("all", format!("{name} left"));
    }

    fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        match request.path() {
            "/later" => {
                let ticket = cx.ticket();
                let reply = Reply::later(&ticket);
                self.tickets.insert("later".into(), ticket);
                reply
            }
            "/echo" => {
                let said =
                    format!("{}:{}", request.method(), String::from_utf8_lossy(request.body()));
                Response::new(200).body("text/plain", said.into_bytes()).into()
            }
            "/panic" => std::panic::resume_unwind(Box::new("on purpose")),
            _ => Response::new(404).into(),
        }
    }

    fn on_command(&mut self, cx: &mut Context<'_, Self>, order: Order) {
        let mut ticket = |name: &str| self.tickets.remove(name).expect("a ticket of that name");
        match order {
            Order::Note(note) => self.note(note),
            Order::Accept(name) => cx.answer(ticket(&name), Upgrade::accept(name)),
            Order::AcceptFromAfar(name) => {
                let ticket = ticket(&name);
                std::thread::spawn(|| ticket.upgrade(Upgrade::accept(name))).join().unwrap();
            }
            Order::Refuse(name) => ticket(&name).respond(Response::new(401)),
            Order::Forget(name) => drop(ticket(&name)),
            Order::Respond(name) => {
                ticket(&name).respond(Response::new(200).body("text/plain", b"late".as_slice()));
            }
            Order::Panic => std::panic::resume_unwind(Box::new("on purpose")),
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, timer: TimerId) {
        self.note(format!("timer at {}", cx.now_ms() - 1_000));
        cx.publish_all("all", "tick");
        // In its own callback a one-shot timer is over, and a periodic one is not.
        let is_periodic = !self.timers.is_empty() && self.timers[0] == timer;
        assert!(is_periodic || !cx.cancel_timer(timer));
    }

    fn on_stop(&mut self, cx: &mut Context<'_, Self>) {
        self.note("stop");
        cx.publish_all("all", "goodbye");
    }
}

type Notes = Rc<RefCell<Vec<String>>>;

fn actor_with(config: Config) -> (TestShard<Actor>, Notes) {
    let notes = Notes::default();
    let actor = Actor {
        notes: Rc::clone(&notes),
        names: HashMap::new(),
        tickets: HashMap::new(),
        timers: Vec::new(),
    };
    (TestShard::with_config(config, |_start| actor), notes)
}

fn actor() -> (TestShard<Actor>, Notes) {
    actor_with(Config::new().ping_interval_ms(0).idle_timeout_ms(0))
}

fn told(shard: &mut TestShard<Actor>, client: &mut TestClient, words: &str) -> Vec<String> {
    client.send(words);
    shard.run();
    client.texts()
}

#[test]
fn a_handler_reaches_every_connection_of_its_shard() {
    let (mut shard, notes) = actor();
    let mut ada = shard.connect("/ada", &[]).unwrap();
    let mut bob = shard.connect("/bob", &[]).unwrap();
    assert_eq!(told(&mut shard, &mut ada, "who"), ["ada"]);
    assert_eq!(told(&mut shard, &mut ada, "tell bob hello"), ["Queued"]);
    assert_eq!(bob.texts(), ["hello"]);
    // Itself, too: by its id or as the current connection.
    assert_eq!(told(&mut shard, &mut ada, "tell ada myself"), ["myself", "Queued"]);
    assert_eq!(told(&mut shard, &mut ada, "rename bob bert"), ["true"]);
    assert_eq!(told(&mut shard, &mut ada, "rename ada anna"), ["false"]);
    assert_eq!(told(&mut shard, &mut bob, "who"), ["bert"]);
    assert_eq!(told(&mut shard, &mut ada, "open? bob"), ["true"]);
    assert_eq!(told(&mut shard, &mut ada, "topics"), ["all true"]);
    told(&mut shard, &mut ada, "leave-all");
    assert_eq!(told(&mut shard, &mut ada, "topics"), [" false"]);
    ada.send("close bob");
    shard.run();
    let closed = Received::Close(CloseCode::NORMAL, "by another".into());
    assert_eq!(bob.received(), [closed]);
    shard.run();
    assert_eq!(bob.received(), [Received::End]);
    shard.run();
    // The name went with the one it was told under.
    assert_eq!(told(&mut shard, &mut ada, "tell bob hello"), ["Gone"]);
    assert!(notes.borrow().contains(&"close bert 1000".to_owned()), "{notes:?}");
}

#[test]
fn a_terminated_connection_gets_no_word() {
    let (mut shard, notes) = actor();
    let mut ada = shard.connect("/ada", &[]).unwrap();
    let mut bob = shard.connect("/bob", &[]).unwrap();
    ada.send("terminate bob");
    shard.run();
    assert_eq!(bob.received(), [Received::End]);
    assert_eq!(ada.texts(), ["bob left"]);
    assert_eq!(notes.borrow()[3..], ["close bob 1006"]);
    ada.send("terminate ada");
    shard.run();
    assert_eq!(ada.received(), [Received::End]);
}

#[test]
fn commands_come_behind_the_callback_that_left_them() {
    let (mut shard, notes) = actor();
    let mut ada = shard.connect("/ada", &[]).unwrap();
    told(&mut shard, &mut ada, "order first");
    shard.handle().command(0, Order::Note("second".into())).unwrap();
    shard.run();
    assert_eq!(notes.borrow()[2..], ["ordered", "first", "second"]);
    shard.handle().command(0, Order::Panic).unwrap();
    shard.run();
    assert_eq!(shard.handle().metrics().panics, 1);
    assert_eq!(told(&mut shard, &mut ada, "who"), ["ada"]);
}

#[test]
fn commands_are_bounded_and_refusals_counted() {
    let config = Config::new().command_entries(2);
    let (mut shard, notes) = actor_with(config);
    let handle = shard.handle();
    let note = |text: &str| handle.command(0, Order::Note(text.into()));
    assert_eq!((note("a"), note("b"), note("c")), (Ok(()), Ok(()), Err(HandleError::Busy)));
    shard.run();
    assert_eq!(note("d"), Ok(()));
    shard.run();
    assert_eq!(notes.borrow()[1..], ["a", "b", "d"]);
    assert_eq!(handle.metrics().commands_refused, 1);
}

#[test]
fn timers_fire_when_time_passes() {
    let (mut shard, notes) = actor();
    let mut ada = shard.connect("/ada", &[]).unwrap();
    told(&mut shard, &mut ada, "interval 100");
    told(&mut shard, &mut ada, "timer 250");
    shard.advance(Duration::from_millis(99));
    assert_eq!(notes.borrow()[2..], [] as [&str; 0]);
    shard.advance(Duration::from_millis(201));
    // A shard sleeps a millisecond longer than its first deadline, since real clocks are coarse.
    let fired: Vec<u64> = notes.borrow()[2..]
        .iter()
        .map(|note| note.strip_prefix("timer at ").unwrap().parse().unwrap())
        .collect();
    let early: Vec<u64> = fired.iter().map(|at_ms| at_ms - at_ms % 50).collect();
    assert_eq!(early, [100, 200, 250, 300], "{fired:?}");
    assert!(fired.iter().all(|at_ms| at_ms % 50 <= 1), "{fired:?}");
    assert_eq!(ada.texts(), ["tick"; 4]);
    let timer = "timer";
    told(&mut shard, &mut ada, &format!("{timer} 10"));
    told(&mut shard, &mut ada, "cancel");
    shard.advance(Duration::from_millis(90));
    assert_eq!(notes.borrow().len(), 6);
}

#[test]
fn a_panic_ends_its_connection_and_no_other() {
    let (mut shard, _) = actor();
    let mut ada = shard.connect("/ada", &[]).unwrap();
    let refused = shard.connect("/panic-upgrade", &[]);
    assert_eq!(refused.err().expect("no answer to open").status, 500);
    assert_eq!(shard.request("GET", "/panic", &[]).status, 500);
    let mut opened = shard.connect("/panic-open", &[]).unwrap();
    let mut bob = shard.connect("/bob", &[]).unwrap();
    bob.send("panic");
    shard.run();
    for client in [&mut opened, &mut bob] {
        let received = client.received();
        let is_1011 =
            |received: &Received| matches!(received, Received::Close(CloseCode::INTERNAL_ERROR, _));
        assert!(received.iter().any(is_1011), "{received:?}");
    }
    ada.texts();
    assert_eq!(told(&mut shard, &mut ada, "who"), ["ada"]);
    assert_eq!(shard.handle().metrics().panics, 4);
}

#[test]
fn a_stop_is_told_before_the_connections_are_closed() {
    let (mut shard, notes) = actor();
    let mut ada = shard.connect("/ada", &[]).unwrap();
    let mut waiting = shard.begin("/bob?later", &[]);
    shard.run();
    shard.handle().stop();
    shard.run();
    let closed = Received::Close(CloseCode::GOING_AWAY, "server stops".into());
    assert_eq!(ada.received(), [Received::Text("goodbye".into()), closed]);
    assert_eq!(waiting.response().expect("an answer").status, 503);
    shard.run();
    assert_eq!(notes.borrow()[2..], ["stop", "close ada 1001"]);
}
