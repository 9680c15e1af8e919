//! Every hint is accounted for.
//!
//! Property (design 6.3), per life of a node, whenever none of its hint work is under way:
//! (a) found + stored = delivered + superseded + expired + dropped + damaged + pending; (b) what
//! counts as delivered was taken by its target, which said so: so no hint is removed before.

use std::collections::BTreeMap;

use meridian_types::NodeId;

use super::{Invariant, Report, Violation};
use crate::history::{Final, HintTally, Observation, Oracle, What};
use crate::sim::Micros;

const NAME: &str = "hints";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    checked: u64,
    /// How many hints of its present life each node was told of that their targets took them.
    taken: BTreeMap<NodeId, u64>,
    wrong: Option<Violation>,
}

impl Hints {
    fn counted(&mut self, at: Micros, node: NodeId, target: NodeId, tally: &HintTally) {
        self.checked += 1;
        let HintTally { found, stored, delivered, superseded, expired, dropped, .. } = tally;
        let ended = delivered + superseded + expired + dropped + tally.damaged;
        let taken = self.taken.get(&node).copied().unwrap_or_default();
        let property = if found + stored != ended + tally.pending {
            "every hint is accounted for"
        } else if *delivered > taken {
            "a hint is removed after its target has it"
        } else {
            return;
        };
        self.wrong.get_or_insert_with(|| Violation {
            invariant: NAME,
            property,
            key: None,
            writes: Vec::new(),
            at,
            what: format!("{node} for {target}: {tally:?}, taken {taken}"),
        });
    }
}

impl Invariant for Hints {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, observation: &Observation) {
        match &observation.what {
            What::HintTaken { holder, known: false, .. } => {
                *self.taken.entry(*holder).or_default() += 1;
            }
            What::Started { node, .. } => drop(self.taken.remove(node)),
            What::HintsCounted { node, target, tally } => {
                self.counted(observation.at, *node, *target, tally);
            }
            _ => {}
        }
    }

    fn finish(&mut self, _: &Oracle, _: &Final) -> Result<Report, Violation> {
        self.wrong.take().map_or(Ok(Report { checked: self.checked, ..Report::default() }), Err)
    }
}
