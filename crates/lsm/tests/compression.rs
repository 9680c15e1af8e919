//! The bottom of a tree is compressed in its own way, however data gets there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{DIR, config};
use meridian_lsm::inspect;
use meridian_lsm::{Compaction, Compression, Db, DbOptions, Tiers, TreeConfig, WriteBatch};
use meridian_vfs::{Fs, MemFs};

const ROWS: u32 = 12_000;

fn row(n: u32) -> String {
    let mixed = n.wrapping_mul(2_654_435_761);
    format!(
        "{{\"name\": \"{mixed:x}\", \"population\": {}, \"zone\": {}}}",
        mixed % 9999,
        mixed % 7
    )
}

/// Bytes of all tables of a tree that was filled in some rounds, each with a share of the rows; and
/// how many were moved and not written.
fn bytes(tree: TreeConfig, in_order: bool) -> (u64, u64) {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let options = DbOptions { table_bytes: 64 << 10, ..DbOptions::default() };
    let (db, _) = Db::open(disk, Path::new(DIR), options, vec![tree]).unwrap();
    let tree = db.tree("t").unwrap();
    for round in 0..8 {
        for n in 0..ROWS {
            let is_mine = if in_order { n / (ROWS / 8) == round } else { n % 8 == round };
            if is_mine {
                let mut batch = WriteBatch::new();
                batch.put(&tree, format!("{n:08}"), row(n));
                db.write(batch).unwrap();
            }
        }
        db.flush().unwrap();
        while db.poll_job().unwrap() {}
    }
    for n in 0..ROWS {
        let found = tree.get_latest(format!("{n:08}").as_bytes()).unwrap();
        assert_eq!(found.unwrap(), row(n).as_bytes());
    }
    db.verify().unwrap();
    let stats = db.stats().trees.remove(0);
    (stats.levels.iter().map(|level| level.bytes).sum(), stats.moves)
}

#[test]
fn the_bottom_has_its_own_compression() {
    let tiers = Tiers { min_runs: 4, ..Tiers::default() };
    let leveled = Compaction::Leveled { l0_files: 2, l1_bytes: 1 << 20, factor: 10 };
    for (compaction, in_order) in
        [(leveled, true), (leveled, false), (Compaction::SizeTiered(tiers), false)]
    {
        let compression = Compression::None;
        let plain = TreeConfig { compaction, compression, ..config("t") };
        let (without, moves) = bytes(plain.clone(), in_order);
        assert!(without > 600_000 && (moves > 0) == in_order, "{without} {moves}");
        for bottom in [Compression::Zstd(3), Compression::ZstdTrained(3), Compression::Snappy] {
            let config = TreeConfig { bottom_compression: Some(bottom), ..plain.clone() };
            let (with, moves) = bytes(config, in_order);
            assert!(
                with < without * 8 / 10 && moves == 0,
                "{compaction:?} {bottom:?}: {with} {without}"
            );
        }
    }
}

#[test]
fn what_is_not_the_bottom_is_compressed_as_before() {
    let compaction = Compaction::SizeTiered(Tiers { min_runs: 20, ..Tiers::default() });
    let plain = TreeConfig { compaction, compression: Compression::None, ..config("t") };
    let bottom_compression = Some(Compression::Zstd(3));
    let config = TreeConfig { bottom_compression, ..plain.clone() };
    // Nothing is merged.
    assert_eq!(bytes(config, false), bytes(plain, false));
}

/// A database on a disk of its own, with tables of 64 KiB.
fn open(tree: TreeConfig) -> (MemFs, Db) {
    let disk = MemFs::new();
    let options = DbOptions { table_bytes: 64 << 10, ..DbOptions::default() };
    let (db, _) = Db::open(Arc::new(disk.clone()), Path::new(DIR), options, vec![tree]).unwrap();
    (disk, db)
}

