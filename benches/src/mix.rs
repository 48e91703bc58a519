//! Which sizes of messages a load consists of, and in which order. The order is the same in
//! every run, so that what must come back is known beforehand.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Sizes of payloads with their weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    payload_bytes: usize,
    weight: usize,
}

/// The weights of a mix, without their common divisor, add up to at most this: the messages
/// of one period lie in memory.
const MESSAGES_MAX: usize = 1_000;

/// One large message is 16 MiB at most, for the same reason.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Any number does; this one has always been used.
const SEED: u64 = 6455;

impl Mix {
    /// Messages of one size.
    #[must_use]
    pub fn uniform(payload_bytes: usize) -> Self {
        Self { parts: vec![Part { payload_bytes, weight: 1 }] }
    }

    /// The sizes of the messages of one period, shuffled.
    #[must_use]
    pub fn sizes(&self) -> Vec<usize> {
        let repeat = |part: &Part| std::iter::repeat_n(part.payload_bytes, part.weight);
        let mut sizes: Vec<usize> = self.parts.iter().flat_map(repeat).collect();
        fastrand::Rng::with_seed(SEED).shuffle(&mut sizes);
        sizes
    }

    /// The mean size of a payload.
    #[must_use]
    pub fn mean_bytes(&self) -> f64 {
        let sizes = self.sizes();
        sizes.iter().sum::<usize>() as f64 / sizes.len() as f64
    }
}

impl FromStr for Mix {
    type Err = String;

    /// Reads `BYTES:WEIGHT,…`; a size without a weight has weight 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = text.split(',').map(parse_part).collect::<Result<_, _>>()?;
        let divisor = parts.iter().fold(0, |divisor, part| gcd(divisor, part.weight));
        parts.iter_mut().for_each(|part| part.weight /= divisor);
        let messages: usize = parts.iter().map(|part| part.weight).sum();
        if messages > MESSAGES_MAX {
            return Err(format!("the weights add up to {messages}, more than {MESSAGES_MAX}"));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [part] = self.parts[..] {
            return write!(f, "{} B", part.payload_bytes);
        }
        for (index, part) in self.parts.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} B : {}", part.payload_bytes, part.weight)?;
        }
        Ok(())
    }
}

fn parse_part(text: &str) -> Result<Part, String> {
    let (bytes, weight) = text.split_once(':').unwrap_or((text, "1"));
    let number = |text: &str| text.trim().parse().map_err(|error| format!("{text:?}: {error}"));
    let part = Part { payload_bytes: number(bytes)?, weight: number(weight)? };
    if !(1..=MESSAGES_MAX * MESSAGES_MAX).contains(&part.weight) {
        return Err(format!("{text:?}: the weight is from 1 to a million"));
    }
    if part.payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(format!("{text:?}: more than {PAYLOAD_BYTES_MAX} bytes"));
    }
    Ok(part)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(text: &str) -> Mix {
        text.parse().unwrap()
    }

    #[test]
    fn a_period_has_each_size_as_often_as_it_weighs() {
        let mut sizes = mix("64:80,1024:15,16384:5").sizes();
        sizes.sort_unstable();
        // 80 : 15 : 5 is 16 : 3 : 1.
        assert_eq!(sizes, [vec![64; 16], vec![1024; 3], vec![16384]].concat());
    }

    #[test]
    fn the_order_is_shuffled_and_always_the_same() {
        let sizes = mix("1:50,2:49").sizes();
        assert_eq!(sizes, mix("1:50,2:49").sizes());
        assert!(!sizes.is_sorted());
    }

    #[test]
    fn a_size_alone_is_a_mix() {
        assert_eq!(mix("512"), Mix::uniform(512));
        assert_eq!(mix("512:7"), Mix::uniform(512));
        assert_eq!(mix("512").to_string(), "512 B");
        assert_eq!(mix("0:1, 10:3").mean_bytes(), 7.5);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["", "64:", ":3", "64:0", "64:-1", "a:1", "1:2:3", "1:1001,2:1000", "99999999"]
        {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }
}
