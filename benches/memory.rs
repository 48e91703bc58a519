//! User-space memory per connection: how much the resident size of the echo example grows
//! while connections are opened, each of which echoes one message. The kernel's own memory
//! for sockets is not in this figure.

use std::io::{Read, Write};
use std::net::TcpStream;

use clap::Parser;
use ringwire_bench::load::shake_hands;
use ringwire_bench::process::{Process, sibling};
use ringwire_proto::{Message, Outgoing};

/// Resident memory of the echo example per connection.
#[derive(Parser)]
struct Options {
    /// Number of connections.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Fail if a connection takes more bytes than this.
    #[arg(long)]
    at_most: Option<u64>,
}

fn main() -> Result<(), String> {
    let options = Options::parse();
    let arguments = ["--listen", "127.0.0.1:0", "--shards", "1", "--ping-interval", "0"];
    let process = Process::start(0, &sibling("echo")?, &arguments)?;
    let mut request = Vec::new();
    Outgoing::client(|| [1, 2, 3, 4]).message(&mut request, Message::Text("hello"));
    let open = || echo_once(&process, &request).map_err(|error| error.to_string());
    // One connection first: what the process needs at all is not charged to the others.
    let first = open()?;
    let before = process.resident_bytes();
    let connections: Vec<TcpStream> =
        (1..options.connections).map(|_| open()).collect::<Result<_, _>>()?;
    let grown = process.resident_bytes() - before;
    let per_connection = grown / connections.len() as u64;
    println!(
        "{} connections after one echo each: {grown} bytes more resident, {per_connection} per connection",
        connections.len() + 1
    );
    drop(first);
    match options.at_most {
        Some(at_most) if per_connection > at_most => Err(format!("above {at_most}")),
        _ => Ok(()),
    }
}

fn echo_once(process: &Process, request: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(process.addr)?;
    shake_hands(&mut stream)?;
    stream.write_all(request)?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    if answer == *b"\x81\x05hello" { Ok(stream) } else { Err(std::io::Error::other("wrong echo")) }
}
