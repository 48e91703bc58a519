//! Starting where it cannot work, for real: each failure is an error that names its cause,
//! none is a panic or a hang, and nothing is left behind.

mod harness;

use std::env;
use std::fs;
use std::net::TcpStream;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};

use harness::folder::Folder;
use harness::{Echo, RawClient, ServerFrame, TestServer, builder, own_ip, text};
use ringwire::{
    Config, Conn, Context, DriverChoice, HandleError, Handler, Message, Offer, Request, RunError,
    Running, ServerError, StartError, Upgrade,
};

fn start(address: &str, shards: usize) -> Result<Running, StartError> {
    builder().listen(address).shards(shards).start(|_| Echo)
}

/// The error of a start that must not work.
fn error(started: Result<Running, StartError>) -> StartError {
    match started {
        Ok(running) => panic!("started on {:?}", running.local_addrs()),
        Err(error) => error,
    }
}

/// Whatever came of the failed start: one that can work does.
fn assert_starts() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    server.assert_serves();
}

#[test]
fn addresses_that_are_none() {
    let no_addresses =
        ["", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http"];
    for address in no_addresses {
        let error = error(start(address, 1));
        assert!(matches!(error, StartError::Address { .. }), "{address}: {error}");
        assert!(error.to_string().contains("give ADDR:PORT"), "{error}");
    }
    // TEST-NET-1 (RFC 5737) is nobody's.
    let error = error(start("192.0.2.1:0", 1));
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    assert_starts();
}

/// Even where SO_REUSEPORT would let two servers share a port: that they split the
/// connections between them is nobody's wish.
#[test]
fn two_servers_on_one_port() {
    for shards in [1, 2] {
        // On an address of its own, so that nobody takes the port once it is free.
        let first = TestServer::start(shards, Config::new(), |_| Echo);
        let address = first.addr().to_string();
        for shards in [1, 2] {
            let config = Config::new().bind_timeout_ms(50);
            let second = builder().listen(&address).shards(shards).config(config);
            let error = error(second.start(|_| Echo));
            assert!(matches!(error, StartError::AddressInUse { .. }), "{error}");
            assert!(error.to_string().contains(&address), "{error}");
        }
        first.assert_serves();
        // When it has stopped, the port is free at once, connections in TIME_WAIT or not.
        let mut client = first.open();
        first.handle().stop();
        assert_eq!(client.read_frame().close_code(), 1001);
        drop(client);
        first.stop().expect("no shard panics");
        let second = start(&address, shards).expect("the port is free");
        let mut client = RawClient::open(second.local_addr());
        client.send(&text("hello"));
        assert_eq!(client.read_frame(), ServerFrame::text("hello"));
        drop(client);
        second.handle().stop();
        second.join().expect("no shard panics");
    }
}

/// A start that fails leaves no file, whichever address it is that fails.
#[test]
fn a_failed_start_leaves_no_file() {
    let folder = Folder::new();
    let server = builder().listen(folder.listen()).listen("192.0.2.1:0").shards(2);
    assert!(server.start(|_| Echo).is_err());
    assert!(fs::symlink_metadata(folder.socket()).is_err());
    let server = builder().listen(folder.listen()).listen(folder.listen());
    let twice = error(server.start(|_| Echo));
    assert!(matches!(twice, StartError::ListenedTwice { .. }), "{twice}");
    // Also by another path.
    let winding = folder.listen().replace("ws.sock", "./ws.sock");
    let server = builder().listen(folder.listen()).listen(winding);
    let twice = error(server.start(|_| Echo));
    assert!(matches!(twice, StartError::ListenedTwice { .. }), "{twice}");
    assert!(fs::symlink_metadata(folder.socket()).is_err());
}

#[test]
fn settings_that_contradict_themselves() {
    let started = [
        start("127.0.0.1:0", 0),
        start("127.0.0.1:0", 100_000),
        builder().listen("127.0.0.1:0").config(Config::new().message_bytes_max(0)).start(|_| Echo),
    ];
    for started in started {
        let error = error(started);
        assert!(matches!(error, StartError::Config { .. }), "{error}");
    }
}

/// Where one handler cannot be made there is no server, and nothing is left of the others.
#[test]
fn a_handler_that_cannot_be_made() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    let address = server.addr().to_string();
    server.stop().expect("no shard panics");
    for panicking in [0, 1, 2] {
        let make = move |shard: ringwire::ShardStart| {
            if shard.index == panicking {
                // As `panic!`, but without the message on standard error.
                resume_unwind(Box::new("on purpose"));
            }
            Echo
        };
        let config = Config::new().bind_timeout_ms(0);
        let server = builder().listen(&address).shards(3).config(config);
        let error = error(server.start(make));
        assert!(matches!(error, StartError::ShardPanicked { shard } if shard == panicking));
        assert!(error.to_string().contains(&panicking.to_string()), "{error}");
        // The port is free at once: the next round does not wait for it.
        assert!(TcpStream::connect(&address).is_err());
    }
}

