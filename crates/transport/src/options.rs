//! How links are kept, and the bound of everything that waits.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_types::{DcId, Incarnation, NodeId};
use meridian_wire::link::Frame;

use crate::{Class, TransportError};

/// What a node says of itself when it dials or is dialed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The cluster's name. Nodes of different clusters do not talk.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Version of everything that is said on links. Nodes of different versions do not talk.
    pub protocol: u32,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub id: NodeId,
    /// Where it listens: `host:port`. A name is resolved again at every attempt.
    pub address: String,
    /// Its datacenter.
    pub dc: DcId,
}

/// How links are kept.
///
/// Worst case of memory, for each peer: 3 × ([`Self::queue_bytes`] + [`Self::window_bytes`] + one
/// message) to send and 3 × ([`Self::window_bytes`] + one message) to receive. An idle link takes a
/// few tens of kilobytes.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Where other nodes reach this one. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What this node says of itself.
    pub handshake: Handshake,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// Time between two pings on a stream. Default 500 ms.
    pub keep_alive: Duration,
    /// Silence after which a link is down. Default 3 s: six pings. A message must cross the link
    /// within this time, so that a large one on a slow link does not look like a cut.
    pub down_after: Duration,
    /// Longest time from the start of dialing to the end of the handshake: three round trips.
    /// Default 1.5 s.
    pub dial_timeout: Duration,
    /// Least time between two attempts to dial. Default 50 ms.
    pub backoff_min: Duration,
    /// Most time between two attempts to dial: with [`Self::dial_timeout`] how long a healed link
    /// may stay down. Default 500 ms.
    pub backoff_max: Duration,
    /// Most messages that wait for one peer in one class. Default 16,384.
    pub queue_messages: usize,
    /// Most bytes that wait for one peer in one class; a single message may be larger. Default
    /// 16 MiB.
    pub queue_bytes: usize,
    /// Most messages in a frame. Default 64: enough to make a frame's cost small, few enough that
    /// the first does not wait for the last.
    pub frame_messages: usize,
    /// Bytes above which no further message joins a frame. Default 256 KiB.
    pub frame_bytes: usize,
    /// Largest message. Default 16 MiB: a value of the largest size with room for the rest. The
    /// same on all nodes: a larger one breaks the link of the node that gets it.
    pub message_bytes: usize,
    /// Bytes that may be on their way on one stream: its throughput is this much a round trip.
    /// Default 4 MiB, which is 40 MB/s over 100 ms.
    pub window_bytes: u32,
    /// Seed of the jitter between attempts to dial. Different on every node, so that a node that
    /// returns is not dialed by all at once.
    pub seed: u64,
}

/// The background class carries large pages on links that may be slow, so its own silence counts
/// only after this many times `down_after`. A cut is noticed by the other classes.
const BACKGROUND_PATIENCE: u32 = 4;

/// What a frame's messages take besides their own bytes, at most.
const FRAME_OVERHEAD: usize = 16 * Frame::MAX_MESSAGES;

impl LinkOptions {
    /// The defaults.
    #[must_use]
    pub fn new(listen: SocketAddr, handshake: Handshake, peers: Vec<Peer>) -> Self {
        let seed = handshake.incarnation.0 ^ u64::from(handshake.node.0).rotate_left(32);
        Self {
            listen,
            handshake,
            peers,
            keep_alive: Duration::from_millis(500),
            down_after: Duration::from_secs(3),
            dial_timeout: Duration::from_millis(1_500),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_millis(500),
            queue_messages: 16 << 10,
            queue_bytes: 16 << 20,
            frame_messages: 64,
            frame_bytes: 256 << 10,
            message_bytes: 16 << 20,
            window_bytes: 4 << 20,
            seed,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), TransportError> {
        let checks = [
            ("keep_alive", self.keep_alive.is_zero(), "it must be above 0"),
            (
                "down_after",
                self.down_after < self.keep_alive * 2,
                "it must be at least twice keep_alive, or a single late pong is a cut",
            ),
            ("dial_timeout", self.dial_timeout.is_zero(), "it must be above 0"),
            ("backoff_min", self.backoff_min.is_zero(), "it must be above 0"),
            (
                "backoff_max",
                self.backoff_max < self.backoff_min,
                "it must not be below backoff_min",
            ),
            ("queue_messages", self.queue_messages == 0, "it must be above 0"),
            (
                "frame_messages",
                !(1..=Frame::MAX_MESSAGES).contains(&self.frame_messages),
                "it must be from 1 to 1024",
            ),
            // HTTP/2's own bounds.
            (
                "window_bytes",
                !(65_535..=i32::MAX as u32).contains(&self.window_bytes),
                "it must be from 65535 to 2147483647",
            ),
        ];
        match checks.into_iter().find(|(_, bad, _)| *bad) {
            Some((option, _, why)) => Err(TransportError::Options { option, why: why.to_owned() }),
            None => Ok(()),
        }
    }

    /// Silence after which a stream of this class is given up.
    pub(crate) fn patience(&self, class: Class) -> Duration {
        match class {
            Class::Foreground | Class::Control => self.down_after,
            Class::Background => self.down_after * BACKGROUND_PATIENCE,
        }
    }

    /// The largest frame that a peer with the same options sends.
    pub(crate) fn largest_frame(&self) -> usize {
        self.message_bytes.max(self.frame_bytes) + FRAME_OVERHEAD
    }
}
