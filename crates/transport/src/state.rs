//! What can be seen of links from outside.

use std::time::Duration;

use meridian_types::{DcId, Incarnation, NodeId};

use crate::{Class, LinkProblem};

/// Whether a peer can be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Both directions live, in every class.
    Up {
        /// The peer's present life.
        incarnation: Incarnation,
    },
    /// Something is missing, or was lost.
    Down,
}

/// A peer and its link.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// The peer.
    pub id: NodeId,
    /// Its address.
    pub address: String,
    /// Its datacenter.
    pub dc: DcId,
    /// Whether it can be talked to.
    pub state: LinkState,
    /// For how long.
    pub lasted: Duration,
    /// Why it cannot be dialed, where that is known. Cleared when it is.
    pub problem: Option<LinkProblem>,
    /// Time from the last ping of the control class to its pong.
    pub round_trip: Option<Duration>,
}

/// Counts of a peer's link, since the peer was added.
#[derive(Clone, Debug)]
pub struct PeerStats {
    /// The peer.
    pub id: NodeId,
    /// How often it came up.
    pub ups: u64,
    /// By class, in the order of [`Class::EVERY`].
    pub classes: [(Class, ClassStats); 3],
}

/// Counts of one class of messages to and from one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Messages that wait now.
    pub queued_messages: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Messages that were given to the stream. Whether they arrived only an answer tells.
    pub sent_messages: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// The frames that they were sent in.
    pub sent_frames: u64,
    /// Messages that waited when the stream broke, and were dropped.
    pub dropped_messages: u64,
    /// Messages that were refused because the queue was full.
    pub refused_full: u64,
    /// Messages that were refused because there was no stream.
    pub refused_down: u64,
    /// Messages that were received.
    pub received_messages: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Streams that were opened to the peer.
    pub opened: u64,
}
