//! Forgetting, by what replicas durably know (rules 8 and 12).

use std::collections::BTreeSet;

use meridian_crdt::Delta;
use meridian_store::{
    Collected, Collecting, EndedPull, Goods, OtherReplicas, PeerStanding, Reserved, Reserving,
    VnodeKind,
};
use meridian_types::{KeptAs, KeyspaceId, VnodeId, WriteId};
use meridian_vfs::CrashChoice;

use super::*;

const LAYOUT: u64 = 3;
const SIBLINGS: &str = "ks.siblings";
const LWW: &str = "ks.lww";

/// By how much clocks differ in these tests.
const SKEW_MS: u64 = 1_000;

fn at(millis: u64) -> Millis {
    NOW.plus(millis)
}

/// Three replicas of everything; what is written at one reaches the others when it is sent.
struct Cluster {
    nodes: Vec<Node>,
}

fn others_of(node: u32) -> Vec<NodeId> {
    (1..=3).filter(|other| *other != node).map(NodeId).collect()
}

impl Node {
    fn proven(self, keyspace: KeyspaceId) -> Self {
        let all: BTreeSet<NodeId> = others_of(self.number).into_iter().collect();
        let others = OtherReplicas { local: all.clone(), all: all.clone() };
        for vnode in [VnodeId(0), VnodeId(1)] {
            for peer in all.iter().chain(&all) {
                let loss = Incarnation(u64::from(peer.0));
                let at = PeerStanding { kind: VnodeKind::Fresh, goods: Goods::NONE, loss };
                let round = self.store.state(keyspace, vnode).round();
                let pull = EndedPull { peer: *peer, at, full: true, round };
                let clock = Default::default();
                self.store.pull_ended(keyspace, vnode, &pull, &clock, &others).unwrap();
            }
            let ended = self.store.end_rebuild(keyspace, vnode, &others).unwrap();
            assert_eq!(ended.kind, VnodeKind::Sound);
        }
        self
    }

    fn mint(&self, table: &str, value: Option<&str>, context: WriteContext, at: Millis) -> Delta {
        let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let write = LocalWrite { value, context, ..LocalWrite::default() };
        self.store.mint(&self.row(table, "k"), write, at).unwrap().delta
    }

    fn apply(&self, table: &str, delta: &Delta) -> bool {
        self.store
            .apply(&self.row(table, "k"), delta, None, delta.entry.stamp.millis())
            .unwrap()
            .new
    }

    fn is_empty(&self, table: &str) -> bool {
        self.read(table, "k").is_empty()
    }
}

impl Cluster {
    fn new() -> Self {
        let keyspace = catalog().table(&SIBLINGS.parse().unwrap()).unwrap().keyspace;
        Self { nodes: (1..=3).map(|number| Node::new(number).proven(keyspace)).collect() }
    }

    fn place(&self) -> (KeyspaceId, VnodeId) {
        let row = self.nodes[0].row(SIBLINGS, "k");
        (row.keyspace, row.vnode)
    }

    fn send(&self, table: &str, delta: &Delta) {
        self.nodes.iter().for_each(|node| _ = node.apply(table, delta));
    }

    fn sync(&self) {
        self.nodes.iter().for_each(|node| node.store.sync().unwrap());
    }

    /// Everybody is told what everybody says.
    fn agree(&self, now: Millis) {
        for to in &self.nodes {
            for from in self.nodes.iter().filter(|from| from.number != to.number) {
                self.tell(from, to, LAYOUT, now);
            }
        }
    }

    fn tell(&self, from: &Node, to: &Node, layout: u64, now: Millis) {
        let (keyspace, vnode) = self.place();
        let asked = to.store.asking(NodeId(from.number));
        for (vnode, said) in from.store.evidence(keyspace, &[vnode], now).unwrap() {
            to.store.hear(asked, keyspace, vnode, layout, said);
        }
    }

    /// Syncs and agrees twice, for a promise is told when it has been made a while ago.
    fn settle(&self, now: Millis) {
        for now in [now, now.plus(SKEW_MS), now.plus(2 * SKEW_MS)] {
            self.sync();
            self.agree(now);
        }
    }

    fn collect(&self, at: usize, now: Millis) -> Collected {
        let (keyspace, vnode) = self.place();
        let node = &self.nodes[at];
        let others = others_of(node.number);
        let part = Collecting {
            keyspace,
            vnode,
            others: &others,
            layout: LAYOUT,
            after: None,
            rows: 100,
            max_skew_ms: SKEW_MS,
            now,
        };
        node.store.collect(&part).unwrap()
    }

