//! The verdict over a run: what its scenario asks for, all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_types::NodeId;

use super::{Checks, Report, Vacuous};
use crate::fault::{Fault, NodeFault};
use crate::history::{Final, Observation, Setting};
use crate::run::{Checked, Verdict, Violation};
use crate::scenario::{InvariantName, Scenario};
use crate::schedule::Schedule;

/// Judges a run by every invariant that its scenario names.
#[derive(Debug)]
pub struct Invariants {
    checks: Checks,
    /// Unless nobody wants to know.
    vacuous: Option<Vacuous>,
    /// Nodes that leave for good: nobody asks what they have.
    left: Vec<NodeId>,
}

impl Invariants {
    /// The judge of a run.
    #[must_use]
    pub fn new(scenario: &Scenario, schedule: &Schedule, setting: &Setting) -> Self {
        let left = |fault: &Fault| match fault {
            Fault::Node { node, what: NodeFault::Leave {} } => Some(*node),
            Fault::Node { .. } | Fault::Ways { .. } => None,
        };
        let by_chance = scenario.nemesis.is_some();
        let vacuous = scenario.checks(InvariantName::Vacuous).then(|| Vacuous::new(by_chance));
        let wanted = |name: &str| named(name).is_some_and(|name| scenario.checks(name));
        Self {
            checks: Checks::new(Arc::new(setting.clone()), wanted),
            vacuous,
            left: schedule.planned().iter().filter_map(|planned| left(&planned.fault)).collect(),
        }
    }

    /// Takes note of something that happened.
    pub fn observe(&mut self, told: &Observation) {
        self.checks.observe(told);
        if let Some(vacuous) = &mut self.vacuous {
            vacuous.observe(told);
        }
    }

    /// The verdict, and what it rests on, when everything had its time to heal.
    pub fn judge(&mut self, end: &Final) -> (Verdict, BTreeMap<InvariantName, Checked>) {
        let mut verdict = Verdict::Pass;
        let mut all: BTreeMap<InvariantName, Checked> = BTreeMap::new();
        for (name, result) in self.results(end) {
            match result {
                Ok(report) => {
                    let checked = all.entry(name).or_default();
                    checked.times += report.checked;
                    checked.excused += report.excused.values().sum::<u64>();
                }
                Err(violation) if verdict == Verdict::Pass => verdict = Verdict::Fail(violation),
                Err(_) => {}
            }
        }
        if let Some(vacuous) = &self.vacuous {
            all.entry(InvariantName::Vacuous).or_default().times = vacuous.succeeded();
            if let (Verdict::Pass, Some(why)) = (&verdict, vacuous.why()) {
                verdict = Verdict::Unknown(why);
            }
        }
        (verdict, all)
    }

    /// What each invariant says of the run. A second call has nothing to say.
    pub fn results(&mut self, end: &Final) -> Vec<(InvariantName, Result<Report, Violation>)> {
        let mut end = end.clone();
        end.replicas.retain(|node, _| !self.left.contains(node));
        let results = self.checks.finish(&end).into_iter();
        let in_words = |violation: super::Violation, invariant| Violation {
            invariant,
            key: violation.key,
            at: violation.at,
            what: violation.to_string(),
        };
        results
            .filter_map(|(name, result)| {
                let name = named(name)?;
                Some((name, result.map_err(|violation| in_words(violation, name))))
            })
            .collect()
    }
}

fn named(name: &str) -> Option<InvariantName> {
    InvariantName::EVERY.into_iter().find(|one| one.name() == name)
}
