//! Pacing, and who is pulled when.

use proptest::prelude::*;

use super::*;

const PEERS: u32 = 3;
const SPACE: KeyspaceId = KeyspaceId(1);

struct World {
    machine: AntiEntropy,
    now: Millis,
    up: BTreeSet<NodeId>,
    comparing: Vec<(NodeId, KeyspaceId)>,
    pulling: Vec<(NodeId, KeyspaceId, VnodeId)>,
    /// When each pair was asked, in order.
    compared: Vec<(Millis, NodeId, KeyspaceId)>,
    /// Who was told that hints for it were given up.
    told: Vec<NodeId>,
}

impl World {
    fn new(seed: u64, peers: u32, keyspaces: u32) -> Self {
        let options = AntiEntropyOptions::new(seed);
        let mut world = Self {
            machine: AntiEntropy::new(options, Millis(1_000)),
            now: Millis(1_000),
            up: BTreeSet::new(),
            comparing: Vec::new(),
            pulling: Vec::new(),
            compared: Vec::new(),
            told: Vec::new(),
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
                AntiEntropyAction::Pull { peer, keyspace, vnode } => {
                    let same = |pull: &&(_, _, _)| (pull.1, pull.2) == (keyspace, vnode);
                    assert!(!self.pulling.iter().any(|pull| same(&pull)), "pulls {vnode} twice");
                    self.pulling.push((peer, keyspace, vnode));
                }
            }
        }
        assert!(self.pulling.len() <= PULLS_AT_ONCE);
        assert!(self.machine.pulls().1 <= QUEUED_PULLS);
        assert_eq!(self.machine.pulls().0, self.pulling.len());
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
        self.step(AntiEntropyEvent::Compared { peer, keyspace, differing });
    }

    fn end_pull(&mut self, at: usize) {
        let (_, keyspace, vnode) = self.pulling.swap_remove(at % self.pulling.len());
        self.step(AntiEntropyEvent::PullEnded { keyspace, vnode });
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
        prop_assert!(world.machine.claimed.is_empty());
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

/// Answers every comparison at once, for so many milliseconds.
fn run(world: &mut World, for_ms: u64, vnodes: &[u32]) {
    let end = world.now.plus(for_ms);
    while world.machine.next_wakeup().is_some_and(|next| next <= end) {
        world.pass_time();
        while !world.comparing.is_empty() {
            world.compared(0, vnodes);
        }
        while !world.pulling.is_empty() {
            world.end_pull(0);
        }
    }
}

#[test]
fn every_pair_is_compared_once_an_interval_and_not_all_at_once() {
    let mut world = World::new(7, 8, 2);
    for node in 1..=8 {
        world.set_up(node, true);
    }
    run(&mut world, 2 * COMPARE_INTERVAL_MS, &[]);
    world.compared.clear();
    run(&mut world, 10 * COMPARE_INTERVAL_MS, &[]);
    for peer in (1..=8).map(NodeId) {
        let times = world.compared.iter().filter(|(_, p, k)| (*p, *k) == (peer, SPACE)).count();
        assert!((8..=12).contains(&times), "{peer} {times} times in ten intervals");
    }
    let gaps = world.compared.windows(2).map(|pair| pair[1].0.since(pair[0].0));
    let usual = COMPARE_INTERVAL_MS / 16;
    for gap in gaps {
        assert!((usual * 3 / 4..=usual * 5 / 4 + 1).contains(&gap), "{gap} ms");
    }
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
    world.set_up(2, true);
    let soon = world.machine.next_wakeup().unwrap();
    assert!(soon.since(world.now) <= 2 * COMPARE_GAP_MS);
    world.pass_time();
    assert_eq!(world.comparing, [(NodeId(2), SPACE)]);
    world.compared(0, &[4, 5]);
    assert_eq!(world.pulling.len(), 2);
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
    assert_eq!(world.pulling, [(NodeId(1), SPACE, VnodeId(2))]);
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
    assert_eq!(world.pulling.len(), 2);
    assert_eq!(world.machine.pulls(), (2, 0));
}

#[test]
fn more_differences_than_there_is_room_for_are_found_again() {
    let mut world = World::new(7, 1, 1);
    world.set_up(1, true);
    world.pass_time();
    let many: Vec<u32> = (0..u32::try_from(QUEUED_PULLS).unwrap() + 100).collect();
    world.compared(0, &many);
    assert_eq!(world.machine.pulls(), (PULLS_AT_ONCE, QUEUED_PULLS - PULLS_AT_ONCE));
    while !world.pulling.is_empty() {
        world.end_pull(0);
    }
    while world.comparing.is_empty() {
        world.pass_time();
    }
    world.compared(0, &many);
    assert_eq!(world.machine.pulls().0, PULLS_AT_ONCE);
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
    assert_eq!(world.pulling, [(peer, SPACE, VnodeId(4))]);
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
