//! UTF-8 that arrives in pieces: has it failed already, and how much of it is settled?
//!
//! Never decides that a text is complete: that is known where a message ends.

use crate::error::ProtocolError;

/// Number of bytes at the start of `bytes` that are settled as valid; what follows, at most three
/// bytes, is the start of a character that may still become valid.
///
/// # Errors
///
/// [`ProtocolError::InvalidUtf8`] as soon as nothing that may follow could make it valid.
pub(crate) fn settled_bytes(bytes: &[u8]) -> Result<usize, ProtocolError> {
    match simdutf8::compat::from_utf8(bytes) {
        Ok(_) => Ok(bytes.len()),
        // Without a length of its own the error is the end of the input, inside a character whose
        // bytes so far all were in range.
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(ProtocolError::InvalidUtf8),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fuzz::naive;

    /// Valid texts, among them non-characters, a byte order mark and NUL (Autobahn 6.5 to 6.22).
    pub(crate) const VALID: &[&str] = &[
        "",
        "\0",
        "κόσμε",
        "Hello-µ@ßöäüàá-UTF-8!!",
        "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}",
        "\u{d7ff}\u{e000}\u{fffd}\u{fffe}\u{feff}",
        "\u{1fffe}\u{1ffff}\u{10fffe}",
    ];

    /// Each with the number of bytes after which it can no longer become valid.
    pub(crate) const INVALID: &[(&[u8], usize)] = &[
        (b"\x80", 1),
        (b"\xbf", 1),
        (b"\xc0\xaf", 1),
        (b"\xc1\xbf", 1),
        (b"\xc2\x41", 2),
        (b"\xe0\x80\xaf", 2),
        (b"\xe0\x9f\xbf", 2),
        (b"\xed\xa0\x80", 2),
        (b"\xed\xbf\xbf", 2),
        (b"\xe1\x80\xc0", 3),
        (b"\xf0\x80\x80\xaf", 2),
        (b"\xf0\x8f\xbf\xbf", 2),
        (b"\xf4\x90\x80\x80", 2),
        (b"\xf4\x80\x80\x7f", 4),
        (b"\xf5\x80\x80\x80", 1),
        (b"\xf8\x88\x80\x80\x80", 1),
        (b"\xfc\x84\x80\x80\x80\x80", 1),
        (b"\xfe", 1),
        (b"\xff", 1),
        (b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80", 7),
    ];

    #[test]
    fn every_prefix_of_a_valid_text_may_still_become_valid() {
        for text in VALID {
            for end in 0..=text.len() {
                let settled = settled_bytes(&text.as_bytes()[..end]).unwrap();
                let boundary = (0..=end).rev().find(|&at| text.is_char_boundary(at));
                assert_eq!(Some(settled), boundary, "{text:?} to {end}");
            }
        }
    }

    #[test]
    fn an_invalid_text_fails_at_the_first_byte_that_makes_it_so() {
        for &(bytes, fails_at) in INVALID {
            for end in 0..=bytes.len() {
                let failed = settled_bytes(&bytes[..end]).is_err();
                assert_eq!(failed, end >= fails_at, "{bytes:x?} to {end}");
            }
        }
    }

    #[test]
    fn every_start_of_a_character_agrees_with_the_naive_twin() {
        for first in 0..=u8::MAX {
            assert_eq!(settled_bytes(&[first]).is_ok(), naive::utf8_is_possible(&[first]));
            for second in 0..=u8::MAX {
                let pair = [first, second];
                assert_eq!(settled_bytes(&pair).is_ok(), naive::utf8_is_possible(&pair));
                for third in [0x00, 0x7f, 0x80, 0x8f, 0x90, 0xbf, 0xc0, 0xff] {
                    let three = [first, second, third];
                    let four = [first, second, third, 0x80];
                    assert_eq!(settled_bytes(&three).is_ok(), naive::utf8_is_possible(&three));
                    assert_eq!(settled_bytes(&four).is_ok(), naive::utf8_is_possible(&four));
                }
            }
        }
    }
}
