//! What the database should hold: the whole history in a list of maps.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use meridian_lsm::{Db, Snapshot, Tree, WriteBatch};
use meridian_vfs::{CrashChoice, MemFs};
use proptest::prelude::*;

use super::config;

pub const TREES: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
pub enum Write {
    Put(usize, u8, Vec<u8>),
    Merge(usize, u8, u8),
    Delete(usize, u8),
}

/// The state of all trees.
pub type State = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

/// Keys with common prefixes, of different lengths.
pub fn key(number: u8) -> Vec<u8> {
    format!("key-{}{}", "x".repeat(usize::from(number % 3) * 5), number % 24).into_bytes()
}

pub fn write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => proptest::collection::vec(any::<u8>(), 400..700),
    ];
    prop_oneof![
        4 => (0..2usize, any::<u8>(), value).prop_map(|(t, k, v)| Write::Put(t, k, v)),
        4 => (0..2usize, any::<u8>(), any::<u8>()).prop_map(|(t, k, o)| Write::Merge(t, k, o)),
        2 => (0..2usize, any::<u8>()).prop_map(|(t, k)| Write::Delete(t, k)),
    ]
}

fn operand(number: u8) -> Vec<u8> {
    if number.is_multiple_of(16) { b"clear".to_vec() } else { number.to_string().into_bytes() }
}

pub fn apply(state: &mut State, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Put(tree, k, value) => {
                state.insert((*tree, key(*k)), value.clone());
            }
            Write::Merge(tree, k, number) => {
                let at = (*tree, key(*k));
                let mut value = state.remove(&at).unwrap_or_default();
                match operand(*number) {
                    clear if clear == b"clear" => value.clear(),
                    operand => {
                        value.extend_from_slice(&operand);
                        value.push(b',');
                    }
                }
                if !value.is_empty() {
                    state.insert(at, value);
                }
            }
            Write::Delete(tree, k) => {
                state.remove(&(*tree, key(*k)));
            }
        }
    }
}

pub fn batch(trees: &[Tree], writes: &[Write]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for write in writes {
        match write {
            Write::Put(tree, k, value) => batch.put(&trees[*tree], key(*k), value),
            Write::Merge(tree, k, number) => batch.merge(&trees[*tree], key(*k), operand(*number)),
            Write::Delete(tree, k) => batch.delete(&trees[*tree], key(*k)),
        }
    }
    batch
}

/// Ingests these keys, each once, and does the same to the oracle.
pub fn ingest(db: &Db, state: &mut State, tree: usize, keys: &[(u8, u8)]) {
    let rows: BTreeMap<Vec<u8>, Vec<u8>> =
        keys.iter().map(|(k, value)| (key(*k), vec![*value; 60])).collect();
    let ingested = db.ingest(&trees(db)[tree], &rows).unwrap();
    assert_eq!(ingested.entries, rows.len() as u64);
    state.extend(rows.into_iter().map(|(k, value)| ((tree, k), value)));
}

pub fn trees(db: &Db) -> Vec<Tree> {
    TREES.iter().map(|name| db.tree(name).unwrap()).collect()
}

/// Everything in the database at a snapshot, by scans in both directions.
pub fn read_all(db: &Db, at: &Snapshot) -> Result<State, meridian_lsm::Error> {
    let mut state = State::new();
    for (number, tree) in trees(db).iter().enumerate() {
        let everything = || (Bound::Unbounded, Bound::<Bytes>::Unbounded);
        let mut forward = Vec::new();
        for found in tree.scan(everything(), at) {
            forward.push(found?);
        }
        let mut reverse = Vec::new();
        for found in tree.scan_rev(everything(), at) {
            reverse.push(found?);
        }
        reverse.reverse();
        assert_eq!(forward, reverse);
        state.extend(forward.into_iter().map(|(k, v)| ((number, k.to_vec()), v.to_vec())));
    }
    Ok(state)
}

/// Compares scans, ranges and gets with the oracle.
pub fn check(db: &Db, at: &Snapshot, expected: &State) {
    assert_eq!(&read_all(db, at).unwrap(), expected);
    for (number, tree) in trees(db).iter().enumerate() {
        for k in 0..24 {
            let key = key(k);
            let value = expected.get(&(number, key.clone()));
            let found = tree.get(&key, at).unwrap();
            assert_eq!(found.as_deref(), value.map(Vec::as_slice), "{tree:?} {key:?}");
        }
        // In no order, some of them twice, some of them nowhere.
        let many: Vec<_> =
            (0..30u8).map(|k| key(k.wrapping_mul(7))).chain([b"key".to_vec()]).collect();
        let found = tree.get_many(&many, at).unwrap();
        for (key, found) in many.iter().zip(found) {
            let value = expected.get(&(number, key.clone()));
            assert_eq!(found.as_deref(), value.map(Vec::as_slice), "many: {tree:?} {key:?}");
        }
        assert_eq!(tree.get(b"key", at).unwrap(), None);
        assert_eq!(tree.get(b"zzz", at).unwrap(), None);
    }
}

