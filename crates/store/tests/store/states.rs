//! What a replica can prove of its vnodes, over starts of every kind (rule 10).

use std::collections::BTreeSet;

use meridian_crdt::VnodeClock;
use meridian_store::{
    EndedPull, Goods, OtherReplicas, PeerStanding, Progress, ReadClass, SyncPolicy, VnodeKind,
    VnodeState, require_new_incarnation,
};
use meridian_types::VnodeId;
use meridian_vfs::CrashChoice;

use super::*;

const V: VnodeId = VnodeId(0);

fn keyspace() -> meridian_types::KeyspaceId {
    catalog().table(&"ks.lww".parse().unwrap()).unwrap().keyspace
}

fn others() -> OtherReplicas {
    let all = BTreeSet::from([NodeId(2), NodeId(3)]);
    OtherReplicas { local: all.clone(), all }
}

fn sound() -> PeerStanding {
    PeerStanding { kind: VnodeKind::Sound, goods: Goods::EVERY, loss: Incarnation(0) }
}

impl Node {
    fn state(&self) -> VnodeState {
        self.store.state(keyspace(), V)
    }

    fn kind(&self) -> VnodeKind {
        let state = self.state();
        assert_eq!(self.store.standing(keyspace(), V).kind(), state.kind);
        assert_eq!(self.store.peer_standing(keyspace(), V).loss, state.loss);
        state.kind
    }

    fn pulled(&self, peer: u32, at: PeerStanding, full: bool) -> Progress {
        let pull = EndedPull { peer: NodeId(peer), at, full, round: self.state().round() };
        let clock = VnodeClock::default();
        self.store.pull_ended(keyspace(), V, &pull, &clock, &others()).unwrap()
    }

    /// A key that lies in the vnode.
    fn key(&self) -> String {
        let keys = (0..).map(|n: u32| n.to_string());
        let mut here = keys.filter(|key| self.row("ks.lww", key).vnode == V);
        here.next().unwrap()
    }

    fn answers(&self, class: ReadClass) -> bool {
        self.store.standing(keyspace(), V).answers(class)
    }

    fn crashed(self, choice: CrashChoice, fresh: u64) -> Self {
        Self::on(self.number, self.fs.crash_clone(choice), self.metadata.crash_clone(), fresh)
    }
}

/// A node whose first write is synced.
fn written() -> Node {
    let node = Node::new(1);
    node.put("ks.siblings", &node.key(), "a", WriteContext::None);
    node.store.sync().unwrap();
    node
}

#[test]
fn where_nothing_is_known_a_replica_is_fresh_and_its_first_write_says_so_for_good() {
    let node = Node::new(1);
    let begun = VnodeState::begun(VnodeKind::Fresh, Incarnation(1001));
    assert_eq!((node.kind(), node.state()), (VnodeKind::Fresh, begun.clone()));
    let node = node.restarted(20);
    assert_eq!(node.state(), begun, "the incarnation was kept");
    let node = node.crashed(CrashChoice::LoseUnsynced, 30);
    assert_eq!(node.state().loss, Incarnation(30), "nobody can tell it from a wiped one");
    node.put("ks.lww", &node.key(), "a", WriteContext::None);
    let node = node.restarted(40);
    assert_eq!((node.kind(), node.state().loss), (VnodeKind::Fresh, Incarnation(30)));
    let node = node.crashed(CrashChoice::LoseUnsynced, 50);
    assert_eq!((node.kind(), node.state().loss), (VnodeKind::Fresh, Incarnation(30)));
    assert!(!node.answers(ReadClass::One));
}

#[test]
fn whatever_changes_a_vnode_first_is_recorded_with_it() {
    let changes: [fn(&Node); 4] = [
        |node| drop(node.put("ks.siblings", &node.key(), "a", WriteContext::None)),
        |node| {
            let peer = written();
            pulls::pull(node, &peer);
        },
        |node| {
            // Of an answer for a row that nobody has any more.
            let seen = written().token("ks.siblings", &node.key());
            node.store.join(&node.row("ks.siblings", &node.key()), &Row::default(), &seen).unwrap();
        },
        |node| drop(node.pulled(2, sound(), true)),
    ];
    for change in changes {
        let node = Node::new(2);
        change(&node);
        let node = node.restarted(20);
        assert_eq!((node.kind(), node.state().loss), (VnodeKind::Fresh, Incarnation(1002)));
        node.store.sync().unwrap();
        let node = node.crashed(CrashChoice::LoseUnsynced, 30);
        assert_eq!((node.kind(), node.state().loss), (VnodeKind::Fresh, Incarnation(1002)));
    }
}

