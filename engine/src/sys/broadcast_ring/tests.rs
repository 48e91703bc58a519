//! Tests of the broadcast ring, by threads.

use super::*;

#[test]
fn every_reader_gets_every_entry_in_order() {
    let (mut publisher, mut readers) = broadcast_ring(4, 1_000, 2);
    let mut read = [Vec::new(), Vec::new()];
    for entry in 0..100 {
        publisher.publish(entry, 1).unwrap();
        for (reader, entries) in readers.iter_mut().zip(&mut read) {
            assert!(reader.is_behind());
            assert_eq!(reader.read(10, entries), 0);
            assert!(!reader.is_behind());
        }
    }
    assert_eq!(read[0], (0..100).collect::<Vec<_>>());
    assert_eq!(read[1], read[0]);
}

/// Entries that stand for several are lost as several, and counted once.
#[test]
fn what_lost_entries_stood_for_is_known() {
    let (mut publisher, mut readers) = broadcast_ring(2, 1_000, 1);
    let reader = &mut readers[0];
    let mut entries = Vec::new();
    publisher.weigh(9);
    publisher.publish(10, 1).unwrap();
    assert_eq!((reader.read(10, &mut entries), reader.count_surplus(9)), (0, 9));
    for (surplus, entry) in [(9, 1), (13, 5), (13, 1), (13, 1)] {
        publisher.weigh(surplus);
        publisher.publish(entry, 1).unwrap();
    }
    // One more is announced, and counted before it is there.
    publisher.weigh(15);
    assert_eq!((reader.read(10, &mut entries), reader.lost_surplus()), (4, 6));
    publisher.publish(3, 1).unwrap();
    assert_eq!((reader.read(10, &mut entries), reader.count_surplus(15)), (0, 0));
}

#[test]
fn a_read_takes_no_more_than_it_was_asked_to() {
    let (mut publisher, mut readers) = broadcast_ring(8, 1_000, 1);
    for entry in 0..5 {
        publisher.publish(entry, 1).unwrap();
    }
    let mut entries = Vec::new();
    readers[0].read(3, &mut entries);
    assert_eq!(entries, [0, 1, 2]);
    readers[0].read(3, &mut entries);
    assert_eq!(entries, [0, 1, 2, 3, 4]);
}

#[test]
fn a_stuck_reader_holds_up_nobody_and_learns_its_loss() {
    let (mut publisher, mut readers) = broadcast_ring(4, 1_000, 2);
    let mut alive = Vec::new();
    for entry in 0..11 {
        publisher.publish(entry, 1).unwrap();
        assert_eq!(readers[0].read(10, &mut alive), 0);
    }
    assert_eq!(alive, (0..11).collect::<Vec<_>>());
    let mut stuck = Vec::new();
    assert!(readers[1].is_behind());
    assert_eq!(readers[1].read(10, &mut stuck), 11);
    assert!(stuck.is_empty());
    publisher.publish(11, 1).unwrap();
    assert_eq!(readers[1].read(10, &mut stuck), 0);
    assert_eq!(stuck, [11]);
}

#[test]
fn what_everybody_has_read_is_dropped() {
    let (mut publisher, mut readers) = broadcast_ring(8, 1_000, 2);
    let entry = Arc::new(());
    publisher.publish(Arc::clone(&entry), 10).unwrap();
    let mut entries = Vec::new();
    readers[0].read(1, &mut entries);
    publisher.clear_read();
    assert_eq!(Arc::strong_count(&entry), 3, "the other reader has not read it");
    readers[1].read(1, &mut entries);
    entries.clear();
    publisher.clear_read();
    assert_eq!(Arc::strong_count(&entry), 1);
    assert_eq!(publisher.unread_bytes, 0);
}

/// A ring bounded by its number of entries alone once held gigabytes of large ones.
#[test]
fn unread_bytes_are_bounded_by_evicting_whoever_is_behind() {
    let (mut publisher, mut readers) = broadcast_ring(64, 100, 2);
    let mut read = Vec::new();
    for entry in 0..10 {
        publisher.publish(entry, 30).unwrap();
        assert!(publisher.unread_bytes <= 100);
        readers[0].read(9, &mut read);
    }
    assert_eq!(read, (0..10).collect::<Vec<_>>());
    let mut late = Vec::new();
    let lost = readers[1].read(9, &mut late);
    assert_eq!(lost as usize + late.len(), 10);
    publisher.publish(10, 5_000).expect("a single giant is taken");
    readers[1].read(9, &mut late);
    assert_eq!(late.last(), Some(&10));
}

#[test]
fn nobody_to_read_is_no_trouble() {
    let (mut publisher, _) = broadcast_ring(2, 1_000, 0);
    for entry in 0..10 {
        publisher.publish(entry, 1).unwrap();
    }
}

/// What a reader has coming: plain queues, and a loss where one is full.
#[derive(Default)]
struct Naive {
    coming: VecDeque<u64>,
    lost: u64,
    is_evicted: bool,
}

impl Naive {
    fn publish(&mut self, entry: u64, capacity: usize) {
        if self.coming.len() == capacity {
            self.is_evicted = true;
            self.lost += self.coming.drain(..).count() as u64;
        }
        match self.is_evicted {
            true => self.lost += 1,
            false => self.coming.push_back(entry),
        }
    }

    fn read(&mut self, entries_max: usize) -> (u64, Vec<u64>) {
        self.is_evicted = false;
        let taken = self.coming.len().min(entries_max);
        (std::mem::take(&mut self.lost), self.coming.drain(..taken).collect())
    }
}

#[test]
fn behaves_like_a_plain_queue_for_each_reader() {
    let mut random = fastrand::Rng::with_seed(7);
    for capacity in [1, 2, 8] {
        let (mut publisher, mut readers) = broadcast_ring(capacity, usize::MAX, 3);
        let mut naive: [Naive; 3] = Default::default();
        for entry in 0..20_000 {
            publisher.publish(entry, 1).unwrap();
            naive.iter_mut().for_each(|naive| naive.publish(entry, capacity));
            while random.bool() {
                let (reader, max) = (random.usize(..3), random.usize(..5));
                let mut entries = Vec::new();
                let lost = readers[reader].read(max, &mut entries);
                assert_eq!((lost, entries), naive[reader].read(max));
            }
            if random.u8(..4) == 0 {
                publisher.clear_read();
            }
        }
    }
}

/// Every entry is read once in order, or counted as lost; under contention.
#[test]
fn read_and_lost_add_up_across_threads() {
    const ENTRIES: u64 = 200_000;
    let (mut publisher, readers) = broadcast_ring(8, 1_000, 2);
    let reading = readers.into_iter().map(|mut reader: Reader<Arc<u64>>| {
        std::thread::spawn(move || {
            let (mut accounted, mut next, mut entries) = (0, 0, Vec::new());
            while accounted < ENTRIES {
                let lost = reader.read(5, &mut entries);
                next += lost;
                accounted += lost + entries.len() as u64;
                for entry in entries.drain(..) {
                    assert_eq!(*entry, next);
                    next += 1;
                }
            }
            accounted
        })
    });
    let reading: Vec<_> = reading.collect();
    for entry in 0..ENTRIES {
        let mut entry = Arc::new(entry);
        while let Err(refused) = publisher.publish(entry, 1) {
            entry = refused;
            std::hint::spin_loop();
        }
    }
    for reader in reading {
        assert_eq!(reader.join().unwrap(), ENTRIES);
    }
}
