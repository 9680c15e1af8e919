//! Every setting: its unit, default, and why. Worst-case memory of a database is
//! `memtable_total_bytes` plus one batch for each writing thread, `block_cache_bytes` (or the
//! filters and indexes, about 1.7 bytes a key, and an eighth of it, where that is more), and
//! [`WAL_BUFFER_BYTES`] twice.

use std::sync::Arc;
use std::time::Duration;

/// Longest key, in bytes: lengths stay small enough that a block always holds several keys.
pub const MAX_KEY_BYTES: usize = 64 << 10;
/// Longest value, in bytes: a value is one piece in every format.
pub const MAX_VALUE_BYTES: usize = 64 << 20;
/// Largest batch, in bytes: it becomes one piece of one WAL chunk.
pub const MAX_BATCH_BYTES: usize = 256 << 20;
/// Most trees of one database: each costs some kilobytes of memory and a file or more.
pub const MAX_TREES: usize = 4096;
/// Writers wait when this many bytes are on their way to the WAL file: about what a disk takes in
/// a tenth of a second.
pub const WAL_BUFFER_BYTES: usize = 32 << 20;
/// A WAL segment of this size ends when a memtable is sealed: once that is flushed, the disk need
/// not keep, and the next opening need not read, what is in tables.
pub const WAL_SEGMENT_SEALED_BYTES: u64 = 64 << 20;
/// A memtable that holds a WAL segment this many segments old is flushed, so that idle trees do
/// not keep old segments: bounds the log and the replay.
pub const WAL_SEGMENTS_KEPT: u64 = 2;
/// Sealed memtables of a tree from which writers are slowed down.
pub const SEALED_SLOWDOWN: usize = 3;
/// Sealed memtables of a tree at which writers stop.
pub const SEALED_STOP: usize = 6;
/// Level-0 tables, as a multiple of the compaction trigger, from which writers are slowed down.
pub const L0_SLOWDOWN_FACTOR: usize = 4;
/// Level-0 tables, as a multiple of the compaction trigger, at which writers stop.
pub const L0_STOP_FACTOR: usize = 8;
/// Merge operands on top of each other in a memtable after which a writer collapses them, so that
/// a read of a hot key never merges more.
pub const MAX_OPERAND_CHAIN: u32 = 32;
/// Bytes that compactions of a tree are behind, from which writers are slowed down: the disk is
/// filling with what will be merged away.
pub const PENDING_SLOWDOWN_BYTES: u64 = 64 << 30;
/// Bytes that compactions of a tree are behind, at which writers stop.
pub const PENDING_STOP_BYTES: u64 = 256 << 30;
/// Runs of a tree with tiers, beyond which the cheapest neighbours are merged whatever their
/// sizes: bounds the tables that a read looks into.
pub const MAX_RUNS: usize = 32;
/// Share of a table's entries, in percent, that has to have expired before the table is rewritten
/// for that reason alone.
pub const EXPIRED_SHARE_PERCENT: u64 = 50;
/// Size of a blob file, in tables' sizes ([`DbOptions::table_bytes`]): with the default 256 MiB, few
/// files even of a terabyte, and the smallest unit of collection is a second's writing.
pub const BLOB_FILE_TABLES: u64 = 4;
/// Levels of a tree, level 0 included: with the default sizes the last one begins at 1 PB.
pub const LEVELS: usize = 7;

/// When a write is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Written to the operating system at once, synced after `interval` or `writes` batches,
    /// whichever is first. A killed process loses next to nothing, a power cut at most that.
    Every {
        /// Longest time between a write and its sync (kept by the WAL thread).
        interval: Duration,
        /// Most batches between two syncs.
        writes: u32,
    },
    /// [`crate::Db::wait`] returns after the sync; concurrent writers share one.
    Always,
    /// Written to the operating system at once; it decides when to sync.
    Os,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        Self::Every { interval: Duration::from_millis(100), writes: 1000 }
    }
}

/// What opening does when something that was durable cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDamage {
    /// Fails with [`crate::Error::Corruption`] and changes nothing.
    #[default]
    Refuse,
    /// Opens with everything of the log that can be read and says in [`crate::Recovery::lost`] what
    /// cannot: for callers that can get it from somewhere else. A damaged table is refused.
    OpenAndReport,
    /// As [`Self::OpenAndReport`], and without the tables that cannot be opened, which
    /// [`crate::Recovery::lost_tables`] names. Both are told by every opening until
    /// [`crate::Db::forget_lost`]. A damaged manifest is refused.
    OpenWithoutTables,
}

