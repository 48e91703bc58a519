//! What a careless or hostile handler does: every method in every callback, panics, tickets,
//! commands and timers at the wrong moment. After each attack the engine's rules are checked, the
//! others are served on, and every open is matched by one close.

mod alone;
mod bench;
mod methods;
mod panics;
mod sequences;
mod tickets;
mod timers;

use bench::{At, Bench, CALLBACKS, Callback};
