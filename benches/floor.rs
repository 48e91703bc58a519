//! A raw TCP echo on the engine's ring code: no frames, no callbacks, no timers. It reads in
//! pieces of 16 KiB and copies each once. What it does per small message is the least any
//! server on this ring can do, so it is the floor the engine is measured against. It keeps no
//! connection from reading too slowly: not a server for anything but benchmarks.

use std::io::Write;
use std::net::SocketAddr;

use clap::Parser;
use ringwire::driver::{
    Completion, Driver, Errno, KernelSocket, Key, Lease, Listener, Outbound, RingConfig,
    UringDriver, Wait,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Echoes bytes, on one thread.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[derive(Default)]
struct Connection {
    socket: Option<KernelSocket>,
    sending: bool,
    /// The receive is over: close once the send is.
    ended: bool,
    /// What arrived while a send was in flight.
    waiting: Vec<u8>,
}

struct Floor {
    driver: UringDriver,
    connections: Vec<Connection>,
    free: Vec<u32>,
    buffers: Vec<Vec<u8>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let listener = Listener::bind_group(options.listen, 1)?.remove(0);
    let address = listener.local_addr()?;
    let config = RingConfig { receive_buffer_bytes: 16 << 10, ..RingConfig::default() };
    let driver =
        UringDriver::new(&config, vec![listener]).map_err(|error| format!("no ring: {error:?}"))?;
    println!("listening on tcp://{address} (1 shards, io_uring)");
    std::io::stdout().flush()?;
    let mut floor =
        Floor { driver, connections: Vec::new(), free: Vec::new(), buffers: Vec::new() };
    floor.driver.arm_accept(0);
    floor.serve();
    Ok(())
}

impl Floor {
    fn serve(&mut self) {
        let mut completions = Vec::new();
        loop {
            self.driver.tick(Wait::Forever, &mut completions);
            for completion in completions.drain(..) {
                match completion {
                    Completion::Accepted { result: Ok(socket), .. } => self.admit(socket),
                    Completion::Received { key, result, more } => self.echo(key, result, more),
                    Completion::Sent { key, result, outbound } => self.sent(key, result, outbound),
                    Completion::Accepted { .. } | Completion::Filled { .. } | Completion::Woken => {
                    }
                }
            }
        }
    }

    fn admit(&mut self, socket: KernelSocket) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(Connection::default());
            self.connections.len() as u32 - 1
        });
        let key = Key { slot, generation: 0 };
        self.driver.arm_receive(key, &socket);
        self.connections[slot as usize] =
            Connection { socket: Some(socket), ..Connection::default() };
    }

    fn echo(&mut self, key: Key, result: Result<Option<Lease>, Errno>, more: bool) {
        let connection = &mut self.connections[key.slot as usize];
        let Some(socket) = &connection.socket else { return };
        match result {
            Ok(Some(lease)) => {
                let bytes = self.driver.received(&lease);
                if connection.sending {
                    connection.waiting.extend_from_slice(bytes);
                } else {
                    let mut buffer = self.buffers.pop().unwrap_or_default();
                    buffer.extend_from_slice(bytes);
                    connection.sending = true;
                    self.driver.send(key, socket, Outbound::Own(buffer), 0);
                }
                self.driver.recycle(lease);
                if !more {
                    self.driver.arm_receive(key, socket);
                }
            }
            Err(Errno::NO_BUFFERS) => self.driver.arm_receive(key, socket),
            Ok(None) | Err(_) => {
                connection.ended = true;
                self.close_if_quiet(key);
            }
        }
    }

    fn sent(&mut self, key: Key, result: Result<u32, Errno>, outbound: Outbound) {
        let connection = &mut self.connections[key.slot as usize];
        connection.sending = false;
        let Outbound::Own(mut buffer) = outbound else { return };
        let sent = result.map_or(buffer.len(), |bytes| bytes as usize);
        buffer.drain(..sent);
        buffer.append(&mut connection.waiting);
        match &connection.socket {
            Some(socket) if !buffer.is_empty() && !connection.ended => {
                connection.sending = true;
                self.driver.send(key, socket, Outbound::Own(buffer), 0);
            }
            _ => {
                buffer.clear();
                self.buffers.push(buffer);
                self.close_if_quiet(key);
            }
        }
    }

    fn close_if_quiet(&mut self, key: Key) {
        let connection = &mut self.connections[key.slot as usize];
        if connection.ended
            && !connection.sending
            && let Some(socket) = connection.socket.take()
        {
            self.driver.close(socket);
            self.free.push(key.slot);
        }
    }
}
