//! A peer as a process: its command line, its allocator, its listening socket, the one line it
//! prints and how it ends. It never looks at a connection.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    process, thread,
};

use clap::{Parser, ValueEnum};
use mimalloc::MiMalloc;
use signal_hook::{consts::SIGTERM, iterator::Signals};
use socket2::{Domain, Socket, Type};

/// The allocator of Ringwire's own examples, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Connections that wait to be accepted: as many as Ringwire's listener asks for.
const BACKLOG: i32 = 4_096;

/// The command line of every peer.
#[derive(Parser)]
struct Options {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,

    /// What becomes of a message
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    mode: Mode,
}

/// What a peer does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It goes back to its sender.
    Echo,
    /// It goes to every open connection, its sender included.
    Broadcast,
}

/// A peer that has started.
#[derive(Debug)]
pub struct Peer {
    /// What to do with a message.
    pub mode: Mode,
    /// Listening already, and non-blocking.
    pub listener: TcpListener,
}

/// Reads the command line, listens, and says so in one line on standard output, with the library's
/// `name` and `version`. From then on SIGTERM ends the process with status 0.
///
/// A wrong command line ends the process with status 2 and the reason on standard error.
///
/// # Errors
///
/// The address is taken, or is not this machine's.
pub fn start(name: &str, version: &str) -> io::Result<Peer> {
    let options = Options::parse();
    end_on_sigterm()?;
    let listener = listen(options.listen)?;
    let address = listener.local_addr()?;
    let mut out = io::stdout().lock();
    writeln!(out, "listening on ws://{address} ({name} {version})")?;
    out.flush()?;
    Ok(Peer { mode: options.mode, listener })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The thread sleeps until the signal comes: a peer still has one thread that works.
fn end_on_sigterm() -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            process::exit(0);
        }
    })?;
    Ok(())
}
