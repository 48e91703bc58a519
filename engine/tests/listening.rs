//! Where a server listens, and that it comes back to where it was: several addresses, IPv4 by
//! way of IPv6, and a port whose last owner was killed.

mod harness;

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use harness::recorder::{Acts, recorded};
use harness::{Echo, PATIENCE, RawClient, ServerFrame, TestServer, builder, own_ip, text};
use ringwire::{
    CloseCode, Config, Conn, ConnId, Context, HandleError, Handler, Message, Offer, Pin, Request,
    Running, Upgrade,
};

fn assert_echoes(address: SocketAddr) {
    let mut client = RawClient::open(address);
    client.send(&text("hello"));
    assert_eq!(client.read_frame(), ServerFrame::text("hello"));
}

fn tcp_addresses(running: &Running) -> Vec<SocketAddr> {
    running.local_addrs().iter().map(|address| address.tcp().expect("TCP")).collect()
}

#[test]
fn several_addresses_are_listened_on_by_every_shard() {
    let addresses = [own_ip(), own_ip(), own_ip()];
    let mut server = builder().shards(2);
    for address in addresses {
        server = server.listen(format!("{address}:0"));
    }
    let running = server.start(|_| Echo).expect("three addresses are there");
    assert_eq!(running.local_addrs().len(), 3);
    let listening = tcp_addresses(&running);
    assert_eq!(running.local_addr(), listening[0]);
    for (address, &listening) in addresses.iter().zip(&listening) {
        assert_eq!(listening.ip(), *address);
        // Enough that both shards get some.
        (0..16).for_each(|_| assert_echoes(listening));
    }
    running.handle().stop();
    running.join().expect("no shard panics");
    assert!(listening.iter().all(|address| TcpStream::connect(address).is_err()));
}

/// Every address `localhost` has here, with one port.
#[test]
fn a_name_is_listened_on_at_all_of_its_addresses() {
    let running = builder().listen("localhost:0").shards(2).start(|_| Echo).unwrap();
    let addresses = tcp_addresses(&running);
    assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
    for address in addresses {
        assert_echoes(address);
    }
}

/// Tells the address of each peer.
struct Peers;

impl Handler for Peers {
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

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), _message: Message<'_>) {
        let peer = conn.peer_addr().map_or_else(String::new, |peer| peer.to_string());
        conn.send(&peer);
    }
}

#[test]
fn a_peer_that_comes_by_ipv4_has_an_ipv4_address() {
    // No IPv6 at all here: then IPv4 in IPv6 form cannot come up.
    let Ok(running) = builder().listen("[::]:0").shards(1).start(|_| Peers) else {
        assert!(std::net::TcpListener::bind("[::]:0").is_err(), "IPv6 is there");
        return;
    };
    let port = running.local_addr().port();
    let mut client = RawClient::open(SocketAddr::from((own_ip(), port)));
    client.send(&text("who am I?"));
    let own = client.stream.local_addr().unwrap();
    assert_eq!(client.read_frame(), ServerFrame::text(&own.to_string()));
}

/// Both families of one port, as two addresses.
#[test]
fn all_of_ipv4_and_all_of_ipv6_on_one_port() {
    // No IPv6 at all here: then such a server does not start.
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        assert!(builder().listen("[::]:0").shards(1).start(|_| Echo).is_err());
        return;
    }
    for _ in 0..20 {
        let first = builder().listen("0.0.0.0:0").shards(1).start(|_| Echo).unwrap();
        let port = first.local_addr().port();
        first.handle().stop();
        first.join().unwrap();
        let both = builder()
            .listen(format!("0.0.0.0:{port}"))
            .listen(format!("[::]:{port}"))
            .shards(1)
            .config(Config::new().bind_timeout_ms(0))
            .start(|_| Echo);
        // Somebody else may have taken the port meanwhile.
        let Ok(running) = both else { continue };
        assert_echoes(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_echoes(format!("[::1]:{port}").parse().unwrap());
        return running.handle().stop();
    }
    panic!("twenty ports were taken by others");
}

/// Set in the process that is to be killed: where it listens.
const ADDRESS: &str = "RINGWIRE_TEST_LISTENS";

