//! Damage inside what was durable of the log: refused, or opened with an exact account of what is
//! missing. Every write has a key of its own, so that the account can be compared with the truth.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{DIR, config};
use meridian_lsm::{Db, DbOptions, Error, OnDamage, Recovery, Tree, TreeConfig, WriteBatch};
use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op};
use parking_lot::Mutex;

const WRITES: u64 = 60;

fn open(fs: &MemFs, on_damage: OnDamage) -> Result<(Db, Recovery), Error> {
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let options = DbOptions {
        on_damage,
        wal_segment_bytes: 1 << 10,
        flush_on_close: false,
        ..DbOptions::default()
    };
    Db::open(disk, Path::new(DIR), options, vec![config("t")])
}

fn put(db: &Db, number: u64) {
    let mut batch = WriteBatch::new();
    batch.put(&db.tree("t").unwrap(), number.to_be_bytes(), [7; 40]);
    assert_eq!(db.write(batch).unwrap().seqno(), number);
}

/// The log of `WRITES` writes in several segments; the first `flushed` are in tables as well.
fn build(flushed: u64, cleanly: bool) -> MemFs {
    let fs = MemFs::new();
    let (db, _) = open(&fs, OnDamage::Refuse).unwrap();
    for number in 1..=WRITES {
        put(&db, number);
        if number % 3 == 0 {
            db.sync().unwrap();
        }
        if number == flushed {
            db.flush().unwrap();
        }
    }
    if cleanly {
        db.close().unwrap();
    }
    fs
}

fn keys(db: &Db) -> BTreeSet<u64> {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let tree = db.tree("t").unwrap();
    let number = |key: &[u8]| u64::from_be_bytes(key.try_into().unwrap());
    tree.scan(everything, &db.snapshot()).map(|found| number(&found.unwrap().0)).collect()
}

fn segments(fs: &MemFs) -> Vec<PathBuf> {
    let names = fs.list(Path::new(DIR)).unwrap();
    let logs = names.iter().filter(|name| name.extension().is_some_and(|end| end == "log"));
    logs.map(|name| Path::new(DIR).join(name)).collect()
}

/// Opens what was refused, and compares what is there with what is said to be lost.
fn check_account(fs: &MemFs, flushed: u64, what: &str) -> BTreeSet<u64> {
    let (db, recovery) = open(fs, OnDamage::OpenAndReport).unwrap();
    assert!(!recovery.lost.is_empty() && !recovery.clean_shutdown, "{what}");
    let found = keys(&db);
    let torn = recovery.torn_tail_bytes > 0;
    for number in 1..=WRITES {
        let is_lost = recovery
            .lost
            .iter()
            .any(|lost| lost.after < number && lost.before.is_none_or(|before| number < before));
        let is_there = found.contains(&number);
        // The last chunk has no witness after a crash.
        assert!(is_there || is_lost || (torn && number == WRITES), "{what}: {number} {recovery:?}");
        assert!(!is_there || !is_lost || number <= flushed, "{what}: {number} {recovery:?}");
    }
    for lost in &recovery.lost {
        assert!(lost.from <= lost.to && lost.file.starts_with(DIR), "{what}: {lost}");
        let kept = recovery
            .set_aside
            .iter()
            .any(|aside| aside.to_string_lossy() == format!("{}.damaged", lost.file.display()));
        assert!(kept || lost.what.contains("missing"), "{what}: {recovery:?}");
    }
    // Numbers that tables know are not given out again, and the next opening finds no damage.
    let next = db.visible_seqno() + 1;
    assert!(found.last().is_none_or(|last| *last < next), "{what}");
    put(&db, next);
    drop(db);
    let (db, again) = open(fs, OnDamage::Refuse).unwrap();
    assert!(again.lost.is_empty() && again.set_aside == recovery.set_aside, "{what}");
    let mut expected = found.clone();
    expected.insert(next);
    assert_eq!(keys(&db), expected, "{what}");
    db.verify().unwrap();
    found
}

#[test]
fn rot_in_the_log_is_refused_or_accounted_for() {
    for (flushed, cleanly) in [(0, true), (20, true), (0, false)] {
        let fs = build(flushed, cleanly);
        let mut refused = 0;
        for file in segments(&fs) {
            let bytes = meridian_vfs::read_all(&fs, &file).unwrap().len() as u64;
            for byte in (0..bytes).step_by(11) {
                let damaged = fs.crash_clone(CrashChoice::KeepEverything);
                damaged.flip_bit(&file, byte * 8 + byte % 8).unwrap();
                let what = format!("{} byte {byte} of {bytes}", file.display());
                let before = damaged.list(Path::new(DIR)).unwrap();
                match open(&damaged, OnDamage::Refuse) {
                    Err(Error::Corruption { file: named, .. }) => assert_eq!(named, file),
                    Err(other) => panic!("{what}: {other}"),
                    Ok(_) => continue,
                }
                assert_eq!(damaged.list(Path::new(DIR)).unwrap(), before);
                let found = check_account(&damaged, flushed, &what);
                // One bit costs one chunk, which holds one write here.
                assert!(found.len() as u64 >= WRITES - 1, "{what}: {found:?}");
                refused += 1;
            }
        }
        assert!(refused > 200, "{refused}");
    }
}

