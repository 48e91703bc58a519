//! The methods that name nobody, in every callback.

use crate::SendStatus;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::CloseCode;
use crate::handler::Upgrade;
use crate::testing::Received;

/// What a callback is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Open,
    Closed,
    Request,
    Nobody,
}

fn about(callback: Callback) -> About {
    match callback {
        Callback::Close => About::Closed,
        Callback::Upgrade | Callback::Request => About::Request,
        _ if callback.has_conn() => About::Open,
        _ => About::Nobody,
    }
}

type Method = (&'static str, fn(&mut At<'_, '_>) -> String, fn(About) -> &'static str);

const OF_CONTEXT: [Method; 9] = [
    ("shard", |at| format!("{} of {}", at.cx().shard(), at.cx().shards()), |_| "0 of 1"),
    ("now_ms", |at| (at.cx().now_ms() >= 1_000).to_string(), |_| "true"),
    (
        "peer_addr",
        |at| at.cx().peer_addr().is_some().to_string(),
        |about| if about == About::Nobody { "false" } else { "true" },
    ),
    (
        "connections",
        // The observer, the other one, who closes, who opens; and its own.
        |at| at.cx().connections().to_string(),
        |about| if about == About::Nobody { "4" } else { "5" },
    ),
    (
        "publish_all",
        |at| {
            at.cx().publish_all("room", "to all");
            String::new()
        },
        |_| "",
    ),
    ("command", |at| format!("{:?}", at.cx().command(0, "left".into())), |_| "Ok(())"),
    ("timer", |at| at.cx().set_timer(Duration::from_millis(3)).is_ok().to_string(), |_| "true"),
    ("handle", |at| format!("{:?}", at.cx().handle().publish("room", "by a handle")), |_| "Ok(())"),
    (
        "stop",
        |at| {
            at.cx().handle().stop();
            String::new()
        },
        |_| "",
    ),
];

const OF_CONN: [Method; 10] = [
    (
        "send",
        |at| format!("{:?}", at.conn().send("hello")),
        |about| match about {
            About::Open => "Queued",
            _ => "Dropped",
        },
    ),
    ("ping", |at| at.conn().ping(b"there?").is_queued().to_string(), if_open),
    ("ping too long", |at| at.conn().ping(&[0; 126]).is_queued().to_string(), |_| "false"),
    ("subscribe", |at| format!("{:?}", at.conn().subscribe("hall")), |_| "Ok(())"),
    ("subscribe again", |at| format!("{:?}", at.conn().subscribe("room")), |_| "Ok(())"),
    ("unsubscribe", |at| at.conn().unsubscribe("room").to_string(), if_open),
    ("is_subscribed", |at| at.conn().is_subscribed("room").to_string(), if_open),
    (
        "topics",
        |at| at.conn().topics().collect::<Vec<_>>().join(","),
        |about| if about == About::Open { "room" } else { "" },
    ),
    (
        "publish",
        |at| {
            at.conn().publish("room", "to the others");
            String::new()
        },
        |_| "",
    ),
    (
        "close",
        |at| {
            at.conn().close(CloseCode::NORMAL, "by itself");
            // What follows has no effect.
            at.conn().close(CloseCode::GOING_AWAY, "again");
            let _ = at.conn().subscribe("hall");
            format!("{:?} {}", at.conn().send("too late"), at.conn().is_subscribed("hall"))
        },
        |_| "Dropped false",
    ),
];

fn if_open(about: About) -> &'static str {
    if about == About::Open { "true" } else { "false" }
}

#[test]
fn every_method_in_every_callback_about_nobody() {
    for callback in CALLBACKS {
        let of_conn = OF_CONN.iter().filter(|_| callback.has_conn());
        for (method, call, expected) in OF_CONTEXT.iter().chain(of_conn) {
            let what = format!("{method} in {callback:?}");
            let mut bench = Bench::new();
            let returned = Rc::new(RefCell::new(None));
            let into = Rc::clone(&returned);
            let call = *call;
            bench.shared.arm(callback, move |at| *into.borrow_mut() = Some(call(at)));
            bench.cause(callback);
            let returned = returned.take();
            assert_eq!(returned.as_deref(), Some(expected(about(callback))), "{what}");
            bench.shard.advance(Duration::from_millis(5));
            bench.check();
            expect_effect(&mut bench, callback, method, &what);
            let metrics = bench.end();
            assert_eq!((metrics.panics, metrics.violations), (0, 0), "{what}");
            assert_eq!((metrics.commands_lost, metrics.commands_refused), (0, 0), "{what}");
        }
    }
}

