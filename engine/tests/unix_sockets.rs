//! Servers on Unix sockets: one socket for all shards, which take turns; its file; and everything that
//! a TCP connection has. With `RINGWIRE_TRANSPORT=unix` all other tests speak through Unix sockets too.

mod harness;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::process::{self, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use harness::folder::Folder;
use harness::{
    Echo, PATIENCE, RawClient, ServerFrame, builder, handshake, patient, text, wait_until,
};
use ringwire::{
    Config, Conn, Context, Handler, ListenAddr, Message, Offer, Request, Running, StartError,
    Upgrade,
};

/// Waits for nobody who does not answer a Close frame when it stops.
fn settled() -> Config {
    patient().close_timeout_ms(500)
}

/// Says which shard it is on; blocks on `block` until it may go on, and sends much on `fill`.
#[derive(Clone)]
struct Shards {
    blocked: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Shards {
    fn new() -> (Self, Receiver<()>, Sender<()>) {
        let (blocked, is_blocked) = channel();
        let (may_go_on, go_on) = channel();
        (Self { blocked, go_on: Arc::new(Mutex::new(go_on)) }, is_blocked, may_go_on)
    }
}

impl Handler for Shards {
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

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        match message {
            Message::Text("shard") => {
                conn.send(conn.shard().to_string());
            }
            Message::Text("peer") => {
                conn.send(format!("{:?}", conn.peer_addr()));
            }
            Message::Text("block") => {
                self.blocked.send(()).expect("the test waits");
                let go_on = self.go_on.lock().expect("no panic");
                go_on.recv_timeout(PATIENCE).expect("the test lets it go on");
            }
            Message::Text("fill") => {
                conn.send(vec![0; 30_000_000]);
            }
            message => {
                conn.send(message);
            }
        }
    }
}

fn start(folder: &Folder, shards: usize, config: Config) -> Running {
    let (handler, ..) = Shards::new();
    let server = builder().listen(folder.listen()).shards(shards).config(config);
    server.start(move |_| handler.clone()).unwrap_or_else(|error| panic!("{error}"))
}

fn stop(running: Running) {
    running.handle().stop();
    running.join().expect("no shard panics");
}

fn ask(client: &mut RawClient, question: &str) -> String {
    client.send(&text(question));
    let answer = client.read_past_pings();
    String::from_utf8(answer.payload).expect("text")
}

fn shard_of(client: &mut RawClient) -> usize {
    ask(client, "shard").parse().expect("a number")
}

#[test]
fn shards_take_turns() {
    const CLIENTS: usize = 100;
    let folder = Folder::new();
    let running = start(&folder, 2, settled());
    assert_eq!(running.local_addrs(), [ListenAddr::Unix(folder.socket())]);
    let mut clients: Vec<RawClient> =
        (0..CLIENTS).map(|_| RawClient::open_unix(&folder.addr())).collect();
    let second = clients.iter_mut().map(shard_of).filter(|&shard| shard == 1).count();
    // Each that is open leaves the next one to the other shard, unless that one is about to sleep.
    assert!((CLIENTS / 4..=CLIENTS * 3 / 4).contains(&second), "{second} of {CLIENTS}");
    for round in 0..5 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(&text(&format!("{index} in round {round}")));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(
                client.read_frame(),
                ServerFrame::text(&format!("{index} in round {round}"))
            );
        }
    }
    assert_eq!(ask(&mut clients[0], "peer"), "None");
    drop(clients);
    stop(running);
}

/// All of them wait when the shards look.
#[test]
fn a_crowd_that_comes_at_once_is_served() {
    const CLIENTS: usize = 500;
    let folder = Folder::new();
    let running = start(&folder, 2, settled());
    for _ in 0..3 {
        let mut clients: Vec<RawClient> =
            (0..CLIENTS).map(|_| RawClient::connect_unix(&folder.addr())).collect();
        for client in &mut clients {
            client.send(&handshake());
        }
        for client in &mut clients {
            assert_eq!(client.read_status(), 101);
        }
        let handle = running.handle();
        drop(clients);
        wait_until("all have left", || handle.metrics().connections_now == 0);
    }
    stop(running);
}

/// While one shard stands still, it keeps one connection waiting at most.
#[test]
fn a_shard_that_stands_still_leaves_connections_to_the_others() {
    const CLIENTS: usize = 40;
    let folder = Folder::new();
    let (handler, is_blocked, may_go_on) = Shards::new();
    let server = builder().listen(folder.listen()).shards(2).config(settled());
    let running = server.start(move |_| handler.clone()).unwrap();
    let mut blocking = RawClient::open_unix(&folder.addr());
    blocking.send(&text("block"));
    is_blocked.recv_timeout(PATIENCE).expect("it blocks");
    let mut clients: Vec<RawClient> =
        (0..CLIENTS).map(|_| RawClient::connect_unix(&folder.addr())).collect();
    for client in &mut clients {
        client.send(&handshake());
    }
    let handle = running.handle();
    wait_until("the other shard serves the others", || {
        handle.metrics().handshakes_accepted >= CLIENTS as u64
    });
    may_go_on.send(()).expect("it waits");
    for client in &mut clients {
        assert_eq!(client.read_status(), 101);
    }
    stop(running);
}

