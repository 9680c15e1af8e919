//! Figures for people and monitoring; read without stopping anybody, so they may be of slightly
//! different moments.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::commit::log::WalStats;
use crate::db::Core;
use crate::options::LEVELS;
use crate::table::cache::CacheStats;
use crate::tree::Tree;

/// What a tree counts since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) flushed_bytes: AtomicU64,
    pub(crate) ingested_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) moves: AtomicU64,
    pub(crate) drops: AtomicU64,
    /// As of the last look for work.
    pub(crate) pending_bytes: AtomicU64,
    pub(crate) compaction_read: AtomicU64,
    pub(crate) compaction_written: AtomicU64,
    pub(crate) levels: [LevelCounters; LEVELS],
}

/// What went into a level.
#[derive(Debug, Default)]
pub(crate) struct LevelCounters {
    pub(crate) entered: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) moved: AtomicU64,
}

impl Counters {
    pub(crate) fn flushed(&self, bytes: u64) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.flushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.levels[0].entered.fetch_add(bytes, Ordering::Relaxed);
        self.levels[0].written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn ingested(&self, level: usize, bytes: u64) {
        self.ingested_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.levels[level].entered.fetch_add(bytes, Ordering::Relaxed);
        self.levels[level].written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// `entered`: bytes of the inputs that were not in `level` before.
    pub(crate) fn compacted(&self, level: usize, entered: u64, read: u64, written: u64) {
        self.compactions.fetch_add(1, Ordering::Relaxed);
        self.compaction_read.fetch_add(read, Ordering::Relaxed);
        self.compaction_written.fetch_add(written, Ordering::Relaxed);
        self.levels[level].entered.fetch_add(entered, Ordering::Relaxed);
        self.levels[level].read.fetch_add(read, Ordering::Relaxed);
        self.levels[level].written.fetch_add(written, Ordering::Relaxed);
    }

    pub(crate) fn moved(&self, level: usize, bytes: u64) {
        self.moves.fetch_add(1, Ordering::Relaxed);
        self.levels[level].entered.fetch_add(bytes, Ordering::Relaxed);
        self.levels[level].moved.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Tables of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelStats {
    /// How many.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came in from above, from memory or by an ingest, since the tree was opened.
    pub entered_bytes: u64,
    /// Bytes read to merge them in.
    pub read_bytes: u64,
    /// Bytes written for that; over `entered_bytes` it is the level's write amplification.
    pub written_bytes: u64,
    /// Bytes of the tables that only changed their level.
    pub moved_bytes: u64,
}

impl LevelStats {
    /// Bytes written for each byte that came in, in hundredths; 0 while nothing has come in, whatever
    /// was written anew of what was there.
    #[must_use]
    pub fn write_amplification_percent(&self) -> u64 {
        percent(self.written_bytes, self.entered_bytes)
    }
}

/// 0 of nothing.
fn percent(of: u64, whole: u64) -> u64 {
    let percent = (u128::from(of) * 100).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// Figures of one tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeStats {
    /// Its name.
    pub name: String,
    /// Bytes of the active memtable.
    pub memtable_bytes: u64,
    /// Memtables that wait for their flush.
    pub sealed_memtables: u64,
    /// Their bytes.
    pub sealed_bytes: u64,
    /// Its tables, level 0 first.
    pub levels: Vec<LevelStats>,
    /// Its blob files.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Bytes of the values in them that tables refer to; the others are garbage.
    pub blob_live_bytes: u64,
    /// Versions in memtables and tables: keys, or more.
    pub approximate_entries: u64,
    /// Bytes of indexes and filters that stay in memory.
    pub pinned_bytes: u64,
    /// Memtables flushed since it was opened.
    pub flushes: u64,
    /// Bytes of the tables they became.
    pub flushed_bytes: u64,
    /// Bytes of the tables that came by an ingest.
    pub ingested_bytes: u64,
    /// Compactions done since it was opened.
    pub compactions: u64,
    /// Compactions that only moved a table.
    pub moves: u64,
    /// Tables removed unread because everything in them had expired.
    pub drops: u64,
    /// Compactions under way.
    pub running_compactions: u64,
    /// Bytes that have to be rewritten before the strategy has nothing left to do: an estimate, as
    /// of the last look for work.
    pub pending_compaction_bytes: u64,
    /// Bytes that compactions read.
    pub compaction_read_bytes: u64,
    /// Bytes that compactions wrote.
    pub compaction_written_bytes: u64,
}

impl TreeStats {
    /// Bytes written to tables and blob files for each byte flushed or ingested, in hundredths; 0
    /// before the first. The log is not in it.
    #[must_use]
    pub fn write_amplification_percent(&self) -> u64 {
        let came = self.flushed_bytes + self.ingested_bytes;
        percent(came + self.compaction_written_bytes, came)
    }

    /// Bytes of all tables and blob files for each byte of the largest level and each byte of values
    /// that tables refer to, in hundredths: what lies above that level is at most as much again of
    /// overwritten data, and the rest of the blob files is garbage. 0 without tables; of a tree whose
    /// runs are all in level 0 nothing is known, and it says 100.
    #[must_use]
    pub fn space_amplification_percent(&self) -> u64 {
        let tables: u64 = self.levels.iter().map(|level| level.bytes).sum();
        percent(tables + self.blob_bytes, self.largest_level() + self.blob_live_bytes)
    }

    /// What each level adds to that without its blob files: its bytes for each byte of the largest
    /// level, in hundredths.
    #[must_use]
    pub fn space_by_level_percent(&self) -> Vec<u64> {
        let largest = self.largest_level();
        self.levels.iter().map(|level| percent(level.bytes, largest)).collect()
    }

    fn largest_level(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes).max().unwrap_or(0)
    }
}

/// Figures of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DbStats {
    /// By tree, sorted by name.
    pub trees: Vec<TreeStats>,
    /// The log.
    pub wal: WalStats,
    /// The block cache.
    pub cache: CacheStats,
    /// Bytes of all memtables.
    pub memtable_bytes: u64,
    /// Snapshots held.
    pub snapshots: u64,
    /// Flushes under way.
    pub running_flushes: u64,
    /// Compactions under way, of all trees.
    pub running_compactions: u64,
    /// Memtables that wait for their flush, of all trees.
    pub queued_flushes: u64,
    /// Bytes that compactions are behind, of all trees: an estimate, as of the last look for work.
    pub pending_compaction_bytes: u64,
    /// How far writers are held up now: 0 not at all, 1000 they wait.
    pub stall_permille: u64,
    /// Nanoseconds that delayed batches were made to wait, since it was opened.
    pub slowdown_nanos: u64,
    /// Batches that were delayed.
    pub slowdowns: u64,
    /// Batches that had to wait for a flush or compaction.
    pub stops: u64,
    /// Bytes a second that flushes and compactions may write at the moment; 0: no limit.
    pub rate_limit: u64,
    /// Flushes and compactions that failed (and are tried again).
    pub job_failures: u64,
    /// What the last job said, if it failed.
    pub last_job_failure: Option<String>,
}

fn of_tree(core: &Core, tree: &Tree) -> TreeStats {
    let running = core.jobs.compactions(tree.id()) as u64;
    let view = tree.view();
    let counters = tree.counters();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let blobs = view.version.blobs();
    let in_memory: usize =
        view.sealed.iter().chain([&view.active]).map(|memtable| memtable.entries()).sum();
    let in_tables: u64 = view.version.tables().map(|table| table.record.entries).sum();
    let level = |(tables, counters): (&Vec<_>, &LevelCounters)| {
        let tables: &Vec<std::sync::Arc<crate::table::reader::Table>> = tables;
        LevelStats {
            tables: tables.len() as u64,
            bytes: tables.iter().map(|table| table.record.bytes).sum(),
            entered_bytes: load(&counters.entered),
            read_bytes: load(&counters.read),
            written_bytes: load(&counters.written),
            moved_bytes: load(&counters.moved),
        }
    };
    TreeStats {
        name: tree.name().to_owned(),
        memtable_bytes: view.active.bytes() as u64,
        sealed_memtables: view.sealed.len() as u64,
        sealed_bytes: view.sealed.iter().map(|memtable| memtable.bytes() as u64).sum(),
        levels: view.version.levels().iter().zip(&counters.levels).map(level).collect(),
        blobs: blobs.len() as u64,
        blob_bytes: blobs.values().map(|used| used.file.record.bytes).sum(),
        blob_live_bytes: blobs.values().map(|used| used.live).sum(),
        approximate_entries: in_memory as u64 + in_tables,
        pinned_bytes: view.version.tables().map(|table| table.pinned_bytes()).sum(),
        flushes: load(&counters.flushes),
        flushed_bytes: load(&counters.flushed_bytes),
        ingested_bytes: load(&counters.ingested_bytes),
        compactions: load(&counters.compactions),
        moves: load(&counters.moves),
        drops: load(&counters.drops),
        running_compactions: running,
        pending_compaction_bytes: load(&counters.pending_bytes),
        compaction_read_bytes: load(&counters.compaction_read),
        compaction_written_bytes: load(&counters.compaction_written),
    }
}

pub(crate) fn of(core: &Core) -> DbStats {
    let trees: Vec<Tree> = core.trees.read().values().cloned().collect();
    let (running_flushes, running_compactions) = core.jobs.running();
    let stats: Vec<TreeStats> = trees.iter().map(|tree| of_tree(core, tree)).collect();
    DbStats {
        running_flushes,
        running_compactions,
        queued_flushes: stats.iter().map(|tree| tree.sealed_memtables).sum(),
        pending_compaction_bytes: stats.iter().map(|tree| tree.pending_compaction_bytes).sum(),
        stall_permille: core.stall_permille(&trees),
        slowdown_nanos: core.jobs.slowdown_nanos.load(Ordering::Relaxed),
        trees: stats,
        wal: core.log.stats(),
        cache: core.cache.stats(),
        memtable_bytes: core.shared.supply.allocated() as u64,
        snapshots: core.shared.snapshots.len() as u64,
        slowdowns: core.jobs.slowdowns.load(Ordering::Relaxed),
        stops: core.jobs.stops.load(Ordering::Relaxed),
        rate_limit: core.limiter.rate(),
        job_failures: core.jobs.failures.load(Ordering::Relaxed),
        last_job_failure: core.jobs.last_failure().map(|cause| cause.to_string()),
    }
}
