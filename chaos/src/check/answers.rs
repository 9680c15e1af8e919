//! One answer to each request, and a true one.
//!
//! Property (`docs/consistency.md`, *when it does not work out*; Jepsen's success reported as
//! failure and the reverse): (a) nobody is answered twice; (b) `not_applied` means that no replica
//! ever has the write; (c) an acknowledgement means that as many replicas as the level waits for have
//! said that they have it, its leading replica counted; a hint is no replica; (d) what is read was
//! written by a client who had asked for it by then.

use std::collections::{BTreeMap, BTreeSet};

use meridian_types::{DcId, NodeId};

use super::reads::Reads;
use super::{Invariant, Report, Violation};
use crate::history::{
    Attempt, Final, Need, Observation, Oracle, Told, Try, What, Write, WriteName,
};
use crate::sim::Micros;

const NAME: &str = "answers";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    answered: BTreeSet<Attempt>,
    twice: Option<(Attempt, Micros)>,
    reads: Reads,
}

fn violation(property: &'static str, at: Micros, write: Option<&Write>, what: String) -> Violation {
    let writes: Vec<WriteName> = write.map(|write| write.name).into_iter().collect();
    let key = write.map(|write| write.key);
    Violation { invariant: NAME, property, key, writes, at, what }
}

impl Invariant for Answers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, observation: &Observation) {
        self.reads.observe(observation);
        if let What::Returned { attempt, .. } = &observation.what
            && !self.answered.insert(*attempt)
            && self.twice.is_none()
        {
            self.twice = Some((*attempt, observation.at));
        }
    }

    fn finish(&mut self, oracle: &Oracle, _: &Final) -> Result<Report, Violation> {
        if let Some((attempt, at)) = self.twice {
            return Err(violation(
                "one answer",
                at,
                None,
                format!("{} was answered twice", attempt.op),
            ));
        }
        let mut report = Report { checked: self.answered.len() as u64, ..Report::default() };
        for write in oracle.writes() {
            if !write.may_exist() && !write.dots.is_empty() {
                let what = "it was answered with not_applied, and replicas have it".to_owned();
                return Err(violation("not_applied is true", write.invoked(), Some(write), what));
            }
            for one in &write.tries {
                if let Some((at, Told::Done { .. })) = one.told {
                    enough_have_it(oracle, write, one, at, &mut report)?;
                }
            }
        }
        for read in self.reads.done() {
            let written = |(name, _): &&(WriteName, _)| {
                let write = oracle.write(*name);
                write.is_some_and(|w| w.key == read.key && w.invoked() <= read.returned)
            };
            if read.seen.foreign > 0 || !read.seen.values.iter().all(|value| written(&value)) {
                let what = format!("{} shows what nobody had written", read.attempt.op);
                return Err(violation("what is read was written", read.returned, None, what));
            }
        }
        Ok(report)
    }
}

fn enough_have_it(
    oracle: &Oracle,
    write: &Write,
    one: &Try,
    at: Micros,
    report: &mut Report,
) -> Result<(), Violation> {
    if !oracle.acks_are_told() || write.dots.is_empty() {
        report.excuse("nobody saw who had the write");
        return Ok(());
    }
    let mut holders: BTreeSet<NodeId> = BTreeSet::new();
    for mint in write.dots.iter().filter_map(|dot| oracle.mint(write.key, *dot)) {
        holders.insert(mint.dot.actor.node);
        let by_then = |acks: &[Micros]| acks.iter().any(|acked| *acked <= at);
        holders.extend(mint.acks.iter().filter(|(_, a)| by_then(a)).map(|(node, _)| *node));
    }
    let by_dc = oracle.setting().replicas_by_dc(write.key);
    let need = Need::of(one.level, one.dc, &by_dc);
    let mut have: BTreeMap<DcId, usize> = BTreeMap::new();
    for dc in holders.iter().filter_map(|node| oracle.setting().nodes.get(node)) {
        *have.entry(*dc).or_default() += 1;
    }
    let in_each = need.in_dc.iter().all(|(dc, n)| have.get(dc).is_some_and(|have| have >= n));
    if holders.len() >= need.total && in_each {
        return Ok(());
    }
    let what = format!("acknowledged at {}, and only {holders:?} had it", one.level);
    Err(violation("an acknowledgement is true", at, Some(write), what))
}
