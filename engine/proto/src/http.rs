//! As much of HTTP/1.1 (and 1.0, for health checks) as stands beside a WebSocket: requests with
//! bodies up to a limit, one after the other, and their responses.
//!
//! Never goes on behind a request that is refused: the connection has to end, so that nothing
//! behind it can be taken for something else.

mod authority;
mod body;
mod cookies;
mod error;
mod fields;
mod framing;
mod head;
mod method;
mod origin;
mod request;
pub(crate) mod response;
mod target;

pub use body::{BodyProgress, BodyReader, EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};
pub use error::{InvalidHeader, RequestError};
pub use fields::Fields;
pub use framing::BodyFraming;
pub use head::{HEADERS_MAX, HeadLimits, HeadScan};
pub use method::Method;
pub use origin::{is_origin_of_host, is_same_origin, is_serialised_origin};
pub use request::{Request, is_head_request};
pub use response::{CONTINUE, Persistence, Response};

pub(crate) use fields::{is_field_value, is_token, list};
