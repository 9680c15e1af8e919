//! The log in the hands of a driver, as a simulation has it.

use std::sync::atomic::{AtomicBool, Ordering};

use meridian_store::{LogDriver, LogMode, SyncPolicy};
use meridian_vfs::CrashChoice;

use super::*;

fn driven(sync: SyncPolicy) -> (Node, LogDriver) {
    let (fs, metadata) = (MemFs::new(), MemMetadata::new());
    let options = StoreOptions { sync, log: LogMode::Driven, ..options() };
    let (store, opened) = open_with(1, &fs, &metadata, options, 5).unwrap();
    store.join_catalog(&catalog()).unwrap();
    let driver = store.log_driver().unwrap();
    assert!(store.log_driver().is_none(), "it is one's alone");
    driver.sync().unwrap();
    (Node { number: 1, fs, metadata, store, opened }, driver)
}

impl Node {
    /// As it is after a power cut now.
    fn cut(&self) -> Self {
        let fs = self.fs.crash_clone(CrashChoice::LoseUnsynced);
        Self::on(1, fs, self.metadata.crash_clone(), 6)
    }
}

#[test]
fn a_mint_is_visible_before_it_is_settled_and_a_power_cut_in_between_takes_it() {
    let (node, driver) = driven(SyncPolicy::Always);
    let minted = node.put("ks.lww", "k", "a", WriteContext::None);
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    let call = move |settled: Result<(), _>| tell.store(settled.is_ok(), Ordering::SeqCst);
    node.store.on_settled(&minted.commit, Box::new(call));
    for written in [false, true] {
        assert_eq!(values(&node.read("ks.lww", "k")), ["a"]);
        assert!(!node.store.is_settled(&minted.commit) && !told.load(Ordering::SeqCst));
        assert!(matches!(
            node.store.wait(&minted.commit),
            Err(StoreError::Storage(meridian_lsm::Error::WouldWait))
        ));
        let after = node.cut();
        assert!(values(&after.read("ks.lww", "k")).is_empty());
        let row = node.row("ks.lww", "k");
        let clock = after.store.clock(row.keyspace, row.vnode);
        assert!(!clock.contains(minted.delta.entry.dot), "the dot goes with its row");
        if !written {
            driver.write().unwrap();
        }
    }
    driver.sync().unwrap();
    assert!(told.load(Ordering::SeqCst) && node.store.is_settled(&minted.commit));
    node.store.wait(&minted.commit).unwrap();
    assert_eq!(values(&node.cut().read("ks.lww", "k")), ["a"]);
}

#[test]
fn a_tidy_close_needs_no_driver() {
    for taken in [false, true] {
        let (fs, metadata) = (MemFs::new(), MemMetadata::new());
        let driven = StoreOptions { log: LogMode::Driven, ..options() };
        let (store, opened) = open_with(1, &fs, &metadata, driven, 5).unwrap();
        store.join_catalog(&catalog()).unwrap();
        let driver = taken.then(|| store.log_driver().unwrap());
        let node = Node { number: 1, fs, metadata, store, opened };
        node.put("ks.lww", "k", "a", WriteContext::None);
        node.store.clone().close().unwrap();
        let after = node.cut();
        assert!(after.opened.clean && !after.opened.new_incarnation);
        assert_eq!(values(&after.read("ks.lww", "k")), ["a"]);
        drop(driver);
    }
}

#[test]
fn the_log_has_one_keeper() {
    for log in [LogMode::Driven, LogMode::Inline] {
        let (fs, metadata) = (MemFs::new(), MemMetadata::new());
        let both = StoreOptions { workers: 1, log, ..options() };
        let refused = open_with(1, &fs, &metadata, both, 5).unwrap_err().to_string();
        assert!(refused.contains("workers") && refused.contains(&format!("{log:?}")), "{refused}");
    }
    for log in [LogMode::Threads, LogMode::Inline] {
        let alone = StoreOptions { log, sync: SyncPolicy::Always, ..options() };
        let (store, opened) = open_with(1, &MemFs::new(), &MemMetadata::new(), alone, 5).unwrap();
        assert!(store.log_driver().is_none());
        store.join_catalog(&catalog()).unwrap();
        let (fs, metadata) = (MemFs::new(), MemMetadata::new());
        let node = Node { number: 1, fs, metadata, store, opened };
        let minted = node.put("ks.lww", "k", "a", WriteContext::None);
        node.store.wait(&minted.commit).unwrap();
        assert!(node.store.is_settled(&minted.commit), "whoever waits writes it");
    }
}

