//! A bar on the terminal while a long run lasts. It knows the time and nothing else, and is
//! not seen where standard error is not a terminal.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that moves by itself.
#[derive(Debug)]
pub struct Progress {
    ends: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Shorter runs are over before one wonders.
const SECONDS_MIN: f64 = 3.0;

/// Seldom enough not to be noticed by what is measured.
const STEP: Duration = Duration::from_millis(200);

impl Progress {
    /// Starts a bar for a run of `seconds`, if it is a long one.
    #[must_use]
    pub fn start(seconds: f64) -> Self {
        let bar = ProgressBar::new((seconds * 1e3) as u64);
        if seconds <= SECONDS_MIN || bar.is_hidden() {
            return Self { ends: None };
        }
        let style = ProgressStyle::with_template("{wide_bar} {elapsed} of {msg} s");
        bar.set_style(style.expect("the template is right"));
        bar.set_message(seconds.to_string());
        let (end, ended) = channel();
        let moving = std::thread::spawn(move || {
            let start = Instant::now();
            while ended.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(start.elapsed().as_millis() as u64);
            }
            bar.finish_and_clear();
        });
        Self { ends: Some((end, moving)) }
    }

    /// Takes the bar away.
    pub fn end(self) {
        if let Some((end, moving)) = self.ends {
            drop(end);
            let _ = moving.join();
        }
    }
}