    fn crash(&mut self, at: usize, fresh: u64) {
        let node = &self.nodes[at];
        let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
        self.nodes[at] = Node::on(node.number, fs, node.metadata.crash_clone(), fresh);
    }
}

/// A value at all, and its deletion, sent to these.
fn deleted(cluster: &Cluster, table: &str, sent_to: &[usize]) -> (Delta, Delta) {
    let value = cluster.nodes[0].mint(table, Some("v"), WriteContext::None, NOW);
    cluster.send(table, &value);
    let marker = cluster.nodes[0].mint(table, None, WriteContext::WhatIsHere, at(10));
    sent_to.iter().for_each(|to| _ = cluster.nodes[*to].apply(table, &marker));
    (value, marker)
}

#[test]
fn a_marker_that_all_durably_know_goes_and_nothing_of_it_comes_back() {
    let cluster = Cluster::new();
    let (value, marker) = deleted(&cluster, SIBLINGS, &[1, 2]);
    cluster.agree(at(20));
    assert_eq!(cluster.collect(0, at(20)).entries, 0, "nobody has synced it");
    cluster.settle(at(20));
    let gone = cluster.collect(0, at(20));
    assert_eq!((gone.entries, gone.rows, gone.left, gone.next), (1, 1, 0, None));
    let node = &cluster.nodes[0];
    assert!(node.is_empty(SIBLINGS));
    assert!(!node.apply(SIBLINGS, &value) && !node.apply(SIBLINGS, &marker));
    // A repair that was read before, and a pull's page.
    let old = cluster.nodes[1].store.read(&node.row(SIBLINGS, "k")).unwrap();
    let coverage = old.row.full_context(&old.clock);
    node.store.join(&node.row(SIBLINGS, "k"), &old.row, &coverage).unwrap();
    node.store
        .join(
            &node.row(SIBLINGS, "k"),
            &value.clone().into_row(),
            &value.into_row().full_context(&Default::default()),
        )
        .unwrap();
    assert!(node.is_empty(SIBLINGS));
    assert_eq!(node.store.stats().forgotten_rows, 1);
}

#[test]
fn who_lacks_the_marker_holds_all_back() {
    let cluster = Cluster::new();
    let (_, marker) = deleted(&cluster, SIBLINGS, &[1]);
    cluster.settle(at(20));
    assert_eq!(cluster.collect(0, at(20)), Collected { left: 1, ..Collected::default() });
    cluster.nodes[2].apply(SIBLINGS, &marker);
    cluster.settle(at(30));
    assert_eq!(cluster.collect(0, at(30)).rows, 1);
}

#[test]
fn what_was_said_is_void_when_its_replica_is_gone_or_pulls_in_full_and_under_another_layout() {
    let cluster = Cluster::new();
    deleted(&cluster, SIBLINGS, &[1, 2]);
    let (keyspace, vnode) = cluster.place();
    let store = &cluster.nodes[0].store;
    let voids: [&dyn Fn(); 3] = [
        &|| store.void_evidence(NodeId(2)),
        &|| store.void_evidence_of(keyspace, vnode, NodeId(3)),
        &|| cluster.tell(&cluster.nodes[1], &cluster.nodes[0], LAYOUT + 1, at(40)),
    ];
    for void in voids {
        cluster.settle(at(20));
        void();
        assert_eq!(cluster.collect(0, at(20)), Collected::default());
    }
    // What was asked before is not heard afterwards.
    cluster.settle(at(20));
    let asked = store.asking(NodeId(2));
    let said = cluster.nodes[1].store.evidence(keyspace, &[vnode], at(20)).unwrap().remove(0).1;
    store.void_evidence(NodeId(2));
    store.hear(asked, keyspace, vnode, LAYOUT, said.clone());
    assert_eq!(cluster.collect(0, at(20)), Collected::default());
    store.hear(store.asking(NodeId(2)), keyspace, vnode, LAYOUT, said);
    assert_eq!(cluster.collect(0, at(20)).rows, 1);
}

#[test]
fn a_replica_that_cannot_prove_what_it_has_says_nothing_and_forgets_nothing() {
    let mut cluster = Cluster::new();
    deleted(&cluster, SIBLINGS, &[1, 2]);
    cluster.settle(at(20));
    let fresh = Node::new(3);
    let (keyspace, vnode) = cluster.place();
    assert_eq!(fresh.store.evidence(keyspace, &[vnode], at(20)).unwrap(), []);
    cluster.nodes[2] = fresh;
    cluster.settle(at(20));
    assert_eq!(cluster.collect(2, at(20)), Collected::default());
}

