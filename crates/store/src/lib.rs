//! A replica's own room: rows on the storage engine, vnode clocks, recent writes; identity, hints
//! and metadata.
//!
//! A table is a tree of the engine, ordered by the ring, so a vnode is one range of it. Every write
//! goes with the dot that names it, in one batch: the clock of a vnode says exactly which writes
//! its rows hold, also after a power cut. Mint, apply and join are one critical section per vnode
//! (`vnodes`); whoever reads takes row and clock of one moment.
//!
//! The way of a write: find the table and the vnode (`store`), lock the vnode, mint the dot and the
//! stamp, encode, hand the batch to the engine (`store/write.rs`), note the dot, unlock; wait for
//! durability outside.
//!
//! Knows: rows, clocks, tables, the engine, this node's identity; what waits for other replicas.
//! Must not know: how other replicas are reached, consistency levels, who asked.
//!
//! Invariants:
//! - a dot is in the clock of a vnode if and only if its row holds its effect (rules 4 and 6);
//! - a dot is never minted twice: a new incarnation begins after anything but a tidy stop, durable
//!   before its first dot (rule 3, `identity`);
//! - a row that cannot be read is an error, never a missing row.

#![deny(missing_docs)]

mod error;
mod hints;
mod identity;
mod key;
mod merge;
mod metadata;
mod options;
mod records;
mod stamps;
mod store;
mod vnodes;
mod write_ids;

pub use error::{CorruptRow, ForeignDirectory, StoreError};
pub use hints::{
    HINT_WINDOW_MS, Hint, HintCounters, HintError, HintId, HintLimits, HintLog, Hints, Intent,
};
pub use identity::{Identity, require_new_incarnation};
pub use metadata::{MemMetadata, Metadata, MetadataError, SledMetadata};
pub use options::StoreOptions;
pub use store::{
    Applied, LocalWrite, Minted, Opened, PAGE_BYTES, PAGE_ROWS_EXAMINED, PULL_ROWS_EXAMINED, Store,
    StorePage, StoreStats, TableStats, VnodePage, WriteContext,
};

pub use meridian_lsm::{Commit, SyncPolicy};