#[test]
fn what_was_pulled_is_known_after_a_tidy_stop_and_what_was_swept_after_any() {
    let node = written();
    assert_eq!(node.pulled(2, sound(), true).todo, [NodeId(3)]);
    assert!(node.answers(ReadClass::One) && !node.answers(ReadClass::Global));
    let node = node.restarted(20);
    assert!(!node.answers(ReadClass::One), "nobody has said who the others are");
    let progress = node.store.judge(keyspace(), V, &others()).unwrap();
    assert_eq!((progress.kind, progress.through), (VnodeKind::Fresh, false));
    assert!(node.answers(ReadClass::One));
    node.store.sync().unwrap();
    let node = node.crashed(CrashChoice::LoseUnsynced, 30);
    let progress = node.store.judge(keyspace(), V, &others()).unwrap();
    assert_eq!((progress.todo, progress.goods), (vec![NodeId(3)], Goods::NONE));
    let progress = node.pulled(3, sound(), true);
    assert!(progress.through, "it has swept both");
    assert!(!node.answers(ReadClass::Global), "and must hear of one once more");
}

/// The record of a pull goes with the rows that it speaks of.
#[test]
fn a_pull_that_was_not_synced_is_taken_back_with_its_clock() {
    let node = written();
    let peer = Node::new(2);
    peer.put("ks.siblings", &peer.key(), "b", WriteContext::None);
    let pull = EndedPull { peer: NodeId(2), at: sound(), full: true, round: 0 };
    let clock = peer.store.clock(keyspace(), V);
    node.store.pull_ended(keyspace(), V, &pull, &clock, &others()).unwrap();
    assert!(clock.is_covered_by(&node.store.clock(keyspace(), V)));
    let node = node.crashed(CrashChoice::LoseUnsynced, 20);
    assert!(!clock.is_covered_by(&node.store.clock(keyspace(), V)));
    assert!(node.state().swept.is_empty());
}

#[test]
fn data_that_may_be_old_are_rebuilt_with_their_clock() {
    // Without a life in the metadata: somebody put back a copy.
    let node = written();
    let clock = node.store.clock(keyspace(), V);
    let Node { fs, metadata, store, .. } = node;
    store.close().unwrap();
    let old = fs.crash_clone(CrashChoice::KeepEverything);
    require_new_incarnation(&metadata).unwrap();
    let node = Node::on(1, fs, metadata.crash_clone(), 20);
    let begun = VnodeState::begun(VnodeKind::Rebuilding, Incarnation(20));
    assert_eq!((node.kind(), node.state()), (VnodeKind::Rebuilding, begun));
    assert_eq!(node.store.clock(keyspace(), V), clock);
    assert_eq!(node.store.state(keyspace(), VnodeId(1)).kind, VnodeKind::Fresh);
    // What was swept since is no longer worth anything when the same happens again.
    node.pulled(2, sound(), true);
    let node = node.restarted(30);
    assert_eq!(node.state().swept.len(), 1);
    // An older copy of the data beside newer metadata.
    let node = Node::on(1, old, node.metadata.clone(), 40);
    assert!(node.opened.data_lost);
    assert_eq!(node.state(), VnodeState::begun(VnodeKind::Rebuilding, Incarnation(40)));
    // And none at all.
    let node = Node::on(1, MemFs::new(), node.metadata.clone(), 50);
    assert!(node.opened.data_lost);
    assert_eq!(node.state(), VnodeState::begun(VnodeKind::Fresh, Incarnation(50)));
}

#[test]
fn an_operators_word_is_durable() {
    for (fresh, sync) in [(20, SyncPolicy::default()), (30, SyncPolicy::Always)] {
        let (fs, metadata) = (MemFs::new(), MemMetadata::new());
        let with = || StoreOptions { sync, ..options() };
        let (store, opened) = open_with(1, &fs, &metadata, with(), fresh).unwrap();
        store.join_catalog(&catalog()).unwrap();
        let node = Node { number: 1, fs, metadata, store, opened };
        node.store.accept_loss(keyspace(), &[V]).unwrap();
        for class in [ReadClass::One, ReadClass::Local, ReadClass::Global, ReadClass::All] {
            assert!(node.answers(class));
        }
        let fs = node.fs.crash_clone(CrashChoice::LoseUnsynced);
        let (store, _) = open_with(1, &fs, &node.metadata.crash_clone(), with(), 40).unwrap();
        let state = store.state(keyspace(), V);
        assert!(state.accepted && state.kind == VnodeKind::Fresh);
        // A tail that may be lost is a new reason to ask the others.
        let answers = store.standing(keyspace(), V).answers(ReadClass::Global);
        assert_eq!(answers, sync == SyncPolicy::Always);
    }
}

