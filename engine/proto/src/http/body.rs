//! The body of a request, collected while its bytes come in (RFC 9112 §6.2, §7.1).
//!
//! Never stores a byte that it has not charged against the limit, and never reads one behind the
//! body: that is the next request.

use alloc::vec::Vec;

use super::{BodyFraming, RequestError, is_field_value, is_token};

/// Most bytes of chunk extensions in one body, white space included (RFC 9112 §7.1.1). Nobody
/// sends them but in attacks; a proxy that signs its chunks needs some 90 bytes for each.
pub const EXTENSION_BYTES_MAX: usize = 16_384;

/// Most bytes of trailer fields in one body, with their line ends but the last (RFC 9112 §7.1.2).
/// A trailer carries a checksum or a signature, where a head has room for 16 KiB.
pub const TRAILER_BYTES_MAX: usize = 8192;

/// Digits of a chunk size at most, leading zeros included: those of a `u64`.
const SIZE_DIGITS_MAX: u8 = 16;

/// Reads one body, going on where the last call stopped.
///
/// Trailer fields are checked and dropped, chunk extensions are dropped (RFC 9112 §7.1.1, §7.1.2).
///
/// ```
/// use ringwire_proto::{BodyFraming, BodyProgress, BodyReader};
///
/// let mut reader = BodyReader::new(BodyFraming::Chunked, 1024)?;
/// let mut body = Vec::new();
/// assert_eq!(reader.read(b"4\r\nro", &mut body)?, BodyProgress::More);
/// let input = b"om\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
/// assert_eq!(reader.read(input, &mut body)?, BodyProgress::Whole { consumed_bytes: 9 });
/// assert_eq!(body, b"room");
/// # Ok::<(), ringwire_proto::RequestError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BodyReader {
    at: At,
    /// What the body may still grow by.
    body_bytes_left: usize,
    extension_bytes_left: u16,
    trailer_bytes_left: u16,
}

