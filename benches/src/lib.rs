//! What the benchmark programs share: a load in processes of its own on the engine's ring
//! code, servers as child processes, and what is made of their figures. Nothing here is used
//! by the engine.

mod broadcast;
mod churn;
pub mod client;
pub mod comparison;
pub mod contender;
pub mod dialect;
pub mod document;
pub mod drivers;
mod echo;
pub mod fleet;
pub mod idle;
pub mod kernel_memory;
pub mod latency;
pub mod machine;
pub mod mix;
pub mod period;
pub mod pid;
pub mod plot;
pub mod process;
pub mod progress;
pub mod report;
pub mod results;
pub mod row;
pub mod soak;
mod sockets;
pub mod spread;
pub mod table;
pub mod work;
pub mod worker;
mod worker_driver;
