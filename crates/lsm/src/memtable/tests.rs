//! The memtable against a sorted list, from one thread and from several.

#![allow(clippy::disallowed_methods, reason = "concurrency is what is tested here")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::key::{kind_of, seqno_of};

fn walk(table: &Arc<Memtable>) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let mut cursor = MemCursor::new(table.clone());
    cursor.first();
    let mut all = Vec::new();
    while cursor.valid() {
        all.push((cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
        cursor.next();
    }
    all
}

fn get(table: &Memtable, key: &[u8], at: u64) -> Option<(u64, Vec<u8>)> {
    let mut found = None;
    let _ended = table.visit(key, at, &mut |seqno, _kind, value| {
        found = Some((seqno, value.to_vec()));
        ControlFlow::Break(())
    });
    found
}

proptest! {
    #[test]
    fn same_as_a_sorted_map(
        ops in proptest::collection::vec(
            (proptest::collection::vec(0..4u8, 0..10), any::<Vec<u8>>()), 0..300),
        probe in proptest::collection::vec(0..4u8, 0..10),
        at in 0..300u64,
    ) {
        let table = Arc::new(Memtable::new(Arc::default()));
        let mut oracle = BTreeMap::new();
        for (i, (key, value)) in ops.iter().enumerate() {
            table.insert(key, i as u64 + 1, ValueKind::Put, value);
            oracle.insert((key.clone(), u64::MAX - (i as u64 + 1)), value.clone());
        }
        let forward: Vec<_> =
            walk(&table).into_iter().map(|(k, t, v)| ((k, u64::MAX - seqno_of(t)), v)).collect();
        prop_assert_eq!(&forward, &oracle.clone().into_iter().collect::<Vec<_>>());
        let mut cursor = MemCursor::new(table.clone());
        cursor.last();
        for (key, value) in forward.iter().rev() {
            prop_assert!(cursor.valid());
            prop_assert_eq!((cursor.key(), cursor.value()), (&*key.0, &**value));
            cursor.prev();
        }
        prop_assert!(!cursor.valid());
        let expected = oracle
            .range((probe.clone(), u64::MAX - at)..=(probe.clone(), u64::MAX))
            .next()
            .map(|((_, s), v)| (u64::MAX - s, v.clone()));
        prop_assert_eq!(get(&table, &probe, at), expected);
    }
}

#[test]
fn threads_lose_nothing_and_readers_see_order() {
    let table = Arc::new(Memtable::new(Arc::default()));
    let (threads, each) = (4u64, if cfg!(miri) { 50 } else { 5000 });
    std::thread::scope(|scope| {
        for t in 0..threads {
            let table = table.clone();
            scope.spawn(move || {
                for i in 0..each {
                    let seqno = 1 + i * threads + t;
                    let key = (seqno.wrapping_mul(0x9e37_79b9) % 997).to_be_bytes();
                    table.insert(&key, seqno, ValueKind::Put, &seqno.to_le_bytes());
                    assert_eq!(
                        get(&table, &key, seqno),
                        Some((seqno, seqno.to_le_bytes().to_vec()))
                    );
                }
            });
        }
        for _ in 0..3 {
            let all = walk(&table);
            assert!(all.windows(2).all(|w| (&w[0].0, !w[0].1) < (&w[1].0, !w[1].1)));
        }
    });
    let all = walk(&table);
    assert_eq!(all.len() as u64, threads * each);
    assert!(all.windows(2).all(|w| (&w[0].0, !w[0].1) < (&w[1].0, !w[1].1)));
    assert!(all.iter().all(|(_, tag, value)| seqno_of(*tag).to_le_bytes() == **value));
}

#[test]
fn chains_of_operands_are_counted() {
    use ValueKind::{Merge, Put};

    let table = Memtable::new(Arc::default());
    assert_eq!(table.insert(b"k", 1, Put, b""), 0);
    assert_eq!(table.insert(b"k", 2, Merge, b""), 1);
    assert_eq!(table.insert(b"k", 3, Merge, b""), 2);
    assert_eq!(table.insert(b"j", 4, Merge, b""), 1);
    assert_eq!(table.insert(b"k", 3, Put, b"both"), 0);
    assert_eq!(table.insert(b"k", 5, Merge, b""), 1);
    let mut kinds = Vec::new();
    let _ended = table.visit(b"k", 4, &mut |seqno, kind, _value| {
        kinds.push((seqno, kind));
        ControlFlow::Continue(())
    });
    assert_eq!(kinds, [(3, Put), (3, Merge), (2, Merge), (1, Put)]);
    assert_eq!(kind_of(crate::key::pack(1, Merge)), Merge);
}

#[test]
fn an_empty_one_takes_no_memory() {
    let table = Memtable::new(Arc::default());
    assert_eq!((table.bytes(), table.entries(), table.is_unused()), (0, 0, true));
}
