//! Values apart from their keys: they move by reference, are collected, and are never lost or left
//! behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use common::{DIR, small, small_options, strategies};
use meridian_lsm::{
    Blobs, CompactionFilter, Compression, Db, Error, FilterDecision, FilterPass, Snapshot, Tree,
    TreeConfig, TreeStats, WriteBatch, backup, inspect,
};
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op, read_all};

const BLOBS: Blobs = Blobs { threshold: 100, garbage_percent: 50, oldest_percent: 100 };

fn config(blobs: Option<Blobs>) -> TreeConfig {
    TreeConfig { blobs, ..small("t", Compression::Lz4) }
}

fn open_at(disk: &Arc<dyn Fs>, dir: &str, config: TreeConfig) -> Result<(Db, Tree), Error> {
    let (db, _) = Db::open(disk.clone(), Path::new(dir), small_options(), vec![config])?;
    let tree = db.tree("t").unwrap();
    Ok((db, tree))
}

fn open(disk: &Arc<dyn Fs>) -> (Db, Tree) {
    open_at(disk, DIR, config(Some(BLOBS))).unwrap()
}

fn value(k: u32, round: u32) -> Vec<u8> {
    let mut state = u64::from(k) << 32 | u64::from(round);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56).to_le_bytes()[0]
    };
    (0..400 + k % 2).map(|_at| next()).collect()
}

fn put(db: &Db, tree: &Tree, keys: impl Iterator<Item = u32>, round: u32) {
    for k in keys {
        let mut batch = WriteBatch::new();
        batch.put(tree, k.to_be_bytes(), value(k, round));
        db.write(batch).unwrap();
    }
}

fn stats(db: &Db) -> TreeStats {
    db.stats().trees.remove(0)
}

fn files(disk: &Arc<dyn Fs>, end: &str) -> Vec<PathBuf> {
    let names = disk.list(Path::new(DIR)).unwrap();
    let of_kind = names.into_iter().filter(|name| name.extension().is_some_and(|e| e == end));
    of_kind.map(|name| Path::new(DIR).join(name)).collect()
}

fn everything(tree: &Tree, at: &Snapshot) -> Result<Vec<(Bytes, Bytes)>, Error> {
    tree.scan((Bound::Unbounded, Bound::Unbounded), at).collect()
}

fn idle(db: &Db) {
    while db.poll_job().unwrap() {}
}

#[test]
fn compactions_move_references_and_not_values() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, tree) = open(&disk);
    for part in 0..6 {
        put(&db, &tree, (0..60).filter(|k| k % 6 == part), 0);
        db.flush().unwrap();
    }
    let flushed = stats(&db);
    assert!(flushed.blobs >= 6 && flushed.blob_bytes > 15_000, "{flushed:?}");
    db.compact("t").unwrap();
    idle(&db);
    let compacted = stats(&db);
    assert_eq!(compacted.blob_bytes, flushed.blob_bytes);
    let written = compacted.compaction_written_bytes;
    assert!(written > 0 && written < flushed.blob_bytes / 4, "{written}");
    for k in 0..60u32 {
        assert_eq!(tree.get_latest(&k.to_be_bytes()).unwrap().unwrap(), value(k, 0));
    }
    db.verify().unwrap();
}

#[test]
fn garbage_is_collected_under_every_strategy() {
    for compaction in strategies() {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let config = TreeConfig { compaction, ..config(Some(BLOBS)) };
        let (db, tree) = open_at(&disk, DIR, config).unwrap();
        for round in 0..12 {
            put(&db, &tree, (0..40).filter(|k| (k + round) % 3 != 0), round);
            db.flush().unwrap();
            idle(&db);
        }
        db.compact("t").unwrap();
        idle(&db);
        let now = stats(&db);
        assert!(now.blobs > 0 && now.blob_bytes <= 2 * now.blob_live_bytes + 100, "{now:?}");
        assert_eq!(files(&disk, "blob").len() as u64, now.blobs);
        let on_disk = inspect::manifest(&*disk, Path::new(DIR)).unwrap();
        let (mut live, mut values) = (0, 0);
        for blob in &on_disk.trees[0].blobs {
            live += blob.live_bytes;
            inspect::blob(&*disk, &blob.file, &mut |entry| {
                assert!(entry.stored_bytes <= entry.value_bytes);
                values += 1;
            })
            .unwrap();
        }
        assert_eq!(live, now.blob_live_bytes);
        assert!(values >= 40, "{values}");
        for k in 0..40u32 {
            let last = (0..12).rev().find(|round| (k + round) % 3 != 0).unwrap();
            assert_eq!(tree.get_latest(&k.to_be_bytes()).unwrap().unwrap(), value(k, last));
        }
        db.verify().unwrap();
    }
}

