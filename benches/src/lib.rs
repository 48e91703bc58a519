//! What the benchmark binaries share: servers as child processes, and clients on the same
//! ring code as the engine. Nothing here is used by the engine.

pub mod client;
pub mod load;
pub mod process;
pub mod soak;
