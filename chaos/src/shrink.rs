//! Makes a failing history small: faults that it does not need are left out, then windows are
//! halved, clients left out, and the time cut short.
//!
//! A smaller history counts as failing only if the *same* invariant fails: another one would be
//! another finding.
//!
//! Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002).

use crate::history::FaultId;
use crate::run::{Case, Verdict, Violation};
use crate::scenario::ScenarioError;
use crate::schedule::Kept;
use crate::sim::Micros;

/// How many histories are run to make one small. At a tenth of a second each this is some twenty
/// seconds, in which a dozen faults become two.
pub const MAX_RUNS: u32 = 200;

/// Windows are not made shorter than this: below it nothing is gained for a reader.
const SHORTEST_WINDOW: Micros = Micros::from_millis(1);

/// A failing history made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The history.
    pub case: Case,
    /// What fails in it.
    pub violation: Violation,
    /// How many histories were run for it.
    pub runs: u32,
}

/// A fault that is kept, and how long it may last at most.
type KeptFault = (FaultId, Option<Micros>);

struct Search<R> {
    run: R,
    runs: u32,
    found: Case,
    violation: Violation,
}

/// Makes a history small that fails with `violation`, by running smaller ones.
///
/// # Errors
/// The history's schedule cannot be drawn.
pub fn shrunk(
    case: &Case,
    violation: Violation,
    run: impl FnMut(&Case) -> Verdict,
) -> Result<Shrunk, ScenarioError> {
    let faults: Vec<_> = case.schedule()?.kept().faults().collect();
    let mut search = Search { run, runs: 0, found: case.clone(), violation };
    search.fewer_faults(faults);
    search.shorter_windows()?;
    search.fewer_clients();
    search.less_time();
    let Search { found, violation, runs, .. } = search;
    Ok(Shrunk { case: found, violation, runs })
}

impl<R: FnMut(&Case) -> Verdict> Search<R> {
    /// Whether a smaller history fails alike; if so it is the one to make smaller from here on.
    fn fails(&mut self, smaller: Case) -> bool {
        if self.runs == MAX_RUNS {
            return false;
        }
        self.runs += 1;
        match (self.run)(&smaller) {
            Verdict::Fail(violation) if violation.invariant == self.violation.invariant => {
                (self.found, self.violation) = (smaller, violation);
                true
            }
            Verdict::Pass | Verdict::Fail(_) | Verdict::Unknown(_) => false,
        }
    }

    fn with_faults(&self, faults: &[KeptFault]) -> Case {
        Case { kept: Some(faults.iter().copied().collect::<Kept>()), ..self.found.clone() }
    }

    fn fewer_faults(&mut self, mut faults: Vec<KeptFault>) {
        let mut size = faults.len().div_ceil(2);
        while size > 0 {
            let (mut at, mut helped) = (0, false);
            while at < faults.len() {
                let mut fewer = faults.clone();
                fewer.drain(at..faults.len().min(at + size));
                if self.fails(self.with_faults(&fewer)) {
                    (faults, helped) = (fewer, true);
                } else {
                    at += size;
                }
            }
            if size > 1 || !helped {
                size /= 2;
            }
        }
    }

    fn shorter_windows(&mut self) -> Result<(), ScenarioError> {
        let schedule = self.found.schedule()?;
        let mut faults: Vec<KeptFault> = self.found.kept.iter().flat_map(Kept::faults).collect();
        for planned in schedule.planned() {
            let Some(at) = faults.iter().position(|(id, _)| *id == planned.id) else { continue };
            let mut length = planned.until - planned.at;
            while length > SHORTEST_WINDOW {
                length = Micros(length.0 / 2).max(SHORTEST_WINDOW);
                // Whole milliseconds are easier to read.
                let length = Micros::from_millis(length.to_millis());
                let mut shorter = faults.clone();
                if let Some(fault) = shorter.get_mut(at) {
                    fault.1 = Some(length);
                }
                if !self.fails(self.with_faults(&shorter)) {
                    break;
                }
                faults = shorter;
            }
        }
        Ok(())
    }