#[test]
fn a_share_of_over_a_hundred_collects_nothing_and_young_files_wait() {
    let oldest = Blobs { oldest_percent: 10, ..BLOBS };
    let never = Blobs { garbage_percent: 101, ..BLOBS };
    for blobs in [never, oldest] {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let (db, tree) = open_at(&disk, DIR, config(Some(blobs))).unwrap();
        // The oldest file has no garbage, all others have much.
        put(&db, &tree, 100..110, 0);
        db.flush().unwrap();
        for round in 0..7 {
            put(&db, &tree, (0..40).filter(|k| k % 10 >= round), round);
            db.flush().unwrap();
            db.compact("t").unwrap();
        }
        idle(&db);
        let now = stats(&db);
        assert!(now.blob_bytes > 2 * now.blob_live_bytes, "{now:?}");
        // Only what nobody refers to at all has gone.
        db.create_tree(config(Some(BLOBS))).unwrap();
        idle(&db);
        let now = stats(&db);
        assert!(now.blob_bytes <= 2 * now.blob_live_bytes + 100, "{now:?}");
    }
}

#[test]
fn snapshots_and_scans_keep_what_they_see() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, tree) = open(&disk);
    put(&db, &tree, 0..30, 0);
    db.flush().unwrap();
    let then = db.snapshot();
    let mut scan = tree.scan((Bound::Unbounded, Bound::Unbounded), &then);
    let mut back = tree.scan_rev((Bound::Unbounded, Bound::Unbounded), &then);
    assert_eq!(scan.next().unwrap().unwrap().1, value(0, 0));
    assert_eq!(back.next().unwrap().unwrap().1, value(29, 0));
    let first = files(&disk, "blob");
    for round in 1..5 {
        put(&db, &tree, 0..30, round);
        db.compact("t").unwrap();
        idle(&db);
    }
    // Whatever was collected meanwhile: the snapshot's versions are alive.
    let seen = everything(&tree, &then).unwrap();
    assert!(seen.iter().zip(0u32..).all(|((_, found), k)| *found == value(k, 0)));
    drop(then);
    db.compact("t").unwrap();
    idle(&db);
    // Nobody refers to the first file any more, but the scans hold it.
    assert!(first.iter().all(|file| disk.exists(file).unwrap()));
    for k in 1..30u32 {
        assert_eq!(scan.next().unwrap().unwrap().1, value(k, 0));
        assert_eq!(back.next().unwrap().unwrap().1, value(29 - k, 0));
    }
    drop((scan, back));
    idle(&db);
    assert!(first.iter().all(|file| !disk.exists(file).unwrap()));
    assert_eq!(files(&disk, "blob").len() as u64, stats(&db).blobs);
}

#[test]
fn what_a_crash_left_half_made_is_removed() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, tree) = open(&disk);
    put(&db, &tree, 0..30, 0);
    db.flush().unwrap();
    drop((db, tree));
    let stray = Path::new(DIR).join("00000000000000aa.blob");
    disk.create(&stray).unwrap().append(b"MRDNBLB").unwrap();
    let known = files(&disk, "blob").len() - 1;
    let (db, tree) = open(&disk);
    assert_eq!(files(&disk, "blob").len(), known);
    // Its id is not used again.
    put(&db, &tree, 0..30, 1);
    db.flush().unwrap();
    assert!(files(&disk, "blob").iter().any(|file| *file > stray));
}