#[test]
fn missing_and_cut_segments_are_accounted_for() {
    let fs = build(0, true);
    let files = segments(&fs);
    assert!(files.len() > 3);
    for file in &files {
        let damaged = fs.crash_clone(CrashChoice::KeepEverything);
        damaged.remove(file).unwrap();
        let what = format!("without {}", file.display());
        assert!(open(&damaged, OnDamage::Refuse).unwrap_err().is_corruption());
        check_account(&damaged, 0, &what);
        let bytes = meridian_vfs::read_all(&fs, file).unwrap().len();
        for len in (0..bytes).step_by(97) {
            let damaged = fs.crash_clone(CrashChoice::KeepEverything);
            damaged.truncate(file, len).unwrap();
            assert!(open(&damaged, OnDamage::Refuse).unwrap_err().is_corruption());
            check_account(&damaged, 0, &format!("{} cut to {len}", file.display()));
        }
    }
}

#[test]
fn a_power_cut_while_damage_is_dealt_with_loses_nothing_more() {
    let fs = build(0, true);
    let file = segments(&fs)[1].clone();
    fs.flip_bit(&file, 300 * 8).unwrap();
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let taken = cuts.clone();
    fs.set_sync_hook(move |fs, point| {
        for choice in [CrashChoice::LoseUnsynced, CrashChoice::Torn(point.number)] {
            taken.lock().push(fs.crash_clone(choice));
        }
    });
    let expected = keys(&open(&fs, OnDamage::OpenAndReport).unwrap().0);
    fs.clear_sync_hook();
    let cuts = std::mem::take(&mut *cuts.lock());
    assert!(expected.len() as u64 == WRITES - 1 && cuts.len() > 10);
    for cut in cuts {
        let (db, recovery) = open(&cut, OnDamage::OpenAndReport).unwrap();
        assert_eq!(keys(&db), expected);
        // Whoever was cut off before it heard of the loss still finds the damaged file.
        assert_eq!(recovery.set_aside.len(), 1);
    }
}

#[test]
fn short_reads_do_not_hide_that_the_damaged_was_durable() {
    let fs = build(0, false);
    let file = segments(&fs).pop().unwrap();
    fs.flip_bit(&file, 60 * 8).unwrap();
    for most in [1, 50, 200] {
        let faulty = FaultFs::new(Arc::new(fs.crash_clone(CrashChoice::KeepEverything)));
        let (op, fault) = (Op::Read, Fault::ShortRead(most));
        faulty.inject(FaultRule { op, path: ".log".into(), nth: 1, sticky: true, fault });
        let opened =
            Db::open(Arc::new(faulty), Path::new(DIR), DbOptions::default(), vec![config("t")]);
        let told = opened.unwrap_err();
        assert!(matches!(&told, Error::Corruption { file: named, .. } if *named == file), "{told}");
    }
}

/// A tree's tables may be ahead of the log that another tree still needs.
#[test]
fn numbers_that_only_tables_know_are_not_given_out_again() {
    let fs = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let open_two = |on_damage| {
        let options = DbOptions {
            on_damage,
            wal_segment_bytes: 40 << 10,
            flush_on_close: false,
            ..DbOptions::default()
        };
        let tree = |name| TreeConfig { memtable_bytes: 64 << 10, ..config(name) };
        Db::open(disk.clone(), Path::new(DIR), options, vec![tree("t"), tree("u")])
    };
    let (db, _) = open_two(OnDamage::Refuse).unwrap();
    let (t, u) = (db.tree("t").unwrap(), db.tree("u").unwrap());
    let put = |tree: &Tree, value: u8| {
        let mut batch = WriteBatch::new();
        batch.put(tree, "k", [value; 900]);
        db.write(batch).unwrap().seqno()
    };
    put(&u, 0);
    while db.stats().trees[0].flushes == 0 {
        put(&t, 1);
        if db.stats().trees.iter().any(|tree| tree.sealed_memtables > 0) {
            db.poll_job().unwrap();
        }
    }
    drop((t, u));
    db.close().unwrap();
    for file in segments(&fs).iter().skip(1) {
        fs.remove(file).unwrap();
    }
    let (db, recovery) = open_two(OnDamage::OpenAndReport).unwrap();
    assert!(!recovery.lost.is_empty());
    let t = db.tree("t").unwrap();
    assert_eq!(t.get_latest(b"k").unwrap().unwrap(), [1; 900][..]);
    let mut batch = WriteBatch::new();
    batch.put(&t, "k", "newest");
    db.write(batch).unwrap();
    db.flush().unwrap();
    assert_eq!(t.get_latest(b"k").unwrap().unwrap(), "newest");
}
