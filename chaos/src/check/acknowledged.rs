//! No acknowledged write is lost.
//!
//! Property (`docs/consistency.md`, *what survives what*): (a) a write that was acknowledged at a
//! level is known to a sound replica in the end; whether it shows is `siblings`' business. (b) A
//! crash takes nothing back that the replica had told anybody of: with the policy `always`, nothing
//! at all; with a period, nothing that is older than the period.
//!
//! Excused: a write that as many nodes lost as its level had waited for, each in a way that the sync
//! policy allows or by what was done to its disk; and a write at ONE that was replaced at its one
//! replica before anybody else heard of it, so that nobody saw which it was.

use super::{Invariant, Report, Violation};
use crate::history::{Final, Need, Observation, Oracle, VnodeDot, Write};

const NAME: &str = "acknowledged";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acknowledged;

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, _: &Observation) {}

    fn finish(&mut self, oracle: &Oracle, _: &Final) -> Result<Report, Violation> {
        let mut report = Report::default();
        for write in oracle.writes() {
            no_crash_took_it_back(oracle, write, &mut report)?;
            is_known_in_the_end(oracle, write, &mut report)?;
        }
        Ok(report)
    }
}

fn is_known_in_the_end(
    oracle: &Oracle,
    write: &Write,
    report: &mut Report,
) -> Result<(), Violation> {
    let Some((ack, at, _)) = write.acked() else { return Ok(()) };
    report.checked += 1;
    if write.dots.iter().any(|dot| oracle.is_alive(write.key, *dot)) {
        return Ok(());
    }
    if oracle.write_may_be_lost(write) {
        report.excuse("all that had it lost it");
        return Ok(());
    }
    let by_dc = oracle.setting().replicas_by_dc(write.key);
    if write.dots.is_empty() && Need::of(ack.level, ack.dc, &by_dc).total == 1 {
        report.excuse("nobody saw its dot");
        return Ok(());
    }
    Err(Violation {
        invariant: NAME,
        property: "an acknowledged write is kept",
        key: Some(write.key),
        writes: vec![write.name],
        at,
        what: format!("acknowledged at {} by {}, no sound replica knows it", ack.level, ack.node),
    })
}

fn no_crash_took_it_back(
    oracle: &Oracle,
    write: &Write,
    report: &mut Report,
) -> Result<(), Violation> {
    for dot in &write.dots {
        let place: Option<VnodeDot> = oracle.place(write.key, *dot);
        for loss in place.into_iter().flat_map(|place| oracle.losses_of(place)) {
            report.checked += 1;
            if !oracle.is_permitted(loss, write.key, *dot) {
                return Err(Violation {
                    invariant: NAME,
                    property: "a crash takes back nothing that was told and synced",
                    key: Some(write.key),
                    writes: vec![write.name],
                    at: loss.since,
                    what: format!("{} lost {dot} in a crash", loss.node),
                });
            }
        }
    }
    Ok(())
}
