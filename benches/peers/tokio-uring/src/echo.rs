//! One connection of an echo server: what came in by one read goes out by one write.

use std::io;

use ringwire_proto::Event;
use tokio_uring::net::TcpStream;

use crate::open::Open;

pub(crate) async fn serve(stream: TcpStream) -> io::Result<()> {
    let mut open = Open::accept(stream).await?;
    let mut out = Vec::new();
    loop {
        let goes_on = open.receive(&mut out, |outgoing, out, event| {
            if let Event::Message(message) = event {
                outgoing.message(out, message);
            }
        });
        let goes_on = goes_on.await?;
        if !out.is_empty() {
            let (written, mut lent) = open.stream.write_all(out).await;
            written?;
            lent.clear();
            out = lent;
        }
        if !goes_on {
            return Ok(());
        }
    }
}
