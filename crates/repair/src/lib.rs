//! Pull sessions and comparisons: how a replica finds out what it lacks, and gets it.
//!
//! Two replicas of a keyspace compare one digest over the clocks of all vnodes that they share
//! ([`combined_digest`]), then one digest a vnode ([`differing`]). Who compared pulls the vnodes
//! that differ ([`PullSession`]); the request says what it has, so the other pulls in turn.
//!
//! ```text
//! Asking ──PageArrived──▶ Joining ──Joined──▶ Asking … ──after the last page──▶ JoiningClock
//!    │                        │                                                     │
//!    └─ Refused, PeerDown,    └─ JoinFailed ─▶ Over, no clock joined                └─ Joined ─▶ Over
//!       timeout, no progress ─▶ Over, no clock joined
//! ```
//!
//! Knows: clocks, what a peer has that a puller lacks, when a clock may be joined.
//! Must not know: where rows live, sockets, whom to compare with and how often.
#![deny(missing_docs)]

mod compare;
pub mod message;
mod session;

pub use compare::{combined_digest, differing};
pub use session::{
    PullAction, PullError, PullEvent, PullKind, PullOptions, PullSession, Pulled, Sweep,
};