#[test]
fn dropping_a_tree_drops_its_values() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, tree) = open(&disk);
    put(&db, &tree, 0..30, 0);
    db.flush().unwrap();
    assert!(!files(&disk, "blob").is_empty());
    db.drop_tree("t").unwrap();
    drop(tree);
    idle(&db);
    assert!(files(&disk, "blob").is_empty());
}

#[test]
fn copies_have_the_values() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, tree) = open(&disk);
    put(&db, &tree, 0..30, 0);
    db.compact("t").unwrap();
    let rows: Vec<_> = (30..50u32).map(|k| (k.to_be_bytes(), value(k, 0))).collect();
    db.ingest(&tree, rows).unwrap();
    let blobs = stats(&db).blob_bytes;
    let made = db.checkpoint(Path::new("/copy")).unwrap();
    assert!(made.table_bytes > blobs);
    let first = backup::backup(&*disk, Path::new("/copy"), Path::new("/kept"), "one").unwrap();
    // Nothing is copied twice: but for manifest and log.
    db.checkpoint(Path::new("/copy-2")).unwrap();
    let second = backup::backup(&*disk, Path::new("/copy-2"), Path::new("/kept"), "two").unwrap();
    assert!(second.copied_bytes < first.copied_bytes - blobs, "{first:?} {second:?}");
    backup::restore(&*disk, Path::new("/kept"), "two", Path::new("/back")).unwrap();
    // The copies do not need the database.
    put(&db, &tree, 0..50, 1);
    db.compact("t").unwrap();
    idle(&db);
    for dir in ["/copy", "/back"] {
        let (copy, tree) = open_at(&disk, dir, config(Some(BLOBS))).unwrap();
        for (k, (_, found)) in (0u32..).zip(everything(&tree, &copy.snapshot()).unwrap()) {
            assert_eq!(found, value(k, 0));
        }
        copy.verify().unwrap();
        drop((copy, tree));
        inspect::verify(&*disk, Path::new(dir), &mut |_file, _bytes| {}).unwrap();
    }
}

#[test]
fn values_come_back_into_tables_when_the_setting_is_taken_away() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, tree) = open(&disk);
    put(&db, &tree, 0..40, 0);
    db.flush().unwrap();
    db.create_tree(config(None)).unwrap();
    put(&db, &tree, (0..40).filter(|k| k % 4 > 0), 1);
    db.compact("t").unwrap();
    idle(&db);
    assert_eq!((stats(&db).blobs, files(&disk, "blob").len()), (0, 0), "{:?}", stats(&db));
    for k in 0..40u32 {
        let wanted = value(k, u32::from(k % 4 > 0));
        assert_eq!(tree.get_latest(&k.to_be_bytes()).unwrap().unwrap(), wanted);
    }
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, tree) = open(&disk);
    put(&db, &tree, 0..3, 0);
    db.flush().unwrap();
    drop((db, tree));
    let file = files(&disk, "blob").remove(0);
    let whole = read_all(&*disk, &file).unwrap();
    let write = |bytes: &[u8]| disk.create(&file).unwrap().append(bytes).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        write(&bytes);
        let told = match open_at(&disk, DIR, config(Some(BLOBS))) {
            Err(told) => told,
            Ok((db, tree)) => {
                assert!(db.verify().unwrap_err().is_corruption());
                let found = (0..3u32).map(|k| tree.get_latest(&k.to_be_bytes()));
                let (found, told): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
                for found in found {
                    let found = found.unwrap().unwrap();
                    assert!((0..3).any(|k| found == value(k, 0)));
                }
                assert_eq!(told.len(), 1);
                everything(&tree, &db.snapshot()).unwrap_err()
            }
        };
        assert!(told.is_corruption() && told.to_string().contains(".blob"), "{told}");
    }
    write(&whole[..whole.len() - 1]);
    let told = open_at(&disk, DIR, config(Some(BLOBS))).unwrap_err();
    assert!(told.is_corruption() && told.to_string().contains(".blob"), "{told}");
    disk.remove(&file).unwrap();
    let told = open_at(&disk, DIR, config(Some(BLOBS))).unwrap_err();
    assert!(told.to_string().contains("the blob file is missing"), "{told}");
    write(&whole);
    let (db, tree) = open(&disk);
    assert_eq!(everything(&tree, &db.snapshot()).unwrap().len(), 3);
}

