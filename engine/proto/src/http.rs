//! As much of HTTP/1.1 as stands before a WebSocket: one request head, one response.
//!
//! Never reads a body, never keeps a connection for a second request: what is refused here is
//! closed, so that nothing behind it can be taken for something else.

mod error;
mod fields;
mod head;
mod origin;
mod request;
pub(crate) mod response;

pub use error::{InvalidHeader, RequestError};
pub use fields::Fields;
pub use head::{HEADERS_MAX, HeadLimits, HeadScan};
pub use origin::is_same_origin;
pub use request::{Method, Request};
pub use response::Response;

pub(crate) use fields::{is_field_value, is_token, list};
