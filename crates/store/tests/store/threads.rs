//! Many threads on one vnode: rows and clocks of one moment, always.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Of each writer: enough that a reader meets a writer in the middle of a write.
const WRITES: usize = 1500;

fn node() -> Node {
    let (fs, metadata) = (MemFs::new(), MemMetadata::new());
    let options = StoreOptions { workers: 1, vnode_bits: 0, ..options() };
    let (store, opened) = open_with(1, &fs, &metadata, options, 5).unwrap();
    store.join_catalog(&catalog()).unwrap();
    Node { number: 1, fs, metadata, store, opened }
}

/// Runs writers to their end, and a reader beside them.
fn race(write: impl Fn(usize) + Sync, read: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let write = &write;
                scope.spawn(move || (0..WRITES).for_each(|n| write(thread * WRITES + n)))
            })
            .collect();
        let reader = || {
            while !done.load(Ordering::Relaxed) {
                read();
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_reader_never_sees_a_dot_without_its_entry_or_an_entry_without_its_dot() {
    let node = node();
    let row = node.row("ks.siblings", "k");
    race(
        |n| {
            // Now and then one write replaces everything, so that the row stays small.
            let context = if n % 20 == 0 { WriteContext::WhatIsHere } else { WriteContext::None };
            node.put("ks.siblings", "k", &n.to_string(), context);
        },
        || {
            let version = node.store.read(&row).unwrap();
            let entries = version.row.entries();
            assert!(entries.iter().all(|entry| version.clock.contains(entry.dot)));
            // The newest dot is never replaced by an older one.
            let newest = version.clock.highest(node.store.actor());
            let last = entries.last().map_or(0, |entry| entry.dot.counter);
            assert_eq!(last, newest);
        },
    );
    let version = node.store.read(&row).unwrap();
    assert_eq!(version.clock.base(node.store.actor()), 4 * WRITES as u64);
}

#[test]
fn the_winner_is_always_the_newest_dot_of_the_clock() {
    let node = node();
    let row = node.row("ks.lww", "k");
    race(
        |n| drop(node.put("ks.lww", "k", &n.to_string(), WriteContext::None)),
        || {
            let version = node.store.read(&row).unwrap();
            let newest = version.clock.highest(node.store.actor());
            let winner = version.row.entries().first().map_or(0, |entry| entry.dot.counter);
            assert_eq!(winner, newest, "stamps rise with counters, and row and clock agree");
        },
    );
}

#[test]
fn one_delta_from_many_sides_is_applied_once() {
    let (node, other) = (node(), Node::new(2));
    let deltas: Vec<_> = (0..WRITES)
        .map(|n| other.put("ks.siblings", "k", &n.to_string(), WriteContext::WhatIsHere).delta)
        .collect();
    let row = node.row("ks.siblings", "k");
    race(
        |n| {
            node.store.apply(&row, &deltas[n % WRITES], None, NOW).unwrap();
        },
        || {
            node.store.read(&row).unwrap();
        },
    );
    let stats = node.store.stats();
    assert_eq!(stats.blind_writes + stats.reading_writes, WRITES as u64);
    assert_eq!(stats.duplicates, 3 * WRITES as u64);
    assert_eq!(node.read("ks.siblings", "k").entries().len(), 1);
}

#[test]
fn a_close_waits_for_the_writes_that_have_begun_and_loses_none() {
    let node = node();
    let row = node.row("ks.siblings", "k");
    let store = node.store.clone();
    let minted = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut minted = 0u64;
                    loop {
                        match store.mint(&row, write("x", WriteContext::WhatIsHere), NOW) {
                            Ok(_) => minted += 1,
                            Err(StoreError::Closed) => return minted,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        let written = || store.stats().reading_writes + store.stats().blind_writes;
        while written() < 100 {
            std::thread::yield_now();
        }
        store.clone().close().unwrap();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<u64>()
    });
    let Node { fs, metadata, store: last, .. } = node;
    let actor = store.actor();
    drop((store, last));
    let options = StoreOptions { vnode_bits: 0, ..options() };
    let (store, opened) = open_with(1, &fs, &metadata, options, 6).unwrap();
    assert!(opened.clean && !opened.new_incarnation);
    assert_eq!(store.clock(row.keyspace, row.vnode).base(actor), minted);
}
