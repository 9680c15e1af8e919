//! Every order of answers, refusals, broken links and timers, against real rows and clocks and an
//! oracle that knows all writes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use meridian_crdt::{Delta, Dot, Entry, VnodeClock};
use meridian_service::{Effect, RequestError};
use meridian_types::ConsistencyLevel;

use super::*;
use crate::plan::ReadPlan;
use crate::testing::{Cluster, Dice, HOME, LEVELS, delta, dot};

/// A replica of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Replica {
    row: Row,
    clock: VnodeClock,
}

impl Replica {
    fn apply(&mut self, policy: ConflictPolicy, delta: &Delta) {
        if self.clock.insert(delta.entry.dot) {
            self.row.apply(policy, delta.clone());
            self.row.strip(&self.clock);
        }
    }

    fn join(&mut self, policy: ConflictPolicy, version: &Row, coverage: &Context) {
        self.row.join_answer(policy, &mut self.clock, version, coverage);
    }

    fn version(&self) -> RowVersion {
        RowVersion { row: self.row.clone(), clock: Arc::new(self.clock.clone()) }
    }
}

/// What was written, and who has it.
#[derive(Clone)]
struct History {
    policy: ConflictPolicy,
    writes: BTreeMap<Dot, Delta>,
    replicas: BTreeMap<NodeId, Replica>,
    /// Who had each write when it was acknowledged.
    acked: BTreeMap<Dot, BTreeSet<NodeId>>,
}

impl History {
    fn random(cluster: &Cluster, policy: ConflictPolicy, dice: &mut Dice) -> Self {
        let nodes = cluster.replicas().all();
        let replicas = nodes.iter().map(|&node| (node, Replica::default())).collect();
        let (writes, acked) = (BTreeMap::new(), BTreeMap::new());
        let mut history = Self { policy, writes, replicas, acked };
        for number in 0..1 + dice.below(5) {
            let leader = nodes[dice.below(nodes.len())];
            let own = &history.replicas[&leader];
            let context = match dice.below(3) {
                0 => Context::default(),
                _ => own.row.reader_context(&own.clock),
            };
            let counter = own.clock.highest(dot(leader, 1).actor) + 1;
            let value = if dice.below(4) == 0 { String::new() } else { format!("value {number}") };
            let mut write = delta(dot(leader, counter), &value, context);
            write.entry.stamp = meridian_types::Hlc(number as u64 + 1);
            let mut has = BTreeSet::from([leader]);
            has.extend(nodes.iter().copied().filter(|_| dice.below(2) == 0));
            for node in &has {
                history.replica(*node).apply(policy, &write);
            }
            history.acked.insert(write.entry.dot, has);
            history.writes.insert(write.entry.dot, write);
        }
        history
    }

    fn replica(&mut self, node: NodeId) -> &mut Replica {
        self.replicas.get_mut(&node).unwrap()
    }

