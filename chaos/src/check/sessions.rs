//! A session is shown what it wrote and what it was shown, on whichever node it asks.
//!
//! Properties (Terry et al., *Session guarantees for weakly consistent replicated data*, 1994; here per
//! key and for the session itself, `docs/consistency.md`), at every level:
//! (a) *read your writes*: a read shows what the session wrote before, or what replaced it;
//! (b) *monotonic reads*: a read shows what an earlier one showed, or what replaced it, and nothing
//! that the earlier one had seen replaced;
//! (c) *monotonic writes*: what the session writes later wins over what it wrote before (LWW), and a
//! delete takes it away; (d) *writes follow reads*: the same of what it was shown before.
//!
//! A session that is behind gets an error, which is no answer: nothing is excused for what was lost.
//!
//! Excused: values that end by themselves; writes whose dot nobody saw; writes that were stored twice,
//! of whose dots the session was told one.

use std::collections::BTreeMap;

use meridian_types::{ConflictPolicy, Hlc};

use super::reads::{Read, Reads, Sight, sight};
use super::{Invariant, Report, Violation};
use crate::history::{
    Answer, Ask, Attempt, Final, Key, Observation, Oracle, SessionId, Sure, What, WriteAnswer,
    WriteName,
};
use crate::sim::Micros;

const NAME: &str = "sessions";

/// Of what a session did before with a key, how much a read or write is compared with. What goes
/// back further goes back behind these as well.
const LAST: usize = 16;

/// When, by which session, and what it wanted to write.
type Asked = (Micros, SessionId, Vec<(WriteName, Key)>);

/// A write of a session that was acknowledged.
#[derive(Clone, Debug)]
struct Wrote {
    name: WriteName,
    key: Key,
    invoked: Micros,
    returned: Micros,
    stamp: Hlc,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    reads: Reads,
    asked: BTreeMap<Attempt, Asked>,
    sessions: BTreeMap<Attempt, SessionId>,
    wrote: BTreeMap<(SessionId, Key), Vec<Wrote>>,
}

impl Sessions {
    fn written(&mut self, at: Micros, attempt: Attempt, answers: &[WriteAnswer]) {
        let Some((invoked, session, asked)) = self.asked.remove(&attempt) else { return };
        for ((name, key), answer) in asked.into_iter().zip(answers) {
            let WriteAnswer::Done { applied: true, stamp, .. } = answer else { continue };
            let (stamp, returned) = (*stamp, at);
            let wrote = Wrote { name, key, invoked, returned, stamp };
            self.wrote.entry((session, key)).or_default().push(wrote);
        }
    }

    /// The reads of each session and key, in the order of their answers.
    fn reads(&self) -> BTreeMap<(SessionId, Key), Vec<&Read>> {
        let mut of: BTreeMap<_, Vec<&Read>> = BTreeMap::new();
        for read in self.reads.done() {
            if let Some(session) = self.sessions.get(&read.attempt) {
                of.entry((*session, read.key)).or_default().push(read);
            }
        }
        of
    }
}

impl Invariant for Sessions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, observation: &Observation) {
        self.reads.observe(observation);
        match &observation.what {
            What::Invoked(asked) => {
                let Some(session) = asked.session else { return };
                self.sessions.insert(asked.attempt, session);
                let writes = match &asked.ask {
                    Ask::Write(write) => vec![(write.write, write.key)],
                    Ask::Batch { writes, .. } => writes.iter().map(|w| (w.write, w.key)).collect(),
                    Ask::Get(_) | Ask::MultiGet(_) | Ask::Scan { .. } => return,
                };
                self.asked.insert(asked.attempt, (observation.at, session, writes));
            }
            What::Returned { attempt, answer: Answer::Written(answers) } => {
                self.written(observation.at, *attempt, answers);
            }
            _ => {}
        }
    }

    fn finish(&mut self, oracle: &Oracle, _: &Final) -> Result<Report, Violation> {
        let mut report = Report::default();
        let reads = self.reads();
        for (of, reads) in &reads {
            let wrote = self.wrote.get(of).map_or(&[][..], Vec::as_slice);
            for (at, read) in reads.iter().enumerate() {
                let own =
                    wrote.iter().rev().filter(|wrote| wrote.returned < read.invoked).take(LAST);
                for wrote in own {
                    let known = (wrote.name, wrote.stamp);
                    shows(oracle, read, known, "a session reads its writes", &mut report)?;
                }
                let done = reads[..at].iter().rev().filter(|before| before.returned < read.invoked);
                for before in done.take(LAST) {
                    goes_on(oracle, before, read, &mut report)?;
                }
            }
            for later in wrote {
                follows_reads(oracle, later, reads, &mut report)?;
            }
        }
        for wrote in self.wrote.values() {
            for later in wrote {
                let earlier = |before: &&Wrote| before.returned < later.invoked;
                // A batch is tried again whole.
                let other = |before: &&Wrote| before.name != later.name;
                for before in wrote.iter().rev().filter(earlier).filter(other).take(LAST) {
                    let property = "writes of a session come one after the other";
                    comes_after(oracle, later, before.name, before.stamp, property, &mut report)?;
                }
            }
        }
        Ok(report)
    }
}

