//! Many connections that are opened and then mute: in processes of their own, since a process has
//! 20,000 descriptors on many machines.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::Args;
use ringwire_bench::client::{Client, Heard};
use ringwire_bench::dialect::Dialect;
use ringwire_bench::fleet::CONNECTIONS_PER_PROCESS_MAX;
use socket2::SockRef;

use crate::server::PATIENCE;

/// What a process of a crowd is told.
#[derive(Args, Clone)]
pub(crate) struct CrowdOptions {
    addr: SocketAddr,
    connections: usize,
    /// The topics each subscribes to, in the server's words; connection `n` of a crowd takes the
    /// one of them it falls to, if they are divided by `|`. Nothing is said if it is empty
    #[arg(long, default_value = "")]
    topics: String,
    /// Which connection of the crowd is the first of this process
    #[arg(long, default_value_t = 0)]
    first: usize,
}

/// A crowd, until it is dropped: then every connection is reset.
pub(crate) struct Crowd {
    processes: Vec<(Child, ChildStdin, BufReader<ChildStdout>)>,
}

impl Crowd {
    /// Opens so many connections. Each subscribes to `topics`, or to one of the sets of topics that
    /// `|` divides, in turn; to none if it is empty. Then they are mute: nothing is read any more.
    pub(crate) fn open(addr: SocketAddr, connections: usize, topics: &str) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut processes = Vec::new();
        for first in (0..connections).step_by(CONNECTIONS_PER_PROCESS_MAX) {
            let share = (connections - first).min(CONNECTIONS_PER_PROCESS_MAX);
            let mut command = Command::new(&own);
            command.args(["crowd", &addr.to_string(), &share.to_string(), "--topics", topics]);
            command.args(["--first", &first.to_string()]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().map_err(|error| error.to_string())?;
            let input = child.stdin.take().expect("piped");
            let output = BufReader::new(child.stdout.take().expect("piped"));
            processes.push((child, input, output));
        }
        let mut crowd = Self { processes };
        crowd.hear("open")?;
        Ok(crowd)
    }

    /// Has every connection say something, as fast as they can.
    pub(crate) fn speak(&mut self) -> Result<(), String> {
        for (_, input, _) in &mut self.processes {
            writeln!(input, "speak").map_err(|error| error.to_string())?;
        }
        self.hear("spoken")
    }

    fn hear(&mut self, word: &str) -> Result<(), String> {
        for (_, _, output) in &mut self.processes {
            let mut line = String::new();
            output.read_line(&mut line).map_err(|error| error.to_string())?;
            if line.trim() != word {
                return Err(format!("a crowd says {line:?} instead of {word:?}"));
            }
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for (child, _, _) in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Is a process of a crowd, until its input ends.
pub(crate) fn serve(options: &CrowdOptions) -> Result<(), String> {
    let sets: Vec<&str> = options.topics.split('|').collect();
    let mut streams = Vec::new();
    for number in options.first..options.first + options.connections {
        let stream = match sets[number % sets.len()] {
            "" => open(options.addr).map_err(|error| format!("connecting: {error}"))?,
            topics => subscribe(options.addr, topics)?,
        };
        // Nothing is left in TIME_WAIT that would be in the way of the next crowd.
        let lingers = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        lingers.map_err(|error| error.to_string())?;
        streams.push(stream);
    }
    tell("open")?;
    for line in std::io::stdin().lock().lines() {
        line.map_err(|error| error.to_string())?;
        let mut message = Vec::new();
        Dialect::WebSocket.append_request(&mut message, b"here");
        for stream in &mut streams {
            stream.write_all(&message).map_err(|error| error.to_string())?;
        }
        tell("spoken")?;
    }
    Ok(())
}

fn open(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    Dialect::WebSocket.open(&mut stream)?;
    Ok(stream)
}

fn subscribe(addr: SocketAddr, topics: &str) -> Result<TcpStream, String> {
    let mut client = Client::connect(addr, PATIENCE).map_err(|error| error.to_string())?;
    let words = format!("subscribe {topics}");
    client.send(words.as_bytes()).map_err(|error| error.to_string())?;
    match client.hear() {
        Ok(Heard::Message(answer)) if answer == b"subscribed" => Ok(client.into_stream()),
        heard => Err(format!("the server answers {words:?} with {heard:?}")),
    }
}

fn tell(word: &str) -> Result<(), String> {
    println!("{word}");
    std::io::stdout().flush().map_err(|error| error.to_string())
}