    /// What a reader of these replicas must see: of the writes that any of them has, those that
    /// no other of these writes has seen; or the newest.
    fn expected(&self, nodes: &BTreeSet<NodeId>) -> Vec<Entry> {
        let known = |dot: &Dot| nodes.iter().any(|node| self.replicas[node].clock.contains(*dot));
        let known: Vec<&Delta> =
            self.writes.iter().filter(|(dot, _)| known(dot)).map(|(_, write)| write).collect();
        let entries = known.iter().map(|write| &write.entry);
        match self.policy {
            ConflictPolicy::Lww => {
                entries.max_by_key(|entry| (entry.stamp, entry.dot)).cloned().into_iter().collect()
            }
            ConflictPolicy::Siblings => entries
                .filter(|entry| !known.iter().any(|write| write.context.contains(entry.dot)))
                .cloned()
                .collect(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Answers(NodeId),
    RefusesRead(NodeId),
    Joins(NodeId),
    RefusesRepair(NodeId),
    GoesDown(NodeId),
    LinkRefuses(NodeId),
    TimePasses,
}

impl Next {
    fn is_fault(self) -> bool {
        !matches!(self, Self::Answers(_) | Self::Joins(_))
    }
}

#[derive(Clone)]
struct World<'a> {
    cluster: &'a Cluster,
    level: ConsistencyLevel,
    machine: GetMachine,
    now: Millis,
    history: History,
    reads: BTreeMap<NodeId, ReadKind>,
    repairs: BTreeMap<NodeId, (Row, Context)>,
    failed: BTreeSet<NodeId>,
    /// Who answered, with anything; and with data, before anybody was repaired.
    answered: BTreeSet<NodeId>,
    contributed: BTreeSet<NodeId>,
    repaired: BTreeSet<NodeId>,
    /// What the repairs sent.
    joined: Option<(Row, Context)>,
    replies: Vec<Result<GetDone, Failure>>,
    done: bool,
    faults: usize,
    trace: Vec<Next>,
}

const DEADLINE: Millis = Millis(100);
const HEDGE: Millis = Millis(10);

impl<'a> World<'a> {
    fn start(
        cluster: &'a Cluster,
        level: ConsistencyLevel,
        history: History,
        down: &BTreeSet<NodeId>,
    ) -> Option<Self> {
        let replicas = cluster.replicas();
        let alive = |node: NodeId| !down.contains(&node);
        let plan = ReadPlan::new(level, HOME, cluster.leader(), replicas, alive, &cluster.topology);
        let up = replicas.all().iter().copied().filter(|&node| alive(node)).collect();
        let plan = match plan {
            Err(RequestError::Level { .. }) if level == ConsistencyLevel::Any => return None,
            Err(error) => {
                assert!(matches!(&error, RequestError::Unavailable { .. }), "{error}");
                assert!(!cluster.is_enough(level, &up), "{level} refused with {up:?} alive");
                return None;
            }
            Ok(plan) => plan,
        };
        assert!(cluster.is_enough(level, &up), "{level} not refused with {up:?} alive");
        let contacts = plan.contacts().iter().map(|replica| replica.node).collect();
        assert!(cluster.is_enough(level, &contacts));
        let options = GetOptions {
            policy: history.policy,
            with_context: true,
            deadline: DEADLINE,
            hedge_at: Some(HEDGE),
        };
        let mut actions = GetActions::new();
        let machine = GetMachine::start(&plan, options, &mut actions);
        let mut world = World {
            cluster,
            level,
            machine,
            now: Millis(0),
            history,
            reads: BTreeMap::new(),
            repairs: BTreeMap::new(),
            failed: down.clone(),
            answered: BTreeSet::new(),
            contributed: BTreeSet::new(),
            repaired: BTreeSet::new(),
            joined: None,
            replies: Vec::new(),
            done: false,
            faults: 0,
            trace: Vec::new(),
        };
        for action in actions {
            world.perform(action);
        }
        assert_eq!(world.reads.keys().copied().collect::<BTreeSet<_>>(), contacts);
        Some(world)
    }

    fn possible(&self) -> Vec<Next> {
        let mut next = Vec::new();
        if self.done {
            return next;
        }
        for &node in self.reads.keys() {
            next.extend([Next::Answers(node), Next::RefusesRead(node)]);
        }
        for &node in self.repairs.keys() {
            next.extend([Next::Joins(node), Next::RefusesRepair(node)]);
        }
        for &node in self.history.replicas.keys().filter(|node| !self.failed.contains(node)) {
            next.push(Next::GoesDown(node));
            if self.reads.contains_key(&node) || self.repairs.contains_key(&node) {
                next.push(Next::LinkRefuses(node));
            }
        }
        if self.machine.next_wakeup().is_some() {
            next.push(Next::TimePasses);
        }
        next
    }

    fn happen(&mut self, next: Next) {
        self.trace.push(next);
        self.faults += usize::from(next.is_fault());
        let refusal = Refusal::Overloaded;
        let event = match next {
            Next::Answers(node) => {
                let replica = &self.history.replicas[&node];
                // A machine that gave a replica up takes no late answer of it.
                let heard = !self.failed.contains(&node);
                if heard {
                    self.answered.insert(node);
                }
                match self.reads.remove(&node).unwrap() {
                    ReadKind::Data => {
                        if heard && self.repaired.is_empty() && self.replies.is_empty() {
                            self.contributed.insert(node);
                        }
                        GetEvent::DataArrived { from: node, version: replica.version() }
                    }
                    ReadKind::Digest => {
                        GetEvent::DigestArrived { from: node, digest: replica.row.digest() }
                    }
                }
            }
            Next::RefusesRead(node) => {
                self.reads.remove(&node);
                self.failed.insert(node);
                GetEvent::ReadRefused { from: node, refusal }
            }
            Next::Joins(node) => {
                let (version, coverage) = self.repairs.remove(&node).unwrap();
                let policy = self.history.policy;
                self.history.replica(node).join(policy, &version, &coverage);
                GetEvent::Repaired { from: node }
            }
            Next::RefusesRepair(node) => {
                self.repairs.remove(&node);
                self.failed.insert(node);
                GetEvent::RepairRefused { from: node, refusal }
            }
            Next::GoesDown(node) => {
                self.failed.insert(node);
                GetEvent::NodeDown { node }
            }
            Next::LinkRefuses(node) => {
                self.reads.remove(&node);
                self.repairs.remove(&node);
                self.failed.insert(node);
                GetEvent::SendRefused { to: node }
            }
            Next::TimePasses => {
                self.now = self.machine.next_wakeup().unwrap().max(self.now);
                GetEvent::TimePassed
            }
        };
        let mut actions = GetActions::new();
        self.machine.step(event, self.now, &mut actions);
        for action in actions {
            self.perform(action);
        }
        self.check();
    }

    fn perform(&mut self, action: GetAction) {
        let trace = &self.trace;
        assert!(!self.done, "{action:?} after Done: {trace:?}");
        match action {
            GetAction::Read { from, kind } => {
                assert!(!self.failed.contains(&from), "asks {from}: {trace:?}");
                let before = self.reads.insert(from, kind);
                assert!(before.is_none() && self.replies.is_empty(), "{trace:?}");
            }
            GetAction::Repair { to, version, coverage } => {
                assert!(self.repaired.insert(to), "{to} is repaired twice: {trace:?}");
                assert!(version.context().is_empty());
                self.joined = Some((version.clone(), coverage.clone()));
                self.repairs.insert(to, (version, coverage));
            }
            GetAction::Reply(reply) => {
                self.replies.push(reply);
                self.check_reply();
            }
            GetAction::Done => self.done = true,
        }
    }

    fn check(&self) {
        let trace = &self.trace;
        assert!(self.replies.len() <= 1, "two replies: {trace:?}");
        if self.replies.is_empty() {
            assert!(!self.done, "done without a reply: {trace:?}");
            assert!(self.now < DEADLINE, "the deadline passed unanswered: {trace:?}");
            let waits = self.reads.keys().chain(self.repairs.keys());
            let waits = waits.filter(|node| !self.failed.contains(node)).count();
            assert!(waits > 0, "waits for nobody: {trace:?}");
        }
    }

    fn of_one(&self) -> bool {
        matches!(self.level, ConsistencyLevel::One | ConsistencyLevel::LocalOne)
    }

    fn check_reply(&self) {
        let trace = &self.trace;
        match &self.replies[0] {
            Ok(done) => {
                let level = self.level;
                assert!(self.cluster.is_enough(level, &self.answered), "{level}: {trace:?}");
                self.check_row(done);
                if !self.of_one() {
                    self.check_holders(done);
                }
                self.check_acked(done);
            }
            Err(failure) => {
                let error = failure.clone().into_error(&self.cluster.topology);
                assert_eq!(error.effect(), Effect::NotApplied, "{error}");
                let known = matches!(
                    error,
                    RequestError::Timeout { write: false, .. }
                        | RequestError::Failed { write: false, .. }
                );
                assert!(known, "{error}");
                if self.now < DEADLINE {
                    self.check_hopeless();
                }
            }
        }
    }

    /// The row is what the replicas that were joined, or agreed, add up to.
    fn check_row(&self, done: &GetDone) {
        let seen = if self.of_one() {
            self.contributed.iter().take(1).copied().collect()
        } else {
            self.contributed.clone()
        };
        let seen = if self.repaired.is_empty() { seen } else { self.contributed.clone() };
        // A repair changes what its replica knows, not what the joined replicas add up to.
        assert_eq!(done.row.entries(), self.history.expected(&seen), "{:?}", self.trace);
    }

    /// As many replicas as the level names show the row now.
    fn check_holders(&self, done: &GetDone) {
        let holds = |node: &NodeId| {
            let replica = &self.history.replicas[node];
            let mut told = replica.clone();
            if let Some((row, coverage)) = &self.joined {
                told.join(self.history.policy, row, coverage);
            }
            replica.row.entries() == done.row.entries()
                || self.joined.is_some() && told.row.entries() == replica.row.entries()
        };
        let holders = self.history.replicas.keys().copied().filter(|node| holds(node)).collect();
        assert!(
            self.cluster.is_enough(self.level, &holders),
            "{} answered, held by {holders:?}: {:?}",
            self.level,
            self.trace
        );
    }

    /// A write whose replicas meet every set that the level may read is seen, or covered.
    fn check_acked(&self, done: &GetDone) {
        let nodes: Vec<NodeId> = self.history.replicas.keys().copied().collect();
        let sets = (0..1_u32 << nodes.len()).map(|set| -> BTreeSet<NodeId> {
            (0..nodes.len()).filter(|at| set >> at & 1 == 1).map(|at| nodes[at]).collect()
        });
        let enough: Vec<_> = sets.filter(|set| self.cluster.is_enough(self.level, set)).collect();
        let reader = done.reader.as_ref().unwrap();
        for (dot, has) in &self.history.acked {
            if enough.iter().all(|set| !set.is_disjoint(has)) {
                let shown = done.row.entry(*dot).is_some();
                let lww = self.history.policy == ConflictPolicy::Lww;
                assert!(shown || lww || reader.contains(*dot), "{dot} unseen: {:?}", self.trace);
            }
        }
    }

    /// A refusal before the deadline is right: those that can be reached, and those that are out
    /// of reach but hold what the answers add up to, are too few.
    fn check_hopeless(&self) {
        let joined = self.history.expected(&self.contributed);
        let may = |node: &NodeId| {
            let holds = self.history.replicas[node].row.entries() == joined;
            !self.failed.contains(node) || self.contributed.contains(node) && holds
        };
        let may = self.history.replicas.keys().copied().filter(may).collect();
        assert!(!self.cluster.is_enough(self.level, &may), "gave up early: {:?}", self.trace);
    }

    fn then(&self, next: Next) -> Self {
        let mut world = self.clone();
        world.happen(next);
        world
    }

    fn check_end(&self) {
        let mut world = self.clone();
        for _ in 0..3 {
            if world.done {
                return;
            }
            world = world.then(Next::TimePasses);
        }
        assert!(world.done, "not done: {:?}", world.trace);
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}{:?}", self.machine, self.history.replicas).hash(&mut hasher);
        format!("{:?}{:?}{:?}", self.reads, self.repairs, self.failed).hash(&mut hasher);
        (self.now.0, self.faults, self.done, self.replies.len()).hash(&mut hasher);
        hasher.finish()
    }
}

fn explore(start: World<'_>, most_faults: usize) -> usize {
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        if !seen.insert(world.fingerprint()) {
            continue;
        }
        world.check_end();
        for next in world.possible() {
            if world.faults < most_faults || !next.is_fault() {
                open.push(world.then(next));
            }
        }
    }
    seen.len()
}

