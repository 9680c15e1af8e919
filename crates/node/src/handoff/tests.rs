//! Delivery to replicas that come and go, refuse, and lose messages.

use proptest::prelude::*;

use super::*;

/// Hints that the log gives at a time, so that pages end often.
const PAGE: usize = 3;

/// The world around: the logs, what is under way, and which hints a replica really has.
struct World {
    handoff: Handoff,
    now: Millis,
    next_id: u64,
    logs: BTreeMap<NodeId, BTreeSet<HintId>>,
    has: BTreeSet<(NodeId, HintId)>,
    /// What each replica last said that it bears.
    credit: BTreeMap<NodeId, u32>,
    loads: Vec<(NodeId, Option<HintId>)>,
    sent: Vec<(NodeId, HintId)>,
    up: BTreeSet<NodeId>,
    loaded: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            handoff: Handoff::new(seed),
            now: Millis(0),
            next_id: 1,
            logs: BTreeMap::new(),
            has: BTreeSet::new(),
            credit: BTreeMap::new(),
            loads: Vec::new(),
            sent: Vec::new(),
            up: BTreeSet::new(),
            loaded: 0,
        }
    }

    fn step(&mut self, event: HandoffEvent) {
        let mut actions = Vec::new();
        let before = self.handoff.targets.clone();
        self.handoff.step(event, self.now, &mut actions);
        for action in actions {
            match action {
                HandoffAction::Load { target, after, limit } => {
                    assert!(self.up.contains(&target), "loads for {target}, which is down");
                    assert!(limit > 0);
                    self.loads.push((target, after));
                    self.loaded += 1;
                }
                HandoffAction::Deliver { target, id } => {
                    assert!(self.up.contains(&target), "sends to {target}, which is down");
                    assert!(self.logs[&target].contains(&id), "sends {id:?} again");
                    let under_way = before.get(&target).map(|target| &target.under_way);
                    assert!(
                        under_way.is_none_or(|ids| !ids.contains_key(&id)),
                        "sends {id:?} twice"
                    );
                    self.sent.push((target, id));
                    let credit =
                        self.credit.get(&target).map_or(HINT_WINDOW, |&n| n.max(1) as usize);
                    let bound = HINT_WINDOW.min(credit).max(before_sent(&before, target));
                    assert!(self.handoff.under_way(target) <= bound, "{credit} borne");
                }
                HandoffAction::Remove { target, delivered, superseded } => {
                    for id in delivered.into_iter().chain(superseded) {
                        assert!(self.has.contains(&(target, id)), "{id:?} was not delivered");
                        self.logs.entry(target).or_default().remove(&id);
                    }
                }
            }
        }
        // What a replica bore is forgotten with it, when nothing is left for it.
        self.credit.retain(|target, _| self.handoff.targets.contains_key(target));
        let under_way = |node: &&NodeId| self.handoff.under_way(**node) > 0;
        assert!(self.up.iter().filter(under_way).count() <= HINT_TARGETS);
    }

    fn keep(&mut self, target: NodeId) {
        self.logs.entry(target).or_default().insert(HintId(self.next_id));
        self.next_id += 1;
        self.step(HandoffEvent::HintsKept { target });
    }

    fn set_up(&mut self, node: NodeId, up: bool) {
        if up {
            self.credit.remove(&node);
            self.up.insert(node);
            self.step(HandoffEvent::PeerUp { node });
        } else {
            self.up.remove(&node);
            self.step(HandoffEvent::PeerDown { node });
        }
    }

    fn load(&mut self, at: usize) {
        let (target, after) = self.loads.swap_remove(at % self.loads.len());
        let log = self.logs.entry(target).or_default();
        let behind = log.iter().copied().filter(|&id| Some(id) > after);
        let ids = behind.take(PAGE).collect();
        self.step(HandoffEvent::PageLoaded { target, after, ids });
    }

    fn answer(&mut self, at: usize) {
        self.answer_with(at, None);
    }

    fn answer_with(&mut self, at: usize, credit: Option<u32>) {
        let (target, id) = self.sent.swap_remove(at % self.sent.len());
        let known = !self.has.insert((target, id));
        match credit {
            Some(credit) => self.credit.insert(target, credit),
            None => self.credit.remove(&target),
        };
        self.step(HandoffEvent::Delivered { target, id, known, credit });
    }

    fn pass_time(&mut self) {
        if let Some(until) = self.handoff.next_wakeup() {
            self.now = self.now.max(until);
            self.step(HandoffEvent::TimePassed);
        }
    }

    /// With everybody up and nothing going wrong, every hint is delivered, and then there is
    /// nothing to do.
    fn finish(&mut self, nodes: u32) {
        for node in (0..nodes).map(NodeId) {
            self.set_up(node, true);
        }
        for _ in 0..20_000 {
            if !self.sent.is_empty() {
                self.answer(0);
            } else if !self.loads.is_empty() {
                self.load(0);
            } else if self.handoff.next_wakeup().is_some() {
                self.pass_time();
            } else {
                break;
            }
        }
        assert!(self.logs.values().all(BTreeSet::is_empty), "hints are left: {:?}", self.logs);
        assert!(self.handoff.targets.is_empty() && self.handoff.next_wakeup().is_none());
    }
}

