//! What a caller learns when a call failed.

use meridian_service::{Effect, RequestError};
use meridian_types::TableNameError;

/// Why a call failed. [`Self::effect`] says what it did to the data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A node answered with an error.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No endpoint could be reached. Nothing was changed; a retry may find one.
    #[error("no node could be reached: {why}; nothing was written")]
    NotReached {
        /// Each endpoint and what came of it.
        why: String,
    },
    /// The request was sent, and no answer came. A retry of a write needs the same write id.
    #[error("{endpoint} did not answer: {why}{}", consequence(*.effect))]
    NoAnswer {
        /// Who was asked.
        endpoint: String,
        /// What came instead.
        why: String,
        /// Whether something may have been written.
        effect: Effect,
    },
    /// The node refused the call without an error of Meridian's: a wrong password, a request over
    /// the door's own limits, or no Meridian node at all. A retry will not help.
    #[error("{endpoint} refused the call: {why}")]
    Refused {
        /// Who was asked.
        endpoint: String,
        /// What it said.
        why: String,
    },
    /// The answer is not as the protocol has it: from a newer or a broken node.
    #[error("{endpoint}: {what}{}", consequence(*.effect))]
    Malformed {
        /// Who was asked.
        endpoint: String,
        /// What is wrong with it.
        what: String,
        /// Whether something may have been written.
        effect: Effect,
    },
    /// An endpoint is no `host:port`, or there is none. Nothing was asked.
    #[error("`{endpoint}` is no endpoint: {why}; write it as host:port")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// A table's name is not allowed. Nothing was asked.
    #[error(transparent)]
    TableName(#[from] TableNameError),
}

fn consequence(effect: Effect) -> &'static str {
    match effect {
        Effect::NotApplied => "",
        Effect::Unknown => "; the write may have been done",
    }
}

impl ClientError {
    /// What the call did to the data.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Request(error) => error.effect(),
            Self::NoAnswer { effect, .. } | Self::Malformed { effect, .. } => *effect,
            Self::NotReached { .. }
            | Self::Refused { .. }
            | Self::Endpoint { .. }
            | Self::TableName(_) => Effect::NotApplied,
        }
    }

    /// The node's error, where one answered.
    #[must_use]
    pub fn as_request_error(&self) -> Option<&RequestError> {
        match self {
            Self::Request(error) => Some(error),
            _ => None,
        }
    }
}
