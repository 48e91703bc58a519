//! A closed-loop load: every connection keeps a fixed number of messages in flight and sends
//! one for each that comes back. Every byte that comes back is compared.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringwire::driver::{
    Completion, Driver, Errno, Key, Lease, Outbound, RingConfig, Socket, UringDriver, Wait,
};
use ringwire_proto::{Message, Outgoing, append_frame};

/// What the server under test speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// WebSocket: an opening handshake, masked frames out, unmasked frames back.
    WebSocket,
    /// Raw TCP: the same masked frames out, the very same bytes back.
    Raw,
}

/// What to do to a server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it speaks.
    pub dialect: Dialect,
    /// How much of it.
    pub shape: Shape,
}

/// How much load, as every tool takes it on its command line.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Shape {
    /// Number of connections
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
    /// Messages in flight on each connection
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    /// Payload of a message, in bytes
    #[arg(long = "payload", default_value_t = 64)]
    pub payload_bytes: usize,
}

struct Client {
    socket: Socket,
    sending: bool,
    /// Messages to send once the send in flight is over.
    owed: usize,
    received_bytes: usize,
}

/// The connections of one load, ready to run.
pub struct Clients {
    driver: UringDriver,
    clients: Vec<Client>,
    in_flight: usize,
    /// One message as sent.
    request: Vec<u8>,
    /// Messages as they come back, one behind the other: at least one receive buffer more
    /// than one message, so that a comparison may start at any of its bytes.
    answers: Vec<u8>,
    answer_bytes: usize,
    buffers: Vec<Vec<u8>>,
    messages: u64,
}

/// Mask key of every frame: what it is does not matter to a server, and a fixed one keeps the
/// client cheap.
const KEY: [u8; 4] = [0x12, 0x9B, 0x5E, 0xC4];

impl Clients {
    /// Connects, shakes hands, and starts every connection.
    ///
    /// # Errors
    ///
    /// Connecting, the handshake or the ring failed.
    pub fn connect(load: &Load) -> Result<Self, String> {
        let payload: Vec<u8> = (0..load.shape.payload_bytes).map(|index| index as u8).collect();
        let mut request = Vec::new();
        Outgoing::client(|| KEY).message(&mut request, Message::Binary(&payload));
        let mut answer = Vec::new();
        match load.dialect {
            Dialect::WebSocket => {
                append_frame(&mut answer, ringwire_proto::Opcode::Binary, &payload);
            }
            Dialect::Raw => answer.clone_from(&request),
        }
        let config = RingConfig::default();
        let copies = (config.receive_buffer_bytes / answer.len()) + 2;
        let mut driver = UringDriver::new(&config, None).map_err(|error| format!("{error:?}"))?;
        let mut clients = Vec::with_capacity(load.shape.connections);
        for _ in 0..load.shape.connections {
            let stream = connect(load)?;
            let socket = driver.adopt(stream);
            clients.push(Client { socket, sending: false, owed: 0, received_bytes: 0 });
        }
        let answer_bytes = answer.len();
        let mut clients = Self {
            driver,
            clients,
            in_flight: load.shape.in_flight,
            request,
            answers: answer.repeat(copies),
            answer_bytes,
            buffers: Vec::new(),
            messages: 0,
        };
        clients.start();
        Ok(clients)
    }

    fn start(&mut self) {
        for slot in 0..self.clients.len() {
            let key = Key { slot: slot as u32, generation: 0 };
            self.driver.arm_receive(key, &self.clients[slot].socket);
            self.clients[slot].owed = self.in_flight;
            self.send_owed(key);
        }
    }

    /// Runs for `time` and returns how many messages came back, and in how many seconds.
    ///
    /// # Panics
    ///
    /// If a byte that came back is wrong or a connection ends.
    pub fn run(&mut self, time: Duration) -> (u64, f64) {
        let before = self.messages;
        let start = Instant::now();
        let mut completions = Vec::new();
        while start.elapsed() < time {
            self.driver.tick(Wait::Millis(100), &mut completions);
            for completion in completions.drain(..) {
                match completion {
                    Completion::Received { key, result, more } => self.receive(key, result, more),
                    Completion::Sent { key, result, outbound } => self.sent(key, result, outbound),
                    Completion::Accepted { .. } | Completion::Woken => {}
                }
            }
        }
        (self.messages - before, start.elapsed().as_secs_f64())
    }

    fn receive(&mut self, key: Key, result: Result<Option<Lease>, Errno>, more: bool) {
        let client = &mut self.clients[key.slot as usize];
        match result {
            Ok(Some(lease)) => {
                let bytes = self.driver.received(&lease);
                let offset = client.received_bytes % self.answer_bytes;
                assert!(*bytes == self.answers[offset..offset + bytes.len()], "a wrong answer");
                client.received_bytes += bytes.len();
                let answers = (offset + bytes.len()) / self.answer_bytes;
                client.owed += answers;
                self.messages += answers as u64;
                self.driver.recycle(lease);
                if !more {
                    self.driver.arm_receive(key, &client.socket);
                }
                self.send_owed(key);
            }
            Err(Errno::NO_BUFFERS) => self.driver.arm_receive(key, &client.socket),
            Ok(None) => panic!("the server has closed a connection"),
            Err(errno) => panic!("receiving: {errno}"),
        }
    }

    fn send_owed(&mut self, key: Key) {
        let client = &mut self.clients[key.slot as usize];
        if client.sending || client.owed == 0 {
            return;
        }
        let mut buffer = self.buffers.pop().unwrap_or_default();
        for _ in 0..std::mem::take(&mut client.owed) {
            buffer.extend_from_slice(&self.request);
        }
        client.sending = true;
        self.driver.send(key, &client.socket, Outbound::Own(buffer), 0);
    }

    fn sent(&mut self, key: Key, result: Result<u32, Errno>, outbound: Outbound) {
        let client = &mut self.clients[key.slot as usize];
        let Outbound::Own(mut buffer) = outbound else { return };
        buffer.drain(..result.expect("the server reads") as usize);
        if buffer.is_empty() {
            client.sending = false;
            self.buffers.push(buffer);
            self.send_owed(key);
        } else {
            self.driver.send(key, &client.socket, Outbound::Own(buffer), 0);
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for client in self.clients.drain(..) {
            self.driver.shut_down_write(&client.socket);
            self.driver.cancel(&client.socket);
            self.driver.close(client.socket);
        }
        self.driver.tick(Wait::No, &mut Vec::new());
    }
}

fn connect(load: &Load) -> Result<TcpStream, String> {
    let open = || -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(load.addr)?;
        stream.set_nodelay(true)?;
        if load.dialect == Dialect::WebSocket {
            shake_hands(&mut stream)?;
        }
        Ok(stream)
    };
    open().map_err(|error| format!("connecting to {}: {error}", load.addr))
}

/// Sends a request and reads the response head to its end, which must be a 101.
///
/// # Errors
///
/// The server answers something else, or nothing.
pub fn shake_hands(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 101 ") {
        Ok(())
    } else {
        Err(std::io::Error::other(String::from_utf8_lossy(&head).into_owned()))
    }
}
