//! More shards than cores, over real sockets: a publish reaches every subscriber on every shard,
//! other threads reach every connection, and a stop ends all shards.

mod harness;

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, Sender, channel};

use harness::{PATIENCE, RawClient, ServerFrame, TestServer, close, text, wait_until};
use ringwire::{
    CloseCode, Config, Conn, ConnId, Context, Handler, Message, Offer, Request, Upgrade,
};

const SHARDS: [usize; 3] = [3, 4, 8];

/// What happens to the connections of every shard.
#[derive(Debug)]
enum Told {
    Opened(usize, ConnId),
    Closed(ConnId, u16),
}

/// Puts every connection into one room, and publishes there what it receives.
struct Room(Sender<Told>);

impl Handler for Room {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        Upgrade::accept(())
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        conn.subscribe("room").unwrap();
        self.0.send(Told::Opened(conn.shard(), conn.id())).unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        let Message::Binary(order) = message else {
            return conn.publish_all("room", message);
        };
        // The length of a message, and the ids of those who are to have it.
        let mut words = std::str::from_utf8(order).unwrap().split(' ');
        let bytes = words.next().unwrap().parse().unwrap();
        let ids = words.map(|id| id.parse().expect("an id"));
        let counts = conn.send_many(ids, vec![7; bytes]);
        conn.send(format!("{counts:?}"));
    }

    fn on_close(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), code: CloseCode, _: &str) {
        self.0.send(Told::Closed(conn.id(), code.as_u16())).unwrap();
    }
}

struct Member {
    client: RawClient,
    shard: usize,
    id: ConnId,
}

/// A server and its connections, at least two on every shard.
struct Crowd {
    // Dropped first: a server waits some seconds for peers that do not leave.
    members: Vec<Member>,
    server: TestServer,
    told: Receiver<Told>,
}

impl Crowd {
    fn gather(shards: usize) -> Self {
        // The kernel deals connections out by their addresses. That so many leave a shard with
        // fewer than two does not happen: at 8 shards once in 10^50.
        const MEMBERS_MAX: usize = 1_000;
        let (tell, told) = channel();
        let server = TestServer::start(shards, Config::new(), move |_| Room(tell.clone()));
        let mut members: Vec<Member> = Vec::new();
        let mut on_shard = vec![0; shards];
        while on_shard.iter().any(|&members| members < 2) {
            assert!(members.len() < MEMBERS_MAX, "{on_shard:?} on {shards} shards");
            let client = server.open();
            let Told::Opened(shard, id) = told.recv_timeout(PATIENCE).unwrap() else {
                panic!("nobody has left")
            };
            on_shard[shard] += 1;
            members.push(Member { client, shard, id });
        }
        Self { members, server, told }
    }

    /// The first member on each shard.
    fn one_on_each_shard(&mut self) -> impl Iterator<Item = &mut Member> {
        let mut seen = HashSet::new();
        self.members.iter_mut().filter(move |member| seen.insert(member.shard))
    }

    fn code_of_each_close(&self) -> HashMap<ConnId, u16> {
        let mut codes = HashMap::new();
        while codes.len() < self.members.len() {
            let told = self.told.recv_timeout(PATIENCE).unwrap();
            let Told::Closed(id, code) = told else { panic!("{told:?} after the last open") };
            assert_eq!(codes.insert(id, code), None, "a connection ends once");
        }
        codes
    }
}

/// Everybody publishes at once: one connection of each shard, and another thread.
#[test]
fn a_publish_reaches_everybody_on_every_shard_once_and_in_order() {
    const MESSAGES: usize = 100;
    for shards in SHARDS {
        let mut crowd = Crowd::gather(shards);
        let handle = crowd.server.handle();
        let publishing = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                handle.publish("room", format!("thread {number}").as_str()).unwrap();
            }
        });
        for publisher in crowd.one_on_each_shard() {
            for number in 0..MESSAGES {
                publisher.client.send(&text(&format!("{} {number}", publisher.shard)));
            }
        }
        publishing.join().unwrap();
        let publishers: HashSet<String> =
            (0..shards).map(|shard| shard.to_string()).chain(["thread".to_owned()]).collect();
        for member in &mut crowd.members {
            let mut due: HashMap<&str, usize> =
                publishers.iter().map(|publisher| (publisher.as_str(), 0)).collect();
            for _ in 0..publishers.len() * MESSAGES {
                let frame = member.client.read_frame();
                let said = String::from_utf8(frame.payload).unwrap();
                let (publisher, number) = said.split_once(' ').unwrap();
                let due = due.get_mut(publisher).expect("a publisher");
                assert_eq!(number, due.to_string(), "of {publisher}, on shard {}", member.shard);
                *due += 1;
            }
            // Whatever came twice would come before this.
            crowd.server.handle().send(member.id, "last").unwrap();
            assert_eq!(member.client.read_frame(), ServerFrame::text("last"));
        }
        assert_eq!(crowd.server.handle().metrics().publishes_lost, 0);
    }
}

