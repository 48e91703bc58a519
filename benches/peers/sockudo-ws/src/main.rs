//! sockudo-ws: the echo loop of its README, which feeds and lets the next read flush, and its own
//! publish and subscribe for a broadcast.

use std::{io, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use peer_process::{Mode, Peer};
use sockudo_ws::{
    Config, Error, Message, PubSub, Role, WebSocketStream, handshake::server_handshake,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::mpsc,
};

const EVERYONE: &str = "everyone";

fn main() -> io::Result<()> {
    let peer = peer_process::start("sockudo-ws", env!("CARGO_PKG_VERSION"))?;
    // Its deadlines need the timer.
    Builder::new_current_thread().enable_all().build()?.block_on(serve(peer))
}

async fn serve(peer: Peer) -> io::Result<()> {
    let listener = TcpListener::from_std(peer.listener)?;
    // No peer pings or closes an idle connection: a load generator need not answer.
    let config = Config::builder().auto_ping(false).idle_timeout(0).build();
    let topics = Arc::new(PubSub::new());
    loop {
        let (stream, _) = listener.accept().await?;
        let config = config.clone();
        match peer.mode {
            Mode::Echo => tokio::spawn(echo(stream, config)),
            Mode::Broadcast => tokio::spawn(broadcast(stream, config, Arc::clone(&topics))),
        };
    }
}

async fn accept(
    mut stream: TcpStream,
    config: Config,
) -> Result<WebSocketStream<TcpStream>, Error> {
    stream.set_nodelay(true)?;
    let leftover = server_handshake(&mut stream).await?.leftover;
    Ok(WebSocketStream::from_raw_with_leftover(stream, Role::Server, config, leftover))
}

async fn echo(stream: TcpStream, config: Config) -> Result<(), Error> {
    let mut socket = accept(stream, config).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if is_data(&message) {
            socket.feed(message).await?;
        }
    }
    Ok(())
}

async fn broadcast(stream: TcpStream, config: Config, topics: Arc<PubSub>) -> Result<(), Error> {
    // Before the client can know that it is connected, so that it misses nothing.
    let (publisher, mut published) = mpsc::unbounded_channel();
    let subscriber = topics.create_subscriber(publisher);
    topics.subscribe(subscriber, EVERYONE);
    let ended = converse(stream, config, &topics, &mut published).await;
    topics.remove_subscriber(subscriber);
    ended
}

async fn converse(
    stream: TcpStream,
    config: Config,
    topics: &PubSub,
    published: &mut mpsc::UnboundedReceiver<Message>,
) -> Result<(), Error> {
    let mut socket = accept(stream, config).await?;
    loop {
        tokio::select! {
            received = socket.next() => match received {
                Some(message) => {
                    let message = message?;
                    if is_data(&message) {
                        topics.publish(EVERYONE, message);
                    }
                }
                None => return Ok(()),
            },
            Some(message) = published.recv() => {
                socket.feed(message).await?;
                // What was published meanwhile goes out by the same flush.
                while let Ok(message) = published.try_recv() {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
        }
    }
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}