/// Nobody is refused while another shard has room, and who is beyond all of it is told.
#[test]
fn a_full_shard_leaves_connections_to_the_others() {
    let folder = Folder::new();
    let running = start(&folder, 2, settled().connections_max(5));
    let mut clients: Vec<RawClient> =
        (0..10).map(|_| RawClient::open_unix(&folder.addr())).collect();
    let mut refused = RawClient::connect_unix(&folder.addr());
    refused.send(&handshake());
    assert_eq!(refused.read_last_response().status, 503);
    drop(clients.swap_remove(3));
    wait_until("there is room again", || {
        let mut client = RawClient::connect_unix(&folder.addr());
        client.send(&handshake());
        client.read_status() == 101
    });
    for client in &mut clients {
        assert_eq!(ask(client, "still there?"), "still there?");
    }
    stop(running);
}

#[test]
fn the_file_has_its_mode_and_goes_with_the_server() {
    let folder = Folder::new();
    for (mode, expected) in [(None, 0o660), (Some(0o666), 0o666), (Some(0o200), 0o200)] {
        let mut server = builder().listen(folder.listen()).shards(2);
        if let Some(mode) = mode {
            server = server.unix_mode(mode);
        }
        let running = server.start(|_| Echo).unwrap();
        let metadata = fs::symlink_metadata(folder.socket()).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.mode() & 0o7777, expected);
        stop(running);
        assert!(fs::symlink_metadata(folder.socket()).is_err(), "it is removed");
    }
    for mode in [0o4660, 0o466, 0] {
        let server = builder().listen(folder.listen()).unix_mode(mode);
        let error = server.start(|_| Echo).map(drop).expect_err("a mode that makes no sense");
        assert!(matches!(error, StartError::Config { .. }), "{error}");
    }
}

#[test]
fn the_file_of_somebody_else_is_kept() {
    let folder = Folder::new();
    let running = start(&folder, 1, settled());
    fs::remove_file(folder.socket()).unwrap();
    let _another = UnixListener::bind(folder.socket()).unwrap();
    let inode = fs::symlink_metadata(folder.socket()).unwrap().ino();
    stop(running);
    assert_eq!(fs::symlink_metadata(folder.socket()).unwrap().ino(), inode);
}

fn error(text: String, config: Config) -> StartError {
    let started = builder().listen(text).shards(2).config(config).start(|_| Echo);
    started.map(drop).expect_err("it must not start")
}

#[test]
fn paths_that_cannot_be_listened_on() {
    let impatient = || Config::default().bind_timeout_ms(50);
    let folder = Folder::new();
    for name in ["", "@", &"p".repeat(108)] {
        let error = error(format!("unix:{name}"), impatient());
        assert!(matches!(error, StartError::UnixName { .. }), "{error}");
    }
    assert!(error(format!("unix:{}", "p".repeat(108)), impatient()).to_string().contains("107"));

    let error_there = || error(folder.listen(), impatient());
    let running = start(&folder, 2, settled());
    let in_use = error_there();
    assert!(matches!(in_use, StartError::AddressInUse { .. }), "{in_use}");
    assert!(in_use.to_string().contains(&folder.listen()), "{in_use}");
    assert!(in_use.to_string().contains("ss -lxp"), "{in_use}");
    RawClient::open_unix(&folder.addr());
    stop(running);

    fs::write(folder.socket(), "precious").unwrap();
    let no_socket = error_there();
    assert!(matches!(no_socket, StartError::NotASocket { .. }), "{no_socket}");
    assert_eq!(fs::read(folder.socket()).unwrap(), b"precious");

    let nowhere = error(format!("{}/nowhere/ws", folder.listen()), impatient());
    assert!(matches!(nowhere, StartError::Listen { .. }), "{nowhere}");
    let nowhere = error("unix:/nowhere/at/all".to_owned(), impatient());
    assert!(nowhere.to_string().contains("RuntimeDirectory"), "{nowhere}");
}

/// Descriptors of a crowd; should the limit not be raised, connecting says so.
fn raise_descriptor_limit() {
    let pid = process::id().to_string();
    let _ = Command::new("prlimit").args(["--pid", &pid, "--nofile=8192:"]).status();
}