#[test]
fn vnodes_that_are_not_there_are_refused() {
    let node = Node::new(1);
    let (keyspace, beyond) = (keyspace(), VnodeId(2));
    assert!(node.store.judge(keyspace, beyond, &others()).is_err());
    assert!(node.store.accept_loss(keyspace, &[V, beyond]).is_err());
    assert!(!node.state().accepted);
    assert_eq!(node.store.states(keyspace, &[V, beyond])[1].kind, VnodeKind::Fresh);
    let unknown = meridian_types::KeyspaceId(99);
    assert!(matches!(
        node.store.judge(unknown, V, &others()).unwrap_err(),
        StoreError::UnknownKeyspace(_)
    ));
    assert!(!node.store.standing(unknown, V).answers(ReadClass::One));
}

fn begun_with_all() -> Node {
    let node = Node::new(1);
    let fresh =
        |loss| PeerStanding { kind: VnodeKind::Fresh, goods: Goods::NONE, loss: Incarnation(loss) };
    assert!(!node.pulled(2, fresh(2), true).through);
    assert!(!node.pulled(3, fresh(3), true).through, "its loss is news: the other once more");
    assert!(node.pulled(2, fresh(2), true).through);
    let progress = node.store.end_rebuild(keyspace(), V, &others()).unwrap();
    let expected =
        Progress { kind: VnodeKind::Sound, goods: Goods::EVERY, todo: vec![], through: false };
    assert_eq!(progress, expected);
    node
}

#[test]
fn those_that_begin_together_are_sound_and_remember_when_they_began() {
    let node = begun_with_all();
    assert!(node.answers(ReadClass::All));
    node.store.sync().unwrap();
    // The tail that may be lost is another matter.
    let node = node.crashed(CrashChoice::LoseUnsynced, 20);
    assert_eq!((node.kind(), node.state().loss), (VnodeKind::Suspect, Incarnation(1001)));
    assert!(node.answers(ReadClass::One) && !node.answers(ReadClass::Local));
    assert_eq!(node.store.state(keyspace(), VnodeId(1)).kind, VnodeKind::Fresh);
}

#[test]
fn a_suspicion_ends_when_all_others_were_pulled_from() {
    let node = begun_with_all();
    node.store.sync().unwrap();
    let node = node.crashed(CrashChoice::LoseUnsynced, 20);
    assert_eq!(node.pulled(2, sound(), false).kind, VnodeKind::Suspect);
    let node = node.restarted(30);
    let progress = node.store.judge(keyspace(), V, &others()).unwrap();
    assert_eq!((progress.kind, progress.todo), (VnodeKind::Suspect, vec![NodeId(3)]));
    // Another crash, and it counts from the beginning.
    let node = node.crashed(CrashChoice::KeepEverything, 40);
    assert_eq!(node.pulled(3, sound(), false).todo, [NodeId(2)]);
    assert_eq!(node.pulled(2, sound(), false).kind, VnodeKind::Sound);
    assert!(node.answers(ReadClass::All));
    let node = node.restarted(50);
    assert_eq!(node.kind(), VnodeKind::Sound);
    // Who has left need not be asked.
    let node = node.crashed(CrashChoice::KeepEverything, 60);
    node.pulled(3, sound(), false);
    let all = BTreeSet::from([NodeId(3)]);
    let others = OtherReplicas { local: all.clone(), all };
    let progress = node.store.judge(keyspace(), V, &others).unwrap();
    assert_eq!(progress.kind, VnodeKind::Sound);
}

#[test]
fn what_is_not_through_does_not_end() {
    let node = written();
    node.pulled(2, sound(), true);
    let progress = node.store.end_rebuild(keyspace(), V, &others()).unwrap();
    assert_eq!((progress.kind, progress.todo), (VnodeKind::Fresh, vec![NodeId(3)]));
    let alone = OtherReplicas::default();
    assert!(node.store.judge(keyspace(), V, &alone).unwrap().through);
    let progress = node.store.end_rebuild(keyspace(), V, &alone).unwrap();
    assert_eq!(progress.kind, VnodeKind::Sound);
}
