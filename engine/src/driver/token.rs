//! What an operation of a ring carries as its `user_data`: what it is, and for whom.

use super::Key;

/// Slots a token can name: 28 bits.
pub const SLOTS_MAX: usize = 1 << 28;

/// What an operation is, in the low four bits of its `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Cancel = 4,
    Close = 5,
    Wake = 6,
    /// A message to the ring of another shard, which takes the place of the slot.
    Rouse = 7,
    /// A receive into a buffer of its own.
    Fill = 8,
}

/// `user_data` of every operation: operation (4 bits), slot (28), generation (32).
/// Never a pointer, so a completion can at worst be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) operation: Operation,
    pub(crate) key: Key,
}

impl Token {
    pub(crate) const fn new(operation: Operation, key: Key) -> Self {
        Self { operation, key }
    }

    /// For operations that belong to the shard and not to a slot.
    pub(crate) const fn of_shard(operation: Operation) -> Self {
        Self::new(operation, Key { slot: 0, generation: 0 })
    }

    /// Of a listener, whose index stands in the place of the slot.
    pub(crate) const fn of_listener(index: usize) -> Self {
        Self::new(Operation::Accept, Key { slot: index as u32, generation: 0 })
    }

    pub(crate) const fn encode(self) -> u64 {
        assert!((self.key.slot as usize) < SLOTS_MAX);
        ((self.key.generation as u64) << 32) | ((self.key.slot as u64) << 4) | self.operation as u64
    }

    /// # Panics
    ///
    /// If the kernel returns a `user_data` that was never given to it.
    pub(crate) fn decode(user_data: u64) -> Self {
        let operation = match user_data & 0xF {
            1 => Operation::Accept,
            2 => Operation::Receive,
            3 => Operation::Send,
            4 => Operation::Cancel,
            5 => Operation::Close,
            6 => Operation::Wake,
            7 => Operation::Rouse,
            8 => Operation::Fill,
            _ => panic!("the kernel completed an operation this ring never queued: {user_data:#x}"),
        };
        let slot = (user_data >> 4) as u32 & (SLOTS_MAX as u32 - 1);
        let generation = (user_data >> 32) as u32;
        Self { operation, key: Key { slot, generation } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        let operations = [
            Operation::Accept,
            Operation::Receive,
            Operation::Send,
            Operation::Cancel,
            Operation::Close,
            Operation::Wake,
            Operation::Rouse,
            Operation::Fill,
        ];
        for operation in operations {
            for slot in [0, 1, 77, SLOTS_MAX as u32 - 1] {
                for generation in [0, 1, u32::MAX] {
                    let token = Token::new(operation, Key { slot, generation });
                    assert_eq!(Token::decode(token.encode()), token);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "never queued")]
    fn an_unknown_user_data_is_a_broken_assumption() {
        Token::decode(0);
    }
}
