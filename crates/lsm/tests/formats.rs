//! Databases of every format there ever was: each opens, and holds everything that was written.
//!
//! `MERIDIAN_LSM_FIXTURE=yes cargo test -p meridian-lsm --test formats` writes one in the present
//! formats, before one of them gets a new version. What is written never changes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "whoever raises a version asks by the environment for a fixture of the one before"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use common::{Append, DIR};
use meridian_lsm::{Compaction, Compression, Db, DbOptions, TreeConfig, WriteBatch};
use meridian_vfs::{Fs, MemFs, StdFs, read_all};

const TREES: [(&str, Compression); 4] = [
    ("none", Compression::None),
    ("lz4", Compression::Lz4),
    ("snappy", Compression::Snappy),
    ("zstd", Compression::Zstd(3)),
];

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn each_fixture() -> Vec<PathBuf> {
    std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn configs() -> Vec<TreeConfig> {
    let config = |(name, compression): (&str, Compression)| TreeConfig {
        block_bytes: 1 << 10,
        compression,
        compaction: Compaction::Leveled { l0_files: 2, l1_bytes: 4 << 10, factor: 2 },
        ..TreeConfig::new(name).with_merge(Arc::new(Append))
    };
    TREES.map(config).to_vec()
}

fn options() -> DbOptions {
    DbOptions {
        table_bytes: 4 << 10,
        wal_segment_bytes: 8 << 10,
        flush_on_close: false,
        ..DbOptions::default()
    }
}

fn open(disk: &Arc<dyn Fs>) -> Db {
    Db::open(disk.clone(), Path::new(DIR), options(), configs()).unwrap().0
}

/// One batch over all trees: long and short values, operands, deletes.
fn batch(number: u32, rows: &mut Rows) -> [(Vec<u8>, Option<Vec<u8>>, bool); 3] {
    let key = format!("key-{:04}", number * 7 % 60).into_bytes();
    let value = format!("value {number} ").repeat(1 + number as usize % 12).into_bytes();
    rows.insert(key.clone(), value.clone());
    let sum = format!("sum-{:02}", number % 5).into_bytes();
    let operand = number.to_string().into_bytes();
    let total = rows.entry(sum.clone()).or_default();
    total.extend_from_slice(&operand);
    total.push(b',');
    let gone = format!("key-{:04}", number * 11 % 60).into_bytes();
    rows.remove(&gone);
    [(key, Some(value), false), (sum, Some(operand), true), (gone, None, false)]
}

/// What a fixture holds, and the writing of it. Whoever changes this takes the earlier ones away.
fn write(db: Option<&Db>) -> Rows {
    let mut rows = Rows::new();
    for number in 0..200u32 {
        let operations = batch(number, &mut rows);
        let Some(db) = db else { continue };
        let mut batch = WriteBatch::new();
        for (name, _) in TREES {
            let tree = db.tree(name).unwrap();
            for (key, value, is_operand) in &operations {
                match value {
                    Some(operand) if *is_operand => batch.merge(&tree, key, operand),
                    Some(value) => batch.put(&tree, key, value),
                    None => batch.delete(&tree, key),
                }
            }
        }
        db.write(batch).unwrap();
        match number {
            40 | 80 | 120 => db.flush().unwrap(),
            100 => db.compact("lz4").unwrap(),
            150 => {
                db.poll_job().unwrap();
            }
            180 => db.sync().unwrap(),
            _ => {}
        }
    }
    let loaded: Rows = (0..40u8).map(|n| (vec![b'l', n], vec![n; 50])).collect();
    rows.extend(loaded.clone());
    if let Some(db) = db {
        for (name, _) in TREES {
            db.ingest(&db.tree(name).unwrap(), &loaded).unwrap();
        }
    }
    rows
}

fn check(db: &Db, expected: &Rows) {
    let at = db.snapshot();
    for (name, _) in TREES {
        let tree = db.tree(name).unwrap();
        let everything = (Bound::Unbounded, Bound::<Bytes>::Unbounded);
        let found = tree.scan(everything, &at).map(Result::unwrap);
        let found: Rows = found.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert!(&found == expected, "{name}: {found:?}");
        for (key, value) in expected {
            assert_eq!(tree.get(key, &at).unwrap().as_deref(), Some(&**value));
        }
    }
    db.verify().unwrap();
}

/// The files in `dir`, in memory.
fn copy_of(dir: &Path) -> Arc<dyn Fs> {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for name in StdFs.list(dir).unwrap() {
        let copy = disk.create(&Path::new(DIR).join(&name)).unwrap();
        copy.append(&read_all(&StdFs, &dir.join(&name)).unwrap()).unwrap();
        copy.sync_data().unwrap();
    }
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk
}

/// The kinds of files in `dir` and their versions: each begins with a magic of seven bytes.
fn versions(disk: &dyn Fs, dir: &Path) -> BTreeSet<(String, u8)> {
    let named = |name: &PathBuf| {
        let bytes = read_all(disk, &dir.join(name)).unwrap();
        let magic = bytes.get(..7).filter(|magic| magic.starts_with(b"MRDN"))?;
        Some((String::from_utf8(magic.to_vec()).unwrap(), bytes[7]))
    };
    disk.list(dir).unwrap().iter().filter_map(named).collect()
}

fn present() -> (Arc<dyn Fs>, BTreeSet<(String, u8)>) {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let db = open(&disk);
    write(Some(&db));
    drop(db);
    let versions = versions(&*disk, Path::new(DIR));
    (disk, versions)
}

#[test]
fn databases_of_every_format_hold_what_was_written() {
    let expected = write(None);
    let mut checked = 0;
    for dir in each_fixture() {
        if !dir.file_name().unwrap().to_string_lossy().starts_with("written-") {
            continue;
        }
        let disk = copy_of(&dir);
        let db = open(&disk);
        check(&db, &expected);
        // Files of several formats beside each other, then one format.
        db.flush().unwrap();
        check(&db, &expected);
        TREES.iter().for_each(|(tree, _)| db.compact(tree).unwrap());
        check(&db, &expected);
        db.close().unwrap();
        check(&open(&disk), &expected);
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn every_earlier_version_has_a_fixture() {
    let kept: BTreeSet<_> = each_fixture().iter().flat_map(|dir| versions(&StdFs, dir)).collect();
    let (disk, present) = present();
    check(&open(&disk), &write(None));
    for (magic, version) in &present {
        for earlier in 1..*version {
            let wanted = (magic.clone(), earlier);
            assert!(kept.contains(&wanted), "{wanted:?} has no fixture");
        }
    }
}

/// Not a test unless asked: writes a fixture of the present formats.
#[test]
fn fixture_of_the_present() {
    if std::env::var("MERIDIAN_LSM_FIXTURE").is_err() {
        return;
    }
    let (disk, versions) = present();
    let parts: Vec<_> = versions
        .iter()
        .map(|(magic, version)| format!("{}{version}", magic[4..].to_lowercase()))
        .collect();
    let to = fixtures().join(format!("written-{}", parts.join("-")));
    StdFs.create_dir_all(&to).unwrap();
    for name in disk.list(Path::new(DIR)).unwrap() {
        let bytes = read_all(&*disk, &Path::new(DIR).join(&name)).unwrap();
        if !bytes.is_empty() {
            StdFs.create(&to.join(&name)).unwrap().append(&bytes).unwrap();
        }
    }
}
