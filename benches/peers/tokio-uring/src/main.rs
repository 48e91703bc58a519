//! tokio-uring: one task and one receive buffer per connection, one operation for each read and
//! each write. No WebSocket library runs on it (they lend buffers, io_uring wants to own them), so
//! the protocol is Ringwire's own: what is compared is the way to the kernel, nothing else.

mod broadcast;
mod echo;
mod open;

use std::io;

use peer_process::{Mode, Peer};
use tokio_uring::net::TcpListener;

use crate::broadcast::Everyone;

/// Operations put into the ring before it must be submitted: those of thousands of connections
/// that are ready together go in by one system call.
const SUBMISSIONS: u32 = 4_096;

/// Room for a completion of every connection there may be (20,000), and its write.
const COMPLETIONS: u32 = 65_536;

fn main() -> io::Result<()> {
    let peer = peer_process::start("tokio-uring", env!("CARGO_PKG_VERSION"))?;
    tokio_uring::builder()
        .entries(SUBMISSIONS)
        .uring_builder(tokio_uring::uring_builder().setup_cqsize(COMPLETIONS))
        .start(serve(peer))
}

async fn serve(peer: Peer) -> io::Result<()> {
    let listener = TcpListener::from_std(peer.listener);
    let everyone = Everyone::default();
    loop {
        let (stream, _) = listener.accept().await?;
        match peer.mode {
            Mode::Echo => tokio_uring::spawn(echo::serve(stream)),
            Mode::Broadcast => tokio_uring::spawn(broadcast::serve(stream, everyone.clone())),
        };
    }
}
