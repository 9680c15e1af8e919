//! Databases of earlier formats open, and are written in the present one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{DIR, open_small};
use meridian_lsm::Db;
use meridian_vfs::{Fs, MemFs, StdFs, read_all};

/// A copy of a fixture in memory.
fn fixture(name: &str) -> Arc<dyn Fs> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for file in StdFs.list(&from).unwrap() {
        let bytes = read_all(&StdFs, &from.join(&file)).unwrap();
        let copy = disk.create(&Path::new(DIR).join(PathBuf::from(file.file_name().unwrap())));
        let copy = copy.unwrap();
        copy.append(&bytes).unwrap();
        copy.sync_data().unwrap();
    }
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk
}

/// Six rounds over twenty keys: a put in "a", an operand in "b", now and then a delete. The sixth
/// is in the log only.
fn check(disk: &Arc<dyn Fs>) {
    let (db, _) = open_small(disk).unwrap();
    check_tables(&db);
}

fn check_tables(db: &Db) {
    let (a, b) = (db.tree("a").unwrap(), db.tree("b").unwrap());
    for k in 0..20u32 {
        // Deleted in the last round by a later key's turn, or not at all since its own.
        let deleted = (0..20u32).any(|by| by / 2 == k && (by + 5) % 7 == 0 && by >= k);
        let value = (!deleted).then(|| format!("value {k} of round 5"));
        let found = a.get_latest(format!("key-{k:03}").as_bytes()).unwrap();
        assert_eq!(found.as_deref(), value.as_deref().map(str::as_bytes), "key {k}");
        let sum = b.get_latest(format!("sum-{k:03}").as_bytes()).unwrap();
        assert_eq!(sum.as_deref(), Some(&b"0,1,2,3,4,5,"[..]), "sum {k}");
    }
    db.verify().unwrap();
}

fn table_versions(disk: &Arc<dyn Fs>) -> Vec<u8> {
    let names = disk.list(Path::new(DIR)).unwrap();
    let tables = names.iter().filter(|name| name.extension().is_some_and(|end| end == "sst"));
    tables.map(|name| read_all(&**disk, &Path::new(DIR).join(name)).unwrap()[7]).collect()
}

#[test]
fn tables_of_version_1_and_a_manifest_of_version_2_are_read() {
    let disk = fixture("v1-table");
    assert_eq!(table_versions(&disk), [1; 9]);
    let manifest = Path::new(DIR).join("MANIFEST");
    assert_eq!(read_all(&*disk, &manifest).unwrap()[7], 2);
    check(&disk);
    assert_eq!(read_all(&*disk, &manifest).unwrap()[7], 3);
    let (db, _) = open_small(&disk).unwrap();
    // Beside new ones, and merged with them.
    db.flush().unwrap();
    check_tables(&db);
    let versions = table_versions(&disk);
    assert!(versions.contains(&1) && versions.contains(&3), "{versions:?}");
    db.compact("a").unwrap();
    db.compact("b").unwrap();
    drop(db);
    assert!(table_versions(&disk).iter().all(|version| *version == 3));
    check(&disk);
}

#[test]
fn a_manifest_of_version_1_opens() {
    let disk = fixture("v1-manifest");
    let manifest = Path::new(DIR).join("MANIFEST");
    assert_eq!(read_all(&*disk, &manifest).unwrap()[7], 1);
    check(&disk);
    assert_eq!(read_all(&*disk, &manifest).unwrap()[7], 3);
    check(&disk);
    let (db, _) = open_small(&disk).unwrap();
    db.compact("a").unwrap();
    db.compact("b").unwrap();
    drop(db);
    check(&disk);
}
