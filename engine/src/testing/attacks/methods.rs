//! Every method of `Context`, `Conn`, `Handle` and `Ticket`, in every callback, about a connection
//! in every stage.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::CloseCode;
use crate::conn::ConnId;
use crate::testing::Received;

/// What a method is called about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The connection that the callback is about.
    Own,
    /// Another open connection of the shard.
    Other,
    /// One that has not been upgraded yet.
    Handshake,
    /// One that we have sent a Close frame.
    Closing,
    /// One whose slot is free, or another tenant's.
    Ended,
    /// A shard that this server does not have: an id that somebody has made up.
    NoShard,
    /// An open connection of another server in this process.
    OtherServer,
}

const TARGETS: [(Target, &str); 7] = [
    (Target::Own, "own"),
    (Target::Other, "other"),
    (Target::Handshake, "handshake"),
    (Target::Closing, "closing"),
    (Target::Ended, "ended"),
    (Target::NoShard, "other shard"),
    (Target::OtherServer, "stranger"),
];

/// How far a target is when a method is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// It is the callback's own, whose state is lent, and open.
    OwnOpen,
    /// In the handshake, closing, or in its `on_close`.
    NotOpen,
    /// In its `on_upgrade` or `on_request`.
    OwnHandshake,
    Gone,
    NoShard,
    OtherServer,
}

fn stage(callback: Callback, target: Target) -> Stage {
    match target {
        Target::Own if callback == Callback::Close => Stage::NotOpen,
        Target::Own if callback.has_conn() => Stage::OwnOpen,
        Target::Own => Stage::OwnHandshake,
        Target::Other => Stage::Open,
        Target::Handshake | Target::Closing => Stage::NotOpen,
        Target::Ended => Stage::Gone,
        Target::NoShard => Stage::NoShard,
        Target::OtherServer => Stage::OtherServer,
    }
}

type Method = (&'static str, fn(&mut At<'_, '_>, ConnId) -> String, fn(Stage) -> &'static str);

const METHODS: [Method; 8] = [
    (
        "send_to",
        |at, id| format!("{:?}", at.cx().send_to(id, "hello")),
        |stage| match stage {
            Stage::Open | Stage::OwnOpen => "Queued",
            Stage::NotOpen => "Dropped",
            _ => "Gone",
        },
    ),
    (
        "close_other",
        |at, id| format!("{:?}", at.cx().close_other(id, CloseCode::NORMAL, "by another")),
        |_| "Ok(())",
    ),
    ("terminate_other", |at, id| format!("{:?}", at.cx().terminate_other(id)), |_| "Ok(())"),
    (
        "state_of",
        |at, id| format!("{:?}", at.cx().state_of(id)),
        |stage| match stage {
            Stage::Open => "Some(\"other\")",
            _ => "None",
        },
    ),
    (
        "is_open",
        |at, id| at.cx().is_open(id).to_string(),
        |stage| match stage {
            Stage::Open | Stage::OwnOpen => "true",
            _ => "false",
        },
    ),
    ("Handle::send", |at, id| format!("{:?}", at.cx().handle().send(id, "hello")), by_handle),
    (
        "Handle::close",
        |at, id| format!("{:?}", at.cx().handle().close(id, CloseCode::NORMAL, "by another")),
        by_handle,
    ),
    ("Handle::terminate", |at, id| format!("{:?}", at.cx().handle().terminate(id)), by_handle),
];

fn by_handle(stage: Stage) -> &'static str {
    match stage {
        Stage::NoShard | Stage::OtherServer => "Err(OtherServer)",
        _ => "Ok(())",
    }
}

