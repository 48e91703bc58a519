//! The opening handshake (RFC 6455 §4), from both ends.
//!
//! Never decides whom to accept: origin, path and credentials are the caller's to judge.

mod client;
mod server;

use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

pub use client::{ResponseError, check_response, client_request};
pub use server::{AcceptError, Offer, PROTOCOLS_MAX, accept_response, append_accept};

/// Length of a Sec-WebSocket-Accept value in bytes: 20 bytes of SHA-1 in base64.
pub const ACCEPT_BYTES: usize = 28;

/// Length of a Sec-WebSocket-Key value in bytes: 16 bytes in base64.
pub const KEY_BYTES: usize = 24;

/// Headers of a handshake that are written here and by nobody else.
const OWN_HEADERS: [&str; 10] = [
    "Connection",
    "Content-Length",
    "Host",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Transfer-Encoding",
    "Upgrade",
];

/// Base64 with padding. Bits behind the last whole byte may be set: a key is a nonce, what it
/// decodes to is of no interest but for its length (RFC 6455 §4.2.1), and clients that draw its
/// characters at random exist.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The Sec-WebSocket-Accept value for a Sec-WebSocket-Key value (RFC 6455 §4.2.2): for a server that
/// reads requests with another HTTP library. `None` if it is not 16 bytes in base64, and the request
/// is to be refused with 400.
///
/// ```
/// use ringwire_proto::accept_for_key;
///
/// let accept = accept_for_key(b"dGhlIHNhbXBsZSBub25jZQ==").expect("the key of the RFC");
/// assert_eq!(&accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// assert_eq!(accept_for_key(b"short"), None);
/// ```
pub fn accept_for_key(key: &[u8]) -> Option<[u8; ACCEPT_BYTES]> {
    is_key(key).then(|| accept_for(key))
}

fn accept_for(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let mut sha1 = Sha1::new();
    sha1.update(key);
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; ACCEPT_BYTES];
    encode(&sha1.finalize(), &mut accept);
    accept
}

/// Base64 of `bytes` into `text`, which has exactly the right length.
fn encode(bytes: &[u8], text: &mut [u8]) {
    let written = BASE64.encode_slice(bytes, text);
    debug_assert_eq!(written, Ok(bytes.len().div_ceil(3) * 4));
}

/// Whether a Sec-WebSocket-Key value is 16 bytes in base64.
fn is_key(value: &[u8]) -> bool {
    // `decode_slice` wants room for the length before the padding is seen.
    let mut nonce = [0; KEY_BYTES / 4 * 3];
    BASE64.decode_slice(value, &mut nonce) == Ok(16)
}

#[cfg(test)]
mod tests;
