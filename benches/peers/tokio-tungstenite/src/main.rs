//! tokio-tungstenite: its `echo-server` example for an echo, which flushes when nothing more has
//! come in. A broadcast flushes when nothing more is published.

use std::io;

use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use peer_process::{Mode, Peer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::broadcast::{Receiver, Sender, channel},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

/// Messages a connection may be behind; one that is further behind is closed. Many times what a
/// measurement has in flight.
const BEHIND_MAX: usize = 4_096;

/// As much as the other Rust libraries begin with. Every byte of it is zeroed before each read: with
/// the default, 128 KiB, an echo of 64 B to 100 connections took over three times the CPU time.
/// 4 KiB, which its documentation names for many connections, took about as much as this at 64 B,
/// and more for messages of 16 KiB.
const READ_BUFFER_BYTES: usize = 8 << 10;

fn main() -> io::Result<()> {
    let peer = peer_process::start("tokio-tungstenite", env!("CARGO_PKG_VERSION"))?;
    Builder::new_current_thread().enable_io().build()?.block_on(serve(peer))
}

async fn serve(peer: Peer) -> io::Result<()> {
    let listener = TcpListener::from_std(peer.listener)?;
    let (everyone, _) = channel(BEHIND_MAX);
    loop {
        let (stream, _) = listener.accept().await?;
        match peer.mode {
            Mode::Echo => tokio::spawn(echo(stream)),
            Mode::Broadcast => tokio::spawn(broadcast(stream, everyone.clone())),
        };
    }
}

async fn accept(stream: TcpStream) -> Result<WebSocketStream<TcpStream>, Error> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    accept_async_with_config(stream, Some(config)).await
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let (sink, stream) = accept(stream).await?.split();
    stream.try_filter(|message| future::ready(is_data(message))).forward(sink).await
}

async fn broadcast(stream: TcpStream, everyone: Sender<Message>) -> Result<(), Error> {
    // Before the client can know that it is connected, so that it misses nothing.
    let mut published = everyone.subscribe();
    let mut socket = accept(stream).await?;
    loop {
        tokio::select! {
            received = socket.next() => match received {
                Some(message) => {
                    let message = message?;
                    if is_data(&message) {
                        // It fails if nobody is there, but this connection is.
                        let _ = everyone.send(message);
                    }
                }
                None => return Ok(()),
            },
            message = published.recv() => {
                let Ok(message) = message else { return Err(Error::ConnectionClosed) };
                write(&mut socket, message, &mut published).await?;
            }
        }
    }
}

/// Writes `first`, and by the same flush what was published meanwhile.
async fn write(
    socket: &mut WebSocketStream<TcpStream>,
    first: Message,
    published: &mut Receiver<Message>,
) -> Result<(), Error> {
    socket.feed(first).await?;
    while let Ok(message) = published.try_recv() {
        socket.feed(message).await?;
    }
    socket.flush().await
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}
