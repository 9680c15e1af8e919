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
