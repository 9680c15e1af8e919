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
use parking_lot::Mutex;
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

/// As [`Clears`]; something happens when a pass has begun.
#[derive(Default)]
struct Meanwhile(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl CompactionFilter for Meanwhile {
    fn begin(&self, now_ms: u64) -> Box<dyn FilterPass + '_> {
        if let Some(happens) = self.0.lock().take() {
            happens();
        }
        Clears.begin(now_ms)
    }

    fn head_of<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        Clears.head_of(key)
    }
}

#[test]
fn a_head_that_comes_meanwhile_clears_nothing_yet() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let filter = Arc::new(Meanwhile::default());
    let db = Arc::new(open(&disk, strategies()[0], filter.clone()));
    (0..50).for_each(|element| put(&db, &format!("p/{element:02}"), 1));
    db.flush().unwrap();
    // A reader from before it, whom the compaction does not know of.
    let reader = Arc::new(Mutex::new(None));
    let (later, seen) = (db.clone(), reader.clone());
    *filter.0.lock() = Some(Box::new(move || {
        *seen.lock() = Some(later.snapshot());
        put(&later, "p", 2);
    }));
    db.compact("t").unwrap();
    let before = reader.lock().take().unwrap();
    assert_eq!(visible(&stored(&db, &before)).len(), 50);
    assert_eq!(visible(&stored(&db, &db.snapshot())).len(), 1);
    drop(before);
    db.compact("t").unwrap();
    assert_eq!(stored(&db, &db.snapshot()).len(), 1);
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

#[derive(Clone, Debug)]
enum Turn {
    /// A key, and in how many milliseconds it expires; 0: never.
    Put(u8, u16),
    Flush,
    Poll,
    Wait(u16),
    TakeSnapshot,
    Compact,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        20 => (0..30u8, prop_oneof![Just(0), 1..200u16]).prop_map(|(key, by)| Turn::Put(key, by)),
        4 => Just(Turn::Flush),
        4 => Just(Turn::Poll),
        4 => (1..100u16).prop_map(Turn::Wait),
        1 => Just(Turn::TakeSnapshot),
        1 => Just(Turn::Compact),
    ]
}

/// Whether `found` is what a reader may see of a key whose last value is `last`, and who began to
/// read at `from`: what expires may leave then, and nothing older comes back.
fn may_be(found: Option<u64>, last: u64, from: u64) -> bool {
    found == Some(last) || (found.is_none() && last > 0 && last <= from)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn what_expires_uncovers_nothing(
        strategy in 0..4usize,
        turns in proptest::collection::vec(turn(), 1..150),
    ) {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let db = open(&disk, strategies()[strategy], Arc::new(Expires));
        let (mut all, mut snapshots, mut now) = (BTreeMap::<String, u64>::new(), Vec::new(), 1000);
        for turn in turns {
            db.set_time(now);
            match turn {
                Turn::Put(key, by) => {
                    let (key, at) = (format!("{key:02}"), if by == 0 { 0 } else { now + u64::from(by) });
                    put(&db, &key, at);
                    all.insert(key, at);
                }
                Turn::Flush => db.flush().unwrap(),
                Turn::Poll => {
                    db.poll_job().unwrap();
                }
                Turn::Wait(by) => now += u64::from(by),
                Turn::TakeSnapshot => snapshots.push((db.snapshot(), now, all.clone())),
                Turn::Compact => db.compact("t").unwrap(),
            }
            let latest = (db.snapshot(), now, all.clone());
            for (snapshot, from, then) in snapshots.iter().chain([&latest]) {
                let found = stored(&db, snapshot);
                prop_assert!(found.keys().all(|key| then.contains_key(key)));
                for (key, last) in then {
                    let found = found.get(key).copied();
                    prop_assert!(may_be(found, *last, *from), "{key}: {found:?}, not {last}");
                }
            }
        }
        drop(snapshots);
        settle(&db);
        db.compact("t").unwrap();
        all.retain(|_, at| *at == 0 || *at > now);
        db.set_time(now);
        db.compact("t").unwrap();
        prop_assert_eq!(stored(&db, &db.snapshot()), all);
    }
}