/// Panics when its shard ends.
struct Grudge(bool);

impl Handler for Grudge {
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

    fn on_message(&mut self, _conn: &mut Conn<'_, Self>, _state: &mut (), _message: Message<'_>) {}
}

impl Drop for Grudge {
    fn drop(&mut self) {
        if self.0 {
            resume_unwind(Box::new("on purpose"));
        }
    }
}

/// A shard that panics ends the server, and joining names it.
#[test]
fn a_shard_that_panics() {
    for panicking in [0, 1] {
        let make = move |shard: ringwire::ShardStart| Grudge(shard.index == panicking);
        let address = format!("{}:0", own_ip());
        let running = builder().listen(address).shards(2).start(make);
        let running = running.expect("it panics only when it ends");
        let handle = running.handle();
        handle.stop();
        let error = running.join().expect_err("one has panicked");
        assert_eq!(error, RunError::ShardPanicked { shard: panicking });
        assert!(error.to_string().contains(&panicking.to_string()), "{error}");
        assert_eq!(handle.publish("topic", "nobody hears it"), Err(HandleError::Stopped));
    }
}

/// A `main` that returns the error of `run` shows what to do.
#[test]
fn running_where_another_server_listens() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    let config = Config::new().bind_timeout_ms(0);
    let error = builder().listen(server.addr().to_string()).config(config).run(|_| Echo);
    let error = error.expect_err("the address is taken");
    assert!(matches!(error, ServerError::Start(StartError::AddressInUse { .. })));
    let shown = format!("{error:?}");
    assert_eq!(shown, error.to_string());
    assert!(shown.contains("choose another port"), "{shown}");
}

