//! Connections that somebody else has accepted and upgraded, and hands over: sound ones, broken
//! ones, and what is no connection at all.

mod harness;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use harness::{PATIENCE, RawClient, ServerFrame, TestServer, close, patient, text, wait_until};
use ringwire::{
    CloseCode, Config, Conn, Context, HandleError, Handler, Message, Offer, Request, Upgrade,
};

#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// The name, the shard, and whether the peer has an address.
    Open(String, usize, bool),
    Close(String, u16),
    /// The state was dropped.
    Drop(String),
}

/// A name, and who is told when it is dropped.
struct Name(String, Sender<Told>);

impl Drop for Name {
    fn drop(&mut self) {
        let _ = self.1.send(Told::Drop(self.0.clone()));
    }
}

struct Host {
    told: Sender<Told>,
}

impl Handler for Host {
    type State = Name;
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<Name> {
        Upgrade::accept(Name("accepted".into(), self.told.clone()))
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, name: &mut Name) {
        let has_addr = conn.peer_addr().is_some();
        self.told.send(Told::Open(name.0.clone(), conn.shard(), has_addr)).unwrap();
        match name.0.as_str() {
            "greeted" => drop(conn.send("welcome")),
            "closed" => conn.close(CloseCode::NORMAL, "not you"),
            "cut off" => conn.terminate(),
            "panic" => std::panic::resume_unwind(Box::new("on purpose")),
            _ => {}
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _name: &mut Name, message: Message<'_>) {
        conn.send(message);
    }

    fn on_close(
        &mut self,
        _conn: &mut Conn<'_, Self>,
        name: &mut Name,
        code: CloseCode,
        _reason: &str,
    ) {
        self.told.send(Told::Close(name.0.clone(), code.as_u16())).unwrap();
    }
}

struct Hosted {
    server: TestServer,
    told: Receiver<Told>,
    tell: Sender<Told>,
}

impl Hosted {
    fn start(shards: usize, config: Config) -> Self {
        let (tell, told) = channel();
        let host = tell.clone();
        let server = TestServer::start(shards, config, move |_| Host { told: host.clone() });
        Self { server, told, tell }
    }

    fn adopt(
        &self,
        shard: usize,
        socket: impl Into<OwnedFd>,
        leftover: &[u8],
        name: &str,
    ) -> Result<(), HandleError> {
        let state = Name(name.into(), self.tell.clone());
        self.server.handle().adopt(Some(shard), socket, leftover.to_vec(), state)
    }

    /// A connection of this name on a shard.
    fn host(&self, shard: usize, leftover: &[u8], name: &str) -> RawClient {
        let (client, socket) = RawClient::pair();
        self.adopt(shard, socket, leftover, name).unwrap();
        self.expect(Told::Open(name.into(), shard, true));
        client
    }

    fn expect(&self, expected: Told) {
        assert_eq!(self.told.recv_timeout(PATIENCE).expect("a call"), expected);
    }

