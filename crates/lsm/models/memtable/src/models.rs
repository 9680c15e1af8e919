//! What is tried, and what has to hold whenever it is.

#![allow(clippy::missing_panics_doc, reason = "a model fails by panicking")]

use std::ops::ControlFlow;
use std::sync::Arc;

use loom::model::Builder;
use loom::thread::{self, JoinHandle};

use crate::key::{ValueKind, pack, seqno_of};
use crate::memtable::{MemCursor, Memtable, Supply};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Preemptions of a thread, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 2;

/// A key and a seqno.
type Entry = (&'static [u8], u64);

/// How many of the new entries some reader saw, over all interleavings: a model that never shows a
/// reader in the middle proves nothing. The writer is the model's first thread and the readers the
/// others, because the checker finds a race only from the write that comes before the read.
#[derive(Clone, Default)]
struct Seen(Arc<std::sync::atomic::AtomicU64>);

impl Seen {
    fn note(&self, entries: usize) {
        self.0.fetch_or(1 << entries, Ordering::Relaxed);
    }

    fn all(&self, entries: usize) -> bool {
        self.0.load(Ordering::Relaxed) == (1 << (entries + 1)) - 1
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(model);
}

fn table() -> Arc<Memtable> {
    Arc::new(Memtable::new(Arc::default()))
}

fn value_of((key, seqno): Entry, bytes: usize) -> Vec<u8> {
    let mut value = [key, &seqno.to_le_bytes()].concat();
    value.resize(value.len().max(bytes), key[0] ^ 0x5a);
    value
}

fn insert(table: &Memtable, entry: Entry, bytes: usize) {
    table.insert(entry.0, entry.1, ValueKind::Put, &value_of(entry, bytes));
}

fn inserter(table: &Arc<Memtable>, entries: &'static [Entry], bytes: usize) -> JoinHandle<()> {
    let table = table.clone();
    thread::spawn(move || entries.iter().for_each(|entry| insert(&table, *entry, bytes)))
}

/// What a walk finds is in order and as it was written; returns the keys and seqnos.
fn walk(table: &Arc<Memtable>, bytes: usize) -> Vec<(Vec<u8>, u64)> {
    let mut cursor = MemCursor::new(table.clone());
    cursor.first();
    let mut found: Vec<(Vec<u8>, u64)> = Vec::new();
    while cursor.valid() {
        let (key, seqno) = (cursor.key(), seqno_of(cursor.tag()));
        let expected = [key, &seqno.to_le_bytes()].concat();
        assert!(cursor.value().starts_with(&expected), "a torn value");
        assert!(cursor.value()[expected.len()..].iter().all(|b| *b == key[0] ^ 0x5a), "overlap");
        assert_eq!(cursor.value().len(), expected.len().max(bytes));
        if let Some((before, newer)) = found.last() {
            assert!((&**before, !newer) < (key, !seqno), "out of order");
        }
        found.push((key.to_vec(), seqno));
        cursor.next();
    }
    found
}

/// Everything is there, by a walk, by its name through all levels, and backwards.
fn has_all(table: &Arc<Memtable>, entries: &[Entry], bytes: usize) {
    assert_eq!(walk(table, bytes).len(), entries.len(), "an entry is lost");
    for (key, seqno) in entries {
        assert!(sees(table, key, *seqno), "an entry is not found");
        let mut cursor = MemCursor::new(table.clone());
        cursor.seek_before(key, pack(*seqno, ValueKind::Put) - 1);
        assert!(cursor.valid() && cursor.key() == *key, "an entry is not found backwards");
    }
    let mut cursor = MemCursor::new(table.clone());
    cursor.last();
    assert_eq!(Some(cursor.key()), entries.iter().map(|entry| entry.0).max());
}

fn sees(table: &Memtable, key: &[u8], at: u64) -> bool {
    let mut seen = false;
    let _ended = table.visit(key, at, &mut |seqno, _kind, value| {
        assert!(value.starts_with(&[key, &seqno.to_le_bytes()].concat()), "a torn value");
        seen = seqno == at;
        ControlFlow::Break(())
    });
    seen
}

/// A thread for each list of entries; the last one is this thread's.
fn insert_all(table: &Arc<Memtable>, entries: &[&'static [Entry]], bytes: usize) {
    let (own, others) = entries.split_last().expect("there is something to insert");
    let others: Vec<_> = others.iter().map(|entries| inserter(table, entries, bytes)).collect();
    own.iter().for_each(|entry| insert(table, *entry, bytes));
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// Threads insert next to each other.
pub fn inserted_at_once(entries: &'static [&'static [Entry]]) {
    check(move || {
        let table = table();
        insert_all(&table, entries, 0);
        has_all(&table, &entries.concat(), 0);
    });
}

/// A reader walks and searches while a thread inserts: it sees whole entries in order, and whatever
/// was published before it looked.
pub fn read_while_inserted(before: &'static [Entry], entries: &'static [Entry]) {
    let seen = Seen::default();
    let outcomes = seen.clone();
    check(move || {
        let table = table();
        before.iter().for_each(|entry| insert(&table, *entry, 0));
        let visible = Arc::new(AtomicU64::new(0));
        let reader = {
            let (table, visible, outcomes) = (table.clone(), visible.clone(), outcomes.clone());
            thread::spawn(move || {
                let at = visible.load(Ordering::Acquire);
                for (key, seqno) in entries {
                    let seen = sees(&table, key, *seqno);
                    assert!(seen || *seqno > at, "a published entry is not seen");
                }
                let found = walk(&table, 0).len();
                assert!(found >= before.len());
                outcomes.note(found - before.len());
            })
        };
        for entry in entries {
            insert(&table, *entry, 0);
            visible.store(entry.1, Ordering::Release);
        }
        reader.join().unwrap();
        has_all(&table, &[before, entries].concat(), 0);
    });
    assert!(seen.all(entries.len()), "the reader never came in between");
}

/// A reader goes backwards while a thread inserts.
pub fn read_backwards_while_inserted(before: &'static [Entry], entries: &'static [Entry]) {
    let seen = Seen::default();
    let outcomes = seen.clone();
    check(move || {
        let table = table();
        before.iter().for_each(|entry| insert(&table, *entry, 0));
        let (reading, outcomes) = (table.clone(), outcomes.clone());
        let reader = thread::spawn(move || {
            let (mut old, mut new) = (0, 0);
            let mut above: Option<Vec<u8>> = None;
            let mut cursor = MemCursor::new(reading);
            cursor.last();
            while cursor.valid() {
                let key = cursor.key().to_vec();
                assert!(above.is_none_or(|above| key < above), "out of order");
                let known = before.iter().any(|entry| entry.0 == key);
                *(if known { &mut old } else { &mut new }) += 1;
                above = Some(key);
                cursor.prev();
            }
            assert_eq!(old, before.len(), "an old entry is passed over");
            outcomes.note(new);
        });
        entries.iter().for_each(|entry| insert(&table, *entry, 0));
        reader.join().unwrap();
    });
    assert!(seen.all(entries.len()), "the reader never came in between");
}

/// Two threads fill the arena's first chunk and begin the next ones: no byte is given out twice.
pub fn chunks_grown_at_once(entries: &'static [&'static [Entry]], bytes: usize) {
    check(move || {
        let supply = Arc::new(Supply::default());
        let table = Arc::new(Memtable::new(supply.clone()));
        insert_all(&table, entries, bytes);
        has_all(&table, &entries.concat(), bytes);
        assert_eq!(table.bytes(), supply.allocated());
        assert!(table.bytes() >= bytes * entries.concat().len());
        drop(table);
        assert_eq!(supply.allocated(), 0);
    });
}