/// What would abort the process later is refused before.
#[test]
fn more_memory_than_there_is() {
    /// 8 MiB of state: 2^28 of it are more than an address space.
    struct Big;
    impl Handler for Big {
        type State = [[[[u64; 32]; 32]; 32]; 32];
        type Command = ();
        fn on_upgrade(
            &mut self,
            _: &mut Context<'_, Self>,
            _: &Request<'_>,
            _: &Offer<'_>,
        ) -> Upgrade<Self::State> {
            Upgrade::refuse(ringwire::Response::new(503))
        }
    }
    let refused = |config: Config, named: &str| {
        let address = format!("{}:0", own_ip());
        let started = builder().listen(address).shards(2).config(config).start(|_| Big);
        let error = error(started);
        assert!(matches!(error, StartError::Memory { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    };
    let connections_max = (1 << 28) - 8;
    refused(Config::new().connections_max(connections_max), "lower connections_max");
}

/// Set in the process of [`outcome`].
const ROLE: &str = "RINGWIRE_TEST_STARTS";

/// How many shards [`outcome`] starts; 2 without it.
const SHARDS: &str = "RINGWIRE_TEST_SHARDS";

/// What comes of starting a server in a process of its own, which is started by this line of
/// shell: `started`, or the error. To be called in the test of the given name, which calls
/// [`tell_outcome`] first.
fn outcome(test: &str, shell: &str) -> String {
    let binary = env::current_exe().expect("a test knows its binary");
    let output = Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(binary)
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, "1")
        .stderr(Stdio::inherit())
        .output()
        .expect("a shell runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let outcome = text.lines().find_map(|line| line.split_once("outcome: "));
    outcome.unwrap_or_else(|| panic!("{shell}: no outcome: {text}")).1.to_owned()
}

/// In the process of [`outcome`], and only there: does what it is for.
fn tell_outcome() -> bool {
    if env::var_os(ROLE).is_none() {
        return false;
    }
    let shards = env::var(SHARDS).map_or(2, |shards| shards.parse().expect("a number"));
    match start("127.0.0.1:0", shards) {
        Ok(running) => {
            running.handle().stop();
            running.join().expect("no shard panics");
            println!("outcome: started");
        }
        Err(error) => println!("outcome: {error:?}"),
    }
    true
}

/// Descriptors run out at every step of starting: sockets, eventfds, rings, threads.
#[test]
fn too_few_descriptors_to_start() {
    if tell_outcome() {
        return;
    }
    let outcomes: Vec<String> = (4..=20)
        .map(|limit| {
            let shell = format!("ulimit -n {limit} && exec \"$@\"");
            outcome("too_few_descriptors_to_start", &shell)
        })
        .collect();
    println!("{outcomes:#?}");
    let is_told = |outcome: &String| {
        let is_error = outcome.starts_with("Machine") || outcome.starts_with("Listen");
        is_error && outcome.contains("code: 24")
    };
    let failed = outcomes.iter().take_while(|outcome| is_told(outcome)).count();
    assert!(failed > 0, "so few are not enough");
    assert!(outcomes[failed..].iter().all(|outcome| outcome == "started"));
    assert!(failed < outcomes.len(), "so many are enough");
}

/// Too little locked memory for io_uring. A kernel that charges rings to that limit makes smaller
/// ones, and says what is needed where even those do not fit; one that does not starts in any case.
/// Whoever does not insist on io_uring starts everywhere.
#[test]
fn little_locked_memory_to_start() {
    if tell_outcome() {
        return;
    }
    let start = |driver: DriverChoice, shards: usize, limit_kib: usize| {
        // The limit does not hold for whoever has CAP_IPC_LOCK, such as root.
        let shell = format!(
            "ulimit -l {limit_kib}; export {SHARDS}={shards} RINGWIRE_DRIVER={driver}; \
             without='setpriv --bounding-set -ipc_lock'; \
             if $without true 2>/dev/null; then exec $without \"$@\"; else exec \"$@\"; fi"
        );
        outcome("little_locked_memory_to_start", &shell)
    };
    // As many shards as a large machine has CPUs, with the limit that is usual: all of them start,
    // unless io_uring is refused whatever the limit is.
    let usual = start(DriverChoice::IoUring, 64, 8_192);
    let none = start(DriverChoice::IoUring, 2, 0);
    let is_charged = none.starts_with("LockedMemory");
    println!("rings are charged to the limit: {is_charged}: {none}; with the usual one: {usual}");
    assert!(!usual.starts_with("LockedMemory"), "{usual}");
    for (shards, limit_kib) in [(2, 0), (64, 1_024)] {
        let outcome = start(DriverChoice::IoUring, shards, limit_kib);
        if is_charged {
            let limit = format!("limit_bytes: {}", limit_kib * 1_024);
            assert!(outcome.starts_with("LockedMemory") && outcome.contains(&limit), "{outcome}");
        } else {
            assert_eq!(outcome, usual);
        }
        for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
            assert_eq!(start(driver, shards, limit_kib), "started");
        }
    }
}