#[test]
fn a_read_says_what_settles_what_it_shows() {
    let (node, driver) = driven(SyncPolicy::Always);
    let (row, other) = (node.row("ks.siblings", "k"), other_vnode(&node, "ks.siblings", "k"));
    let is_settled = |row: &RowKey| {
        let read = node.store.read_with_commit(row).unwrap();
        assert_eq!(read.version.row, node.store.read(row).unwrap().row);
        node.store.is_settled(&read.commit)
    };
    assert!(is_settled(&row) && is_settled(&other), "nothing was written to them");

    let minted = node.put("ks.siblings", "k", "a", WriteContext::None);
    assert!(!is_settled(&row));
    assert!(is_settled(&other), "another vnode's readers need not wait");
    driver.write().unwrap();
    assert!(!is_settled(&row));
    driver.sync().unwrap();
    assert!(is_settled(&row));
    assert_eq!(values(&node.cut().read("ks.siblings", "k")), ["a"]);

    // A delete shows as well: in the row, and in the clock that says it was seen.
    node.store
        .mint(&row, LocalWrite { context: WriteContext::WhatIsHere, ..LocalWrite::default() }, NOW)
        .unwrap();
    assert!(values(&node.read("ks.siblings", "k")).is_empty() && !is_settled(&row));
    driver.sync().unwrap();
    assert!(is_settled(&row));

    // What others have said.
    let there = Node::new(2);
    let put = there.put("ks.siblings", "k", "b", WriteContext::None);
    assert!(node.store.apply(&row, &put.delta, None, NOW).unwrap().new);
    assert!(!is_settled(&row));
    let again = node.store.apply(&row, &put.delta, None, NOW).unwrap();
    assert!(!again.new && !node.store.is_settled(&again.commit), "it is not durable here yet");
    driver.sync().unwrap();
    assert!(is_settled(&row) && node.store.is_settled(&again.commit));

    there.put("ks.siblings", "k", "c", WriteContext::WhatIsHere);
    let version = there.store.read(&row).unwrap();
    let coverage = version.row.full_context(&version.clock);
    for changes in [true, false] {
        let commit = node.store.join(&row, &version.row, &coverage).unwrap();
        assert!(!node.store.is_settled(&commit) && !is_settled(&row), "{changes}");
    }
    driver.sync().unwrap();
    assert!(is_settled(&row));

    there.put("ks.siblings", "k", "d", WriteContext::WhatIsHere);
    let clock = there.store.clock(row.keyspace, row.vnode);
    node.store.join_clock(row.keyspace, row.vnode, &clock).unwrap();
    assert!(!is_settled(&row), "the clock alone tells a reader that what is missing was replaced");
    driver.sync().unwrap();
    assert!(is_settled(&row));
    let retried = node.store.apply(&row, &minted.delta, None, NOW).unwrap();
    assert!(node.store.is_settled(&retried.commit));
}

#[test]
fn where_nobody_waits_for_syncs_every_read_is_settled() {
    for sync in [SyncPolicy::default(), SyncPolicy::Os] {
        let (node, _driver) = driven(sync);
        node.put("ks.lww", "k", "a", WriteContext::None);
        let read = node.store.read_with_commit(&node.row("ks.lww", "k")).unwrap();
        assert!(node.store.is_settled(&read.commit));
    }
}

/// A row of the same table in another vnode.
fn other_vnode(node: &Node, table: &str, key: &str) -> RowKey {
    let vnode = node.row(table, key).vnode;
    let rows = (0..).map(|number| node.row(table, &number.to_string()));
    rows.into_iter().find(|row| row.vnode != vnode).unwrap()
}
