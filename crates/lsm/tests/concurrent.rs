//! Many threads at once, with workers flushing and compacting under them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use common::{DIR, small};
use meridian_lsm::{
    Compression, Db, DbOptions, MergeError, MergeOperator, SyncPolicy, TreeConfig, Workers,
    WriteBatch,
};
use meridian_vfs::{CrashChoice, Fs, MemFs};

/// Adds numbers.
struct Add;

impl MergeOperator for Add {
    fn name(&self) -> &str {
        "add"
    }

    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<Option<Vec<u8>>, MergeError> {
        let number = |bytes: &[u8]| {
            let digits = bytes.try_into().map_err(|_cause| MergeError { reason: "size".into() });
            digits.map(u64::from_le_bytes)
        };
        let mut sum = base.map(number).transpose()?.unwrap_or(0);
        for operand in operands {
            sum += number(operand)?;
        }
        Ok(Some(sum.to_le_bytes().to_vec()))
    }
}

const WRITERS: u64 = 3;
/// Enough that writers meet the bounds on sealed memtables and on level-0 tables, so that flushes
/// and compactions must have happened whoever ran them.
const EACH: u64 = 7000;

fn open(fs: &Arc<dyn Fs>, sync: SyncPolicy) -> Db {
    let tree = |name| TreeConfig {
        memtable_bytes: 64 << 10,
        merge: Some(Arc::new(Add)),
        ..small(name, Compression::Lz4)
    };
    let options = DbOptions {
        sync,
        table_bytes: 32 << 10,
        wal_segment_bytes: 128 << 10,
        ..DbOptions::default()
    };
    Db::open(fs.clone(), Path::new(DIR), options, vec![tree("a"), tree("b")]).unwrap().0
}

/// Each batch sets the same number in both trees and counts itself on one hot key.
fn write(db: &Db, writer: u64, number: u64) {
    let (a, b) = (db.tree("a").unwrap(), db.tree("b").unwrap());
    let key = ((writer << 32) | (number % 400)).to_be_bytes();
    let mut batch = WriteBatch::new();
    batch.put(&a, key, number.to_le_bytes());
    batch.put(&b, key, [&number.to_le_bytes()[..], &[0; 60]].concat());
    batch.merge(&a, b"count", 1u64.to_le_bytes());
    let commit = db.write(batch).unwrap();
    if number.is_multiple_of(50) {
        db.wait(&commit).unwrap();
    }
}

/// Both trees agree at every snapshot; returns the count.
fn check(db: &Db) -> u64 {
    let (a, b) = (db.tree("a").unwrap(), db.tree("b").unwrap());
    let at = db.snapshot();
    let all = || (Bound::Unbounded, Bound::Unbounded);
    let mut from_a: Vec<_> = a.scan(all(), &at).map(Result::unwrap).collect();
    let count = from_a.iter().position(|(key, _)| key == "count").map(|at| from_a.remove(at).1);
    let from_b: Vec<_> = b.scan_rev(all(), &at).map(Result::unwrap).collect();
    let prefix = from_b.iter().rev().map(|(key, value)| (key.clone(), value.slice(..8)));
    assert_eq!(from_a, prefix.collect::<Vec<_>>());
    for (key, value) in from_a.iter().step_by(17) {
        assert_eq!(a.get(key, &at).unwrap().as_ref(), Some(value));
        assert_eq!(b.get(key, &at).unwrap().unwrap().slice(..8), value);
    }
    assert_eq!(a.get(b"count", &at).unwrap(), count);
    count.map_or(0, |bytes| u64::from_le_bytes((*bytes).try_into().unwrap()))
}

