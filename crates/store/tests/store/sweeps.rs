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

/// What a full pull has gone by, and the peer has seen go, does not come back before it ends.
#[test]
fn a_delta_behind_the_scan_waits_for_the_end_of_the_pull() {
    for table in TABLES {
        let (writer, a, b) = (Node::new(1), Node::new(2), Node::new(3));
        let minted = writer.put(table, "k", "gone", WriteContext::None);
        let row = writer.row(table, "k");
        has_seen_it_go(&b, &writer);
        let begin = |node: &Node| {
            let peer = b.store.clock(keyspace(), row.vnode);
            let pull = node.store.begin_full_pull(keyspace(), row.vnode, peer.clone()).unwrap();
            (pull, peer)
        };
        let (pull, peer) = begin(&a);
        let apply = |node: &Node| node.store.apply(&row, &minted.delta, None, NOW);
        // Ahead of it all is as ever: the pull will see it.
        let other = Node::new(4);
        let (ahead, _) = begin(&other);
        assert!(apply(&other).unwrap().new);
        drop(ahead);
        for passed in [Some((TableId(u32::MAX), Bytes::new())), None] {
            pull.sweep(None, &[], passed.as_ref(), &peer).unwrap();
            let refused = [
                apply(&a).map(drop).unwrap_err(),
                pull_row(&a, &writer, &row).unwrap_err(),
                a.store.join(&row, &writer.read(table, "k"), &Context::default()).unwrap_err(),
            ];
            for error in refused {
                assert!(matches!(error, StoreError::BehindPull { .. }), "{error}");
            }
        }
        // What the peer had not seen comes as ever.
        let new = writer.put(table, "k", "new", WriteContext::None);
        assert!(a.store.apply(&row, &new.delta, None, NOW).unwrap().new);
        a.store.join_clock(keyspace(), row.vnode, &peer).unwrap();
        drop(pull);
        assert!(!apply(&a).unwrap().new, "it is known now");
        assert_eq!(values(&a.read(table, "k")), ["new"]);

        // A pull that breaks off proves nothing.
        let c = Node::new(5);
        let (pull, peer) = begin(&c);
        pull.sweep(None, &[], None, &peer).unwrap();
        assert!(apply(&c).is_err());
        drop(pull);
        assert!(apply(&c).unwrap().new);
        assert_eq!(values(&c.read(table, "k")), ["gone"]);
    }
}

fn pull_row(to: &Node, from: &Node, row: &RowKey) -> Result<bool, StoreError> {
    let version = from.store.read(row).unwrap();
    let clock = &version.clock;
    to.store.join_pulled(keyspace(), row.vnode, row.table, &row.key, &version.row, clock)
}
