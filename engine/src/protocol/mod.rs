//! What a connection speaks. Bytes become callbacks, and answers become bytes; the syntax is in
//! `ringwire-proto`. Each connection begins with HTTP/1.1, and a handshake makes a WebSocket of it.

pub(crate) mod handshake;
pub(crate) mod http;
pub(crate) mod later;
pub(crate) mod response;
pub(crate) mod websocket;
