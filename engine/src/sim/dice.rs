//! Where every choice of a run comes from: a seed, or a fuzzer's input.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A source of choices, shared by all parts of one world.
#[derive(Clone)]
pub struct Dice {
    source: Rc<RefCell<Source>>,
}

enum Source {
    Seed(fastrand::Rng),
    Input(VecDeque<u8>),
}

impl Dice {
    /// Choices that follow from `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { source: Rc::new(RefCell::new(Source::Seed(fastrand::Rng::with_seed(seed)))) }
    }

    /// Choices read from `input`, one or two bytes each; the smallest ones when it is used up.
    #[must_use]
    pub fn from_input(input: &[u8]) -> Self {
        let input = Source::Input(input.to_vec().into());
        Self { source: Rc::new(RefCell::new(input)) }
    }

    /// A number from 0 to `bound - 1`; 0 if `bound` is 0.
    pub(super) fn below(&self, bound: usize) -> usize {
        if bound <= 1 {
            return 0;
        }
        match &mut *self.source.borrow_mut() {
            Source::Seed(random) => random.usize(..bound),
            Source::Input(input) => {
                let mut number = usize::from(input.pop_front().unwrap_or(0));
                if bound > 256 {
                    number = number << 8 | usize::from(input.pop_front().unwrap_or(0));
                }
                number % bound
            }
        }
    }

    /// A number from `low` to `high`.
    pub(super) fn between(&self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True `percent` times out of a hundred.
    pub(super) fn chance(&self, percent: usize) -> bool {
        99 - self.below(100) < percent
    }

    pub(super) fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}
