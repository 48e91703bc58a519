//! The engine without a kernel: shards, sockets and clients in memory, a virtual clock, and
//! every fault the kernel can produce, all drawn from one seed. The kernel shows the order of events
//! of either driver.
//!
//! The shards are the ones that serve; only the driver differs. A run is a world of one to three
//! shards and up to a dozen clients, some of which are hostile or slow, and a handler that uses
//! everything a callback may use: tickets, commands, timers, and other connections. After every step the rules
//! of `docs/architecture.md` ("Invariants") are checked, and for each connection that a deadline
//! has ended, that its client had left something undone and that nothing it had sent was unread.
//! At the end all clients leave, and everything must be back where it began. A broken rule panics
//! with its seed. Nothing here sleeps, opens a socket, or depends on anything but the seed.

/// Tells the story of a run on standard error, where `RINGWIRE_SIM_TRACE` is set.
macro_rules! trace {
    ($($words:tt)*) => {
        if std::env::var_os("RINGWIRE_SIM_TRACE").is_some() {
            eprintln!($($words)*);
        }
    };
}

mod client;
mod dice;
mod driver;
mod habits;
mod kernel;
mod label;
mod model;
mod wire;
mod world;

pub use dice::Dice;
pub use world::Outcome;

use world::World;

use crate::driver::Driver;

/// A driver that can say what is in flight on a socket: a receive, a send.
pub(crate) trait Outstanding: Driver {
    fn outstanding(&self, socket: &Self::Socket) -> (bool, bool);

    /// When the oldest completion was over that waits to be handed out.
    fn waiting_since_ms(&self) -> Option<u64>;

    /// How many completions the last tick has handed out, and how many sockets the shard has shut
    /// down in it.
    fn handed_out(&self) -> usize;
    fn shut_downs(&self) -> usize;

    /// At how many deadlines the shard has asked, in its last tick, what is unread.
    fn looks(&self) -> usize;

    /// Receive buffers the shard has.
    fn leases(&self) -> usize;
}

/// Runs the world of `seed` to its end.
///
/// # Panics
///
/// If a rule is broken.
#[must_use]
pub fn run_seed(seed: u64) -> Outcome {
    World::new(Dice::from_seed(seed)).run()
}

/// Runs a world whose every choice is read from `input`, for a fuzzer; when it is used up the
/// choices are the mildest.
///
/// # Panics
///
/// If a rule is broken.
pub fn run_input(input: &[u8]) -> Outcome {
    World::new(Dice::from_input(input)).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_list_of_seeds_keeps_every_rule() {
        const SEEDS: u64 = 1_000;
        let mut sum = Outcome::default();
        for seed in 0..SEEDS {
            let outcome = std::panic::catch_unwind(|| run_seed(seed)).unwrap_or_else(|_| {
                panic!("replay: cargo run --release --bin ringwire-sim -- --seeds 1 --from {seed}")
            });
            sum.add(&outcome);
        }
        // A simulator that does nothing would keep every rule too.
        assert!(sum.opens > SEEDS && sum.delivered > 5 * SEEDS, "{sum:?}");
        assert!(sum.answered > 3 * SEEDS && sum.obeyed > SEEDS, "{sum:?}");
        assert!(sum.fired > SEEDS && sum.faults > 10 * SEEDS, "{sum:?}");
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        for seed in 0..20 {
            assert_eq!(run_seed(seed), run_seed(seed));
        }
    }

    #[test]
    fn any_input_is_a_run() {
        let input: Vec<u8> = (0..2_000u32).map(|i| ((i * 7_919) >> 3) as u8).collect();
        for length in [0, 1, 10, 500, 2_000] {
            run_input(&input[..length]);
        }
    }
}
