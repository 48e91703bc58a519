//! Every way of the load against a server of this process: something comes back, and nothing
//! wrong, because a wrong byte would be an error. Nothing here is fast or slow.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ringwire::{
    Config, Conn, Context, DriverChoice, Handler, Message, Offer, Request, Running, Server,
    ShardStart, Upgrade,
};
use ringwire_bench::dialect::Dialect;
use ringwire_bench::fleet::{Fleet, Workers};
use ringwire_bench::idle::IdleCost;
use ringwire_bench::mix::Mix;
use ringwire_bench::pid::Pid;
use ringwire_bench::work::Work;

/// Long enough for some messages, short enough for a test.
const SECONDS: f64 = 0.1;

struct Echo;

impl Handler for Echo {
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
        conn.send(message);
    }
}

struct Broadcast;

impl Handler for Broadcast {
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
        conn.subscribe("everyone").unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.publish_all("everyone", message);
    }
}

/// Answers, but never with what was sent.
struct Liar;

impl Handler for Liar {
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
        let mut payload = message.payload().to_vec();
        payload[7] ^= 1;
        conn.send(Message::Binary(&payload));
    }
}

/// Runs `check` against a server on the driver that `RINGWIRE_DRIVER` names; `auto` without it.
fn with_server<H: Handler<Command = ()>>(
    config: Config,
    make: impl Fn(ShardStart) -> H + Send + Sync + 'static,
    check: impl FnOnce(SocketAddr),
) {
    let driver = match std::env::var_os("RINGWIRE_DRIVER") {
        Some(name) => name.to_string_lossy().parse().expect("RINGWIRE_DRIVER names a driver"),
        None => DriverChoice::Auto,
    };
    let server = Server::builder().listen("127.0.0.1:0").shards(1).driver(driver).config(config);
    let running = server.start(make).unwrap_or_else(|error| panic!("{error}"));
    check(running.local_addr());
    stop(running);
}

fn stop(running: Running) {
    running.handle().stop();
    running.join().expect("no shard panics");
}

fn workers(addr: SocketAddr, mix: &str, connections: usize, count: usize) -> Workers {
    let fleet = Fleet {
        program: Path::new(env!("CARGO_BIN_EXE_ringwire-load")),
        cpus: &[],
        // A worker for each address, which may well be the same.
        addrs: &vec![addr; count],
        dialect: Dialect::WebSocket,
        mix: mix.parse().expect("a mix"),
    };
    let mut workers = fleet.start(connections).expect("workers start");
    workers.connect(connections, false).expect("the server accepts");
    workers
}

#[test]
fn a_closed_loop_gets_every_echo() {
    with_server(
        Config::new(),
        |_| Echo,
        |addr| {
            for (mix, in_flight) in
                [("64", 1), ("64:16,1024:3,16384:1", 5), ("200000", 1), ("0", 16)]
            {
                let mut workers = workers(addr, mix, 7, 2);
                for _ in 0..2 {
                    let tally = workers.run(Work::Echo { in_flight }, SECONDS).expect(mix);
                    assert!(tally.within >= 7, "{mix}: {tally:?}");
                    assert_eq!(tally.overall, tally.sent, "{mix}");
                    assert_eq!(tally.overall, tally.latency.count(), "{mix}");
                }
            }
        },
    );
}

#[test]
fn an_open_loop_sends_what_is_due() {
    with_server(
        Config::new(),
        |_| Echo,
        |addr| {
            let mut workers = workers(addr, "64", 3, 2);
            let work = Work::Rate { per_second: 1_000.0, workers: 1, worker: 0 };
            let tally = workers.run(work, SECONDS).expect("every byte is right");
            // Messages 0 to 99 are due before the end, however slow the machine is.
            assert_eq!(tally.sent, 100);
            assert_eq!(tally.overall, 100);
            assert_eq!((tally.latency.count(), tally.lateness.count()), (100, 100));
        },
    );
}

#[test]
fn a_broadcast_reaches_everybody() {
    with_server(
        Config::new(),
        |_| Broadcast,
        |addr| {
            let mut workers = workers(addr, "64", 20, 1);
            let tally =
                workers.run(Work::Broadcast { in_flight: 4 }, SECONDS).expect("right bytes");
            assert!(tally.sent >= 4, "{tally:?}");
            assert_eq!(tally.overall, tally.sent * 20);
            assert_eq!(tally.overall, tally.latency.count());
        },
    );
}

#[test]
fn churned_connections_each_echo_once() {
    with_server(
        Config::new(),
        |_| Echo,
        |addr| {
            let mut workers = workers(addr, "64", 0, 1);
            let tally = workers.run(Work::Churn { at_once: 3 }, SECONDS).expect("right bytes");
            assert!(tally.sent >= 3, "{tally:?}");
            assert_eq!(tally.overall, tally.sent);
        },
    );
}

#[test]
fn idle_connections_have_a_cost() {
    with_server(
        Config::new(),
        |_| Echo,
        |addr| {
            let mut workers = workers(addr, "64", 0, 1);
            let own = [Pid(std::process::id())];
            let cost = IdleCost::measure(&mut workers, &own, 50, Duration::ZERO).expect("a cost");
            // The kernel's may shrink by what other processes give back; ours are still open.
            assert!(cost.each()[0] >= 0.0, "{cost:?}");
        },
    );
}

#[test]
fn pings_are_answered_between_runs_and_within() {
    let config = Config::new().ping_interval_ms(20).pong_timeout_ms(30_000);
    with_server(
        config,
        |_| Echo,
        |addr| {
            let mut workers = workers(addr, "64", 5, 1);
            // One message a connection in 1 s: the pings come in between.
            let work = Work::Rate { per_second: 5.0, workers: 1, worker: 0 };
            let tally = workers.run(work, 1.0).expect("a Ping is no wrong byte");
            assert_eq!(tally.overall, 5);
            workers.run(Work::Echo { in_flight: 1 }, SECONDS).expect("nor behind a pause");
        },
    );
}

#[test]
fn a_wrong_byte_and_a_close_end_the_load() {
    with_server(
        Config::new(),
        |_| Liar,
        |addr| {
            let error = workers(addr, "64", 2, 1).run(Work::Echo { in_flight: 1 }, SECONDS);
            assert!(error.unwrap_err().contains("wrong answer: byte 9"));
        },
    );
    let config = Config::new().message_bytes_max(10);
    with_server(
        config,
        |_| Echo,
        |addr| {
            let error = workers(addr, "64", 2, 1).run(Work::Echo { in_flight: 1 }, SECONDS);
            assert!(error.unwrap_err().contains("1009"));
        },
    );
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    // Port 1 of loopback: nobody listens there.
    let addr: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let fleet = Fleet {
        program: Path::new(env!("CARGO_BIN_EXE_ringwire-load")),
        cpus: &[],
        addrs: &[addr],
        dialect: Dialect::Raw,
        mix: Mix::uniform(64),
    };
    let connected = fleet.start(1).and_then(|mut workers| workers.connect(1, false));
    let error = connected.unwrap_err();
    assert!(error.contains("refused"), "{error}");
}
