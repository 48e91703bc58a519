//! An open connection: after the handshake, bytes in and events out. It never writes.

use std::{io, rc::Rc};

use ringwire_proto::{
    Connection, Event, HeadLimits, HeadScan, IncomingLimits, Outgoing, Request, accept_response,
};
use tokio_uring::net::TcpStream;

/// A message of 16 KiB and its header come by one read. Twice as many bytes made messages up to that
/// no cheaper, and an idle connection owns them, too.
const RECEIVE_BYTES: usize = 32 << 10;

/// A connection after its handshake.
pub(crate) struct Open {
    /// The socket, shared with whoever writes.
    pub(crate) stream: Rc<TcpStream>,
    connection: Connection,
    limits: IncomingLimits,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that are not looked at yet.
    received_bytes: usize,
}

impl Open {
    /// Reads the request and answers it.
    ///
    /// # Errors
    ///
    /// It asks for something else than a WebSocket; or the socket's.
    pub(crate) async fn accept(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let limits = HeadLimits::default();
        let mut scan = HeadScan::new();
        let mut head = Vec::new();
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        let head_bytes = loop {
            let (read, lent) = stream.read(buffer).await;
            buffer = lent;
            head.extend_from_slice(&buffer[..some(read?)?]);
            if let Some(bytes) = scan.scan(&head, &limits).map_err(io::Error::other)? {
                break bytes;
            }
        };
        let mut response = Vec::new();
        let request = Request::parse(&head[..head_bytes], &limits).map_err(io::Error::other)?;
        let offer = request.upgrade().map_err(io::Error::other)?;
        let offer = offer.ok_or(io::ErrorKind::InvalidData)?;
        accept_response(&mut response, &offer, None, &[]).map_err(io::Error::other)?;
        stream.write_all(response).await.0?;
        // Frames that came with the head.
        let received_bytes = head.len() - head_bytes;
        buffer[..received_bytes].copy_from_slice(&head[head_bytes..]);
        let limits = IncomingLimits::default();
        let (stream, connection) = (Rc::new(stream), Connection::server());
        Ok(Self { stream, connection, limits, buffer, received_bytes })
    }

    /// Waits for bytes and passes on the events in them. Answers the protocol asks for are appended
    /// to `out`, and so is what `on_event` sends.
    ///
    /// Returns whether the conversation goes on; if not, `out` has the last word.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub(crate) async fn receive(
        &mut self,
        out: &mut Vec<u8>,
        on_event: impl FnMut(&mut Outgoing, &mut Vec<u8>, Event<'_>),
    ) -> io::Result<bool> {
        if self.received_bytes == 0 {
            let (read, lent) = self.stream.read(std::mem::take(&mut self.buffer)).await;
            self.buffer = lent;
            self.received_bytes = some(read?)?;
        }
        let received = &mut self.buffer[..std::mem::take(&mut self.received_bytes)];
        let conforms = self.connection.receive(received, &self.limits, out, on_event).is_ok();
        Ok(conforms && !self.connection.may_close_transport())
    }
}

fn some(read_bytes: usize) -> io::Result<usize> {
    if read_bytes == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read_bytes) }
}
