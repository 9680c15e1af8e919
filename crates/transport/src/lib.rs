//! Links between nodes: who is reachable, and bytes to them.
//!
//! A node dials every other node once for each [`Class`] of messages (`link.proto`), and sends on
//! the streams that it dialed. Answers travel on the other node's own streams; the far direction of
//! a stream carries pongs.
//!
//! ```text
//!   send ──> queue ──> frame ══ the stream that this node dialed ══> received
//!                       ping ════════════════════════════════════>
//!                            <════════════════════════════ pong
//!   received <═════════════════ the stream that the peer dialed ══ …
//! ```
//!
//! A peer is *up* while, for every class, its pongs arrive on the stream that was dialed to it, and
//! its pings or frames arrive on the stream that it dialed. So a link that is cut in one direction
//! only is down, on both sides. Whatever breaks a stream, [`Inbound::link_changed`] says `Down`
//! before it says `Up` again: messages may have been lost in between, and only then.
//!
//! Knows: addresses, handshakes, frames of opaque bytes, keep-alive.
//! Must not know: what messages mean, quorums, what a node that is down implies.
//!
//! Invariants:
//! - Messages from one node to another of one class arrive in the order in which they were sent, as
//!   long as the link lives; when it breaks, a suffix of them is lost, and never one in between.
//! - Nothing waits without a bound: see [`LinkOptions`].
//! - `send` never blocks, and takes no lock that is held during I/O.
//!
//! TLS comes with a later issue: [`Sockets`] is the one place where connections begin.
#![deny(missing_docs)]

mod accept;
mod backoff;
mod class;
mod dial;
mod error;
mod links;
mod options;
mod peer;
mod queue;
mod silence;
mod socket;
mod state;

pub use class::Class;
pub use error::{HandshakeRefusal, LinkProblem, SendRefused, TransportError};
pub use links::{Inbound, Links};
pub use options::{Handshake, LinkOptions, Peer};
pub use socket::{Listener, Socket, Sockets, Tcp};
pub use state::{ClassStats, LinkState, PeerState, PeerStats};
