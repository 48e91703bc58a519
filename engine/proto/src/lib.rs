//! RFC 6455 without I/O: bytes in, messages out; messages in, bytes out.
//!
//! # The model
//!
//! 1. A server collects a request head. [`HeadScan`] finds its end, [`Request::parse`] checks it,
//!    [`Request::upgrade`] says whether it asks for a WebSocket, and how it may be accepted.
//!    If it is plain HTTP, [`Request::body_framing`] says whether a body follows, [`BodyReader`]
//!    collects it, and what it leaves is the next request.
//! 2. [`accept_response`] writes the 101; a refusal is a [`Response`]. The client's side is
//!    [`client_request`] and [`check_response`].
//! 3. From then on there are two halves, one for each direction. [`Incoming`] takes bytes and lends
//!    [`Event`]s that borrow them; [`Outgoing`] appends frames to a buffer of the caller.
//! 4. [`Connection`] is both halves with the answers the protocol asks for. A caller with rules of
//!    its own about answers holds the halves.
//! 5. Whatever the peer does wrong is a [`ProtocolError`], which knows its status code. Whatever
//!    the caller does wrong is a type of its own beside the function.
//!
//! # A conversation
//!
//! ```
//! use ringwire_proto::{
//!     CloseCode, Connection, Event, HeadLimits, HeadScan, IncomingLimits, Message, Request,
//!     accept_response, check_response, client_request,
//! };
//!
//! // The client asks. Its keys should come from a random source.
//! let key = *b"a nonce, 16 byte";
//! let mut to_server = Vec::new();
//! client_request(&mut to_server, "example.com", "/chat", key, &["chat"], &[])?;
//!
//! // The server reads the head and accepts.
//! let limits = HeadLimits::default();
//! let head_bytes = HeadScan::new().scan(&to_server, &limits)?.expect("the head is whole");
//! let request = Request::parse(&to_server[..head_bytes], &limits)?;
//! assert_eq!(request.path(), "/chat");
//! let offer = request.upgrade()?.expect("it asks for a WebSocket");
//! let mut to_client = Vec::new();
//! accept_response(&mut to_client, &offer, Some("chat"), &[])?;
//! assert_eq!(check_response(&to_client, key, &["chat"])?, Some("chat"));
//!
//! // Both ends are open. The client says hello and goodbye.
//! let mut client = Connection::client(|| [0x12, 0x34, 0x56, 0x78]);
//! let mut server = Connection::server();
//! let limits = IncomingLimits::default();
//! to_server.clear();
//! client.message(&mut to_server, Message::Text("hello"));
//! client.close(&mut to_server, CloseCode::NORMAL, "goodbye");
//!
//! // The server echoes messages; the Close is answered without its doing.
//! to_client.clear();
//! server.receive(&mut to_server, &limits, &mut to_client, |outgoing, out, event| {
//!     if let Event::Message(message) = event {
//!         outgoing.message(out, message);
//!     }
//! })?;
//! assert!(server.may_close_transport());
//!
//! let mut heard = Vec::new();
//! client.receive(&mut to_client, &limits, &mut Vec::new(), |_, _, event| {
//!     if let Event::Message(message) = event {
//!         heard.extend_from_slice(message.payload());
//!     }
//! })?;
//! assert_eq!(heard, b"hello");
//! assert!(client.may_close_transport());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//!
//! No sockets, no clock, no randomness: deadlines and mask keys are the caller's. No extensions
//! (offers are ignored), no version but 13, no HTTP but requests with bodies up to a limit and their
//! responses. No allocation but for a message that arrives in pieces and for the caller's own
//! buffers.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod handshake;
pub mod http;
pub mod mask;

mod close;
mod connection;
mod error;
mod events;
mod frame;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod incoming;
mod message;
mod outgoing;
mod role;
mod utf8;

pub use close::{Close, CloseCode, REASON_BYTES_MAX};
pub use connection::Connection;
pub use error::ProtocolError;
pub use events::{Event, Events};
pub use frame::{
    CONTROL_PAYLOAD_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode, append_frame, check_first,
    check_mask, frame_header_bytes, write_frame_header,
};
pub use handshake::{
    AcceptError, Offer, ResponseError, accept_for_key, accept_response, append_accept,
    check_response, client_request,
};
pub use http::{
    BodyFraming, BodyProgress, BodyReader, HeadLimits, HeadScan, InvalidHeader, Method,
    Persistence, Request, RequestError, Response, is_head_request, is_origin_of_host,
    is_same_origin, is_serialised_origin,
};
pub use incoming::{Incoming, IncomingLimits, Room};
pub use message::Message;
pub use outgoing::{ControlPayloadTooLong, MaskKeys, Outgoing, Unmasked};
pub use role::Role;
