//! Looking into the files of a database says what is in them and where they are damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::oracle::{Write, batch, trees};
use common::{DIR, config, open_small};
use meridian_lsm::inspect::{self, WalItem};
use meridian_lsm::{Blobs, Compaction, Compression, Db, DbOptions, Error, TreeConfig, WriteBatch};
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
        let mut info = info.unwrap();
        assert_eq!((info.partitions.take(), table.partitions), (Some(0), None));
        assert_eq!(&info, table);
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

#[test]
fn what_files_say_of_levels_and_blobs_is_what_the_database_says() {
    let fs = MemFs::new();
    let tree = TreeConfig {
        compaction: Compaction::Leveled { l0_files: 2, l1_bytes: 20 << 10, factor: 4 },
        compression: Compression::None,
        blobs: Some(Blobs { threshold: 300, ..Blobs::default() }),
        block_bytes: 1 << 10,
        partition_bytes: 1 << 10,
        ..config("t")
    };
    let options = DbOptions { table_bytes: 256 << 10, ..DbOptions::default() };
    let (db, _) = Db::open(Arc::new(fs.clone()), Path::new(DIR), options, vec![tree]).unwrap();
    let tree = db.tree("t").unwrap();
    for round in 0..8u32 {
        let mut batch = WriteBatch::new();
        for n in (round..2000).step_by(4) {
            batch.put(&tree, format!("{n:06}"), vec![b'v'; if n % 50 == 0 { 400 } else { 30 }]);
        }
        db.write(batch).unwrap();
        db.flush().unwrap();
        // What came last stays above.
        while round < 7 && db.poll_job().unwrap() {}
    }
    let open = db.stats().trees.remove(0);
    db.close().unwrap();
    let told = inspect::manifest(&fs, Path::new(DIR)).unwrap().trees.remove(0);
    let stats = told.stats();
    assert_eq!(stats.space_by_level_percent(), open.space_by_level_percent());
    assert_eq!(stats.space_amplification_percent(), open.space_amplification_percent());
    assert!(stats.space_amplification_percent() > 100 && stats.blob_live_bytes < stats.blob_bytes);
    let sizes = |stats: &meridian_lsm::TreeStats| -> Vec<_> {
        stats.levels.iter().map(|level| (level.tables, level.bytes)).collect()
    };
    assert_eq!(sizes(&stats), sizes(&open));
    assert!(sizes(&stats).iter().filter(|(tables, _)| *tables > 0).count() > 1);
    assert_eq!((stats.name, stats.approximate_entries), (open.name, open.approximate_entries));
    let partitions = told.tables.iter().map(|table| {
        assert_eq!(table.partitions, None);
        inspect::table(&fs, &table.file, &mut |_entry| {}).unwrap().partitions.unwrap()
    });
    assert!(partitions.max() > Some(1));
}
