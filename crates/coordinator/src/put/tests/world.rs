//! The world around a put: what was sent to whom, who has it, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use meridian_crdt::Context;
use meridian_service::{Effect, RequestError};
use meridian_types::{ConsistencyLevel, Epoch, Millis, NodeId};

use super::super::*;
use crate::message::WriteDelta;
use crate::plan::WritePlan;
use crate::testing::{Cluster, HOME, delta, dot, row_key};

/// Something that may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Minted,
    MintFailed,
    /// A replica applies its copy, acks, and forwards if it was asked to.
    Acks(NodeId),
    /// A forwarder acks, and stops before it forwards.
    AcksAlone(NodeId),
    /// It got the delta twice.
    AcksAgain(NodeId),
    Refuses(NodeId),
    GoesDown(NodeId),
    /// The last thing sent to it did not get into the link.
    LinkRefuses(NodeId),
    HintStored(NodeId),
    TimePasses,
}

impl Next {
    pub(super) fn is_fault(self) -> bool {
        !matches!(self, Self::Minted | Self::Acks(_) | Self::HintStored(_))
    }
}

/// What the world knows of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Remote {
    /// A copy is on its way, or waits there.
    copy: bool,
    /// That copy is to be forwarded to these.
    forward_to: Vec<NodeId>,
    /// The coordinator has sent it a copy itself.
    addressed: bool,
    acked: bool,
    /// Who was to forward to it, acked, and did not.
    left_by: Option<NodeId>,
    /// Refused, down, or out of reach from the start.
    failed: bool,
    hints: u32,
    hint_stored: bool,
}

#[derive(Clone)]
pub(super) struct World<'a> {
    cluster: &'a Cluster,
    level: ConsistencyLevel,
    machine: PutMachine,
    now: Millis,
    remotes: BTreeMap<NodeId, Remote>,
    minting: bool,
    minted: bool,
    refused: bool,
    pub(super) replies: Vec<Result<PutDone, Failure>>,
    pub(super) done: bool,
    pub(super) faults: u32,
    trace: Vec<Next>,
}

const DEADLINE: Millis = Millis(100);

impl<'a> World<'a> {
    /// `None` where the plan refuses, rightly.
    pub(super) fn start(
        cluster: &'a Cluster,
        level: ConsistencyLevel,
        down: &BTreeSet<NodeId>,
        hint_after_ms: u64,
    ) -> Option<Self> {
        let alive = |node: NodeId| !down.contains(&node);
        let (replicas, leader) = (cluster.replicas(), cluster.leader());
        let plan = WritePlan::new(level, HOME, leader, replicas, alive, &cluster.topology);
        let up = replicas.all().iter().copied().filter(|&node| alive(node)).collect();
        let plan = match plan {
            Err(error) => {
                let refused = matches!(&error, RequestError::Unavailable { .. });
                assert!(refused && error.effect() == Effect::NotApplied, "{error}");
                assert!(!cluster.is_enough(level, &up), "{level} refused with {up:?} alive");
                return None;
            }
            Ok(plan) => plan,
        };
        assert!(cluster.is_enough(level, &up), "{level} not refused with {up:?} alive");
        let write = PutWrite { row: row_key(), write_id: None, epoch: Epoch(1) };
        let timing = PutTiming { deadline: DEADLINE, hint_after_ms };
        let mut actions = PutActions::new();
        let machine = PutMachine::start(plan, write, timing, &mut actions);
        assert_eq!(actions.as_slice(), [PutAction::Mint]);
        let remote = |&node: &NodeId| (node, Remote { failed: !alive(node), ..Remote::default() });
        Some(World {
            cluster,
            level,
            machine,
            now: Millis(0),
            remotes: replicas.all().iter().map(remote).collect(),
            minting: true,
            minted: false,
            refused: false,
            replies: Vec::new(),
            done: false,
            faults: 0,
            trace: Vec::new(),
        })
    }

    pub(super) fn possible(&self) -> Vec<Next> {
        let mut next = Vec::new();
        if self.done {
            return next;
        }
        if self.minting {
            next.extend([Next::Minted, Next::MintFailed]);
        }
        for (&node, remote) in &self.remotes {
            if node == self.cluster.leader() {
                continue;
            }
            if remote.copy {
                next.extend([Next::Acks(node), Next::Refuses(node)]);
                if !remote.forward_to.is_empty() {
                    next.push(Next::AcksAlone(node));
                }
                if remote.addressed && !remote.failed {
                    next.push(Next::LinkRefuses(node));
                }
            }
            if remote.acked {
                next.push(Next::AcksAgain(node));
            }
            if !remote.failed {
                next.push(Next::GoesDown(node));
            }
            if remote.hints > 0 && !remote.hint_stored {
                next.push(Next::HintStored(node));
            }
        }
        if self.machine.next_wakeup().is_some() {
            next.push(Next::TimePasses);
        }
        next
    }

