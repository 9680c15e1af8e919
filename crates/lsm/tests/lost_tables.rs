//! Tables that cannot be opened: refused, or left out with an exact account of what is missing, which
//! is told until the caller has dealt with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{DIR, config};
use meridian_lsm::{Blobs, Db, DbOptions, Error, OnDamage, Recovery, TreeConfig, WriteBatch};
use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op};
use parking_lot::Mutex;

const KEYS: u8 = 40;

fn trees() -> Vec<TreeConfig> {
    let apart = Blobs { threshold: 100, ..Blobs::default() };
    vec![config("t"), TreeConfig { blobs: Some(apart), ..config("big") }]
}

fn open_on(fs: Arc<dyn Fs>, on_damage: OnDamage) -> Result<(Db, Recovery), Error> {
    let options = DbOptions { on_damage, ..DbOptions::default() };
    Db::open(fs, Path::new(DIR), options, trees())
}

fn open(fs: &MemFs, on_damage: OnDamage) -> Result<(Db, Recovery), Error> {
    open_on(Arc::new(fs.clone()), on_damage)
}

/// Two trees with four tables each; the values of one are in blob files.
fn build() -> MemFs {
    let fs = MemFs::new();
    let (db, _) = open(&fs, OnDamage::Refuse).unwrap();
    for part in 0..4 {
        for key in (part..KEYS).step_by(4) {
            let mut batch = WriteBatch::new();
            batch.put(&db.tree("t").unwrap(), [part, key], [key; 10]);
            batch.put(&db.tree("big").unwrap(), [part, key], [key; 300]);
            db.write(batch).unwrap();
        }
        db.flush().unwrap();
    }
    db.close().unwrap();
    fs
}

type Found = BTreeSet<(String, Vec<u8>)>;

fn keys(db: &Db) -> Found {
    let mut found = Found::new();
    for name in ["t", "big"] {
        let tree = db.tree(name).unwrap();
        for row in tree.scan((Bound::Unbounded, Bound::Unbounded), &db.snapshot()) {
            let (key, value) = row.unwrap();
            assert!(value.iter().all(|byte| *byte == key[1]));
            found.insert((name.to_owned(), key.to_vec()));
        }
    }
    found
}

fn files(fs: &MemFs, end: &str) -> Vec<PathBuf> {
    let names = fs.list(Path::new(DIR)).unwrap();
    let wanted = names.into_iter().filter(|name| name.extension().is_some_and(|e| e == end));
    wanted.map(|name| Path::new(DIR).join(name)).collect()
}

/// What is missing is what is said to be lost, and nothing else.
fn check_account(db: &Db, recovery: &Recovery, all: &Found, what: &str) -> usize {
    assert!(!recovery.clean_shutdown && recovery.lost.is_empty(), "{what}");
    let found = keys(db);
    assert!(found.is_subset(all));
    for (tree, key) in all {
        let mut tables = recovery.lost_tables.iter().filter(|lost| lost.tree == *tree);
        let is_lost = tables.any(|lost| *lost.smallest <= **key && **key <= *lost.largest);
        let is_there = found.contains(&(tree.clone(), key.clone()));
        assert_ne!(is_there, is_lost, "{what}: {tree} {key:?} {recovery:?}");
    }
    for lost in &recovery.lost_tables {
        assert!(lost.max_seqno > 0 && lost.to_string().contains(&lost.tree), "{lost}");
    }
    all.len() - found.len()
}

#[test]
fn each_damaged_file_is_refused_or_left_out_and_told_until_it_is_dealt_with() {
    let fs = build();
    let all = keys(&open(&fs, OnDamage::Refuse).unwrap().0);
    let mut left_out = 0;
    for file in files(&fs, "sst").into_iter().chain(files(&fs, "blob")) {
        for damage in ["gone", "cut", "rot"] {
            let damaged = fs.crash_clone(CrashChoice::KeepEverything);
            match damage {
                "gone" => damaged.remove(&file).unwrap(),
                "cut" => damaged.truncate(&file, 50).unwrap(),
                _ => damaged.flip_bit(&file, 3).unwrap(),
            }
            let what = format!("{} {damage}", file.display());
            for mode in [OnDamage::Refuse, OnDamage::OpenAndReport] {
                assert!(open(&damaged, mode).unwrap_err().is_corruption(), "{what}");
            }
            let (db, recovery) = open(&damaged, OnDamage::OpenWithoutTables).unwrap();
            assert_eq!(check_account(&db, &recovery, &all, &what), 10, "{what}");
            let aside = PathBuf::from(format!("{}.damaged", file.display()));
            assert_eq!(recovery.set_aside.contains(&aside), damage != "gone", "{what}");
            drop(db);
            // Whatever way it is opened now: it is told, and nothing more is missing.
            for mode in [OnDamage::Refuse, OnDamage::OpenWithoutTables] {
                let (db, again) = open(&damaged, mode).unwrap();
                assert_eq!(again.lost_tables, recovery.lost_tables, "{what}");
                check_account(&db, &again, &all, &what);
            }
            let (db, _) = open(&damaged, OnDamage::OpenWithoutTables).unwrap();
            db.forget_lost().unwrap();
            let mut batch = WriteBatch::new();
            batch.put(&db.tree("t").unwrap(), [9, 9], [9; 10]);
            db.write(batch).unwrap();
            db.flush().unwrap();
            db.compact("t").unwrap();
            db.close().unwrap();
            let (db, settled) = open(&damaged, OnDamage::Refuse).unwrap();
            assert!(settled.lost_tables.is_empty() && settled.clean_shutdown, "{what}");
            db.verify().unwrap();
            left_out += 1;
        }
    }
    assert_eq!(left_out, 3 * (4 + 4 + 4));
}

