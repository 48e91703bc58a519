//! Tickets at the wrong moment, with the wrong answer, in the wrong hands. That one is answered
//! twice its type forbids ([`Ticket`]).

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ringwire_proto::Response;

use super::bench::{Scripted, accept, config};
use super::*;
use crate::handler::Upgrade;
use crate::testing::client;
use crate::testing::driver::SharedWire;
use crate::testing::{Received, TestClient};
use crate::ticket::Ticket;

/// Takes a ticket in the next callback of this kind.
fn take_ticket(bench: &Bench, callback: Callback) {
    let shared = Rc::clone(&bench.shared);
    bench.shared.arm(callback, move |at| {
        let ticket = at.cx().ticket();
        shared.tickets.borrow_mut().push(ticket);
    });
}

fn ticket_of(bench: &Bench) -> Ticket<Scripted> {
    bench.shared.tickets.borrow_mut().pop().expect("one was taken")
}

/// A client whose handshake waits for its ticket.
fn begin(bench: &mut Bench) -> (TestClient, Ticket<Scripted>) {
    take_ticket(bench, Callback::Upgrade);
    let client = bench.shard.begin("/own", &[]);
    bench.shard.run();
    let ticket = ticket_of(bench);
    (client, ticket)
}

/// A request that waits for its ticket.
fn ask(bench: &mut Bench, request: &str) -> (SharedWire, Ticket<Scripted>) {
    take_ticket(bench, Callback::Request);
    let wire = bench.shard.world.connect();
    wire.borrow_mut().to_server.extend_from_slice(request.as_bytes());
    bench.shard.run();
    let ticket = ticket_of(bench);
    (wire, ticket)
}

/// Status and body of every response that has come.
fn responses(wire: &SharedWire) -> Vec<(u16, String)> {
    std::iter::from_fn(|| client::read_response(wire))
        .map(|response| (response.status, String::from_utf8(response.body).unwrap()))
        .collect()
}

