//! Compaction filters: heads that clear their elements, and expiry.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{DIR, small_options, strategies};
use meridian_lsm::{
    Compaction, CompactionFilter, Db, FilterDecision, FilterPass, Snapshot, TreeConfig, WriteBatch,
};
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op};
use proptest::prelude::*;

/// A head `p<n>` holds a number; elements `p<n>/<m>` with a lower one in their value are cleared.
struct Clears;

#[derive(Default)]
struct ClearsPass {
    head: Vec<u8>,
    cleared: u64,
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

impl CompactionFilter for Clears {
    fn begin(&self, _now_ms: u64) -> Box<dyn FilterPass + '_> {
        Box::<ClearsPass>::default()
    }

    fn head_of<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.iter().position(|byte| *byte == b'/').map(|at| &key[..at])
    }
}

impl FilterPass for ClearsPass {
    fn head(&mut self, key: &[u8], value: Option<&[u8]>) {
        assert!(self.head.as_slice() < key, "heads come in order, once each");
        self.head = key.to_vec();
        self.cleared = value.map_or(0, number);
    }

    fn decide(&mut self, key: &[u8], value: &[u8], _bottom: bool) -> FilterDecision {
        let Some((head, _)) = std::str::from_utf8(key).unwrap().split_once('/') else {
            return FilterDecision::Keep;
        };
        assert_eq!(head.as_bytes(), self.head, "told of the head first");
        if number(value) < self.cleared { FilterDecision::Remove } else { FilterDecision::Keep }
    }
}

/// The value is the moment of its expiry; 0: never.
struct Expires;

struct ExpiresPass(u64);

impl CompactionFilter for Expires {
    fn begin(&self, now_ms: u64) -> Box<dyn FilterPass + '_> {
        Box::new(ExpiresPass(now_ms))
    }

    fn expiry_of(&self, _key: &[u8], value: &[u8]) -> Option<u64> {
        Some(number(value)).filter(|at| *at > 0)
    }
}

impl FilterPass for ExpiresPass {
    fn decide(&mut self, _key: &[u8], value: &[u8], _bottom: bool) -> FilterDecision {
        match number(value) {
            at if at > 0 && at <= self.0 => FilterDecision::Remove,
            _ => FilterDecision::Keep,
        }
    }
}

fn open(disk: &Arc<dyn Fs>, compaction: Compaction, filter: Arc<dyn CompactionFilter>) -> Db {
    let config = TreeConfig {
        compaction,
        block_bytes: 1 << 10,
        compaction_filter: Some(filter),
        ..TreeConfig::new("t")
    };
    Db::open(disk.clone(), Path::new(DIR), small_options(), vec![config]).unwrap().0
}

fn put(db: &Db, key: &str, value: u64) {
    let mut batch = WriteBatch::new();
    batch.put(&db.tree("t").unwrap(), key, value.to_string());
    db.write(batch).unwrap();
}

fn settle(db: &Db) {
    while db.poll_job().unwrap() {}
}

/// What the tree holds, cleared or not.
fn stored(db: &Db, at: &Snapshot) -> BTreeMap<String, u64> {
    let everything = (Bound::Unbounded, Bound::<Bytes>::Unbounded);
    let found = db.tree("t").unwrap().scan(everything, at).map(|found| {
        let (key, value) = found.unwrap();
        (String::from_utf8(key.to_vec()).unwrap(), number(&value))
    });
    found.collect()
}

