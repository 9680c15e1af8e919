//! Dots that are given out before their deltas exist (rule 14).

use meridian_crdt::{Delta, Dot, Entry};
use meridian_store::{HintId, ReservedDot};
use meridian_types::WriteId;

use super::*;

const KEEPER: NodeId = NodeId(7);
const TABLE: &str = "ks.siblings";

fn id(n: u8) -> WriteId {
    WriteId::from_bytes([n; 16])
}

impl Node {
    fn reserve(&self, key: &str, write: u8) -> Dot {
        let number = HintId(write.into());
        self.store.reserve(&self.row(TABLE, key), KEEPER, id(write), number, NOW).unwrap()
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
    let ReservedDot { dot, keeper, write_id, number, .. } = unused[0];
    assert_eq!((dot, keeper, write_id, number), (first, KEEPER, id(1), HintId(1)));
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
    node.store.give_up_reserved(&ReservedDot { dot, ..unused[0] }).unwrap();
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
