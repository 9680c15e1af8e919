//! Pull, read repair, and what they bring.

use meridian_crdt::VnodeClock;
use meridian_store::{PULL_ROWS_EXAMINED, VnodePage};
use meridian_types::{KeyspaceId, VnodeId};

use super::*;

pub(crate) fn keyspace() -> KeyspaceId {
    catalog().keyspace("ks").unwrap().id
}

/// How far a pull goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// To the end: all rows, then the clock.
    Whole,
    /// It breaks off after this many pages.
    Pages(usize),
    /// It breaks off after this many pages, and the clock is joined all the same: wrong.
    PagesAndClock(usize),
}

/// What a pull did.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    /// The rows that were sent, in their order.
    pub(crate) rows: Vec<(TableId, Bytes)>,
    /// How many of them changed something.
    pub(crate) changed: usize,
    /// Whether the clock was joined.
    pub(crate) clock: bool,
}

/// All rows that a puller with this clock is sent, by what is known or by a scan.
fn sent(
    from: &Store,
    vnode: VnodeId,
    puller: &VnodeClock,
    scan: bool,
    bytes: usize,
) -> Vec<(TableId, Bytes, Row)> {
    let (mut after, mut sent) = (None, Vec::new());
    loop {
        let page = match scan {
            true => from.scan_page(keyspace(), vnode, puller, after, bytes),
            false => from.pull_page(keyspace(), vnode, puller, after, false, bytes),
        };
        let VnodePage { rows, next, .. } = page.unwrap();
        sent.extend(rows);
        after = next;
        if after.is_none() {
            return sent;
        }
    }
}

/// What is known of recent dots and of rows with a context changes nothing in what is sent.
fn assert_known_is_scanned(from: &Store, vnode: VnodeId, puller: &VnodeClock, bytes: usize) {
    let known = sent(from, vnode, puller, false, bytes);
    if from.clock(keyspace(), vnode).is_covered_by(puller) {
        return assert_eq!(known, []);
    }
    // Twice: a scan may be what makes it known.
    for known in [known, sent(from, vnode, puller, false, bytes)] {
        assert_eq!(known, sent(from, vnode, puller, true, bytes), "{vnode}");
    }
}

/// Pulls one vnode, as the repair sessions do.
pub(crate) fn pull_vnode(
    to: &Store,
    from: &Store,
    vnode: VnodeId,
    extent: Extent,
    bytes: usize,
) -> Pulled {
    let mut after = None;
    let mut first = None;
    let mut pulled = Pulled::default();
    let mine = to.clock(keyspace(), vnode);
    assert_known_is_scanned(from, vnode, &mine, bytes);
    for number in 0.. {
        if extent == Extent::Pages(number) {
            return pulled;
        }
        if extent == Extent::PagesAndClock(number) {
            break;
        }
        let page = from.pull_page(keyspace(), vnode, &mine, after, false, bytes).unwrap();
        let VnodePage { clock, rows, next, .. } = page;
        for (table, key, row) in rows {
            let joined = to.join_pulled(keyspace(), vnode, table, &key, &row, &clock).unwrap();
            pulled.changed += usize::from(joined);
            pulled.rows.push((table, key));
        }
        first.get_or_insert(clock);
        after = next;
        if after.is_none() {
            break;
        }
    }
    let first = first.unwrap_or_else(|| from.clock(keyspace(), vnode));
    to.join_clock(keyspace(), vnode, &first).unwrap();
    pulled.clock = true;
    pulled
}

/// Pulls everything; how many rows changed something.
pub(crate) fn pull(to: &Node, from: &Node) -> usize {
    let vnode =
        |vnode| pull_vnode(&to.store, &from.store, VnodeId(vnode), Extent::Whole, 1 << 20).changed;
    vnode(0) + vnode(1)
}

#[test]
fn a_pull_brings_what_is_missing_and_nothing_twice() {
    let (a, b) = (Node::new(1), Node::new(2));
    for n in 0..100 {
        let minted = a.put("ks.lww", &n.to_string(), "x", WriteContext::None);
        if n % 2 == 0 {
            b.store.apply(&a.row("ks.lww", &n.to_string()), &minted.delta, None, NOW).unwrap();
        }
    }
    assert_eq!(pull(&b, &a), 50);
    assert_eq!(pull(&b, &a), 0);
    assert_eq!(pull(&a, &b), 0);
    for vnode in [VnodeId(0), VnodeId(1)] {
        assert_eq!(a.store.clock(keyspace(), vnode), b.store.clock(keyspace(), vnode));
    }
    for n in 0..100 {
        assert_eq!(values(&b.read("ks.lww", &n.to_string())), ["x"]);
    }
    let b = b.restarted(9);
    assert_eq!(pull(&b, &a), 0, "what was pulled is stored with its dots");
}

