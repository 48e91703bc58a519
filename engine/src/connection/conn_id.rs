//! What names a connection, in callbacks and for other threads.

use std::fmt;
use std::str::FromStr;

use crate::driver::Key;

/// Identifies a connection, also for other threads ([`Handle`](crate::Handle)). No later connection
/// gets the same id, and no connection of another server in this process has it. After the
/// connection has ended, its id matches nothing.
///
/// `Display` writes it as four numbers with hyphens between them; `parse` reads that text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub(crate) server: u32,
    pub(crate) shard: u16,
    pub(crate) key: Key,
}

impl ConnId {
    /// The number of the shard that has the connection, from 0.
    #[must_use]
    pub fn shard(self) -> usize {
        usize::from(self.shard)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, shard, key } = self;
        write!(f, "{server}-{shard}-{}-{}", key.slot, key.generation)
    }
}

impl FromStr for ConnId {
    type Err = InvalidConnId;

    /// Reads the text that `Display` writes.
    ///
    /// # Errors
    ///
    /// [`InvalidConnId`] for any other text.
    fn from_str(text: &str) -> Result<Self, InvalidConnId> {
        fn number<T: FromStr>(part: Option<&str>) -> Result<T, InvalidConnId> {
            let is_plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
            part.filter(is_plain).and_then(|text| text.parse().ok()).ok_or(InvalidConnId)
        }
        let mut parts = text.split('-');
        let (server, shard) = (number(parts.next())?, number(parts.next())?);
        let key = Key { slot: number(parts.next())?, generation: number(parts.next())? };
        let id = Self { server, shard, key };
        // A number has one spelling, so an id has, too.
        if parts.next().is_none() && id.to_string() == text { Ok(id) } else { Err(InvalidConnId) }
    }
}

/// The text is not a [`ConnId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidConnId;

impl fmt::Display for InvalidConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection's id is four numbers with hyphens between")
    }
}

impl std::error::Error for InvalidConnId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_text() {
        for number in [0, 1, 77, u32::MAX] {
            let key = Key { slot: number, generation: number };
            let id = ConnId { server: number, shard: number as u16, key };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", "1-2-3", "1-2-3-4-5", "1-65536-3-4", "+1-2-3-4", "01-2-3-4", "1-2-3-4 "] {
            assert_eq!(text.parse::<ConnId>(), Err(InvalidConnId), "{text}");
        }
    }
}
