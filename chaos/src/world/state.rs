//! What replicas store, looked at from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meridian_service::{AcceptLoss, CallContext, Request, Service};
use meridian_types::{KeyspaceId, NodeId, RequestId, RowKey, VnodeId, VnodeKind};

use super::World;
use super::machine::{Clocks, Up, clocks_of};
use crate::history::{Backlog, Final, HintTally, ReplicaState, Sample, VnodeState, What};
use crate::sim::NodeClock;

/// How long an operator waits for an answer.
const OPERATOR_WAITS: Duration = Duration::from_secs(1);

impl World {
    /// What every replica stores now.
    #[must_use]
    pub fn final_state(&self) -> Final {
        let at = self.agenda.now();
        let replica = |(&id, machine): (&NodeId, &super::Machine)| {
            let mut state = ReplicaState { sound: machine.is_whole(), ..ReplicaState::default() };
            for (&place, vnode) in &self.cluster.vnodes {
                if let Some(up) = machine.up().filter(|_| vnode.replicas.contains(&id)) {
                    let standing = up.node.store().standing(place.0, place.1);
                    state.sound &= standing.kind() == VnodeKind::Sound;
                    match self.vnode_state(up, place) {
                        Some(read) => drop(state.vnodes.insert(place, read)),
                        None => state.sound = false,
                    }
                }
            }
            (id, state)
        };
        let replicas = self.machines.iter().map(replica).collect();
        Final { at, wall: NodeClock::default().wall(at), replicas }
    }

    /// Clock and rows of a vnode, of one instant; `None` where a row cannot be read.
    fn vnode_state(&self, up: &Up, place: (KeyspaceId, VnodeId)) -> Option<VnodeState> {
        let (keyspace, vnode) = place;
        let store = up.node.store();
        let mut rows = BTreeMap::new();
        for &key in self.cluster.vnodes.get(&place).map_or(&[][..], |vnode| &vnode.keys) {
            let row = RowKey { keyspace, table: key.table, vnode, key: key.to_bytes() };
            let row = store.read(&row).ok()?.row;
            for entry in row.entries() {
                self.record.found(keyspace, vnode, key, entry);
            }
            if !row.is_empty() {
                rows.insert(key, row);
            }
        }
        Some(VnodeState { clock: store.clock(keyspace, vnode), rows })
    }

    /// Looks at what changed since the last look, and tells the checks.
    pub(super) fn look(&mut self) {
        let mut changed = BTreeSet::new();
        for (&id, machine) in &self.machines {
            let clocks =
                machine.up().map_or_else(Clocks::new, |up| clocks_of(&up.node, id, &self.cluster));
            let before = self.looked.insert(id, clocks.clone()).unwrap_or_default();
            let same = |place, clock| before.get(place).is_some_and(|b| Arc::ptr_eq(b, clock));
            changed.extend(clocks.iter().filter(|(p, c)| !same(p, c)).map(|(&place, _)| place));
        }
        if !changed.is_empty() {
            let wall = NodeClock::default().wall(self.agenda.now());
            let vnodes = changed.into_iter().map(|place| (place, self.replicas_of(place)));
            let vnodes = vnodes.collect();
            self.record.tell(What::Sampled(Sample { wall, vnodes }));
        }
        for (&id, machine) in &self.machines {
            if let Some(up) = machine.up() {
                self.count_hints(id, up);
                if self.healing {
                    self.see_backlog(id, up);
                    self.accept_loss(id, up);
                }
            }
        }
    }

    /// What an operator does who is told that no replica is left that lost nothing.
    fn accept_loss(&self, id: NodeId, up: &Up) {
        let lost = up.node.condition().lost;
        // What may still heal by itself is not given up.
        if lost.stuck == 0 || lost.stuck < lost.vnodes {
            return;
        }
        let owner = self.machines.get(&id).and_then(super::Machine::owner);
        let Some((owner, info)) = owner.zip(self.cluster.topology.node(id)) else { return };
        for keyspace in up.node.store().catalog().keyspaces() {
            let (node, keyspace) = (info.name.clone(), keyspace.name.clone());
            let accept = Request::AcceptLoss(AcceptLoss { node, keyspace, vnodes: Vec::new() });
            let context =
                CallContext { id: RequestId::from_bytes([0; 16]), timeout: OPERATOR_WAITS };
            let node = Arc::clone(&up.node);
            self.executor.spawn(owner, async move {
                // What it did not do is asked for again at the next look.
                drop(node.call(context, accept).await);
            });
        }
    }

    fn replicas_of(&self, place: (KeyspaceId, VnodeId)) -> BTreeMap<NodeId, VnodeState> {
        let replicas = self.cluster.vnodes.get(&place).map_or(&[][..], |vnode| &vnode.replicas);
        let sound = |id: &NodeId| {
            let machine = self.machines.get(id).filter(|machine| machine.is_whole())?;
            let up = machine.up()?;
            // Of what it may have lost its rows may know more than its clock.
            let standing = up.node.store().standing(place.0, place.1);
            let unproven = standing.kind().is_unproven();
            if unproven { None } else { Some((*id, self.vnode_state(up, place)?)) }
        };
        replicas.iter().filter_map(sound).collect()
    }

    /// One account for all targets: the log keeps no others.
    fn count_hints(&self, node: NodeId, up: &Up) {
        if up.node.hints_queued() > 0 {
            return;
        }
        let (counters, counts) = (up.node.hints().counters(), up.node.hints().counts());
        let tally = HintTally {
            found: counters.found,
            stored: counters.stored,
            delivered: counters.delivered,
            superseded: counters.superseded,
            expired: counters.expired,
            dropped: counters.dropped,
            damaged: counters.damaged,
            pending: counts.values().sum(),
        };
        if tally != HintTally::default() {
            self.record.tell(What::HintsCounted { node, target: node, tally });
        }
    }

    fn see_backlog(&self, node: NodeId, up: &Up) {
        let condition = up.node.condition();
        if let Some(why) = condition.failure.clone() {
            self.record.tell(What::Unsound { node, why });
        }
        let gone = self.machines.values().filter(|machine| machine.gone).count() as u64;
        let backlog = Backlog {
            links_down: (condition.unreachable.len() as u64).saturating_sub(gone),
            hints: condition.hints,
            intents: up.node.hints().counters().intents,
            batches: up.node.open_batches(),
            requests: condition.in_flight.0 as u64,
            differing: up.node.differing_vnodes(),
            unsound: if gone == 0 { condition.lost.vnodes as u64 } else { 0 },
        };
        self.record.tell(What::BacklogSeen { node, backlog });
    }
}
