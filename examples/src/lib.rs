//! What every example shares: its command line ([`Options`]) and its life as a process
//! ([`serve`]). The examples themselves stand beside this folder, one idea each.
//!
//! Nothing here knows what a message means.

mod options;
mod origins;
mod serve;

pub use options::{Options, parse};
pub use origins::AllowedOrigin;
pub use serve::{serve, serve_then};