const _: () = assert!(EXTENSION_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(TRAILER_BYTES_MAX <= u16::MAX as usize);
// One in every connection whose request is not whole.
const _: () = assert!(size_of::<BodyReader>() <= 32);

/// How far a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it says where the next request begins"]
pub enum BodyProgress {
    /// All of the input belongs to the body, and the body goes on.
    More,
    /// The body is whole. The next request begins behind this many bytes of the input.
    Whole {
        /// Bytes of the input that belong to the body. 0 ≤ here ≤ length of the input.
        consumed_bytes: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a body of known length; at least one byte of it is to come.
    Length {
        left_bytes: usize,
    },
    /// In the digits of a chunk size, or in front of them.
    Size {
        size_bytes: usize,
        digits: u8,
    },
    /// In white space behind a chunk size, which only an extension excuses.
    SizeSpace {
        size_bytes: usize,
    },
    /// In chunk extensions.
    Extension {
        size_bytes: usize,
    },
    /// Behind the CR of a chunk's first line.
    SizeCr {
        size_bytes: usize,
    },
    /// In the data of a chunk; at least one byte of it is to come.
    Data {
        left_bytes: usize,
    },
    /// Behind the data of a chunk.
    DataEnd,
    /// Behind the CR that ends the data of a chunk.
    DataCr,
    /// Where a trailer field may begin, or the CR of the end.
    TrailerStart,
    /// In the name of a trailer field.
    TrailerName,
    /// In the value of a trailer field.
    TrailerValue,
    /// Behind the CR of a trailer field.
    TrailerCr,
    /// Behind the CR of the empty line.
    EndCr,
    /// The body is whole.
    Whole,
    Failed(RequestError),
}

/// In front of a chunk.
const SIZE_START: At = At::Size { size_bytes: 0, digits: 0 };

impl BodyReader {
    /// The reader of a body of which nothing has come, with room for `body_bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// The length that is announced is beyond the limit: 413, before any of it has come.
    pub fn new(framing: BodyFraming, body_bytes_max: usize) -> Result<Self, RequestError> {
        let at = match framing {
            BodyFraming::None | BodyFraming::Length(0) => At::Whole,
            BodyFraming::Length(length) => match usize::try_from(length) {
                Ok(left_bytes) if left_bytes <= body_bytes_max => At::Length { left_bytes },
                _ => return Err(RequestError::BodyTooLong),
            },
            BodyFraming::Chunked => SIZE_START,
        };
        Ok(Self {
            at,
            body_bytes_left: body_bytes_max,
            extension_bytes_left: EXTENSION_BYTES_MAX as u16,
            trailer_bytes_left: TRAILER_BYTES_MAX as u16,
        })
    }

    /// Takes the next input, which begins where the last one ended, and appends what it holds of
    /// the body to `body`. Room is made for bytes that have come, not for those announced.
    ///
    /// When the body is whole, further calls consume nothing.
    ///
    /// # Errors
    ///
    /// At the byte: chunks that are malformed (400), a chunk beyond the limit of the body (413, at
    /// its size), extensions beyond [`EXTENSION_BYTES_MAX`] (400) or trailer fields beyond
    /// [`TRAILER_BYTES_MAX`] (431). Further calls say the same. Where the request ends is unknown
    /// then, so the connection has to.
    pub fn read(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<BodyProgress, RequestError> {
        let mut next = 0;
        loop {
            match self.at {
                At::Whole => return Ok(BodyProgress::Whole { consumed_bytes: next }),
                At::Failed(error) => return Err(error),
                _ if next == input.len() => return Ok(BodyProgress::More),
                At::Length { left_bytes } | At::Data { left_bytes } => {
                    let data_bytes = left_bytes.min(input.len() - next);
                    self.store(&input[next..next + data_bytes], body);
                    next += data_bytes;
                }
                _ => {
                    self.at = self.step(input[next]).unwrap_or_else(At::Failed);
                    next += 1;
                }
            }
        }
    }

    /// Stores data of which there is at least as much to come.
    fn store(&mut self, data: &[u8], body: &mut Vec<u8>) {
        self.body_bytes_left -= data.len();
        body.extend_from_slice(data);
        self.at = match self.at {
            At::Length { left_bytes } if left_bytes > data.len() => {
                At::Length { left_bytes: left_bytes - data.len() }
            }
            At::Data { left_bytes } if left_bytes > data.len() => {
                At::Data { left_bytes: left_bytes - data.len() }
            }
            At::Data { .. } => At::DataEnd,
            _ => At::Whole,
        };
    }

    /// Where a byte leads that is not data.
    fn step(&mut self, byte: u8) -> Result<At, RequestError> {
        let next = match (self.at, byte) {
            (At::Size { size_bytes, digits }, _) if byte.is_ascii_hexdigit() => {
                self.take_digit(size_bytes, digits, byte)?
            }
            (At::Size { size_bytes, digits: 1.. } | At::Extension { size_bytes }, b'\r') => {
                At::SizeCr { size_bytes }
            }
            (At::Size { size_bytes, digits: 1.. } | At::SizeSpace { size_bytes }, b' ' | b'\t') => {
                At::SizeSpace { size_bytes }
            }
            (At::Size { size_bytes, digits: 1.. } | At::SizeSpace { size_bytes }, b';') => {
                At::Extension { size_bytes }
            }
            (At::Extension { .. }, _) if is_field_value(&[byte]) => self.at,
            (At::SizeCr { size_bytes: 0 }, b'\n') => At::TrailerStart,
            (At::SizeCr { size_bytes }, b'\n') => At::Data { left_bytes: size_bytes },
            (At::DataEnd, b'\r') => At::DataCr,
            (At::DataCr, b'\n') => SIZE_START,
            (At::TrailerStart, b'\r') => At::EndCr,
            (At::TrailerStart | At::TrailerName, _) if is_token(&[byte]) => At::TrailerName,
            (At::TrailerName, b':') => At::TrailerValue,
            (At::TrailerValue, b'\r') => At::TrailerCr,
            (At::TrailerValue, _) if is_field_value(&[byte]) => self.at,
            (At::TrailerCr, b'\n') => At::TrailerStart,
            (At::EndCr, b'\n') => At::Whole,
            _ => return Err(RequestError::Chunk),
        };
        self.charge_dropped(next)?;
        Ok(next)
    }

    /// The size of a chunk with one more digit. What the body has no room for is refused before the
    /// number can overflow.
    fn take_digit(&self, size_bytes: usize, digits: u8, digit: u8) -> Result<At, RequestError> {
        if digits == SIZE_DIGITS_MAX {
            return Err(RequestError::Chunk);
        }
        let value = char::from(digit).to_digit(16).ok_or(RequestError::Chunk)?;
        let size_bytes = size_bytes
            .checked_mul(16)
            .and_then(|size_bytes| size_bytes.checked_add(value as usize))
            .filter(|&size_bytes| size_bytes <= self.body_bytes_left)
            .ok_or(RequestError::BodyTooLong)?;
        Ok(At::Size { size_bytes, digits: digits + 1 })
    }

    /// Charges the byte that leads from here to `next`, if it is of the kind that is dropped.
    fn charge_dropped(&mut self, next: At) -> Result<(), RequestError> {
        let (left, error) = match (self.at, next) {
            (_, At::SizeSpace { .. } | At::Extension { .. }) => {
                (&mut self.extension_bytes_left, RequestError::ChunkExtensions)
            }
            (_, At::TrailerName | At::TrailerValue | At::TrailerCr)
            | (At::TrailerCr, At::TrailerStart) => {
                (&mut self.trailer_bytes_left, RequestError::TrailersTooLong)
            }
            _ => return Ok(()),
        };
        *left = left.checked_sub(1).ok_or(error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
