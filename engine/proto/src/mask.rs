//! Masking (RFC 6455 §5.3): the exclusive-or that a client's payloads go through.
//!
//! Never makes a key: keys are the caller's, from a source an attacker cannot predict.

/// Masks or unmasks `payload` in place; the two are the same operation.
///
/// `key` belongs to the first byte of `payload`. To go on with a payload that came in pieces, turn
/// the key with [`rotate`] first.
#[inline]
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let key = u64::from(u32::from_ne_bytes(key));
    let key_twice = key << 32 | key;
    // The compiler turns this loop into the widest vectors the target has.
    let (chunks, tail) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ key_twice).to_ne_bytes();
    }
    for (byte, key_byte) in tail.iter_mut().zip(key_twice.to_ne_bytes()) {
        *byte ^= key_byte;
    }
}

/// The key as it applies after `bytes` bytes of a payload.
#[inline]
pub const fn rotate(key: [u8; 4], bytes: usize) -> [u8; 4] {
    let bits = (bytes % 4) as u32 * 8;
    u32::from_be_bytes(key).rotate_left(bits).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::fuzz::naive;

    #[test]
    fn the_rfc_sample_unmasks_to_hello() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn every_length_and_alignment_agrees_with_the_naive_twin() {
        for key in [[0, 0, 0, 0], [1, 2, 3, 4], [0xff, 0, 0x80, 0x7f]] {
            for start in 0..8 {
                for length in 0..=136 {
                    let bytes: Vec<u8> = (0..start + length).map(|n| n as u8).collect();
                    let (mut fast, mut slow) = (bytes.clone(), bytes);
                    unmask(&mut fast[start..], key);
                    naive::unmask(&mut slow[start..], key);
                    assert_eq!(fast, slow, "start {start}, length {length}");
                }
            }
        }
    }

    #[test]
    fn a_payload_in_two_pieces_is_unmasked_with_a_turned_key() {
        let key = [9, 8, 7, 6];
        for cut in 0..=20 {
            let mut whole: Vec<u8> = (0..20).collect();
            let mut pieces = whole.clone();
            unmask(&mut whole, key);
            unmask(&mut pieces[..cut], key);
            unmask(&mut pieces[cut..], rotate(key, cut));
            assert_eq!(whole, pieces, "cut at {cut}");
        }
    }
}