#[test]
fn every_method_in_every_callback_about_everybody() {
    let mut tried = 0;
    for callback in CALLBACKS {
        for (target, name) in TARGETS {
            if target == Target::Own && !callback.has_conn() && !is_request(callback) {
                continue; // there is none
            }
            for (method, call, expected) in METHODS {
                let what = format!("{method} in {callback:?} about {target:?}");
                let mut bench = Bench::new();
                let returned = Rc::new(RefCell::new(None));
                let (into, shared) = (Rc::clone(&returned), Rc::clone(&bench.shared));
                bench.shared.arm(callback, move |at| {
                    let id = match (is_request(callback), target) {
                        (true, Target::Own) => own_of_request(at, &shared),
                        _ => shared.ids.borrow()[name],
                    };
                    *into.borrow_mut() = Some(call(at, id));
                });
                bench.cause(callback);
                let returned = returned.borrow_mut().take();
                assert_eq!(returned.as_deref(), Some(expected(stage(callback, target))), "{what}");
                expect_effect(&mut bench, callback, target, name, method, &what);
                if callback != Callback::Stop {
                    bench.assert_serves();
                }
                let metrics = bench.end();
                assert_eq!((metrics.panics, metrics.violations), (0, 0), "{what}");
                assert_eq!((metrics.commands_lost, metrics.commands_refused), (0, 0), "{what}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, (11 * 7 - 3) * 8);
}

fn is_request(callback: Callback) -> bool {
    matches!(callback, Callback::Upgrade | Callback::Request)
}

/// The id that the connection of a request will have, or would have.
fn own_of_request(at: &mut At<'_, '_>, shared: &bench::Shared) -> ConnId {
    let key = at.cx().requesting.expect("a request's callback");
    ConnId { key, ..shared.ids.borrow()["observer"] }
}

/// The method had its effect on whom it was about, and on nobody else.
fn expect_effect(
    bench: &mut Bench,
    callback: Callback,
    target: Target,
    name: &'static str,
    method: &str,
    what: &str,
) {
    let stops = callback == Callback::Stop;
    let is_open = matches!(stage(callback, target), Stage::Open | Stage::OwnOpen);
    let is_cut = method.ends_with("terminate") || method == "terminate_other";
    let is_closed = method.ends_with("close") || method == "close_other";
    let is_sent = method.ends_with("send") || method == "send_to";
    // A handle's call is carried out after the callback: after `on_upgrade` it is open.
    let is_by_handle = method.starts_with("Handle");
    let is_opened = callback == Callback::Upgrade && target == Target::Own && is_by_handle;
    let is_hit = is_open || is_opened;
    for other in ["other", "closing", "own"] {
        if !bench.clients.contains_key(other) {
            continue;
        }
        let is_target = other == name;
        let left = callback == Callback::Close && other == "own";
        let received = bench.received(other);
        let mut expected = Vec::new();
        if callback == Callback::Drain && other == "own" {
            expected.push(Received::Binary(vec![0; 100_000]));
        }
        // The queue of the shard comes after the server has begun to close.
        if is_target && is_hit && is_sent && !(stops && is_by_handle) {
            expected.push(Received::Text("hello".into()));
        }
        if other == "closing" {
            let code = CloseCode::new(4001).unwrap();
            expected.push(Received::Close(code, "at the start".into()));
        } else if is_target && is_hit && is_closed && !(stops && is_by_handle) {
            expected.push(Received::Close(CloseCode::NORMAL, "by another".into()));
        } else if stops && !(is_target && is_cut) {
            expected.push(Received::Close(CloseCode::GOING_AWAY, "server stops".into()));
        }
        let is_ended = (is_target && is_cut && (is_hit || other == "closing")) || left;
        if is_ended {
            expected.push(Received::End);
        }
        assert_eq!(received, expected, "{what}: what {other} receives");
        if is_ended {
            let code = if other == "closing" && !is_cut { "4001" } else { "1006" };
            assert_eq!(bench.close_told(other).as_deref(), Some(code), "{what}: {other}");
        }
    }
    let is_cut_off = target == Target::Handshake && is_cut;
    assert_eq!(bench.handshake.borrow().server_left, is_cut_off || stops, "{what}");
    if !is_cut_off && !stops {
        assert!(bench.finish_handshake(), "{what}: the handshake goes on");
    }
}
