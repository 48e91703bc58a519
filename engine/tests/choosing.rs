//! Which driver a server takes where io_uring is refused, for real: seccomp filters answer its
//! system calls as a container's profile, a kernel without it or an older kernel does.
//!
//! A filter holds for the thread that installs it and those it starts. Where a test looks at the
//! log, that is a process of its own, because shards log too.

mod harness;

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Stdio};

use harness::{Echo, RawClient, ServerFrame, TestServer, own_ip, text};
use ringwire::{Config, DriverChoice, DriverKind, Running, Server, StartError};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

const SETUP: libc::c_long = libc::SYS_io_uring_setup;
const ENTER: libc::c_long = libc::SYS_io_uring_enter;
const REGISTER: libc::c_long = libc::SYS_io_uring_register;

/// What a test does in its own process: the driver asked for, the shards, the system call that is
/// refused, or 0, and the errno.
const ROLE: &str = "RINGWIRE_TEST_CHOOSES";

/// Each refusal: the error that `IoUring` fails with, and the remedy that `Auto` names.
const REFUSALS: [(libc::c_long, i32, &str, &str); 11] = [
    // As Docker's and containerd's default profiles do, before any of the three.
    (SETUP, libc::EPERM, "ForbiddenBySeccomp", "allow io_uring_setup"),
    (REGISTER, libc::EPERM, "ForbiddenBySeccomp", "allow io_uring_setup"),
    (ENTER, libc::EPERM, "ForbiddenBySeccomp", "allow io_uring_setup"),
    (SETUP, libc::EACCES, "ForbiddenBySeccomp", "allow io_uring_setup"),
    (REGISTER, libc::EACCES, "ForbiddenBySeccomp", "allow io_uring_setup"),
    (ENTER, libc::EACCES, "ForbiddenBySeccomp", "allow io_uring_setup"),
    // As a kernel built without it, gVisor, or a profile whose default is ENOSYS.
    (SETUP, libc::ENOSYS, "Missing", "CONFIG_IO_URING"),
    (REGISTER, libc::ENOSYS, "Missing", "CONFIG_IO_URING"),
    (ENTER, libc::ENOSYS, "Missing", "CONFIG_IO_URING"),
    // A kernel before 6.1 does not know the flags.
    (
        SETUP,
        libc::EINVAL,
        "KernelTooOld { missing: \"IORING_SETUP_DEFER_TASKRUN\" }",
        "Linux 6.1 or newer",
    ),
    // A kernel that charges rings to the limit of locked memory.
    (SETUP, libc::ENOMEM, "LockedMemory { needed_bytes: ", "ulimit -l unlimited"),
];

#[test]
fn every_refusal_by_itself() {
    let test = "every_refusal_by_itself";
    if tell_what_was_chosen() {
        return;
    }
    // What this machine refuses in any case comes before what only the filter refuses.
    let plain = Chosen::of(test, DriverChoice::IoUring, 1, 0, 0).outcome;
    for (syscall, errno, variant, remedy) in REFUSALS {
        for shards in [1, 3] {
            println!("system call {syscall} refused with {errno}, {shards} shards");
            let refused = Chosen::of(test, DriverChoice::IoUring, shards, syscall, errno);
            if errno == libc::ENOMEM && refused.outcome.starts_with("Machine") {
                // Whoever may lock any amount has no limit to raise.
                assert!(refused.outcome.contains("io_uring_setup"), "{refused:?}");
            } else if syscall == SETUP || plain == "io_uring" {
                assert!(refused.outcome.starts_with(variant), "{refused:?}");
            } else {
                assert_eq!(refused.outcome, plain);
            }
            assert_eq!(refused.warnings, [""; 0]);

            let chosen = Chosen::of(test, DriverChoice::Auto, shards, syscall, errno);
            assert_eq!(chosen.outcome, "epoll", "{chosen:?}");
            let [warning] = &chosen.warnings[..] else { panic!("not one warning: {chosen:?}") };
            assert!(warning.contains("serving on epoll"), "{warning}");
            if refused.outcome.starts_with(variant) {
                assert!(warning.contains(remedy), "{warning}");
            }
        }
    }
}

