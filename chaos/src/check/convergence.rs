//! Replicas become equal.
//!
//! Property (crdt model, check C): (a) in the end all sound replicas of a vnode show the same of
//! every key, at one time; (b) whenever two sound replicas have equal clocks, they do.
//!
//! Excused: a difference in what was overwritten by a write that was lost when nobody else had it
//! (rule 10: verification closes that gap).

use std::collections::{BTreeMap, BTreeSet};

use meridian_crdt::{Dot, Row};
use meridian_types::{KeyspaceId, Millis, NodeId, VnodeId};

use super::{Invariant, Report, Violation};
use crate::history::{Final, Key, Observation, Oracle, VnodeState, What};
use crate::sim::Micros;

const NAME: &str = "convergence";

/// Differences that are kept until it is known whether they are excused.
const MAX_KEPT: usize = 1_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Convergence {
    compared: u64,
    differ: Vec<Difference>,
}

#[derive(Clone, Debug)]
struct Difference {
    at: Micros,
    property: &'static str,
    key: Key,
    nodes: (NodeId, NodeId),
    dots: BTreeSet<Dot>,
}

/// The dots that a reader at `wall` sees.
pub(super) fn shown(row: Option<&Row>, wall: Millis) -> BTreeSet<Dot> {
    let entries = row.into_iter().flat_map(Row::entries);
    entries.filter(|entry| entry.is_visible(wall)).map(|entry| entry.dot).collect()
}

impl Convergence {
    fn compare(
        &mut self,
        (at, wall): (Micros, Millis),
        one: (NodeId, &VnodeState),
        other: (NodeId, &VnodeState),
        property: &'static str,
    ) {
        let keys: BTreeSet<Key> = one.1.rows.keys().chain(other.1.rows.keys()).copied().collect();
        for key in keys {
            self.compared += 1;
            let of = |vnode: &VnodeState| shown(vnode.rows.get(&key), wall);
            let dots: BTreeSet<Dot> =
                of(one.1).symmetric_difference(&of(other.1)).copied().collect();
            if !dots.is_empty() && self.differ.len() < MAX_KEPT {
                self.differ.push(Difference { at, property, key, nodes: (one.0, other.0), dots });
            }
        }
    }
}

impl Invariant for Convergence {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, observation: &Observation) {
        let What::Sampled(sample) = &observation.what else { return };
        for replicas in sample.vnodes.values() {
            for (one, other) in pairs(replicas.iter()) {
                if one.1.clock == other.1.clock {
                    let time = (observation.at, sample.wall);
                    let property = "equal clocks mean equal rows";
                    self.compare(time, (*one.0, one.1), (*other.0, other.1), property);
                }
            }
        }
    }

    fn finish(&mut self, oracle: &Oracle, end: &Final) -> Result<Report, Violation> {
        let mut by_vnode: BTreeMap<(KeyspaceId, VnodeId), Vec<(NodeId, &VnodeState)>> =
            BTreeMap::new();
        for (node, replica) in end.replicas.iter().filter(|(_, replica)| replica.sound) {
            for (place, vnode) in &replica.vnodes {
                by_vnode.entry(*place).or_default().push((*node, vnode));
            }
        }
        for replicas in by_vnode.values() {
            for (one, other) in pairs(replicas.iter()) {
                let property = "all sound replicas are equal in the end";
                self.compare((end.at, end.wall), *one, *other, property);
            }
        }
        let mut report = Report { checked: self.compared, ..Report::default() };
        for difference in &self.differ {
            let Difference { at, property, key, nodes, dots } = difference;
            if dots.iter().all(|dot| only_the_lost_knew(oracle, *key, *dot)) {
                report.excuse("what overwrote it was lost when nobody else had it");
                continue;
            }
            return Err(Violation {
                invariant: NAME,
                property,
                key: Some(*key),
                writes: dots.iter().filter_map(|d| oracle.mint(*key, *d)?.write).collect(),
                at: *at,
                what: format!("{} and {} differ", nodes.0, nodes.1),
            });
        }
        Ok(report)
    }
}

/// Whether a value was overwritten, and only by writes that were lost when nobody else had them.
pub(super) fn only_the_lost_knew(oracle: &Oracle, key: Key, dot: Dot) -> bool {
    let mut by = oracle
        .mints_of(key)
        .filter(|mint| oracle.covers(mint, dot) > crate::history::Sure::No)
        .peekable();
    by.peek().is_some() && by.all(|mint| oracle.is_fragile(key, mint.dot))
}

fn pairs<T: Copy>(items: impl Iterator<Item = T> + Clone) -> impl Iterator<Item = (T, T)> {
    let later = items.clone();
    items.enumerate().flat_map(move |(n, one)| later.clone().skip(n + 1).map(move |o| (one, o)))
}
