//! The contract of the public interface, one idea a test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use common::{DIR, open, open_with};
use meridian_lsm::{
    Db, DbOptions, Error, Snapshot, SyncPolicy, Tree, TreeConfig, Workers, WriteBatch, inspect,
};
use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op, StdFs};

fn mem() -> Arc<dyn Fs> {
    Arc::new(MemFs::new())
}

fn put(tree: &Tree, key: &str, value: &str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(tree, key, value);
    batch
}

fn all(tree: &Tree, at: &Snapshot) -> Vec<(String, String)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let forward: Vec<_> = tree
        .scan((Bound::Unbounded, Bound::Unbounded), at)
        .map(Result::unwrap)
        .map(|(key, value)| (text(key), text(value)))
        .collect();
    let mut reverse: Vec<_> = tree
        .scan_rev((Bound::Unbounded, Bound::Unbounded), at)
        .map(Result::unwrap)
        .map(|(key, value)| (text(key), text(value)))
        .collect();
    reverse.reverse();
    assert_eq!(forward, reverse);
    forward
}

#[test]
fn writes_are_seen_by_readers_and_snapshots_stay() {
    let (db, recovery) = open(&mem(), &["a", "b"]);
    assert!(recovery.clean_shutdown);
    let (a, b) = (db.tree("a").unwrap(), db.tree("b").unwrap());
    let mut batch = WriteBatch::new();
    batch.put(&a, "x", "1");
    batch.put(&b, "x", "2");
    batch.merge(&a, "m", "p");
    batch.merge(&a, "m", "q");
    let commit = db.write(batch).unwrap();
    assert_eq!((commit.first_seqno(), commit.seqno(), db.visible_seqno()), (1, 4, 4));
    let before = db.snapshot();
    let mut batch = WriteBatch::new();
    batch.delete(&a, "x");
    batch.merge(&a, "m", "r");
    db.write(batch).unwrap();
    assert_eq!(a.get(b"x", &before).unwrap().unwrap(), "1");
    assert_eq!(a.get_latest(b"x").unwrap(), None);
    assert_eq!(b.get_latest(b"x").unwrap().unwrap(), "2");
    assert_eq!(a.get_latest(b"m").unwrap().unwrap(), "p,q,r,");
    assert_eq!(all(&a, &before), [("m".into(), "p,q,".into()), ("x".into(), "1".into())]);
    assert_eq!(all(&a, &db.snapshot()), [("m".into(), "p,q,r,".into())]);
}

#[test]
fn a_range_has_bounds_on_both_sides() {
    let (db, _) = open(&mem(), &["t"]);
    let tree = db.tree("t").unwrap();
    for key in ["a", "b", "bb", "c", "d"] {
        db.write(put(&tree, key, key)).unwrap();
    }
    let at = db.snapshot();
    let keys = |low: Bound<&'static str>, high: Bound<&'static str>| {
        let range = (low.map(Bytes::from), high.map(Bytes::from));
        let forward: Vec<_> = tree.scan(range.clone(), &at).map(|found| found.unwrap().0).collect();
        let mut reverse: Vec<_> = tree.scan_rev(range, &at).map(|found| found.unwrap().0).collect();
        reverse.reverse();
        assert_eq!(forward, reverse);
        forward
    };
    use Bound::{Excluded, Included, Unbounded};
    assert_eq!(keys(Included("b"), Included("c")), ["b", "bb", "c"]);
    assert_eq!(keys(Excluded("b"), Excluded("c")), ["bb"]);
    assert_eq!(keys(Excluded("b"), Unbounded), ["bb", "c", "d"]);
    assert_eq!(keys(Unbounded, Excluded("b")), ["a"]);
    assert!(keys(Included("x"), Unbounded).is_empty());
}

#[test]
fn a_reopened_database_has_everything_and_knows_how_it_ended() {
    let fs = mem();
    let (db, _) = open(&fs, &["t"]);
    let tree = db.tree("t").unwrap();
    db.write(put(&tree, "k", "v")).unwrap();
    db.sync().unwrap();
    drop((db, tree));
    let (db, recovery) = open(&fs, &["t"]);
    assert_eq!((recovery.clean_shutdown, recovery.replayed_batches), (false, 1));
    let tree = db.tree("t").unwrap();
    assert_eq!(tree.get_latest(b"k").unwrap().unwrap(), "v");
    assert_eq!(db.write(put(&tree, "l", "w")).unwrap().seqno(), 2);
    db.clone().close().unwrap();
    assert!(matches!(db.write(put(&tree, "m", "x")), Err(Error::Closed)));
    drop((db, tree));
    let (db, recovery) = open(&fs, &[]);
    assert!(recovery.clean_shutdown);
    assert_eq!(db.trees(), ["t"]);
    assert_eq!(db.tree("t").unwrap().get_latest(b"l").unwrap().unwrap(), "w");
}

