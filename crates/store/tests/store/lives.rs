//! Identity, incarnations, the catalog and the stamps over restarts.

use meridian_store::{Metadata, SyncPolicy, require_new_incarnation};
use meridian_types::Partitioner;
use meridian_vfs::CrashChoice;

use super::*;

#[test]
fn a_tidy_stop_keeps_the_incarnation_and_goes_on_counting() {
    let node = Node::new(1);
    assert!(node.opened.clean && node.opened.new_incarnation && !node.opened.data_lost);
    let actor = node.store.actor();
    let first = node.put("ks.siblings", "k", "a", WriteContext::None).delta.entry.dot;
    let node = node.restarted(77);
    assert!(node.opened.clean && !node.opened.new_incarnation && !node.opened.data_lost);
    assert_eq!(node.store.actor(), actor);
    let second = node.put("ks.siblings", "k", "b", WriteContext::None).delta.entry.dot;
    assert_eq!((first.counter, second.counter), (1, 2));
    assert_eq!(values(&node.read("ks.siblings", "k")), ["a", "b"]);
}

#[test]
fn a_crash_begins_a_new_incarnation_under_every_policy_and_keeps_its_dots() {
    for sync in [SyncPolicy::default(), SyncPolicy::Always, SyncPolicy::Os] {
        let (fs, metadata) = (MemFs::new(), MemMetadata::new());
        let options = StoreOptions { sync, ..options() };
        let (store, opened) = open_with(1, &fs, &metadata, options.clone(), 5).unwrap();
        store.join_catalog(&catalog()).unwrap();
        let node = Node { number: 1, fs, metadata, store, opened };
        node.put("ks.siblings", "k", "a", WriteContext::None);
        node.store.sync().unwrap();
        let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
        let node = Node::on(1, fs, node.metadata.crash_clone(), 6);
        assert!(!node.opened.clean && node.opened.new_incarnation && !node.opened.data_lost);
        assert_eq!(node.store.actor().incarnation, Incarnation(6));
        assert_eq!(values(&node.read("ks.siblings", "k")), ["a"]);
        let dot = node.put("ks.siblings", "k", "b", WriteContext::None).delta.entry.dot;
        assert_eq!(dot.counter, 1);
    }
}

/// Why a synced log is no reason to keep the incarnation: a dot can leave the node before its sync.
#[test]
fn a_dot_that_left_before_its_sync_is_not_minted_again_after_a_power_cut() {
    let (fs, metadata) = (MemFs::new(), MemMetadata::new());
    let (store, opened) = open_with(1, &fs, &metadata, options(), 5).unwrap();
    store.join_catalog(&catalog()).unwrap();
    let node = Node { number: 1, fs, metadata, store, opened };
    node.store.sync().unwrap();
    let peer = Node::new(2);
    node.put("ks.siblings", "k", "a", WriteContext::None);
    pulls::pull(&peer, &node);
    let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
    let node = Node::on(1, fs, node.metadata.crash_clone(), 6);
    assert!(node.read("ks.siblings", "k").is_empty());
    node.put("ks.siblings", "k", "b", WriteContext::None);
    pulls::pull(&peer, &node);
    pulls::pull(&node, &peer);
    for node in [&node, &peer] {
        assert_eq!(values(&node.read("ks.siblings", "k")), ["a", "b"]);
    }
}

#[test]
fn the_incarnation_is_durable_before_the_first_dot() {
    let node = Node::new(1);
    // Nothing was flushed since it was opened.
    let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
    let metadata = node.metadata.crash_clone();
    assert_eq!(metadata.scan(b"store/life").unwrap().len(), 1);
    let again = Node::on(1, fs, metadata, 8);
    assert!(!again.opened.data_lost, "the engine knew the life as well");
    assert_eq!(again.store.actor().incarnation, Incarnation(8));
}

#[test]
fn either_side_wiped_or_put_back_begins_a_new_incarnation() {
    let node = Node::new(1);
    node.put("ks.lww", "k", "a", WriteContext::None);
    let node = node.restarted(20);
    let Node { fs, metadata, store, .. } = node;
    store.close().unwrap();
    let old_fs = fs.crash_clone(CrashChoice::KeepEverything);
    let old_metadata = metadata.crash_clone();

    // The metadata alone are wiped: rows are there, the catalog comes again.
    let wiped = MemMetadata::new();
    let copy = old_fs.crash_clone(CrashChoice::KeepEverything);
    let node = Node::on(1, copy, wiped, 21);
    assert!(node.opened.new_incarnation && !node.opened.data_lost);
    assert_eq!(values(&node.read("ks.lww", "k")), ["a"]);

    // The data alone are wiped.
    let node = Node::on(1, MemFs::new(), old_metadata.crash_clone(), 22);
    assert!(node.opened.new_incarnation && node.opened.data_lost);
    assert!(node.read("ks.lww", "k").is_empty());

    // One more life, and an older copy of the data.
    let (store, _) = open_with(1, &fs, &metadata, options(), 23).unwrap();
    store.close().unwrap();
    let copy = old_fs.crash_clone(CrashChoice::KeepEverything);
    let node = Node::on(1, copy, metadata.crash_clone(), 24);
    assert!(node.opened.new_incarnation && node.opened.data_lost);

    // A whole copy looks like the node itself, unless whoever restores it says so.
    let copy = old_fs.crash_clone(CrashChoice::KeepEverything);
    let restored = old_metadata.crash_clone();
    let node = Node::on(1, copy.clone(), restored, 25);
    assert!(!node.opened.new_incarnation);
    drop(node);
    let copy = old_fs.crash_clone(CrashChoice::KeepEverything);
    let restored = old_metadata.crash_clone();
    require_new_incarnation(&restored).unwrap();
    let node = Node::on(1, copy, restored, 26);
    assert!(node.opened.new_incarnation);
}

