//! What was deleted does not come back.
//!
//! Property (crdt model, check D; rules 4, 8, 10, 12): a sound replica whose clock has a delete's dot
//! does not show what the delete covers, on an LWW table nothing with a lower (stamp, dot): at every
//! sample, and in the end, whatever was late, restored or collected.
//!
//! Excused: a delete that was lost when nobody else had it (rule 10).

use std::sync::Arc;

use meridian_crdt::{Dot, VnodeClock};
use meridian_types::{ConflictPolicy, Millis, NodeId};

use super::convergence::shown;
use super::{Invariant, Report, Violation};
use crate::history::{Final, Key, Mint, Observation, Oracle, Sure, VnodeState, What};
use crate::sim::Micros;

const NAME: &str = "deletes";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Deletes {
    views: Vec<View>,
}

/// What one replica showed of one key.
#[derive(Clone, Debug)]
struct View {
    at: Micros,
    node: NodeId,
    key: Key,
    clock: Arc<VnodeClock>,
    dots: Vec<Dot>,
}

impl Deletes {
    fn view(&mut self, at: Micros, wall: Millis, node: NodeId, vnode: &VnodeState) {
        for (key, row) in &vnode.rows {
            let dots: Vec<Dot> = shown(Some(row), wall).into_iter().collect();
            if !dots.is_empty() {
                let clock = Arc::clone(&vnode.clock);
                self.views.push(View { at, node, key: *key, clock, dots });
            }
        }
    }
}

impl Invariant for Deletes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, observation: &Observation) {
        let What::Sampled(sample) = &observation.what else { return };
        for (node, vnode) in sample.vnodes.values().flatten() {
            self.view(observation.at, sample.wall, *node, vnode);
        }
    }

    fn finish(&mut self, oracle: &Oracle, end: &Final) -> Result<Report, Violation> {
        for (node, replica) in end.replicas.iter().filter(|(_, replica)| replica.sound) {
            for vnode in replica.vnodes.values() {
                self.view(end.at, end.wall, *node, vnode);
            }
        }
        let mut report = Report::default();
        for View { at, node, key, clock, dots } in &self.views {
            let is_lww = oracle.setting().policy(*key) == ConflictPolicy::Lww;
            let known: Vec<&Mint> = oracle
                .mints_of(*key)
                .filter(|mint| clock.contains(mint.dot) && is_delete(oracle, mint))
                .collect();
            for dot in dots {
                report.checked += 1;
                let shown = oracle.mint(*key, *dot);
                let undone = known.iter().find(|delete| match is_lww {
                    true => shown.is_some_and(|m| (m.stamp, m.dot) < (delete.stamp, delete.dot)),
                    false => oracle.covers(delete, *dot) == Sure::Yes,
                });
                let Some(delete) = undone else { continue };
                if oracle.is_fragile(*key, delete.dot) {
                    report.excuse("the delete was lost when nobody else had it");
                    continue;
                }
                return Err(Violation {
                    invariant: NAME,
                    property: "what a delete covered does not come back",
                    key: Some(*key),
                    writes: shown.and_then(|m| m.write).into_iter().chain(delete.write).collect(),
                    at: *at,
                    what: format!("{node} knows the delete {} and shows {dot}", delete.dot),
                });
            }
        }
        Ok(report)
    }
}

fn is_delete(oracle: &Oracle, mint: &Mint) -> bool {
    mint.write.and_then(|name| oracle.write(name)).is_some_and(|write| write.is_delete())
}