/// Compares one of the snapshots with the oracle, and lets it go.
pub fn drop_one(db: &Db, snapshots: &mut Vec<(Snapshot, State)>, at: usize) {
    if !snapshots.is_empty() {
        let (snapshot, then) = snapshots.swap_remove(at % snapshots.len());
        check(db, &snapshot, &then);
    }
}

/// Compares a range with the oracle in both directions.
pub fn check_range(db: &Db, at: &Snapshot, expected: &State, low: Bound<u8>, high: Bound<u8>) {
    let bounds = |number: usize| (low.map(|k| (number, key(k))), high.map(|k| (number, key(k))));
    for (number, tree) in trees(db).iter().enumerate() {
        let (from, to) = bounds(number);
        let inside = |k: &Vec<u8>| {
            let above = match &from {
                Bound::Included((_, low)) => k >= low,
                Bound::Excluded((_, low)) => k > low,
                Bound::Unbounded => true,
            };
            let below = match &to {
                Bound::Included((_, high)) => k <= high,
                Bound::Excluded((_, high)) => k < high,
                Bound::Unbounded => true,
            };
            above && below
        };
        let wanted: Vec<_> = expected
            .iter()
            .filter(|((t, k), _)| *t == number && inside(k))
            .map(|((_, k), v)| (k.clone(), v.clone()))
            .collect();
        let range = (low.map(|k| Bytes::from(key(k))), high.map(|k| Bytes::from(key(k))));
        let plain = |found: Result<(Bytes, Bytes), meridian_lsm::Error>| {
            let (k, v) = found.unwrap();
            (k.to_vec(), v.to_vec())
        };
        let forward: Vec<_> = tree.scan(range.clone(), at).map(plain).collect();
        assert_eq!(forward, wanted);
        let mut reverse: Vec<_> = tree.scan_rev(range, at).map(plain).collect();
        reverse.reverse();
        let keys = |found: &[(Vec<u8>, Vec<u8>)]| {
            found.iter().map(|(k, _)| String::from_utf8_lossy(k).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&reverse), keys(&wanted));
        assert_eq!(reverse, wanted);
    }
}

/// Merges everything, of which no snapshot is left: there is one version of each key, and no
/// tombstone.
pub fn check_merged(db: &Db, expected: &State) {
    TREES.iter().for_each(|tree| db.compact(tree).unwrap());
    check(db, &db.snapshot(), expected);
    db.verify().unwrap();
    let entries: u64 = db.stats().trees.iter().map(|tree| tree.approximate_entries).sum();
    assert_eq!(entries, expected.len() as u64);
}

/// A history after which there are tables on several levels, deletes, operands, and a log.
pub fn write_history(db: &Db) -> State {
    let mut state = State::new();
    for round in 0..40u8 {
        let writes: Vec<Write> = (0..6u8)
            .map(|i| match (round + i) % 5 {
                0 => Write::Delete(usize::from(i % 2), round.wrapping_mul(7).wrapping_add(i)),
                1 | 2 => Write::Merge(usize::from(i % 2), i.wrapping_mul(5), round | 1),
                _ => Write::Put(usize::from(i % 2), round.wrapping_add(i), vec![round; 90]),
            })
            .collect();
        db.write(batch(&trees(db), &writes)).unwrap();
        apply(&mut state, &writes);
        if round % 9 == 5 {
            db.flush().unwrap();
        }
        if round == 23 {
            while db.poll_job().unwrap() {}
        }
    }
    db.sync().unwrap();
    state
}

/// A tree beside the two: made, filled, dropped; none of it may disturb them.
pub fn make_and_drop_another(db: &Db) {
    let extra = db.create_tree(config("extra")).unwrap();
    let mut filler = WriteBatch::new();
    filler.put(&extra, "k", "v");
    db.write(filler).unwrap();
    db.flush().unwrap();
    db.drop_tree("extra").unwrap();
}

/// Hands a disk as a power cut would leave it, and what kind of cut it was, to `each`: three kinds
/// at every sync, before and after it takes effect.
pub fn cut_at_every_sync(fs: &MemFs, each: impl Fn(MemFs, String) + Send + Sync + 'static) {
    fs.set_sync_hook(move |fs, point| {
        for choice in [
            CrashChoice::LoseUnsynced,
            CrashChoice::KeepEverything,
            CrashChoice::Torn(point.number),
        ] {
            each(fs.crash_clone(choice), format!("{choice:?} at {point:?}"));
        }
    });
}