/// Keeps everything, and says whether it looks at values.
struct Looks(bool);

impl CompactionFilter for Looks {
    fn begin(&self, _now_ms: u64) -> Box<dyn FilterPass + '_> {
        Box::new(Self(self.0))
    }

    fn wants_value(&self, _key: &[u8]) -> bool {
        self.0
    }

    fn expiry_of(&self, key: &[u8], value: &[u8]) -> Option<u64> {
        assert_eq!(value.is_empty(), !self.0, "{key:?}");
        None
    }
}

impl FilterPass for Looks {
    fn decide(&mut self, _key: &[u8], value: &[u8], _bottom: bool) -> FilterDecision {
        if self.0 && value.len() % 2 == 1 {
            return FilterDecision::Replace(b"odd".to_vec());
        }
        FilterDecision::Keep
    }
}

#[test]
fn filters_see_values_and_only_when_they_want_to() {
    for looks in [false, true] {
        let faults = FaultFs::new(Arc::new(MemFs::new()));
        let disk: Arc<dyn Fs> = Arc::new(faults.clone());
        let (db, tree) = open(&disk);
        put(&db, &tree, 0..40, 0);
        db.flush().unwrap();
        let filter: Arc<dyn CompactionFilter> = Arc::new(Looks(looks));
        let config = TreeConfig { compaction_filter: Some(filter), ..config(Some(BLOBS)) };
        db.create_tree(config).unwrap();
        let fault = Fault::Error(ErrorKind::Other);
        faults.inject(FaultRule {
            op: Op::Read,
            path: ".blob".into(),
            nth: 1,
            sticky: true,
            fault,
        });
        assert_eq!(db.compact("t").is_ok(), !looks);
        faults.heal();
        db.compact("t").unwrap();
        for k in 0..40u32 {
            let wanted = value(k, 0);
            let wanted = if looks && wanted.len() % 2 == 1 { b"odd".to_vec() } else { wanted };
            assert_eq!(tree.get_latest(&k.to_be_bytes()).unwrap().unwrap(), wanted);
        }
    }
}

#[test]
fn a_disk_that_refuses_a_blob_file_is_tried_again() {
    for op in [Op::Create, Op::Append, Op::Sync, Op::Open, Op::Length, Op::Read] {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            let faults = FaultFs::new(Arc::new(MemFs::new()));
            let disk: Arc<dyn Fs> = Arc::new(faults.clone());
            let (db, tree) = open(&disk);
            put(&db, &tree, 0..40, 0);
            let fault = Fault::Error(kind);
            let rule = FaultRule { op, path: ".blob".into(), nth: 1, sticky: true, fault };
            faults.inject(rule.clone());
            assert!(db.flush().is_err(), "{op}");
            faults.heal();
            db.flush().unwrap();
            put(&db, &tree, (0..40).filter(|k| k % 4 > 0), 1);
            db.flush().unwrap();
            // The first one finds that there is garbage, the next one collects it.
            db.compact("t").unwrap();
            faults.inject(rule);
            assert!(db.compact("t").is_err(), "{op}");
            faults.heal();
            db.compact("t").unwrap();
            idle(&db);
            assert_eq!(files(&disk, "blob").len() as u64, stats(&db).blobs, "{op}");
            for k in 0..40u32 {
                let wanted = value(k, u32::from(k % 4 > 0));
                assert_eq!(tree.get_latest(&k.to_be_bytes()).unwrap().unwrap(), wanted);
            }
            db.verify().unwrap();
        }
    }
}
