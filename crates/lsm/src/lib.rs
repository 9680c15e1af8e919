//! An embedded, ordered key-value store: a log-structured merge tree.
//!
//! A [`Db`] holds named trees of ordered bytes behind one write-ahead log. The life of a write:
//!
//! 1. [`Db::write`] numbers the batch and copies it into the log's buffer (`commit`);
//! 2. its operations go into the active memtable of each tree, concurrently (`memtable`);
//! 3. it becomes visible, in the order of the numbers (`commit`);
//! 4. the buffer is written, and synced as the policy says (`wal`, `workers`);
//! 5. a full memtable is sealed and flushed to a level-0 table (`flush`, `table`);
//! 6. tables are merged down the levels; what no snapshot sees is dropped (`compaction`);
//! 7. the manifest makes each such step atomic (`version`);
//! 8. log segments whose writes are all in tables are removed;
//! 9. after a crash, the manifest and the rest of the log give a prefix of the history back that
//!    holds everything synced (`recovery`).
//!
//! Knows: ordered bytes, files (through `meridian-vfs`), merge operators. Must not know: what the
//! bytes mean, CRDTs, replicas, async runtimes.
//!
//! Invariants:
//! - readers never see part of a batch, nor a batch without the older ones;
//! - corruption is an error that names file and offset, never a missing or a wrong value;
//! - a failed write or sync of log or manifest stops all writes: it is never tried again as if it
//!   had worked; only a full disk passes, for its append wrote nothing that anything relies on;
//! - the database owns no threads and no clock; [`Workers`] brings both.

#![deny(missing_docs)]

mod batch;
mod blob;
mod care;
mod coding;
mod commit;
mod compaction;
mod db;
mod digest;
mod dir;
mod error;
mod flush;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod jobs;
mod key;
mod memtable;
mod options;
mod prefetch;
mod read;
mod recovery;
mod stats;
mod sync;
mod table;
mod tree;
mod version;
mod wal;
mod workers;

pub use batch::WriteBatch;
pub use care::backup;
pub use care::checkpoint::Checkpoint;
pub use care::ingest::Ingested;
pub use care::inspect;
pub use care::repair::{RepairReport, RepairedTree, SetAside, repair};
pub use care::verify::VerifyProgress;
pub use commit::Commit;
pub use commit::driver::{LogDriver, Unsynced};
pub use commit::log::WalStats;
pub use db::Db;
pub use error::Error;
pub use key::Seqno;
pub use options::*;
pub use read::range::{KeyRange, LentRow, Scan};
pub use read::snapshot::Snapshot;
pub use recovery::{LostRange, LostTable, Recovery};
pub use stats::{DbStats, LevelStats, TreeStats};
pub use table::cache::CacheStats;
pub use tree::Tree;
pub use workers::Workers;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