/// How fast flushes and compactions write, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateLimit {
    /// As fast as they can.
    #[default]
    None,
    /// Bytes a second, at least 1 MiB. Flushes count, but are never held: writers wait for them.
    BytesPerSecond(u64),
    /// As fast as they can while readers find what they need in memory; while those read from the
    /// disk, from 64 MiB/s down to 8 MiB/s; from half way on to where writers would be slowed down,
    /// faster and faster again.
    Auto,
}

/// The settings of a database.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// When a write is durable. Default: every 100 ms or 1000 batches.
    pub sync: SyncPolicy,
    /// Bytes of uncompressed blocks, indexes and filters kept in memory, all trees together. The
    /// indexes and filters of small tables stay, and those of large ones (see
    /// [`TreeConfig::partition_bytes`]) up to a quarter of this; blocks, and partitions beyond that,
    /// have the rest, an eighth at least. Default 32 MiB: a node of a development cluster stays small;
    /// give a server a third of its memory.
    pub block_cache_bytes: u64,
    /// Bytes of all memtables, active and sealed; beyond it the largest active one is sealed.
    /// Default 256 MiB: four full ones.
    pub memtable_total_bytes: usize,
    /// Bytes after which a new WAL segment begins. Default 1 GiB.
    pub wal_segment_bytes: u64,
    /// Age after which a WAL segment with data is followed by a new one (kept by the WAL thread).
    /// Default 10 min.
    pub wal_segment_age: Duration,
    /// Bytes at which a compaction begins its next table. Default 64 MiB: small enough to move
    /// one at a time, large enough that a terabyte is 16,000 files.
    pub table_bytes: u64,
    /// Default [`OnDamage::Refuse`]: nothing that was durable is given up without being asked.
    pub on_damage: OnDamage,
    /// Parts of a large compaction that may be written at once, by as many threads. Default 4; 1: no
    /// parts. A part has at least `table_bytes`.
    pub subcompactions: usize,
    /// How fast flushes and compactions write. Default: no limit.
    pub rate_limit: RateLimit,
    /// Whether [`crate::Db::close`] writes every memtable to a table: closing takes longer by what
    /// that takes, and the next opening has no log to read. Default: yes.
    pub flush_on_close: bool,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::default(),
            block_cache_bytes: 32 << 20,
            memtable_total_bytes: 256 << 20,
            wal_segment_bytes: 1 << 30,
            wal_segment_age: Duration::from_secs(600),
            table_bytes: 64 << 20,
            on_damage: OnDamage::default(),
            subcompactions: 4,
            rate_limit: RateLimit::default(),
            flush_on_close: true,
        }
    }
}

/// How the blocks of a tree are compressed. A block that does not shrink is stored as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: the default, a fraction of a microsecond for a block.
    #[default]
    Lz4,
    /// Snappy.
    Snappy,
    /// zstd at this level: for cold data.
    Zstd(i32),
    /// zstd at this level with a dictionary for each table, trained from its first mebibyte: for
    /// cold data in small blocks. Costs about three times the dictionary's 16 KiB in memory for each
    /// open table. A table of less than 16 KiB has none; neither has a blob file.
    ZstdTrained(i32),
}

/// Values of a tree that lie apart from their keys, in blob files: compactions move references to
/// them instead of their bytes. A scan pays for that with a read for each such value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blobs {
    /// Values of at least so many bytes lie apart. Default 4 KiB: below that the read that it costs
    /// to get one is dearer than the bytes that compactions save.
    pub threshold: usize,
    /// Share of a blob file, in percent, that has to be garbage before compactions write the rest of
    /// it anew. Default 50: at most twice the space for at most twice the writing. Above 100: never.
    pub garbage_percent: u8,
    /// Share of the blob files, in percent and from the oldest on, that are collected at all: what
    /// is in young ones may become garbage yet. Default 100: all.
    pub oldest_percent: u8,
}

impl Default for Blobs {
    fn default() -> Self {
        Self { threshold: 4 << 10, garbage_percent: 50, oldest_percent: 100 }
    }
}

