//! One connection of a broadcast server, and what joins it to the others.

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketRead, WebSocketWrite,
    upgrade::UpgradeFut,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter},
    sync::{
        broadcast::{Receiver, Sender, channel},
        mpsc,
    },
};

/// Messages a connection may be behind; one that is further behind is closed. Many times what a
/// measurement has in flight.
const BEHIND_MAX: usize = 4_096;

/// Answers (pongs, the Close) that wait for the writing half; while they do, nothing is read.
const ANSWERS_MAX: usize = 16;

/// What everyone gets. Cloning it does not copy the payload.
#[derive(Clone)]
struct Message {
    opcode: OpCode,
    payload: Bytes,
}

/// Every open connection.
#[derive(Clone)]
pub(crate) struct Everyone(Sender<Message>);

/// What is published from the moment of subscribing on.
pub(crate) struct Published(Receiver<Message>);

impl Everyone {
    pub(crate) fn new() -> Self {
        Self(channel(BEHIND_MAX).0)
    }

    pub(crate) fn subscribe(&self) -> Published {
        Published(self.0.subscribe())
    }
}

/// Reading cannot be cancelled half-way, so the halves run side by side until one of them ends.
pub(crate) async fn serve(
    upgraded: UpgradeFut,
    everyone: Everyone,
    published: Published,
) -> Result<(), WebSocketError> {
    let (reader, writer) = upgraded.await?.split(|stream| {
        let (reader, writer) = tokio::io::split(stream);
        (reader, BufWriter::new(writer))
    });
    let (answer, answers) = mpsc::channel(ANSWERS_MAX);
    tokio::try_join!(read(reader, everyone, answer), write(writer, published, answers))?;
    Ok(())
}

async fn read<S: AsyncRead + Unpin>(
    reader: WebSocketRead<S>,
    everyone: Everyone,
    answer: mpsc::Sender<Frame<'static>>,
) -> Result<(), WebSocketError> {
    let mut reader = FragmentCollectorRead::new(reader);
    loop {
        let frame = reader.read_frame(&mut |frame| answer.send(frame)).await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                let message = Message { opcode: frame.opcode, payload: shared(frame.payload) };
                // It fails if nobody is there, but this connection is.
                let _ = everyone.0.send(message);
            }
            _ => {}
        }
    }
}

/// Ends when reading has ended and its last answer, the Close, is written.
async fn write<S: AsyncWrite + Unpin>(
    mut writer: WebSocketWrite<S>,
    Published(mut published): Published,
    mut answers: mpsc::Receiver<Frame<'static>>,
) -> Result<(), WebSocketError> {
    loop {
        tokio::select! {
            message = published.recv() => {
                let Ok(message) = message else { return Err(WebSocketError::ConnectionClosed) };
                write_message(&mut writer, &message).await?;
                // What was published meanwhile goes out by the same flush.
                while let Ok(message) = published.try_recv() {
                    write_message(&mut writer, &message).await?;
                }
            }
            answer = answers.recv() => match answer {
                Some(frame) => writer.write_frame(frame).await?,
                None => return Ok(()),
            },
        }
        writer.flush().await?;
    }
}

async fn write_message<S: AsyncWrite + Unpin>(
    writer: &mut WebSocketWrite<S>,
    message: &Message,
) -> Result<(), WebSocketError> {
    let payload = Payload::Borrowed(&message.payload);
    writer.write_frame(Frame::new(true, message.opcode, None, payload)).await
}

fn shared(payload: Payload<'_>) -> Bytes {
    match payload {
        Payload::Bytes(bytes) => bytes.freeze(),
        other => Vec::from(other).into(),
    }
}
