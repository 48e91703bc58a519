//! One worker of a load: a process with one thread, one ring and its share of the connections.
//! It does what the lines on its standard input say, answers each with a line on its standard
//! output, and ends with its input. The work itself is in `echo`, `broadcast` and `churn`.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ringwire::driver::Wait;
use socket2::{Domain, Socket, Type};

use crate::dialect::Dialect;
use crate::period::{Period, Position};
use crate::sockets::{Sockets, Then};
use crate::work::{Command, Reply, Tally, Target, Work};

/// How long the answers to the last messages of a run may take. A server that needs longer has
/// lost them, or is loaded far above what it can do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a worker that has nothing to do looks whether a server has said something: well
/// within any server's deadline for a Pong, and seldom enough not to be noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves a coordinator until it goes away.
///
/// # Errors
///
/// What went wrong; the coordinator has been told.
pub fn serve() -> Result<(), String> {
    let mut worker: Option<Worker> = None;
    let lines = read_lines();
    loop {
        let line = match lines.recv_timeout(LOOK_EVERY) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                let looked = worker.as_mut().map_or(Ok(()), Worker::answer_pings);
                looked.or_else(|error| tell(&Reply::Failed(error.clone())).and(Err(error)))?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let command = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let reply = obey(&mut worker, command).unwrap_or_else(Reply::Failed);
        tell(&reply)?;
        if let Reply::Failed(error) = reply {
            return Err(error);
        }
    }
}

/// The lines of standard input, from a thread that ends with it.
fn read_lines() -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            // The worker has failed and is about to end.
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn tell(reply: &Reply) -> Result<(), String> {
    let line = serde_json::to_string(reply).map_err(|error| error.to_string())?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}

fn obey(worker: &mut Option<Worker>, command: Command) -> Result<Reply, String> {
    match command {
        Command::Connect { target, connections, greet } => {
            let worker = match worker {
                Some(worker) => worker,
                None => worker.insert(Worker::new(target)?),
            };
            worker.connect(connections, greet)?;
            Ok(Reply::Connected)
        }
        Command::Do { work, seconds } => {
            let worker = worker.as_mut().ok_or("nothing to run on")?;
            let time = Duration::from_secs_f64(seconds);
            let tally = match work {
                Work::Echo { in_flight } => worker.echo(in_flight, time),
                Work::Rate { per_second, workers, worker: first } => {
                    worker.echo_at_rate(per_second, workers, first, time)
                }
                Work::Broadcast { in_flight } => worker.broadcast(in_flight, time),
                Work::Churn { at_once } => worker.churn(at_once, time),
            };
            tally.map(|tally| Reply::Done(Box::new(tally)))
        }
    }
}

/// The connections of a worker and what it knows of each.
pub(crate) struct Worker {
    pub(crate) target: Target,
    pub(crate) period: Period,
    pub(crate) sockets: Sockets,
    /// By slot.
    pub(crate) connections: Vec<Connection>,
}

/// One connection that echoes or receives.
#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) position: Position,
    /// Messages under way: when they were sent or due, and how many at that time.
    pub(crate) pending: VecDeque<(u64, usize)>,
}

impl Connection {
    /// Records what the oldest `answers` messages under way took.
    pub(crate) fn settle(&mut self, mut answers: usize, now_ns: u64, tally: &mut Tally) {
        while answers > 0 {
            // An answer to nothing would have failed the comparison.
            let Some((since_ns, count)) = self.pending.front_mut() else { return };
            let settled = answers.min(*count);
            tally.latency.record(now_ns.saturating_sub(*since_ns), settled as u64);
            answers -= settled;
            *count -= settled;
            if *count == 0 {
                self.pending.pop_front();
            }
        }
    }
}

impl Worker {
    fn new(target: Target) -> Result<Self, String> {
        let period = Period::new(target.dialect, &target.mix);
        let sockets = Sockets::new()?;
        Ok(Self { target, period, sockets, connections: Vec::new() })
    }

