//! fastwebsockets on tokio, with hyper for the upgrade: its own `echo_server` example, which is
//! also what its authors measure. The library writes each frame when it is told to and buffers
//! nothing; an echo is left like that, a broadcast buffers what is published together.

mod broadcast;
mod echo;

use std::io;

use bytes::Bytes;
use fastwebsockets::{WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use peer_process::{Mode, Peer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

use crate::broadcast::Everyone;

fn main() -> io::Result<()> {
    let peer = peer_process::start("fastwebsockets", env!("CARGO_PKG_VERSION"))?;
    Builder::new_current_thread().enable_io().build()?.block_on(serve(peer))
}

async fn serve(peer: Peer) -> io::Result<()> {
    let listener = TcpListener::from_std(peer.listener)?;
    let everyone = Everyone::new();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(stream, peer.mode, everyone.clone()));
    }
}

/// Ends when the connection is handed over, or fails before: whoever is at the other end sees it.
async fn connection(stream: TcpStream, mode: Mode, everyone: Everyone) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let everyone = everyone.clone();
        async move { accept(request, mode, everyone) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.with_upgrades().await;
}

fn accept(
    mut request: Request<Incoming>,
    mode: Mode,
    everyone: Everyone,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    match mode {
        Mode::Echo => {
            tokio::spawn(tokio::task::unconstrained(echo::serve(upgraded)));
        }
        Mode::Broadcast => {
            // Before the client can know that it is connected, so that it misses nothing.
            let published = everyone.subscribe();
            tokio::spawn(broadcast::serve(upgraded, everyone, published));
        }
    }
    Ok(response)
}