#[test]
fn somebody_elses_directory_is_refused() {
    let Node { fs, metadata, store, .. } = Node::new(1);
    store.close().unwrap();
    let refused = |what: &str, identity: Identity, options: StoreOptions| {
        // Either side alone is enough to know.
        for metadata in [metadata.clone(), MemMetadata::new()] {
            let refused = Store::open(
                Arc::new(fs.clone()),
                Path::new(DIR),
                Arc::new(metadata),
                identity.clone(),
                options.clone(),
                Incarnation(9),
                NOW,
            )
            .unwrap_err();
            let message = refused.to_string();
            assert!(matches!(refused, StoreError::Foreign(_)), "{refused}");
            assert!(message.contains(DIR) && message.contains(what), "{message}");
        }
    };
    let own = || identity(1);
    let cluster = Identity { cluster: "prod".to_owned(), ..own() };
    refused("cluster `test`, and this node has `prod`", cluster, options());
    refused("node 1 `us-1`, and this node has 2 `us-2`", identity(2), options());
    let renamed = Identity { node_name: "us-9".to_owned(), ..own() };
    refused("node 1 `us-1`, and this node has 1 `us-9`", renamed, options());
    let moved = Identity { dc: "eu".to_owned(), ..own() };
    refused("datacenter `us`, and this node has `eu`", moved, options());
    let md5 = StoreOptions { partitioner: Partitioner::Md5, ..options() };
    refused("partitioner slot-murmur3, and this node has md5", own(), md5);
    let bits = StoreOptions { vnode_bits: 2, ..options() };
    refused("vnode_bits 1, and this node has 2", own(), bits);
    let other_rack = Identity { rack: "b".to_owned(), ..own() };
    let (fs, metadata) = (Arc::new(fs.clone()), Arc::new(metadata.clone()));
    let dir = Path::new(DIR);
    Store::open(fs, dir, metadata, other_rack, options(), Incarnation(9), NOW).unwrap();
}

#[test]
fn too_many_vnodes_are_refused() {
    for vnode_bits in [21, 32, u32::MAX] {
        let options = StoreOptions { vnode_bits, ..options() };
        let refused = open_with(1, &MemFs::new(), &MemMetadata::new(), options, 1).unwrap_err();
        assert!(refused.to_string().contains("use 0 to 20"), "{refused}");
    }
}

#[test]
fn the_catalog_is_durable_when_it_is_joined() {
    let node = Node::new(1);
    assert!(!node.store.join_catalog(&catalog()).unwrap(), "nothing new");
    let metadata = node.metadata.crash_clone();
    let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
    let (store, _) = open_with(1, &fs, &metadata, options(), 9).unwrap();
    assert_eq!(*store.catalog(), catalog());
    assert!(store.table(table("ks.lww")).is_some());
}

#[test]
fn a_catalog_that_cannot_be_kept_is_not_shown() {
    let node = Node::new(1);
    let mut other = catalog();
    let version = Version { stamp: Hlc(2), node: NodeId(1) };
    other.create_table(&"ks.new".parse().unwrap(), TableOptions::default(), version).unwrap();
    node.metadata.set_failing(true);
    assert!(matches!(node.store.join_catalog(&other).unwrap_err(), StoreError::Metadata(_)));
    assert_eq!(*node.store.catalog(), catalog());
    node.metadata.set_failing(false);
    assert!(node.store.join_catalog(&other).unwrap());
    assert_eq!(*node.store.catalog(), other);
}

#[test]
fn a_definition_with_another_policy_holds_from_then_on_and_over_restarts() {
    let node = Node::new(1);
    node.put("ks.siblings", "k", "a", WriteContext::None);
    node.put("ks.siblings", "k", "b", WriteContext::None);
    node.store.flush().unwrap();
    node.put("ks.siblings", "k", "c", WriteContext::None);
    let mut other = Catalog::default();
    let version = Version { stamp: Hlc(9), node: NodeId(2) };
    other.create_keyspace("ks", BTreeMap::from([("us".to_owned(), 3)]), version).unwrap();
    let options = TableOptions { policy: ConflictPolicy::Lww, ..TableOptions::default() };
    other.create_table(&"ks.siblings".parse().unwrap(), options, version).unwrap();
    assert!(node.store.join_catalog(&other).unwrap());
    assert_eq!(values(&node.read("ks.siblings", "k")), ["c"]);
    let node = node.restarted(3);
    assert_eq!(values(&node.read("ks.siblings", "k")), ["c"]);
}

