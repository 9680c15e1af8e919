//! An atomic batch is written whole, or not at all.
//!
//! Property (`docs/consistency.md`, *atomic batches*; Jepsen's batch that is half applied): in the
//! end, of the writes of an atomic batch, sound replicas know all or none; and all of them if the
//! client was told that it succeeded. Whether a write still shows is `siblings`' business. In between a
//! reader may see some of them: atomic is not isolated.
//!
//! Excused: a batch one of whose writes disks lost (see `acknowledged`): what was on them is gone with
//! or without a batch around it.

use std::collections::BTreeMap;

use super::{Invariant, Report, Violation};
use crate::history::{Final, Observation, OpId, Oracle, Write};

const NAME: &str = "batches";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batches;

impl Invariant for Batches {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, _: &Observation) {}

    fn finish(&mut self, oracle: &Oracle, end: &Final) -> Result<Report, Violation> {
        let mut report = Report::default();
        let mut batches: BTreeMap<OpId, Vec<&Write>> = BTreeMap::new();
        for write in oracle.writes() {
            if let Some(batch) = write.batch {
                batches.entry(batch).or_default().push(write);
            }
        }
        for (batch, writes) in batches {
            report.checked += 1;
            let known =
                |write: &&&Write| write.dots.iter().any(|dot| oracle.is_alive(write.key, *dot));
            let missing: Vec<&Write> =
                writes.iter().filter(|write| !known(write)).copied().collect();
            let told = writes.iter().any(|write| write.acked().is_some());
            let property = match (missing.len() == writes.len(), told) {
                _ if missing.is_empty() => continue,
                (_, true) => "what was acknowledged is whole",
                (true, false) => continue,
                (false, false) => "all or nothing",
            };
            if missing.iter().all(|write| disks_may_have_lost(oracle, write)) {
                report.excuse("disks lost a part of it");
                continue;
            }
            return Err(Violation {
                invariant: NAME,
                property,
                key: missing.first().map(|write| write.key),
                writes: missing.iter().map(|write| write.name).collect(),
                at: end.at,
                what: format!("of {} writes of {batch} these are missing", writes.len()),
            });
        }
        Ok(report)
    }
}

fn disks_may_have_lost(oracle: &Oracle, write: &Write) -> bool {
    let gone = |dot| {
        let place = oracle.place(write.key, dot);
        place.is_some_and(|place| {
            oracle.losses().iter().any(|loss| {
                (loss.keyspace, loss.vnode) == (place.keyspace, place.vnode)
                    && loss.gone.contains(dot)
            })
        })
    };
    !write.dots.is_empty() && write.dots.iter().all(|dot| gone(*dot))
}
