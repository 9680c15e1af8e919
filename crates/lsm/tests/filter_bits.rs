//! Filters whose bits follow the sizes of the runs: fewer blocks read in vain, no more memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{config, open_with, small_options};
use meridian_lsm::{Compaction, DbOptions, TreeConfig, WriteBatch};
use meridian_vfs::{Fs, MemFs};

const ROWS: u32 = 24_000;

/// Bytes of filters and indexes, on the average over time, and blocks read for keys that are not there, of a tree with some
/// levels.
fn cost(bloom_by_run: bool) -> (u64, u64) {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let options = DbOptions { table_bytes: 32 << 10, ..small_options() };
    let (db, _) = open_with(&fs, options, &[]);
    let compaction = Compaction::Leveled { l0_files: 2, l1_bytes: 32 << 10, factor: 8 };
    let tree = TreeConfig {
        compaction,
        bloom_bits_per_key: 5,
        bloom_by_run,
        // All of it stays in memory.
        partition_bytes: usize::MAX,
        ..config("t")
    };
    let tree = db.create_tree(tree).unwrap();
    let mut bytes = 0;
    for part in 0..24 {
        let mut batch = WriteBatch::new();
        for row in (0..ROWS).filter(|row| row * 7 % 24 == part) {
            batch.put(&tree, format!("row-{row:06}"), row.to_string());
        }
        db.write(batch).unwrap();
        db.flush().unwrap();
        // The last one stays where it is.
        bytes += db.stats().trees[0].pinned_bytes;
        while part < 23 && db.poll_job().unwrap() {}
        bytes += db.stats().trees[0].pinned_bytes;
    }
    let levels = &db.stats().trees[0].levels;
    let used = levels.iter().filter(|level| level.tables > 0).count();
    assert!(used >= 3, "{levels:?}");
    for row in 0..ROWS {
        assert!(tree.get_latest(format!("row-{row:06}").as_bytes()).unwrap().is_some());
    }
    let asked = || db.stats().cache.hits + db.stats().cache.misses;
    let before = asked();
    for row in 0..ROWS {
        assert_eq!(tree.get_latest(format!("row-{row:06}?").as_bytes()).unwrap(), None);
    }
    (bytes / 48, asked() - before)
}

#[test]
fn fewer_blocks_are_read_in_vain_with_the_same_memory() {
    let (same_bytes, same_reads) = cost(false);
    let (bytes, reads) = cost(true);
    assert!(bytes <= same_bytes + same_bytes / 20, "{bytes} bytes, not {same_bytes}");
    assert!(reads * 10 < same_reads * 9, "{reads} reads, not {same_reads}");
}
