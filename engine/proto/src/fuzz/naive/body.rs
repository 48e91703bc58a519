//! The slow twin of request bodies: framing from the lines of a head, and one function per rule of
//! the chunked grammar (RFC 9112 §7.1), over the whole stream.

use alloc::{string::String, vec, vec::Vec};

use crate::{
    BodyFraming, RequestError,
    http::{EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX},
};

/// A body and the bytes of the stream it took, or `None` if the stream ends before it does.
pub type Body = Result<Option<(Vec<u8>, usize)>, RequestError>;

/// The framing a head announces; `None` if it is refused for that.
pub fn framing(head: &str) -> Option<BodyFraming> {
    let mut lines = head.split("\r\n");
    let request_line = lines.next()?;
    let may_have_body = ["POST ", "PUT ", "PATCH ", "DELETE "]
        .iter()
        .any(|method| request_line.starts_with(method));
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim_matches([' ', '\t']).to_lowercase()))
        .collect();
    let values = |name| -> Vec<&str> {
        fields.iter().filter(|field| field.0 == name).map(|field| &*field.1).collect()
    };
    match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => Some(BodyFraming::None),
        (["chunked"], []) if may_have_body && request_line.ends_with("/1.1") => {
            Some(BodyFraming::Chunked)
        }
        ([], [length]) if !length.contains('+') => match length.trim_start_matches('0') {
            "" if !length.is_empty() => Some(BodyFraming::None),
            digits if may_have_body => digits.parse().ok().map(BodyFraming::Length),
            _ => None,
        },
        _ => None,
    }
}

/// The body at the start of `stream`.
pub fn body(stream: &[u8], framing: BodyFraming, body_bytes_max: usize) -> Body {
    match framing {
        BodyFraming::None => Ok(Some((vec![], 0))),
        BodyFraming::Length(length) if u128::from(length) > body_bytes_max as u128 => {
            Err(RequestError::BodyTooLong)
        }
        BodyFraming::Length(length) => {
            Ok(stream.get(..length as usize).map(|body| (body.to_vec(), body.len())))
        }
        BodyFraming::Chunked => {
            let mut text =
                Text { stream, at: 0, body: vec![], body_bytes_max, extensions: 0, trailers: 0 };
            match text.chunked_body() {
                Ok(()) => Ok(Some((text.body, text.at))),
                Err(Stop::More) => Ok(None),
                Err(Stop::Failed(error)) => Err(error),
            }
        }
    }
}

enum Stop {
    More,
    Failed(RequestError),
}

const MALFORMED: Stop = Stop::Failed(RequestError::Chunk);

struct Text<'a> {
    stream: &'a [u8],
    at: usize,
    body: Vec<u8>,
    body_bytes_max: usize,
    extensions: usize,
    trailers: usize,
}

impl Text<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.stream.get(self.at).copied().ok_or(Stop::More)
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), Stop> {
        for &byte in text {
            if self.next()? != byte {
                return Err(MALFORMED);
            }
        }
        Ok(())
    }

    fn chunked_body(&mut self) -> Result<(), Stop> {
        loop {
            let size = self.size()?;
            self.extensions()?;
            self.literal(b"\r\n")?;
            if size == 0 {
                return self.trailers();
            }
            for _ in 0..size {
                let byte = self.next()?;
                self.body.push(byte);
            }
            self.literal(b"\r\n")?;
        }
    }

    fn size(&mut self) -> Result<u128, Stop> {
        let mut digits = String::new();
        loop {
            let byte = self.peek()?;
            if !byte.is_ascii_hexdigit() {
                return u128::from_str_radix(&digits, 16).map_err(|_| MALFORMED);
            }
            digits.push(byte.into());
            self.at += 1;
            let size = u128::from_str_radix(&digits, 16).unwrap_or(u128::MAX);
            if digits.len() > 16 {
                return Err(MALFORMED);
            }
            if size > (self.body_bytes_max - self.body.len()) as u128 {
                return Err(Stop::Failed(RequestError::BodyTooLong));
            }
        }
    }

    /// Everything up to the CR: nothing, or something with a `;` behind nothing but white space.
    fn extensions(&mut self) -> Result<(), Stop> {
        let mut text = Vec::new();
        while self.peek()? != b'\r' {
            let byte = self.next()?;
            let is_begun = text.contains(&b';');
            if !is_text(byte) || !(is_begun || b" \t;".contains(&byte)) {
                return Err(MALFORMED);
            }
            text.push(byte);
            self.extensions += 1;
            if self.extensions > EXTENSION_BYTES_MAX {
                return Err(Stop::Failed(RequestError::ChunkExtensions));
            }
        }
        if !text.is_empty() && !text.contains(&b';') {
            self.at += 1;
            return Err(MALFORMED);
        }
        Ok(())
    }

    fn trailers(&mut self) -> Result<(), Stop> {
        while self.peek()? != b'\r' {
            if self.peek()? == b':' {
                return Err(MALFORMED);
            }
            while self.trailer_byte(|byte| byte == b':' || is_token(byte))? != b':' {}
            while self.trailer_byte(|byte| byte == b'\r' || is_text(byte))? != b'\r' {}
            self.trailer_byte(|byte| byte == b'\n')?;
        }
        self.literal(b"\r\n")
    }

    fn trailer_byte(&mut self, is_right: impl Fn(u8) -> bool) -> Result<u8, Stop> {
        let byte = self.next()?;
        if !is_right(byte) {
            return Err(MALFORMED);
        }
        self.trailers += 1;
        if self.trailers > TRAILER_BYTES_MAX {
            return Err(Stop::Failed(RequestError::TrailersTooLong));
        }
        Ok(byte)
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}
