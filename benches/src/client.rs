//! A blocking WebSocket client on `ringwire-proto`, one connection a value, for programs that
//! check behaviour. Not for load: that is `worker.rs`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringwire_proto::{CloseCode, Connection, Event, IncomingLimits, Message};

use crate::dialect::Dialect;

/// What the server did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message's payload.
    Message(Vec<u8>),
    /// Its Close frame.
    Close(CloseCode),
    /// FIN or reset.
    End,
}

/// One open connection.
pub struct Client {
    stream: TcpStream,
    connection: Connection<fn() -> [u8; 4]>,
    heard: std::collections::VecDeque<Heard>,
    out: Vec<u8>,
}

impl Client {
    /// Connects and shakes hands; every later read waits for at most `patience`.
    ///
    /// # Errors
    ///
    /// The server does not answer, or not with 101.
    pub fn connect(addr: SocketAddr, patience: Duration) -> io::Result<Self> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Dialect::WebSocket.open(&mut stream)?;
        // A fixed key: these clients talk to nobody but a server under test.
        let connection = Connection::client((|| [0x3C, 0xA5, 0x0F, 0x99]) as fn() -> [u8; 4]);
        Ok(Self { stream, connection, heard: Default::default(), out: Vec::new() })
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.connection.message(&mut self.out, Message::Binary(payload));
        self.flush()
    }

    /// Starts the closing handshake.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn close(&mut self) -> io::Result<()> {
        self.connection.close(&mut self.out, CloseCode::NORMAL, "");
        self.flush()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The same connection for another thread, of which only one may read and one may send. Only
    /// between two messages.
    ///
    /// # Errors
    ///
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let connection = Connection::client((|| [0x3C, 0xA5, 0x0F, 0x99]) as fn() -> [u8; 4]);
        let stream = self.stream.try_clone()?;
        Ok(Self { stream, connection, heard: Default::default(), out: Vec::new() })
    }

    /// The connection itself, for leaving rudely.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The next thing the server did. Pings are answered in passing.
    ///
    /// # Errors
    ///
    /// Nothing came in time (`WouldBlock`), or the server broke the protocol (`InvalidData`).
    pub fn hear(&mut self) -> io::Result<Heard> {
        let mut bytes = [0; 64 * 1024];
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Ok(heard);
            }
            let read = match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(Heard::End),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Heard::End);
                }
                Err(error) => return Err(error),
            };
            self.take(&mut bytes[..read])?;
        }
    }

    fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let limits = IncomingLimits { message_bytes_max: 16 << 20, ..IncomingLimits::default() };
        let Self { connection, heard, out, .. } = self;
        let received = connection.receive(bytes, &limits, out, |_, _, event| match event {
            Event::Message(message) => heard.push_back(Heard::Message(message.payload().to_vec())),
            Event::Close(close) => heard.push_back(Heard::Close(close.code)),
            Event::Ping(_) | Event::Pong(_) => {}
        });
        received.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        // Whether our Pong or Close still reaches a server that leaves is its affair.
        let _ = self.flush();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.out);
        self.out.clear();
        written
    }
}
