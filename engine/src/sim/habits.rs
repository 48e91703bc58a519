//! What the clients and the application of a world do beside what they always do.

use super::dice::Dice;

/// Percentages, drawn once per run like the faults: each is 0 in about half of the runs.
#[derive(Clone, Copy, Default)]
pub(super) struct Habits {
    /// A client sends plain requests, perhaps in front of its handshake.
    pub(super) plain: usize,
    /// A handshake or a request is answered later.
    pub(super) tickets: usize,
    /// A callback reaches beyond its connection.
    pub(super) deeds: usize,
    /// Another thread uses its handle for something else than publishing.
    pub(super) errands: usize,
}

impl Habits {
    pub(super) fn draw(dice: &Dice) -> Self {
        let percent = |rates: &[usize]| if dice.chance(50) { *dice.pick(rates) } else { 0 };
        Self {
            plain: percent(&[30, 80]),
            tickets: percent(&[20, 70]),
            deeds: percent(&[5, 30, 70]),
            errands: percent(&[20, 60]),
        }
    }
}
