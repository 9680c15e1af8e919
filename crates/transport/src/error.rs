//! What goes wrong on links.

use std::io;
use std::net::SocketAddr;

use meridian_types::NodeId;

/// Links that cannot be started. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address cannot be listened on.
    #[error("cannot listen for other nodes on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// An option has a value that does not work.
    #[error("{option}: {why}")]
    Options {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it, and what is allowed.
        why: String,
    },
}

/// A message that was not taken. It will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendRefused {
    /// There is no stream to the peer now. [`crate::Inbound::link_changed`] tells when there is.
    #[error("the link is down")]
    Down,
    /// The queue to the peer is full: it takes messages more slowly than they come. Later ones may
    /// be taken.
    #[error("the link's queue is full")]
    Full,
    /// The node is not among the peers.
    #[error("the node is not among the peers")]
    UnknownPeer,
    /// The message is larger than any node reads. It must not be retried.
    #[error("the message has {bytes} bytes; at most {limit} are allowed")]
    TooLarge {
        /// The message's length.
        bytes: usize,
        /// The limit in force.
        limit: usize,
    },
}

/// Why the dialed streams to a peer are not there, as far as is known. Dialing goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkProblem {
    /// No connection could be made.
    #[error("cannot be reached: {0}")]
    NotReached(String),
    /// Somebody answered who is not the peer as this node knows it.
    #[error(transparent)]
    Refused(HandshakeRefusal),
    /// Nothing was heard for too long.
    #[error("silent")]
    Silent,
    /// The connection broke, or the peer closed it.
    #[error("broken: {0}")]
    Broken(String),
}

impl LinkProblem {
    /// Whether an operator has to do something before it goes away.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// A handshake that failed because the two nodes do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeRefusal {
    /// The peer speaks another version of the protocol.
    #[error("speaks protocol {theirs}, this node {ours}")]
    OtherProtocol {
        /// This node's version.
        ours: u32,
        /// The peer's.
        theirs: u32,
    },
    /// The peer belongs to another cluster.
    #[error("belongs to cluster `{theirs}`, this node to `{ours}`")]
    OtherCluster {
        /// This node's cluster.
        ours: String,
        /// The peer's.
        theirs: String,
    },
    /// Another node is at the peer's address.
    #[error("node {found} is at the address of node {wanted}")]
    OtherNode {
        /// The node that should be there.
        wanted: NodeId,
        /// The node that is.
        found: NodeId,
    },
    /// The peer does not know this node.
    #[error("does not know this node")]
    UnknownPeer,
    /// The peer did not understand the handshake, or answered with something else.
    #[error("has another idea of a handshake")]
    Malformed,
}
