//! Looking into the files of a database says what is in them and where they are damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::oracle::{Write, batch, trees};
use common::{DIR, open_small};
use meridian_lsm::Error;
use meridian_lsm::inspect::{self, WalItem};
use meridian_vfs::{Fs, MemFs};

fn build(cleanly: bool) -> MemFs {
    let fs = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let (db, _) = open_small(&disk).unwrap();
    for number in 0..40u8 {
        let writes = [
            Write::Put(0, number, vec![number; 50]),
            Write::Delete(1, number),
            Write::Merge(1, 3, 7),
        ];
        db.write(batch(&trees(&db), &writes)).unwrap();
        db.sync().unwrap();
        if number == 20 {
            db.compact("a").unwrap();
            db.flush().unwrap();
        }
    }
    if cleanly {
        db.close().unwrap();
    }
    fs
}

fn segments(fs: &MemFs) -> Vec<PathBuf> {
    let names = fs.list(Path::new(DIR)).unwrap();
    let logs = names.iter().filter(|name| name.extension().is_some_and(|end| end == "log"));
    logs.map(|name| Path::new(DIR).join(name)).collect()
}

#[test]
fn everything_that_was_written_is_found() {
    let fs = build(true);
    let manifest = inspect::manifest(&fs, Path::new(DIR)).unwrap();
    assert!(manifest.closed.is_some() && manifest.trees.len() == 2);
    let tree = &manifest.trees[0];
    assert_eq!((tree.config.name.as_str(), tree.merge.as_str()), ("a", "append"));
    let mut versions = 0;
    for table in manifest.trees.iter().flat_map(|tree| &tree.tables) {
        let mut last = None;
        let info = inspect::table(&fs, &table.file, &mut |entry| {
            assert!(last.as_ref().is_none_or(|last| *last <= entry.key));
            assert!((table.min_seqno..=table.max_seqno).contains(&entry.seqno));
            versions += 1;
            last = Some(entry.key);
        });
        assert_eq!(&info.unwrap(), table);
    }
    let said: u64 =
        manifest.trees.iter().flat_map(|tree| &tree.tables).map(|table| table.entries).sum();
    assert!(versions == said && said > 20, "{versions} {said}");
    let (mut next, mut closed, mut operations) = (0, 0, 0);
    for file in segments(&fs) {
        inspect::wal(&fs, &file, true, &mut |item| match item {
            WalItem::Chunk { batches, .. } => {
                for (first, count) in batches {
                    assert!(next == 0 || first == next);
                    next = first + u64::from(count);
                }
            }
            WalItem::Operation { seqno, .. } => {
                assert!(seqno < next);
                operations += 1;
            }
            WalItem::Closed { .. } => closed += 1,
            WalItem::Unreadable { .. } => panic!("{item:?}"),
        })
        .unwrap();
    }
    assert!(next == 121 && closed == 1 && operations >= 57, "{next} {operations}");
    let mut files = 0;
    inspect::verify(&fs, Path::new(DIR), &mut |_file, _bytes| files += 1).unwrap();
    assert!(files > 4, "{files}");
}

#[test]
fn damage_is_said_and_what_is_behind_it_is_read() {
    let fs = build(false);
    let file = segments(&fs).pop().unwrap();
    let mut chunks = Vec::new();
    let mut each = |item| {
        if let WalItem::Chunk { offset, bytes, .. } = item {
            chunks.push((offset, bytes));
        }
    };
    inspect::wal(&fs, &file, false, &mut each).unwrap();
    let (from, bytes) = chunks[chunks.len() / 2];
    fs.flip_bit(&file, (from + bytes - 1) * 8).unwrap();
    let mut unreadable = Vec::new();
    let mut read = 0;
    inspect::wal(&fs, &file, false, &mut |item| match item {
        WalItem::Unreadable { from, to } => unreadable.push((from, to)),
        _ => read += 1,
    })
    .unwrap();
    assert_eq!((unreadable, read), (vec![(from, from + bytes)], chunks.len() - 1));
    let told = inspect::verify(&fs, Path::new(DIR), &mut |_file, _bytes| {}).unwrap_err();
    assert!(matches!(&told, Error::Corruption { file: named, offset, .. }
        if *named == file && *offset == from));
    let unknown = Path::new(DIR).join("00000000000000ff.sst");
    let told = inspect::table(&fs, &unknown, &mut |_entry| {}).unwrap_err();
    assert!(matches!(told, Error::InvalidArgument { .. }));
    let told = inspect::wal(&fs, &unknown, false, &mut |_item| {}).unwrap_err();
    assert!(matches!(told, Error::InvalidArgument { .. }));
}
