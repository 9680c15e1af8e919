//! Tables whose order nobody knows.

use meridian_vfs::{CrashChoice, MemFs};
use parking_lot::Mutex;

use super::*;
use crate::db::Db;
use crate::key::pack;
use crate::options::{Compression, DbOptions};

type Rows<'a> = [(&'a str, Seqno); 2];

/// A table of tree 1 that says it was written for `level`; a value is its seqno.
fn table(fs: &MemFs, id: u64, level: u8, rows: Rows<'_>) -> TableRecord {
    let (dir, config) = (Path::new(DIR), TreeConfig::new("t"));
    fs.create_dir_all(dir).unwrap();
    let name = config.name.clone();
    // Below level 0 there are tables that were merged; of what is gone.
    let inputs = if level > 0 { vec![id + 100] } else { Vec::new() };
    let origin =
        Origin { tree: 1, name, table: id, level, flushed: 9, inputs, ..Origin::default() };
    let compression = Compression::None;
    let mut writer = TableWriter::create(fs, dir, &config, compression, origin).unwrap();
    for (key, seqno) in rows {
        let value = seqno.to_string();
        writer.add(key.as_bytes(), pack(seqno, ValueKind::Put), value.as_bytes()).unwrap();
    }
    let record = writer.finish().unwrap();
    fs.sync_dir(dir).unwrap();
    record
}

const DIR: &str = "/t";
/// One key in common.
const OLDER: Rows<'static> = [("a", 1), ("c", 9)];
const NEWER: Rows<'static> = [("a", 5), ("b", 6)];

#[test]
fn a_newer_version_further_down_is_out_of_order() {
    let fs = MemFs::new();
    let open =
        |record: TableRecord| survey::open(&fs, DIR.as_ref(), &record, &BTreeMap::new()).unwrap();
    let (older, newer) = (open(table(&fs, 1, 0, OLDER)), open(table(&fs, 2, 0, NEWER)));
    for (above, below, ordered) in [(0, 1, true), (1, 2, true), (1, 0, false), (6, 1, false)] {
        let tables = [(above, newer.clone()), (below, older.clone())];
        let version = Version::empty().with(&[], &tables);
        assert_eq!(is_ordered(&version).unwrap(), ordered, "{above} {below}");
    }
}

#[test]
fn tables_out_of_order_are_merged_however_often_that_is_begun() {
    let memory = MemFs::new();
    table(&memory, 1, 0, OLDER);
    table(&memory, 2, 1, NEWER);
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let taken = cuts.clone();
    memory.set_sync_hook(move |fs, point| {
        for choice in [
            CrashChoice::LoseUnsynced,
            CrashChoice::KeepEverything,
            CrashChoice::Torn(point.number),
        ] {
            taken.lock().push(fs.crash_clone(choice));
        }
    });
    let mend = |disk: &Arc<dyn Fs>| {
        repair(disk.clone(), DIR.as_ref(), &[TreeConfig::new("t")], true).unwrap()
    };
    let first = mend(&(Arc::new(memory.clone()) as Arc<dyn Fs>));
    memory.clear_sync_hook();
    assert!(first.trees[0].merged && !first.trees[0].doubtful, "{first:?}");
    let mut disks = std::mem::take(&mut *cuts.lock());
    assert!(disks.len() > 10, "{}", disks.len());
    disks.push(memory);
    for disk in disks {
        let disk: Arc<dyn Fs> = Arc::new(disk);
        mend(&disk);
        let (db, _) = Db::open(disk, DIR.as_ref(), DbOptions::default(), Vec::new()).unwrap();
        let tree = db.tree("t").unwrap();
        let read = |key: &str| tree.get_latest(key.as_bytes()).unwrap().unwrap();
        assert_eq!([read("a"), read("b"), read("c")], ["5", "6", "9"]);
        assert!(db.stats().trees[0].levels[LEVELS - 1].tables == 1);
        db.verify().unwrap();
    }
}