    fn expect_end(&self, name: &str, code: u16) {
        self.expect(Told::Close(name.into(), code));
        self.expect(Told::Drop(name.into()));
    }
}

#[test]
fn a_connection_is_served_on_the_shard_that_was_asked_for() {
    let hosted = Hosted::start(3, patient());
    let mut clients = Vec::new();
    for shard in [0, 1, 2, 2, 1, 0] {
        let mut client = hosted.host(shard, b"", "greeted");
        assert_eq!(client.read_frame(), ServerFrame::text("welcome"));
        client.send(&text("hello"));
        assert_eq!(client.read_frame(), ServerFrame::text("hello"));
        clients.push(client);
    }
    let metrics = hosted.server.handle().metrics();
    assert_eq!((metrics.connections_now, metrics.connections_accepted), (6, 6));
    assert_eq!(metrics.handshakes_accepted, 0);
    // The emptiest one takes the next: the one of which one has left.
    clients[1].send(&close(1000, ""));
    clients[1].expect_close(1000);
    clients[1].stream.shutdown(Shutdown::Both).unwrap();
    hosted.expect_end("greeted", 1000);
    let handle = hosted.server.handle();
    wait_until("it is gone", || handle.metrics().connections_now == 5);
    let (mut client, socket) = RawClient::pair();
    let state = Name("emptiest".into(), hosted.tell.clone());
    handle.adopt(None, socket, text("early"), state).unwrap();
    hosted.expect(Told::Open("emptiest".into(), 1, true));
    assert_eq!(client.read_frame(), ServerFrame::text("early"));
}

/// What the other server has read behind the request: whole frames and a part of one, in every cut.
#[test]
fn leftovers_in_every_cut() {
    let hosted = Hosted::start(1, patient());
    let frames = [text("one"), text(""), text(&"long".repeat(50)), harness::ping(b"p")].concat();
    for cut in 0..=frames.len() {
        let mut client = hosted.host(0, &frames[..cut], "cut");
        client.send(&frames[cut..]);
        assert_eq!(client.read_frame(), ServerFrame::text("one"));
        assert_eq!(client.read_frame(), ServerFrame::text(""));
        assert_eq!(client.read_frame(), ServerFrame::text(&"long".repeat(50)));
        assert_eq!(client.read_frame().first, 0x8A);
        client.send(&close(1000, ""));
        client.expect_close(1000);
        hosted.expect(Told::Close("cut".into(), 1000));
        drop(client);
        hosted.expect(Told::Drop("cut".into()));
    }
    // A long message of which the most is left over.
    let long = "x".repeat(900_000);
    let frame = text(&long);
    for left in [1, 14, 100_000, frame.len() - 1, frame.len()] {
        let mut client = hosted.host(0, &frame[..left], "long");
        client.send(&frame[left..]);
        assert_eq!(client.read_frame(), ServerFrame::text(&long));
        drop(client);
        hosted.expect_end("long", 1006);
    }
}

/// A leftover that breaks a rule, or says goodbye.
#[test]
fn leftovers_that_end_the_connection() {
    let hosted = Hosted::start(1, patient().message_bytes_max(100));
    let table: [(&[u8], u16); 5] = [
        (&[0xFF; 20], 1002),
        (&text(&"x".repeat(200)), 1009),
        (&harness::frame(0x81, b"\xFF"), 1007),
        (&close(4000, "bye"), 4000),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ];
    for (leftover, code) in table {
        let mut client = hosted.host(0, leftover, "leftover");
        client.expect_close(code);
        drop(client);
        hosted.expect_end("leftover", code);
    }
    for (name, code) in [("panic", 1011), ("closed", 1000)] {
        let mut client = hosted.host(0, &text("unheard"), name);
        assert_eq!(client.read_frame().close_code(), code);
        if code == 1000 {
            client.send(&close(1000, ""));
        }
        assert_eq!(client.read_to_end(), b"");
        drop(client);
        hosted.expect_end(name, code);
    }
    let mut client = hosted.host(0, &text("unheard"), "cut off");
    client.expect_gone();
    hosted.expect_end("cut off", 1006);
}

/// The peer has gone before it is handed over, with FIN or with a reset.
#[test]
fn dead_sockets() {
    let hosted = Hosted::start(1, patient());
    let mut bystander = hosted.host(0, b"", "bystander");
    let (client, socket) = RawClient::pair();
    drop(client);
    hosted.adopt(0, socket, &text("last words"), "gone").unwrap();
    hosted.expect(Told::Open("gone".into(), 0, true));
    hosted.expect_end("gone", 1006);
    let (client, socket) = RawClient::pair();
    client.reset();
    hosted.adopt(0, socket, b"", "reset").unwrap();
    // A socket that was reset has no peer any more.
    hosted.expect(Told::Open("reset".into(), 0, false));
    hosted.expect_end("reset", 1006);
    let (_client, socket) = RawClient::pair();
    socket.shutdown(Shutdown::Both).unwrap();
    hosted.adopt(0, socket, b"", "shut down").unwrap();
    assert!(matches!(hosted.told.recv_timeout(PATIENCE), Ok(Told::Open(..))));
    hosted.expect_end("shut down", 1006);
    bystander.send(&text("still there?"));
    assert_eq!(bystander.read_frame(), ServerFrame::text("still there?"));
}

/// Descriptors of something else are refused; stream sockets without a peer are opened and closed.
#[test]
fn what_is_no_connection() {
    let hosted = Hosted::start(1, patient());
    let mut bystander = hosted.host(0, b"", "bystander");
    let (reader, _writer) = std::io::pipe().unwrap();
    let (datagrams, _peer) = UnixDatagram::pair().unwrap();
    let others: [(&str, OwnedFd); 6] = [
        ("a device", File::open("/dev/null").unwrap().into()),
        ("a file", File::open("/proc/self/exe").unwrap().into()),
        ("a directory", File::open("/").unwrap().into()),
        ("a pipe", reader.into()),
        ("datagrams", UdpSocket::bind((harness::own_ip(), 0)).unwrap().into()),
        ("datagrams of a pair", datagrams.into()),
    ];
    for (what, descriptor) in others {
        let refused = hosted.adopt(0, descriptor, &text("hello"), what);
        assert_eq!(refused, Err(HandleError::NoStream), "{what}");
        hosted.expect(Told::Drop(what.into()));
    }
    let alone: [(&str, OwnedFd); 2] = [
        ("a socket that was never connected", socket2_stream().into()),
        ("a listener", TcpListener::bind((harness::own_ip(), 0)).unwrap().into()),
    ];
    for (what, descriptor) in alone {
        hosted.adopt(0, descriptor, &text("hello"), what).unwrap();
        hosted.expect(Told::Open(what.into(), 0, false));
        hosted.expect_end(what, 1006);
    }
    bystander.send(&text("still there?"));
    assert_eq!(bystander.read_frame(), ServerFrame::text("still there?"));
}

fn socket2_stream() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}