const POLICIES: [ConflictPolicy; 2] = [ConflictPolicy::Siblings, ConflictPolicy::Lww];

fn explore_histories(cluster: &Cluster, histories: u64, most_faults: usize) -> usize {
    let mut states = 0;
    for seed in 0..histories {
        for policy in POLICIES {
            let history = History::random(cluster, policy, &mut Dice(seed));
            for level in LEVELS {
                let world = World::start(cluster, level, history.clone(), &BTreeSet::new());
                states += world.map_or(0, |world| explore(world, most_faults));
            }
        }
    }
    states
}

#[test]
fn every_order_on_one_node() {
    assert!(explore_histories(&Cluster::new(&[1]), 3, 9) > 50);
}

#[test]
fn every_order_on_three_nodes() {
    assert!(explore_histories(&Cluster::new(&[3]), 3, 3) > 5_000);
}

#[test]
fn every_order_with_one_fault_on_two_datacenters_of_two() {
    assert!(explore_histories(&Cluster::new(&[2, 2]), 4, 1) > 1_000);
}

#[test]
fn random_orders_on_three_datacenters_of_three() {
    let cluster = Cluster::new(&[3, 3, 3]);
    let mut dice = Dice(2);
    let mut answered = BTreeMap::<(ConsistencyLevel, bool), u32>::new();
    let (mut differed, mut background) = (0, 0);
    for walk in 0..3_000 {
        let level = LEVELS[walk % LEVELS.len()];
        let policy = POLICIES[dice.below(2)];
        let history = History::random(&cluster, policy, &mut dice);
        let most_faults = [0, 1, 3, 99][dice.below(4)];
        let all = cluster.replicas().all();
        let down = (0..dice.below(3).min(most_faults))
            .map(|_| all[dice.below(all.len())])
            .filter(|&node| node != cluster.leader())
            .collect();
        let Some(mut world) = World::start(&cluster, level, history, &down) else { continue };
        loop {
            let possible = world.possible();
            if possible.is_empty() {
                break;
            }
            let next = possible[dice.below(possible.len())];
            let bounded = world.faults >= most_faults;
            if next.is_fault() && bounded && possible.iter().any(|next| !next.is_fault()) {
                continue;
            }
            world = world.then(next);
        }
        assert!(world.done);
        differed += u32::from(matches!(&world.replies[0], Ok(done) if done.differed));
        background += u32::from(world.of_one() && !world.repaired.is_empty());
        *answered.entry((level, world.replies[0].is_ok())).or_default() += 1;
    }
    for level in LEVELS.into_iter().filter(|&level| level != ConsistencyLevel::Any) {
        assert!(answered.contains_key(&(level, true)), "{level} never met: {answered:?}");
        assert!(answered.contains_key(&(level, false)), "{level} never failed: {answered:?}");
    }
    assert!(differed > 100 && background > 5, "{differed} {background}");
}