/// Nobody is warned where all is well, or where epoll was asked for.
#[test]
fn no_refusal_no_warning() {
    let test = "no_refusal_no_warning";
    if tell_what_was_chosen() {
        return;
    }
    let epoll = Chosen::of(test, DriverChoice::Epoll, 2, SETUP, libc::EPERM);
    assert_eq!((&epoll.outcome[..], epoll.warnings.len()), ("epoll", 0), "{epoll:?}");
    let auto = Chosen::of(test, DriverChoice::Auto, 2, 0, 0);
    match Chosen::of(test, DriverChoice::IoUring, 2, 0, 0).outcome.as_str() {
        "io_uring" => assert_eq!((&auto.outcome[..], auto.warnings.len()), ("io_uring", 0)),
        _ => assert_eq!((&auto.outcome[..], auto.warnings.len()), ("epoll", 1), "{auto:?}"),
    }
}

/// Not even to find out whether it is there: the first call would end this process.
#[test]
fn epoll_makes_no_call_of_io_uring() {
    let refused = [SETUP, ENTER, REGISTER].map(|syscall| (syscall, vec![]));
    under_filter(refused.into(), SeccompAction::KillProcess, || {
        for shards in [1, 3] {
            let running = start(DriverChoice::Epoll, shards).expect("epoll is everywhere");
            assert_eq!(running.driver(), DriverKind::Epoll);
            serve_and_stop(running);
        }
    });
}

/// A refusal that is nobody's business but the machine's is none of io_uring: an address in use.
#[test]
fn what_epoll_cannot_mend_is_an_error() {
    let refused = BTreeMap::from([(SETUP, vec![])]);
    under_filter(refused, SeccompAction::Errno(libc::EPERM as u32), || {
        let first = start(DriverChoice::Auto, 1).expect("it falls back");
        let address = first.local_addr().to_string();
        let config = Config::new().bind_timeout_ms(0);
        let second = Server::builder().listen(&address).shards(1).config(config).start(|_| Echo);
        assert!(matches!(second, Err(StartError::AddressInUse { .. })), "{second:?}");
        // The port that a first try on io_uring had is the one that epoll serves.
        serve_and_stop(first);
        let again = Server::builder().listen(&address).shards(1).start(|_| Echo);
        serve_and_stop(again.expect("the port is free"));
    });
}

// Operations of io_uring_register(2).
const REGISTER_PROBE: u32 = 8;
const REGISTER_RING_FDS: u32 = 20;
const REGISTER_PBUF_RING: u32 = 22;
const UNREGISTER_PBUF_RING: u32 = 23;

/// As on a kernel that has io_uring but not all of it.
#[test]
fn registrations_the_kernel_does_not_know() {
    let plain = start(DriverChoice::IoUring, 1).map(serve_and_stop);
    let needed = [
        (REGISTER_PROBE, "probing operations failed"),
        (REGISTER_PBUF_RING, "lacks IORING_REGISTER_PBUF_RING"),
    ];
    for (operation, told) in needed {
        let started = under_filter(registering(operation), INVALID, || {
            start(DriverChoice::IoUring, 2).map(serve_and_stop)
        });
        let error = started.expect_err("it is needed").to_string();
        match &plain {
            Ok(()) => assert!(error.contains(told), "{error}"),
            Err(first) => assert_eq!(error, first.to_string()),
        }
    }
}

/// What only saves a look-up or memory is done without.
#[test]
fn registrations_that_are_not_needed() {
    for operation in [REGISTER_RING_FDS, UNREGISTER_PBUF_RING] {
        under_filter(registering(operation), INVALID, || {
            let server = TestServer::start(2, Config::new(), |_| Echo);
            server.assert_serves();
            server.stop().expect("no shard panics");
        });
    }
}

fn start(driver: DriverChoice, shards: usize) -> Result<Running, StartError> {
    // No more connections than descriptors: that would be a warning too.
    let config = Config::new().connections_max(64);
    let address = format!("{}:0", own_ip());
    Server::builder().listen(address).shards(shards).driver(driver).config(config).start(|_| Echo)
}

