//! Where the accept of a listener stands.

/// Where the accept of one listener stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    Armed,
    /// Cancelled because there is no room; its last completion is awaited.
    Pausing,
    /// It ended; to be armed again then.
    PausedUntil(u64),
    /// To be armed again when a connection has ended.
    Held,
    /// Cancelled because the server stops; its last completion is awaited.
    Ending,
    Over,
}
