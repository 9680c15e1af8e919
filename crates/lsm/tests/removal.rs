//! Files that nobody needs leave the disk while there is always something else to do: a fill whose
//! compactions never end must not keep all their inputs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use common::{DIR, small_options};
use meridian_lsm::{Db, DbOptions, TreeConfig, WriteBatch};
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op};

const MEMTABLE: usize = 64 << 10;
/// Below the number at which writers wait for flushes.
const SEALED: usize = 4;

fn open(fs: &Arc<dyn Fs>) -> Db {
    let tree = TreeConfig { memtable_bytes: MEMTABLE, ..TreeConfig::new("t") };
    let options = DbOptions { wal_segment_bytes: 1 << 20, ..small_options() };
    Db::open(fs.clone(), Path::new(DIR), options, vec![tree]).unwrap().0
}

/// As many tables in level 0 as make a compaction due, and nothing else done.
fn make_a_compaction_due(db: &Db, round: u32) {
    let tree = db.tree("t").unwrap();
    let flushes = db.stats().trees[0].flushes;
    let mut row = 0_u32;
    while db.stats().trees[0].sealed_memtables < SEALED as u64 {
        let mut batch = WriteBatch::new();
        // Values that no compression makes small.
        let number = |at: u32| row.wrapping_mul(31) ^ at.wrapping_mul(0x9e37_79b1) ^ round;
        let noise: Vec<u8> = (0..32).flat_map(|at| number(at).to_le_bytes()).collect();
        batch.put(&tree, (row % 500).to_be_bytes(), noise);
        db.write(batch).unwrap();
        row += 1;
    }
    while db.stats().trees[0].sealed_memtables > 0 {
        assert!(db.poll_job().unwrap());
    }
    assert_eq!(db.stats().trees[0].flushes, flushes + SEALED as u64);
}

fn tables_on_disk(fs: &Arc<dyn Fs>) -> u64 {
    let files = fs.list(Path::new(DIR)).unwrap();
    files.iter().filter(|file| file.extension().is_some_and(|end| end == "sst")).count() as u64
}

fn live_tables(db: &Db) -> u64 {
    db.stats().trees[0].levels.iter().map(|level| level.tables).sum()
}

#[test]
fn inputs_of_a_compaction_go_before_the_next_one_begins() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let db = open(&fs);
    make_a_compaction_due(&db, 0);
    assert!(db.poll_job().unwrap());
    assert_eq!(db.stats().trees[0].compactions, 1);
    assert!(tables_on_disk(&fs) > live_tables(&db), "the inputs are there still");
    make_a_compaction_due(&db, 1);
    assert!(db.poll_job().unwrap());
    assert_eq!(db.stats().trees[0].compactions, 1);
    assert_eq!(tables_on_disk(&fs), live_tables(&db));
    assert!(db.poll_job().unwrap());
    assert_eq!(db.stats().trees[0].compactions, 2);
}

#[test]
fn files_that_cannot_be_removed_keep_nobody_from_compacting() {
    let faulty = FaultFs::new(Arc::new(MemFs::new()));
    let fs: Arc<dyn Fs> = Arc::new(faulty.clone());
    let db = open(&fs);
    make_a_compaction_due(&db, 0);
    assert!(db.poll_job().unwrap());
    let fault = Fault::Error(ErrorKind::Other);
    faulty.inject(FaultRule { op: Op::Remove, path: ".sst".into(), nth: 1, sticky: true, fault });
    assert!(db.poll_job().is_err());
    make_a_compaction_due(&db, 1);
    assert!(db.poll_job().unwrap());
    assert_eq!(db.stats().trees[0].compactions, 2);
    faulty.heal();
    db.finish_jobs().unwrap();
    assert_eq!(tables_on_disk(&fs), live_tables(&db));
}
