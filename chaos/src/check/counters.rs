//! A name is one write.
//!
//! Property (rules 3 and 11): (a) a dot names one write of one key, ever; (b) a reader is shown a
//! write once, however often it was stored; (c) a life of a node mints a write once, however often it
//! is tried there. Counted values wait for counters to exist.
//!
//! Excused of (c): the writes of atomic batches. Their dots are reserved before anything is written,
//! for one try of the batch; another try of it, while the first is only kept, has dots of its own.
//!
//! Histories are far shorter than names are remembered, in time and in bytes.

use std::collections::BTreeSet;

use super::{Invariant, Report, Violation};
use crate::history::{Answer, Final, Observation, Oracle, What};

const NAME: &str = "counters";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    reads: u64,
    twice: Option<Violation>,
}

impl Invariant for Counters {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, observation: &Observation) {
        let What::Returned { answer: Answer::Read(answers), .. } = &observation.what else {
            return;
        };
        for answer in answers {
            self.reads += 1;
            let Ok(seen) = &answer.result else { continue };
            let mut once = BTreeSet::new();
            let again = seen.values.iter().map(|(write, _)| *write).find(|w| !once.insert(*w));
            if let (Some(write), None) = (again, &self.twice) {
                self.twice = Some(Violation {
                    invariant: NAME,
                    property: "a write is shown once",
                    key: Some(answer.key),
                    writes: vec![write],
                    at: observation.at,
                    what: "one answer shows it twice".to_owned(),
                });
            }
        }
    }

    fn finish(&mut self, oracle: &Oracle, end: &Final) -> Result<Report, Violation> {
        if let Some(reused) = oracle.reused().first() {
            return Err(Violation {
                invariant: NAME,
                property: "a dot names one write",
                key: Some(reused.one.0),
                writes: reused.one.1.into_iter().chain(reused.other.1).collect(),
                at: end.at,
                what: format!("{} is also a write of {}", reused.dot.dot, reused.other.0),
            });
        }
        for write in oracle.writes().filter(|write| write.batch.is_none()) {
            let mut lives = BTreeSet::new();
            let again = write.dots.iter().find(|dot| !lives.insert(dot.actor));
            if let Some(dot) = again {
                return Err(Violation {
                    invariant: NAME,
                    property: "a life mints a write once",
                    key: Some(write.key),
                    writes: vec![write.name],
                    at: write.invoked(),
                    what: format!("{dot} is its second dot there"),
                });
            }
        }
        let checked = self.reads + oracle.writes().count() as u64;
        self.twice.take().map_or(Ok(Report { checked, ..Report::default() }), Err)
    }
}