fn violation(
    property: &'static str,
    key: Key,
    writes: Vec<WriteName>,
    at: Micros,
    what: String,
) -> Violation {
    Violation { invariant: NAME, property, key: Some(key), writes, at, what }
}

/// The read shows a write that its session knows of, or what replaced it.
fn shows(
    oracle: &Oracle,
    read: &Read,
    (name, stamp): (WriteName, Hlc),
    property: &'static str,
    report: &mut Report,
) -> Result<(), Violation> {
    let Some(write) = oracle.write(name) else { return Ok(()) };
    report.checked += 1;
    if read.seen.values.iter().any(|(name, _)| *name == write.name) {
        return Ok(());
    }
    match sight(oracle, read, write, stamp) {
        Sight::Seen => {}
        Sight::Excused(why) => report.excuse(why),
        Sight::Missed(_) if write.dots.len() > 1 => report.excuse("the write was stored twice"),
        Sight::Missed(why) => {
            let what = format!("{} at {} in {}: {why}", read.attempt.op, read.level, read.dc);
            return Err(violation(property, read.key, vec![write.name], read.returned, what));
        }
    }
    Ok(())
}

/// Of two reads of a session the later shows nothing older.
fn goes_on(
    oracle: &Oracle,
    before: &Read,
    read: &Read,
    report: &mut Report,
) -> Result<(), Violation> {
    let property = "reads of a session do not go back";
    for known in &before.seen.values {
        shows(oracle, read, *known, property, report)?;
    }
    let Some(seen) = &before.seen.context else { return Ok(()) };
    let shown = |name: WriteName| before.seen.values.iter().any(|(known, _)| *known == name);
    for write in read.seen.values.iter().filter_map(|(name, _)| oracle.write(*name)) {
        let mut dots = write.dots.iter().peekable();
        let replaced = dots.peek().is_some() && dots.all(|dot| seen.contains(*dot));
        if shown(write.name) || !replaced {
            continue;
        }
        report.checked += 1;
        if super::reads::ends_by_itself(oracle, write) {
            report.excuse("the value may have expired");
            continue;
        }
        let what = format!("{} shows what {} saw replaced", read.attempt.op, before.attempt.op);
        return Err(violation(property, read.key, vec![write.name], read.returned, what));
    }
    Ok(())
}

fn follows_reads(
    oracle: &Oracle,
    later: &Wrote,
    reads: &[&Read],
    report: &mut Report,
) -> Result<(), Violation> {
    let done = reads.iter().rev().filter(|read| read.returned < later.invoked);
    for read in done.take(LAST) {
        for (name, stamp) in read.seen.values.iter().filter(|(name, _)| *name != later.name) {
            let property = "writes of a session follow its reads";
            comes_after(oracle, later, *name, *stamp, property, report)?;
        }
    }
    Ok(())
}

/// A write of a session wins over what the session knew, or takes it away.
fn comes_after(
    oracle: &Oracle,
    later: &Wrote,
    before: WriteName,
    stamp: Hlc,
    property: &'static str,
    report: &mut Report,
) -> Result<(), Violation> {
    let Some(write) = oracle.write(later.name) else { return Ok(()) };
    let wrong =
        |what| Err(violation(property, later.key, vec![later.name, before], later.returned, what));
    match oracle.setting().policy(later.key) {
        ConflictPolicy::Lww => {
            report.checked += 1;
            if later.stamp <= stamp {
                return wrong(format!("stamp {:?} is not above {stamp:?}", later.stamp));
            }
        }
        ConflictPolicy::Siblings if write.covers_what_is_there() => {
            report.checked += 1;
            let Some(old) = oracle.write(before) else { return Ok(()) };
            let mints: Vec<_> =
                write.dots.iter().filter_map(|dot| oracle.mint(later.key, *dot)).collect();
            let takes = |dot| mints.iter().map(|mint| oracle.covers(mint, dot)).max();
            let left = old.dots.iter().all(|dot| takes(*dot) == Some(Sure::No));
            if !old.dots.is_empty() && left {
                return wrong("the delete leaves it".to_owned());
            }
        }
        ConflictPolicy::Siblings => {}
    }
    Ok(())
}
