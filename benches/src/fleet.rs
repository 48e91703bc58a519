//! The workers of one load, as one: connections are divided among them, and what they tell is
//! added up. A worker that fails ends the load.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::dialect::Dialect;
use crate::mix::Mix;
use crate::work::{Command, Reply, Tally, Target, Work};

/// Whom a fleet connects to, and with what.
#[derive(Clone, Debug)]
pub struct Fleet<'a> {
    /// The program that is a worker when it is started with `--worker`.
    pub program: &'a Path,
    /// The CPU of each worker; with none, there is one worker, not pinned.
    pub cpus: &'a [usize],
    /// Where the server listens; if it is several, connections are divided among them.
    pub addrs: &'a [SocketAddr],
    /// What it speaks.
    pub dialect: Dialect,
    /// The sizes of the messages.
    pub mix: Mix,
}

/// The workers of one load. They end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    commands: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    target: Target,
}

/// A process may have 20,000 descriptors on many machines; this leaves it some.
pub const CONNECTIONS_PER_PROCESS_MAX: usize = 15_000;

/// One source address has 28,232 ports by default (`net.ipv4.ip_local_port_range`), some of
/// them in use.
const CONNECTIONS_PER_SOURCE_MAX: usize = 20_000;

impl Fleet<'_> {
    /// Starts the workers that `connections` need; none is opened yet.
    ///
    /// # Errors
    ///
    /// A worker does not start.
    pub fn start(&self, connections: usize) -> Result<Workers, String> {
        let workers = connections.div_ceil(CONNECTIONS_PER_PROCESS_MAX);
        let workers = workers.max(self.cpus.len()).max(self.addrs.len());
        let needs_sources = connections > CONNECTIONS_PER_SOURCE_MAX;
        let start = |number| self.start_worker(number, needs_sources);
        Ok(Workers { workers: (0..workers).map(start).collect::<Result<_, _>>()? })
    }

    fn start_worker(&self, number: usize, needs_source: bool) -> Result<Worker, String> {
        let addr = self.addrs[number % self.addrs.len()];
        let mut command = std::process::Command::new(self.program);
        command.arg("--worker");
        if !self.cpus.is_empty() {
            command.args(["--cpus", &self.cpus[number % self.cpus.len()].to_string()]);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{}: {error}", self.program.display()))?;
        let commands = child.stdin.take();
        let replies = BufReader::new(child.stdout.take().expect("piped"));
        let source = (needs_source && addr.ip().is_loopback()).then(|| source_of(addr, number));
        let target = Target { addr, source, dialect: self.dialect, mix: self.mix.clone() };
        Ok(Worker { child, commands, replies, target })
    }
}

/// A loopback address that no other worker has: a port bound to one is taken for all servers.
fn source_of(addr: SocketAddr, worker: usize) -> IpAddr {
    let [high, low] = addr.port().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, high.max(1), low, 2 + worker as u8))
}

/// How many of `connections` are worker `number`'s: the first ones take what cannot be divided.
fn share_of(connections: usize, workers: usize, number: usize) -> usize {
    (connections + workers - 1 - number) / workers
}

impl Workers {
    /// Opens `connections` more, evenly divided. With `greet`, each echoes a message before the
    /// next is opened.
    ///
    /// # Errors
    ///
    /// Connecting, the opening handshake or the ring failed.
    pub fn connect(&mut self, connections: usize, greet: bool) -> Result<(), String> {
        let workers = self.workers.len();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let connections = share_of(connections, workers, number);
            let target = worker.target.clone();
            worker.tell(&Command::Connect { target, connections, greet })?;
        }
        self.workers.iter_mut().try_for_each(|worker| match worker.hear()? {
            Reply::Connected => Ok(()),
            reply => Err(format!("a worker said {reply:?}")),
        })
    }

    /// Does `work` for a time and until nothing is under way any more.
    ///
    /// # Errors
    ///
    /// A byte was wrong, a connection ended, or answers are missing.
    pub fn run(&mut self, work: Work, seconds: f64) -> Result<Tally, String> {
        let workers = self.workers.len();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let work = match work {
                Work::Rate { per_second, .. } => Work::Rate { per_second, workers, worker: number },
                Work::Broadcast { .. } if workers > 1 => {
                    return Err("a broadcast is the work of one worker".to_owned());
                }
                work => work,
            };
            worker.tell(&Command::Do { work, seconds })?;
        }
        let mut sum = Tally::default();
        for worker in &mut self.workers {
            match worker.hear()? {
                Reply::Done(tally) => sum.merge(&tally),
                reply => return Err(format!("a worker said {reply:?}")),
            }
        }
        Ok(sum)
    }
}

impl Worker {
    fn tell(&mut self, command: &Command) -> Result<(), String> {
        let line = serde_json::to_string(command).map_err(|error| error.to_string())?;
        let commands = self.commands.as_mut().expect("open until dropped");
        writeln!(commands, "{line}").map_err(|error| format!("a worker is gone: {error}"))
    }

    fn hear(&mut self) -> Result<Reply, String> {
        let mut line = String::new();
        self.replies.read_line(&mut line).map_err(|error| error.to_string())?;
        if line.is_empty() {
            return Err("a worker has ended".to_owned());
        }
        match serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))? {
            Reply::Failed(error) => Err(error),
            reply => Ok(reply),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input is the end of the worker; one that is in the middle of a run
        // that failed elsewhere is not waited for.
        drop(self.commands.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_divided_without_rest() {
        for (connections, shares) in [(0, [0, 0, 0]), (1, [1, 0, 0]), (11, [4, 4, 3]), (12, [4; 3])]
        {
            assert_eq!([0, 1, 2].map(|number| share_of(connections, 3, number)), shares);
        }
    }

    #[test]
    fn no_two_workers_have_the_same_source() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let sources = [(40_000, 0), (40_000, 1), (40_001, 0)];
        let mut sources = sources.map(|(port, worker)| source_of(addr(port), worker)).to_vec();
        sources.dedup();
        assert_eq!(sources.len(), 3);
        assert!(sources.iter().all(IpAddr::is_loopback));
    }
}