#[test]
fn a_pair_of_unix_sockets() {
    let hosted = Hosted::start(1, patient());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    // As tokio leaves it.
    ours.set_nonblocking(true).unwrap();
    hosted.adopt(0, ours, &text("hel")[..4], "unix").unwrap();
    hosted.expect(Told::Open("unix".into(), 0, false));
    theirs.write_all(&text("hel")[4..]).unwrap();
    let mut frame = [0; 5];
    theirs.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x81\x03hel");
    // More than the kernel takes at once, in both directions.
    let long = text(&"y".repeat(1_000_000));
    let mut writer = theirs.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&long).unwrap());
    let mut echo = vec![0; 1_000_000 + 10];
    theirs.read_exact(&mut echo).unwrap();
    assert!(echo[10..].iter().all(|byte| *byte == b'y'));
    writing.join().unwrap();
    theirs.write_all(&close(1000, "")).unwrap();
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).unwrap();
    assert_eq!(rest[..4], [0x88, 2, 0x03, 0xE8]);
    drop(theirs);
    hosted.expect_end("unix", 1000);
}

/// A state that is not the handler's: the connection is closed, and no callback hears of it.
#[test]
fn a_state_of_another_type() {
    let hosted = Hosted::start(1, patient());
    let handle = hosted.server.handle();
    for number in 1..=3 {
        let (mut client, socket) = RawClient::pair();
        handle.adopt(Some(0), socket, text("hello"), String::from("not a Name")).unwrap();
        client.expect_gone();
        wait_until("it is counted", || handle.metrics().connections_refused == number);
    }
    let mut client = hosted.host(0, b"", "greeted");
    assert_eq!(client.read_frame(), ServerFrame::text("welcome"));
    assert_eq!(handle.metrics().connections_now, 1);
}

#[test]
fn connections_beyond_the_limit() {
    let hosted = Hosted::start(1, patient().connections_max(2));
    let first = hosted.host(0, b"", "first");
    let _second = hosted.host(0, b"", "second");
    for _ in 0..3 {
        let (mut client, socket) = RawClient::pair();
        hosted.adopt(0, socket, &text("hello"), "third").unwrap();
        client.expect_gone();
        hosted.expect(Told::Drop("third".into()));
    }
    let handle = hosted.server.handle();
    wait_until("they are counted", || handle.metrics().connections_refused == 3);
    drop(first);
    hosted.expect_end("first", 1006);
    let mut client = hosted.host(0, &text("hello"), "fourth");
    assert_eq!(client.read_frame(), ServerFrame::text("hello"));
}

/// Handed over while the server stops, and when it has stopped.
#[test]
fn to_a_server_that_stops() {
    let hosted = Hosted::start(1, patient());
    let mut waiting = hosted.host(0, b"", "first");
    let handle = hosted.server.handle();
    handle.stop();
    assert_eq!(waiting.read_frame().close_code(), 1001);
    let (mut client, socket) = RawClient::pair();
    hosted.adopt(0, socket, b"", "late").unwrap();
    client.expect_gone();
    hosted.expect(Told::Drop("late".into()));
    wait_until("it is counted", || handle.metrics().connections_refused == 1);
    waiting.send(&close(1001, ""));
    drop(waiting);
    let Hosted { server, told, tell } = hosted;
    server.stop().unwrap();
    let (mut client, socket) = RawClient::pair();
    let state = Name("too late".into(), tell);
    assert_eq!(handle.adopt(None, socket, Vec::new(), state), Err(HandleError::Stopped));
    client.expect_gone();
    let rest: Vec<Told> = told.try_iter().collect();
    assert_eq!(
        rest,
        [
            Told::Close("first".into(), 1001),
            Told::Drop("first".into()),
            Told::Drop("too late".into()),
        ]
    );
}

/// Many at once from many threads: every one is served or refused, and none is lost.
#[test]
fn a_crowd_is_handed_over() {
    const EACH: usize = 50;
    let hosted = Hosted::start(2, patient());
    let adopters: Vec<_> = (0..4)
        .map(|thread| {
            let (handle, tell) = (hosted.server.handle(), hosted.tell.clone());
            std::thread::spawn(move || {
                let adopt = |number| {
                    let (client, socket) = RawClient::pair();
                    let name = Name(format!("{thread}.{number}"), tell.clone());
                    handle.adopt(None, socket, text("hello"), name).unwrap();
                    client
                };
                (0..EACH).map(adopt).collect::<Vec<_>>()
            })
        })
        .collect();
    let clients = adopters.into_iter().flat_map(|thread| thread.join().unwrap());
    let mut clients: Vec<RawClient> = clients.collect();
    for client in &mut clients {
        assert_eq!(client.read_frame(), ServerFrame::text("hello"));
    }
    let handle = hosted.server.handle();
    wait_until("all are counted", || handle.metrics().connections_now == 4 * EACH as u64);
    let shards: Vec<usize> = hosted
        .told
        .try_iter()
        .filter_map(|told| match told {
            Told::Open(_, shard, _) => Some(shard),
            _ => None,
        })
        .collect();
    assert_eq!(shards.len(), 4 * EACH);
}
