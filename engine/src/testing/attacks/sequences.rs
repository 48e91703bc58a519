//! Any methods one after the other in one callback: the rules of the engine hold whatever the order.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::CloseCode;
use crate::conn::ConnId;

/// Whom a method may be about; several are in one topic.
const NAMES: [&str; 8] =
    ["observer", "other", "third", "fourth", "own", "closing", "handshake", "stranger"];

const TOPICS: [&str; 3] = ["room", "hall", "yard"];

/// Calls one method, chosen by chance.
fn call_any(at: &mut At<'_, '_>, random: &mut Rng, id: ConnId) {
    let topic = TOPICS[random.usize(..TOPICS.len())];
    let methods = if matches!(at, At::Conn(_)) { 22 } else { 13 };
    let method = random.u8(..methods);
    let cx = at.cx();
    match method {
        0 => drop(cx.send_to(id, "hello")),
        1..=3 => drop(cx.close_other(id, CloseCode::NORMAL, "by another")),
        4 => drop(cx.terminate_other(id)),
        5 => drop(cx.state_of(id).map(|name| name.push_str(""))),
        6 => drop(cx.handle().close(id, CloseCode::NORMAL, "by a handle")),
        7 => drop(cx.handle().terminate(id)),
        8 => drop(cx.handle().send(id, [7; 70_000])),
        9 => cx.publish_all(topic, "to all"),
        10 => drop(cx.handle().publish(topic, "by a handle")),
        11 => drop(cx.command(0, "command".into())),
        12 => drop(cx.set_timer(Duration::ZERO)),
        13 | 14 => drop(at.conn().subscribe(topic)),
        15 | 16 => drop(at.conn().unsubscribe(topic)),
        17 => at.conn().publish(topic, "to the others"),
        18 => drop(at.conn().send([7; 70_000])),
        19 => at.conn().close(CloseCode::NORMAL, "by itself"),
        20 => at.conn().terminate(),
        _ => drop(at.conn().ping(b"there?")),
    }
}

#[test]
fn any_methods_in_any_order() {
    for seed in 0..4_000 {
        let mut random = Rng::with_seed(seed);
        let mut bench = Bench::new();
        ["third", "fourth"].into_iter().for_each(|name| bench.connect(name));
        let callback = *random.choice(CALLBACKS.as_slice()).expect("there are some");
        let shared = Rc::clone(&bench.shared);
        let done = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&done);
        bench.shared.arm(callback, move |at| {
            for _ in 0..random.usize(1..9) {
                let name = NAMES[random.usize(..NAMES.len())];
                let id = shared.ids.borrow().get(name).copied();
                log.borrow_mut().push(name);
                call_any(at, &mut random, id.unwrap_or(shared.ids.borrow()["ended"]));
            }
        });
        println!("seed {seed}, {callback:?}");
        bench.cause(callback);
        bench.shard.advance(Duration::from_millis(5));
        bench.check();
        let metrics = bench.end();
        assert_eq!((metrics.panics, metrics.violations), (0, 0), "seed {seed}");
    }
}
