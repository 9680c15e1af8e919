//! Many keys at once are as each of them alone; and what a read need not touch it does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use common::oracle::{Write, batch, key, trees, write};
use common::{DIR, config, open, open_with, small_options, small_trees};
use meridian_lsm::{Compaction, Db, DbOptions, Tree, TreeConfig, WriteBatch};
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    Flush,
    Poll,
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(write(), 1..12).prop_map(Step::Write),
        2 => Just(Step::Flush),
        2 => Just(Step::Poll),
        1 => Just(Step::Snapshot),
    ]
}

proptest! {
    #[test]
    fn many_are_as_each_alone(
        steps in proptest::collection::vec(step(), 1..50),
        wanted in proptest::collection::vec(any::<u8>(), 0..40),
        cache in prop_oneof![Just(0), Just(4 << 10), Just(1 << 20)],
    ) {
        let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
        let options = DbOptions { block_cache_bytes: cache, ..small_options() };
        let (db, _) = Db::open(fs.clone(), Path::new(DIR), options, small_trees()).unwrap();
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Write(writes) => {
                    db.write(batch(&trees(&db), &writes)).unwrap();
                }
                Step::Flush => db.flush().unwrap(),
                Step::Poll => {
                    db.poll_job().unwrap();
                }
                Step::Snapshot => snapshots.push(db.snapshot()),
            }
        }
        // Some of them twice, some before, between and behind all that are there.
        let keys: Vec<Vec<u8>> = wanted
            .iter()
            .map(|number| match number % 8 {
                0 => vec![*number],
                1 => [key(*number), vec![0]].concat(),
                _ => key(*number),
            })
            .collect();
        snapshots.push(db.snapshot());
        for tree in trees(&db) {
            for at in &snapshots {
                // Before anything is in the cache.
                let together = tree.get_many(&keys, at).unwrap();
                let alone: Vec<_> = keys.iter().map(|key| tree.get(key, at).unwrap()).collect();
                prop_assert_eq!(together, alone);
            }
            let alone: Vec<_> = keys.iter().map(|key| tree.get_latest(key).unwrap()).collect();
            prop_assert_eq!(tree.get_many_latest(&keys).unwrap(), alone);
        }
    }
}

/// Blocks that a reader asked for while `read` ran.
fn blocks(db: &Db, read: impl FnOnce()) -> u64 {
    let asked = || {
        let cache = db.stats().cache;
        cache.hits + cache.misses
    };
    let before = asked();
    read();
    asked() - before
}

fn put(db: &Db, tree: &Tree, numbers: std::ops::Range<u32>, value: &str) {
    let mut batch = WriteBatch::new();
    for number in numbers {
        batch.put(tree, format!("row-{number:06}"), value);
    }
    db.write(batch).unwrap();
}

/// A tree in which nothing is merged unasked.
fn idle() -> TreeConfig {
    let compaction = Compaction::Leveled { l0_files: 100, l1_bytes: 10 << 20, factor: 10 };
    TreeConfig { compaction, block_bytes: 1 << 10, ..config("a") }
}

#[test]
fn neighbours_share_their_block() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, _) = open(&fs, &[]);
    let tree = db.create_tree(idle()).unwrap();
    put(&db, &tree, 0..1000, "a value of some twenty bytes");
    db.compact("a").unwrap();
    let keys: Vec<String> = (0..1000).rev().map(|number| format!("row-{number:06}")).collect();
    let at = db.snapshot();
    let alone = blocks(&db, || {
        keys.iter().for_each(|key| assert!(tree.get(key.as_bytes(), &at).unwrap().is_some()));
    });
    let together = blocks(&db, || {
        assert!(tree.get_many(&keys, &at).unwrap().iter().all(Option::is_some));
    });
    assert_eq!(alone, 1000);
    assert!((10..60).contains(&together), "{together} blocks for 1000 keys");
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let scanned = blocks(&db, || assert_eq!(tree.scan(everything, &at).count(), 1000));
    assert_eq!(scanned, together);
}

#[test]
fn an_overwritten_row_is_read_from_one_table() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, _) = open(&fs, &[]);
    let tree = db.create_tree(idle()).unwrap();
    let mut snapshots = Vec::new();
    for round in 0..6 {
        put(&db, &tree, 0..20, &format!("round {round}"));
        db.flush().unwrap();
        snapshots.push(db.snapshot());
    }
    for (round, at) in snapshots.iter().enumerate() {
        let read = || {
            let found = tree.get(b"row-000007", at).unwrap();
            assert_eq!(found.unwrap(), format!("round {round}"));
        };
        assert_eq!(blocks(&db, read), 1, "round {round}");
    }
    assert_eq!(blocks(&db, || assert!(tree.get_latest(b"row-000007").unwrap().is_some())), 1);
}

/// A table of some thirty blocks on a disk that counts, without a cache.
fn on_a_counting_disk() -> (FaultFs, Db, Tree) {
    let disk = FaultFs::new(Arc::new(MemFs::new()));
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = DbOptions { block_cache_bytes: 0, ..DbOptions::default() };
    let (db, _) = open_with(&fs, options, &[]);
    let tree = db.create_tree(idle()).unwrap();
    put(&db, &tree, 0..1000, "a value of some twenty bytes");
    db.compact("a").unwrap();
    (disk, db, tree)
}

fn rows(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|number| format!("row-{number:06}")).collect()
}

#[test]
fn blocks_near_each_other_come_with_one_read() {
    let (disk, _db, tree) = on_a_counting_disk();
    let reads = |keys: &[String]| {
        let before = disk.calls(Op::Read);
        assert!(tree.get_many_latest(keys).unwrap().iter().all(Option::is_some));
        disk.calls(Op::Read) - before
    };
    assert_eq!(reads(&rows(0..1000)), 1);
    assert_eq!(reads(&rows((0..1000).step_by(100))), 1);
    assert_eq!(reads(&rows(500..501)), 1);
    let alone: u64 = rows((0..1000).step_by(100)).chunks(1).map(reads).sum();
    assert_eq!(alone, 10);
}

#[test]
fn a_joined_read_that_fails_is_made_good_by_single_ones() {
    let (disk, _db, tree) = on_a_counting_disk();
    let keys = rows((0..1000).step_by(100));
    let fails = |sticky| FaultRule {
        op: Op::Read,
        path: ".sst".to_owned(),
        nth: 1,
        sticky,
        fault: Fault::Error(std::io::ErrorKind::Other),
    };
    disk.inject(fails(false));
    assert!(tree.get_many_latest(&keys).unwrap().iter().all(Option::is_some));
    disk.inject(fails(true));
    tree.get_many_latest(&keys).unwrap_err();
    disk.heal();
    disk.inject(FaultRule { fault: Fault::FlipBit(77_777), ..fails(false) });
    assert!(tree.get_many_latest(&keys).unwrap_err().is_corruption());
    assert!(tree.get_many_latest(&keys).unwrap().iter().all(Option::is_some));
}
