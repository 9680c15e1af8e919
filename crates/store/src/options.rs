//! Every setting of a store: unit, default, and why.
//!
//! Worst-case memory: `total_memtable_bytes` and a memtable more, `block_cache_bytes`,
//! `write_id_table_bytes`, filters and indexes of the tables (about 1.7 bytes a key), and for each
//! vnode of a keyspace that was ever written about 100 bytes and 50 for each actor of its clock.

use meridian_lsm::{DbOptions, OnDamage, SyncPolicy};
use meridian_topology::VnodeCount;
use meridian_types::{HlcClock, Partitioner};

use crate::error::StoreError;

/// Who writes the log of a store's writes to its file and syncs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogMode {
    /// A thread of its own. A store without workers has none: as [`Self::Inline`] then.
    #[default]
    Threads,
    /// Whoever writes, within the call; and whoever asks when a commit is settled. Without workers.
    Inline,
    /// Whoever has [`crate::Store::log_driver`], when it is called. Without workers.
    Driven,
}

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// When a write is durable. Default: every 100 ms or 1000 writes, whichever is first.
    pub sync: SyncPolicy,
    /// Bytes of blocks kept in memory, all tables together. Default 32 MiB; give a server a third
    /// of its memory.
    pub block_cache_bytes: u64,
    /// Bytes at which a table's memtable is sealed and flushed. Default 64 MiB.
    pub memtable_bytes: usize,
    /// Bytes of all memtables together; beyond it the largest is flushed. Default 256 MiB.
    pub total_memtable_bytes: usize,
    /// How far ahead of this node's wall clock a stamp may be before it is refused, in
    /// milliseconds. Default one minute: more than any synchronised clock is off, and less than
    /// anybody would take for a time of day.
    pub max_clock_ahead_ms: u64,
    /// Bytes of recent writes remembered by their names, so that a retry gets the dot of the first
    /// try. Default 16 MiB.
    pub write_id_table_bytes: usize,
    /// How long a write is remembered by its name, in milliseconds. Default five minutes: longer
    /// than clients go on trying.
    pub write_id_ttl_ms: u64,
    /// Threads that flush and compact, beside one that writes the log. 0 starts none at all: then
    /// the log is written by whoever writes, and [`crate::Store::poll_job`] does the rest, so that
    /// a simulation is deterministic. Default 2.
    pub workers: usize,
    /// Who writes the log. Default [`LogMode::Threads`].
    pub log: LogMode,
    /// How keys become tokens; fixed for the life of the data directory.
    pub partitioner: Partitioner,
    /// The base-2 logarithm of the number of vnodes; fixed for the life of the data directory.
    /// Default 8.
    pub vnode_bits: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::default(),
            block_cache_bytes: 32 << 20,
            memtable_bytes: 64 << 20,
            total_memtable_bytes: 256 << 20,
            max_clock_ahead_ms: HlcClock::DEFAULT_MAX_AHEAD_MS,
            write_id_table_bytes: 16 << 20,
            write_id_ttl_ms: 5 * 60 * 1000,
            workers: 2,
            log: LogMode::default(),
            partitioner: Partitioner::default(),
            vnode_bits: 8,
        }
    }
}

/// Bytes at which the memtable of the clocks is flushed. Every write adds a dot of about 100 bytes
/// to it, and a flush leaves one small clock a vnode, so it is smaller than a table's.
pub(crate) const CLOCKS_MEMTABLE_BYTES: usize = 32 << 20;

/// zstd's own default: the next levels cost more time than they save space.
pub(crate) const ZSTD_LEVEL: i32 = 3;

impl StoreOptions {
    pub(crate) fn vnode_count(&self) -> Result<VnodeCount, StoreError> {
        let count = 1u32.checked_shl(self.vnode_bits).map(VnodeCount::new);
        count.and_then(Result::ok).ok_or_else(|| StoreError::InvalidOption {
            option: "vnode_bits",
            given: u64::from(self.vnode_bits),
            allowed: format!("use 0 to {}", VnodeCount::MAX.ilog2()),
        })
    }

    pub(crate) fn check_log(&self) -> Result<(), StoreError> {
        if self.log == LogMode::Threads || self.workers == 0 {
            return Ok(());
        }
        let allowed = format!("use 0 where the log is kept as {:?}", self.log);
        Err(StoreError::InvalidOption { option: "workers", given: self.workers as u64, allowed })
    }

    pub(crate) fn db(&self) -> DbOptions {
        DbOptions {
            sync: self.sync,
            block_cache_bytes: self.block_cache_bytes,
            memtable_total_bytes: self.total_memtable_bytes,
            on_damage: OnDamage::OpenWithoutTables,
            ..DbOptions::default()
        }
    }
}
