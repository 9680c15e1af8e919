//! Dots that are given out before their deltas exist (rule 14).

use meridian_crdt::{Delta, Dot, Entry};
use meridian_store::{Reserved, ReservedDot, Reserving};
use meridian_types::{BatchId, KeptAs, WriteId};
use meridian_vfs::CrashChoice;

use super::*;

const KEEPER: NodeId = NodeId(7);
const TABLE: &str = "ks.siblings";

fn id(n: u8) -> WriteId {
    WriteId::from_bytes([n; 16])
}

fn asked(row: &RowKey, write: u8) -> Reserving<'_> {
    Reserving {
        row,
        write_id: id(write),
        keeper: KEEPER,
        kept_as: KeptAs::Intent(write.into()),
        holders: Vec::new(),
        over_what_is_here: false,
    }
}

impl Node {
    fn reserve(&self, key: &str, write: u8) -> Dot {
        self.reserved(asked(&self.row(TABLE, key), write)).0
    }

    fn reserved(&self, asked: Reserving<'_>) -> (Dot, Context) {
        match self.store.reserve(asked, NOW).unwrap() {
            Reserved::Dot { dot, context, .. } => (dot, context),
            Reserved::Written { delta, .. } => panic!("{delta:?} has it"),
        }
    }

    fn unused(&self, age_ms: u64) -> Vec<ReservedDot> {
        self.store.unused_reservations(None, 100, age_ms, NOW.plus(50))
    }

    fn has(&self, dot: Dot) -> bool {
        let row = self.row(TABLE, "k");
        self.store.clock(row.keyspace, row.vnode).contains(dot)
    }
}

fn delta(dot: Dot, value: &str) -> Delta {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Delta { entry: Entry { dot, stamp: Hlc(9), expires: None, value }, context: Context::default() }
}

#[test]
fn a_reserved_dot_is_one_writes_own() {
    let node = Node::new(1);
    let first = node.reserve("k", 1);
    assert_eq!(node.reserve("k", 1), first, "asked again");
    let second = node.reserve("k", 2);
    let minted = node.put(TABLE, "k", "minted", WriteContext::None).delta.entry.dot;
    assert_eq!([first, second, minted].map(|dot| dot.counter), [1, 2, 3]);
    assert!(!node.has(first) && !node.has(second) && node.has(minted));
    for (dot, value) in [(second, "second"), (first, "first"), (first, "first")] {
        node.store.apply(&node.row(TABLE, "k"), &delta(dot, value), None, NOW).unwrap();
    }
    assert_eq!(values(&node.read(TABLE, "k")), ["first", "minted", "second"]);
    let row = node.row(TABLE, "k");
    assert_eq!(node.store.clock(row.keyspace, row.vnode).base(node.store.actor()), 3, "no gap");
    assert!(node.unused(0).is_empty());
}

#[test]
fn a_dot_that_its_keeper_was_asked_about_is_not_given_out_again() {
    let node = Node::new(1);
    let first = node.reserve("k", 1);
    assert!(node.unused(51).is_empty(), "too young");
    let unused = node.unused(50);
    assert_eq!(unused.len(), 1);
    let ReservedDot { dot, keeper, kept_as, .. } = unused[0];
    assert_eq!((dot, keeper, kept_as), (first, KEEPER, KeptAs::Intent(1)));
    assert_ne!(node.reserve("k", 1), first);
    assert_eq!(node.unused(0).len(), 2, "both are asked about until their keeper has answered");
}

#[test]
fn a_dot_that_was_given_up_leaves_no_gap_and_no_row() {
    let node = Node::new(1);
    let first = node.reserve("k", 1);
    node.put(TABLE, "k", "minted", WriteContext::None);
    let unused = node.unused(0);
    node.store.give_up_reserved(&unused[0]).unwrap();
    node.store.give_up_reserved(&unused[0]).unwrap();
    assert!(node.has(first) && node.unused(0).is_empty());
    assert!(
        !node.store.apply(&node.row(TABLE, "k"), &delta(first, "late"), None, NOW).unwrap().new
    );
    assert_eq!(values(&node.read(TABLE, "k")), ["minted"]);
    let node = node.restarted(77);
    assert!(node.has(first) && !node.opened.new_incarnation);
    let dot = Dot {
        actor: meridian_crdt::Actor { node: NodeId(1), incarnation: Incarnation(3) },
        ..first
    };
    node.store.give_up_reserved(&ReservedDot { dot, ..unused[0].clone() }).unwrap();
    assert!(!node.has(dot), "another life's dots are not this one's to judge");
}