/// Enough connections that every shard gets some.
fn serve_and_stop(running: Running) {
    for _ in 0..16 {
        let mut client = RawClient::open(running.local_addr());
        client.send(&text("hello"));
        assert_eq!(client.read_frame(), ServerFrame::text("hello"));
    }
    running.handle().stop();
    running.join().expect("no shard panics");
}

/// System calls, and for each the rules of which one must hold, if there are any.
type Refused = BTreeMap<libc::c_long, Vec<SeccompRule>>;

const INVALID: SeccompAction = SeccompAction::Errno(libc::EINVAL as u32);

/// One operation of io_uring_register(2).
fn registering(operation: u32) -> Refused {
    let is_it =
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(operation));
    let rule = is_it.and_then(|is_it| SeccompRule::new(vec![is_it])).expect("a plain rule");
    BTreeMap::from([(REGISTER, vec![rule])])
}

/// Does something on a thread whose system calls are refused so.
fn under_filter<R: Send + 'static>(
    refused: Refused,
    action: SeccompAction,
    act: impl FnOnce() -> R + Send + 'static,
) -> R {
    let acting = std::thread::spawn(move || {
        refuse(refused, action);
        act()
    });
    acting.join().expect("an error is no panic")
}

/// Refuses system calls on this thread and those it starts, for good.
fn refuse(refused: Refused, action: SeccompAction) {
    let filter = SeccompFilter::new(
        refused,
        SeccompAction::Allow,
        action,
        env::consts::ARCH.try_into().expect("an architecture seccomp knows"),
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a plain filter");
    seccompiler::apply_filter(&program).expect("seccomp is there");
}

/// What came of starting a server in a process of its own.
#[derive(Debug)]
struct Chosen {
    /// The driver that has served a client, or the error.
    outcome: String,
    /// Lines of the log that warn.
    warnings: Vec<String>,
}

impl Chosen {
    /// To be called in the test of the given name, which calls [`tell_what_was_chosen`] first.
    fn of(
        test: &str,
        driver: DriverChoice,
        shards: usize,
        syscall: libc::c_long,
        errno: i32,
    ) -> Self {
        // A limit of locked memory does not hold for whoever has CAP_IPC_LOCK, such as root.
        let limit_kib = if errno == libc::ENOMEM { 64 } else { 8_192 };
        let shell = format!(
            "ulimit -l {limit_kib}; without='setpriv --bounding-set -ipc_lock'; \
             if $without true 2>/dev/null; then exec $without \"$@\"; else exec \"$@\"; fi"
        );
        let output = Command::new("sh")
            .args(["-c", &shell, "sh"])
            .arg(env::current_exe().expect("a test knows its binary"))
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, format!("{driver} {shards} {syscall} {errno}"))
            .env_remove("RUST_LOG")
            .stderr(Stdio::inherit())
            .output()
            .expect("a shell runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let outcome = text.lines().find_map(|line| line.split_once("outcome: "));
        let outcome = outcome.unwrap_or_else(|| panic!("no outcome: {text}")).1.to_owned();
        assert!(output.status.success(), "{text}");
        let warnings = text.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
        Self { outcome, warnings: warnings.map(str::to_owned).collect() }
    }
}

/// In the process of [`Chosen`], and only there: does what it is for.
fn tell_what_was_chosen() -> bool {
    let Ok(role) = env::var(ROLE) else { return false };
    let [driver, shards, syscall, errno] = role.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{role}")
    };
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stdout);
    tracing::subscriber::set_global_default(subscriber.finish()).expect("the first");
    let syscall = syscall.parse().expect("a number");
    if syscall != 0 {
        let errno = errno.parse().expect("a number");
        refuse(BTreeMap::from([(syscall, vec![])]), SeccompAction::Errno(errno));
    }
    match start(driver.parse().expect("a driver"), shards.parse().expect("a number")) {
        Ok(running) => {
            let driver = running.driver();
            serve_and_stop(running);
            println!("outcome: {driver}");
        }
        Err(error) => println!("outcome: {error:?}"),
    }
    true
}
