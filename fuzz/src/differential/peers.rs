//! The other implementations, as servers that read a stream of frames in memory.
//!
//! Never a verdict on what they say.

use std::{
    io::{self, Read, Write},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use ringwire_proto::fuzz::naive::Heard;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What one implementation makes of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account<E> {
    /// The events, in order; nothing is asked for after a Close.
    pub(super) heard: Vec<Heard>,
    /// Why it fails the connection after them, if it does.
    pub(super) failure: Option<E>,
}

/// The stream, in pieces of at most so many bytes; what is written to it is forgotten.
#[derive(Clone, Copy)]
pub(super) struct Pieces<'a> {
    pub(super) rest: &'a [u8],
    pub(super) piece_bytes: usize,
}

/// Asks tungstenite.
pub(super) fn tungstenite(stream: Pieces<'_>, message_bytes_max: usize) -> Account<String> {
    use tungstenite::{
        Error, WebSocket,
        protocol::{Role, WebSocketConfig},
    };
    let config = WebSocketConfig::default()
        // The default of 128 KiB is cleared for every stream.
        .read_buffer_size(1024)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    let mut heard = Vec::new();
    let failure = loop {
        match socket.read() {
            Ok(message) => heard.push(from_tungstenite(message)),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break None,
            Err(error) => break Some(error.to_string()),
        }
        if is_closed(&heard) {
            break None;
        }
    };
    Account { heard, failure }
}

/// Asks fastwebsockets. It leaves fragments to a collector, which is part of the crate.
pub(super) fn fastwebsockets(stream: Pieces<'_>, message_bytes_max: usize) -> Account<String> {
    use fastwebsockets::{FragmentCollector, Role, WebSocket};
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    // With it, a Ping is answered and not reported.
    socket.set_auto_pong(false);
    // It refuses what reaches the limit.
    socket.set_max_message_size(message_bytes_max + 1);
    let mut socket = FragmentCollector::new(socket);
    let mut context = Context::from_waker(Waker::noop());
    let mut heard = Vec::new();
    let failure = loop {
        match pin!(socket.read_frame()).poll(&mut context) {
            Poll::Ready(Ok(frame)) => heard.push(from_fastwebsockets(&frame)),
            Poll::Ready(Err(error)) => break Some(error.to_string()),
            // Nothing will ever wake it: the stream is used up.
            Poll::Pending => break None,
        }
        if is_closed(&heard) {
            break None;
        }
    };
    Account { heard, failure }
}

fn is_closed(heard: &[Heard]) -> bool {
    matches!(heard.last(), Some(Heard::Close(..)))
}

fn from_tungstenite(message: tungstenite::Message) -> Heard {
    use tungstenite::Message;
    match message {
        Message::Text(text) => Heard::Text(text.as_str().into()),
        Message::Binary(payload) => Heard::Binary(payload.into()),
        Message::Ping(payload) => Heard::Ping(payload.into()),
        Message::Pong(payload) => Heard::Pong(payload.into()),
        Message::Close(None) => Heard::Close(1005, vec![]),
        Message::Close(Some(close)) => {
            Heard::Close(close.code.into(), close.reason.as_str().into())
        }
        Message::Frame(_) => unreachable!("it is only ever written"),
    }
}

fn from_fastwebsockets(frame: &fastwebsockets::Frame<'_>) -> Heard {
    use fastwebsockets::OpCode;
    let payload = frame.payload.to_vec();
    match (frame.opcode, &payload[..]) {
        (OpCode::Text, _) => Heard::Text(payload),
        (OpCode::Binary, _) => Heard::Binary(payload),
        (OpCode::Ping, _) => Heard::Ping(payload),
        (OpCode::Pong, _) => Heard::Pong(payload),
        (OpCode::Close, []) => Heard::Close(1005, vec![]),
        (OpCode::Close, [high, low, reason @ ..]) => {
            Heard::Close(u16::from_be_bytes([*high, *low]), reason.into())
        }
        (OpCode::Close, _) => unreachable!("it refuses a payload of one byte"),
        (OpCode::Continuation, _) => unreachable!("they are collected"),
    }
}

impl<'a> Pieces<'a> {
    fn next(&mut self, space_bytes: usize) -> &'a [u8] {
        let (piece, rest) =
            self.rest.split_at(self.piece_bytes.min(space_bytes).min(self.rest.len()));
        self.rest = rest;
        piece
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let piece = self.next(space.len());
        space[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            return Poll::Pending;
        }
        let piece = self.next(space.remaining());
        space.put_slice(piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
