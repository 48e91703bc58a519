//! One connection of a broadcast server, and what joins it to the others. A message is encoded
//! once; what is published while a connection writes goes out by its next write.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
};

use ringwire_proto::{Event, Message, Opcode, append_frame};
use tokio::sync::Notify;
use tokio_uring::net::TcpStream;

use crate::open::Open;

/// Most that waits for a slow connection; one that would be owed more is closed. As much as Bun's
/// default, many times what a measurement has in flight.
const UNSENT_BYTES_MAX: usize = 16 << 20;

/// Every open connection.
#[derive(Clone, Default)]
pub(crate) struct Everyone(Rc<RefCell<Vec<Rc<Outbox>>>>);

/// What waits to be written to one connection.
#[derive(Default)]
struct Outbox {
    bytes: RefCell<Vec<u8>>,
    changed: Notify,
    ended: Cell<bool>,
}

impl Everyone {
    fn publish(&self, message: Message<'_>) {
        let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
        let mut frame = Vec::new();
        append_frame(&mut frame, opcode, message.payload());
        for outbox in self.0.borrow().iter() {
            outbox.append(&frame);
        }
    }

    fn join(&self, outbox: &Rc<Outbox>) {
        self.0.borrow_mut().push(Rc::clone(outbox));
    }

    fn leave(&self, outbox: &Rc<Outbox>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, outbox));
    }
}

impl Outbox {
    fn append(&self, bytes: &[u8]) {
        let mut unsent = self.bytes.borrow_mut();
        if unsent.len() + bytes.len() > UNSENT_BYTES_MAX {
            self.ended.set(true);
        } else if !self.ended.get() {
            unsent.extend_from_slice(bytes);
        }
        self.changed.notify_one();
    }

    fn end(&self) {
        self.ended.set(true);
        self.changed.notify_one();
    }
}

pub(crate) async fn serve(stream: TcpStream, everyone: Everyone) -> io::Result<()> {
    // Before the client can know that it is connected, so that it misses nothing.
    let outbox = Rc::default();
    everyone.join(&outbox);
    let ended = converse(stream, &everyone, &outbox).await;
    everyone.leave(&outbox);
    ended
}

async fn converse(stream: TcpStream, everyone: &Everyone, outbox: &Outbox) -> io::Result<()> {
    let open = Open::accept(stream).await?;
    let stream = Rc::clone(&open.stream);
    tokio::try_join!(read(open, everyone, outbox), write(&stream, outbox))?;
    Ok(())
}

async fn read(mut open: Open, everyone: &Everyone, outbox: &Outbox) -> io::Result<()> {
    let mut answers = Vec::new();
    loop {
        let goes_on = open.receive(&mut answers, |_outgoing, _answers, event| {
            if let Event::Message(message) = event {
                everyone.publish(message);
            }
        });
        let goes_on = goes_on.await?;
        if !answers.is_empty() {
            outbox.append(&answers);
            answers.clear();
        }
        if !goes_on {
            outbox.end();
            return Ok(());
        }
    }
}

/// Ends when the outbox has, and nothing of it is unsent.
async fn write(stream: &TcpStream, outbox: &Outbox) -> io::Result<()> {
    let mut spare = Vec::new();
    loop {
        let unsent = outbox.bytes.replace(spare);
        if unsent.is_empty() {
            if outbox.ended.get() {
                return Ok(());
            }
            outbox.changed.notified().await;
            spare = unsent;
            continue;
        }
        let (written, mut lent) = stream.write_all(unsent).await;
        written?;
        lent.clear();
        spare = lent;
    }
}