#[test]
fn a_thousand_are_told_that_the_server_stops() {
    raise_descriptor_limit();
    let folder = Folder::new();
    let running = start(&folder, 2, settled());
    let mut clients: Vec<RawClient> =
        (0..1_000).map(|_| RawClient::open_unix(&folder.addr())).collect();
    running.handle().stop();
    for client in &mut clients {
        assert_eq!(client.read_frame().close_code(), 1001);
        client.send(&harness::close(1001, ""));
        assert_eq!(client.read_to_end(), b"");
    }
    running.join().expect("no shard panics");
    assert!(fs::symlink_metadata(folder.socket()).is_err());
}

/// What lies in the kernel and what lies with us reaches a peer that reads late.
#[test]
fn backpressure() {
    let folder = Folder::new();
    let config = settled().write_bytes_max(64 << 20);
    let running = start(&folder, 1, config);
    let mut client = RawClient::open_unix(&folder.addr());
    client.send(&[text("fill"), text("behind")].concat());
    let handle = running.handle();
    wait_until("it is queued", || handle.metrics().messages_sent == 2);
    assert_eq!(client.read_frame().payload.len(), 30_000_000);
    assert_eq!(client.read_frame(), ServerFrame::text("behind"));
    stop(running);
}

/// Each deadline that ends a peer.
#[test]
fn peers_that_are_silent_or_read_nothing() {
    let folder = Folder::new();
    let deadlines: [(Config, &str, u16); 3] = [
        (settled().idle_timeout_ms(200), "", 1001),
        (settled().ping_interval_ms(100).pong_timeout_ms(200), "", 1011),
        (settled().write_timeout_ms(200), "fill", 1006),
    ];
    for (config, says, code) in deadlines {
        println!("to be closed with {code}");
        let running = start(&folder, 1, config);
        let mut client = RawClient::open_unix(&folder.addr());
        if !says.is_empty() {
            client.send(&text(says));
        }
        let handle = running.handle();
        if code == 1006 {
            wait_until("it is gone", || handle.metrics().connections_now == 0);
            client.expect_gone();
        } else {
            assert_eq!(client.read_past_pings().close_code(), code);
            drop(client);
        }
        wait_until("its slot is free", || handle.metrics().connections_now == 0);
        stop(running);
    }
}

/// A peer that reads without a pause keeps its connection, whatever the deadlines: the kernel tells of
/// progress in steps of one buffer of a sender, some 36 KiB.
#[test]
fn a_slow_peer_that_reads_on() {
    let folder = Folder::new();
    let config = settled()
        .write_timeout_ms(2_000)
        .write_rate_bytes_min(10_000)
        .ping_interval_ms(1_000)
        .pong_timeout_ms(2_000)
        .idle_timeout_ms(3_000);
    let running = start(&folder, 1, config);
    let mut client = RawClient::open_unix(&folder.addr());
    client.send(&text("fill"));
    // For more than twice as long as any of them.
    client.read_slowly(2_400_000, 20_000);
    assert_eq!(client.read_past_pings().payload.len(), 30_000_000);
    stop(running);
}

/// The end right behind data: io_uring of some kernels does not tell of it (docs/drivers.md).
#[test]
fn a_peer_that_says_something_and_leaves() {
    let folder = Folder::new();
    let running = start(&folder, 2, settled());
    let handle = running.handle();
    for round in 0..300 {
        let mut client = RawClient::open_unix(&folder.addr());
        match round % 3 {
            0 => client.send(&text("unread")),
            1 => client.send(&text("unread")[..3]),
            _ => assert_eq!(ask(&mut client, "read"), "read"),
        }
    }
    wait_until("all have left", || handle.metrics().connections_now == 0);
    stop(running);
}

/// Descriptors that a peer sends (`SCM_RIGHTS`, unix(7)) are closed at once: none is kept.
#[test]
fn descriptors_from_a_peer_are_not_kept() {
    let folder = Folder::new();
    let running = start(&folder, 1, settled());
    let mut client = RawClient::open_unix(&folder.addr());
    let (reader, writer) = std::io::pipe().unwrap();
    // A cmsghdr: its length, SOL_SOCKET, SCM_RIGHTS, a descriptor, and padding.
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&writer).to_ne_bytes();
    let numbers = [&20_u64.to_ne_bytes()[..], &1_i32.to_ne_bytes(), &1_i32.to_ne_bytes()];
    let control = [&numbers.concat()[..], &descriptor, &[0; 4]].concat();
    let message = text("take this");
    let buffers = [std::io::IoSlice::new(&message)];
    let with_control = socket2::MsgHdr::new().with_buffers(&buffers).with_control(&control);
    socket2::SockRef::from(&client.stream).sendmsg(&with_control, 0).expect("it is taken");
    assert_eq!(client.read_frame(), ServerFrame::text("take this"));
    drop(writer);
    // The end, since nobody else can write.
    assert_eq!(std::io::Read::read(&mut &reader, &mut [0]).unwrap(), 0);
    assert_eq!(ask(&mut client, "still there?"), "still there?");
    stop(running);
}