/// A server is back at once on a port whose last owner was killed with many connections.
#[test]
fn restarts_right_after_sigkill() {
    const CONNECTIONS: usize = 200;
    if let Ok(address) = env::var(ADDRESS) {
        let running = builder().listen(address).shards(2).start(|_| Echo);
        match &running {
            Ok(running) => println!("listening on {}", running.local_addr()),
            Err(error) => println!("listening on nothing: {error}"),
        }
        std::thread::sleep(PATIENCE);
        return;
    }
    let mut address: SocketAddr = (own_ip(), 0).into();
    for _ in 0..10 {
        let (mut killed, listening) = spawn(address);
        address = listening;
        let clients: Vec<RawClient> = (0..CONNECTIONS).map(|_| RawClient::open(address)).collect();
        killed.0.kill().expect("it lives");
        // Not waited for: whoever restarts it does not know either when the kernel is done.
        let (_next, listening) = spawn(address);
        assert_eq!(listening, address);
        assert_echoes(address);
        drop(clients);
    }
}

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(address: SocketAddr) -> (Killed, SocketAddr) {
    let mut child = Command::new(env::current_exe().expect("a test knows its binary"))
        .args(["--exact", "restarts_right_after_sigkill", "--nocapture"])
        .env(ADDRESS, address.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let child = Killed(child);
    let line = stdout.lines().map(|line| line.expect("text")).find(|l| l.contains("listening on"));
    let line = line.expect("it says where it listens");
    let (_, listening) = line.split_once("listening on ").expect("found just before");
    let listening = listening.parse().unwrap_or_else(|_| panic!("{line}"));
    (child, listening)
}

/// Two servers of one process have connections in the same slots; an id names one of them.
#[test]
fn an_id_of_another_server_hits_nobody() {
    let (sender, ids) = channel::<ConnId>();
    struct Telling(std::sync::mpsc::Sender<ConnId>);
    impl Handler for Telling {
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
            self.0.send(conn.id()).expect("the test listens");
        }
        fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
            conn.send(message);
        }
    }
    let start = || {
        let sender = sender.clone();
        TestServer::start(1, Config::new(), move |_| Telling(sender.clone()))
    };
    let (one, two) = (start(), start());
    let mut first = one.open();
    let id = ids.recv_timeout(PATIENCE).expect("it is open");
    let mut second = two.open();
    let other = ids.recv_timeout(PATIENCE).expect("it is open");
    assert_ne!(id, other);
    assert_eq!(other.to_string().parse(), Ok(other));
    let handle = two.handle();
    assert_eq!(handle.send(id, "stray"), Err(HandleError::OtherServer));
    assert_eq!(handle.close(id, CloseCode::NORMAL, ""), Err(HandleError::OtherServer));
    for client in [&mut first, &mut second] {
        client.send(&text("nothing came before"));
        assert_eq!(client.read_frame(), ServerFrame::text("nothing came before"));
    }
}

/// Whatever a handle was told `Ok` for has been carried out or is counted.
#[test]
fn commands_at_the_end_are_counted() {
    let (server, _calls) = recorded(Config::new(), Acts::default());
    let handle = server.handle();
    let pushing = std::thread::spawn({
        let handle = handle.clone();
        move || {
            let mut queued = 0_u64;
            loop {
                match handle.publish("topic", "anybody?") {
                    Ok(()) => queued += 1,
                    Err(HandleError::Busy) => std::thread::yield_now(),
                    Err(_) => return queued,
                }
            }
        }
    });
    harness::wait_until("some are carried out", || handle.metrics().publishes > 100);
    server.stop().expect("no shard panics");
    let queued = pushing.join().expect("no panic");
    let metrics = handle.metrics();
    assert_eq!(queued, metrics.publishes + metrics.commands_lost, "{metrics:?}");
}

/// The CPUs each thread of a server may run on.
fn cpus_of_shards(pin: Pin, shards: usize) -> Vec<String> {
    let (sender, cpus) = channel();
    let running = builder()
        .listen(format!("{}:0", own_ip()))
        .shards(shards)
        .pin(pin)
        .start(move |_| {
            let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
            let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            sender.send(list.expect("proc_pid_status(5)").trim().to_owned()).expect("listens");
            Echo
        })
        .expect("it starts");
    running.handle().stop();
    running.join().expect("no shard panics");
    cpus.iter().collect()
}

#[test]
fn shards_are_pinned_only_if_asked_for() {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let all = list.expect("proc_pid_status(5)").trim();
    assert_eq!(cpus_of_shards(Pin::Off, 2), [all, all]);
    let first = all.split([',', '-']).next().expect("at least one");
    let cpu = first.parse().expect("a CPU");
    assert_eq!(cpus_of_shards(Pin::Cpus(vec![cpu, cpu]), 2), [first, first]);
    let one = cpus_of_shards(Pin::Auto, 1);
    assert!(one[0].parse::<usize>().is_ok(), "{one:?}");
}