    fn connect(&mut self, connections: usize, greet: bool) -> Result<(), String> {
        let addr = self.target.addr;
        for _ in 0..connections {
            let open = || -> io::Result<TcpStream> {
                let mut stream = connect(&self.target)?;
                self.target.dialect.open(&mut stream)?;
                if greet {
                    echo_once(self.target.dialect, &mut stream)?;
                }
                Ok(stream)
            };
            let stream = open().map_err(|error| format!("connecting to {addr}: {error}"))?;
            let slot = self.sockets.adopt(stream);
            assert_eq!(slot, self.connections.len(), "no slot is left before churning");
            self.connections.push(Connection::default());
        }
        self.sockets.wait(Wait::No);
        self.answer_pings()
    }

    /// How many connections there are.
    ///
    /// # Errors
    ///
    /// There is none, which makes no load.
    pub(crate) fn slots(&self) -> Result<usize, String> {
        match self.connections.len() {
            0 => Err("no connection".to_owned()),
            slots => Ok(slots),
        }
    }

    /// Between two runs nothing comes but control frames.
    fn answer_pings(&mut self) -> Result<(), String> {
        let Self { sockets, connections, period, .. } = self;
        sockets.wait(Wait::No);
        sockets.dispatch(|slot, bytes, out| {
            match connections[slot].position.advance(period, bytes, out)? {
                0 => Ok(Then::Stay),
                _ => Err("the server says what nobody has asked for".to_owned()),
            }
        })?;
        sockets.wait(Wait::No);
        Ok(())
    }
}

/// A connected stream to the target, which closing resets.
pub(crate) fn connect(target: &Target) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target.addr), Type::STREAM, None)?;
    if let Some(source) = target.source {
        socket.bind(&std::net::SocketAddr::new(source, 0).into())?;
    }
    // Closing resets: nothing is left in TIME_WAIT that would be in the way of the next run.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect(&target.addr.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn echo_once(dialect: Dialect, stream: &mut TcpStream) -> io::Result<()> {
    let (mut request, mut right) = (Vec::new(), Vec::new());
    let payload = dialect.payload(0, 5);
    dialect.append_request(&mut request, &payload);
    dialect.append_answer(&mut right, &payload);
    stream.write_all(&request)?;
    let mut answer = vec![0; right.len()];
    stream.read_exact(&mut answer)?;
    if answer == right { Ok(()) } else { Err(io::Error::other("a wrong echo")) }
}

/// The time of one run, read once a tick.
pub(crate) struct Clock {
    start: Instant,
    end_ns: u64,
}

impl Clock {
    pub(crate) fn start(time: Duration) -> Self {
        Self { start: Instant::now(), end_ns: time.as_nanos() as u64 }
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(crate) fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// How long a tick may wait: not beyond the end of the run by much.
    pub(crate) fn wait(&self, now_ns: u64) -> Wait {
        const MOST_MS: u64 = 100;
        Wait::Millis((self.end_ns.saturating_sub(now_ns) / 1_000_000).clamp(1, MOST_MS) as u32)
    }

    /// # Errors
    ///
    /// The answers still missing take longer than [`PATIENCE`].
    pub(crate) fn check_patience(&self, now_ns: u64, missing: u64) -> Result<(), String> {
        if now_ns > self.end_ns + PATIENCE.as_nanos() as u64 {
            return Err(format!("{missing} answers are missing {PATIENCE:?} after the end"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_charged_to_the_oldest_message() {
        let mut connection = Connection::default();
        let mut tally = Tally::default();
        let is_about = |us: f64, right: f64| (us / right - 1.0).abs() < 0.001;
        connection.pending.extend([(1_000, 2), (4_000, 1)]);
        connection.settle(1, 5_000, &mut tally);
        assert!(is_about(tally.latency.max_us(), 4.0));
        connection.settle(2, 11_000, &mut tally);
        assert!(connection.pending.is_empty());
        assert_eq!(tally.latency.count(), 3);
        assert!(is_about(tally.latency.max_us(), 10.0));
        assert!(is_about(tally.latency.percentile_us(50.0), 7.0));
    }
}