#[test]
fn a_removal_is_pulled_through_the_write_that_made_it() {
    let (a, b) = (Node::new(1), Node::new(2));
    a.put("ks.siblings", "k", "old", WriteContext::None);
    pull(&b, &a);
    a.put("ks.siblings", "k", "new", WriteContext::WhatIsHere);
    b.put("ks.siblings", "k", "other", WriteContext::None);
    pull(&b, &a);
    pull(&a, &b);
    for node in [&a, &b] {
        assert_eq!(values(&node.read("ks.siblings", "k")), ["new", "other"]);
    }
}

#[test]
fn pages_are_bounded_in_bytes_and_go_on_where_they_ended() {
    let (a, b) = (Node::new(1), Node::new(2));
    for n in 0..300 {
        a.put("ks.lww", &n.to_string(), &"x".repeat(100), WriteContext::None);
        a.put("ks.siblings", &n.to_string(), &"y".repeat(100), WriteContext::None);
    }
    let empty = b.store.clock(keyspace(), VnodeId(0));
    let page = a.store.pull_page(keyspace(), VnodeId(0), &empty, None, false, 1000).unwrap();
    assert!((5..10).contains(&page.rows.len()), "{}", page.rows.len());
    let smallest = a.store.pull_page(keyspace(), VnodeId(0), &empty, None, false, 0).unwrap();
    assert_eq!(smallest.rows.len(), 1);
    let changed = [0, 1]
        .map(|vnode| pull_vnode(&b.store, &a.store, VnodeId(vnode), Extent::Whole, 1000).changed);
    assert_eq!(changed.iter().sum::<usize>(), 600);
    let full = |bytes| {
        let mine = b.store.clock(keyspace(), VnodeId(0));
        a.store.pull_page(keyspace(), VnodeId(0), &mine, None, true, bytes).unwrap()
    };
    let rows = full(1 << 20).rows.len();
    assert!(rows > 200 && full(1 << 20).next.is_none(), "a full pull sends known rows too: {rows}");
}

#[test]
fn a_page_that_finds_little_ends_after_bounded_work() {
    let node = Node::new(1);
    let mut key = 0;
    let mut rows = 0;
    while rows < PULL_ROWS_EXAMINED + 5 {
        key += 1;
        let minted = node.put("ks.lww", &key.to_string(), "", WriteContext::None);
        drop(minted);
        rows += usize::from(node.row("ks.lww", &key.to_string()).vnode == VnodeId(0));
    }
    let all = node.store.clock(keyspace(), VnodeId(0));
    let page = |after| node.store.scan_page(keyspace(), VnodeId(0), &all, after, 1 << 20).unwrap();
    let first = page(None);
    assert!(first.rows.is_empty() && first.next.is_some());
    let second = page(first.next);
    assert!(second.rows.is_empty() && second.next.is_none());
}

#[test]
fn few_missing_dots_are_looked_up_and_nothing_is_looked_at_where_none_are_missing() {
    let node = Node::new(1);
    let puts = |from: usize, to: usize| {
        for n in from..to {
            node.put("ks.siblings", &n.to_string(), "x", WriteContext::None);
        }
    };
    puts(0, 1_000);
    let vnode = VnodeId(0);
    let before = node.store.clock(keyspace(), vnode);
    puts(1_000, 1_010);
    let page = |node: &Node, clock: &VnodeClock| {
        node.store.pull_page(keyspace(), vnode, clock, None, false, 1 << 20).unwrap()
    };
    let few = page(&node, &before);
    assert!(few.rows.len() <= 10 && few.rows_examined == few.rows.len(), "{}", few.rows_examined);
    let none = page(&node, &node.store.clock(keyspace(), vnode));
    assert_eq!((none.rows.len(), none.rows_examined, none.next), (0, 0, None));
    // After a start nothing is known: a scan finds the same.
    let node = node.restarted(9);
    let scanned = page(&node, &before);
    assert_eq!(scanned.rows, few.rows);
    assert!(scanned.rows_examined > 400, "{}", scanned.rows_examined);
    // That scan has seen which rows have a context: what is written from now on is looked up.
    let before = node.store.clock(keyspace(), vnode);
    for n in 0..10 {
        node.put("ks.siblings", &n.to_string(), "y", WriteContext::None);
    }
    let few = page(&node, &before);
    assert!(few.rows_examined <= 10 && !few.rows.is_empty(), "{}", few.rows_examined);
}

