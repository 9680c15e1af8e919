//! What a store counts.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_lsm::{DbStats, TreeStats};
use meridian_types::TableName;

use super::*;

/// A count of events.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.add_many(1);
    }

    pub(super) fn add_many(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) blind: Count,
    pub(super) applied: Count,
    pub(super) duplicates: Count,
    pub(super) retries: Count,
    pub(super) joined: Count,
    pub(super) reissued: Count,
    pub(super) pull_rows_examined: Count,
    pub(super) forgotten_entries: Count,
    pub(super) forgotten_rows: Count,
}

/// What a store holds, and what it has done since it was opened.
#[derive(Clone, Debug)]
pub struct StoreStats {
    /// The tables, by id.
    pub tables: Vec<TableStats>,
    /// Vnodes with a clock, over all keyspaces.
    pub vnodes: usize,
    /// Deltas stored without reading the row.
    pub blind_writes: u64,
    /// Deltas applied to a row that was read first.
    pub reading_writes: u64,
    /// Deltas that came again.
    pub duplicates: u64,
    /// Writes that came again under the same name.
    pub retries: u64,
    /// Rows that read repair or a pull changed.
    pub joined_rows: u64,
    /// Values that only this replica had when a rebuilding ended, and that were written anew.
    pub reissued_values: u64,
    /// Rows that were looked at for replicas that pull.
    pub pull_rows_examined: u64,
    /// Vnodes that may have something to forget.
    pub vnodes_with_markers: usize,
    /// Markers and expired entries that were forgotten.
    pub forgotten_entries: u64,
    /// Rows that are gone with them.
    pub forgotten_rows: u64,
    /// Writes remembered by name, and their bytes.
    pub write_ids: (usize, usize),
    /// The highest stamp given or followed.
    pub highest_stamp: Hlc,
    /// Bytes of all tables on disk, those of the clocks among them, without the log.
    pub disk_bytes: u64,
    /// The storage engine's own figures.
    pub engine: DbStats,
}

/// What a table holds.
#[derive(Clone, Debug)]
pub struct TableStats {
    /// Its id.
    pub table: TableId,
    /// Its name.
    pub name: TableName,
    /// About how many rows it holds: at least so many as there are, because several versions of a
    /// row count until they are compacted, and markers count.
    pub estimated_rows: u64,
    /// Bytes of its files.
    pub disk_bytes: u64,
    /// Bytes of its memtables.
    pub memtable_bytes: u64,
}

impl Store {
    /// What the store holds and has done.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let inner = &*self.inner;
        let view = inner.view.load_full();
        let engine = inner.db.stats();
        let table = |table: &Arc<Table>| {
            let tree = engine.trees.iter().find(|tree| tree.name == table.tree.name());
            TableStats {
                table: table.def.id,
                name: table.def.name.clone(),
                estimated_rows: tree.map_or(0, |tree| tree.approximate_entries),
                disk_bytes: tree.map_or(0, disk_bytes),
                memtable_bytes: tree.map_or(0, |tree| tree.memtable_bytes + tree.sealed_bytes),
            }
        };
        StoreStats {
            tables: view.tables.values().map(table).collect(),
            vnodes: view.keyspaces.values().map(|vnodes| vnodes.written()).sum(),
            blind_writes: inner.counters.blind.get(),
            reading_writes: inner.counters.applied.get(),
            duplicates: inner.counters.duplicates.get(),
            retries: inner.counters.retries.get(),
            joined_rows: inner.counters.joined.get(),
            reissued_values: inner.counters.reissued.get(),
            pull_rows_examined: inner.counters.pull_rows_examined.get(),
            vnodes_with_markers: self.collectable(None, usize::MAX).len(),
            forgotten_entries: inner.counters.forgotten_entries.get(),
            forgotten_rows: inner.counters.forgotten_rows.get(),
            write_ids: inner.write_ids.size(),
            highest_stamp: inner.stamps.last(),
            disk_bytes: engine.trees.iter().map(disk_bytes).sum(),
            engine,
        }
    }
}

fn disk_bytes(tree: &TreeStats) -> u64 {
    tree.levels.iter().map(|level| level.bytes).sum()
}
