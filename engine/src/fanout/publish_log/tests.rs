//! Tests of the log of a tick.

use ringwire_proto::{Opcode, append_frame, frame_header_bytes};

use super::*;
use crate::fanout::topic::Topics;

const A: TopicId = TopicId(0);
const B: TopicId = TopicId(1);
const C: TopicId = TopicId(2);

fn publish(log: &mut PublishLog, topic: TopicId, payload: &[u8]) {
    let bytes = frame_header_bytes(payload.len()) + payload.len();
    log.append(topic, bytes, |out| append_frame(out, Opcode::Binary, payload));
}

/// Subscribed to the topics with these names, whose ids count from 0.
fn subscriptions(names: &[&str]) -> Subscriptions {
    let mut topics = Topics::default();
    for name in ["a", "b", "c"] {
        topics.subscribe(name, 9, &mut Subscriptions::default());
    }
    let mut subscriptions = Subscriptions::default();
    names.iter().for_each(|name| topics.subscribe(name, 0, &mut subscriptions));
    subscriptions
}

fn bytes_of(delivery: &Delivery) -> Vec<u8> {
    delivery.parts.iter().flat_map(|part| part.run().as_slice()).copied().collect()
}

/// Memory that the references of a delivery keep, and what is copied.
fn kept_and_copied(delivery: &Delivery) -> (usize, usize) {
    let mut kept = HashMap::new();
    let mut copied = 0;
    for part in &delivery.parts {
        match part {
            Part::Shared(run) => {
                kept.insert(run.bytes.as_ptr(), run.bytes.len());
            }
            Part::Copied(run) => copied += run.as_slice().len(),
        }
    }
    (kept.values().sum(), copied)
}

#[test]
fn each_set_of_topics_gets_its_frames_in_order_and_keeps_only_those() {
    let sizes = [1, 100, 1_000, 5_000, 70_000, 10, 3_000, 4_000, 2];
    let mut log = PublishLog::default();
    let mut naive: Vec<(TopicId, Vec<u8>)> = Vec::new();
    for round in 0..60 {
        let topic = [A, B, C][round * 7 % 3];
        let payload = vec![round as u8; sizes[round % sizes.len()]];
        publish(&mut log, topic, &payload);
        let mut frame = Vec::new();
        append_frame(&mut frame, Opcode::Binary, &payload);
        naive.push((topic, frame));
    }
    let tick = log.seal();
    let mut deliveries = Deliveries::default();
    deliveries.begin(&tick);
    assert_eq!(deliveries.topics(), 3);
    for names in [&["a"][..], &["b"], &["c", "a"], &["a", "c"], &["b", "c", "a"]] {
        let subscriptions = subscriptions(names);
        let wanted: Vec<u8> = naive
            .iter()
            .filter(|(topic, _)| subscriptions.contains(*topic))
            .flat_map(|(_, frame)| frame.clone())
            .collect();
        let delivery = deliveries.of(&tick, &subscriptions);
        assert_eq!(bytes_of(delivery), wanted, "{names:?}");
        assert_eq!(delivery.bytes, wanted.len());
        let (kept, copied) = kept_and_copied(delivery);
        assert!(kept <= 2 * wanted.len(), "{names:?} keep {kept} for {}", wanted.len());
        // Between two long frames at most.
        assert!(copied <= COPY_BYTES_MAX * (delivery.parts.len() + 1), "{copied} copied");
    }
    assert_eq!(deliveries.by_set.len(), 2, "one delivery for each set, in any order");
}

#[test]
fn many_subscribers_of_many_topics_copy_nothing_that_is_long() {
    let mut log = PublishLog::default();
    for _ in 0..300 {
        publish(&mut log, A, &[1; 4_000]);
        publish(&mut log, B, &[2; 4_000]);
    }
    let tick = log.seal();
    let mut deliveries = Deliveries::default();
    deliveries.begin(&tick);
    for names in [&["a"][..], &["b"], &["a", "b"]] {
        let delivery = deliveries.of(&tick, &subscriptions(names));
        assert_eq!((delivery.parts.len(), kept_and_copied(delivery).1), (1, 0), "{names:?}");
    }
}

#[test]
fn what_is_left_behind_a_position() {
    let mut log = PublishLog::default();
    publish(&mut log, A, b"1");
    let position = log.end();
    publish(&mut log, A, b"22");
    publish(&mut log, B, b"333");
    let short = log.short();
    let left: Vec<Vec<u8>> = log
        .pieces_after(position)
        .map(|index| log.piece(index).part_after(position, &short).run().as_slice().to_vec())
        .collect();
    assert_eq!(left, [b"\x82\x0222".to_vec(), b"\x82\x03333".to_vec()]);
    assert_eq!(log.pieces_after(log.end()).len(), 0);
}

#[test]
fn the_frames_of_a_run() {
    let mut bytes = Vec::new();
    let sizes = [0, 1, 125, 126, 65_535, 65_536];
    for size in sizes {
        append_frame(&mut bytes, Opcode::Text, &vec![b'x'; size]);
    }
    let run = Run::whole(&bytes.into());
    let found: Vec<usize> = frames(&run).map(|frame| frame.as_slice().len()).collect();
    assert_eq!(found, sizes.map(|size| size + frame_header_bytes(size)));
}

#[test]
fn bytes_nobody_holds_are_used_again() {
    let mut log = PublishLog::default();
    let tick = |log: &mut PublishLog| {
        publish(log, A, b"frame");
        let tick = log.seal();
        let short = Rc::clone(tick.short());
        log.restart(tick);
        short
    };
    let held = tick(&mut log);
    let free = tick(&mut log);
    let address = free.as_ptr();
    drop(free);
    assert!((0..3).any(|_| tick(&mut log).as_ptr() == address));
    assert_eq!(held[..], *b"\x82\x05frame");
}

#[test]
fn no_more_bytes_are_kept_than_may_be_used_again() {
    let mut log = PublishLog::default();
    let held: Vec<_> = (0..=RETIRED_MAX)
        .map(|_| {
            publish(&mut log, A, b"frame");
            let tick = log.seal();
            let short = Rc::clone(tick.short());
            log.restart(tick);
            short
        })
        .collect();
    let references: Vec<usize> = held.iter().map(Rc::strong_count).collect();
    let kept_by_the_log = [2; RETIRED_MAX];
    assert_eq!(references, [&[1], &kept_by_the_log[..]].concat(), "the oldest is let go");
}
