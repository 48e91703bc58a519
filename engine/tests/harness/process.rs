//! A server in a process of its own: the test's own binary, run again. So limits can be set
//! on it, and its descriptors and memory counted, whatever other tests do meanwhile.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ringwire::{Config, Handler, ShardStart};

use super::{RawClient, TestServer, wait_until};

/// Set in the process that is to serve.
const ROLE: &str = "RINGWIRE_TEST_SERVES";

pub struct ServerProcess {
    child: Child,
    /// When it ends, so does the server.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl ServerProcess {
    /// Starts a server of one shard with `limits`, arguments of the shell's `ulimit` such as
    /// `-n 64`. To be called first in the test of the given name: in the server's process it
    /// serves, and ends the process when that is over.
    pub fn start<H: Handler<Command = ()>>(
        test: &str,
        limits: &str,
        config: Config,
        make: impl Fn(ShardStart) -> H + Send + Sync + 'static,
    ) -> Self {
        if env::var_os(ROLE).is_some() {
            serve(config, make);
        }
        // The shell becomes the server, so that the process id is the server's.
        let script = format!("ulimit {limits} && exec \"$@\"");
        let binary = env::current_exe().expect("a test knows its binary");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(binary)
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell runs");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let line = read_until(&mut stdout, &["listening on "]);
        let (_, addr) = line.split_once("listening on ").expect("read until there is one");
        let addr = addr.trim().parse().expect("an address");
        Self { child, stdin, stdout, addr }
    }

    pub fn connect(&self) -> RawClient {
        RawClient::connect(self.addr)
    }

    pub fn open(&self) -> RawClient {
        RawClient::open(self.addr)
    }

    /// Stops the whole process, does something, and lets it go on not before `duration` is over:
    /// what `docker pause`, a migrated machine or a starved one is to a server.
    pub fn stopped_for<T>(&self, duration: Duration, meanwhile: impl FnOnce() -> T) -> T {
        self.signal("STOP");
        wait_until("every thread stands still", || self.is_stopped());
        let start = Instant::now();
        let done = meanwhile();
        std::thread::sleep(duration.saturating_sub(start.elapsed()));
        self.signal("CONT");
        done
    }

    fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        // A process that has ended is a zombie until it is waited for, and can be signalled.
        let status = Command::new("kill").args(["-s", name, &process]).status();
        assert!(status.expect("kill(1) runs").success(), "the process cannot be signalled");
    }

    fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(self.proc("task")).expect("it lives");
        threads.into_iter().all(|thread| {
            let stat = fs::read_to_string(thread.expect("it lives").path().join("stat"));
            let stat = stat.expect("it lives");
            let (_, fields) = stat.rsplit_once(") ").expect("proc(5): the name is in brackets");
            fields.starts_with('T')
        })
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("it lives").count()
    }

    /// Its memory that is really there.
    pub fn resident_bytes(&self) -> usize {
        const PAGE_BYTES: usize = 4_096;
        let statm = fs::read_to_string(self.proc("statm")).expect("it lives");
        let pages = statm.split(' ').nth(1).expect("proc(5): the second is the resident set");
        pages.parse::<usize>().expect("a number") * PAGE_BYTES
    }

    /// The processor time it has used, in clock ticks: hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(self.proc("stat")).expect("it lives");
        let (_, fields) = stat.rsplit_once(") ").expect("proc(5): the name is in brackets");
        // The 14th and 15th fields; the first behind the name is the third.
        let times = fields.split(' ').skip(11).take(2);
        times.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    /// Stops it, and returns the counters it ended with, as `Metrics` writes them.
    pub fn stop(mut self) -> String {
        drop(self.stdin.take());
        let metrics = read_until(&mut self.stdout, &["Metrics {"]);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        assert!(self.child.wait().expect("it can be waited for").success(), "{rest}");
        metrics
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }
}

/// Ends the server if the test has failed before it has, also while it stands still.
impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Without it `stop` has waited for the end, and the process id may be another's.
        if self.stdin.take().is_some() {
            self.signal("CONT");
        }
        let _ = self.child.wait();
    }
}

/// The first line with one of the `words` in it.
fn read_until(stdout: &mut impl BufRead, words: &[&str]) -> String {
    for line in stdout.lines() {
        let line = line.expect("text");
        if words.iter().any(|word| line.contains(word)) {
            return line;
        }
    }
    panic!("the server's process has ended without a word of {words:?}");
}

/// The other process: serves until its standard input ends.
fn serve<H: Handler<Command = ()>>(
    config: Config,
    make: impl Fn(ShardStart) -> H + Send + Sync + 'static,
) -> ! {
    let server = TestServer::start(1, config, make);
    println!("listening on {}", server.addr());
    io::copy(&mut io::stdin(), &mut io::sink()).expect("standard input can be read");
    let handle = server.handle();
    server.stop().expect("no shard panics");
    println!("{:?}", handle.metrics());
    std::process::exit(0);
}
