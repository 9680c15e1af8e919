use super::*;

const KS: KeyspaceId = KeyspaceId(1);
const PEERS: [NodeId; 2] = [NodeId(2), NodeId(3)];

/// A vnode of a replica that must sweep both others, each of which has had a loss that it has not
/// heard of: the first answer of each begins the sweeping anew.
#[derive(Clone, Debug, Default)]
struct Vnode {
    swept: BTreeSet<NodeId>,
    heard: BTreeSet<NodeId>,
    ended: bool,
}

impl Vnode {
    /// What began in another round does not count.
    fn swept(&mut self, peer: NodeId, round: usize) {
        let counts = round == self.heard.len();
        let news = self.heard.insert(peer);
        if news {
            self.swept.clear();
        }
        if news || counts {
            self.swept.insert(peer);
        }
    }

    fn lack(&self, comparable: bool) -> Option<Lack> {
        let todo: BTreeSet<NodeId> =
            PEERS.into_iter().filter(|peer| !self.swept.contains(peer)).collect();
        let through = todo.is_empty();
        (!self.ended).then_some(Lack {
            todo,
            full: !comparable,
            comparable,
            through,
            ..Lack::default()
        })
    }
}

/// A replica, its machine, and what runs.
#[derive(Clone, Debug)]
struct World {
    machine: Rebuild,
    vnodes: BTreeMap<VnodeId, Vnode>,
    comparable: bool,
    up: BTreeSet<NodeId>,
    running: Vec<RebuildAction>,
    /// The rounds in which they began.
    rounds: Vec<BTreeMap<VnodeId, usize>>,
    now: Millis,
    done: usize,
}

/// What a run may choose next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Turn(NodeId),
    Succeed(usize),
    Fail(usize),
    Wait,
}

impl World {
    fn new(vnodes: u32, comparable: bool) -> Self {
        let vnodes = (0..vnodes).map(|vnode| (VnodeId(vnode), Vnode::default())).collect();
        let machine = Rebuild::new([PEERS[0]]);
        let (up, running, rounds) = (BTreeSet::new(), Vec::new(), Vec::new());
        let (now, done) = (Millis(0), 0);
        let mut world = Self { machine, vnodes, comparable, up, running, rounds, now, done };
        let all = world.vnodes.keys().copied().collect();
        world.judge(all);
        world
    }

    fn step(&mut self, event: RebuildEvent) {
        let mut actions = Vec::new();
        self.machine.step(event, self.now, &mut actions);
        for action in actions {
            if let RebuildAction::Compare { peer, .. } | RebuildAction::Pull { peer, .. } = &action
            {
                assert!(self.up.contains(peer), "{action:?} while it is down");
            }
            self.running.push(action);
            let round = |(vnode, state): (&VnodeId, &Vnode)| (*vnode, state.heard.len());
            self.rounds.push(self.vnodes.iter().map(round).collect());
        }
        self.check();
    }

    fn check(&self) {
        let mut at_work: Vec<VnodeId> = Vec::new();
        let mut pulls = 0;
        let mut compared = BTreeSet::new();
        for action in &self.running {
            match action {
                RebuildAction::Compare { peer, .. } => {
                    assert!(compared.insert(*peer), "two comparisons with one peer");
                }
                RebuildAction::Pull { vnode, full, .. } => {
                    pulls += 1;
                    assert_eq!(*full, !self.comparable);
                    at_work.push(*vnode);
                }
                RebuildAction::End { vnode, .. } => {
                    assert!(self.vnodes[vnode].lack(true).is_some_and(|lack| lack.through));
                    at_work.push(*vnode);
                }
            }
        }
        let distinct: BTreeSet<_> = at_work.iter().collect();
        assert_eq!(distinct.len(), at_work.len(), "two things at one vnode: {:?}", self.running);
        assert!(pulls <= REBUILD_PULLS_AT_ONCE);
    }

    fn judge(&mut self, vnodes: Vec<VnodeId>) {
        let lack = |vnode: VnodeId| (vnode, self.vnodes[&vnode].lack(self.comparable));
        let vnodes = vnodes.into_iter().map(lack).collect();
        self.step(RebuildEvent::Judged { keyspace: KS, vnodes });
    }

    fn choices(&self) -> Vec<Choice> {
        let running =
            (0..self.running.len()).flat_map(|at| [Choice::Succeed(at), Choice::Fail(at)]);
        PEERS.map(Choice::Turn).into_iter().chain(running).chain([Choice::Wait]).collect()
    }

