//! A name is one write.
//!
//! Property (rules 3 and 11): (a) a dot names one write of one key, ever; (b) a reader is shown a
//! write once, however often it was stored. Counted values wait for counters to exist.

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
        self.twice.take().map_or(Ok(Report { checked: self.reads, ..Report::default() }), Err)
    }
}
