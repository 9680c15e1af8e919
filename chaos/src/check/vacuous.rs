//! Something happened: a check of nothing proves nothing.
//!
//! Property: (a) each kind of operation that was asked for often enough succeeded at least once, in
//! the run and in each window of a fault; (b) in each window that is long enough, something
//! succeeded; (c) what was planned to go wrong did: where the scenario orders its faults, each kind
//! of them had an effect, and where chance draws them, some had. Where that is not so the run is
//! *unknown*: neither a pass nor a failure. (Jepsen's checkers end as `:unknown` in the same case.)
//!
//! Excuses: none. Kinds that were hardly asked for, and windows that are shorter than an operation
//! may take, are not looked at.

use std::collections::BTreeMap;

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

type Kinds = BTreeMap<&'static str, Tries>;

/// A fault that goes on.
#[derive(Clone, Debug)]
struct Window {
    began: Micros,
    kind: String,
    kinds: Kinds,
}

impl Window {
    /// Why nothing follows from what was done meanwhile, if nothing does.
    fn why(&self, fault: FaultId, at: Micros) -> Option<String> {
        let succeeded: u64 = self.kinds.values().map(|tries| tries.succeeded).sum();
        if succeeded == 0 && at - self.began >= LONG {
            return Some(format!("nothing succeeded while fault {} lasted", fault.0));
        }
        let (kind, asked) = never(&self.kinds)?;
        Some(format!("none of {asked} tries of {kind} succeeded while fault {} lasted", fault.0))
    }
}

