//! The commit queue, the end of the log and the order of visibility of `meridian-lsm`, their very
//! sources, under many interleavings chosen at random (shuttle; Burckhardt and others, "A
//! Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", 2010).
//!
//! The sources take their locks from `crate::sync`; here that is the checker's, and a sleep has no
//! end unless somebody wakes the sleeper: a wake-up that is lost is a deadlock. Memory orders are
//! taken for sequentially consistent.
//!
//! Knows: the sources of the log and the commit queue. Must not know: the rest of the engine.
//!
//! Bound: the environment variable `MERIDIAN_LSM_SCHEDULES` says how many interleavings of each
//! model are run.

#![deny(missing_docs)]
#![allow(dead_code, reason = "the models use a part of what is mounted")]
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the documentation of the sources names rooms of the engine that are not mounted"
)]

mod batch;
#[path = "../../../src/coding.rs"]
mod coding;
mod commit;
#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/key/mod.rs"]
mod key;
#[path = "../../../src/options.rs"]
mod options;
mod sync;
#[path = "../../../src/wal/mod.rs"]
mod wal;

pub mod models;

pub use commit::log::WalStats;
pub use error::Error;
pub use key::Seqno;
pub use options::*;