    fn fewer_clients(&mut self) {
        loop {
            let clients = self.found.reduced().workload.clients;
            let halved = Case { clients: Some(clients / 2), ..self.found.clone() };
            let fewer = Case { clients: Some(clients.saturating_sub(1)), ..self.found.clone() };
            let useful = |case: &Case| case.clients.is_some_and(|left| left > 0 && left < clients);
            let smaller = [halved, fewer].into_iter().filter(useful);
            if !smaller.into_iter().any(|case| self.fails(case)) {
                return;
            }
        }
    }

    fn less_time(&mut self) {
        for eighths in [4, 4, 4, 6, 7] {
            let end = self.found.end();
            let until = Micros::from_millis(end.to_millis() * eighths / 8);
            if until > Micros::ZERO && until < end {
                self.fails(Case { until: Some(until), ..self.found.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scenario::{self, InvariantName};

    fn violation(invariant: InvariantName) -> Violation {
        Violation { invariant, key: None, at: Micros::ZERO, what: "planted".to_owned() }
    }

    /// A history of twelve faults.
    fn twelve() -> Case {
        let mut scenario = scenario::named("mixed").unwrap();
        scenario.nemesis.as_mut().unwrap().faults = 40;
        let mut case = Case::whole(Arc::new(scenario), "mixed", 1);
        let ids = case.schedule().unwrap().kept().faults().take(12).collect::<Kept>();
        assert_eq!(ids.faults().count(), 12);
        case.kept = Some(ids);
        case
    }

    /// Fails where two faults are there, the second for 40 ms at least, with three clients and five
    /// seconds; with fewer faults than six, something else fails without them.
    fn planted(case: &Case) -> Verdict {
        let schedule = case.schedule().unwrap();
        let planned = |number| schedule.planned().iter().find(|p| p.id == FaultId(number));
        let long = |p: &crate::schedule::Planned| p.until - p.at >= Micros::from_millis(40);
        let enough = case.reduced().workload.clients >= 3 && case.end() >= Micros::from_secs(5);
        match (planned(2), planned(5)) {
            (Some(_), Some(fifth)) if enough && long(fifth) => {
                Verdict::Fail(violation(InvariantName::Acknowledged))
            }
            _ if schedule.planned().len() < 6 => Verdict::Fail(violation(InvariantName::Liveness)),
            _ => Verdict::Pass,
        }
    }

    #[test]
    fn a_failure_of_twelve_faults_comes_down_to_its_two() {
        let small = shrunk(&twelve(), violation(InvariantName::Acknowledged), planted).unwrap();
        assert!(matches!(planted(&small.case), Verdict::Fail(_)));
        assert_eq!(small.violation.invariant, InvariantName::Acknowledged);
        let kept: Vec<_> = small.case.kept.as_ref().unwrap().faults().collect();
        assert_eq!(kept.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [2, 5]);
        let schedule = small.case.schedule().unwrap();
        let [second, fifth] = schedule.planned() else { panic!("{schedule:?}") };
        assert!(second.until - second.at <= SHORTEST_WINDOW);
        assert!(fifth.until - fifth.at < Micros::from_millis(80));
        assert_eq!(small.case.clients, Some(3));
        assert!(small.case.end() < Micros::from_secs(7), "{:?}", small.case.until);
        assert!(small.runs < MAX_RUNS, "{}", small.runs);
    }

    #[test]
    fn no_more_histories_are_run_than_the_budget_has() {
        let mut runs = 0;
        let never = |_: &Case| {
            runs += 1;
            Verdict::Fail(violation(InvariantName::Acknowledged))
        };
        let mut scenario = scenario::named("flapping-link").unwrap();
        scenario.workload.clients = 1_000;
        let case = Case::whole(Arc::new(scenario), "flapping-link", 1);
        let small = shrunk(&case, violation(InvariantName::Acknowledged), never).unwrap();
        assert!(small.runs <= MAX_RUNS);
        assert_eq!(small.runs, runs);
        assert!(small.case.kept.is_some_and(|kept| kept.faults().count() == 0));
        let mut runs = 0;
        let passes = |_: &Case| {
            runs += 1;
            Verdict::Pass
        };
        let kept = shrunk(&twelve(), violation(InvariantName::Acknowledged), passes).unwrap();
        assert_eq!(kept.case.kept, twelve().kept, "nothing smaller fails");
        assert!(runs <= MAX_RUNS);
    }
}