#[test]
fn a_tree_without_its_operator_says_so() {
    let fs = mem();
    let (db, _) = open(&fs, &["t"]);
    let tree = db.tree("t").unwrap();
    let mut batch = WriteBatch::new();
    batch.merge(&tree, "k", "v");
    db.write(batch).unwrap();
    drop((db, tree));
    let (db, _) = open(&fs, &[]);
    let tree = db.tree("t").unwrap();
    assert!(matches!(tree.get_latest(b"k"), Err(Error::MergeOperatorMissing { .. })));
    let refused = db.create_tree(TreeConfig::new("t"));
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
    db.create_tree(common::config("t")).unwrap();
    assert_eq!(tree.get_latest(b"k").unwrap().unwrap(), "v,");
    let mut batch = WriteBatch::new();
    batch.merge(&tree, "k", "refuse");
    db.write(batch).unwrap();
    assert!(matches!(tree.get_latest(b"k"), Err(Error::Merge { .. })));
}

#[test]
fn settings_of_many_trees_change_all_at_once_or_not_at_all() {
    let fs = FaultFs::new(mem());
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let larger = |name: &str| TreeConfig { block_bytes: 16 << 10, ..common::config(name) };
    let open = |configs| Db::open(disk.clone(), DIR.as_ref(), DbOptions::default(), configs);
    let blocks = || {
        let trees = inspect::manifest(&*disk, DIR.as_ref()).unwrap().trees;
        trees.iter().map(|tree| tree.config.block_bytes >> 10).collect::<Vec<_>>()
    };
    drop(open(vec![common::config("a"), common::config("b")]).unwrap());
    let listed = [larger("a"), larger("b"), larger("c")];
    for wrong in [larger("a"), larger("c"), TreeConfig { memtable_bytes: 1, ..larger("d") }] {
        let told = open([&listed[..], &[wrong]].concat()).unwrap_err();
        assert!(matches!(told, Error::InvalidArgument { .. }), "{told}");
        assert_eq!(blocks(), [8, 8]);
    }
    let syncs = |configs| {
        let before = fs.calls(Op::Sync);
        drop(open(configs).unwrap());
        fs.calls(Op::Sync) - before
    };
    let unchanged = syncs(Vec::new());
    // One edit, and the list of trees.
    assert_eq!(syncs(listed.to_vec()), unchanged + 2);
    assert_eq!(blocks(), [16, 16, 16]);
}

#[test]
fn a_dropped_tree_is_gone_and_its_name_is_free() {
    let fs = mem();
    let (db, _) = open(&fs, &["t"]);
    let tree = db.tree("t").unwrap();
    db.write(put(&tree, "k", "v")).unwrap();
    db.drop_tree("t").unwrap();
    assert!(matches!(db.write(put(&tree, "k", "w")), Err(Error::TreeDropped { .. })));
    let again = db.create_tree(common::config("t")).unwrap();
    assert_eq!(again.get_latest(b"k").unwrap(), None);
    db.write(put(&again, "k", "new")).unwrap();
    drop((db, tree, again));
    let (db, _) = open(&fs, &[]);
    assert_eq!(db.tree("t").unwrap().get_latest(b"k").unwrap().unwrap(), "new");
}

#[test]
fn only_one_opens_a_directory() {
    let fs = mem();
    let (db, _) = open(&fs, &[]);
    let second = Db::open(fs.clone(), DIR.as_ref(), DbOptions::default(), Vec::new());
    assert!(matches!(second, Err(Error::Io(_))));
    drop(db);
    open(&fs, &[]);
}

#[test]
fn a_failed_sync_stops_the_writes_and_not_the_reads() {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let options = DbOptions { sync: SyncPolicy::Always, ..DbOptions::default() };
    let (db, _) = open_with(&shared, options, &["t"]);
    let tree = db.tree("t").unwrap();
    let first = db.write(put(&tree, "k", "v")).unwrap();
    assert!(!db.is_settled(&first));
    db.wait(&first).unwrap();
    assert!(db.is_settled(&first));
    fs.inject(FaultRule {
        op: Op::Sync,
        path: "wal".into(),
        nth: 1,
        sticky: false,
        fault: Fault::Error(std::io::ErrorKind::Other),
    });
    let second = db.write(put(&tree, "k", "w")).unwrap();
    let told = db.wait(&second).unwrap_err();
    assert!(
        matches!(&told, Error::Poisoned { file, .. } if file.to_string_lossy().contains("wal"))
    );
    // The disk works again, and that changes nothing.
    assert!(matches!(db.write(put(&tree, "l", "x")), Err(Error::Poisoned { .. })));
    assert!(db.sync().is_err() && db.poisoned().is_some());
    assert!(tree.get_latest(b"k").unwrap().is_some());
}

