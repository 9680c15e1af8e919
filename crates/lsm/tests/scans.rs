//! Scans over few keys with many versions each: what they pass over by searching, and by stepping,
//! makes no difference to what they find.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use common::open_small;
use common::oracle::{State, Write, apply, batch, check, check_range, trees};
use meridian_lsm::{Db, Snapshot};
use meridian_vfs::{Fs, MemFs};
use proptest::prelude::*;

/// Keys in use: each gets dozens of versions.
const KEYS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// So many times the same.
    Write(Write, usize),
    Flush,
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let value = proptest::collection::vec(any::<u8>(), 0..300);
    let write = prop_oneof![
        4 => (0..2usize, 0..KEYS, value).prop_map(|(tree, k, v)| Write::Put(tree, k, v)),
        2 => (0..2usize, 0..KEYS, any::<u8>()).prop_map(|(tree, k, o)| Write::Merge(tree, k, o)),
        1 => (0..2usize, 0..KEYS).prop_map(|(tree, k)| Write::Delete(tree, k)),
    ];
    prop_oneof![
        12 => (write, 1..24usize).prop_map(|(write, times)| Step::Write(write, times)),
        1 => Just(Step::Flush),
        2 => Just(Step::Snapshot),
    ]
}

/// What is lent is what is given away.
fn check_lent(db: &Db, at: &Snapshot) {
    for tree in trees(db) {
        for reverse in [false, true] {
            let range = || (Bound::Unbounded, Bound::<Bytes>::Unbounded);
            let scan = || if reverse { tree.scan_rev(range(), at) } else { tree.scan(range(), at) };
            let given: Vec<_> = scan().map(Result::unwrap).collect();
            let mut lent = scan();
            for (key, value) in &given {
                assert_eq!(lent.next_ref().unwrap(), Some((&**key, &**value)));
            }
            assert_eq!(lent.next_ref().unwrap(), None);
            assert_eq!(lent.next_ref().unwrap(), None);
        }
    }
}

proptest! {
    #[test]
    fn many_versions_are_one_row(
        steps in proptest::collection::vec(step(), 1..30),
        low in 0..KEYS,
        high in 0..KEYS,
    ) {
        let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
        let (db, _) = open_small(&fs).unwrap();
        let mut now = State::new();
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Write(write, times) => {
                    for _ in 0..times {
                        db.write(batch(&trees(&db), std::slice::from_ref(&write))).unwrap();
                        apply(&mut now, std::slice::from_ref(&write));
                    }
                }
                Step::Flush => db.flush().unwrap(),
                Step::Snapshot => snapshots.push((db.snapshot(), now.clone())),
            }
        }
        snapshots.push((db.snapshot(), now));
        for (at, then) in &snapshots {
            check(&db, at, then);
            check_lent(&db, at);
            check_range(&db, at, then, Bound::Included(low), Bound::Included(high));
            check_range(&db, at, then, Bound::Excluded(low), Bound::Excluded(high));
        }
        while db.poll_job().unwrap() {}
        for (at, then) in &snapshots {
            check(&db, at, then);
            check_lent(&db, at);
        }
    }
}