#[test]
fn stamps_rise_over_restarts_whatever_the_wall_clock_does() {
    let node = Node::new(1);
    let at = |node: &Node, now| {
        let write = write("x", WriteContext::None);
        node.store.mint(&node.row("ks.lww", "k"), write, now).unwrap().delta.entry.stamp
    };
    let first = at(&node, NOW);
    let node = node.restarted(2);
    let second = at(&node, Millis(1000));
    assert!(second > first);
    assert!(second.millis().since(NOW) < 10, "a tidy stop does not drive the stamps ahead");
    node.store.sync().unwrap();
    let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
    let node = Node::on(1, fs, node.metadata.crash_clone(), 3);
    let third = at(&node, Millis(1000));
    assert!(third > second);
}

#[test]
fn a_closed_store_takes_no_writes() {
    let node = Node::new(1);
    let clone = node.store.clone();
    let row = node.row("ks.lww", "k");
    node.store.close().unwrap();
    let refused = clone.mint(&row, write("x", WriteContext::None), NOW).unwrap_err();
    assert!(matches!(refused, StoreError::Closed), "{refused}");
    assert!(matches!(clone.join_catalog(&Catalog::default()).unwrap_err(), StoreError::Closed));
    assert!(matches!(clone.close().unwrap_err(), StoreError::Closed));
}

/// At any moment of a start the disk may keep what was synced, and the metadata what was flushed.
#[test]
fn a_start_that_is_cut_off_is_a_crash_and_no_loss() {
    let node = Node::new(1);
    node.put("ks.lww", "k", "a", WriteContext::None);
    let Node { fs, metadata, store, .. } = node.restarted(20);
    store.close().unwrap();
    let cuts = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let (taken, kept) = (cuts.clone(), metadata.clone());
    fs.set_sync_hook(move |fs, _| {
        let cut = (fs.crash_clone(CrashChoice::LoseUnsynced), kept.crash_clone());
        taken.lock().push(cut);
    });
    drop(open_with(1, &fs, &metadata, options(), 21).unwrap());
    fs.clear_sync_hook();
    let cuts = std::mem::take(&mut *cuts.lock());
    assert!(cuts.len() > 5, "{}", cuts.len());
    for (fs, metadata) in cuts {
        // And cut off once more.
        let again = (fs.crash_clone(CrashChoice::LoseUnsynced), metadata.crash_clone());
        for (fs, metadata) in [(fs, metadata), again] {
            let before = metadata.crash_clone();
            let node = Node::on(1, fs, metadata, 22);
            assert!(!node.opened.data_lost && !node.opened.unproven);
            assert_eq!(values(&node.read("ks.lww", "k")), ["a"]);
            let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
            let node = Node::on(1, fs, before, 23);
            assert!(!node.opened.data_lost && node.opened.new_incarnation);
        }
    }
}

#[test]
fn only_a_crash_without_synced_writes_may_have_lost_a_tail() {
    for (sync, tail_lost) in
        [(SyncPolicy::default(), true), (SyncPolicy::Os, true), (SyncPolicy::Always, false)]
    {
        let (fs, metadata) = (MemFs::new(), MemMetadata::new());
        let with = |sync| StoreOptions { sync, ..options() };
        let (store, opened) = open_with(1, &fs, &metadata, with(sync), 5).unwrap();
        assert!(!opened.tail_lost && !opened.unproven);
        store.close().unwrap();
        let (store, opened) = open_with(1, &fs, &metadata, with(sync), 6).unwrap();
        assert!(!opened.tail_lost, "closed in order");
        drop(store);
        // What counts is what was promised then, not what is promised now.
        for now in [SyncPolicy::default(), SyncPolicy::Always] {
            let fs = fs.crash_clone(CrashChoice::LoseUnsynced);
            let (_, opened) = open_with(1, &fs, &metadata.crash_clone(), with(now), 7).unwrap();
            assert!(!opened.clean && opened.tail_lost == tail_lost, "{sync:?} {now:?}");
        }
    }
}

#[test]
fn data_without_a_life_in_the_metadata_are_unproven() {
    let Node { fs, metadata, store, .. } = Node::new(1);
    store.close().unwrap();
    require_new_incarnation(&metadata).unwrap();
    let (store, opened) = open_with(1, &fs, &metadata, options(), 9).unwrap();
    assert!(opened.unproven && opened.new_incarnation && !opened.data_lost);
    store.close().unwrap();
    let (_, opened) = open_with(1, &fs, &metadata, options(), 10).unwrap();
    assert!(!opened.unproven);
}
