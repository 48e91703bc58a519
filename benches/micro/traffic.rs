//! What a client sends: made before the clock starts, never while it runs.

use ringwire_proto::{MaskKeys, Message, Outgoing, client_request};

/// The mask key of every frame.
pub(crate) const KEY: [u8; 4] = [0x12, 0x9B, 0x5E, 0xC4];

/// What the handshake's key is made from.
pub(crate) const NONCE: [u8; 16] = *b"a nonce, 16 byte";

/// Bytes in which no two neighbours are alike.
pub(crate) fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| index as u8).collect()
}

/// So many masked binary messages of so many bytes each, one behind the other.
pub(crate) fn messages(messages: usize, payload_bytes: usize) -> Vec<u8> {
    frames(Outgoing::client(|| KEY), messages, payload_bytes)
}

/// The same messages as a server sends them.
pub(crate) fn echoes(messages: usize, payload_bytes: usize) -> Vec<u8> {
    frames(Outgoing::server(), messages, payload_bytes)
}

fn frames<K: MaskKeys>(
    mut outgoing: Outgoing<K>,
    messages: usize,
    payload_bytes: usize,
) -> Vec<u8> {
    let payload = payload(payload_bytes);
    let mut bytes = Vec::new();
    for _ in 0..messages {
        assert!(outgoing.message(&mut bytes, Message::Binary(&payload)));
    }
    bytes
}

/// The request for a WebSocket as browsers send it, with their usual headers.
pub(crate) fn request_head() -> Vec<u8> {
    let headers = [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Accept", "*/*"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Origin", "https://www.example.com"),
        ("Cookie", "session=0123456789abcdef0123456789abcdef"),
        ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache"),
    ];
    let mut head = Vec::new();
    client_request(&mut head, "www.example.com", "/ws", NONCE, &["chat"], &headers)
        .expect("all of it may be sent");
    head
}