fn run(sync: SyncPolicy, with_workers: bool) {
    let fs = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let db = open(&disk, sync);
    let workers = with_workers.then(|| Workers::start(&db, 2).unwrap());
    let (progress, progressed) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (db, progress) = (&db, progress.clone());
                scope.spawn(move || {
                    for number in 0..EACH {
                        write(db, writer, number);
                        if number % 200 == writer {
                            progress.send(()).unwrap();
                        }
                    }
                })
            })
            .collect();
        drop(progress);
        let reader = scope.spawn(|| {
            let mut last = 0;
            for () in progressed {
                let count = check(&db);
                assert!(count >= last, "{count} after {last}");
                last = count;
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        reader.join().unwrap();
    });
    assert_eq!(check(&db), WRITERS * EACH);
    let stats = db.stats();
    assert!(stats.trees.iter().any(|tree| tree.flushes > 0 && tree.compactions > 0), "{stats:?}");
    db.sync().unwrap();
    if let Some(workers) = workers {
        workers.stop();
    }
    drop(db);
    for choice in [CrashChoice::LoseUnsynced, CrashChoice::Torn(5)] {
        let after: Arc<dyn Fs> = Arc::new(fs.crash_clone(choice));
        let db = open(&after, sync);
        assert_eq!(check(&db), WRITERS * EACH);
        while db.poll_job().unwrap() {}
        db.compact("a").unwrap();
        assert_eq!(check(&db), WRITERS * EACH);
        // Old segments of the log are gone.
        let logs = after.list(Path::new(DIR)).unwrap();
        let logs = logs.iter().filter(|name| name.extension().is_some_and(|e| e == "log")).count();
        assert!(logs <= 4, "{logs}");
    }
}

/// Nobody may be forgotten: every thread waits for each of its commits, so that one that nobody
/// syncs stops the test.
fn everybody_is_woken(wal_segment_bytes: u64) {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let options = DbOptions { sync: SyncPolicy::Always, wal_segment_bytes, ..Default::default() };
    let trees = vec![TreeConfig::new("t")];
    let (db, _) = Db::open(disk, Path::new(DIR), options, trees).unwrap();
    let workers = Workers::start(&db, 1).unwrap();
    let tree = db.tree("t").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (db, tree) = (&db, &tree);
            scope.spawn(move || {
                for number in 0..2000u64 {
                    let mut batch = WriteBatch::new();
                    batch.put(tree, ((thread << 32) | number).to_be_bytes(), "v");
                    let commit = db.write(batch).unwrap();
                    if number.is_multiple_of(2) {
                        db.wait(&commit).unwrap();
                    } else {
                        let (send, receive) = std::sync::mpsc::channel();
                        db.on_settled(&commit, Box::new(move |done| send.send(done).unwrap()));
                        receive.recv().unwrap().unwrap();
                    }
                    assert!(db.durable_seqno() >= commit.seqno());
                }
            });
        }
    });
    workers.stop();
    assert_eq!(db.durable_seqno(), 8000);
}

/// A writer may still be inserting into a memtable that another writer has sealed: a flush that
/// did not wait for it would leave its entries out. Long batches keep that window open.
#[test]
fn a_sealed_memtable_is_flushed_whole() {
    const BATCHES: u32 = 60;
    const OPERATIONS: u32 = 400;
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let db = open(&disk, SyncPolicy::Os);
    let workers = Workers::start(&db, 2).unwrap();
    let tree = db.tree("a").unwrap();
    let key = |thread: u32, batch: u32, operation: u32| {
        let mixed = (batch * OPERATIONS + operation).wrapping_mul(0x9e37_79b1);
        [mixed.to_be_bytes(), thread.to_be_bytes()].concat()
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (db, tree) = (&db, &tree);
            scope.spawn(move || {
                for number in 0..BATCHES {
                    let mut batch = WriteBatch::new();
                    for operation in 0..OPERATIONS {
                        batch.put(tree, key(thread, number, operation), [7; 24]);
                    }
                    db.write(batch).unwrap();
                }
            });
        }
    });
    workers.stop();
    db.flush().unwrap();
    let at = db.snapshot();
    let all = tree.scan((Bound::Unbounded, Bound::Unbounded), &at).map(Result::unwrap).count();
    assert_eq!(all, 4 * (BATCHES * OPERATIONS) as usize);
}

#[test]
fn every_waiter_is_woken() {
    everybody_is_woken(1 << 30);
}

#[test]
fn every_waiter_is_woken_when_each_chunk_begins_a_segment() {
    everybody_is_woken(1);
}

#[test]
fn threads_and_workers() {
    run(SyncPolicy::default(), true);
}

#[test]
fn threads_and_workers_synced() {
    run(SyncPolicy::Always, true);
}

#[test]
fn threads_without_workers() {
    run(SyncPolicy::Os, false);
}
