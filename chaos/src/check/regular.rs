//! A read sees what was acknowledged before it, and reads do not go back.
//!
//! Properties (Lamport, *On interprocess communication*: a regular register, per key; crdt model,
//! check B; `docs/consistency.md`): (a) *regular*: a read that began after a write was acknowledged
//! shows it, or what replaced it, wherever their levels have a replica in common; (b) *monotonic*: a
//! read above ONE that began after another one ended shows what that one showed, or what replaced it,
//! wherever their levels have a replica in common, whoever read. *local* is both of these at
//! LOCAL_QUORUM within a datacenter, also while it is cut off.
//!
//! Excused: a write that all its holders have lost (`acknowledged` says when they may); values that
//! end by themselves; writes whose dot nobody ever saw.

use std::collections::BTreeMap;

use meridian_types::{ConsistencyLevel, DcId, Hlc};

use super::reads::{Read, Reads, Sight, sight};
use super::{Invariant, Report, Violation};
use crate::history::{Final, Key, Need, Observation, Oracle, WriteName, overlap};
use crate::sim::Micros;

/// Which levels are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All that have a replica in common, except those of the other scope.
    Everywhere,
    /// LOCAL_QUORUM with LOCAL_QUORUM in the same datacenter.
    Datacenter,
}

type Level = (ConsistencyLevel, DcId);

impl Scope {
    fn has(self, oracle: &Oracle, key: Key, one: Level, other: Level) -> bool {
        let local = one == other && one.0 == ConsistencyLevel::LocalQuorum;
        let by_dc = oracle.setting().replicas_by_dc(key);
        let need = |(level, dc)| Need::of(level, dc, &by_dc);
        local == (self == Self::Datacenter) && overlap(&need(one), &need(other), &by_dc)
    }

    fn name(self, everywhere: &'static str) -> &'static str {
        match self {
            Self::Everywhere => everywhere,
            Self::Datacenter => "local",
        }
    }
}

fn missed(
    invariant: &'static str,
    property: &'static str,
    read: &Read,
    write: WriteName,
    why: &str,
) -> Violation {
    Violation {
        invariant,
        property,
        key: Some(read.key),
        writes: vec![write],
        at: read.returned,
        what: format!("{} at {} in {}: {why}", read.attempt.op, read.level, read.dc),
    }
}

/// See the module, (a).
#[derive(Clone, Debug)]
pub struct Regular {
    scope: Scope,
    reads: Reads,
}

impl Regular {
    /// Of these levels.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, reads: Reads::default() }
    }
}

impl Invariant for Regular {
    fn name(&self) -> &'static str {
        self.scope.name("regular")
    }

    fn observe(&mut self, observation: &Observation) {
        self.reads.observe(observation);
    }

    fn finish(&mut self, oracle: &Oracle, _: &Final) -> Result<Report, Violation> {
        let mut report = Report::default();
        for read in self.reads.done() {
            for write in oracle.writes_of(read.key) {
                let Some((ack, at, stamp)) = write.acked() else { continue };
                let levels = ((ack.level, ack.dc), (read.level, read.dc));
                if at >= read.invoked || !self.scope.has(oracle, read.key, levels.0, levels.1) {
                    continue;
                }
                report.checked += 1;
                match sight(oracle, read, write, stamp) {
                    Sight::Seen => {}
                    Sight::Excused(why) => report.excuse(why),
                    Sight::Missed(_) if oracle.write_may_be_lost(write) => {
                        report.excuse("all that had it lost it");
                    }
                    Sight::Missed(why) => {
                        let property = "a read sees what was acknowledged before it";
                        return Err(missed(self.name(), property, read, write.name, &why));
                    }
                }
            }
        }
        Ok(report)
    }
}

/// See the module, (b).
#[derive(Clone, Debug)]
pub struct Monotonic {
    scope: Scope,
    reads: Reads,
}

impl Monotonic {
    /// Of these levels.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, reads: Reads::default() }
    }

    /// What was shown when first, at which level.
    fn shown(&self) -> BTreeMap<Key, BTreeMap<(WriteName, Hlc, Level), Micros>> {
        let mut shown: BTreeMap<Key, BTreeMap<_, Micros>> = BTreeMap::new();
        let repairing = self.reads.done().iter().filter(|read| {
            !matches!(read.level, ConsistencyLevel::One | ConsistencyLevel::LocalOne)
        });
        for read in repairing {
            for (write, stamp) in &read.seen.values {
                let of_key = shown.entry(read.key).or_default();
                let what = (*write, *stamp, (read.level, read.dc));
                let first = of_key.entry(what).or_insert(read.returned);
                *first = read.returned.min(*first);
            }
        }
        shown
    }
}

impl Invariant for Monotonic {
    fn name(&self) -> &'static str {
        self.scope.name("monotonic")
    }

    fn observe(&mut self, observation: &Observation) {
        self.reads.observe(observation);
    }

    fn finish(&mut self, oracle: &Oracle, _: &Final) -> Result<Report, Violation> {
        let mut report = Report::default();
        let shown = self.shown();
        for read in self.reads.done() {
            for ((name, stamp, level), at) in shown.get(&read.key).into_iter().flatten() {
                let Some(write) = oracle.write(*name) else { continue };
                let here = (read.level, read.dc);
                if *at >= read.invoked || !self.scope.has(oracle, read.key, *level, here) {
                    continue;
                }
                report.checked += 1;
                let by_dc = oracle.setting().replicas_by_dc(read.key);
                let holders = Need::of(level.0, level.1, &by_dc).total;
                let mut dots = write.dots.iter();
                match sight(oracle, read, write, *stamp) {
                    Sight::Seen => {}
                    Sight::Excused(why) => report.excuse(why),
                    Sight::Missed(_)
                        if dots.any(|dot| oracle.may_be_lost(read.key, *dot, holders)) =>
                    {
                        report.excuse("all that had it lost it");
                    }
                    Sight::Missed(why) => {
                        let property = "a read shows what an earlier read showed";
                        return Err(missed(self.name(), property, read, *name, &why));
                    }
                }
            }
        }
        Ok(report)
    }
}
