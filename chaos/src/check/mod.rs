//! What must hold in a simulated world: one file per invariant, each with the property, its source,
//! and what it excuses.
//!
//! An invariant watches a run and judges at its end, when everything is known that anybody saw.
//! Excuses are where such checks rot, so each is counted ([`Report::excused`]).
//!
//! Knows: histories, and what `docs/consistency.md` and `docs/causality.md` promise.
//! Must not know: how the world runs, or how replicas decide.

mod acknowledged;
mod answers;
mod batches;
mod convergence;
mod counters;
mod deletes;
mod hints;
mod judge;
mod liveness;
mod reads;
mod regular;
mod sessions;
mod siblings;
#[cfg(test)]
mod tests;
mod vacuous;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::history::{Final, Key, Observation, Oracle, Setting, WriteName};
use crate::sim::Micros;

pub use acknowledged::Acknowledged;
pub use answers::Answers;
pub use batches::Batches;
pub use convergence::Convergence;
pub use counters::Counters;
pub use deletes::Deletes;
pub use hints::Hints;
pub use judge::Invariants;
pub use liveness::Liveness;
pub use regular::{Monotonic, Regular, Scope};
pub use sessions::Sessions;
pub use siblings::Siblings;
pub use vacuous::Vacuous;

/// Something that must hold in every run.
pub trait Invariant: fmt::Debug {
    /// Its name in scenarios.
    fn name(&self) -> &'static str;

    /// Takes note of something that happened.
    fn observe(&mut self, observation: &Observation);

    /// Judges, when everything is known.
    ///
    /// # Errors
    /// It did not hold.
    fn finish(&mut self, oracle: &Oracle, end: &Final) -> Result<Report, Violation>;
}

/// What an invariant that held has looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many things were checked.
    pub checked: u64,
    /// How many of them were excused, by excuse.
    pub excused: BTreeMap<&'static str, u64>,
}

impl Report {
    fn excuse(&mut self, why: &'static str) {
        *self.excused.entry(why).or_default() += 1;
    }
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {property}: {what}{}{}", at_key(key), named(writes))]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// Which of its clauses.
    pub property: &'static str,
    /// Of which key.
    pub key: Option<Key>,
    /// The writes concerned.
    pub writes: Vec<WriteName>,
    /// When it showed.
    pub at: Micros,
    /// What happened.
    pub what: String,
}

fn at_key(key: &Option<Key>) -> String {
    key.map(|key| format!("; {key}")).unwrap_or_default()
}

fn named(writes: &[WriteName]) -> String {
    writes.iter().map(|write| format!("; {write}")).collect()
}

/// Several invariants over one run.
#[derive(Debug)]
pub struct Checks {
    oracle: Oracle,
    invariants: Vec<Box<dyn Invariant>>,
}

impl Checks {
    /// All that there are, for which `wanted` is true of the name.
    #[must_use]
    pub fn new(setting: Arc<Setting>, wanted: impl Fn(&str) -> bool) -> Self {
        let all: Vec<Box<dyn Invariant>> = vec![
            Box::new(Acknowledged),
            Box::new(Convergence::default()),
            Box::new(Siblings),
            Box::new(Deletes::default()),
            Box::new(Answers::default()),
            Box::new(Batches),
            Box::new(Liveness::default()),
            Box::new(Regular::new(Scope::Everywhere)),
            Box::new(Monotonic::new(Scope::Everywhere)),
            Box::new(Regular::new(Scope::Datacenter)),
            Box::new(Monotonic::new(Scope::Datacenter)),
            Box::new(Hints::default()),
            Box::new(Counters::default()),
            Box::new(Sessions::default()),
        ];
        let invariants = all.into_iter().filter(|one| wanted(one.name())).collect();
        Self { oracle: Oracle::new(setting), invariants }
    }

    /// Takes note of something that happened.
    pub fn observe(&mut self, observation: &Observation) {
        self.oracle.observe(observation);
        for invariant in &mut self.invariants {
            invariant.observe(observation);
        }
    }

    /// Judges: each invariant's report, or how it did not hold.
    pub fn finish(&mut self, end: &Final) -> Vec<(&'static str, Result<Report, Violation>)> {
        self.oracle.end(end);
        let oracle = &self.oracle;
        self.invariants.iter_mut().map(|one| (one.name(), one.finish(oracle, end))).collect()
    }
}
