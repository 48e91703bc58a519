//! A figure, and what it must be.

use std::fmt;
use std::time::Duration;

/// Something measured.
pub(crate) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    /// At most this; nothing if it is told for information.
    most: Option<f64>,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, most: None }
    }

    /// Bytes, told in MiB.
    pub(crate) fn bytes(what: impl Into<String>, bytes: u64) -> Self {
        Self::new(what, bytes as f64 / f64::from(1 << 20), "MiB")
    }

    /// A time, told in milliseconds.
    pub(crate) fn time(what: impl Into<String>, time: Duration) -> Self {
        Self::new(what, time.as_secs_f64() * 1e3, "ms")
    }

    /// It must be at most `most`, in its own unit.
    pub(crate) fn at_most(self, most: f64) -> Self {
        Self { most: Some(most), ..self }
    }

    pub(crate) fn is_met(&self) -> bool {
        self.most.is_none_or(|most| self.value <= most)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, unit, most } = self;
        write!(f, "{what}: {value:.2} {unit}")?;
        match most {
            Some(most) if self.is_met() => write!(f, " (must be at most {most:.0}: met)"),
            Some(most) => write!(f, " (must be at most {most:.0}: NOT MET)"),
            None => Ok(()),
        }
    }
}

/// The middle one of several figures.
pub(crate) fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).expect("figures are numbers"));
    values[values.len() / 2]
}
