//! Pacing, and who is pulled when.

use proptest::prelude::*;

use super::*;
use crate::limits::{PULL_BATCH, QUEUED_PULLS};

const PEERS: u32 = 3;
const SPACE: KeyspaceId = KeyspaceId(1);

struct World {
    machine: AntiEntropy,
    now: Millis,
    up: BTreeSet<NodeId>,
    comparing: Vec<(NodeId, KeyspaceId)>,
    pulling: Vec<(NodeId, KeyspaceId, Vec<VnodeId>)>,
    /// Of this node's clocks.
    digest: u128,
    /// When each pair was asked, in order.
    compared: Vec<(Millis, NodeId, KeyspaceId)>,
    /// Who was told that hints for it were given up.
    told: Vec<NodeId>,
}

impl World {
    fn new(seed: u64, peers: u32, keyspaces: u32) -> Self {
        let options = AntiEntropyOptions::new(seed);
        let mut world = Self {
            machine: AntiEntropy::new(NodeId(0), options, Millis(1_000)),
            now: Millis(1_000),
            up: BTreeSet::new(),
            comparing: Vec::new(),
            pulling: Vec::new(),
            compared: Vec::new(),
            told: Vec::new(),
            digest: 1,
        };
        let shares = (1..=peers)
            .flat_map(|peer| (1..=keyspaces).map(move |ks| (NodeId(peer), KeyspaceId(ks))));
        world.step(AntiEntropyEvent::SharesChanged { shares: shares.collect() });
        world
    }

    fn step(&mut self, event: AntiEntropyEvent) {
        let mut actions = Vec::new();
        self.machine.step(event, self.now, &mut actions);
        for action in actions {
            match action {
                AntiEntropyAction::Compare { peer, keyspace, gaps } => {
                    assert!(self.up.contains(&peer), "compares with {peer}, which is down");
                    assert!(!self.comparing.contains(&(peer, keyspace)), "asks twice");
                    self.comparing.push((peer, keyspace));
                    self.told.extend(gaps.then_some(peer));
                    self.compared.push((self.now, peer, keyspace));
                }
                AntiEntropyAction::Pull { peer, keyspace, vnodes } => {
                    assert!((1..=PULL_BATCH).contains(&vnodes.len()));
                    for (_, ks, others) in &self.pulling {
                        let twice = *ks == keyspace && others.iter().any(|v| vnodes.contains(v));
                        assert!(!twice, "pulls one of {vnodes:?} twice");
                    }
                    self.pulling.push((peer, keyspace, vnodes));
                }
            }
        }
        assert!(self.pulling.len() <= PULLS_AT_ONCE);
        assert!(self.machine.pulls().1 <= QUEUED_PULLS);
        let pulling: usize = self.pulling.iter().map(|(_, _, vnodes)| vnodes.len()).sum();
        assert_eq!(self.machine.pulls().0, pulling);
    }

    fn set_up(&mut self, node: u32, up: bool) {
        let node = NodeId(node);
        if up {
            self.up.insert(node);
        } else {
            self.up.remove(&node);
        }
        // The link tells the pulls that run over it, too.
        self.comparing.retain(|(peer, _)| *peer != node);
        self.step(if up {
            AntiEntropyEvent::PeerUp { node }
        } else {
            AntiEntropyEvent::PeerDown { node }
        });
    }

    fn pass_time(&mut self) -> bool {
        let Some(until) = self.machine.next_wakeup() else { return false };
        self.now = self.now.max(until);
        // Nobody waits for a comparison longer than that.
        let now = self.now;
        let late = |&(peer, keyspace): &(NodeId, KeyspaceId)| {
            let asked = self.compared.iter().rfind(|(_, p, k)| (*p, *k) == (peer, keyspace));
            asked.is_none_or(|(asked, ..)| now.since(*asked) >= COMPARE_TIMEOUT_MS)
        };
        self.comparing.retain(|pair| !late(pair));
        self.step(AntiEntropyEvent::TimePassed);
        true
    }

