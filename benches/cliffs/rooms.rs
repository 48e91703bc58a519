//! Messages to several topics in one tick, with subscribers that do not read: what they take must
//! not grow with the number of topics.

use std::time::Duration;

use crate::crowd::Crowd;
use crate::figure::Figure;
use crate::server::{Control, ServerOptions};

const GROWTH_MIB_MAX: f64 = 16.0;

/// Some rooms, and what is published to them in one callback.
struct Rooms {
    what: &'static str,
    subscribers: usize,
    /// What each subscriber is subscribed to, in turn.
    topics: String,
    rounds: usize,
    bytes: usize,
    published_to: usize,
    /// What the messages themselves take above the rest, where that is much.
    published_bytes: usize,
}

pub(crate) fn measure() -> Result<Vec<Figure>, String> {
    let topics = |count: usize| (0..count).map(|topic| topic.to_string()).collect::<Vec<_>>();
    let rooms = |what, subscribers, topics, rounds, bytes, published_to| Rooms {
        what,
        subscribers,
        topics,
        rounds,
        bytes,
        published_to,
        published_bytes: 0,
    };
    [
        rooms("1 topic × 3,000, 400 kB", 3_000, "0".to_owned(), 1, 400_000, 1),
        rooms("3 topics × 1,000, 400 kB each", 3_000, topics(3).join("|"), 1, 400_000, 3),
        rooms("300 topics × 10, 4 kB each", 3_000, topics(300).join("|"), 1, 4_000, 300),
        Rooms {
            published_bytes: 300 * 400_000,
            ..rooms("300 topics × 10, 400 kB each", 3_000, topics(300).join("|"), 1, 400_000, 300)
        },
        rooms("1,000 in all 3 topics, 400 kB each", 1_000, topics(3).join(" "), 1, 400_000, 3),
        rooms("1,000 in all 3 topics, 100 × 4 kB each", 1_000, topics(3).join(" "), 100, 4_000, 3),
        rooms("1,000 in 100 topics, 10 kB each", 1_000, topics(100).join(" "), 1, 10_000, 100),
        rooms(
            "1,000 in 2 of 3 topics, 100 × 4 kB each",
            1_000,
            "0 1|1 2|2 0".to_owned(),
            100,
            4_000,
            3,
        ),
    ]
    .iter()
    .map(Rooms::measure)
    .collect()
}

impl Rooms {
    fn measure(&self) -> Result<Figure, String> {
        let server = ServerOptions::default().start()?;
        let mut control = Control::open(&server)?;
        let crowd = Crowd::open(server.addr, self.subscribers, &self.topics)?;
        server.pid().forget_height()?;
        let before = server.pid().resident_bytes()?;
        control.publish(self.rounds, self.bytes, self.published_to)?;
        // Long enough for everything to be handed to the kernel that it takes.
        std::thread::sleep(Duration::from_secs(2));
        let connections = control.connections()?;
        if connections != self.subscribers as u64 + 1 {
            return Err(format!("{}: {connections} connections are left", self.what));
        }
        let growth = server.pid().resident_bytes_height()? - before;
        drop(crowd);
        server.stop()?;
        let most = GROWTH_MIB_MAX + self.published_bytes as f64 / f64::from(1 << 20);
        let what = format!("growth of RSS at the height, {}", self.what);
        Ok(Figure::bytes(what, growth).at_most(most))
    }
}
