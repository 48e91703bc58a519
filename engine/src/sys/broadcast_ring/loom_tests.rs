//! Checks every interleaving with loom: `RUSTFLAGS="--cfg ringwire_loom" cargo test --release -p
//! ringwire --lib loom`. Loom's cells detect an entry that is written while it is read.

use super::*;

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Publishes `entries` numbers while each of the readers reads `reads` times. Each entry is
/// read once in order, or counted as lost; what is left is there when all is over.
fn publish_and_read(readers: usize, capacity: usize, bytes_max: usize, entries: u64, reads: usize) {
    let (mut publisher, readers) = broadcast_ring(capacity, bytes_max, readers);
    let reading = readers.into_iter().map(|mut reader: Reader<u64>| {
        loom::thread::spawn(move || {
            let mut next = 0;
            (0..reads).for_each(|_| next = read_from(&mut reader, 2, next));
            (reader, next)
        })
    });
    let reading: Vec<_> = reading.collect();
    for entry in 0..entries {
        while publisher.publish(entry, 1).is_err() {
            loom::thread::yield_now();
        }
        publisher.clear_read();
    }
    for reading in reading {
        let (mut reader, next) = reading.join().unwrap();
        assert_eq!(read_from(&mut reader, entries as usize, next), entries);
    }
}

/// Reads once; the number that is due next, of which `next` was due before.
fn read_from(reader: &mut Reader<u64>, entries_max: usize, mut next: u64) -> u64 {
    let mut entries = Vec::new();
    next += reader.read(entries_max, &mut entries);
    for entry in entries {
        assert_eq!(entry, next);
        next += 1;
    }
    next
}

#[test]
fn loom_a_reader_that_keeps_up_or_not() {
    check(3, || publish_and_read(1, 2, 100, 4, 2));
}

#[test]
fn loom_a_reader_that_is_evicted_and_comes_back() {
    check(3, || publish_and_read(1, 1, 100, 3, 3));
}

#[test]
fn loom_a_reader_that_is_evicted_for_its_bytes() {
    check(3, || publish_and_read(1, 4, 1, 3, 2));
}

/// Every entry takes the place of one that neither may have read: both are evicted in one
/// pass, or one of them while the other reads, and come back while the next pass goes on.
#[test]
fn loom_two_readers_that_are_evicted_and_come_back() {
    check(2, || publish_and_read(2, 1, 100, 2, 2));
}

#[test]
fn loom_two_readers_of_which_any_may_be_evicted() {
    check(2, || publish_and_read(2, 2, 100, 3, 1));
}

#[test]
fn loom_two_readers_that_are_evicted_for_their_bytes() {
    check(2, || publish_and_read(2, 4, 1, 2, 2));
}