/// A kind that was asked for often and never succeeded, and how often.
fn never(kinds: &Kinds) -> Option<(&'static str, u64)> {
    let never = |tries: &Tries| tries.asked >= OFTEN && tries.succeeded == 0;
    kinds.iter().find(|(_, tries)| never(tries)).map(|(kind, tries)| (*kind, tries.asked))
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Vacuous {
    kinds: Kinds,
    waiting: BTreeMap<Attempt, &'static str>,
    windows: BTreeMap<FaultId, Window>,
    /// Why nothing follows from the first window of which that can be said.
    dead: Option<String>,
    /// What faults that ended have done, by their kind.
    effects: BTreeMap<String, u64>,
    /// Whether faults are drawn by chance, so that one may find nothing to harm.
    by_chance: bool,
}

impl Vacuous {
    /// Of a run whose faults are drawn by chance, or ordered by its scenario.
    #[must_use]
    pub fn new(by_chance: bool) -> Self {
        Self { by_chance, ..Self::default() }
    }

    /// Takes note of something that happened.
    pub fn observe(&mut self, observation: &Observation) {
        match &observation.what {
            What::Invoked(invocation) => {
                let kind = kind(&invocation.ask);
                self.in_all(kind, |tries| tries.asked += 1);
                self.waiting.insert(invocation.attempt, kind);
            }
            What::Returned { attempt, answer } => {
                let Some(kind) = self.waiting.remove(attempt) else { return };
                if succeeded(answer) {
                    self.in_all(kind, |tries| tries.succeeded += 1);
                }
            }
            What::Abandoned { attempt } => {
                self.waiting.remove(attempt);
            }
            What::FaultBegan { fault, kind } => {
                let (began, kind, kinds) = (observation.at, kind.clone(), Kinds::new());
                self.windows.insert(*fault, Window { began, kind, kinds });
            }
            What::FaultEnded { fault, effect } => {
                let Some(window) = self.windows.remove(fault) else { return };
                let why = window.why(*fault, observation.at);
                self.dead = self.dead.take().or(why);
                *self.effects.entry(window.kind).or_default() += effect;
            }
            _ => {}
        }
    }

    /// Counts for the run and for every window that is open.
    fn in_all(&mut self, kind: &'static str, count: impl Fn(&mut Tries)) {
        let windows = self.windows.values_mut().map(|window| &mut window.kinds);
        for kinds in windows.chain([&mut self.kinds]) {
            count(kinds.entry(kind).or_default());
        }
    }

    /// Why nothing follows from the run, if nothing does.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        if let Some((kind, asked)) = never(&self.kinds) {
            return Some(format!("none of {asked} tries of {kind} succeeded"));
        }
        let idle = self.effects.iter().find(|(_, effect)| **effect == 0).map(|(kind, _)| kind);
        let all_idle = self.effects.values().all(|effect| *effect == 0);
        let idle = idle.filter(|_| all_idle || !self.by_chance);
        self.dead.clone().or_else(|| idle.map(|kind| format!("no fault `{kind}` had an effect")))
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
        Ask::Batch { atomic: true, .. } => "atomic batch",
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
    use crate::history::{ClientId, Failure, Invocation, OpId};

    fn told(at: u64, what: What) -> Observation {
        Observation { at: Micros::from_secs(at), what }
    }

    fn scan(vacuous: &mut Vacuous, at: u64, op: u64, answer: Answer) {
        let attempt = Attempt { op: OpId(op), number: 0 };
        let invocation = Invocation {
            attempt,
            client: ClientId(1),
            session: None,
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

    fn began(fault: FaultId) -> What {
        What::FaultBegan { fault, kind: "cut".to_owned() }
    }

    const ONE: FaultId = FaultId(1);
    const OTHER: FaultId = FaultId(2);

    #[test]
    fn a_long_fault_in_which_nothing_succeeds_leaves_the_run_unknown() {
        let ended = |fault| What::FaultEnded { fault, effect: 1 };
        let mut vacuous = Vacuous::default();
        vacuous.observe(&told(1, began(ONE)));
        scan(&mut vacuous, 2, 1, Answer::Read(Vec::new()));
        vacuous.observe(&told(4, ended(ONE)));
        vacuous.observe(&told(5, began(OTHER)));
        vacuous.observe(&told(6, ended(OTHER)));
        assert_eq!(vacuous.why(), None, "one saw a success, the other was short");
        vacuous.observe(&told(7, began(OTHER)));
        scan(&mut vacuous, 8, 2, failed());
        vacuous.observe(&told(9, ended(OTHER)));
        assert!(vacuous.why().is_some_and(|why| why.contains("fault 2")));
    }

    #[test]
    fn a_kind_that_never_succeeds_in_a_fault_leaves_the_run_unknown() {
        let mut vacuous = Vacuous::default();
        scan(&mut vacuous, 1, 0, Answer::Read(Vec::new()));
        vacuous.observe(&told(1, began(ONE)));
        for op in 1..=OFTEN {
            scan(&mut vacuous, 1, op, failed());
        }
        assert_eq!(vacuous.why(), None);
        vacuous.observe(&told(2, What::FaultEnded { fault: ONE, effect: 1 }));
        assert!(vacuous.why().is_some_and(|why| why.contains("scan") && why.contains("fault 1")));
    }

    #[test]
    fn faults_that_do_nothing_leave_the_run_unknown() {
        for (by_chance, effects, known) in
            [(false, [0, 1], true), (false, [0, 0], false), (true, [0, 0], false)]
        {
            let mut vacuous = Vacuous::new(by_chance);
            for (fault, effect) in [ONE, OTHER].into_iter().zip(effects) {
                vacuous.observe(&told(1, began(fault)));
                vacuous.observe(&told(1, What::FaultEnded { fault, effect }));
            }
            assert_eq!(vacuous.why().is_none(), known, "{by_chance} {effects:?}");
        }
        let mut ordered = Vacuous::new(false);
        ordered.observe(&told(1, began(ONE)));
        ordered.observe(&told(1, What::FaultEnded { fault: ONE, effect: 1 }));
        let idle = What::FaultBegan { fault: OTHER, kind: "rot".to_owned() };
        ordered.observe(&told(1, idle));
        ordered.observe(&told(1, What::FaultEnded { fault: OTHER, effect: 0 }));
        assert!(ordered.why().is_some_and(|why| why.contains("rot")));
    }
}
