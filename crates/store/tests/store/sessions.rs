//! Readers that wait for what their session has seen, and writes that must come after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meridian_crdt::{Context, Dot};
use meridian_store::{Awaited, LocalWrite, MAX_WAITING, StoreError, WriteContext};
use meridian_types::{Millis, RowKey};

use crate::{NOW, Node, write};

fn seen(dots: &[Dot]) -> Context {
    dots.iter().copied().collect()
}

/// Waits for what was seen of the row's vnode; how often it was told.
fn wait(node: &Node, row: &RowKey, dots: &[Dot]) -> (Awaited, Arc<AtomicUsize>) {
    let told = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&told);
    let tell = Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    (node.store.when_seen(row.keyspace, row.vnode, &seen(dots), tell), told)
}

#[test]
fn a_reader_is_told_by_the_change_that_brings_the_last_dot() {
    let (one, other) = (Node::new(1), Node::new(2));
    let row = one.row("ks.siblings", "key");
    let first = one.put("ks.siblings", "key", "a", WriteContext::None).delta;
    let second = one.put("ks.siblings", "key", "b", WriteContext::None).delta;
    let dots = [first.entry.dot, second.entry.dot];
    assert!(one.store.has_seen(row.keyspace, row.vnode, &seen(&dots)));
    assert_eq!(wait(&one, &row, &dots).0, Awaited::IsThere);

    assert!(!other.store.has_seen(row.keyspace, row.vnode, &seen(&dots)));
    let (both, told_both) = wait(&other, &row, &dots);
    let (one_dot, told_one) = wait(&other, &row, &dots[..1]);
    let (given_up, told_none) = wait(&other, &row, &dots);
    assert!(matches!((both, one_dot), (Awaited::Waits(_), Awaited::Waits(_))));
    let Awaited::Waits(number) = given_up else { panic!("{given_up:?}") };
    other.store.stop_waiting(row.keyspace, row.vnode, number);
    assert_eq!(other.store.waiting(), 2);

    let told = || [&told_both, &told_one, &told_none].map(|told| told.load(Ordering::Relaxed));
    other.store.apply(&row, &second, None, NOW).unwrap();
    assert_eq!(told(), [0, 0, 0]);
    other.store.apply(&row, &first, None, NOW).unwrap();
    assert_eq!(told(), [1, 1, 0]);
    assert_eq!(other.store.waiting(), 0);
    other.put("ks.siblings", "key", "c", WriteContext::None);
    assert_eq!(told(), [1, 1, 0], "told once");
}

#[test]
fn a_clock_that_is_joined_tells_as_well() {
    let (one, other) = (Node::new(1), Node::new(2));
    let row = one.row("ks.lww", "key");
    let dot = one.put("ks.lww", "key", "a", WriteContext::None).delta.entry.dot;
    let (_, told) = wait(&other, &row, &[dot]);
    let clock = one.store.clock(row.keyspace, row.vnode);
    other.store.join_clock(row.keyspace, row.vnode, &clock).unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn no_more_wait_than_may() {
    let (one, other) = (Node::new(1), Node::new(2));
    let row = one.row("ks.lww", "key");
    let delta = one.put("ks.lww", "key", "a", WriteContext::None).delta;
    for _ in 0..MAX_WAITING {
        assert!(matches!(wait(&other, &row, &[delta.entry.dot]).0, Awaited::Waits(_)));
    }
    assert_eq!(wait(&other, &row, &[delta.entry.dot]).0, Awaited::Full);
    other.store.apply(&row, &delta, None, NOW).unwrap();
    assert_eq!(other.store.waiting(), 0);
}

/// A stamp from far ahead came by a pull, whose rows are taken without following their stamps.
#[test]
fn a_write_that_must_win_does_or_is_refused() {
    let (ahead, behind) = (Node::new(1), Node::new(2));
    let row = ahead.row("ks.lww", "key");
    let far = Millis(NOW.0 + 90_000);
    ahead.store.mint(&row, write("far", WriteContext::None), far).unwrap();
    let version = ahead.store.read(&row).unwrap();
    behind.store.join(&row, &version.row, &version.clock.to_context()).unwrap();

    let must_win = || LocalWrite { must_win: true, ..write("later", WriteContext::None) };
    let refused = behind.store.mint(&row, must_win(), NOW);
    assert!(matches!(refused, Err(StoreError::Stamp(_))), "{refused:?}");
    let other = behind.row("ks.lww", "other");
    behind.store.mint(&other, must_win(), NOW).unwrap();
    let later = Millis(far.0 - 30_000);
    let won = behind.store.mint(&row, must_win(), later).unwrap();
    assert!(won.delta.entry.stamp > version.row.entries()[0].stamp);
    assert_eq!(crate::values(&behind.read("ks.lww", "key")), ["later"]);
}