#[test]
fn a_marker_whose_context_the_clock_lacks_leaves_what_it_had_seen() {
    let cluster = Cluster::new();
    let value = cluster.nodes[0].mint(SIBLINGS, Some("v"), WriteContext::None, NOW);
    let marker = cluster.nodes[0].mint(SIBLINGS, None, WriteContext::WhatIsHere, at(10));
    let [one, two, three] = &cluster.nodes[..] else { unreachable!() };
    assert!(two.apply(SIBLINGS, &marker) && three.apply(SIBLINGS, &marker));
    cluster.settle(at(20));
    let done = cluster.collect(1, at(20));
    assert_eq!((done.entries, done.rows, done.left), (1, 0, 1));
    assert!(two.apply(SIBLINGS, &value), "its dot is news");
    assert!(two.read(SIBLINGS, "k").entries().is_empty(), "and was seen to go");
    cluster.settle(at(30));
    assert_eq!(cluster.collect(1, at(30)).rows, 1);
    assert!(two.is_empty(SIBLINGS) && one.read(SIBLINGS, "k").entries().len() == 1);
}

#[test]
fn an_lww_marker_goes_when_all_that_is_older_is_known() {
    let cluster = Cluster::new();
    // Another life's write, older than the marker, is under way to one replica.
    let late = cluster.nodes[1].mint(LWW, Some("late"), WriteContext::None, NOW);
    cluster.nodes[0].apply(LWW, &late);
    let (_, marker) = deleted(&cluster, LWW, &[1, 2]);
    cluster.settle(at(100));
    assert_eq!(cluster.collect(0, at(10_000)).entries, 0);
    assert!(cluster.nodes[2].apply(LWW, &late));
    cluster.settle(at(10_000));
    assert_eq!(cluster.collect(0, at(20_000)).entries, 1);
    let node = &cluster.nodes[0];
    assert!(node.is_empty(LWW));
    // Neither a delta nor a repair of it.
    assert!(!node.apply(LWW, &late) && !node.apply(LWW, &marker));
    let row = late.into_row();
    node.store.join(&node.row(LWW, "k"), &row, &Context::default()).unwrap();
    assert!(node.is_empty(LWW));
}

#[test]
fn an_lww_marker_waits_until_no_clock_can_be_below_it() {
    let cluster = Cluster::new();
    deleted(&cluster, LWW, &[1, 2]);
    cluster.settle(at(100));
    cluster.settle(at(200));
    assert_eq!(cluster.collect(0, at(2 * SKEW_MS)).entries, 0);
    assert_eq!(cluster.collect(0, at(2 * SKEW_MS + 20)).entries, 1);
}

#[test]
fn a_life_that_has_ended_holds_lww_tables_back() {
    let mut cluster = Cluster::new();
    deleted(&cluster, LWW, &[1, 2]);
    cluster.settle(at(100));
    cluster.crash(2, 77);
    cluster.settle(at(10_000));
    assert_eq!(cluster.collect(0, at(20_000)).entries, 0);
    let (keyspace, vnode) = cluster.place();
    let said = cluster.nodes[2].store.evidence(keyspace, &[vnode], at(20_000)).unwrap();
    assert_eq!(said[0].1.promises.len(), 2, "it is named");
}

#[test]
fn an_expired_value_goes_when_no_clock_shows_it() {
    let cluster = Cluster::new();
    for table in [SIBLINGS, LWW] {
        let node = &cluster.nodes[0];
        let expires = Some(at(1_000));
        let write = LocalWrite { expires, ..write("v", WriteContext::None) };
        let minted = node.store.mint(&node.row(table, "k"), write, NOW).unwrap();
        cluster.send(table, &minted.delta);
    }
    cluster.settle(at(100));
    cluster.settle(at(200));
    assert_eq!(cluster.collect(0, at(1_000 + 3 * SKEW_MS - 1)).entries, 0);
    assert_eq!(cluster.collect(0, at(1_000 + 3 * SKEW_MS)).entries, 2);
}

