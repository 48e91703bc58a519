//! As much of HTTP/1.1 (and 1.0, for health checks) as stands before a WebSocket: one request head, one response.
//!
//! Never reads a body, never keeps a connection for a second request: what is refused here is
//! closed, so that nothing behind it can be taken for something else.

mod authority;
mod error;
mod fields;
mod head;
mod origin;
mod request;
pub(crate) mod response;
mod target;

pub use error::{InvalidHeader, RequestError};
pub use fields::Fields;
pub use head::{HEADERS_MAX, HeadLimits, HeadScan};
pub use origin::{is_origin_of_host, is_same_origin, is_serialised_origin};
pub use request::{Method, Request, is_head_request};
pub use response::Response;

pub(crate) use fields::{is_field_value, is_token, list};
