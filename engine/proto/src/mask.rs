//! Masking (RFC 6455 §5.3): the exclusive-or that a client's payloads go through.
//!
//! Never makes a key: keys are the caller's, from a source an attacker cannot predict.

/// Masks or unmasks `payload` in place; the two are the same operation.
///
/// `key` belongs to the first byte of `payload`. To go on with a payload that came in pieces, turn
/// the key with [`rotate`] first.
#[inline]
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    if payload.len() < LONG_BYTES_MIN { xor(payload, key) } else { unmask_long(payload, key) }
}

/// The key as it applies after `bytes` bytes of a payload.
#[inline]
pub const fn rotate(key: [u8; 4], bytes: usize) -> [u8; 4] {
    let bits = (bytes % 4) as u32 * 8;
    u32::from_be_bytes(key).rotate_left(bits).to_be_bytes()
}

/// From here on the preparations of [`unmask_long`], some 3 ns, are less than what they save.
const LONG_BYTES_MIN: usize = 512;

/// A cache line, which no store should straddle: payloads begin 6, 8 or 14 bytes behind wherever
/// their frame begins, and unaligned stores take twice as long while the payload is in the cache.
const LINE_BYTES: usize = 64;

#[inline(never)]
fn unmask_long(payload: &mut [u8], key: [u8; 4]) {
    let front_bytes = payload.as_ptr().align_offset(LINE_BYTES).min(payload.len());
    let (front, lines) = payload.split_at_mut(front_bytes);
    xor(front, key);
    xor_widest(lines, rotate(key, front_bytes));
}

/// [`xor`] with the widest vectors of the processor it runs on, not only of all those it could run
/// on: more than twice as fast between 4 and 16 KiB.
#[cfg(feature = "std")]
fn xor_widest(payload: &mut [u8], key: [u8; 4]) {
    fearless_simd::dispatch!(fearless_simd::Level::new(), _simd => xor(payload, key));
}

#[cfg(not(feature = "std"))]
fn xor_widest(payload: &mut [u8], key: [u8; 4]) {
    xor(payload, key);
}

// Always inlined, to be compiled anew for each width of vectors.
#[inline(always)]
fn xor(payload: &mut [u8], key: [u8; 4]) {
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

    fn assert_agrees(start: usize, length: usize, key: [u8; 4]) {
        let bytes: Vec<u8> = (0..start + length).map(|n| n as u8).collect();
        let (mut fast, mut slow) = (bytes.clone(), bytes);
        unmask(&mut fast[start..], key);
        naive::unmask(&mut slow[start..], key);
        assert_eq!(fast, slow, "start {start}, length {length}");
    }

    #[test]
    fn every_length_and_alignment_agrees_with_the_naive_twin() {
        for key in [[0, 0, 0, 0], [1, 2, 3, 4], [0xff, 0, 0x80, 0x7f]] {
            for start in 0..8 {
                for length in 0..=136 {
                    assert_agrees(start, length, key);
                }
            }
        }
    }

    #[test]
    fn long_payloads_agree_with_the_naive_twin_wherever_they_begin_and_end() {
        let key = [1, 2, 3, 4];
        for start in 0..=LINE_BYTES {
            for length in [511, 512, 513, 575, 576, 639, 1_000, 4_099] {
                assert_agrees(start, length, key);
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
