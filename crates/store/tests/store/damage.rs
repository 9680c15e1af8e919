//! Bad disks: an error, never a missing or a wrong row.

use meridian_lsm::{Db, DbOptions, MergeError, MergeOperator, TreeConfig, WriteBatch};
use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, Op};

use super::*;

const ROWS: usize = 60;

fn flushed() -> Node {
    let node = Node::new(1);
    for n in 0..ROWS {
        node.put("ks.siblings", &n.to_string(), &n.to_string(), WriteContext::None);
    }
    node.store.flush().unwrap();
    node
}

fn data_files(fs: &MemFs) -> Vec<std::path::PathBuf> {
    let files = fs.list(Path::new(DIR)).unwrap();
    let tables = files.into_iter().filter(|name| name.extension().is_some_and(|e| e == "sst"));
    tables.map(|name| Path::new(DIR).join(name)).collect()
}

#[test]
fn a_flipped_bit_in_a_data_file_is_an_error_or_changes_nothing() {
    let node = flushed();
    let (fs, metadata) = (node.fs.clone(), node.metadata.clone());
    node.store.close().unwrap();
    let mut errors = 0;
    for file in data_files(&fs) {
        let bits = fs.open(&file).unwrap().len().unwrap() * 8;
        for bit in (0..bits).step_by(usize::try_from(bits / 40).unwrap().max(1)) {
            let damaged = fs.crash_clone(CrashChoice::KeepEverything);
            damaged.flip_bit(&file, bit).unwrap();
            let opened = open_with(1, &damaged, &metadata.crash_clone(), options(), 50);
            let store = match opened {
                Ok((_, opened)) if !opened.lost.is_empty() => {
                    // Opened without the file: `lost` looks at that.
                    errors += 1;
                    continue;
                }
                Ok((store, _)) => store,
                Err(error) => {
                    assert!(error.is_corruption(), "{error}");
                    errors += 1;
                    continue;
                }
            };
            let def = store.table(table("ks.siblings")).unwrap();
            for n in 0..ROWS {
                let key = Bytes::from(n.to_string());
                match store.read(&store.row_key(&def, key)) {
                    Ok(version) => assert_eq!(values(&version.row), [n.to_string()]),
                    Err(error) => {
                        assert!(error.is_corruption(), "{error}");
                        let name = file.file_name().unwrap().to_str().unwrap();
                        assert!(error.to_string().contains(name), "{error}");
                        errors += 1;
                    }
                }
            }
            match store.page(def.id, None, u64::MAX, 1000, b"") {
                Ok(page) => assert_eq!(page.rows.len(), ROWS),
                Err(error) => assert!(error.is_corruption(), "{error}"),
            }
        }
    }
    assert!(errors > 20, "{errors}");
}

/// The operator of the tables' trees by name only, to write what no store writes.
struct Forger;

impl MergeOperator for Forger {
    fn name(&self) -> &'static str {
        "meridian.row.1"
    }

    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<Option<Vec<u8>>, MergeError> {
        Ok(base.or_else(|| operands.last()).map(<[u8]>::to_vec))
    }
}

/// Replaces every stored row of a table.
fn forge(fs: &MemFs, id: TableId, value: &[u8]) {
    let tree = TreeConfig::new(format!("t{}", id.0)).with_merge(Arc::new(Forger));
    let (db, _) =
        Db::open(Arc::new(fs.clone()), Path::new(DIR), DbOptions::default(), vec![tree]).unwrap();
    let tree = db.tree(&format!("t{}", id.0)).unwrap();
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let mut batch = WriteBatch::new();
    for stored in tree.scan(all, &db.snapshot()) {
        batch.put(&tree, stored.unwrap().0, value);
    }
    db.write(batch).unwrap();
    db.close().unwrap();
}

#[test]
fn a_row_that_does_not_decode_is_corrupt_and_names_table_and_key() {
    let node = Node::new(1);
    node.put("ks.siblings", "key", "a", WriteContext::None);
    let (fs, metadata) = (node.fs.clone(), node.metadata.clone());
    node.store.close().unwrap();
    forge(&fs, table("ks.siblings"), b"\x0fgarbage");
    let node = Node::on(1, fs, metadata, 9);
    let row = node.row("ks.siblings", "key");
    let expect = |error: StoreError| {
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
        let message = error.to_string();
        assert!(message.contains("ks.siblings") && message.contains("row key of"), "{message}");
    };
    expect(node.store.read(&row).unwrap_err());
    expect(node.store.page(row.table, None, u64::MAX, 10, b"").unwrap_err());
    let empty = meridian_crdt::VnodeClock::default();
    expect(node.store.pull_page(row.keyspace, row.vnode, &empty, None, false, 100).unwrap_err());
    let clock = node.store.clock(row.keyspace, row.vnode);
    expect(node.store.mint(&row, write("b", WriteContext::WhatIsHere), NOW).unwrap_err());
    let version = Row::default();
    expect(node.store.join(&row, &version, &Context::default()).unwrap_err());
    assert_eq!(clock, node.store.clock(row.keyspace, row.vnode), "nothing was changed");
    // A blind write does not look, and does not hide the damage either.
    node.put("ks.siblings", "key", "c", WriteContext::None);
    expect(node.store.read(&row).unwrap_err());
}

#[test]
fn a_failed_sync_stops_every_write_and_reads_go_on() {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let metadata = Arc::new(MemMetadata::new());
    let (store, _) = Store::open(
        Arc::new(fs.clone()),
        Path::new(DIR),
        metadata,
        identity(1),
        options(),
        Incarnation(1),
        NOW,
    )
    .unwrap();
    store.join_catalog(&catalog()).unwrap();
    let def = store.table(table("ks.lww")).unwrap();
    let row = store.row_key(&def, Bytes::from_static(b"k"));
    store.mint(&row, write("a", WriteContext::None), NOW).unwrap();
    let fault = Fault::Error(std::io::ErrorKind::Other);
    let path = String::new();
    fs.inject(FaultRule { op: Op::Sync, path, nth: 1, sticky: false, fault });
    assert!(store.sync().is_err());
    assert!(store.poisoned().is_some());
    let refused = store.mint(&row, write("b", WriteContext::None), NOW).unwrap_err();
    assert!(matches!(refused, StoreError::Storage(_)), "{refused}");
    let version = store.read(&row).unwrap();
    assert_eq!(values(&version.row), ["a"]);
    assert_eq!(version.clock.highest(store.actor()), 1, "the clock claims what is there");
    assert!(store.close().is_err());
}
