//! Who is compared: Ringwire on either driver, the raw TCP floor, the peers and whatever server a user names.
//! How each is started, what it speaks and which rows it can take part in.

use std::net::TcpListener;
use std::path::Path;

use crate::dialect::Dialect;
use ringwire::DriverKind;

use crate::process::{Process, pinned, sibling};
use crate::row::{Kind, Row};

/// Ringwire on io_uring, to which everybody else is compared.
pub const RINGWIRE: &str = "ringwire";

/// The same program on epoll.
pub const RINGWIRE_EPOLL: &str = "ringwire-epoll";

/// The peers of `benches/peers`.
pub const PEERS: [&str; 8] = [
    "fastwebsockets",
    "tokio-tungstenite",
    "tokio-websockets",
    "sockudo-ws",
    "tokio-uring",
    "bun",
    "ws",
    "socket.io",
];

/// Where they lie.
const PEERS_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// What a server does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It goes back to its sender.
    Echo,
    /// It goes to every connection, the sender's included.
    Broadcast,
}

impl Mode {
    /// The word for it on a command line, and the name of Ringwire's example.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast => "broadcast",
        }
    }
}

/// A server that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// What tables call it.
    pub name: String,
    kind: Program,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    /// The example `echo` or `broadcast`.
    Ringwire {
        driver: DriverKind,
        shards: usize,
    },
    Floor,
    Peer,
    /// A command with `{port}`, and with `{mode}` if it can broadcast.
    Own {
        command: String,
    },
}

impl Contender {
    /// Ringwire's own examples on one shard, on `driver` and on no other.
    #[must_use]
    pub fn ringwire(driver: DriverKind) -> Self {
        let name = match driver {
            DriverKind::IoUring => RINGWIRE,
            DriverKind::Epoll => RINGWIRE_EPOLL,
        };
        Self { name: name.to_owned(), kind: Program::Ringwire { driver, shards: 1 } }
    }

    /// The same with two shards; `None` if it has no shards.
    #[must_use]
    pub fn with_two_shards(&self) -> Option<Self> {
        let Program::Ringwire { driver, .. } = self.kind else { return None };
        let kind = Program::Ringwire { driver, shards: 2 };
        Some(Self { name: format!("{}, 2 shards", self.name), kind })
    }

    /// A server by its name, or as `NAME=COMMAND`.
    ///
    /// # Errors
    ///
    /// Nobody is called that, or the command does not say where its port goes.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((name, command)) = text.split_once('=') {
            if !command.contains("{port}") {
                return Err(format!("{command:?} has no {{port}}"));
            }
            let kind = Program::Own { command: command.to_owned() };
            return Ok(Self { name: name.to_owned(), kind });
        }
        let kind = match text {
            RINGWIRE_EPOLL => return Ok(Self::ringwire(DriverKind::Epoll)),
            "floor" => Program::Floor,
            name if PEERS.contains(&name) => Program::Peer,
            _ => {
                let known = PEERS.join(", ");
                return Err(format!(
                    "nobody is called {text:?}; there are {RINGWIRE_EPOLL}, floor, {known}"
                ));
            }
        };
        Ok(Self { name: text.to_owned(), kind })
    }

    /// What it speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match (&self.kind, &self.name[..]) {
            (Program::Floor, _) => Dialect::Raw,
            (Program::Peer, "socket.io") => Dialect::SocketIo,
            _ => Dialect::WebSocket,
        }
    }

    /// Its version, where `server` does not say it.
    #[must_use]
    pub fn version(&self, server: &Process) -> String {
        match self.kind {
            Program::Ringwire { .. } => env!("CARGO_PKG_VERSION").to_owned(),
            Program::Floor => String::new(),
            Program::Peer | Program::Own { .. } => server.description.clone(),
        }
    }

    /// Whether it is a floor or Ringwire itself, and not somebody else's server.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self.kind, Program::Ringwire { .. } | Program::Floor)
    }

    /// Whether it can do what `row` measures.
    #[must_use]
    pub fn takes_part(&self, row: &Row) -> bool {
        match &self.kind {
            Program::Ringwire { .. } => true,
            Program::Floor => matches!(row.kind, Kind::Echo { .. } | Kind::Connections),
            // What Socket.IO adds to a message is its own; one size and one broadcast show it.
            Program::Peer if self.name == "socket.io" => {
                matches!(row.name, "echo-64" | "echo-512" | "broadcast")
            }
            Program::Peer => row.kind != Kind::Shards,
            Program::Own { command } => match row.kind.mode() {
                Mode::Echo => row.kind != Kind::Shards,
                Mode::Broadcast => command.contains("{mode}"),
            },
        }
    }

    /// Starts it on one core, or on any.
    ///
    /// # Errors
    ///
    /// It does not start; with what to do about it, if it is a peer.
    pub fn start(&self, mode: Mode, cpu: Option<usize>) -> Result<Process, String> {
        let listen = ["--listen", "127.0.0.1:0"];
        match &self.kind {
            Program::Ringwire { driver, shards } => {
                let shards = shards.to_string();
                // On any core each shard has one of its own, so that runs are alike.
                let pin = if cpu.is_none() { "auto" } else { "off" };
                let options = ["--shards", &shards, "--pin", pin, "--driver", driver.name()];
                let arguments = [&listen[..], &options].concat();
                Process::start(&sibling(mode.name())?, &arguments, cpu)
            }
            Program::Floor => Process::start(&sibling("floor")?, &listen, cpu),
            Program::Peer => {
                let program = Path::new(PEERS_FOLDER).join("start");
                let arguments = [&[&self.name[..]], &listen[..], &["--mode", mode.name()]].concat();
                Process::start(&program, &arguments, cpu).map_err(|error| {
                    format!("{error}; it is built by benches/peers/build {}", self.name)
                })
            }
            Program::Own { command } => start_own(command, mode, cpu),
        }
    }
}