    fn choose(&mut self, choice: Choice) {
        match choice {
            Choice::Turn(node) => {
                if self.up.remove(&node) {
                    self.step(RebuildEvent::PeerDown { node });
                } else {
                    self.up.insert(node);
                    self.step(RebuildEvent::PeerUp { node });
                }
            }
            Choice::Succeed(at) => self.finish(at, true),
            Choice::Fail(at) => self.finish(at, false),
            Choice::Wait => {
                if let Some(due) = self.machine.next_wakeup() {
                    assert!(due > self.now, "it is awake already");
                    self.now = due;
                }
                self.step(RebuildEvent::TimePassed);
            }
        }
    }

    fn finish(&mut self, at: usize, done: bool) {
        self.done += 1;
        let rounds = self.rounds.remove(at);
        match self.running.remove(at) {
            // It settles every other vnode.
            RebuildAction::Compare { peer, keyspace, vnodes } => {
                let settled: Vec<VnodeId> =
                    vnodes.iter().copied().filter(|vnode| done && vnode.0 % 2 == 0).collect();
                for vnode in &settled {
                    self.vnodes.get_mut(vnode).unwrap().swept(peer, rounds[vnode]);
                }
                let unsettled: BTreeSet<VnodeId> =
                    vnodes.into_iter().filter(|vnode| !settled.contains(vnode)).collect();
                self.judge(settled);
                let unsettled = done.then_some(unsettled);
                self.step(RebuildEvent::Compared { peer, keyspace, unsettled });
            }
            RebuildAction::Pull { peer, keyspace, vnode, .. } => {
                if done {
                    self.vnodes.get_mut(&vnode).unwrap().swept(peer, rounds[&vnode]);
                    self.judge(vec![vnode]);
                }
                self.step(RebuildEvent::PullEnded { peer, keyspace, vnode, done });
            }
            RebuildAction::End { keyspace, vnode } => {
                self.vnodes.get_mut(&vnode).unwrap().ended = done;
                self.judge(vec![vnode]);
                self.step(RebuildEvent::Ended { keyspace, vnode, done: true });
            }
        }
    }

    /// Everybody is up and everything succeeds: then it comes to its end.
    fn heal(mut self) -> Self {
        for peer in PEERS {
            if !self.up.contains(&peer) {
                self.choose(Choice::Turn(peer));
            }
        }
        let vnodes = self.vnodes.len();
        for _ in 0..20 * vnodes + 20 {
            if self.vnodes.values().all(|vnode| vnode.ended) {
                assert!(self.running.is_empty());
                assert_eq!(self.machine.outlook(), Outlook::default());
                assert!(self.machine.to_compare.is_empty() && self.machine.to_pull.is_empty());
                return self;
            }
            let choice = if self.running.is_empty() { Choice::Wait } else { Choice::Succeed(0) };
            self.choose(choice);
        }
        panic!("it does not end: {:?}", self.machine);
    }
}

fn every_order(world: &World, depth: usize, runs: &mut usize) {
    if depth == 0 {
        *runs += 1;
        world.clone().heal();
        return;
    }
    for choice in world.choices() {
        let mut next = world.clone();
        next.choose(choice);
        every_order(&next, depth - 1, runs);
    }
}

#[test]
fn every_order_of_peers_and_failures_ends_once_all_are_there() {
    for (vnodes, comparable) in [(1, false), (1, true), (2, false), (2, true)] {
        let mut runs = 0;
        every_order(&World::new(vnodes, comparable), 6, &mut runs);
        assert!(runs > 4_000, "{runs}");
    }
}

#[test]
fn replicas_nearby_come_first_and_pulls_are_bounded() {
    let mut world = World::new(50, false);
    for peer in PEERS {
        world.choose(Choice::Turn(peer));
    }
    let near = |action: &RebuildAction| matches!(action, RebuildAction::Pull { peer, .. } if *peer == PEERS[0]);
    assert!(world.running.iter().all(near), "{:?}", world.running);
    assert_eq!(world.running.len(), REBUILD_PULLS_AT_ONCE);
    let world = world.heal();
    // Each is swept three times, because each peer's loss is news once, and ended.
    assert_eq!(world.done, 50 * 4);
}

#[test]
fn one_comparison_is_for_all_vnodes_that_wait_for_a_peer() {
    let mut world = World::new(50, true);
    world.choose(Choice::Turn(PEERS[1]));
    let [RebuildAction::Compare { peer, vnodes, .. }] = &world.running[..] else {
        panic!("{:?}", world.running)
    };
    assert_eq!((*peer, vnodes.len()), (PEERS[1], 50));
    world.choose(Choice::Succeed(0));
    // What it did not settle is pulled.
    assert!(world.running.iter().all(|action| matches!(action, RebuildAction::Pull { .. })));
    world.heal();
}

