//! Large compactions in parts, by several threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{DIR, small, small_options};
use meridian_lsm::{Compaction, Compression, Db, Tiers, TreeConfig, Workers, WriteBatch};
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn filled(disk: &Arc<dyn Fs>) -> (Db, Rows) {
    filled_as(disk, small("a", Compression::None))
}

fn filled_as(disk: &Arc<dyn Fs>, config: TreeConfig) -> (Db, Rows) {
    let trees = vec![config];
    let (db, _) = Db::open(disk.clone(), Path::new(DIR), small_options(), trees).unwrap();
    let tree = db.tree("a").unwrap();
    let mut rows = Rows::new();
    for number in 0..2000u32 {
        let key = (number.wrapping_mul(2_654_435_761) % 700).to_be_bytes().to_vec();
        let value = number.to_string().into_bytes();
        let mut batch = WriteBatch::new();
        if number % 5 == 0 {
            batch.delete(&tree, &key);
            rows.remove(&key);
        } else {
            batch.put(&tree, &key, &value);
            rows.insert(key, value);
        }
        db.write(batch).unwrap();
        if number % 250 == 0 {
            db.flush().unwrap();
        }
    }
    db.flush().unwrap();
    (db, rows)
}

fn rows(db: &Db) -> Rows {
    let everything = (Bound::Unbounded, Bound::<Bytes>::Unbounded);
    let found = db.tree("a").unwrap().scan(everything, &db.snapshot()).map(|found| {
        let (key, value) = found.unwrap();
        (key.to_vec(), value.to_vec())
    });
    found.collect()
}

fn entries(db: &Db) -> u64 {
    db.stats().trees[0].approximate_entries
}

#[test]
fn parts_of_several_threads_make_one_compaction() {
    for threads in [0, 1, 3] {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let (db, expected) = filled(&disk);
        let workers = (threads > 0).then(|| Workers::start(&db, threads).unwrap());
        db.compact("a").unwrap();
        assert_eq!(rows(&db), expected);
        assert_eq!(entries(&db), expected.len() as u64);
        drop(workers);
        db.verify().unwrap();
    }
}

#[test]
fn a_part_that_fails_takes_back_the_others() {
    for nth in 1..40 {
        let faults = FaultFs::new(Arc::new(MemFs::new()));
        let disk: Arc<dyn Fs> = Arc::new(faults.clone());
        let (db, expected) = filled(&disk);
        faults.inject(FaultRule {
            op: Op::Append,
            path: ".sst".into(),
            nth,
            sticky: false,
            fault: Fault::Error(ErrorKind::Other),
        });
        let failed = db.compact("a").is_err();
        faults.heal();
        assert_eq!(rows(&db), expected);
        while db.poll_job().unwrap() {}
        assert_eq!(rows(&db), expected);
        let files = disk.list(Path::new(DIR)).unwrap();
        let tables = files.iter().filter(|name| name.extension().is_some_and(|e| e == "sst"));
        let known = db.stats().trees[0].levels.iter().map(|level| level.tables).sum::<u64>();
        assert_eq!(tables.count() as u64, known, "nothing half made is left");
        db.compact("a").unwrap();
        assert_eq!(entries(&db), expected.len() as u64);
        assert!(failed || nth > 5, "{nth}");
    }
}

#[test]
fn a_size_tiered_merge_has_parts() {
    for threads in [0, 3] {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let compaction = Compaction::SizeTiered(Tiers { min_runs: 4, ..Tiers::default() });
        let config = TreeConfig { compaction, ..small("a", Compression::None) };
        let (db, expected) = filled_as(&disk, config);
        let workers = (threads > 0).then(|| Workers::start(&db, threads).unwrap());
        while db.poll_job().unwrap() || db.stats().running_compactions > 0 {}
        drop(workers);
        let levels = db.stats().trees.remove(0).levels;
        assert!(levels[0].tables < 4 && levels[6].tables > 4, "{levels:?}");
        assert_eq!(rows(&db), expected);
        db.verify().unwrap();
    }
}
