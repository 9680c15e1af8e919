//! What the integration tests share.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod oracle;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meridian_lsm::{
    Blobs, Compaction, Compression, Db, DbOptions, MergeError, MergeOperator, Recovery, SyncPolicy,
    Tiers, TreeConfig,
};
use meridian_vfs::Fs;

/// Appends operands with a comma: order and completeness show in the value.
pub struct Append;

impl MergeOperator for Append {
    fn name(&self) -> &str {
        "append"
    }

    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<Option<Vec<u8>>, MergeError> {
        let mut out = base.map(<[u8]>::to_vec).unwrap_or_default();
        for operand in operands {
            if operand == b"refuse" {
                return Err(MergeError { reason: "refused".to_owned() });
            }
            if operand == b"clear" {
                out.clear();
                continue;
            }
            out.extend_from_slice(operand);
            out.push(b',');
        }
        Ok((!out.is_empty()).then_some(out))
    }

    fn partial_merge(&self, _key: &[u8], left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
        if [left, right].iter().any(|part| *part == b"clear" || *part == b"refuse") {
            return None;
        }
        Some([left, b",", right].concat())
    }
}

pub fn config(name: &str) -> TreeConfig {
    TreeConfig::new(name).with_merge(Arc::new(Append))
}

pub const DIR: &str = "/db";

pub fn open_with(fs: &Arc<dyn Fs>, options: DbOptions, trees: &[&str]) -> (Db, Recovery) {
    let configs = trees.iter().map(|name| config(name)).collect();
    Db::open(fs.clone(), Path::new(DIR), options, configs).unwrap()
}

pub fn open(fs: &Arc<dyn Fs>, trees: &[&str]) -> (Db, Recovery) {
    open_with(fs, DbOptions { flush_on_close: false, ..DbOptions::default() }, trees)
}

/// Sizes so small that a few dozen writes fill several levels.
pub fn small(name: &str, compression: Compression) -> TreeConfig {
    TreeConfig { block_bytes: 1 << 10, compression, compaction: strategies()[0], ..config(name) }
}

/// Every strategy, each with sizes for a few dozen writes.
pub fn strategies() -> [Compaction; 4] {
    let tiers = Tiers { min_runs: 2, max_runs: 4, small_bytes: 300, ..Tiers::default() };
    [
        Compaction::Leveled { l0_files: 2, l1_bytes: 2 << 10, factor: 2 },
        Compaction::SizeTiered(tiers),
        Compaction::TimeWindow { window_ms: 100, tiers },
        Compaction::Hybrid { tiers, run_bytes: 1 << 10, factor: 2 },
    ]
}

/// Settings that a tree is switched to while it runs: every strategy, with several formats.
pub fn settings(name: &str, which: usize) -> TreeConfig {
    let base = small(name, Compression::Zstd(1));
    let [leveled, size_tiered, time_window, hybrid] = strategies();
    let large = Compaction::Leveled { l0_files: 6, l1_bytes: 64 << 10, factor: 10 };
    let strategies = [leveled, large, size_tiered, time_window, hybrid];
    let compaction = strategies[which % strategies.len()];
    let blobs = [None, Some(1), Some(20), Some(300)][which / 15 % 4]
        .map(|threshold| Blobs { threshold, ..Blobs::default() });
    let bottom_compression =
        [None, Some(Compression::ZstdTrained(3)), Some(Compression::Snappy)][which / 60 % 3];
    // Whole; a partition for each block; one for every few.
    let partition_bytes = [16 << 10, 0, 40][which / 180 % 3];
    let base = TreeConfig { blobs, bottom_compression, partition_bytes, ..base };
    match which / strategies.len() % 3 {
        0 => TreeConfig { compaction, ..base },
        1 => TreeConfig { compaction, bloom_bits_per_key: 0, block_bytes: 4 << 10, ..base },
        _ => TreeConfig { compaction, compression: Compression::Snappy, ..base },
    }
}

pub fn small_options() -> DbOptions {
    DbOptions {
        table_bytes: 1 << 10,
        wal_segment_bytes: 2 << 10,
        flush_on_close: false,
        ..DbOptions::default()
    }
}

/// Options that a database is opened with again: every sync policy, sizes, caches.
pub fn small_options_of(which: usize) -> DbOptions {
    let every = SyncPolicy::Every { interval: Duration::from_millis(100), writes: 3 };
    DbOptions {
        sync: [SyncPolicy::default(), SyncPolicy::Always, SyncPolicy::Os, every][which % 4],
        table_bytes: [1 << 10, 8 << 10][which / 4 % 2],
        wal_segment_bytes: [2 << 10, 1 << 20][which / 8 % 2],
        block_cache_bytes: [0, 4 << 10, 1 << 20][which / 16 % 3],
        subcompactions: [1, 3][which / 48 % 2],
        flush_on_close: which.is_multiple_of(3),
        ..small_options()
    }
}

/// Opens with other settings than before.
pub fn open_as(
    fs: &Arc<dyn Fs>,
    options: usize,
    trees: [usize; 2],
) -> Result<(Db, Recovery), meridian_lsm::Error> {
    let tree = |(name, which): (&str, usize)| TreeConfig {
        memtable_bytes: [64 << 10, 1 << 20][which / 60 % 2],
        ..settings(name, which)
    };
    let trees = oracle::TREES.into_iter().zip(trees).map(tree).collect();
    Db::open(fs.clone(), Path::new(DIR), small_options_of(options), trees)
}

/// The trees of [`open_small`]: one with values apart, one with a partition for each block.
pub fn small_trees() -> Vec<TreeConfig> {
    let blobs = Some(Blobs { threshold: 30, ..Blobs::default() });
    let a = TreeConfig { blobs, ..small("a", Compression::Lz4) };
    let b = TreeConfig { partition_bytes: 0, ..small("b", Compression::None) };
    vec![a, b]
}

pub fn open_small(fs: &Arc<dyn Fs>) -> Result<(Db, Recovery), meridian_lsm::Error> {
    open_small_in(fs, DIR)
}

pub fn open_small_in(fs: &Arc<dyn Fs>, dir: &str) -> Result<(Db, Recovery), meridian_lsm::Error> {
    Db::open(fs.clone(), Path::new(dir), small_options(), small_trees())
}
