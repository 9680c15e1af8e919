//! What goes wrong in a run, and when: drawn from the seed, all of it before the run begins, so that
//! leaving one fault out shifts no chance of anything else.
//!
//! Knows: scenarios, faults, the budget that chance must keep. Must not know: how a fault is done.

mod budget;
mod nemesis;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use meridian_topology::Topology;

use crate::fault::{Edge, Fault, Ways};
use crate::history::FaultId;
use crate::scenario::{FaultKind, FaultLine, Ranks, Scenario, ScenarioError};
use crate::sim::{Draw, Micros, Purpose, Streams};

/// A fault with its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its place in the whole schedule of the scenario and the seed, from 1; it keeps it when others
    /// are left out.
    pub id: FaultId,
    /// When it begins.
    pub at: Micros,
    /// When it ends: not before it begins, and not after the scenario's time.
    pub until: Micros,
    /// What happens.
    pub fault: Fault,
    /// Chance of its own, for what is not said: which bit rots, which page is torn.
    pub chance: u64,
}

/// What goes wrong in a run, in the order in which it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    planned: Vec<Planned>,
}

/// Which faults of a schedule happen, and how long they last at most: `3,17:500ms`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept(BTreeMap<FaultId, Option<Micros>>);

/// A text that does not say which faults to keep. Nothing was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no faults; it must be like `3,17:500ms`: numbers, each with the longest time that it may last if less than planned; or `none`"
)]
pub struct KeptError {
    text: String,
}

/// What keeps no fault at all.
const NONE: &str = "none";

impl Schedule {
    /// What goes wrong in the run of a seed.
    ///
    /// # Errors
    /// A line of the timeline names a place that the shape does not have.
    pub fn drawn(scenario: &Scenario, seed: u64) -> Result<Self, ScenarioError> {
        let mut draw = Streams::new(seed).draw(Purpose::Faults);
        let ranks = Ranks::drawn(scenario.shape.topology(), &mut draw);
        let mut planned = Vec::new();
        for line in &scenario.faults {
            drawn_line(line, scenario, &ranks, &mut draw, &mut planned)?;
        }
        if let Some(budget) = &scenario.nemesis {
            nemesis::draw(scenario, budget, &mut draw, &mut planned);
        }
        planned.sort_by_key(|planned| planned.at);
        for (planned, number) in planned.iter_mut().zip(1..) {
            planned.id = FaultId(number);
        }
        Ok(Self { planned })
    }

    /// The faults, in the order in which they begin.
    #[must_use]
    pub fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// Only some of the faults, and what of them is left where the time is over at `end`.
    #[must_use]
    pub fn only(&self, kept: Option<&Kept>, end: Micros) -> Self {
        let mut planned = self.planned.clone();
        planned.retain_mut(|planned| {
            let longest = match kept {
                None => Some(None),
                Some(Kept(kept)) => kept.get(&planned.id).copied(),
            };
            let Some(longest) = longest else { return false };
            if let Some(longest) = longest {
                planned.until = planned.until.min(planned.at + longest);
            }
            planned.until = planned.until.min(end);
            planned.at < end
        });
        Self { planned }
    }

    /// Every fault of this schedule and no other, with the windows that they have.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept(self.planned.iter().map(|planned| (planned.id, None)).collect())
    }

    /// Beginnings and ends in the order of their times; at one time first what ends.
    #[must_use]
    pub fn edges(&self) -> Vec<(Micros, Edge, &Planned)> {
        let begins = self.planned.iter().map(|planned| (planned.at, Edge::Begin, planned));
        let ends = self.planned.iter().map(|planned| (planned.until, Edge::End, planned));
        let mut edges: Vec<_> = begins.chain(ends).collect();
        // A fault without a length begins before it ends.
        edges.sort_by_key(|(at, edge, planned)| {
            (*at, *edge == Edge::Begin || planned.at == planned.until, planned.id, *edge)
        });
        edges
    }

    /// The faults, one a line, with the names that a topology has for its nodes.
    #[must_use]
    pub fn text(&self, topology: &Topology) -> String {
        let line = |planned: &Planned| {
            let Planned { id, at, until, fault, .. } = planned;
            let (at, until) = (at.to_string(), until.to_string());
            format!("{:>4}  {at:>8} .. {until:<8}  {}\n", id.0, fault.text(topology))
        };
        self.planned.iter().map(line).collect()
    }
}

impl Kept {
    /// The faults that are kept, and how long they last at most.
    pub fn faults(&self) -> impl Iterator<Item = (FaultId, Option<Micros>)> {
        self.0.iter().map(|(id, longest)| (*id, *longest))
    }
}

impl FromIterator<(FaultId, Option<Micros>)> for Kept {
    fn from_iter<I: IntoIterator<Item = (FaultId, Option<Micros>)>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(NONE);
        }
        for (at, (id, longest)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}", id.0)?;
            if let Some(longest) = longest {
                write!(f, ":{longest}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Kept {
    type Err = KeptError;

    fn from_str(text: &str) -> Result<Self, KeptError> {
        let wrong = || KeptError { text: text.to_owned() };
        if text == NONE {
            return Ok(Self::default());
        }
        let one = |part: &str| {
            let (number, longest) = match part.split_once(':') {
                Some((number, longest)) => {
                    (number, Some(longest.parse().map_err(|_error| wrong())?))
                }
                None => (part, None),
            };
            Ok((FaultId(number.parse().map_err(|_error| wrong())?), longest))
        };
        text.split(',').map(one).collect()
    }
}

/// What a line of the timeline comes to.
fn drawn_line(
    line: &FaultLine,
    scenario: &Scenario,
    ranks: &Ranks,
    draw: &mut Draw,
    planned: &mut Vec<Planned>,
) -> Result<(), ScenarioError> {
    let (from, to) = line.concerned(scenario, ranks)?;
    for time in 0..u64::from(line.times) {
        let at = line.at + Micros(line.every.0.saturating_mul(time));
        let at = at + Micros(draw.between(0, line.late.0));
        let until = (at + line.lasts).min(scenario.sim);
        let mut plan = |fault| {
            let chance = draw.bits();
            if at < scenario.sim {
                planned.push(Planned { id: FaultId(0), at, until, fault, chance });
            }
        };
        match &line.kind {
            FaultKind::Node(what) => {
                for &node in &from {
                    plan(Fault::Node { node, what: what.clone() });
                }
            }
            FaultKind::Ways(what) => {
                let ways = Ways { from: from.clone(), to: to.clone(), both: !line.one_way };
                plan(Fault::Ways { ways, what: what.clone() });
            }
        }
    }
    Ok(())
}
