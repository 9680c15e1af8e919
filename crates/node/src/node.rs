//! The control plane as one machine: what the links report goes to everybody whom it concerns.

use meridian_types::{Millis, NodeId};

use crate::anti_entropy::{AntiEntropy, AntiEntropyAction, AntiEntropyEvent, AntiEntropyOptions};
use crate::handoff::{Handoff, HandoffAction, HandoffEvent};
use crate::liveness::{LinkEvent, Liveness, LivenessChange};
use crate::rebuild::{Rebuild, RebuildAction, RebuildEvent};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A link changed.
    Link(LinkEvent),
    /// Something about hints.
    Handoff(HandoffEvent),
    /// Something about anti-entropy.
    AntiEntropy(AntiEntropyEvent),
    /// Something about what may be lost.
    Rebuild(RebuildEvent),
    /// Time has passed: [`Node::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAction {
    /// Publish [`Liveness::view`] to the data path, and tell the requests that wait for the node.
    Liveness(LivenessChange),
    /// Something about hints.
    Handoff(HandoffAction),
    /// Something about anti-entropy.
    AntiEntropy(AntiEntropyAction),
    /// Something about what may be lost.
    Rebuild(RebuildAction),
}

/// The control plane of one replica. Requests do not pass through it.
#[derive(Clone, Debug)]
pub struct Node {
    liveness: Liveness,
    handoff: Handoff,
    anti_entropy: AntiEntropy,
    rebuild: Rebuild,
}

impl Node {
    /// A node that knows its peers and has heard of none; `near` are those of its datacenter.
    #[must_use]
    pub fn new(
        me: NodeId,
        peers: impl IntoIterator<Item = NodeId>,
        near: impl IntoIterator<Item = NodeId>,
        options: AntiEntropyOptions,
        now: Millis,
    ) -> Self {
        Self {
            liveness: Liveness::new(me, peers, now),
            handoff: Handoff::new(options.seed),
            anti_entropy: AntiEntropy::new(me, options, now),
            rebuild: Rebuild::new(near),
        }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: NodeEvent, now: Millis, out: &mut Vec<NodeAction>) {
        match event {
            NodeEvent::Link(event) => {
                let Some(change) = self.liveness.step(event, now) else { return };
                out.push(NodeAction::Liveness(change));
                // What was under way to a node that restarted is lost, as if it had been down.
                let (down, up) = match change {
                    LivenessChange::Rose { node, restarted } => {
                        (restarted.then_some(node), Some(node))
                    }
                    LivenessChange::Fell { node } => (Some(node), None),
                };
                if let Some(node) = down {
                    self.step_handoff(HandoffEvent::PeerDown { node }, now, out);
                    self.step_anti_entropy(AntiEntropyEvent::PeerDown { node }, now, out);
                    self.step_rebuild(RebuildEvent::PeerDown { node }, now, out);
                }
                if let Some(node) = up {
                    self.step_handoff(HandoffEvent::PeerUp { node }, now, out);
                    self.step_anti_entropy(AntiEntropyEvent::PeerUp { node }, now, out);
                    self.step_rebuild(RebuildEvent::PeerUp { node }, now, out);
                }
            }
            NodeEvent::Handoff(event) => self.step_handoff(event, now, out),
            NodeEvent::AntiEntropy(mut event) => {
                // What is made good is pulled once.
                if let AntiEntropyEvent::Compared { peer, keyspace, differing: vnodes, .. }
                | AntiEntropyEvent::Behind { peer, keyspace, vnodes } = &mut event
                {
                    vnodes.retain(|vnode| !self.rebuild.waits_for(*peer, *keyspace, *vnode));
                }
                self.step_anti_entropy(event, now, out);
            }
            NodeEvent::Rebuild(event) => self.step_rebuild(event, now, out),
            NodeEvent::TimePassed => {
                self.step_handoff(HandoffEvent::TimePassed, now, out);
                self.step_anti_entropy(AntiEntropyEvent::TimePassed, now, out);
                self.step_rebuild(RebuildEvent::TimePassed, now, out);
            }
        }
    }

    /// When [`NodeEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        let (hints, clocks) = (self.handoff.next_wakeup(), self.anti_entropy.next_wakeup());
        [hints, clocks, self.rebuild.next_wakeup()].into_iter().flatten().min()
    }

    /// Who is alive.
    #[must_use]
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Hints under way.
    #[must_use]
    pub fn handoff(&self) -> &Handoff {
        &self.handoff
    }

    /// Differences and pulls.
    #[must_use]
    pub fn anti_entropy(&self) -> &AntiEntropy {
        &self.anti_entropy
    }

    /// What may be lost, and is made good.
    #[must_use]
    pub fn rebuild(&self) -> &Rebuild {
        &self.rebuild
    }

    fn step_rebuild(&mut self, event: RebuildEvent, now: Millis, out: &mut Vec<NodeAction>) {
        let mut actions = Vec::new();
        self.rebuild.step(event, now, &mut actions);
        out.extend(actions.into_iter().map(NodeAction::Rebuild));
    }

    fn step_handoff(&mut self, event: HandoffEvent, now: Millis, out: &mut Vec<NodeAction>) {
        let mut actions = Vec::new();
        self.handoff.step(event, now, &mut actions);
        out.extend(actions.into_iter().map(NodeAction::Handoff));
    }

    fn step_anti_entropy(
        &mut self,
        event: AntiEntropyEvent,
        now: Millis,
        out: &mut Vec<NodeAction>,
    ) {
        let mut actions = Vec::new();
        self.anti_entropy.step(event, now, &mut actions);
        out.extend(actions.into_iter().map(NodeAction::AntiEntropy));
    }
}