/// What a reader makes of it.
fn visible(all: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let is_cleared = |key: &str, value: u64| {
        let head = key.split_once('/').and_then(|(head, _)| all.get(head));
        head.is_some_and(|cleared| value < *cleared)
    };
    let seen = all.iter().filter(|(key, value)| !is_cleared(key, **value));
    seen.map(|(key, value)| (key.clone(), *value)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Clear(u8),
    Flush,
    Poll,
    TakeSnapshot,
    DropSnapshot,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..3u8, 0..20u8).prop_map(|(head, element)| Step::Put(head, element)),
        2 => (0..3u8).prop_map(Step::Clear),
        3 => Just(Step::Flush),
        3 => Just(Step::Poll),
        1 => Just(Step::TakeSnapshot),
        1 => Just(Step::DropSnapshot),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn cleared_elements_leave_and_nobody_misses_them(
        strategy in 0..4usize,
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let db = open(&disk, strategies()[strategy], Arc::new(Clears));
        let (mut all, mut snapshots) = (BTreeMap::new(), Vec::new());
        for (number, step) in (1..).zip(steps) {
            match step {
                Step::Put(head, element) => {
                    let key = format!("p{head}/{element:02}");
                    put(&db, &key, number);
                    all.insert(key, number);
                }
                Step::Clear(head) => {
                    put(&db, &format!("p{head}"), number);
                    all.insert(format!("p{head}"), number);
                }
                Step::Flush => db.flush().unwrap(),
                Step::Poll => {
                    db.poll_job().unwrap();
                }
                Step::TakeSnapshot => snapshots.push((db.snapshot(), visible(&all))),
                Step::DropSnapshot => {
                    snapshots.pop();
                }
                Step::Compact => db.compact("t").unwrap(),
            }
            prop_assert_eq!(visible(&stored(&db, &db.snapshot())), visible(&all));
            for (snapshot, then) in &snapshots {
                prop_assert_eq!(&visible(&stored(&db, snapshot)), then);
            }
        }
        drop(snapshots);
        db.compact("t").unwrap();
        prop_assert_eq!(stored(&db, &db.snapshot()), visible(&all));
    }
}

#[test]
fn a_head_in_another_table_is_found() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let db = open(&disk, strategies()[0], Arc::new(Clears));
    (0..50).for_each(|element| put(&db, &format!("p/{element:02}"), 1));
    db.compact("t").unwrap();
    put(&db, "p", 2);
    db.flush().unwrap();
    // The head is in a table of its own; the elements are rewritten beside it.
    put(&db, "p/99", 3);
    db.compact("t").unwrap();
    let left: BTreeSet<String> = stored(&db, &db.snapshot()).into_keys().collect();
    assert_eq!(left, BTreeSet::from(["p".to_owned(), "p/99".to_owned()]));
}

#[test]
fn expired_tables_leave_without_a_read() {
    for strategy in strategies() {
        let faults = FaultFs::new(Arc::new(MemFs::new()));
        let disk: Arc<dyn Fs> = Arc::new(faults.clone());
        let db = open(&disk, strategy, Arc::new(Expires));
        db.set_time(1000);
        (0..50).for_each(|key| put(&db, &format!("a{key:02}"), 2000 + key));
        db.flush().unwrap();
        settle(&db);
        // Something that stays, in other tables.
        (0..50).for_each(|key| put(&db, &format!("b{key:02}"), 0));
        let snapshot = db.snapshot();
        db.set_time(2049);
        settle(&db);
        assert_eq!(stored(&db, &snapshot).len(), 100, "{strategy:?}: a snapshot sees them");
        drop(snapshot);
        let read = FaultRule {
            op: Op::Read,
            path: ".sst".into(),
            nth: 1,
            sticky: true,
            fault: Fault::Error(std::io::ErrorKind::Other),
        };
        faults.inject(read);
        settle(&db);
        faults.heal();
        assert!(stored(&db, &db.snapshot()).keys().all(|key| key.starts_with('b')));
        assert!(db.stats().trees[0].drops > 0, "{strategy:?}");
        // The files are gone, and stay so.
        drop(db);
        let db = open(&disk, strategy, Arc::new(Expires));
        assert!(stored(&db, &db.snapshot()).keys().all(|key| key.starts_with('b')));
    }
}

#[test]
fn a_table_of_which_much_has_expired_is_rewritten_once() {
    for strategy in strategies() {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let db = open(&disk, strategy, Arc::new(Expires));
        db.set_time(1000);
        (0..30).for_each(|key| put(&db, &format!("a{key:02}"), if key < 20 { 2000 } else { 0 }));
        db.flush().unwrap();
        settle(&db);
        assert_eq!(stored(&db, &db.snapshot()).len(), 30);
        db.set_time(2000);
        settle(&db);
        assert_eq!(stored(&db, &db.snapshot()).len(), 10, "{strategy:?}");
        let done = db.stats().trees[0].compactions;
        db.set_time(3000);
        settle(&db);
        assert_eq!(db.stats().trees[0].compactions, done);
    }
}
