//! The statistics add up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{DIR, small, small_options, strategies};
use meridian_lsm::{
    Blobs, Compaction, Compression, Db, DbOptions, Tiers, Tree, TreeConfig, TreeStats, WriteBatch,
};
use meridian_vfs::{Fs, MemFs};

#[test]
fn what_enters_a_level_and_what_is_written_adds_up() {
    let tiers = Tiers { min_runs: 2, small_bytes: 300, ..Tiers::default() };
    for compaction in [
        Compaction::Leveled { l0_files: 2, l1_bytes: 2 << 10, factor: 2 },
        Compaction::SizeTiered(tiers),
        Compaction::Hybrid { tiers, run_bytes: 1 << 10, factor: 2 },
    ] {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let config = TreeConfig { compaction, ..small("a", Compression::None) };
        let (db, _) = Db::open(disk, Path::new(DIR), small_options(), vec![config]).unwrap();
        let tree = db.tree("a").unwrap();
        for round in 0..40u32 {
            for key in 0..20u32 {
                let mut batch = WriteBatch::new();
                batch.put(&tree, (key * 7919 % 400 + round).to_be_bytes(), [7; 30]);
                db.write(batch).unwrap();
            }
            db.flush().unwrap();
            while db.poll_job().unwrap() {}
        }
        let stats = db.stats();
        let tree = &stats.trees[0];
        let sum =
            |of: fn(&meridian_lsm::LevelStats) -> u64| tree.levels.iter().map(of).sum::<u64>();
        let written = tree.flushed_bytes + tree.compaction_written_bytes;
        assert_eq!(sum(|level| level.written_bytes), written);
        assert_eq!(sum(|level| level.read_bytes), tree.compaction_read_bytes);
        assert_eq!(tree.levels[0].entered_bytes, tree.flushed_bytes);
        assert_eq!(tree.write_amplification_percent(), written * 100 / tree.flushed_bytes);
        assert!(tree.write_amplification_percent() > 100, "{compaction:?}");
        assert!(tree.space_amplification_percent() >= 100);
        let entered = tree.levels[1..].iter().map(|level| level.entered_bytes);
        assert!(entered.sum::<u64>() > 0, "{compaction:?}");
        assert_eq!((stats.running_flushes, stats.running_compactions), (0, 0));
        assert_eq!((stats.queued_flushes, stats.pending_compaction_bytes), (0, 0));
        assert_eq!(stats.stall_permille, 0);
    }
}

fn put(db: &Db, tree: &Tree, keys: std::ops::Range<u32>, value: &[u8]) {
    let mut batch = WriteBatch::new();
    keys.for_each(|key| batch.put(tree, key.to_be_bytes(), value));
    db.write(batch).unwrap();
}

fn idle(db: &Db) {
    while db.poll_job().unwrap() {}
}

fn stats(db: &Db) -> TreeStats {
    db.stats().trees.remove(0)
}

fn on_disk(disk: &Arc<dyn Fs>, end: &str) -> u64 {
    let names = disk.list(Path::new(DIR)).unwrap();
    let of_kind = names.iter().filter(|name| name.extension().is_some_and(|e| e == end));
    of_kind.map(|name| disk.open(&Path::new(DIR).join(name)).unwrap().len().unwrap()).sum()
}

/// A noise that nothing compresses.
fn value(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56).to_le_bytes()[0]
    };
    (0..len).map(|_at| next()).collect()
}

#[test]
fn figures_are_those_of_the_files() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let blobs = Blobs { threshold: 100, garbage_percent: 101, oldest_percent: 100 };
    let config = TreeConfig { blobs: Some(blobs), ..small("a", Compression::None) };
    let options = DbOptions { table_bytes: 64 << 10, ..small_options() };
    let open = || Db::open(disk.clone(), Path::new(DIR), options.clone(), vec![config.clone()]);
    let (db, _) = open().unwrap();
    let tree = db.tree("a").unwrap();
    let rows = (0..50u32).map(|key| (key.to_be_bytes(), value(if key < 25 { 20 } else { 200 })));
    let ingested = db.ingest(&tree, rows).unwrap();
    let files = || on_disk(&disk, "sst") + on_disk(&disk, "blob");
    let now = stats(&db);
    assert!(ingested.bytes < now.ingested_bytes, "the values apart as well");
    assert_eq!((now.ingested_bytes, now.write_amplification_percent()), (files(), 100));
    assert_eq!(now.levels.iter().map(|level| level.entered_bytes).sum::<u64>(), files());
    for round in 0..6 {
        put(&db, &tree, 0..25, &value(20 + round as usize));
        put(&db, &tree, 25 + round..50, &value(300));
        db.flush().unwrap();
        idle(&db);
        let now = stats(&db);
        let tables: u64 = now.levels.iter().map(|level| level.bytes).sum();
        assert_eq!((tables, now.blob_bytes), (on_disk(&disk, "sst"), on_disk(&disk, "blob")));
        let by_level: u64 = now.space_by_level_percent().iter().sum();
        let largest = now.levels.iter().map(|level| level.bytes).max().unwrap();
        assert!(by_level <= tables * 100 / largest && by_level + 7 > tables * 100 / largest);
    }
    db.compact("a").unwrap();
    idle(&db);
    // One level, and what nobody collects.
    let now = stats(&db);
    assert_eq!(now.space_by_level_percent().iter().sum::<u64>(), 100);
    let live = on_disk(&disk, "sst") + now.blob_live_bytes;
    assert_eq!(now.space_amplification_percent(), files() * 100 / live);
    assert!(now.space_amplification_percent() > 200, "{now:?}");
    drop((db, tree));
    // Whatever is written anew: nothing has come in since it was opened.
    let (db, _) = open().unwrap();
    db.compact("a").unwrap();
    let now = stats(&db);
    assert!(now.compaction_written_bytes > 0);
    assert_eq!(now.write_amplification_percent(), 0);
    assert!(now.levels.iter().all(|level| level.write_amplification_percent() <= 100), "{now:?}");
}

#[test]
fn trees_have_their_turns() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let compaction = strategies()[1];
    let tree = |name| TreeConfig { compaction, ..small(name, Compression::None) };
    let configs = ["a", "b", "c"].map(tree).to_vec();
    let (db, _) = Db::open(disk, Path::new(DIR), small_options(), configs).unwrap();
    for round in 0..8 {
        for name in ["a", "b", "c"] {
            put(&db, &db.tree(name).unwrap(), round * 50..round * 50 + 100, &value(40));
        }
        db.flush().unwrap();
    }
    let done = || -> Vec<u64> {
        db.stats().trees.iter().map(|tree| tree.compactions + tree.moves).collect()
    };
    let mut before = done();
    assert_eq!(before, [0; 3]);
    for _ in 0..2 {
        // Between them what they leave behind is removed, which is no turn.
        let three = before.iter().sum::<u64>() + 3;
        while done().iter().sum::<u64>() < three {
            assert!(db.poll_job().unwrap());
        }
        let now = done();
        // All of them have had theirs.
        assert!(now.iter().zip(&before).all(|(now, before)| now > before), "{before:?} {now:?}");
        before = now;
    }
}
