//! One connection of an echo server.

use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade::UpgradeFut};

pub(crate) async fn serve(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
