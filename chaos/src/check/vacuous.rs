//! Something happened: a check of nothing proves nothing.
//!
//! Property: (a) each kind of operation that was asked for often enough succeeded at least once;
//! (b) in each window of faults that is long enough, something succeeded. Where that is not so the
//! run is *unknown*: neither a pass nor a failure. (Jepsen's checkers end as `:unknown` in the same
//! case.)
//!
//! Excuses: none. Kinds that were hardly asked for, and windows that are shorter than an operation
//! may take, are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answer, Ask, Attempt, FaultId, Observation, What, WriteAnswer, WriteKind};
use crate::sim::Micros;

/// From so many attempts on a kind of operation must have succeeded.
const OFTEN: u64 = 20;

/// From this length on something must have succeeded in a fault's window.
const LONG: Micros = Micros::from_secs(2);

#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    asked: u64,
    succeeded: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Vacuous {
    kinds: BTreeMap<&'static str, Tries>,
    waiting: BTreeMap<Attempt, &'static str>,
    /// Faults that are going on: since when, and what succeeded meanwhile.
    windows: BTreeMap<FaultId, (Micros, u64)>,
    /// Long windows in which nothing succeeded.
    dead: BTreeSet<FaultId>,
}

impl Vacuous {
    /// Takes note of something that happened.
    pub fn observe(&mut self, observation: &Observation) {
        match &observation.what {
            What::Invoked(invocation) => {
                let kind = kind(&invocation.ask);
                self.kinds.entry(kind).or_default().asked += 1;
                self.waiting.insert(invocation.attempt, kind);
            }
            What::Returned { attempt, answer } => {
                let Some(kind) = self.waiting.remove(attempt) else { return };
                if succeeded(answer) {
                    self.kinds.entry(kind).or_default().succeeded += 1;
                    self.windows.values_mut().for_each(|(_, succeeded)| *succeeded += 1);
                }
            }
            What::Abandoned { attempt } => {
                self.waiting.remove(attempt);
            }
            What::FaultBegan { fault, .. } => {
                self.windows.insert(*fault, (observation.at, 0));
            }
            What::FaultEnded { fault, .. } => {
                if let Some((0, since)) = self.windows.remove(fault).map(|(at, n)| (n, at))
                    && observation.at - since >= LONG
                {
                    self.dead.insert(*fault);
                }
            }
            _ => {}
        }
    }

    /// Why nothing follows from the run, if nothing does.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let never = |tries: &Tries| tries.asked >= OFTEN && tries.succeeded == 0;
        if let Some((kind, tries)) = self.kinds.iter().find(|(_, tries)| never(tries)) {
            return Some(format!("none of {} tries of {kind} succeeded", tries.asked));
        }
        let fault = self.dead.first()?;
        Some(format!("nothing succeeded while fault {} lasted", fault.0))
    }

    /// How many operations succeeded.
    #[must_use]
    pub fn succeeded(&self) -> u64 {
        self.kinds.values().map(|tries| tries.succeeded).sum()
    }
}

fn kind(ask: &Ask) -> &'static str {
    match ask {
        Ask::Write(write) => match write.kind {
            WriteKind::Put { .. } => "put",
            WriteKind::Delete => "delete",
        },
        Ask::Batch { .. } => "batch",
        Ask::Get(_) => "get",
        Ask::MultiGet(_) => "multi-get",
        Ask::Scan { .. } => "scan",
    }
}

fn succeeded(answer: &Answer) -> bool {
    match answer {
        Answer::Written(all) => all.iter().all(|one| matches!(one, WriteAnswer::Done { .. })),
        Answer::Read(all) => all.iter().all(|one| one.result.is_ok()),
        Answer::Failed(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use meridian_service::Effect;
    use meridian_types::{ConsistencyLevel, DcId, NodeId, TableId};

    use super::*;
    use crate::history::{ClientId, Failure, Invocation, OpId, SessionId};

    fn told(at: u64, what: What) -> Observation {
        Observation { at: Micros::from_secs(at), what }
    }

    fn scan(vacuous: &mut Vacuous, at: u64, op: u64, answer: Answer) {
        let attempt = Attempt { op: OpId(op), number: 0 };
        let invocation = Invocation {
            attempt,
            client: ClientId(1),
            session: SessionId(1),
            node: NodeId(1),
            dc: DcId(1),
            level: ConsistencyLevel::One,
            deadline: Micros::from_secs(at + 1),
            ask: Ask::Scan { table: TableId(1), limit: 9 },
        };
        vacuous.observe(&told(at, What::Invoked(invocation)));
        vacuous.observe(&told(at, What::Returned { attempt, answer }));
    }

    fn failed() -> Answer {
        Answer::Failed(Failure { effect: Effect::Unknown, code: "timeout" })
    }

    #[test]
    fn a_kind_that_never_succeeds_leaves_the_run_unknown() {
        let mut vacuous = Vacuous::default();
        for op in 0..OFTEN {
            assert_eq!(vacuous.why(), None, "hardly asked for");
            scan(&mut vacuous, 1, op, failed());
        }
        assert!(vacuous.why().is_some_and(|why| why.contains("scan")));
        scan(&mut vacuous, 1, OFTEN, Answer::Read(Vec::new()));
        assert_eq!((vacuous.why(), vacuous.succeeded()), (None, 1));
    }

    #[test]
    fn a_long_fault_in_which_nothing_succeeds_leaves_the_run_unknown() {
        let (one, other) = (FaultId(1), FaultId(2));
        let began = |fault| What::FaultBegan { fault, kind: "cut".to_owned() };
        let ended = |fault| What::FaultEnded { fault, effect: 1 };
        let mut vacuous = Vacuous::default();
        vacuous.observe(&told(1, began(one)));
        scan(&mut vacuous, 2, 1, Answer::Read(Vec::new()));
        vacuous.observe(&told(4, ended(one)));
        vacuous.observe(&told(5, began(other)));
        vacuous.observe(&told(6, ended(other)));
        assert_eq!(vacuous.why(), None, "one saw a success, the other was short");
        vacuous.observe(&told(7, began(other)));
        scan(&mut vacuous, 8, 2, failed());
        vacuous.observe(&told(9, ended(other)));
        assert!(vacuous.why().is_some_and(|why| why.contains("fault 2")));
    }
}
