//! Full pulls: what the peer has seen go leaves, what it has not seen stays.

use meridian_store::{PagePosition, Swept};
use meridian_types::VnodeId;

use super::pulls::{keyspace, pull};
use super::*;

const TABLES: [&str; 2] = ["ks.siblings", "ks.lww"];

/// Pulls both vnodes in full, in pages of so many bytes.
fn sweep(to: &Node, from: &Node, bytes: usize) -> Swept {
    let mut all = Swept::default();
    for vnode in [VnodeId(0), VnodeId(1)] {
        let (mut after, mut first): (Option<PagePosition>, _) = (None, None);
        loop {
            let mine = to.store.clock(keyspace(), vnode);
            let page =
                from.store.pull_page(keyspace(), vnode, &mine, after.clone(), true, bytes).unwrap();
            let (rows, until) = (&page.rows, page.next.as_ref());
            let swept = to
                .store
                .sweep(keyspace(), vnode, after.as_ref(), rows, until, &page.clock)
                .unwrap();
            all.add(swept);
            first.get_or_insert(page.clock);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        to.store.join_clock(keyspace(), vnode, &first.unwrap()).unwrap();
    }
    all
}

/// Makes `node` one that has seen everything of `other` come and go: its clock, without its rows.
fn has_seen_it_go(node: &Node, other: &Node) {
    for vnode in [VnodeId(0), VnodeId(1)] {
        let clock = other.store.clock(keyspace(), vnode);
        node.store.join_clock(keyspace(), vnode, &clock).unwrap();
    }
}

fn all_rows(node: &Node) -> Vec<Vec<String>> {
    let rows = |table: &'static str| (0..60).map(move |n| (table, n.to_string()));
    let read = |(table, key): (&str, String)| values(&node.read(table, &key));
    TABLES.iter().flat_map(|table| rows(table)).map(read).collect()
}

#[test]
fn what_the_peer_has_seen_go_leaves_in_pages_of_any_size() {
    for bytes in [0, 150, 1 << 20] {
        let (a, b) = (Node::new(1), Node::new(2));
        for table in TABLES {
            for n in 0..60 {
                b.put(table, &n.to_string(), "old", WriteContext::None);
            }
        }
        has_seen_it_go(&a, &b);
        for table in TABLES {
            for n in (0..60).step_by(3) {
                a.put(table, &n.to_string(), "new", WriteContext::None);
            }
            for n in (0..60).step_by(5) {
                b.put(table, &n.to_string(), "later", WriteContext::None);
            }
        }
        let swept = sweep(&b, &a, bytes);
        // Neither the peer's rows nor those with something that it has not seen.
        assert_eq!(swept.gone, 2 * (60 - 20 - 8), "{bytes}");
        for n in 0..60 {
            let mut expected = Vec::new();
            if n % 5 == 0 {
                expected.push("later");
            }
            if n % 3 == 0 {
                expected.push("new");
            }
            let key = n.to_string();
            assert_eq!(values(&b.read("ks.siblings", &key)), expected, "{n} in pages of {bytes}");
            // Of a last write nothing shows but the last.
            assert_eq!(values(&b.read("ks.lww", &key)), expected[..expected.len().min(1)], "{n}");
        }
        assert_eq!(sweep(&b, &a, bytes), Swept::default(), "the second time changes nothing");
        pull(&a, &b);
        assert_eq!(all_rows(&a), all_rows(&b));
        let clock = |node: &Node, vnode| node.store.clock(keyspace(), VnodeId(vnode));
        assert!((0..2).all(|vnode| clock(&a, vnode) == clock(&b, vnode)));
    }
}

#[test]
fn nothing_outside_of_a_page_is_touched() {
    let (a, b) = (Node::new(1), Node::new(2));
    for table in TABLES {
        for n in 0..60 {
            b.put(table, &n.to_string(), "old", WriteContext::None);
        }
    }
    has_seen_it_go(&a, &b);
    let before = all_rows(&b);
    let clock = a.store.clock(keyspace(), VnodeId(0));
    let last = Bytes::from_static(&[0xff; 9]);
    let (first, end) = ((TableId(0), Bytes::new()), (TableId(u32::MAX), last));
    for (after, until) in [(Some(&end), None), (None, Some(&first)), (Some(&end), Some(&first))] {
        let swept = b.store.sweep(keyspace(), VnodeId(0), after, &[], until, &clock).unwrap();
        assert_eq!(swept, Swept::default());
    }
    assert_eq!(all_rows(&b), before);
    // The whole of one vnode leaves the other alone.
    let swept = b.store.sweep(keyspace(), VnodeId(0), None, &[], None, &clock).unwrap();
    let in_vnode = |n: &i32| b.store.vnode_of(n.to_string().as_bytes()) == VnodeId(0);
    assert_eq!(swept.gone, 2 * (0..60).filter(in_vnode).count() as u64);
    for n in 0..60 {
        let expected = if in_vnode(&n) { 0 } else { 1 };
        assert_eq!(values(&b.read("ks.lww", &n.to_string())).len(), expected, "{n}");
    }
}

#[test]
fn what_a_sweep_did_survives_a_restart() {
    let (a, b) = (Node::new(1), Node::new(2));
    for n in 0..60 {
        b.put("ks.siblings", &n.to_string(), "old", WriteContext::None);
    }
    has_seen_it_go(&a, &b);
    a.put("ks.siblings", "7", "new", WriteContext::None);
    sweep(&b, &a, 100);
    let clocks = [0, 1].map(|vnode| b.store.clock(keyspace(), VnodeId(vnode)));
    let b = b.restarted(9);
    assert_eq!([0, 1].map(|vnode| b.store.clock(keyspace(), VnodeId(vnode))), clocks);
    let shown: Vec<String> = all_rows(&b).concat();
    assert_eq!(shown, ["new"]);
}