#[test]
fn a_row_with_a_context_is_sent_beside_those_that_are_missing() {
    let (a, b, c) = (Node::new(1), Node::new(2), Node::new(3));
    let row = a.row("ks.siblings", "k");
    let old = a.put("ks.siblings", "k", "old", WriteContext::None);
    pull(&b, &a);
    let new = b.put("ks.siblings", "k", "new", WriteContext::WhatIsHere);
    // `c` has the second write alone: its row remembers the first, which its clock does not name.
    c.store.apply(&row, &new.delta, None, NOW).unwrap();
    let puller = VnodeClock::clone(&c.store.clock(keyspace(), row.vnode));
    let other = (0..)
        .map(|n| format!("other {n}"))
        .find(|key| c.row("ks.siblings", key).vnode == row.vnode)
        .unwrap();
    c.put("ks.siblings", &other, "x", WriteContext::None);
    let page = c.store.pull_page(keyspace(), row.vnode, &puller, None, false, 1 << 20).unwrap();
    let mut keys: Vec<_> = page.rows.iter().map(|(_, key, _)| key.clone()).collect();
    keys.sort();
    assert_eq!(keys, [row.key.clone(), Bytes::from(other)]);
    assert_eq!(page.rows_examined, 2);
    // It is listed until its context is covered by the clock's base.
    c.store.apply(&row, &old.delta, None, NOW).unwrap();
    pull(&c, &a);
}

#[test]
fn a_position_from_nowhere_never_leads_out_of_the_vnode() {
    let node = Node::new(1);
    for n in 0..100 {
        node.put("ks.lww", &n.to_string(), "x", WriteContext::None);
    }
    let empty = VnodeClock::default();
    for vnode in [VnodeId(0), VnodeId(1)] {
        for at in [&b""[..], b"\0", b"\x7f\xff", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"x"] {
            for id in [TableId(0), table("ks.lww"), TableId(u32::MAX)] {
                let after = Some((id, Bytes::copy_from_slice(at)));
                let page =
                    node.store.pull_page(keyspace(), vnode, &empty, after, false, 1 << 20).unwrap();
                assert!(page.rows.iter().all(|(_, key, _)| node.store.vnode_of(key) == vnode));
            }
        }
    }
}

#[test]
fn a_pull_that_breaks_off_does_not_claim_what_it_did_not_bring() {
    let (a, b) = (Node::new(1), Node::new(2));
    for n in 0..40 {
        a.put("ks.siblings", &n.to_string(), "x", WriteContext::None);
    }
    for vnode in [VnodeId(0), VnodeId(1)] {
        pull_vnode(&b.store, &a.store, vnode, Extent::Pages(2), 200);
        let clock = b.store.clock(keyspace(), vnode);
        assert!(!clock.is_empty() && clock.is_covered_by(&a.store.clock(keyspace(), vnode)));
        assert_ne!(clock, a.store.clock(keyspace(), vnode));
    }
    pull(&b, &a);
    for n in 0..40 {
        assert_eq!(values(&b.read("ks.siblings", &n.to_string())), ["x"]);
    }
}

#[test]
fn read_repair_removes_what_the_others_saw_removed() {
    let (a, b) = (Node::new(1), Node::new(2));
    let row = a.row("ks.siblings", "k");
    let old = a.put("ks.siblings", "k", "old", WriteContext::None);
    b.store.apply(&row, &old.delta, None, NOW).unwrap();
    a.put("ks.siblings", "k", "new", WriteContext::WhatIsHere);
    let version = a.store.read(&row).unwrap();
    let coverage = version.row.full_context(&version.clock);
    b.store.join(&row, &version.row, &coverage).unwrap();
    assert_eq!(values(&b.read("ks.siblings", "k")), ["new"]);
    let joined = b.store.stats().joined_rows;
    b.store.join(&row, &version.row, &coverage).unwrap();
    assert_eq!(b.store.stats().joined_rows, joined, "the second time changes nothing");
    // The clock learned the new dot only from its row.
    assert!(b.store.clock(row.keyspace, row.vnode).is_covered_by(&version.clock));
}