/// How size-tiered compaction finds tables of about one size. Defaults are those of Cassandra's
/// `SizeTieredCompactionStrategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// Runs of about one size that start a compaction. Default 4.
    pub min_runs: usize,
    /// Most runs merged at once. Default 32.
    pub max_runs: usize,
    /// A run belongs to a tier when it has at least this share of the tier's average size, in
    /// percent. Default 50.
    pub low_percent: u64,
    /// And at most this share. Default 150.
    pub high_percent: u64,
    /// Runs below this many bytes are all of one size. Default 50 MiB.
    pub small_bytes: u64,
}

impl Default for Tiers {
    fn default() -> Self {
        Self {
            min_runs: 4,
            max_runs: 32,
            low_percent: 50,
            high_percent: 150,
            small_bytes: 50 << 20,
        }
    }
}

/// How the tables of a tree are merged. May be changed at any time: files stay valid under every
/// strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// Levels that do not overlap, each `factor` times the one above (O'Neil 1996, LevelDB). The
    /// last level takes what it gets, and the targets follow from it upwards, so that only a small
    /// share of the data is ever above it: least space, fewest tables a read, most writing.
    Leveled {
        /// Level-0 tables that start a compaction.
        l0_files: usize,
        /// Most bytes of the first level in use; level 0 goes there.
        l1_bytes: u64,
        /// How much larger each level is than the one above.
        factor: u64,
    },
    /// Sorted runs of about one size are merged into one: least writing, more space and tables a
    /// read.
    SizeTiered(Tiers),
    /// For data that is written in the order of time and expires: size-tiered among what was
    /// written in the present window, one run for each window that is over. A run in which
    /// everything has expired is dropped unread.
    TimeWindow {
        /// The span of a window, in milliseconds.
        window_ms: u64,
        /// The tiers inside the present window.
        tiers: Tiers,
    },
    /// Size-tiered at level 0, leveled below: between the two in everything.
    Hybrid {
        /// The tiers of level 0.
        tiers: Tiers,
        /// A level-0 run of this many bytes goes down; also the most bytes of the first level in
        /// use.
        run_bytes: u64,
        /// How much larger each level is than the one above.
        factor: u64,
    },
}

impl Default for Compaction {
    fn default() -> Self {
        Self::Leveled { l0_files: 4, l1_bytes: 10 << 20, factor: 10 }
    }
}

/// The merge operator refused its input.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct MergeError {
    /// Why; shown to whoever reads the key.
    pub reason: String,
}

/// Turns a base value and the operands written after it into one value. Must be deterministic:
/// the engine calls it when it likes, as often as it likes, and may keep what it returned.
pub trait MergeOperator: Send + Sync {
    /// Kept in the manifest: a tree is never opened with another operator.
    fn name(&self) -> &str;

    /// The value after `operands` (oldest first) were applied to `base`; `None` deletes the key.
    ///
    /// # Errors
    /// When an operand makes no sense; it stays stored, and readers of the key get the error.
    fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<Option<Vec<u8>>, MergeError>;

    /// One operand that does what `left` and then `right` do, if there is one.
    fn partial_merge(&self, _key: &[u8], _left: &[u8], _right: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// What a compaction filter wants done with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterDecision {
    /// Leave it.
    Keep,
    /// Delete the key.
    Remove,
    /// Store this instead.
    Replace(Vec<u8>),
}

/// Looks at every value that a flush or compaction writes and no snapshot sees, and may drop or
/// replace it: expiry, for instance. It must not matter to readers whether that happens: what it
/// drops is invisible to them already.
pub trait CompactionFilter: Send + Sync {
    /// Begins a pass over a range of keys, at a time in milliseconds since 1970 (0: nobody told the
    /// database the time). A large compaction is several passes, at once, over ranges that do
    /// not overlap.
    fn begin(&self, now_ms: u64) -> Box<dyn FilterPass + '_>;

    /// When a value ceases to matter, in milliseconds since 1970, if it ever does. A table of which
    /// much has expired is rewritten unasked; one in which everything has expired is removed
    /// without being read, once nothing older lies beneath it and no snapshot sees it.
    fn expiry_of(&self, _key: &[u8], _value: &[u8]) -> Option<u64> {
        None
    }

    /// Whether the value of `key` is looked at by [`CompactionFilter::expiry_of`] and
    /// [`FilterPass::decide`]. If not, they get an empty one where it lies in a blob file, and
    /// nobody has to read it.
    fn wants_value(&self, _key: &[u8]) -> bool {
        true
    }

