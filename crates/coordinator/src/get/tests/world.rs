//! The world around a get: what was asked of whom, what was repaired, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use meridian_crdt::VnodeClock;
use meridian_service::{Effect, RequestError};
use meridian_types::ConsistencyLevel;

use super::super::*;
use super::history::History;
use crate::plan::ReadPlan;
use crate::testing::{Cluster, HOME};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Answers(NodeId),
    RefusesRead(NodeId),
    IsBehind(NodeId),
    Joins(NodeId),
    RefusesRepair(NodeId),
    GoesDown(NodeId),
    LinkRefuses(NodeId),
    TimePasses,
}

impl Next {
    pub(super) fn is_fault(self) -> bool {
        !matches!(self, Self::Answers(_) | Self::Joins(_) | Self::IsBehind(_))
    }
}

#[derive(Clone)]
pub(super) struct World<'a> {
    cluster: &'a Cluster,
    level: ConsistencyLevel,
    machine: GetMachine,
    now: Millis,
    history: History,
    /// What the session has seen.
    seen: Option<Arc<Context>>,
    /// Who may be asked at this level.
    readers: BTreeSet<NodeId>,
    /// Who is asked for what, and whether it refuses where it lacks what was seen.
    reads: BTreeMap<NodeId, (ReadKind, bool)>,
    repairs: BTreeMap<NodeId, (Row, Context)>,
    failed: BTreeSet<NodeId>,
    /// Who answered, with anything; and with data, before anybody was repaired.
    answered: BTreeSet<NodeId>,
    contributed: BTreeSet<NodeId>,
    pub(super) repaired: BTreeSet<NodeId>,
    /// What the repairs sent.
    joined: Option<(Row, Context)>,
    pub(super) replies: Vec<Result<GetDone, Failure>>,
    pub(super) done: bool,
    pub(super) faults: usize,
    trace: Vec<Next>,
}

const DEADLINE: Millis = Millis(100);
const HEDGE: Millis = Millis(10);

impl<'a> World<'a> {
    pub(super) fn start(
        cluster: &'a Cluster,
        level: ConsistencyLevel,
        history: History,
        down: &BTreeSet<NodeId>,
        seen: Option<Context>,
    ) -> Option<Self> {
        let seen = seen.map(Arc::new);
        let replicas = cluster.replicas();
        let alive = |node: NodeId| !down.contains(&node);
        let plan = ReadPlan::new(
            level,
            HOME,
            cluster.leader(),
            replicas,
            alive,
            |_| false,
            &cluster.topology,
        );
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
        let readers = plan.replicas.iter().map(|replica| replica.node).collect();
        let contacts = plan.contacts().iter().map(|replica| replica.node).collect();
        assert!(cluster.is_enough(level, &contacts));
        let options = GetOptions {
            policy: history.policy,
            with_context: true,
            deadline: DEADLINE,
            hedge_at: Some(HEDGE),
        };
        let mut actions = GetActions::new();
        let machine = GetMachine::start_in_session(&plan, options, seen.clone(), &mut actions);
        let mut world = World {
            cluster,
            level,
            machine,
            now: Millis(0),
            history,
            seen,
            readers,
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

    pub(super) fn possible(&self) -> Vec<Next> {
        let mut next = Vec::new();
        if self.done {
            return next;
        }
        for (&node, (_, covering)) in &self.reads {
            let is_behind = *covering && !self.covers(&BTreeSet::from([node]));
            next.push(if is_behind { Next::IsBehind(node) } else { Next::Answers(node) });
            next.push(Next::RefusesRead(node));
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

    /// Whether these replicas together have what the session has seen.
    fn covers(&self, nodes: &BTreeSet<NodeId>) -> bool {
        let Some(seen) = &self.seen else { return true };
        let mut clock = VnodeClock::default();
        nodes.iter().for_each(|node| clock.join(&self.history.replicas[node].clock));
        clock.has_all(seen)
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
                match self.reads.remove(&node).unwrap().0 {
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
            Next::IsBehind(node) => {
                self.reads.remove(&node);
                if self.of_one() {
                    self.failed.insert(node);
                }
                GetEvent::ReadRefused { from: node, refusal: Refusal::Behind }
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
            GetAction::Read { from, kind, covering } => {
                assert!(!self.failed.contains(&from), "asks {from}: {trace:?}");
                let before = self.reads.insert(from, (kind, covering));
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

    pub(super) fn of_one(&self) -> bool {
        matches!(self.level, ConsistencyLevel::One | ConsistencyLevel::LocalOne)
    }

    fn check_reply(&self) {
        let trace = &self.trace;
        match &self.replies[0] {
            Ok(done) => {
                let level = self.level;
                assert!(self.cluster.is_enough(level, &self.answered), "{level}: {trace:?}");
                self.check_row(done);
                self.check_session();
                if !self.of_one() {
                    self.check_holders(done);
                }
                self.check_acked(done);
            }
            Err(failure) => {
                let error = failure.clone().into_error(&self.cluster.topology);
                assert_eq!(error.effect(), Effect::NotApplied, "{error}");
                let known = match error {
                    RequestError::Timeout { write, .. } | RequestError::Failed { write, .. } => {
                        !write
                    }
                    RequestError::SessionBehind { .. } => self.seen.is_some(),
                    _ => false,
                };
                assert!(known, "{error}");
                if self.now < DEADLINE {
                    self.check_hopeless();
                }
            }
        }
    }

    /// Those that were read have everything that the session has seen.
    fn check_session(&self) {
        let read = match self.of_one() {
            true => self.contributed.iter().copied().take(1).collect(),
            false => self.contributed.clone(),
        };
        assert!(self.covers(&read), "stale for its session: {:?}", self.trace);
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
        let may: BTreeSet<NodeId> = self.history.replicas.keys().copied().filter(may).collect();
        let mut read = may.intersection(&self.readers).copied();
        let covered = match self.of_one() {
            true => read.any(|node| self.covers(&BTreeSet::from([node]))),
            false => self.covers(&read.collect()),
        };
        let hopeless = !covered || !self.cluster.is_enough(self.level, &may);
        assert!(hopeless, "gave up early: {:?}", self.trace);
    }

    pub(super) fn then(&self, next: Next) -> Self {
        let mut world = self.clone();
        world.happen(next);
        world
    }

    pub(super) fn check_end(&self) {
        let mut world = self.clone();
        for _ in 0..3 {
            if world.done {
                return;
            }
            world = world.then(Next::TimePasses);
        }
        assert!(world.done, "not done: {:?}", world.trace);
    }

    /// The number of faults matters only where it is bounded.
    pub(super) fn fingerprint(&self, with_faults: bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}{:?}", self.machine, self.history.replicas).hash(&mut hasher);
        format!("{:?}{:?}{:?}", self.reads, self.repairs, self.failed).hash(&mut hasher);
        (self.now.0, self.done, self.replies.len()).hash(&mut hasher);
        with_faults.then_some(self.faults).hash(&mut hasher);
        hasher.finish()
    }
}