#[test]
fn another_thread_reaches_each_connection_on_every_shard() {
    for shards in SHARDS {
        let mut crowd = Crowd::gather(shards);
        let handle = crowd.server.handle();
        let code = |index: usize| 4_000 + index as u16 % 1_000;
        for (index, member) in crowd.members.iter().enumerate() {
            handle.send(member.id, format!("only {index}").as_str()).unwrap();
            handle.close(member.id, CloseCode::new(code(index)).unwrap(), "enough").unwrap();
        }
        for (index, member) in crowd.members.iter_mut().enumerate() {
            assert_eq!(member.client.read_frame(), ServerFrame::text(&format!("only {index}")));
            member.client.send(&close(code(index), ""));
            member.client.expect_close(code(index));
        }
        let codes = crowd.code_of_each_close();
        for (index, member) in crowd.members.iter().enumerate() {
            assert_eq!(codes[&member.id], code(index), "on shard {}", member.shard);
        }
    }
}

/// To chosen connections on every shard, from a callback and from a thread: each gets it once for
/// each time that it is named, in a frame that many share (more than one command names).
#[test]
fn one_message_to_many_reaches_each_of_them() {
    const TIMES: usize = 600;
    for (shards, bytes) in [(1, 10), (3, 10), (3, 10_000)] {
        let mut crowd = Crowd::gather(shards);
        let stranger = Crowd::gather(1).members.remove(0).id;
        let mut ids: Vec<ConnId> = crowd.members.iter().map(|member| member.id).collect();
        // The first one speaks, and is told of the others only.
        let rest = ids.split_off(1);
        let named: Vec<String> = rest.iter().map(ConnId::to_string).collect();
        let order = format!("{bytes} {} {stranger}", named.join(" "));
        let speaker = &mut crowd.members[0].client;
        speaker.send(&harness::binary(order.as_bytes()));
        let counts = String::from_utf8(speaker.read_frame().payload).unwrap();
        let queued = rest.len();
        let expected =
            format!("SendCounts {{ queued: {queued}, backpressure: 0, dropped: 0, gone: 1 }}");
        assert_eq!(counts, expected);
        for member in &mut crowd.members[1..] {
            let frame = member.client.read_frame();
            assert_eq!((frame.first, frame.payload), (0x82, vec![7; bytes]));
        }
        let handle = crowd.server.handle();
        let named = std::iter::repeat_n(rest[0], TIMES).chain([stranger]);
        let counts = handle.send_many(named, "again");
        assert_eq!((counts.queued, counts.dropped, counts.gone), (TIMES, 0, 1));
        for _ in 0..TIMES {
            assert_eq!(crowd.members[1].client.read_frame(), ServerFrame::text("again"));
        }
        let sent = (queued + 1 + TIMES) as u64;
        let sent_by = |shard| handle.shard_metrics(shard).messages_sent;
        wait_until("all are counted", || (0..shards).map(sent_by).sum::<u64>() == sent);
    }
}

#[test]
fn a_stop_ends_every_shard() {
    for shards in SHARDS {
        let mut crowd = Crowd::gather(shards);
        crowd.server.handle().stop();
        for member in &mut crowd.members {
            let frame = member.client.read_frame();
            assert_eq!(frame.close_code(), 1001, "on shard {}", member.shard);
            member.client.send(&close(1001, ""));
            assert_eq!(member.client.read_to_end(), b"");
        }
        let codes = crowd.code_of_each_close();
        assert!(codes.values().all(|code| *code == 1001), "{codes:?}");
        drop(crowd.members);
        crowd.server.stop().expect("no shard panics");
        // Every shard has dropped its handler.
        assert!(crowd.told.recv().is_err());
    }
}
