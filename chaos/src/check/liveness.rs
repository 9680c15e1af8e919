//! After the faults everything works again.
//!
//! Property: from the time that the scenario allows for healing after the last fault, (a) every
//! request succeeds, at every level; (b) no node has anything left to do; (c) every node is sound.

use std::collections::{BTreeMap, BTreeSet};

use meridian_types::NodeId;

use super::{Invariant, Report, Violation};
use crate::history::{Answer, Attempt, Backlog, Final, Observation, Oracle, What, WriteAnswer};
use crate::sim::Micros;

const NAME: &str = "liveness";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    over: Option<Micros>,
    backlogs: BTreeMap<NodeId, (Micros, Backlog)>,
    /// What nodes that do not start or are not sound said last.
    said: BTreeMap<NodeId, String>,
    asked: BTreeMap<Attempt, Micros>,
    failed: BTreeSet<Attempt>,
}

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, observation: &Observation) {
        match &observation.what {
            What::FaultsOver => self.over = Some(observation.at),
            What::BacklogSeen { node, backlog } => {
                self.backlogs.insert(*node, (observation.at, *backlog));
            }
            What::StartRefused { node, why } | What::Unsound { node, why } => {
                self.said.insert(*node, why.clone());
            }
            What::Started { node, .. } => drop(self.said.remove(node)),
            What::Invoked(asked) if self.over.is_some() => {
                self.asked.insert(asked.attempt, observation.at);
            }
            What::Returned { attempt, answer }
                if self.asked.contains_key(attempt) && has_failed(answer) =>
            {
                self.failed.insert(*attempt);
            }
            What::Abandoned { attempt } if self.asked.contains_key(attempt) => {
                self.failed.insert(*attempt);
            }
            _ => {}
        }
    }

    fn finish(&mut self, oracle: &Oracle, end: &Final) -> Result<Report, Violation> {
        let violation = |property, at, what| Violation {
            invariant: NAME,
            property,
            key: None,
            writes: Vec::new(),
            at,
            what,
        };
        let Some(healed) = self.over.map(|over| over + oracle.setting().heal) else {
            return Ok(Report::default());
        };
        // First, because what others have left to do follows from it.
        if end.at >= healed
            && let Some((node, _)) = end.replicas.iter().find(|(_, replica)| !replica.sound)
        {
            let why = self.said.get(node).map_or("", String::as_str);
            return Err(violation("every node is sound", end.at, format!("{node} is not: {why}")));
        }
        let late = self.failed.iter().find(|attempt| self.asked[attempt] >= healed);
        if let Some(attempt) = late {
            let what = format!("{} failed", attempt.op);
            return Err(violation("every request succeeds", self.asked[attempt], what));
        }
        for (node, (at, backlog)) in &self.backlogs {
            // Requests under way are no sign: replicas never stop comparing their clocks.
            let left = Backlog { requests: 0, ..*backlog };
            if *at >= healed && !left.is_empty() {
                let what = format!("{node} still has {backlog:?}");
                return Err(violation("nothing is left to do", *at, what));
            }
        }
        let checked = self.asked.len() + self.backlogs.len() + end.replicas.len();
        Ok(Report { checked: checked as u64, ..Report::default() })
    }
}

fn has_failed(answer: &Answer) -> bool {
    match answer {
        Answer::Failed(_) => true,
        Answer::Written(all) => all.iter().any(|one| matches!(one, WriteAnswer::Failed(_))),
        Answer::Read(all) => all.iter().any(|one| one.result.is_err()),
    }
}