fn expect_effect(bench: &mut Bench, callback: Callback, method: &str, what: &str) {
    let stops = callback == Callback::Stop || method == "stop";
    let texts = bench.client("other").texts();
    let published: &[&str] = match method {
        "publish_all" => &["to all"],
        "publish" => &["to the others"],
        // By then everybody is being closed.
        "handle" if !stops => &["by a handle"],
        _ => &[],
    };
    assert_eq!(texts, published, "{what}");
    let calls = bench.shared.calls.borrow();
    let count = |callback| calls.iter().filter(|call| call.0 == callback).count();
    let is_left = calls.iter().any(|call| call.2 == "left");
    assert_eq!(is_left, method == "command", "{what}");
    let fired = usize::from(method == "timer") + usize::from(callback == Callback::Timer);
    assert_eq!(count(Callback::Timer), fired, "{what}");
    assert_eq!(count(Callback::Stop), usize::from(stops), "{what}");
    let is_closed = method == "close" && about(callback) == About::Open;
    drop(calls);
    if is_closed {
        let closed = Received::Close(CloseCode::NORMAL, "by itself".into());
        assert!(bench.received("own").contains(&closed), "{what}");
    }
    if !stops {
        bench.assert_serves();
    }
}

/// However a connection ends, it has left its topics when `on_close` is called.
#[test]
fn a_connection_that_has_ended_has_left_its_topics() {
    let ends: [fn(&mut Bench); 4] = [
        |bench| bench.client("own").leave(),
        |bench| bench.client("own").close(CloseCode::NORMAL, ""),
        |bench| bench.shard.handle().terminate(bench.id("own")).unwrap(),
        |bench| bench.client("own").send_bytes(&[0xFF; 10]),
    ];
    for end in ends {
        let mut bench = Bench::new();
        bench.connect("own");
        let topics = Rc::new(RefCell::new(None));
        let into = Rc::clone(&topics);
        bench.shared.arm(Callback::Close, move |at| {
            *into.borrow_mut() = Some(at.conn().topics().count());
        });
        end(&mut bench);
        bench.shard.run();
        assert_eq!(*topics.borrow(), Some(0));
        bench.assert_serves();
        bench.end();
    }
}

/// Behind `terminate` nothing is handed out that had come with the message.
#[test]
fn nothing_comes_behind_terminate() {
    let mut bench = Bench::new();
    bench.connect("own");
    bench.shared.arm(Callback::Message, |at| {
        at.conn().terminate();
        let id = at.conn().id();
        assert!(!at.conn().is_open(id));
        assert_eq!(
            (at.conn().ping(b""), at.conn().subscribe("hall")),
            (SendStatus::Dropped, Ok(()))
        );
        assert!(!at.conn().is_subscribed("hall"));
    });
    for text in ["one", "two", "three"] {
        bench.client("own").send(text);
    }
    bench.client("own").send_bytes(&[0x8A, 0x80, 0, 0, 0, 0]);
    bench.client("own").close(CloseCode::NORMAL, "");
    bench.shard.run();
    let calls = bench.shared.calls.borrow();
    let is_of_own = |call: &&(Callback, String, String)| call.0.has_conn() && call.1 == "own";
    let of_own: Vec<_> = calls.iter().filter(is_of_own).collect();
    let names: Vec<_> = of_own.iter().map(|call| (call.0, call.2.as_str())).collect();
    assert_eq!(names[..2], [(Callback::Open, ""), (Callback::Message, "one")]);
    assert_eq!((names.len(), names[2].0), (3, Callback::Close));
    drop(calls);
    assert_eq!(bench.received("own"), [Received::End]);
    assert_eq!(bench.end().panics, 0);
}

/// An answer that no handshake can be given is the application's mistake, and ends nobody else.
#[test]
fn answers_that_are_mistakes() {
    let mistakes: [fn() -> Upgrade<String>; 3] = [
        || bench::accept("own").allow_origin("null"),
        || bench::accept("own").allow_origin("https://a.example/"),
        || Upgrade::refuse(crate::Response::new(101)),
    ];
    for mistake in mistakes {
        let mut bench = Bench::new();
        bench.shared.arm(Callback::Upgrade, move |_| drop(mistake()));
        bench.cause(Callback::Upgrade);
        let own = bench.client("own").response().expect("an answer");
        assert_eq!(own.status, 500);
        bench.assert_serves();
        assert_eq!(bench.end().panics, 1);
    }
}