#[test]
fn what_was_promised_binds_the_next_life_and_old_writes() {
    let mut cluster = Cluster::new();
    cluster.settle(at(50_000));
    let (keyspace, vnode) = cluster.place();
    let said = cluster.nodes[0].store.evidence(keyspace, &[vnode], at(60_000)).unwrap().remove(0);
    let promised = said.1.promises.values().map(|promise| promise.stamp).max().unwrap();
    assert!(promised > Hlc::new(at(40_000), 0));
    let row = cluster.nodes[0].row(LWW, "k");
    let asked = Reserving {
        row: &row,
        write_id: WriteId::from_bytes([7; 16]),
        keeper: NodeId(9),
        kept_as: KeptAs::Intent(1),
        holders: Vec::new(),
        over_what_is_here: false,
    };
    match cluster.nodes[0].store.reserve(asked, at(60_000)).unwrap() {
        Reserved::Dot { not_below, .. } => assert!(not_below > promised),
        Reserved::Written { delta, .. } => panic!("{delta:?} has it"),
    }
    // The wall clock steps back with the crash.
    cluster.crash(0, 77);
    let delta = cluster.nodes[0].mint(LWW, Some("v"), WriteContext::None, NOW);
    assert!(delta.entry.stamp > promised);
}

#[test]
fn a_crash_at_any_sync_point_of_a_walk_loses_nothing_that_all_knew() {
    for crash_after in 0..4 {
        let mut cluster = Cluster::new();
        let (value, _) = deleted(&cluster, SIBLINGS, &[1, 2]);
        let kept = cluster.nodes[1].mint("ks.siblings", Some("w"), WriteContext::None, at(15));
        cluster.send(SIBLINGS, &kept);
        cluster.settle(at(20));
        if crash_after > 0 {
            cluster.collect(0, at(20));
        }
        if crash_after > 1 {
            cluster.nodes[0].store.sync().unwrap();
        }
        if crash_after > 2 {
            cluster.nodes[0].store.flush().unwrap();
        }
        cluster.crash(0, 77);
        let node = &cluster.nodes[0];
        assert_eq!(values(&node.read(SIBLINGS, "k")), ["w"]);
        assert!(!node.apply(SIBLINGS, &value));
        assert_eq!(values(&node.read(SIBLINGS, "k")), ["w"]);
    }
}

#[test]
fn a_walk_is_done_in_parts_and_only_where_there_may_be_something() {
    let cluster = Cluster::new();
    let store = &cluster.nodes[0].store;
    let (keyspace, vnode) = cluster.place();
    cluster.nodes[0].mint(SIBLINGS, Some("v"), WriteContext::None, NOW);
    assert_eq!(store.collectable(None, 10), [(keyspace, vnode)]);
    cluster.settle(at(20));
    assert_eq!(cluster.collect(0, at(20)), Collected::default());
    assert_eq!(store.collectable(None, 10), []);
    cluster.nodes[0].mint(SIBLINGS, None, WriteContext::None, NOW);
    assert_eq!(store.collectable(None, 10), [(keyspace, vnode)]);
    assert_eq!(store.collectable(Some((keyspace, vnode)), 10), []);
    let others = others_of(1);
    let mut part = Collecting {
        keyspace,
        vnode,
        others: &others,
        layout: LAYOUT,
        after: None,
        rows: 1,
        max_skew_ms: SKEW_MS,
        now: at(20),
    };
    let mut parts = 0;
    loop {
        part.after = store.collect(&part).unwrap().next;
        parts += 1;
        if part.after.is_none() {
            break;
        }
    }
    assert_eq!(parts, 2);
    assert_eq!(store.collectable(None, 10), [(keyspace, vnode)], "its marker is left");
}

/// In a build for mutations: `RUSTFLAGS="--cfg meridian_mutations"`.
#[cfg(meridian_mutations)]
#[test]
fn each_rule_that_is_left_out_is_missed() {
    use meridian_types::{Mutation, leave_out};

    let void =
        what_was_said_is_void_when_its_replica_is_gone_or_pulls_in_full_and_under_another_layout;
    let cases: [(Mutation, fn()); 7] = [
        (Mutation::CollectAtOnce, who_lacks_the_marker_holds_all_back),
        (
            Mutation::CountUnsyncedClocks,
            a_marker_that_all_durably_know_goes_and_nothing_of_it_comes_back,
        ),
        (Mutation::CollectByDot, an_lww_marker_goes_when_all_that_is_older_is_known),
        (Mutation::EvidenceOverEpochs, void),
        (Mutation::EvidenceOverLives, void),
        (Mutation::IntentBelowPromise, what_was_promised_binds_the_next_life_and_old_writes),
        (Mutation::PromiseNotDurable, what_was_promised_binds_the_next_life_and_old_writes),
    ];
    for (rule, test) in cases {
        leave_out(Some(rule));
        let held = std::panic::catch_unwind(test).is_ok();
        leave_out(None);
        assert!(!held, "{rule:?} is not missed");
    }
}