#[test]
fn threads_write_and_a_group_settles_together() {
    let dir = tempfile::tempdir().unwrap();
    let options = DbOptions { sync: SyncPolicy::Always, ..DbOptions::default() };
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let configs = vec![common::config("t")];
    let (db, _) = Db::open(fs.clone(), dir.path(), options.clone(), configs).unwrap();
    let workers = Workers::start(&db, 1).unwrap();
    let tree = db.tree("t").unwrap();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let (db, tree) = (&db, &tree);
            scope.spawn(move || {
                for i in 0..50 {
                    let commit = db.write(put(tree, &format!("{t}-{i}"), "v")).unwrap();
                    db.wait(&commit).unwrap();
                    assert!(db.durable_seqno() >= commit.seqno());
                }
            });
        }
    });
    let (send, receive) = std::sync::mpsc::channel();
    let commit = db.write(put(&tree, "last", "v")).unwrap();
    db.on_settled(&commit, Box::new(move |outcome| send.send(outcome).unwrap()));
    receive.recv().unwrap().unwrap();
    workers.stop();
    // Without threads the writers sync themselves.
    let commit = db.write(put(&tree, "after", "v")).unwrap();
    db.wait(&commit).unwrap();
    drop((db, tree));
    let (db, recovery) = Db::open(fs, dir.path(), options, Vec::new()).unwrap();
    assert_eq!(recovery.replayed_batches, 202);
    assert_eq!(all(&db.tree("t").unwrap(), &db.snapshot()).len(), 202);
}

#[test]
fn a_power_cut_takes_only_what_was_not_synced() {
    let fs = MemFs::new();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let (db, _) = open(&shared, &["t"]);
    let tree = db.tree("t").unwrap();
    db.write(put(&tree, "synced", "v")).unwrap();
    db.sync().unwrap();
    db.write(put(&tree, "risky", "v")).unwrap();
    let after: Arc<dyn Fs> = Arc::new(fs.crash_clone(CrashChoice::LoseUnsynced));
    let (db, _) = open(&after, &[]);
    assert_eq!(all(&db.tree("t").unwrap(), &db.snapshot()).len(), 1);
    let killed: Arc<dyn Fs> = Arc::new(fs.crash_clone(CrashChoice::KeepEverything));
    let (db, _) = open(&killed, &[]);
    assert_eq!(all(&db.tree("t").unwrap(), &db.snapshot()).len(), 2);
}

#[test]
fn long_chains_of_operands_collapse_and_mean_the_same() {
    let (db, _) = open(&mem(), &["t"]);
    let tree = db.tree("t").unwrap();
    let mut expected = String::new();
    let mut middle = None;
    for i in 0..500 {
        let mut batch = WriteBatch::new();
        batch.merge(&tree, "k", format!("{i}"));
        db.write(batch).unwrap();
        expected.push_str(&format!("{i},"));
        if i == 77 {
            middle = Some((db.snapshot(), expected.clone()));
        }
    }
    let (snapshot, then) = middle.unwrap();
    assert_eq!(tree.get(b"k", &snapshot).unwrap().unwrap(), then);
    assert_eq!(tree.get_latest(b"k").unwrap().unwrap(), expected);
    assert_eq!(all(&tree, &snapshot), [("k".into(), then)]);
    assert_eq!(all(&tree, &db.snapshot()), [("k".into(), expected)]);
}

/// Bytes of the log, its room included.
fn log_bytes(fs: &dyn Fs) -> u64 {
    let names = fs.list(DIR.as_ref()).unwrap();
    let logs = names.iter().filter(|name| name.extension().is_some_and(|end| end == "log"));
    let len = |name| fs.open(&std::path::Path::new(DIR).join(name)).unwrap().len().unwrap();
    logs.map(len).sum()
}

#[test]
fn the_log_lets_go_of_what_is_in_tables() {
    let fs = mem();
    let options = DbOptions { sync: SyncPolicy::Os, ..DbOptions::default() };
    let config = TreeConfig { memtable_bytes: 8 << 20, ..TreeConfig::new("t") };
    let (db, _) = Db::open(fs.clone(), DIR.as_ref(), options, vec![config]).unwrap();
    let tree = db.tree("t").unwrap();
    let value = vec![7; 1 << 20];
    for key in 0..160_u32 {
        let mut batch = WriteBatch::new();
        batch.put(&tree, key.to_be_bytes(), value.clone());
        db.write(batch).unwrap();
        while db.poll_job().unwrap() {}
    }
    // A segment ends with a memtable once it has 64 MiB, and goes when the next one is flushed.
    let kept = log_bytes(&*fs);
    assert!((8 << 20..90 << 20).contains(&kept), "{kept} bytes");
    db.flush().unwrap();
    let kept = log_bytes(&*fs);
    assert!(kept < 1 << 10, "{kept} bytes");
}