/// Puts every `step`th row from the first one on, and flushes.
fn fill(db: &Db, first: u32, step: usize) {
    let tree = db.tree("t").unwrap();
    let mut batch = WriteBatch::new();
    for n in (first..ROWS).step_by(step) {
        batch.put(&tree, format!("{n:08}"), row(n));
    }
    db.write(batch).unwrap();
    db.flush().unwrap();
}

/// Level, newest write and bytes for each version of all tables. A row is about 60 bytes, and a
/// quarter of that behind zstd.
fn tables(disk: &MemFs) -> Vec<(u8, u64, u64)> {
    let tree = inspect::manifest(disk, Path::new(DIR)).unwrap().trees.remove(0);
    let of =
        |table: &inspect::TableInfo| (table.level, table.max_seqno, table.bytes / table.entries);
    tree.tables.iter().map(of).collect()
}

const PLAIN: std::ops::Range<u64> = 50..120;
const SMALL: std::ops::Range<u64> = 10..40;

fn with_bottom(compaction: Compaction) -> TreeConfig {
    let bottom_compression = Some(Compression::Zstd(3));
    TreeConfig { compaction, compression: Compression::None, bottom_compression, ..config("t") }
}

#[test]
fn a_level_with_another_one_below_is_compressed_as_before() {
    let leveled = Compaction::Leveled { l0_files: 2, l1_bytes: 100 << 10, factor: 3 };
    let (disk, db) = open(with_bottom(leveled));
    for round in 0..24 {
        fill(&db, round % 12, 12);
        while db.poll_job().unwrap() {}
    }
    let found = tables(&disk);
    let deepest = found.iter().map(|(level, ..)| *level).max().unwrap();
    let above = found.iter().filter(|(level, ..)| (1..deepest).contains(level)).count();
    assert!(above > 0, "{found:?}");
    for (level, _, bytes) in &found {
        let wanted = if *level == deepest { SMALL } else { PLAIN };
        assert!(wanted.contains(bytes), "{level} of {deepest}: {bytes} in {found:?}");
    }
}

#[test]
fn a_run_with_an_older_one_beneath_is_compressed_as_before() {
    let tiers = Tiers { min_runs: 4, small_bytes: 1 << 10, ..Tiers::default() };
    // Four large runs become the bottom; a single one stays where it is, in level 0.
    for large in [4, 1] {
        let (disk, db) = open(with_bottom(Compaction::SizeTiered(tiers)));
        (0..large).for_each(|round| fill(&db, round, 4));
        while db.poll_job().unwrap() {}
        (0..4).for_each(|round| fill(&db, round, 40));
        while db.poll_job().unwrap() {}
        assert_eq!(db.stats().trees[0].compactions, u64::from(large / 4) + 1);
        let mut found = tables(&disk);
        found.sort_by_key(|(_, newest, _)| *newest);
        let (_, _, top) = found.pop().unwrap();
        assert!(PLAIN.contains(&top) && !found.is_empty(), "{top} {found:?}");
        let wanted = if large == 4 { SMALL } else { PLAIN };
        assert!(found.iter().all(|(_, _, bottom)| wanted.contains(bottom)), "{found:?}");
    }
}

#[test]
fn what_is_ingested_into_an_empty_tree_is_its_bottom() {
    let (disk, db) = open(with_bottom(Compaction::default()));
    let ingest = |step: usize| {
        let rows = (0..ROWS).step_by(step).map(|n| (format!("{n:08}"), row(n)));
        db.ingest(&db.tree("t").unwrap(), rows).unwrap();
    };
    ingest(1);
    let found = tables(&disk);
    assert!(found.iter().all(|(_, _, bytes)| SMALL.contains(bytes)), "{found:?}");
    ingest(40);
    let newest = tables(&disk).into_iter().max_by_key(|(_, newest, _)| *newest).unwrap();
    assert!(PLAIN.contains(&newest.2) && tables(&disk).len() == found.len() + 1, "{newest:?}");
}