#[test]
fn a_peer_that_fails_is_left_alone_longer_and_longer() {
    let mut world = World::new(1, false);
    world.choose(Choice::Turn(PEERS[0]));
    let (first, longest) = REBUILD_BACKOFF_MS;
    let mut expected = first;
    for _ in 0..12 {
        world.choose(Choice::Fail(0));
        assert!(world.running.is_empty());
        let due = world.machine.next_wakeup().unwrap();
        assert_eq!(due.since(world.now), expected);
        expected = longest.min(2 * expected);
        world.choose(Choice::Wait);
        assert_eq!(world.running.len(), 1);
    }
    // It is forgotten when the peer comes back.
    world.choose(Choice::Fail(0));
    world.choose(Choice::Turn(PEERS[0]));
    world.choose(Choice::Turn(PEERS[0]));
    assert_eq!(world.running.len(), 1);
    world.heal();
}

#[test]
fn what_is_waited_for_is_said() {
    let mut world = World::new(3, false);
    let outlook = world.machine.outlook();
    assert_eq!((outlook.vnodes, outlook.stuck, outlook.missing), (3, 0, PEERS.into()));
    assert!(world.machine.waits_for(PEERS[0], KS, VnodeId(1)));
    assert!(!world.machine.waits_for(PEERS[0], KeyspaceId(2), VnodeId(1)));
    world.choose(Choice::Turn(PEERS[0]));
    assert_eq!(world.machine.outlook().missing, [PEERS[1]].into());
    // Everybody was asked, and nobody had everything.
    let nobody = vec![(VnodeId(0), Some(Lack { full: true, ..Lack::default() }))];
    world.step(RebuildEvent::Judged { keyspace: KS, vnodes: nobody });
    assert_eq!(world.machine.outlook().stuck, 1);
}

#[test]
fn where_nobody_is_left_the_others_are_asked_again_and_again() {
    let mut machine = Rebuild::new([]);
    let again = BTreeSet::from(PEERS);
    let stuck = Lack { full: true, again, ..Lack::default() };
    let mut actions = Vec::new();
    for node in PEERS {
        machine.step(RebuildEvent::PeerUp { node }, Millis(0), &mut actions);
    }
    let vnodes = vec![(VnodeId(1), Some(stuck.clone()))];
    machine.step(RebuildEvent::Judged { keyspace: KS, vnodes }, Millis(0), &mut actions);
    // Others may pull it meanwhile.
    assert!(!machine.waits_for(PEERS[0], KS, VnodeId(1)));
    for round in 1..4 {
        assert_eq!(actions.len(), 2, "{actions:?}");
        actions.clear();
        let nothing = Some(BTreeSet::new());
        for peer in PEERS {
            let compared =
                RebuildEvent::Compared { peer, keyspace: KS, unsettled: nothing.clone() };
            machine.step(compared, Millis(1), &mut actions);
        }
        assert!(actions.is_empty(), "{actions:?}");
        let due = machine.next_wakeup().unwrap();
        assert_eq!(due, Millis(round * REBUILD_AGAIN_MS));
        machine.step(RebuildEvent::TimePassed, due, &mut actions);
    }
    // One has something to prove now.
    actions.clear();
    let (peer, keyspace, vnode) = (PEERS[1], KS, VnodeId(1));
    let unsettled = Some(BTreeSet::from([vnode]));
    machine.step(RebuildEvent::Compared { peer, keyspace, unsettled }, Millis(2), &mut actions);
    assert_eq!(actions, [RebuildAction::Pull { peer, keyspace, vnode, full: true }]);
    actions.clear();
    let vnodes = vec![(vnode, None)];
    machine.step(RebuildEvent::Judged { keyspace, vnodes }, Millis(3), &mut actions);
    machine.step(
        RebuildEvent::PullEnded { peer, keyspace, vnode, done: true },
        Millis(3),
        &mut actions,
    );
    assert!(actions.is_empty() && machine.to_compare.is_empty() && machine.to_pull.is_empty());
}

#[test]
fn an_end_that_cannot_be_stored_is_not_tried_for_ever() {
    let mut machine = Rebuild::new([]);
    let through = || Some(Lack { through: true, ..Lack::default() });
    let judged = || RebuildEvent::Judged { keyspace: KS, vnodes: vec![(VnodeId(1), through())] };
    let mut actions = Vec::new();
    machine.step(judged(), Millis(0), &mut actions);
    assert_eq!(actions, [RebuildAction::End { keyspace: KS, vnode: VnodeId(1) }]);
    actions.clear();
    machine.step(judged(), Millis(0), &mut actions);
    let failed = RebuildEvent::Ended { keyspace: KS, vnode: VnodeId(1), done: false };
    machine.step(failed, Millis(0), &mut actions);
    machine.step(RebuildEvent::TimePassed, Millis(100), &mut actions);
    assert!(actions.is_empty(), "{actions:?}");
}
