//! Tables whose order nobody knows, and manifests that know less than they do.

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
    let origin = Origin {
        tree: 1,
        name,
        table: id,
        level,
        flushed: 9,
        inputs,
        replaced: vec![id + 200],
        ..Origin::default()
    };
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

#[test]
fn what_a_repair_merges_is_the_bottom_and_compressed_like_it() {
    // Nothing but a key in common, and values that compress.
    let (first, second) = ("a".repeat(9), "b".repeat(4 << 10));
    let merged = |bottom: Option<Compression>, compression: Compression| {
        let memory = MemFs::new();
        table(&memory, 1, 0, [(&first, 1), (&second, 9)]);
        table(&memory, 2, 1, [(&first, 5), ("c", 6)]);
        let config = TreeConfig { compression, bottom_compression: bottom, ..TreeConfig::new("t") };
        let disk: Arc<dyn Fs> = Arc::new(memory);
        let report = repair(disk.clone(), DIR.as_ref(), &[config], true).unwrap();
        assert!(report.trees[0].merged, "{report:?}");
        let loaded = Manifest::load(&*disk, DIR.as_ref()).unwrap().unwrap();
        loaded.state.trees[&1].tables.values().map(|table| table.bytes).sum::<u64>()
    };
    let zstd = Compression::Zstd(3);
    let (plain, small) = (merged(None, Compression::None), merged(None, zstd));
    assert!(small + (3 << 10) < plain, "{small} {plain}");
    assert_eq!(merged(Some(zstd), Compression::None), small);
    assert_eq!(merged(Some(Compression::None), zstd), plain);
}

#[test]
fn a_manifest_without_what_tables_have_replaced_is_an_older_one() {
    let fs = MemFs::new();
    let known = table(&fs, 1, 1, OLDER);
    for (needed, is_older) in [(1, false), (101, true), (201, true), (301, false)] {
        let mut state = State { next_tree: 2, ..State::default() };
        let mut tree = new_tree(TreeRecord::new(1, &TreeConfig::new("t")));
        tree.flushed = 9;
        tree.tables.insert(needed, TableRecord { id: needed, ..known.clone() });
        state.trees.insert(1, tree);
        let found = survey::contradiction(&fs, DIR.as_ref(), &state).unwrap();
        assert_eq!(found.is_some(), is_older, "{needed}: {found:?}");
    }
}

/// Appends.
struct Join;

impl crate::options::MergeOperator for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<Option<Vec<u8>>, crate::options::MergeError> {
        Ok(Some([base.unwrap_or_default(), &operands.collect::<Vec<_>>().concat()].concat()))
    }
}

#[test]
fn a_manifest_that_knows_of_fewer_flushes_than_its_tables_is_refused_and_repaired() {
    let memory = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    let config = || vec![TreeConfig::new("t").with_merge(Arc::new(Join))];
    let open =
        |disk: &Arc<dyn Fs>| Db::open(disk.clone(), DIR.as_ref(), DbOptions::default(), config());
    let (db, _) = open(&disk).unwrap();
    let add = |what: &str| {
        let mut batch = crate::batch::WriteBatch::new();
        batch.merge(&db.tree("t").unwrap(), "k", what);
        db.write(batch).unwrap();
    };
    add("1");
    db.flush().unwrap();
    add("2");
    db.flush().unwrap();
    add("3");
    db.sync().unwrap();
    drop(db);
    let mut state = Manifest::load(&*disk, DIR.as_ref()).unwrap().unwrap().state;
    let flushed = state.trees[&1].flushed;
    for low in 0..flushed {
        state.trees.get_mut(&1).unwrap().flushed = low;
        let lying = memory.crash_clone(CrashChoice::KeepEverything);
        let disk: Arc<dyn Fs> = Arc::new(lying);
        drop(Manifest::write(disk.clone(), DIR.as_ref(), state.clone()).unwrap());
        let all = || {
            let names = disk.list(DIR.as_ref()).unwrap();
            let read = |name| meridian_vfs::read_all(&*disk, &Path::new(DIR).join(name)).unwrap();
            names.into_iter().map(|name| (name.clone(), read(name))).collect::<Vec<_>>()
        };
        let before = all();
        let told = open(&disk).unwrap_err();
        let Error::Corruption { file, what, .. } = &told else { panic!("{told}") };
        assert!(file.ends_with("MANIFEST") && what.contains("tree t"), "{told}");
        assert!(all() == before, "something was changed");
        let report = repair(disk.clone(), DIR.as_ref(), &config(), true).unwrap();
        assert!(report.is_complete() && report.manifest.is_some(), "{report:?}");
        let (db, _) = open(&disk).unwrap();
        assert_eq!(db.tree("t").unwrap().get_latest(b"k").unwrap().unwrap(), "123");
        db.verify().unwrap();
    }
}
