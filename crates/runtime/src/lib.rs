//! The driver: clock, timers, links, threads. Carries out what the machines ask for.
//!
//! ```text
//! host           time, chance, tasks, threads and links: tokio's, or a simulated world's
//! serve/*        requests, resolved to rows
//!   put get page     each runs its machine where the request arrived
//!     exchange         waiting machines by call number; stepped by whoever brings the event
//! peer/*         messages of other nodes, done on the link's task
//! control        one task: hints to deliver, clocks to compare (meridian-node)
//!   hints repair/*   does so
//! ```
//!
//! Knows: how to keep time, reach other nodes, and do what an action says.
//! Must not know: quorum rules, protocols of doors, formats.
//!
//! Locks: a waiting request's own lock is the only one held while its actions are done; nothing
//! that is called with it held takes another request's lock.
#![deny(missing_docs)]
#![allow(
    clippy::disallowed_types,
    reason = "driver crate: nothing here depends on iteration order of standard maps"
)]

mod admission;
mod alarm;
mod background;
mod batches;
mod catalog;
mod control;
mod credit;
mod error;
mod exchange;
mod figures;
mod forgetting;
mod get;
mod hints;
mod host;
mod in_flight;
mod intents;
mod kept;
mod lag;
mod node;
mod options;
mod pace;
mod page;
mod parts;
mod peer;
mod peers;
mod placements;
mod put;
mod rebuild;
mod repair;
mod repair_budget;
mod serve;
mod session;
mod shares;
mod superseded;
mod tasks;
mod tokio_host;

pub use error::{StartError, StopError};
pub use figures::{Condition, Lost};
pub use forgetting::ForgettingSettings;
pub use host::{Host, Linker, Network};
pub use meridian_crdt::SessionLimits;
pub use node::Node;
pub use options::NodeOptions;
pub use parts::{Parts, Transport};
pub use placements::PlacementCache;
pub use tokio_host::TokioHost;
