//! Closing: what was in memory is in tables, and the next opening reads no log; where there is no
//! room for a table it stays in the log.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use common::{DIR, small_options, small_trees};
use meridian_lsm::{Db, DbOptions, Recovery};
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op};

const ROWS: u8 = 100;

fn open(fs: &Arc<dyn Fs>, flush_on_close: bool) -> (Db, Recovery) {
    let options = DbOptions { flush_on_close, ..small_options() };
    Db::open(fs.clone(), Path::new(DIR), options, small_trees()).unwrap()
}

fn fill(db: &Db) {
    let tree = db.tree("a").unwrap();
    for row in 0..ROWS {
        let mut batch = meridian_lsm::WriteBatch::new();
        batch.put(&tree, [row], [row; 40]);
        db.write(batch).unwrap();
    }
}

fn assert_whole(db: &Db) {
    let tree = db.tree("a").unwrap();
    for row in 0..ROWS {
        assert_eq!(tree.get_latest([row].as_slice()).unwrap().unwrap(), vec![row; 40]);
    }
}

#[test]
fn after_a_close_there_is_no_log_to_read() {
    for flushes in [true, false] {
        let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
        let (db, _) = open(&fs, flushes);
        fill(&db);
        db.close().unwrap();
        let (db, recovery) = open(&fs, flushes);
        assert!(recovery.clean_shutdown);
        assert_eq!(recovery.replayed_batches == 0, flushes);
        assert_whole(&db);
    }
}

#[test]
fn what_there_is_no_room_for_stays_in_the_log() {
    let faulty = FaultFs::new(Arc::new(MemFs::new()));
    let fs: Arc<dyn Fs> = Arc::new(faulty.clone());
    let (db, _) = open(&fs, true);
    fill(&db);
    let fault = Fault::Error(ErrorKind::StorageFull);
    faulty.inject(FaultRule { op: Op::Create, path: ".sst".into(), nth: 1, sticky: true, fault });
    db.close().unwrap();
    faulty.heal();
    let (db, recovery) = open(&fs, true);
    assert!(recovery.clean_shutdown);
    assert_eq!(recovery.replayed_batches, u64::from(ROWS));
    assert_whole(&db);
}

#[test]
fn jobs_are_finished_when_nothing_is_pending_and_nobody_is_at_it() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, _) = open(&fs, true);
    let workers = meridian_lsm::Workers::start(&db, 2).unwrap();
    for _round in 0..20 {
        fill(&db);
        db.flush().unwrap();
    }
    db.finish_jobs().unwrap();
    let stats = db.stats();
    assert_eq!((stats.running_flushes, stats.running_compactions), (0, 0));
    assert!(!db.poll_job().unwrap(), "something is pending");
    assert_whole(&db);
    drop(workers);
}