    fn happen(&mut self, next: Next) {
        self.trace.push(next);
        self.faults += u32::from(next.is_fault());
        let leader = self.cluster.leader();
        let event = match next {
            Next::Minted => {
                (self.minting, self.minted) = (false, true);
                self.remote(leader).acked = true;
                PutEvent::Minted(delta(dot(leader, 1), "value", Context::default()))
            }
            Next::MintFailed => {
                self.minting = false;
                PutEvent::MintFailed(Refusal::Overloaded)
            }
            Next::Acks(node) | Next::AcksAlone(node) => {
                let forward_to = std::mem::take(&mut self.remote(node).forward_to);
                let remote = self.remote(node);
                (remote.copy, remote.acked) = (false, true);
                for to in forward_to {
                    let remote = self.remote(to);
                    if next == Next::AcksAlone(node) {
                        remote.left_by = Some(node);
                    } else {
                        remote.copy |= !remote.acked;
                    }
                }
                PutEvent::ReplicaAcked { from: node }
            }
            Next::AcksAgain(node) => PutEvent::ReplicaAcked { from: node },
            Next::Refuses(node) => {
                let remote = self.remote(node);
                (remote.copy, remote.failed) = (false, true);
                remote.forward_to.clear();
                self.refused = true;
                PutEvent::ReplicaRefused { from: node, refusal: Refusal::Overloaded }
            }
            Next::GoesDown(node) => {
                // What is on its way may still arrive, and its ack as well.
                self.remote(node).failed = true;
                PutEvent::NodeDown { node }
            }
            Next::LinkRefuses(node) => {
                let remote = self.remote(node);
                (remote.copy, remote.failed) = (false, true);
                remote.forward_to.clear();
                PutEvent::SendRefused { to: node }
            }
            Next::HintStored(node) => {
                self.remote(node).hint_stored = true;
                PutEvent::HintStored { target: node }
            }
            Next::TimePasses => {
                self.now = self.machine.next_wakeup().unwrap().max(self.now);
                PutEvent::TimePassed
            }
        };
        let mut actions = PutActions::new();
        self.machine.step(event, self.now, &mut actions);
        for action in actions {
            self.perform(action);
        }
        self.check();
    }

    fn remote(&mut self, node: NodeId) -> &mut Remote {
        self.remotes.get_mut(&node).unwrap()
    }

    fn perform(&mut self, action: PutAction) {
        assert!(!self.done, "{action:?} after Done: {:?}", self.trace);
        match action {
            PutAction::Mint => panic!("minted twice: {:?}", self.trace),
            PutAction::Send { to, write } => self.send(to, write),
            PutAction::StoreHint { target, write } => {
                assert!(write.hinted && write.forward_to.is_empty());
                self.remote(target).hints += 1;
            }
            PutAction::Reply(reply) => self.replies.push(reply),
            PutAction::Done => self.done = true,
        }
    }

    fn send(&mut self, to: NodeId, write: WriteDelta) {
        assert!(!write.hinted && write.reply_to == self.cluster.leader());
        for &other in &write.forward_to {
            assert_eq!(self.cluster.dc_of(other), self.cluster.dc_of(to), "forwarded outside");
            assert_ne!(self.cluster.dc_of(other), HOME);
        }
        let remote = self.remote(to);
        assert!(!remote.failed && !remote.acked, "sent to {to}: {remote:?}");
        (remote.copy, remote.addressed, remote.forward_to) = (true, true, write.forward_to);
    }

    fn acked(&self) -> BTreeSet<NodeId> {
        let acked = self.remotes.iter().filter(|(_, remote)| remote.acked);
        acked.map(|(&node, _)| node).collect()
    }

    fn may_ack(&self) -> BTreeSet<NodeId> {
        let may = self.remotes.iter().filter(|(_, remote)| remote.acked || !remote.failed);
        may.map(|(&node, _)| node).collect()
    }