#[test]
fn a_dot_that_came_by_a_pull_is_not_asked_about() {
    let (node, peer) = (Node::new(1), Node::new(2));
    let dot = node.reserve("k", 1);
    peer.store.apply(&peer.row(TABLE, "k"), &delta(dot, "kept"), None, NOW).unwrap();
    pulls::pull(&node, &peer);
    assert!(node.unused(0).is_empty());
    assert_eq!(values(&node.read(TABLE, "k")), ["kept"]);
}

#[test]
fn a_life_that_ends_with_reserved_dots_ends_its_actor() {
    let node = Node::new(1);
    let dot = node.reserve("k", 1);
    let node = node.restarted(77);
    assert!(node.opened.clean && node.opened.new_incarnation && !node.opened.data_lost);
    assert_ne!(node.reserve("k", 1), dot);
}

#[test]
fn a_write_that_is_kept_twice_gets_two_dots() {
    let node = Node::new(1);
    let row = node.row(TABLE, "k");
    let batch = |n| KeptAs::Batch(BatchId::from_bytes([n; 16]));
    let once = |kept_as, holders| Reserving { kept_as, holders, ..asked(&row, 1) };
    let holders = vec![NodeId(4), NodeId(5)];
    let dots = [
        node.reserved(once(KeptAs::Intent(1), Vec::new())).0,
        node.reserved(once(KeptAs::Intent(2), Vec::new())).0,
        node.reserved(once(batch(1), holders.clone())).0,
        node.reserved(once(batch(2), holders.clone())).0,
    ];
    assert_eq!(dots.map(|dot| dot.counter), [1, 2, 3, 4], "under one write id");
    let asked = node.unused(0);
    assert_eq!(asked[2].holders, holders);
    assert_eq!(asked[2].kept_as, batch(1));
}

#[test]
fn a_write_that_is_here_already_keeps_its_dot() {
    let node = Node::new(1);
    let row = node.row(TABLE, "k");
    let first = LocalWrite { write_id: Some(id(1)), ..write("v", WriteContext::None) };
    let minted = node.store.mint(&row, first, NOW).unwrap().delta;
    match node.store.reserve(asked(&row, 1), NOW).unwrap() {
        Reserved::Written { delta, .. } => assert_eq!(delta, minted),
        Reserved::Dot { dot, .. } => panic!("{dot:?} is another one"),
    }
    assert!(node.unused(0).is_empty());
}

#[test]
fn a_kept_delete_replaces_what_the_replica_has() {
    let node = Node::new(1);
    let minted = node.put(TABLE, "k", "v", WriteContext::None).delta.entry.dot;
    let row = node.row(TABLE, "k");
    let over = Reserving { over_what_is_here: true, ..asked(&row, 1) };
    let (dot, context) = node.reserved(over);
    assert!(context.contains(minted) && !context.contains(dot));
    let (_, nothing) = node.reserved(asked(&row, 2));
    assert!(nothing.is_empty());
}

#[test]
fn a_replica_says_what_its_disk_has() {
    let node = Node::new(1);
    let row = node.row(TABLE, "k");
    let here = node.put(TABLE, "k", "v", WriteContext::None).delta.entry.dot;
    let next = node.reserve("k", 1);
    let dots = [here, next].map(|dot| (row.keyspace, row.vnode, dot));
    let crashed = |fresh| {
        let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
        Node::on(1, fs, node.metadata.crash_clone(), fresh)
    };
    assert!(crashed(76).read(TABLE, "k").is_empty(), "it is in memory only");
    assert_eq!(node.store.holds(&dots).unwrap(), [true, false]);
    let elsewhere = (row.keyspace, meridian_types::VnodeId(9_999), here);
    assert_eq!(node.store.holds(&[elsewhere]).unwrap(), [false]);
    assert_eq!(values(&crashed(77).read(TABLE, "k")), ["v"], "the question synced it");
}