/// Opening does not read data; who was told of damage there says so.
#[test]
fn a_suspect_is_read_whole_and_left_out_only_if_it_is_damaged() {
    let fs = build();
    let all = keys(&open(&fs, OnDamage::Refuse).unwrap().0);
    for file in files(&fs, "sst").into_iter().chain(files(&fs, "blob")) {
        let damaged = fs.crash_clone(CrashChoice::KeepEverything);
        damaged.flip_bit(&file, 40 * 8).unwrap();
        let (db, recovery) = open(&damaged, OnDamage::OpenWithoutTables).unwrap();
        assert!(recovery.lost_tables.is_empty(), "{}", file.display());
        assert!(db.verify().is_err());
        assert!(db.suspect(&file).unwrap());
        drop(db);
        let (db, _) = open(&damaged, OnDamage::Refuse).unwrap();
        drop(db);
        let (db, recovery) = open(&damaged, OnDamage::OpenWithoutTables).unwrap();
        assert_eq!(check_account(&db, &recovery, &all, &file.to_string_lossy()), 10);
        assert!(files(&damaged, "suspect").is_empty());
    }
    let (db, _) = open(&fs, OnDamage::Refuse).unwrap();
    for file in files(&fs, "sst") {
        assert!(db.suspect(&file).unwrap());
    }
    for other in ["MANIFEST", "0000000000000001.log", "", "/"] {
        assert!(!db.suspect(Path::new(other)).unwrap(), "{other}");
    }
    drop(db);
    let (db, recovery) = open(&fs, OnDamage::OpenWithoutTables).unwrap();
    assert!(recovery.lost_tables.is_empty() && files(&fs, "suspect").is_empty());
    assert_eq!(keys(&db), all);
}

/// A disk that fails is no damage: it may work again.
#[test]
fn an_error_of_the_disk_leaves_nothing_out() {
    let fs = build();
    let faulty = FaultFs::new(Arc::new(fs.clone()));
    let fault = Fault::Error(std::io::ErrorKind::Other);
    faulty.inject(FaultRule { op: Op::Read, path: ".sst".into(), nth: 2, sticky: false, fault });
    let told = open_on(Arc::new(faulty), OnDamage::OpenWithoutTables).unwrap_err();
    assert!(!told.is_corruption(), "{told}");
    assert!(open(&fs, OnDamage::Refuse).unwrap().1.lost_tables.is_empty());
}

#[test]
fn a_power_cut_while_a_table_is_left_out_loses_neither_more_nor_the_account() {
    let fs = build();
    let all = keys(&open(&fs, OnDamage::Refuse).unwrap().0);
    let files = files(&fs, "sst");
    fs.truncate(&files[1], 60).unwrap();
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let taken = cuts.clone();
    fs.set_sync_hook(move |fs, point| {
        for choice in [CrashChoice::LoseUnsynced, CrashChoice::Torn(point.number)] {
            taken.lock().push(fs.crash_clone(choice));
        }
    });
    let (db, recovery) = open(&fs, OnDamage::OpenWithoutTables).unwrap();
    drop(db);
    fs.clear_sync_hook();
    let cuts = std::mem::take(&mut *cuts.lock());
    assert!(cuts.len() > 10, "{}", cuts.len());
    for cut in cuts {
        let (db, again) = open(&cut, OnDamage::OpenWithoutTables).unwrap();
        assert_eq!(again.lost_tables, recovery.lost_tables);
        assert_eq!(again.set_aside.len(), 1);
        check_account(&db, &again, &all, "after a power cut");
    }
}

/// Nobody knows what it said: it stands for anything.
#[test]
fn a_damaged_account_is_told_as_a_loss_without_an_end() {
    let fs = build();
    fs.truncate(&files(&fs, "sst")[1], 60).unwrap();
    drop(open(&fs, OnDamage::OpenWithoutTables).unwrap());
    fs.flip_bit(&Path::new(DIR).join("LOST"), 200).unwrap();
    let (_, recovery) = open(&fs, OnDamage::OpenWithoutTables).unwrap();
    assert!(recovery.lost_tables.is_empty() && !recovery.clean_shutdown);
    assert_eq!(recovery.lost.len(), 1);
    assert!(recovery.lost[0].before.is_none() && !recovery.lost[0].is_empty());
}