/// How many were under way before: a credit that shrinks takes nothing back.
fn before_sent(before: &BTreeMap<NodeId, Target>, target: NodeId) -> usize {
    before.get(&target).map_or(0, |target| target.under_way.len())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Keep(u32),
    Up(u32),
    Down(u32),
    Load(usize),
    LoadFails(usize),
    Answer(usize, Option<u32>),
    Refuse(usize),
    Lose(usize),
    PassTime,
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u32).prop_map(Step::Keep),
        2 => (0..3_u32).prop_map(Step::Up),
        1 => (0..3_u32).prop_map(Step::Down),
        4 => any::<usize>().prop_map(Step::Load),
        1 => any::<usize>().prop_map(Step::LoadFails),
        4 => (any::<usize>(), prop::option::of(0..70_u32)).prop_map(|(at, n)| Step::Answer(at, n)),
        1 => any::<usize>().prop_map(Step::Refuse),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::PassTime),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn hints_are_removed_only_when_delivered_and_all_are_delivered_in_the_end(
        seed: u64,
        steps in prop::collection::vec(some_step(), 0..60),
    ) {
        let mut world = World::new(seed);
        for step in steps {
            match step {
                Step::Keep(node) => world.keep(NodeId(node)),
                Step::Up(node) => world.set_up(NodeId(node), true),
                Step::Down(node) => world.set_up(NodeId(node), false),
                Step::Load(at) if !world.loads.is_empty() => world.load(at),
                Step::LoadFails(at) if !world.loads.is_empty() => {
                    let at = at % world.loads.len();
                    let (target, _) = world.loads.swap_remove(at);
                    world.step(HandoffEvent::LoadFailed { target });
                }
                Step::Answer(at, credit) if !world.sent.is_empty() => {
                    world.answer_with(at, credit);
                }
                Step::Refuse(at) | Step::Lose(at) if !world.sent.is_empty() => {
                    let at = at % world.sent.len();
                    let (target, id) = world.sent.swap_remove(at);
                    if matches!(step, Step::Refuse(_)) {
                        world.step(HandoffEvent::Refused { target, id });
                    }
                }
                Step::PassTime => world.pass_time(),
                Step::Load(_) | Step::LoadFails(_) | Step::Answer(..) | Step::Refuse(_)
                | Step::Lose(_) => {}
            }
        }
        world.finish(3);
    }
}

const NODE: NodeId = NodeId(1);

/// Hints for one node, up, with the first page loaded.
fn delivering(hints: usize) -> World {
    let mut world = World::new(1);
    for _ in 0..hints {
        world.keep(NODE);
    }
    world.set_up(NODE, true);
    world.load(0);
    world
}

