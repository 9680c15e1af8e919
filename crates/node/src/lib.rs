//! The control plane of one replica: who is alive, whose hints are delivered, what is compared
//! with whom and pulled, and what is made good after a loss. Requests do not pass through here; each runs its own machine where it
//! arrived.
//!
//! ```text
//! links ──Up, Down──▶ Liveness ──Rose, Fell──┬─▶ plans and waiting requests
//!                                            ├─▶ Handoff ──▶ Load, Deliver, Remove
//!                                            ├─▶ AntiEntropy ──▶ Compare, Pull
//!                                            └─▶ Rebuild ──▶ Compare, Pull, End
//! ```
//!
//! Every machine is `step(event, now, &mut actions)` and `next_wakeup()`: whoever runs it calls
//! `step` with its `TimePassed` once that time has come, and does what it asks for, in order.
//!
//! Knows: peers, hints by id, vnodes by id, how much may be under way at once ([`limits`]).
//! Must not know: sockets, threads, files, what time it is, what a hint or a row contains.
#![deny(missing_docs)]

pub mod anti_entropy;
pub mod forgetting;
pub mod handoff;
mod jitter;
pub mod limits;
pub mod liveness;
mod node;
pub mod rebuild;

pub use anti_entropy::{AntiEntropy, AntiEntropyAction, AntiEntropyEvent, AntiEntropyOptions};
pub use forgetting::{Forgetting, ForgettingAction, ForgettingEvent, ForgettingOptions};
pub use handoff::{Handoff, HandoffAction, HandoffEvent, HintId};
pub use liveness::{AliveView, LinkEvent, Liveness, LivenessChange, Peer};
pub use node::{Node, NodeAction, NodeEvent};
pub use rebuild::{Lack, Outlook, Rebuild, RebuildAction, RebuildEvent};
