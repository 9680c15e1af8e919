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
//!
//! ```
//! use std::{collections::BTreeMap, path::Path, sync::Arc};
//!
//! use meridian_store::{
//!     Identity, LocalWrite, MemMetadata, Store, StoreError, StoreOptions, WriteContext,
//! };
//! use meridian_types::catalog::Version;
//! use meridian_types::{Catalog, Incarnation, Millis, NodeId, TableName, TableOptions};
//! use meridian_vfs::MemFs;
//!
//! let now = Millis(1_700_000_000_000);
//! let (cluster, node_name) = ("example".to_owned(), "us-1".to_owned());
//! let (dc, rack) = ("us".to_owned(), "a".to_owned());
//! let identity = Identity { cluster, node: NodeId(1), node_name, dc, rack };
//! let (store, opened) = Store::open(
//!     Arc::new(MemFs::new()),
//!     Path::new("/data"),
//!     Arc::new(MemMetadata::new()),
//!     identity,
//!     StoreOptions { workers: 0, ..StoreOptions::default() },
//!     Incarnation(0x5eed), // a random number
//!     now,
//! )?;
//! assert!(opened.new_incarnation);
//!
//! let name: TableName = "geo.cities".parse().expect("a table's name");
//! let mut catalog = Catalog::default();
//! let replication = BTreeMap::from([("us".to_owned(), 1)]);
//! catalog.create_keyspace("geo", replication, Version::default()).expect("a keyspace");
//! catalog.create_table(&name, TableOptions::default(), Version::default()).expect("a table");
//! store.join_catalog(&catalog)?;
//!
//! let table = store.catalog().table(&name).cloned().expect("just created");
//! let row = store.row_key(&table, "geneva".into());
//! let put = |value: &'static str, context| LocalWrite {
//!     value: Some(value.into()),
//!     context,
//!     ..LocalWrite::default()
//! };
//! store.mint(&row, put("a", WriteContext::None), now)?;
//! store.mint(&row, put("b", WriteContext::None), now)?;
//! let version = store.read(&row)?;
//! assert_eq!(version.row.visible(now).count(), 2, "neither writer had seen the other");
//!
//! let seen = version.row.reader_context(&version.clock);
//! let minted = store.mint(&row, put("c", WriteContext::Seen(seen)), now)?;
//! store.wait(&minted.commit)?;
//! assert_eq!(store.read(&row)?.row.visible(now).count(), 1);
//! store.close()?;
//! # Ok::<(), StoreError>(())
//! ```

#![deny(missing_docs)]

mod batches;
mod error;
mod forgetting;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hints;
mod identity;
mod key;
mod merge;
mod metadata;
mod options;
mod passing;
mod recent;
mod records;
mod reservations;
mod stamps;
mod standing;
mod store;
mod vnodes;
mod waiting;
mod write_ids;

pub use batches::{BatchCounters, BatchError, Batches, KeptBatch, KeptWrite, MAX_BATCH_BYTES};
pub use error::{CorruptRow, ForeignDirectory, StoreError};
pub use hints::{
    Fulfilment, HINT_WINDOW_MS, Hint, HintCounters, HintError, HintId, HintLimits, HintLog, Hints,
    Intent, Undelivered,
};
pub use identity::{Identity, require_new_incarnation};
pub use metadata::{MemMetadata, Metadata, MetadataError, SledMetadata};
pub use options::{LogMode, StoreOptions};
pub use standing::{
    EndedPull, Goods, OtherReplicas, PeerStanding, ReadClass, Standing, VnodeKind, VnodeState,
};
pub use store::{
    Applied, Asked, Collected, Collecting, FullPull, LocalWrite, MAX_EVIDENCE_VNODES, Minted,
    Opened, PAGE_BYTES, PAGE_ROWS_EXAMINED, PULL_ROWS_EXAMINED, PagePosition, Progress,
    REISSUED_ROWS, Read, Reserved, ReservedDot, Reserving, Store, StorePage, StoreStats, Swept,
    TableStats, VnodePage, WriteContext,
};

pub use waiting::{Awaited, MAX_WAITING};

pub use meridian_lsm::{Commit, LogDriver, SyncPolicy, Unsynced};