    /// The key of the row whose value decides about `key`'s, if there is one. It is a prefix of
    /// `key`, and all keys with that prefix have the same.
    fn head_of<'k>(&self, _key: &'k [u8]) -> Option<&'k [u8]> {
        None
    }
}

/// One pass of a filter over keys in order.
pub trait FilterPass {
    /// The keys behind this one have `key` for their head; `value` is what readers saw of it at some
    /// moment before now, `None` where it was not there or that is not known any more. So what
    /// a head once said about its elements it has to say ever after, and without it they stay.
    /// Called before the first of them, wherever the head itself is stored: one read.
    fn head(&mut self, _key: &[u8], _value: Option<&[u8]>) {}

    /// What is done with the value of `key`. `bottom`: there is nothing older beneath it.
    fn decide(&mut self, key: &[u8], value: &[u8], bottom: bool) -> FilterDecision;
}

/// The settings of a tree.
#[derive(Clone)]
pub struct TreeConfig {
    /// Its name, unique in the database.
    pub name: String,
    /// What [`crate::WriteBatch::merge`] means in this tree.
    pub merge: Option<Arc<dyn MergeOperator>>,
    /// Bytes at which the active memtable is sealed. Default 64 MiB.
    pub memtable_bytes: usize,
    /// Default LZ4.
    pub compression: Compression,
    /// Another one for tables with nothing beneath them: most of the data, and the coldest. Default
    /// none: as `compression`.
    pub bottom_compression: Option<Compression>,
    /// Which values lie apart from their keys. Default none.
    pub blobs: Option<Blobs>,
    /// Uncompressed bytes of a data block, 1 KiB to 64 KiB. Default 8 KiB: half the index of
    /// 4 KiB blocks, and a point read still decompresses only microseconds' worth.
    pub block_bytes: usize,
    /// Filter bits for each key. Default 10: about one false answer in a hundred. 0: no filter.
    pub bloom_bits_per_key: u8,
    /// Whether small runs get more filter bits for each key and large ones fewer, `bloom_bits_per_key`
    /// on the average: for the least misses in all (Monkey, Dayan et al. 2017). Default true. Not
    /// kept in the manifest.
    pub bloom_by_run: bool,
    /// Bytes of a table's index or filter at which a partition of both ends. A table with more than
    /// one reads them as it reads blocks and keeps them while there is room, so that the memory
    /// that a database needs does not grow with it. Default 16 KiB: two blocks, so that whoever has to
    /// read one waits as for a row, and what stays for it is about a hundredth. Not kept in the
    /// manifest.
    pub partition_bytes: usize,
    /// Default leveled, 4 tables at level 0, 10 MiB at level 1, factor 10.
    pub compaction: Compaction,
    /// Default none.
    pub compaction_filter: Option<Arc<dyn CompactionFilter>>,
}

impl TreeConfig {
    /// The defaults for a tree of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            merge: None,
            memtable_bytes: 64 << 20,
            compression: Compression::default(),
            bottom_compression: None,
            blobs: None,
            block_bytes: 8 << 10,
            bloom_bits_per_key: 10,
            bloom_by_run: true,
            partition_bytes: 16 << 10,
            compaction: Compaction::default(),
            compaction_filter: None,
        }
    }

    /// The same with this merge operator.
    #[must_use]
    pub fn with_merge(mut self, operator: Arc<dyn MergeOperator>) -> Self {
        self.merge = Some(operator);
        self
    }

    pub(crate) fn merge_name(&self) -> &str {
        self.merge.as_ref().map_or("", |operator| operator.name())
    }
}

impl std::fmt::Debug for TreeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeConfig")
            .field("name", &self.name)
            .field("merge", &self.merge_name())
            .field("memtable_bytes", &self.memtable_bytes)
            .field("compression", &self.compression)
            .field("bottom_compression", &self.bottom_compression)
            .field("blobs", &self.blobs)
            .field("block_bytes", &self.block_bytes)
            .field("bloom_bits_per_key", &self.bloom_bits_per_key)
            .field("bloom_by_run", &self.bloom_by_run)
            .field("partition_bytes", &self.partition_bytes)
            .field("compaction", &self.compaction)
            .field("compaction_filter", &self.compaction_filter.is_some())
            .finish()
    }
}
