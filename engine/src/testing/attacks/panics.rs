//! A panic in each callback and in each `Drop` of what the application gives away: whom it ends, and
//! that nothing else happens to anybody.

use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use ringwire_proto::{Message, Offer, Request};

use super::bench::{Shared, config};
use super::*;
use crate::config::Config;
use crate::conn::Conn;
use crate::context::Context;
use crate::error::HandleError;
use crate::handler::{Handler, Upgrade};
use crate::testing::{Received, TestShard};
use crate::ticket::Ticket;

/// As `panic!`, but without the message on standard error, and with a payload that panics as well.
fn fail() -> ! {
    resume_unwind(Box::new(Bomb))
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("on purpose"));
    }
}

/// A callback, the status or Close code with which its peer is ended, and what `on_close` is told.
type Panic = (Callback, Option<u16>, Option<&'static str>);

const PANICS: [Panic; 11] = [
    (Callback::Upgrade, Some(500), None),
    (Callback::Open, Some(1011), Some("1011")),
    (Callback::Message, Some(1011), Some("1011")),
    (Callback::Pong, Some(1011), Some("1011")),
    (Callback::Drain, Some(1011), Some("1011")),
    (Callback::Gap, Some(1011), Some("1011")),
    (Callback::Close, None, Some("1006")),
    (Callback::Request, None, None),
    (Callback::Command, None, None),
    (Callback::Timer, None, None),
    (Callback::Stop, None, None),
];

#[test]
fn a_panic_in_each_callback() {
    for (callback, code, told) in PANICS {
        let mut bench = Bench::new();
        // What it has done before counts.
        bench.shared.arm(callback, |at| {
            at.cx().publish_all("room", "before the panic");
            fail()
        });
        bench.cause(callback);
        assert_eq!(bench.metrics().panics, 1, "{callback:?}");
        if let Some(own) = bench.clients.get_mut("own") {
            let status = own.response().map(|response| response.status);
            let mut codes = own.received().into_iter().filter_map(|received| match received {
                Received::Close(code, _) => Some(code.as_u16()),
                _ => None,
            });
            assert_eq!(status.or(codes.next_back()), code, "{callback:?}");
        }
        assert_eq!(bench.close_told("own").as_deref(), told, "{callback:?}");
        let before = Received::Text("before the panic".into());
        assert!(bench.received("other").contains(&before), "{callback:?}");
        if callback != Callback::Stop {
            bench.assert_serves();
            assert!(bench.finish_handshake(), "{callback:?}");
        }
        let metrics = bench.end();
        assert_eq!((metrics.panics, metrics.violations), (1, 0), "{callback:?}");
    }
}

#[test]
fn a_panic_in_on_start() {
    let shared = Rc::new(Shared::default());
    shared.arm(Callback::Start, |_| fail());
    let mut bench = Bench::starting(config(), shared);
    bench.connect("observer");
    bench.assert_serves();
    assert_eq!(bench.end().panics, 1);
}

/// A timer that fires again and again does so after a panic.
#[test]
fn a_panic_does_not_end_an_interval() {
    let mut bench = Bench::empty(config());
    bench.shared.arm(Callback::Command, |at| {
        let _ = at.cx().set_interval(Duration::from_millis(10)).expect("the first");
    });
    bench.cause(Callback::Command);
    for _ in 0..3 {
        bench.shared.arm(Callback::Timer, |_| fail());
        bench.shard.advance(Duration::from_millis(11));
        assert!(!bench.shared.is_armed());
    }
    assert_eq!(bench.end().panics, 3);
}

/// Keeps and is given what panics when it is dropped.
#[derive(Default)]
struct Keeper {
    tickets: Vec<Ticket<Keeper>>,
    leaves_at_stop: usize,
}

enum Order {
    Drop(#[allow(dead_code, reason = "dropped")] Bomb),
    Accept,
    /// Leaves more bombs to its own shard than are taken, one after the other.
    Leave(usize),
}

impl Handler for Keeper {
    type State = Bomb;
    type Command = Order;

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<Bomb> {
        match request.path() {
            "/later" => {
                let ticket = cx.ticket();
                let later = Upgrade::later(&ticket);
                self.tickets.push(ticket);
                later
            }
            "/unoffered" => Upgrade::accept(Bomb).protocol("unoffered"),
            _ => Upgrade::accept(Bomb),
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut Bomb, message: Message<'_>) {
        match message {
            // It is refused, so the callback drops it.
            Message::Text("command") => drop(conn.command(0, Order::Drop(Bomb))),
            message => drop(conn.send(message)),
        }
    }

    fn on_command(&mut self, cx: &mut Context<'_, Self>, order: Order) {
        match order {
            Order::Drop(bomb) => drop(bomb),
            Order::Accept => cx.answer(self.tickets.remove(0), Upgrade::accept(Bomb)),
            Order::Leave(count) => {
                for _ in 0..count {
                    cx.command(0, Order::Drop(Bomb)).expect("a long queue");
                }
            }
        }
    }

    fn on_stop(&mut self, cx: &mut Context<'_, Self>) {
        if self.leaves_at_stop > 0 {
            cx.command(0, Order::Leave(self.leaves_at_stop)).expect("a long queue");
        }
    }
}

fn keeper(config: Config, leaves_at_stop: usize) -> TestShard<Keeper> {
    let keeper = Keeper { leaves_at_stop, ..Keeper::default() };
    TestShard::with_config(config, |_start| keeper)
}

/// The state is dropped when the connection has ended, or when it does not come about.
#[test]
fn a_panic_in_the_drop_of_a_state() {
    let mut shard = keeper(config(), 0);
    let panics = |shard: &TestShard<Keeper>| shard.handle().metrics().panics;
    let mut observer = shard.connect("/", &[]).unwrap();
    shard.connect("/", &[]).unwrap().leave();
    shard.run();
    assert_eq!(panics(&shard), 1, "it has left");
    let foreign = [("Origin", "https://elsewhere.example")];
    assert_eq!(shard.connect("/", &foreign).err().expect("refused").status, 403);
    assert_eq!(panics(&shard), 2, "a page of another origin");
    assert_eq!(shard.connect("/unoffered", &[]).err().expect("refused").status, 500);
    assert_eq!(panics(&shard), 3, "nothing to accept with");
    let mut late = shard.begin("/later", &[]);
    shard.advance(Duration::from_secs(11));
    assert_eq!(late.response().expect("an answer").status, 503);
    shard.handle().command(0, Order::Accept).unwrap();
    shard.run();
    assert_eq!(panics(&shard), 4, "a ticket that has expired");
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    shard.handle().adopt(Some(0), ours, Vec::new(), "no Bomb").unwrap();
    shard.run();
    assert_eq!(panics(&shard), 4, "an honest state of another type");
    observer.send("still there?");
    shard.run();
    assert_eq!(observer.received(), [Received::Text("still there?".into())]);
    assert!(shard.connect("/", &[]).unwrap().is_open());
    shard.handle().stop();
    shard.world.hang_up();
    shard.run();
    assert_eq!((panics(&shard), shard.handle().metrics().connections_now), (6, 0));
}

/// A command is dropped by the callback that gets it, by the one that leaves it in vain, or because
/// the server has ended.
#[test]
fn a_panic_in_the_drop_of_a_command() {
    let mut shard = keeper(config().command_entries(2_000), 700);
    let handle = shard.handle();
    let mut observer = shard.connect("/", &[]).unwrap();
    handle.command(0, Order::Drop(Bomb)).unwrap();
    shard.run();
    assert_eq!(handle.metrics().panics, 1);
    handle.command(0, Order::Leave(1_000)).unwrap();
    shard.run();
    assert_eq!(handle.metrics().panics, 1_001);
    let mut own = shard.connect("/", &[]).unwrap();
    handle.command(0, Order::Leave(2_000)).unwrap();
    // Its message comes in the tick in which the queue is full.
    own.send("command");
    shard.run();
    own.received();
    observer.send("still there?");
    shard.run();
    assert_eq!(observer.received(), [Received::Text("still there?".into())]);
    // The state of the one that has failed is a bomb, too.
    let failed = handle.metrics().panics - 3_001;
    assert!(failed <= 2, "{failed}");
    own.leave();
    observer.leave();
    shard.run();
    // What waits when the shard ends: in its own queue, and in that of the other threads.
    let before = handle.metrics().panics;
    handle.stop();
    shard.world.hang_up();
    shard.shard.tick();
    for _ in 0..10 {
        handle.command(0, Order::Drop(Bomb)).unwrap();
    }
    shard.shard.finish();
    let metrics = handle.metrics();
    assert_eq!((metrics.commands_lost, metrics.panics - before), (710, 710), "each once");
    assert_eq!(handle.command(0, Order::Accept), Err(HandleError::Stopped));
}