    fn check(&self) {
        let trace = &self.trace;
        assert!(self.replies.len() <= 1, "two replies: {trace:?}");
        for (node, remote) in &self.remotes {
            assert!(remote.hints <= 1, "{node} has two hints: {trace:?}");
            if self.done && self.minted {
                assert!(remote.acked || remote.hints == 1, "{node} is forgotten: {trace:?}");
            }
            if self.minted && !remote.acked {
                assert!(
                    remote.failed == (remote.hints == 1) || self.now > Millis(0),
                    "{node} failed and has no hint, or the other way round: {trace:?}"
                );
            }
        }
        self.check_copies();
        self.check_reply();
        if self.done {
            assert_eq!(self.replies.len(), 1, "done without a reply: {trace:?}");
        }
    }

    /// Whoever may ack has been sent a copy, or somebody who can be reached was asked to.
    fn check_copies(&self) {
        if !self.minted {
            return;
        }
        for (node, remote) in self.remotes.iter().filter(|(_, r)| !r.acked && !r.failed) {
            let forwarded = self
                .remotes
                .values()
                .any(|other| other.forward_to.contains(node) && other.copy && !other.failed);
            // A forwarder that acked and stopped is known only once its link is down.
            let left = remote.left_by.is_some_and(|by| !self.remotes[&by].failed);
            assert!(
                remote.copy || remote.addressed || forwarded || left,
                "{node} gets no copy: {:?}",
                self.trace
            );
        }
    }

    fn check_reply(&self) {
        let trace = &self.trace;
        let acked = self.acked();
        let enough = self.cluster.is_enough(self.level, &acked);
        match self.replies.first() {
            None if self.minted => {
                assert!(!enough, "{} is met by {acked:?} and not answered: {trace:?}", self.level);
                let may = self.may_ack();
                let reachable = self.cluster.is_enough(self.level, &may);
                assert!(reachable, "{} is out of reach and not answered: {trace:?}", self.level);
                assert!(self.now < DEADLINE, "the deadline passed unanswered: {trace:?}");
            }
            None => assert!(self.now < DEADLINE, "the deadline passed unanswered: {trace:?}"),
            Some(Ok(done)) => {
                assert!(enough, "{} answered with {acked:?}: {trace:?}", self.level);
                assert_eq!(done.dot, dot(self.cluster.leader(), 1));
            }
            Some(Err(_)) => {}
        }
    }

    /// Looks at an error when it is given: later acks change the counts.
    fn check_error(&self) {
        let Some(Err(failure)) = self.replies.first() else { return };
        let error = failure.clone().into_error(&self.cluster.topology);
        let counts = self.cluster.count(&self.acked());
        let reported = match &error {
            RequestError::Timeout { acks, write, .. } => {
                assert!(*write && !self.refused, "{error}: {:?}", self.trace);
                acks
            }
            RequestError::Failed { acks, why, write, .. } => {
                assert_eq!(*write, self.refused, "{error}");
                assert!(why.contains("overloaded"), "{why}");
                acks
            }
            other => panic!("{other}"),
        };
        for tally in reported {
            let dc = self.cluster.topology.dc_id(&tally.datacenter).unwrap();
            assert_eq!(tally.acked, counts.get(&dc).copied().unwrap_or(0), "{error}");
            assert_eq!(tally.replicas, self.cluster.replicas().in_dc(dc).len());
        }
        assert_eq!(reported.len(), self.cluster.topology.dcs().len());
        let minted = self.minted || self.minting;
        let expected = if minted { Effect::Unknown } else { Effect::NotApplied };
        assert_eq!(error.effect(), expected, "{error}: {:?}", self.trace);
        if self.now < DEADLINE && self.minted {
            let may = self.may_ack();
            assert!(!self.cluster.is_enough(self.level, &may), "gave up early: {:?}", self.trace);
        }
    }

    pub(super) fn then(&self, next: Next) -> Self {
        let mut world = self.clone();
        world.happen(next);
        if world.replies.len() > self.replies.len() {
            world.check_error();
        }
        world
    }

    /// With nothing more coming but time, the machine comes to its end.
    pub(super) fn check_end(&self) {
        let mut world = self.clone();
        for _ in 0..4 {
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
        format!("{:?}{:?}", self.machine, self.remotes).hash(&mut hasher);
        (self.now.0, self.done, self.replies.len()).hash(&mut hasher);
        with_faults.then_some(self.faults).hash(&mut hasher);
        hasher.finish()
    }
}
