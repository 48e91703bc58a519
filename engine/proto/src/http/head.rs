//! The end of a head, found while its bytes come in.
//!
//! Never reads a byte twice, however the input is cut, and never reads past the limit.

use memchr::memchr3;

use super::RequestError;

/// Most header fields that can be asked for in [`HeadLimits::headers_max`].
pub const HEADERS_MAX: usize = 128;

/// What the head of a request may measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest head in bytes, from the method to the empty line. Default: 16384.
    pub head_bytes_max: usize,
    /// Most header fields, at most [`HEADERS_MAX`]. Default: 100.
    pub headers_max: usize,
    /// Longest request target in bytes. Default: 8192.
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        // nginx lets through four buffers of 8 KiB, with a request line or a field of up to 8 KiB in
        // each: here two such lines fit, say a Cookie and an Authorization. Apache's limits are 8190
        // bytes a line and 100 fields. RFC 9112 §3 wants request lines of 8000 bytes to be possible.
        Self { head_bytes_max: 16_384, headers_max: 100, target_bytes_max: 8192 }
    }
}

/// Looks for the end of a head, going on where the last call stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes looked at. 0 ≤ here ≤ `head_bytes_max`.
    scanned_bytes: u32,
    at: At,
    /// Whether the request line has ended.
    past_first_line: bool,
}

// One in every connection whose handshake is not done.
const _: () = assert!(size_of::<HeadScan>() <= 8);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The very first byte.
    #[default]
    Start,
    /// Inside a line.
    Line,
    /// Behind the CR of a line.
    LineCr,
    /// At the start of a line that is not the first.
    LineStart,
    /// Behind the CR of an empty line.
    EmptyCr,
}

impl HeadScan {
    /// The scan of a head of which nothing has come.
    pub const fn new() -> Self {
        Self { scanned_bytes: 0, at: At::Start, past_first_line: false }
    }

    /// The length of the head in bytes, once its end has come.
    ///
    /// `head_so_far` is everything from the first byte on, so it begins with what it was in the
    /// last call. What follows the head is not looked at.
    ///
    /// # Errors
    ///
    /// A CR or LF that does not stand in a CRLF, a NUL, an empty first line: at the byte. A head
    /// beyond its limit: 414 if it is still in the request line, else 431.
    pub fn scan(
        &mut self,
        head_so_far: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, RequestError> {
        let end = head_so_far.len().min(limits.head_bytes_max);
        let start = (self.scanned_bytes as usize).min(end);
        let mut next = start;
        while next < end {
            if self.at == At::Line {
                // Whatever else stands within a line is for the parser.
                let rest = &head_so_far[next..end];
                next += memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
            }
            let Some(&byte) = head_so_far[..end].get(next) else { break };
            next += 1;
            self.at = match (self.at, byte) {
                (At::EmptyCr, b'\n') => return Ok(Some(next)),
                (At::LineCr, b'\n') => {
                    self.past_first_line = true;
                    At::LineStart
                }
                (At::Line, b'\r') => At::LineCr,
                (At::LineStart, b'\r') => At::EmptyCr,
                (At::LineCr | At::EmptyCr, _) | (_, b'\r' | b'\n' | 0) => {
                    return Err(RequestError::Malformed);
                }
                (At::Start | At::Line | At::LineStart, _) => At::Line,
            };
        }
        if end == limits.head_bytes_max {
            return Err(match self.past_first_line {
                true => RequestError::HeadTooLong,
                false => RequestError::TargetTooLong,
            });
        }
        self.scanned_bytes = end as u32;
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
