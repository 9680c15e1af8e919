//! Every hint is accounted for.
//!
//! Property (design 6.3), per life of a node and target, whenever none of its hint work is under
//! way: found + stored = delivered + superseded + expired + dropped + damaged + pending.

use super::{Invariant, Report, Violation};
use crate::history::{Final, HintTally, Observation, Oracle, What};

const NAME: &str = "hints";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    checked: u64,
    wrong: Option<Violation>,
}

impl Invariant for Hints {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, observation: &Observation) {
        let What::HintsCounted { node, target, tally } = &observation.what else { return };
        self.checked += 1;
        let HintTally { found, stored, delivered, superseded, expired, dropped, .. } = tally;
        let ended = delivered + superseded + expired + dropped + tally.damaged;
        if found + stored != ended + tally.pending && self.wrong.is_none() {
            self.wrong = Some(Violation {
                invariant: NAME,
                property: "every hint is accounted for",
                key: None,
                writes: Vec::new(),
                at: observation.at,
                what: format!("{node} for {target}: {tally:?}"),
            });
        }
    }

    fn finish(&mut self, _: &Oracle, _: &Final) -> Result<Report, Violation> {
        self.wrong.take().map_or(Ok(Report { checked: self.checked, ..Report::default() }), Err)
    }
}