fn status(client: &mut TestClient) -> Option<u16> {
    client.response().map(|response| response.status)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn yes() -> Response {
    Response::new(200).body("text/plain", b"yes".as_slice())
}

/// How a ticket is answered, the status of a handshake (`None`: it is open), and that of a request.
type Answer = (&'static str, fn(Ticket<Scripted>), Option<u16>, u16);

const ANSWERS: [Answer; 7] = [
    ("accept", |ticket| ticket.upgrade(accept("own")), None, 500),
    ("refuse", |ticket| ticket.upgrade(Upgrade::refuse(Response::new(403))), Some(403), 500),
    ("respond", |ticket| ticket.respond(yes()), Some(200), 200),
    ("drop", drop, Some(500), 500),
    (
        "later",
        |ticket| {
            let later = Upgrade::later(&ticket);
            ticket.upgrade(later);
        },
        Some(500),
        500,
    ),
    ("protocol", |ticket| ticket.upgrade(accept("own").protocol("unoffered")), Some(500), 500),
    ("header", |ticket| ticket.upgrade(accept("own").header("a\r\n", "b")), Some(500), 500),
];

#[test]
fn every_answer_to_every_kind_of_ticket() {
    for (name, answer, of_handshake, of_request) in ANSWERS {
        let mut bench = Bench::new();
        let (mut own, ticket) = begin(&mut bench);
        answer(ticket);
        bench.shard.run();
        bench.check();
        assert_eq!(own.is_open(), of_handshake.is_none(), "{name}");
        assert_eq!(status(&mut own), of_handshake, "{name}");
        // The next request waits for the answer to the one before, if one is served at all.
        let (wire, ticket) = ask(&mut bench, &GET.repeat(2));
        assert_eq!(responses(&wire), []);
        answer(ticket);
        bench.shard.run();
        bench.check();
        let next = (of_request == 200).then_some(200);
        let statuses: Vec<u16> = responses(&wire).iter().map(|(status, _)| *status).collect();
        let expected: Vec<u16> = [of_request].into_iter().chain(next).collect();
        assert_eq!(statuses, expected, "{name}");
        let (wire, ticket) = ask(&mut bench, &GET.replace("GET", "HEAD"));
        answer(ticket);
        bench.shard.run();
        let head = responses(&wire);
        assert_eq!(head, [(of_request, String::new())], "{name} to HEAD");
        own.leave();
        bench.assert_serves();
        let metrics = bench.end();
        assert_eq!((metrics.panics, metrics.tickets_late), (0, 0), "{name}");
    }
}

/// Whatever the answer is: nobody is there to hear it, and what was to be the state is dropped.
#[test]
fn answers_that_come_too_late() {
    type End = (&'static str, fn(&mut Bench, &mut TestClient));
    let ends: [End; 4] = [
        ("the peer resets", |bench, own| {
            own.leave();
            // Too much before the answer cuts it off.
            own.send_bytes(&[0; 70_000]);
            bench.shard.run();
        }),
        ("it expires", |bench, _| bench.shard.advance(Duration::from_secs(11))),
        ("the server stops", |bench, _| {
            bench.shard.handle().stop();
            bench.shard.run();
        }),
        ("the server ends", |bench, _| {
            bench.shard.handle().stop();
            bench.shard.world.hang_up();
            bench.shard.run();
            assert!(bench.shard.shard.is_finished());
        }),
    ];
    for (end, bring_about) in ends {
        for (name, answer, ..) in ANSWERS {
            let what = format!("{end}, {name}");
            let mut bench = Bench::new();
            let (mut own, ticket) = begin(&mut bench);
            bring_about(&mut bench, &mut own);
            assert!(!own.is_open(), "{what}");
            answer(ticket);
            bench.shard.run();
            bench.check();
            assert!(!own.is_open(), "{what}");
            let has_ended = bench.shard.shard.is_finished();
            let metrics = bench.end();
            assert_eq!(metrics.panics, 0, "{what}");
            let told = (metrics.tickets_late, metrics.commands_lost);
            assert_eq!(told, if has_ended { (0, 1) } else { (1, 0) }, "{what}");
        }
    }
}

/// A ticket is for the callbacks of requests.
#[test]
fn a_ticket_in_any_other_callback_is_a_mistake() {
    for callback in CALLBACKS {
        let is_for_tickets = matches!(callback, Callback::Upgrade | Callback::Request);
        let mut bench = Bench::new();
        let refused = Rc::new(RefCell::new(None));
        let into = Rc::clone(&refused);
        bench.shared.arm(callback, move |at| {
            let taken = catch_unwind(AssertUnwindSafe(|| drop(at.cx().ticket())));
            *into.borrow_mut() = Some(taken.is_err());
        });
        bench.cause(callback);
        assert_eq!(*refused.borrow(), Some(!is_for_tickets), "{callback:?}");
        assert_eq!(bench.end().panics, 0, "it was caught");
    }
}

/// Two servers in one process, with equal shards, connections and serial numbers.
#[test]
fn a_ticket_of_another_server_answers_nobody_here() {
    let mut bench = Bench::new();
    let mut foreign = Bench::new();
    let (mut own, ticket) = begin(&mut bench);
    let (mut theirs, foreign_ticket) = begin(&mut foreign);
    bench.shared.arm(Callback::Command, move |at| {
        at.cx().answer(foreign_ticket, accept("own"));
    });
    bench.cause(Callback::Command);
    assert!(!own.is_open(), "it waits for its own ticket");
    foreign.shard.run();
    assert_eq!(status(&mut theirs), Some(500), "the ticket was dropped");
    ticket.upgrade(accept("own"));
    bench.shard.run();
    assert!(own.is_open());
    own.leave();
    assert_eq!(bench.end().panics, 1);
    assert_eq!(foreign.end().panics, 0);
}

/// Several tickets of one callback: the one that is returned counts.
#[test]
fn tickets_that_were_not_returned() {
    let mut bench = Bench::new();
    let shared = Rc::clone(&bench.shared);
    bench.shared.arm(Callback::Upgrade, move |at| {
        let tickets = [at.cx().ticket(), at.cx().ticket(), at.cx().ticket()];
        shared.tickets.borrow_mut().extend(tickets);
    });
    let mut own = bench.shard.begin("/own", &[]);
    bench.shard.run();
    // The first one was returned.
    ticket_of(&bench).respond(Response::new(401));
    drop(ticket_of(&bench));
    bench.shard.run();
    assert!(!own.is_open() && status(&mut own).is_none(), "it waits");
    ticket_of(&bench).upgrade(accept("own"));
    bench.shard.run();
    assert!(own.is_open());
    // One that was taken, and something else returned.
    bench.shared.arm(Callback::Request, |at| drop(at.cx().ticket()));
    let wire = bench.shard.world.connect();
    wire.borrow_mut().to_server.extend_from_slice(GET.as_bytes());
    bench.shard.run();
    assert_eq!(responses(&wire), [(200, String::new())]);
    own.leave();
    assert_eq!(bench.end().tickets_late, 3);
}

/// It is answered before the callback that has taken it returns: by the callback itself, and by
/// another thread.
#[test]
fn a_ticket_that_is_answered_before_it_is_returned() {
    for by_thread in [false, true] {
        let mut bench = Bench::new();
        let shared = Rc::clone(&bench.shared);
        bench.shared.arm(Callback::Upgrade, move |at| {
            let ticket = at.cx().ticket();
            let place = ticket.place();
            if by_thread {
                std::thread::spawn(|| ticket.upgrade(accept("own"))).join().unwrap();
            } else {
                at.cx().answer(ticket, accept("own"));
            }
            // What the handler returns stands for the same ticket.
            let handle = at.cx().handle();
            shared.tickets.borrow_mut().push(Ticket::new(handle, place));
        });
        let mut own = bench.shard.begin("/own", &[]);
        bench.shard.run();
        assert!(own.is_open());
        own.leave();
        ticket_of(&bench).redeem();
        assert_eq!(bench.end().panics, 0);
    }
}

/// "echo", masked with zeros.
const ECHO: [u8; 10] = [0x81, 0x84, 0, 0, 0, 0, b'e', b'c', b'h', b'o'];

/// What comes before the answer: up to the bound it is kept, with the handshake or behind it, and a
/// byte more ends the connection and is counted.
#[test]
fn early_bytes_up_to_their_bound() {
    const MAX: usize = 200;
    for is_behind_head in [true, false] {
        for (bytes, is_kept) in [(0, true), (MAX - 10, true), (MAX, true), (MAX + 10, false)] {
            let mut bench = Bench::empty(config().early_bytes_max(MAX));
            take_ticket(&bench, Callback::Upgrade);
            let mut own = bench.shard.begin("/own", &[]);
            if !is_behind_head {
                bench.shard.run();
            }
            own.send_bytes(&ECHO.repeat(bytes / ECHO.len()));
            bench.shard.run();
            bench.check();
            ticket_of(&bench).upgrade(accept("own"));
            bench.shard.run();
            bench.check();
            let expected = vec![Received::Text("echo".into()); bytes / ECHO.len()];
            let what = format!("{bytes} bytes, with the head: {is_behind_head}");
            match is_kept {
                true => assert_eq!(own.received(), expected, "{what}"),
                false => assert_eq!(own.received(), [Received::End], "{what}"),
            }
            own.leave();
            let metrics = bench.end();
            let faults = (metrics.tickets_late, metrics.violations);
            assert_eq!(faults, if is_kept { (0, 0) } else { (1, 1) }, "{what}");
        }
    }
}

/// A client that has said its last word before the answer: it hears a refusal, and no handshake of
/// it is accepted.
#[test]
fn a_fin_before_the_answer() {
    for (name, answer, of_handshake, of_request) in ANSWERS {
        let mut bench = Bench::new();
        let (mut own, ticket) = begin(&mut bench);
        own.leave();
        bench.shard.run();
        bench.check();
        answer(ticket);
        bench.shard.run();
        bench.check();
        assert_eq!(status(&mut own), Some(of_handshake.unwrap_or(500)), "{name}");
        let (wire, ticket) = ask(&mut bench, GET);
        wire.borrow_mut().client_left = true;
        bench.shard.run();
        answer(ticket);
        bench.shard.run();
        let statuses: Vec<u16> = responses(&wire).iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [of_request], "{name}");
        assert!(wire.borrow().server_left, "{name}");
        bench.assert_serves();
        assert_eq!(bench.end().panics, 0, "{name}");
    }
}

/// Requests, then a handshake and a frame, then the end, all at once: everything is answered, and
/// the connection is opened and closed.
#[test]
fn a_fin_behind_a_pipelined_handshake() {
    for requests in 0..3 {
        let mut bench = Bench::new();
        let own = bench.shard.world.connect();
        let handshake = "GET /own HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let requests = GET.repeat(requests);
        own.borrow_mut().to_server.extend_from_slice(requests.as_bytes());
        own.borrow_mut().to_server.extend_from_slice(handshake.as_bytes());
        own.borrow_mut().to_server.extend_from_slice(&ECHO);
        own.borrow_mut().client_left = true;
        bench.shard.run();
        bench.check();
        let echo = b"\x81\x04echo";
        assert!(own.borrow().to_client.ends_with(echo), "{requests}");
        assert_eq!(bench.close_told("own").as_deref(), Some("1006"), "{requests}");
        assert!(own.borrow().server_left, "{requests}");
        bench.end();
    }
}
