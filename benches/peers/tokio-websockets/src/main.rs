//! tokio-websockets: its `echo_server` example for an echo, which its authors measure. The library
//! flushes before each read, so there is nothing to be gained by feeding. A broadcast flushes when
//! nothing more is published.

use std::io;

use futures_util::{SinkExt, StreamExt};
use peer_process::{Mode, Peer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::broadcast::{Receiver, Sender, channel},
    task::unconstrained,
};
use tokio_websockets::{Error, Message, ServerBuilder, WebSocketStream};

/// Messages a connection may be behind; one that is further behind is closed. Many times what a
/// measurement has in flight.
const BEHIND_MAX: usize = 4_096;

fn main() -> io::Result<()> {
    let peer = peer_process::start("tokio-websockets", env!("CARGO_PKG_VERSION"))?;
    Builder::new_current_thread().enable_io().build()?.block_on(serve(peer))
}

async fn serve(peer: Peer) -> io::Result<()> {
    let listener = TcpListener::from_std(peer.listener)?;
    let (everyone, _) = channel(BEHIND_MAX);
    loop {
        let (stream, _) = listener.accept().await?;
        match peer.mode {
            Mode::Echo => tokio::spawn(unconstrained(echo(stream))),
            Mode::Broadcast => tokio::spawn(unconstrained(broadcast(stream, everyone.clone()))),
        };
    }
}

async fn accept(stream: TcpStream) -> Result<WebSocketStream<TcpStream>, Error> {
    stream.set_nodelay(true)?;
    let (_request, socket) = ServerBuilder::new().accept(stream).await?;
    Ok(socket)
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let mut socket = accept(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if is_data(&message) {
            socket.send(message).await?;
        }
    }
    Ok(())
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
                let Ok(message) = message else { return Err(Error::AlreadyClosed) };
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
