//! What was written, who has it, and what a reader of some replicas must see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_crdt::{Delta, Dot, Entry, VnodeClock};
use meridian_types::Hlc;

use super::super::*;
use crate::testing::{Cluster, Dice, delta, dot};

/// A replica of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) row: Row,
    pub(super) clock: VnodeClock,
}

impl Replica {
    fn apply(&mut self, policy: ConflictPolicy, delta: &Delta) {
        if self.clock.insert(delta.entry.dot) {
            self.row.apply(policy, delta.clone());
            self.row.strip(&self.clock);
        }
    }

    pub(super) fn join(&mut self, policy: ConflictPolicy, version: &Row, coverage: &Context) {
        self.row.join_answer(policy, &mut self.clock, version, coverage);
    }

    pub(super) fn version(&self) -> RowVersion {
        RowVersion { row: self.row.clone(), clock: Arc::new(self.clock.clone()) }
    }
}

/// What was written, and who has it.
#[derive(Clone)]
pub(super) struct History {
    pub(super) policy: ConflictPolicy,
    writes: BTreeMap<Dot, Delta>,
    pub(super) replicas: BTreeMap<NodeId, Replica>,
    /// Who had each write when it was acknowledged.
    pub(super) acked: BTreeMap<Dot, BTreeSet<NodeId>>,
}

impl History {
    pub(super) fn random(cluster: &Cluster, policy: ConflictPolicy, dice: &mut Dice) -> Self {
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
            write.entry.stamp = Hlc(number as u64 + 1);
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

    /// What a session may have seen of these writes.
    pub(super) fn seen_by_somebody(&self, dice: &mut Dice) -> Context {
        self.writes.keys().copied().filter(|_| dice.below(2) == 0).collect()
    }

    pub(super) fn replica(&mut self, node: NodeId) -> &mut Replica {
        self.replicas.get_mut(&node).unwrap()
    }

    /// What a reader of these replicas must see: of the writes that any of them has, those that
    /// no other of these writes has seen; or the newest.
    pub(super) fn expected(&self, nodes: &BTreeSet<NodeId>) -> Vec<Entry> {
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
