//! Requests that differ from the plain opening handshake in one place.

use super::handshake;

pub const HOST: &str = "Host";
pub const UPGRADE: &str = "Upgrade";
pub const CONNECTION: &str = "Connection";
pub const VERSION: &str = "Sec-WebSocket-Version";
pub const KEY: &str = "Sec-WebSocket-Key";

/// The opening handshake with `lines` in the place of the header `name`.
pub fn with(name: &str, lines: &[&str]) -> Vec<u8> {
    let head = String::from_utf8(handshake()).unwrap();
    let prefix = format!("{name}: ");
    let mut request = String::new();
    for line in head.trim_end().split("\r\n") {
        if line.starts_with(&prefix) {
            lines.iter().for_each(|line| request.push_str(&format!("{line}\r\n")));
        } else {
            request.push_str(&format!("{line}\r\n"));
        }
    }
    request.push_str("\r\n");
    request.into_bytes()
}

pub fn without(name: &str) -> Vec<u8> {
    with(name, &[])
}

/// The opening handshake with more bytes before its empty line: none to many lines, each
/// with its CRLF.
pub fn plus(lines: impl AsRef<[u8]>) -> Vec<u8> {
    let mut head = handshake();
    head.truncate(head.len() - 2);
    [&head, lines.as_ref(), b"\r\n"].concat()
}

/// The opening handshake with another first line.
pub fn first_line(line: &str) -> Vec<u8> {
    let head = handshake();
    let end = head.windows(2).position(|two| two == b"\r\n").unwrap();
    [line.as_bytes(), &head[end..]].concat()
}
