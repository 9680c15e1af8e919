//! `replica.proto` from and to the words of `meridian-coordinator`, `meridian-repair` and the
//! catalog.
//!
//! Rows, deltas, contexts and clocks travel as their canonical bytes; values and keys of a decoded
//! message are views into the received buffer. Whoever keeps one for long keeps that buffer.

mod catalog;
mod client;
mod evidence;
mod guard;
mod kept;
mod parts;
mod repair;
mod reply;
mod request;
mod squeezed;
#[cfg(test)]
mod tests;

pub use catalog::catalog_digest;
pub use guard::MAX_PARTS;

use bytes::Bytes;
use meridian_coordinator::message::{ReplicaReply, ReplicaRequest};
use meridian_repair::message::{RepairReply, RepairRequest};
use meridian_types::varint::DecodeError;
use meridian_types::{Catalog, KeyspaceId, RequestId};
use prost::Message;

use crate::v1;
use crate::v1::peer_message::Body;

/// Version of everything that nodes say to each other: a link's handshake carries it, and nodes of
/// different versions do not talk. Raised when an older node would misread a message.
pub const PROTOCOL: u32 = 2;

/// One message between two nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMessage {
    /// Chosen by the node that asks; the answer carries the same number.
    pub call: u64,
    /// The client's request that this serves, where there is one.
    pub trace: Option<RequestId>,
    /// For how long somebody waits for the answer, in milliseconds from when it was sent. `None`
    /// in answers, and in what is to be done however late: a copy of a write.
    pub deadline_ms: Option<u32>,
    /// What is said.
    pub body: PeerBody,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerBody {
    /// A coordinator asks a replica.
    Request(ReplicaRequest),
    /// A replica answers.
    Reply(ReplicaReply),
    /// A node that pulls asks its peer.
    Repair(RepairRequest),
    /// The peer answers.
    RepairReply(RepairReply),
    /// Keeps catalogs the same.
    Catalog(CatalogMessage),
    /// The answer.
    CatalogReply(CatalogReply),
}

/// Keeps catalogs the same on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogMessage {
    /// Join this one.
    Publish(Catalog),
    /// Join this one, and know that a keyspace of it was created just now, by the sender: who did
    /// not know it before has lost nothing of it.
    Created {
        /// The catalog.
        catalog: Catalog,
        /// The keyspace.
        keyspace: KeyspaceId,
    },
    /// The sender's catalog has this digest: [`catalog_digest`].
    Digest(u128),
    /// Send yours.
    Ask,
}

/// Answers a [`CatalogMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogReply {
    /// Joined, durably.
    Joined,
    /// The digests are equal.
    Same,
    /// The answering node's catalog.
    Catalog(Catalog),
    /// Not joined, and why.
    Refused(String),
}

/// A message that cannot be read. Nothing was done with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message from another node cannot be read: {fault}")]
pub struct WireError {
    /// The call of the peer that waits for an answer, where that much could be read: it can be
    /// told with [`meridian_coordinator::message::Refusal::Malformed`] or its like. `None` for
    /// messages that are answers themselves.
    pub asked: Option<u64>,
    /// What is wrong with it.
    pub fault: WireFault,
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// The bytes are no such protobuf message.
    #[error("{0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A field that every message of its kind has is not set, or says something that this version
    /// does not know.
    #[error("{0} is missing or unknown")]
    Missing(&'static str),
    /// A row, delta, context or clock is damaged.
    #[error("{field}: {cause}")]
    Damaged {
        /// The field.
        field: &'static str,
        /// Where and how.
        cause: DecodeError,
    },
    /// A field has a value that its type does not allow.
    #[error("{field}: {why}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The message has so many parts that reading it would take far more memory than it has bytes.
    #[error("more than {MAX_PARTS} rows, keys or values in one message")]
    TooManyParts,
}

impl PeerMessage {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let body = match &self.body {
            PeerBody::Request(request) => Body::Request(request.into()),
            PeerBody::Reply(reply) => Body::Reply(reply.into()),
            PeerBody::Repair(request) => Body::Repair(request.into()),
            PeerBody::RepairReply(reply) => Body::RepairReply(reply.into()),
            PeerBody::Catalog(message) => Body::Catalog(message.into()),
            PeerBody::CatalogReply(reply) => Body::CatalogReply(reply.into()),
        };
        let trace = self.trace.map(Into::into);
        let Self { call, deadline_ms, .. } = *self;
        v1::PeerMessage { call, trace, deadline_ms, body: Some(body) }.encode_to_vec().into()
    }

    /// The message's bytes, in fewer where that saves something: for what is large and crosses
    /// between datacenters.
    #[must_use]
    pub fn encode_squeezed(&self) -> Bytes {
        squeezed::squeeze(self.encode())
    }

    /// Reads a message back.
    ///
    /// # Errors
    /// Bytes that are no message of this version; see [`WireError`].
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let unread = |fault| WireError { asked: None, fault };
        let mut message = read(bytes).map_err(unread)?;
        if let Some(Body::Squeezed(squeezed)) = &message.body {
            message = squeezed::unsqueeze(squeezed).and_then(read).map_err(unread)?;
        }
        let said = message.body.take();
        let body = said.ok_or_else(|| unread(WireFault::Missing("body")))?;
        let asks = matches!(body, Body::Request(_) | Body::Repair(_) | Body::Catalog(_));
        let asked = asks.then_some(message.call);
        let body = PeerBody::try_from(body).map_err(|fault| WireError { asked, fault })?;
        let v1::PeerMessage { call, trace, deadline_ms, .. } = message;
        Ok(Self { call, trace: trace.map(Into::into), deadline_ms, body })
    }
}

fn read(bytes: Bytes) -> Result<v1::PeerMessage, WireFault> {
    guard::check(&bytes)?;
    Ok(v1::PeerMessage::decode(bytes)?)
}

impl TryFrom<Body> for PeerBody {
    type Error = WireFault;

    fn try_from(body: Body) -> Result<Self, WireFault> {
        Ok(match body {
            Body::Request(request) => Self::Request(request.try_into()?),
            Body::Reply(reply) => Self::Reply(reply.try_into()?),
            Body::Repair(request) => Self::Repair(request.try_into()?),
            Body::RepairReply(reply) => Self::RepairReply(reply.try_into()?),
            Body::Catalog(message) => Self::Catalog(message.try_into()?),
            Body::CatalogReply(reply) => Self::CatalogReply(reply.try_into()?),
            Body::Squeezed(_) => {
                let why = "it is squeezed twice".to_owned();
                return Err(WireFault::Invalid { field: "squeezed message", why });
            }
        })
    }
}
