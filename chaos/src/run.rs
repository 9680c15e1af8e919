//! What is run, and what comes of it: a scenario with a seed, perhaps with parts left out, and a
//! verdict.
//!
//! Knows: how to leave out faults, clients and time so that everything else stays as it was. Must not
//! know: how a world is simulated, or how an invariant is checked.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::scenario::{InvariantName, Scenario, ScenarioError};
use crate::schedule::{Kept, Schedule};
use crate::sim::Micros;

/// One history: a scenario, a seed, and what is left out of them.
#[derive(Clone, Debug)]
pub struct Case {
    /// The scenario, whole.
    pub scenario: Arc<Scenario>,
    /// How the command line names it: a shipped scenario's name or the path of a file.
    pub named: Arc<str>,
    /// The seed.
    pub seed: u64,
    /// The faults that happen; nothing said is all of them.
    pub kept: Option<Kept>,
    /// How many of the clients work; nothing said is all of them.
    pub clients: Option<u32>,
    /// When clients stop and no fault begins any more; nothing said is the scenario's time.
    pub until: Option<Micros>,
}

impl Case {
    /// All of a scenario and a seed.
    #[must_use]
    pub fn whole(scenario: Arc<Scenario>, named: &str, seed: u64) -> Self {
        Self { scenario, named: named.into(), seed, kept: None, clients: None, until: None }
    }

    /// The scenario without what is left out. Its faults are those of [`Self::schedule`] alone.
    #[must_use]
    pub fn reduced(&self) -> Scenario {
        let mut scenario = (*self.scenario).clone();
        if let Some(clients) = self.clients {
            scenario.workload.clients = scenario.workload.clients.min(clients);
        }
        scenario.sim = self.end();
        scenario
    }

    /// When clients stop and the healing begins.
    #[must_use]
    pub fn end(&self) -> Micros {
        self.until.map_or(self.scenario.sim, |until| until.min(self.scenario.sim))
    }

    /// The faults that happen. They are drawn from the whole scenario, so that each is what it was
    /// before anything was left out.
    ///
    /// # Errors
    /// A line of the timeline names a place that the shape does not have.
    pub fn schedule(&self) -> Result<Schedule, ScenarioError> {
        Ok(Schedule::drawn(&self.scenario, self.seed)?.only(self.kept.as_ref(), self.end()))
    }

    /// The command that runs this history again.
    #[must_use]
    pub fn replay(&self) -> String {
        let mut command =
            format!("meridian chaos sim --scenario {} --seeds {}", self.named, self.seed);
        if let Some(kept) = &self.kept {
            command.push_str(&format!(" --faults {kept}"));
        }
        if let Some(clients) = self.clients {
            command.push_str(&format!(" --clients {clients}"));
        }
        if let Some(until) = self.until {
            command.push_str(&format!(" --until {until}"));
        }
        command
    }
}

/// What is known of an invariant after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was to hold held.
    Pass,
    /// Something did not hold.
    Fail(Violation),
    /// Nothing can be said: too little happened, or the run broke off. Says why.
    Unknown(String),
}

/// Something that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub invariant: InvariantName,
    /// The key concerned, if it is one key.
    pub key: Option<crate::history::Key>,
    /// When it became visible.
    pub at: Micros,
    /// Who did and saw what, in lines.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold at {}: {}", self.invariant, self.at, self.what)
    }
}

/// How often something was checked, and how often it was excused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Checked, excused ones included.
    pub times: u64,
    /// Not held against the system, because a fault took what the promise rests on.
    pub excused: u64,
}

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// What was checked, by invariant.
    pub checked: BTreeMap<InvariantName, Checked>,
    /// The trace's hash: two runs that did the same have the same.
    pub trace_hash: u64,
    /// The last lines of the trace, of a run that failed.
    pub last_lines: Vec<String>,
}

/// Seeds of a command line: `4711`, or `1..1000` with both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// A text that names no seeds. Nothing was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no seeds; it must be a number, or like 1..1000")]
pub struct SeedsError {
    text: String,
}

impl Seeds {
    /// How many they are.
    #[must_use]
    pub fn count(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

impl FromStr for Seeds {
    type Err = SeedsError;

    fn from_str(text: &str) -> Result<Self, SeedsError> {
        let number = |part: &str| part.parse::<u64>().ok();
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let seeds = number(first).zip(number(last)).map(|(first, last)| Self { first, last });
        seeds
            .filter(|seeds| seeds.first <= seeds.last)
            .ok_or_else(|| SeedsError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    fn mixed(seed: u64) -> Case {
        Case::whole(Arc::new(scenario::named("mixed").unwrap()), "mixed", seed)
    }

    #[test]
    fn what_is_left_out_leaves_the_rest_as_it_was() {
        let whole = mixed(3);
        let all = whole.schedule().unwrap();
        let fewer = Case {
            kept: Some("1,2".parse().unwrap()),
            clients: Some(2),
            until: Some(Micros::from_secs(12)),
            ..whole.clone()
        };
        let planned = fewer.schedule().unwrap();
        for planned in planned.planned() {
            let before = all.planned().iter().find(|other| other.id == planned.id).unwrap();
            assert_eq!((planned.at, &planned.fault), (before.at, &before.fault));
        }
        let reduced = fewer.reduced();
        assert_eq!((reduced.workload.clients, reduced.sim), (2, Micros::from_secs(12)));
        assert_eq!(whole.reduced(), *whole.scenario);
        let more = Case { clients: Some(100), until: Some(Micros::from_secs(100)), ..whole };
        assert_eq!(more.reduced(), *more.scenario);
    }

    #[test]
    fn the_command_names_everything_that_was_left_out() {
        let whole = mixed(4711);
        assert_eq!(whole.replay(), "meridian chaos sim --scenario mixed --seeds 4711");
        let less = Case {
            kept: Some("3,17:500ms".parse().unwrap()),
            clients: Some(2),
            until: Some(Micros::from_secs(12)),
            ..whole
        };
        assert_eq!(
            less.replay(),
            "meridian chaos sim --scenario mixed --seeds 4711 --faults 3,17:500ms --clients 2 \
             --until 12s"
        );
    }

    #[test]
    fn seeds_are_a_number_or_a_range_with_both_ends() {
        assert_eq!("7".parse(), Ok(Seeds { first: 7, last: 7 }));
        let thousand: Seeds = "1..1000".parse().unwrap();
        assert_eq!(thousand.count(), 1_000);
        for text in ["", "..", "3..2", "a", "1..", "1...2", "-1"] {
            assert!(text.parse::<Seeds>().is_err(), "{text}");
        }
    }
}