/// Starts a user's command, on a port that was free a moment ago.
fn start_own(command: &str, mode: Mode, cpu: Option<usize>) -> Result<Process, String> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let addr = free.map_err(|error| error.to_string())?;
    let line = command.replace("{port}", &addr.port().to_string()).replace("{mode}", mode.name());
    let mut words = line.split_whitespace();
    let program = words.next().ok_or("an empty command")?;
    Process::start_silent(pinned(program.as_ref(), cpu).args(words), addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::ROWS;

    fn names(contender: &Contender) -> Vec<&'static str> {
        ROWS.iter().filter(|row| contender.takes_part(row)).map(|row| row.name).collect()
    }

    #[test]
    fn everybody_takes_part_where_it_can() {
        let parse = |text| Contender::parse(text).unwrap();
        assert_eq!(names(&Contender::ringwire(DriverKind::IoUring)).len(), ROWS.len());
        assert_eq!(names(&parse("ringwire-epoll")).len(), ROWS.len());
        assert!(names(&parse("floor")).contains(&"connections"));
        assert!(!names(&parse("floor")).contains(&"broadcast"));
        assert_eq!(names(&parse("socket.io")), ["echo-64", "echo-512", "broadcast"]);
        assert!(!names(&parse("ws")).contains(&"shards"));
        assert!(names(&parse("mine=server {port}")).contains(&"memory"));
        assert!(!names(&parse("mine=server {port}")).contains(&"broadcast"));
        assert!(names(&parse("mine=server {port} {mode}")).contains(&"broadcast"));
    }

    #[test]
    fn ringwire_is_compared_on_both_drivers() {
        let ringwire = Contender::ringwire(DriverKind::IoUring);
        let epoll = Contender::parse(RINGWIRE_EPOLL).unwrap();
        assert_eq!(epoll, Contender::ringwire(DriverKind::Epoll));
        assert_ne!(epoll, ringwire);
        assert!(epoll.is_own());
        assert_eq!(ringwire.with_two_shards().unwrap().name, "ringwire, 2 shards");
        assert_eq!(epoll.with_two_shards().unwrap().name, "ringwire-epoll, 2 shards");
        assert_eq!(Contender::parse("floor").unwrap().with_two_shards(), None);
    }

    #[test]
    fn unknown_names_and_commands_without_a_port_are_refused() {
        Contender::parse("nobody").unwrap_err();
        Contender::parse("mine=server").unwrap_err();
    }
}
