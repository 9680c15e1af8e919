//! What clients read, and whether a read shows a write or what came after it.

use std::collections::BTreeMap;

use meridian_types::{ConflictPolicy, ConsistencyLevel, DcId, Hlc};

use crate::history::{
    Answer, Attempt, Key, Observation, Oracle, Seen, Sure, What, Write, WriteKind,
};
use crate::sim::Micros;

/// One read of one key.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) attempt: Attempt,
    pub(super) invoked: Micros,
    pub(super) returned: Micros,
    pub(super) dc: DcId,
    pub(super) level: ConsistencyLevel,
    pub(super) key: Key,
    pub(super) seen: Seen,
}

/// The reads of a run that succeeded.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    asked: BTreeMap<Attempt, (Micros, DcId, ConsistencyLevel)>,
    done: Vec<Read>,
}

impl Reads {
    pub(super) fn observe(&mut self, observation: &Observation) {
        match &observation.what {
            What::Invoked(asked) => {
                self.asked.insert(asked.attempt, (observation.at, asked.dc, asked.level));
            }
            What::Returned { attempt, answer } => {
                let Some((invoked, dc, level)) = self.asked.remove(attempt) else { return };
                let Answer::Read(answers) = answer else { return };
                for answer in answers {
                    let Ok(seen) = answer.result.clone() else { continue };
                    let (attempt, returned, key) = (*attempt, observation.at, answer.key);
                    self.done.push(Read { attempt, invoked, returned, dc, level, key, seen });
                }
            }
            _ => {}
        }
    }

    pub(super) fn done(&self) -> &[Read] {
        &self.done
    }
}

/// Whether a read shows a write, or what came after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Seen,
    Excused(&'static str),
    Missed(String),
}

/// `stamp` is that of the write as it was acknowledged or seen: a write that was retried elsewhere
/// may have a dot with a higher one, which nobody promised anything of.
pub(super) fn sight(oracle: &Oracle, read: &Read, write: &Write, stamp: Hlc) -> Sight {
    match oracle.setting().policy(read.key) {
        ConflictPolicy::Siblings => sight_of_sibling(oracle, read, write),
        ConflictPolicy::Lww => sight_of_last(oracle, read, write, stamp),
    }
}

fn sight_of_sibling(oracle: &Oracle, read: &Read, write: &Write) -> Sight {
    let Read { key, seen, returned, .. } = read;
    if seen.values.iter().any(|(name, _)| *name == write.name) {
        return Sight::Seen;
    }
    if write.dots.is_empty() {
        return Sight::Excused("nobody saw the write's dot");
    }
    if let Some(token) = &seen.context
        && !write.dots.iter().any(|dot| token.contains(*dot))
    {
        return Sight::Missed("its token does not have the write".to_owned());
    }
    let covers = |dot| {
        let mints = write.dots.iter().filter_map(|dot| oracle.mint(*key, *dot));
        mints.map(|mint| oracle.covers(mint, dot)).max().unwrap_or(Sure::No)
    };
    for shown in seen.values.iter().filter_map(|(name, _)| oracle.write(*name)) {
        let mut dots = shown.dots.iter().peekable();
        if dots.peek().is_some() && dots.all(|dot| covers(*dot) == Sure::Yes) {
            return Sight::Missed(format!("it shows {}, which the write replaced", shown.name));
        }
    }
    let covered = write.dots.iter().any(|dot| oracle.covered(*key, *dot, *returned).0 > Sure::No);
    if write.is_delete() || covered {
        Sight::Seen
    } else if ends_by_itself(oracle, write) {
        Sight::Excused("the value may have expired")
    } else {
        Sight::Missed("it does not show the write, and nothing had replaced it".to_owned())
    }
}

fn sight_of_last(oracle: &Oracle, read: &Read, write: &Write, stamp: Hlc) -> Sight {
    let shown = read.seen.values.iter().map(|(_, stamp)| *stamp).max();
    match shown {
        Some(shown) if shown >= stamp => Sight::Seen,
        Some(shown) => Sight::Missed(format!("it shows stamp {shown:?}, the write has {stamp:?}")),
        None if write.is_delete() => Sight::Seen,
        None if ends_by_itself(oracle, write) => Sight::Excused("the value may have expired"),
        None => {
            let ends = |by: &Write| {
                let ends = by.is_delete() || ends_by_itself(oracle, by);
                ends && by.may_exist() && by.invoked() <= read.returned
            };
            let later = |by: &Write| stamp_of(oracle, by).is_none_or(|by| by >= stamp);
            if oracle.writes_of(read.key).any(|by| ends(by) && later(by)) {
                Sight::Seen
            } else {
                Sight::Missed("it shows nothing, and nothing was deleted".to_owned())
            }
        }
    }
}

/// The highest that it may have.
fn stamp_of(oracle: &Oracle, write: &Write) -> Option<Hlc> {
    let minted = write.dots.iter().filter_map(|dot| oracle.mint(write.key, *dot));
    minted.map(|mint| mint.stamp).chain(write.acked().map(|(_, _, stamp)| stamp)).max()
}

pub(super) fn ends_by_itself(oracle: &Oracle, write: &Write) -> bool {
    let has_ttl = oracle.setting().tables.get(&write.key.table).is_some_and(|table| table.has_ttl);
    has_ttl || matches!(write.kind, WriteKind::Put { expires: Some(_) })
}
