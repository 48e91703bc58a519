//! How a connection is to be ended.

use ringwire_proto::CloseCode;

/// How a connection is to be ended when no callback runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Fail(CloseCode, &'static str),
    CutOff,
}