    fn compared(&mut self, at: usize, vnodes: &[u32]) {
        let (peer, keyspace) = self.comparing.swap_remove(at % self.comparing.len());
        let differing = vnodes.iter().copied().map(VnodeId).collect();
        let digest = self.digest;
        self.step(AntiEntropyEvent::Compared { peer, keyspace, digest, differing });
    }

    fn asked(&mut self, peer: u32, same: bool) {
        let (peer, digest) = (NodeId(peer), self.digest);
        self.step(AntiEntropyEvent::Asked { peer, keyspace: SPACE, digest, same });
    }

    fn behind(&mut self, peer: u32, vnodes: &[u32]) {
        let vnodes = vnodes.iter().copied().map(VnodeId).collect();
        self.step(AntiEntropyEvent::Behind { peer: NodeId(peer), keyspace: SPACE, vnodes });
    }

    fn end_pull(&mut self, at: usize) {
        let (_, keyspace, vnodes) = self.pulling.swap_remove(at % self.pulling.len());
        self.step(AntiEntropyEvent::PullEnded { keyspace, vnodes });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Up(u32),
    Down(u32),
    Compared(usize, BTreeSet<u32>),
    CompareFails(usize),
    EndPull(usize),
    PassTime,
    Forget(u32),
    GiveUp(u32),
    Told(u32),
    Asked(u32, bool),
    Behind(u32, BTreeSet<u32>),
    Write,
}

fn some_step() -> impl Strategy<Value = Step> {
    let vnodes = prop::collection::btree_set(0..6_u32, 0..4);
    prop_oneof![
        2 => (1..=PEERS).prop_map(Step::Up),
        1 => (1..=PEERS).prop_map(Step::Down),
        4 => (any::<usize>(), vnodes).prop_map(|(at, vnodes)| Step::Compared(at, vnodes)),
        1 => any::<usize>().prop_map(Step::CompareFails),
        3 => any::<usize>().prop_map(Step::EndPull),
        1 => (1..=PEERS).prop_map(Step::GiveUp),
        1 => (1..=PEERS).prop_map(Step::Told),
        2 => (1..=PEERS, any::<bool>()).prop_map(|(peer, same)| Step::Asked(peer, same)),
        2 => (1..=PEERS, prop::collection::btree_set(0..6_u32, 0..4))
            .prop_map(|(peer, vnodes)| Step::Behind(peer, vnodes)),
        1 => Just(Step::Write),
        4 => Just(Step::PassTime),
        1 => (1..=PEERS).prop_map(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_whatever_happens_and_every_pull_gets_its_turn(
        seed: u64,
        steps in prop::collection::vec(some_step(), 0..80),
    ) {
        let mut world = World::new(seed, PEERS, 2);
        for step in steps {
            match step {
                Step::Up(node) => world.set_up(node, true),
                Step::Down(node) => world.set_up(node, false),
                Step::Compared(at, vnodes) if !world.comparing.is_empty() => {
                    world.compared(at, &vnodes.into_iter().collect::<Vec<_>>());
                }
                Step::CompareFails(at) if !world.comparing.is_empty() => {
                    let at = at % world.comparing.len();
                    let (peer, keyspace) = world.comparing.swap_remove(at);
                    world.step(AntiEntropyEvent::CompareFailed { peer, keyspace });
                }
                Step::EndPull(at) if !world.pulling.is_empty() => world.end_pull(at),
                Step::PassTime => {
                    world.pass_time();
                }
                Step::GiveUp(peer) => {
                    let peer = NodeId(peer);
                    world.step(AntiEntropyEvent::HintsGivenUp { peer, keyspace: Some(SPACE) });
                }
                Step::Told(peer) => {
                    let peer = NodeId(peer);
                    world.step(AntiEntropyEvent::ToldOfGaps { peer, keyspace: SPACE });
                }
                Step::Asked(peer, same) => world.asked(peer, same),
                Step::Behind(peer, vnodes) => {
                    world.behind(peer, &vnodes.into_iter().collect::<Vec<_>>());
                }
                Step::Write => world.digest += 1,
                Step::Forget(peer) => {
                    let shares = (1..=PEERS).filter(|other| *other != peer);
                    let shares = shares.map(|peer| (NodeId(peer), SPACE)).collect();
                    world.comparing.retain(|(p, ks)| *p != NodeId(peer) && *ks == SPACE);
                    world.step(AntiEntropyEvent::SharesChanged { shares });
                }
                Step::Compared(..) | Step::CompareFails(_) | Step::EndPull(_) => {}
            }
        }
        while !world.pulling.is_empty() {
            world.end_pull(0);
        }
        prop_assert_eq!(world.machine.pulls(), (0, 0));
        prop_assert!(world.machine.pulls.is_idle());
        // Whoever is up is compared with again.
        world.compared.clear();
        for _ in 0..60 {
            world.pass_time();
            while !world.comparing.is_empty() {
                world.compared(0, &[]);
            }
        }
        for share in &world.machine.shares {
            let asked = world.compared.iter().any(|(_, p, k)| (*p, *k) == (share.peer, share.keyspace));
            prop_assert_eq!(asked, world.up.contains(&share.peer));
            prop_assert!(!(asked && share.gaps), "{} was not told", share.peer);
        }
    }
}

/// Answers every comparison at once, for so many milliseconds, while something is written.
fn run(world: &mut World, for_ms: u64, vnodes: &[u32]) {
    run_with(world, for_ms, vnodes, 1);
}

fn run_with(world: &mut World, for_ms: u64, vnodes: &[u32], writes: u128) {
    let end = world.now.plus(for_ms);
    while world.machine.next_wakeup().is_some_and(|next| next <= end) {
        world.pass_time();
        while !world.comparing.is_empty() {
            world.digest += writes;
            world.compared(0, vnodes);
        }
        while !world.pulling.is_empty() {
            world.end_pull(0);
        }
    }
    world.now = end;
}

fn times(world: &World, peer: u32) -> usize {
    let peer = NodeId(peer);
    world.compared.iter().filter(|(_, p, ks)| (*p, *ks) == (peer, SPACE)).count()
}

#[test]
fn every_pair_is_compared_once_an_interval_and_not_all_at_once() {
    let mut world = World::new(7, 8, 2);
    for node in 1..=8 {
        world.set_up(node, true);
    }
    run(&mut world, 20 * COMPARE_INTERVAL_MS, &[]);
    world.compared.clear();
    run(&mut world, 10 * COMPARE_INTERVAL_MS, &[]);
    for peer in 1..=8 {
        let times = times(&world, peer);
        assert!((8..=13).contains(&times), "{peer} {times} times in ten intervals");
    }
    for pair in world.compared.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= COMPARE_GAP_MS * 3 / 4);
    }
    let longest = world.compared.windows(5).map(|five| five[4].0.since(five[0].0)).max().unwrap();
    assert!(longest > COMPARE_INTERVAL_MS / 8, "{longest} ms for five comparisons");
}

#[test]
fn while_nothing_differs_and_nothing_is_written_the_interval_grows() {
    let mut world = World::new(7, 1, 1);
    world.set_up(1, true);
    run_with(&mut world, 20 * COMPARE_INTERVAL_MS, &[], 0);
    world.compared.clear();
    run_with(&mut world, 10 * IDLE_STRETCH * COMPARE_INTERVAL_MS, &[], 0);
    let idle = times(&world, 1);
    assert!((8..=13).contains(&idle), "{idle} times in ten stretched intervals");
    // A write, a difference, a peer that says that it is in a hurry: as before.
    world.compared.clear();
    run(&mut world, 2 * IDLE_STRETCH * COMPARE_INTERVAL_MS, &[]);
    assert!(times(&world, 1) >= 5, "{}", times(&world, 1));
    run_with(&mut world, 20 * COMPARE_INTERVAL_MS, &[], 0);
    world.asked(1, false);
    let next = world.machine.next_wakeup().unwrap();
    assert!(next.since(world.now) <= COMPARE_INTERVAL_MS * 5 / 4);
}

#[test]
fn who_was_asked_does_not_ask_in_turn() {
    let mut world = World::new(7, 1, 1);
    world.set_up(1, true);
    run(&mut world, 10_000, &[]);
    world.compared.clear();
    for turn in 0..100 {
        world.digest += 1;
        world.asked(1, turn % 2 == 0);
        run(&mut world, COMPARE_INTERVAL_MS / 2, &[]);
    }
    assert_eq!(times(&world, 1), 0);
    // It hears nothing any more.
    run(&mut world, 10 * COMPARE_INTERVAL_MS, &[]);
    assert!(times(&world, 1) >= 8);
}

#[test]
fn one_of_two_nodes_begins_when_a_link_comes_up() {
    for peer in 1..20 {
        let begins = |me: u32, peer: u32| {
            let options = AntiEntropyOptions::new(7);
            let mut machine = AntiEntropy::new(NodeId(me), options, Millis(0));
            let (shares, mut out) = (vec![(NodeId(peer), SPACE)], Vec::new());
            machine.step(AntiEntropyEvent::SharesChanged { shares }, Millis(0), &mut out);
            machine.step(AntiEntropyEvent::PeerUp { node: NodeId(peer) }, Millis(0), &mut out);
            machine.next_wakeup().unwrap().0
        };
        let (here, there) = (begins(0, peer), begins(peer, 0));
        assert!(here.min(there) <= 2 * COMPARE_GAP_MS);
        assert!(here.max(there) >= COMPARE_SECOND_MS / 2);
    }
}

#[test]
fn what_a_peer_that_pulls_has_is_pulled_in_turn_after_its_comparison_alone() {
    let mut world = World::new(7, 2, 1);
    for node in [1, 2] {
        world.set_up(node, true);
    }
    run(&mut world, 60_000, &[]);
    world.behind(1, &[3]);
    assert!(world.pulling.is_empty());
    world.asked(1, false);
    world.behind(1, &[3, 4]);
    assert_eq!(world.pulling, [(NodeId(1), SPACE, vec![VnodeId(3), VnodeId(4)])]);
    world.end_pull(0);
    // An own comparison since then: what is under way says nothing.
    run(&mut world, 10 * COMPARE_INTERVAL_MS, &[]);
    world.behind(1, &[3]);
    assert!(world.pulling.is_empty());
}

#[test]
fn what_hints_were_given_up_for_goes_before_what_returned_and_that_before_the_rest() {
    let mut pulls = Pulls::default();
    let peer = |n| (NodeId(n), SPACE, VnodeId(n));
    pulls.want(Priority::Lasting, peer(1));
    pulls.want(Priority::Returned, peer(2));
    pulls.want(Priority::Dirty, peer(3));
    let order: Vec<_> = std::iter::from_fn(|| pulls.next().map(|(node, ..)| node.0)).collect();
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn many_pairs_stretch_the_interval() {
    let mut world = World::new(7, 100, 10);
    for node in 1..=100 {
        world.set_up(node, true);
    }
    run(&mut world, 100_000, &[]);
    let before = world.compared.len();
    run(&mut world, 10_000, &[]);
    let a_second = (world.compared.len() - before) / 10;
    assert!(a_second <= 50 * 4 / 3, "{a_second} comparisons a second");
}

#[test]
fn who_returns_is_compared_with_at_once_and_every_difference_is_pulled() {
    let mut world = World::new(7, 3, 1);
    world.set_up(1, true);
    run(&mut world, 60_000, &[]);
    world.comparing.clear();
    world.set_up(2, true);
    let soon = world.machine.next_wakeup().unwrap();
    assert!(soon.since(world.now) <= 2 * COMPARE_GAP_MS);
    world.pass_time();
    assert_eq!(world.comparing, [(NodeId(2), SPACE)]);
    world.compared(0, &[4, 5]);
    assert_eq!(world.pulling, [(NodeId(2), SPACE, vec![VnodeId(4), VnodeId(5)])]);
    assert_eq!(world.machine.differing(NodeId(2)), 2);
}

#[test]
fn a_difference_under_load_is_pulled_when_it_lasts() {
    let mut world = World::new(7, 1, 1);
    world.set_up(1, true);
    run(&mut world, 20_000, &[]);
    let compare = |world: &mut World, vnodes: &[u32]| {
        while world.comparing.is_empty() {
            world.pass_time();
        }
        world.compared(0, vnodes);
    };
    compare(&mut world, &[1, 2]);
    assert!(world.pulling.is_empty());
    compare(&mut world, &[2, 3]);
    assert_eq!(world.pulling, [(NodeId(1), SPACE, vec![VnodeId(2)])]);
    world.end_pull(0);
    compare(&mut world, &[]);
    compare(&mut world, &[2]);
    assert!(world.pulling.is_empty());
}

#[test]
fn a_vnode_that_differs_from_several_peers_is_pulled_from_one() {
    let mut world = World::new(7, 3, 1);
    for node in 1..=3 {
        world.set_up(node, true);
    }
    while world.compared.len() < 3 {
        world.pass_time();
    }
    while !world.comparing.is_empty() {
        world.compared(0, &[1, 2]);
    }
    assert_eq!(world.pulling.len(), 1);
    assert_eq!(world.machine.pulls(), (2, 0));
}

#[test]
fn more_differences_than_there_is_room_for_are_found_again() {
    let mut world = World::new(7, 1, 1);
    world.set_up(1, true);
    world.pass_time();
    let many: Vec<u32> = (0..u32::try_from(QUEUED_PULLS).unwrap() + 100).collect();
    world.compared(0, &many);
    let at_once = PULLS_AT_ONCE * PULL_BATCH;
    assert_eq!(world.machine.pulls(), (at_once, QUEUED_PULLS - at_once));
    while !world.pulling.is_empty() {
        world.end_pull(0);
    }
    while world.comparing.is_empty() {
        world.pass_time();
    }
    world.compared(0, &many);
    assert_eq!(world.machine.pulls().0, at_once);
}

#[test]
fn a_peer_whose_hints_were_given_up_is_told_soon_and_once() {
    let mut world = World::new(7, 3, 1);
    for node in 1..=3 {
        world.set_up(node, true);
    }
    run(&mut world, 60_000, &[]);
    assert!(world.told.is_empty());
    let peer = NodeId(2);
    world.step(AntiEntropyEvent::HintsGivenUp { peer, keyspace: None });
    let soon = world.machine.next_wakeup().unwrap();
    assert!(soon.since(world.now) <= 2 * COMPARE_GAP_MS);
    world.pass_time();
    assert_eq!((&*world.comparing, &*world.told), (&[(peer, SPACE)][..], &[peer][..]));
    // It did not hear it: it is told again.
    world.comparing.clear();
    world.step(AntiEntropyEvent::CompareFailed { peer, keyspace: SPACE });
    run(&mut world, 60_000, &[]);
    assert_eq!(world.told, [peer, peer]);
}

#[test]
fn a_node_that_is_told_of_gaps_pulls_at_the_first_difference() {
    let mut world = World::new(7, 3, 1);
    for node in 1..=3 {
        world.set_up(node, true);
    }
    run(&mut world, 60_000, &[]);
    let peer = NodeId(3);
    world.step(AntiEntropyEvent::ToldOfGaps { peer, keyspace: SPACE });
    world.pass_time();
    assert_eq!(world.comparing, [(peer, SPACE)]);
    world.compared(0, &[4]);
    assert_eq!(world.pulling, [(peer, SPACE, vec![VnodeId(4)])]);
}

#[test]
fn what_is_given_up_while_a_comparison_is_under_way_is_told_by_the_next() {
    let mut world = World::new(7, 1, 1);
    world.set_up(1, true);
    world.pass_time();
    let peer = NodeId(1);
    assert_eq!(world.comparing, [(peer, SPACE)]);
    world.step(AntiEntropyEvent::HintsGivenUp { peer, keyspace: Some(SPACE) });
    world.compared(0, &[]);
    assert!(world.told.is_empty());
    run(&mut world, 1_000, &[]);
    assert_eq!(world.told, [peer]);
}