#[test]
fn refusals_pause_longer_each_time_and_shrink_the_window() {
    let mut world = delivering(20);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let (target, id) = world.sent.remove(0);
        world.step(HandoffEvent::Refused { target, id });
        world.sent.clear();
        world.loads.clear();
        let State::Pausing(until) = world.handoff.targets[&NODE].state else { panic!() };
        pauses.push(until.since(world.now));
        // Those that were under way and are lost: their time passes as well.
        while world.loads.is_empty() {
            world.pass_time();
        }
        world.load(0);
    }
    let (first, longest) = HINT_BACKOFF_MS;
    assert!(pauses[0] <= first * 5 / 4 && pauses[3] > pauses[0], "{pauses:?}");
    assert!(pauses.iter().all(|&pause| pause <= longest * 5 / 4), "{pauses:?}");
    assert!(pauses[11] >= longest * 3 / 4, "{pauses:?}");
    assert_eq!(world.handoff.targets[&NODE].window, 1);
    world.sent.truncate(1);
    world.answer(0);
    assert_eq!(world.handoff.targets[&NODE].window, 2);
    world.finish(3);
}

#[test]
fn what_is_under_way_when_a_node_goes_down_is_sent_again_and_late_answers_count() {
    let mut world = delivering(PAGE);
    assert_eq!(world.handoff.under_way(NODE), PAGE);
    world.set_up(NODE, false);
    assert_eq!(world.handoff.under_way(NODE), 0);
    assert_eq!(world.handoff.next_wakeup(), None);
    world.answer(0);
    assert_eq!(world.logs[&NODE].len(), PAGE - 1);
    world.sent.clear();
    world.loads.clear();
    world.finish(3);
}

#[test]
fn a_page_that_was_asked_for_before_a_pause_is_not_taken_for_the_logs_start() {
    let mut world = delivering(PAGE + 1);
    let old = world.loads.pop().unwrap();
    let (target, id) = world.sent.remove(0);
    world.step(HandoffEvent::Refused { target, id });
    world.sent.clear();
    while world.loads.is_empty() {
        world.pass_time();
    }
    // The answer to the old question comes first.
    world.loads.push(old);
    world.load(1);
    world.finish(3);
}

#[test]
fn so_many_replicas_at_once_and_no_more() {
    let mut world = World::new(1);
    let nodes = u32::try_from(HINT_TARGETS).unwrap() + 5;
    for node in (0..nodes).map(NodeId) {
        world.keep(node);
        world.set_up(node, true);
    }
    assert_eq!(world.loads.len(), HINT_TARGETS);
    world.finish(nodes);
}

#[test]
fn an_idle_handoff_looks_into_the_log_once() {
    let mut world = delivering(2);
    world.finish(3);
    let loaded = world.loaded;
    world.set_up(NODE, false);
    world.set_up(NODE, true);
    world.pass_time();
    assert_eq!(world.loaded, loaded);
}

#[test]
fn a_receiver_that_bears_nothing_is_asked_again_with_one_hint() {
    let mut world = delivering(PAGE);
    world.answer_with(0, Some(0));
    world.sent.clear();
    world.loads.clear();
    assert!(matches!(world.handoff.targets[&NODE].state, State::Pausing(_)));
    while world.loads.is_empty() {
        world.pass_time();
    }
    world.load(0);
    assert_eq!(world.handoff.under_way(NODE), 1);
    world.answer_with(0, Some(2));
    assert_eq!(world.handoff.under_way(NODE), 1, "one is left in this page");
    world.finish(3);
}

#[test]
fn what_a_replica_had_before_is_told_apart() {
    let mut world = delivering(2);
    let (target, id) = world.sent[0];
    world.has.insert((target, id));
    let mut actions = Vec::new();
    for (target, id) in std::mem::take(&mut world.sent) {
        let known = world.has.contains(&(target, id));
        let answer = HandoffEvent::Delivered { target, id, known, credit: None };
        world.handoff.step(answer, world.now, &mut actions);
    }
    let removal = HandoffAction::Remove {
        target: NODE,
        delivered: vec![HintId(2)],
        superseded: vec![HintId(1)],
    };
    assert!(actions.contains(&removal), "{actions:?}");
}
