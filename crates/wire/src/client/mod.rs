//! `client.proto` from and to the words of `meridian-service`.
//!
//! A request from outside becomes a [`Request`](meridian_service::Request) or a
//! [`RequestError`](meridian_service::RequestError) that says which part is wrong. An answer
//! becomes an outcome, or [`Malformed`]. Errors travel whole: a client has the same error that the
//! node had.

mod catalog;
mod error;
mod outcome;
mod request;
#[cfg(test)]
mod tests;
mod words;

pub use error::{error_of, status_of};
pub use request::{Defaults, IntoRequest};

use meridian_types::ConsistencyLevel;

use crate::v1;

/// The metadata field with a request's id, on the way in and out.
pub const REQUEST_ID: &str = "meridian-request-id";

/// The metadata field of sessions, in and out: bytes, several times where several requests of the
/// session had run beside each other. An empty one begins a session.
pub const SESSION: &str = "meridian-session-bin";

/// An answer that is not as the protocol has it: from a newer or a broken node. Whether a write
/// was applied is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer's {what} is not as the protocol has it")]
pub struct Malformed {
    /// The part.
    pub what: &'static str,
}

/// The level on the wire.
#[must_use]
pub fn consistency(level: ConsistencyLevel) -> v1::Consistency {
    // The numbers are the same; the test goes through all of them.
    v1::Consistency::try_from(i32::from(level as u8)).unwrap_or(v1::Consistency::Unspecified)
}

fn level_of(number: i32) -> Option<ConsistencyLevel> {
    u8::try_from(number).ok().and_then(ConsistencyLevel::from_number)
}
