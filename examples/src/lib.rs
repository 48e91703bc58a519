//! What every example shares: its command line ([`Options`]) and its life as a process
//! ([`serve`], or its parts where another server has the port). The examples themselves stand beside this folder, one idea each.
//!
//! Nothing here knows what a message means. Whether names and texts can be shown is judged here
//! ([`Words`]).

mod options;
mod origins;
mod serve;
mod words;

pub use options::{Options, parse};
pub use origins::AllowedOrigin;
pub use serve::{announce, on_signal, run_as_process, serve, serve_then};
pub use words::{NAME_CHARS_MAX, Name, Text, Words};
