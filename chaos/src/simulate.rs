//! Runs a case: builds its world, does what the schedule says, lets it heal, and asks the
//! invariants.

use std::collections::BTreeMap;

use crate::check::Invariants;
use crate::run::{Case, Outcome, Verdict, Violation};
use crate::scenario::{InvariantName, Scenario};
use crate::schedule::Schedule;
use crate::sim::{Livelock, Micros, Order, Trace};
use crate::world::{World, WorldError};

/// How often what was observed is handed on while a world runs, so that it does not pile up.
const TELL_EVERY: Micros = Micros::from_secs(1);

/// How many of the last lines of its trace a failure shows.
const SHOWN_LINES: usize = 40;

/// Runs a case to its end.
#[must_use]
pub fn simulate(case: &Case, order: Order, trace: Trace) -> Outcome {
    simulate_in(case, |scenario| World::with(scenario, case.seed, order, trace))
}

/// Runs a case to its end, in a world that `world` makes of its scenario.
pub fn simulate_in(
    case: &Case,
    world: impl FnOnce(&Scenario) -> Result<World, WorldError>,
) -> Outcome {
    let unknown = |why: String| Outcome {
        verdict: Verdict::Unknown(why),
        checked: BTreeMap::new(),
        trace_hash: 0,
        last_lines: Vec::new(),
    };
    let scenario = case.reduced();
    let schedule = match case.schedule() {
        Ok(schedule) => schedule,
        Err(why) => return unknown(why.to_string()),
    };
    let mut world = match world(&scenario) {
        Ok(world) => world,
        Err(why) => return unknown(why.to_string()),
    };
    let mut invariants = Invariants::new(&scenario, &schedule, world.setting());
    let (verdict, checked) = match run(&mut world, &scenario, &schedule, &mut invariants) {
        Ok(()) => invariants.judge(&world.final_state()),
        Err(why) => {
            let what = format!("{why} at {}", world.now());
            let at = world.now();
            let livelock = Violation { invariant: InvariantName::Liveness, key: None, at, what };
            (Verdict::Fail(livelock), BTreeMap::new())
        }
    };
    let failed = !matches!(verdict, Verdict::Pass);
    let (trace_hash, last_lines) = world.with_trace(|trace| {
        let skip = trace.last().count().saturating_sub(SHOWN_LINES);
        let lines = trace.last().skip(skip).filter(|_| failed).map(ToString::to_string);
        (trace.hash(), lines.collect())
    });
    let verdict = match (verdict, world.with_trace(Trace::finish)) {
        (Verdict::Pass, Err(why)) => Verdict::Unknown(format!("the trace was not written: {why}")),
        (verdict, _) => verdict,
    };
    Outcome { verdict, checked, trace_hash, last_lines }
}

fn run(
    world: &mut World,
    scenario: &Scenario,
    schedule: &Schedule,
    invariants: &mut Invariants,
) -> Result<(), Livelock> {
    for (at, edge, planned) in schedule.edges() {
        advance(world, at, invariants)?;
        world.apply(planned.id, &planned.fault, planned.chance, edge);
    }
    advance(world, scenario.sim, invariants)?;
    world.faults_over();
    advance(world, scenario.sim + scenario.heal, invariants)
}

fn advance(world: &mut World, until: Micros, invariants: &mut Invariants) -> Result<(), Livelock> {
    loop {
        let next = until.min(world.now() + TELL_EVERY);
        world.run_until(next)?;
        for told in world.take_observations() {
            invariants.observe(&told);
        }
        if next == until {
            return Ok(());
        }
    }
}
