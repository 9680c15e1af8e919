//! A table's definition says how its files are compacted, and may change while it is written.

use meridian_types::Compaction;
use meridian_vfs::Fs;

use super::*;

const ROWS: usize = 300;

fn catalog_with(compaction: Compaction, stamp: u64) -> Catalog {
    let version = Version { stamp: Hlc(stamp), node: NodeId(1) };
    let mut catalog = Catalog::default();
    catalog.create_keyspace("ks", BTreeMap::from([("us".to_owned(), 3)]), version).unwrap();
    for (name, policy) in
        [("ks.siblings", ConflictPolicy::Siblings), ("ks.lww", ConflictPolicy::Lww)]
    {
        let options = TableOptions { policy, compaction, ..TableOptions::default() };
        catalog.create_table(&name.parse().unwrap(), options, version).unwrap();
    }
    catalog
}

fn assert_all(node: &Node, last: &str) {
    for n in 0..ROWS {
        let key = format!("key {n}");
        assert_eq!(values(&node.read("ks.lww", &key)), [format!("{last} {n}")]);
        assert_eq!(values(&node.read("ks.siblings", &key)), [format!("{last} {n}")]);
    }
}

#[test]
fn a_table_keeps_its_rows_whatever_its_compaction_and_while_that_changes() {
    let mut node = Node::new(1);
    for (at, compaction) in Compaction::EVERY.into_iter().chain(Compaction::EVERY).enumerate() {
        node.store.join_catalog(&catalog_with(compaction, 2 + at as u64)).unwrap();
        assert_eq!(node.table("ks.lww").options.compaction, compaction);
        for round in 0..5 {
            for n in (0..ROWS).filter(|n| n % 5 == round) {
                let (key, value) = (format!("key {n}"), format!("{} {n}", compaction.name()));
                node.put("ks.lww", &key, &value, WriteContext::None);
                node.put("ks.siblings", &key, &value, WriteContext::WhatIsHere);
            }
            node.store.flush().unwrap();
            while node.store.poll_job().unwrap() {}
        }
        assert_all(&node, compaction.name());
        if at % 3 == 2 {
            node = node.restarted(2000 + at as u64);
            assert_all(&node, compaction.name());
        }
    }
    node.store.verify().unwrap();
    let files = node.fs.list(Path::new(DIR)).unwrap();
    let tables = files.iter().filter(|file| file.extension().is_some_and(|end| end == "sst"));
    let tables = tables.count();
    assert!(tables < 30, "120 flushes left {tables} files");
}
