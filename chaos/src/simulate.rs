//! Runs a case: builds its world, does what the schedule says, lets it heal, and asks a judge.

use std::collections::{BTreeMap, BTreeSet};

use meridian_crdt::Dot;

use crate::fault::{Fault, NodeFault};
use crate::history::{Answer, Final, Key, Observation, Setting, VnodeState, What, WriteAnswer};
use crate::run::{Case, Checked, Outcome, Verdict, Violation};
use crate::scenario::{InvariantName, Scenario};
use crate::schedule::Schedule;
use crate::sim::{Livelock, Micros, Order, Trace};
use crate::world::World;

/// How often what was observed is handed on while a world runs, so that it does not pile up.
const TELL_EVERY: Micros = Micros::from_secs(1);

/// How many of the last lines of its trace a failure shows.
const SHOWN_LINES: usize = 40;

/// Decides what to make of a run.
pub trait Judge {
    /// Something happened.
    fn observe(&mut self, told: &Observation);

    /// Everything had its time to heal: the verdict, and what it rests on.
    fn judge(&mut self, end: &Final) -> (Verdict, BTreeMap<InvariantName, Checked>);
}

/// Runs a case to its end.
pub fn simulate<J: Judge>(
    case: &Case,
    order: Order,
    trace: Trace,
    judge: impl FnOnce(&Scenario, &Schedule, &Setting) -> J,
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
    let mut world = match World::with(&scenario, case.seed, order, trace) {
        Ok(world) => world,
        Err(why) => return unknown(why.to_string()),
    };
    let mut judge = judge(&scenario, &schedule, world.setting());
    let (verdict, checked) = match run(&mut world, &scenario, &schedule, &mut judge) {
        Ok(()) => judge.judge(&world.final_state()),
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
    judge: &mut impl Judge,
) -> Result<(), Livelock> {
    for (at, edge, planned) in schedule.edges() {
        advance(world, at, judge)?;
        world.apply(planned.id, &planned.fault, planned.chance, edge);
    }
    advance(world, scenario.sim, judge)?;
    world.faults_over();
    advance(world, scenario.sim + scenario.heal, judge)
}

fn advance(world: &mut World, until: Micros, judge: &mut impl Judge) -> Result<(), Livelock> {
    loop {
        let next = until.min(world.now() + TELL_EVERY);
        world.run_until(next)?;
        for told in world.take_observations() {
            judge.observe(&told);
        }
        if next == until {
            return Ok(());
        }
    }
}

/// Judges a run by its end alone: every node that has not left for good is sound, and the replicas
/// of a vnode have the same clock and show the same values.
#[derive(Debug)]
pub struct EndState {
    left: Vec<meridian_types::NodeId>,
    clients: u32,
    succeeded: u64,
}

impl EndState {
    /// The judge of a run.
    #[must_use]
    pub fn new(scenario: &Scenario, schedule: &Schedule) -> Self {
        let left = |fault: &Fault| match fault {
            Fault::Node { node, what: NodeFault::Leave {} } => Some(*node),
            Fault::Node { .. } | Fault::Ways { .. } => None,
        };
        let left = schedule.planned().iter().filter_map(|planned| left(&planned.fault)).collect();
        Self { left, clients: scenario.workload.clients, succeeded: 0 }
    }
}

impl Judge for EndState {
    fn observe(&mut self, told: &Observation) {
        let succeeded = match &told.what {
            What::Returned { answer: Answer::Written(answers), .. } => {
                answers.iter().all(|answer| matches!(answer, WriteAnswer::Done { .. }))
            }
            What::Returned { answer: Answer::Read(answers), .. } => {
                answers.iter().all(|answer| answer.result.is_ok())
            }
            _ => false,
        };
        self.succeeded += u64::from(succeeded);
    }

    fn judge(&mut self, end: &Final) -> (Verdict, BTreeMap<InvariantName, Checked>) {
        let fail =
            |invariant, what| Verdict::Fail(Violation { invariant, key: None, at: end.at, what });
        let mut checked: BTreeMap<InvariantName, Checked> = BTreeMap::new();
        let mut vnodes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (node, replica) in &end.replicas {
            if self.left.contains(node) {
                continue;
            }
            checked.entry(InvariantName::Liveness).or_default().times += 1;
            if !replica.sound {
                let what = format!("node {node} does not run with everything that it had");
                return (fail(InvariantName::Liveness, what), checked);
            }
            for (place, state) in &replica.vnodes {
                vnodes.entry(*place).or_default().push((node, state));
            }
        }
        for ((keyspace, vnode), states) in vnodes {
            let Some(((first, expected), rest)) = states.split_first() else { continue };
            for (node, state) in rest {
                checked.entry(InvariantName::Convergence).or_default().times += 1;
                let who = format!("vnode {vnode} of keyspace {keyspace}, nodes {first} and {node}");
                if state.clock != expected.clock {
                    return (
                        fail(InvariantName::Convergence, format!("{who}: other clocks")),
                        checked,
                    );
                }
                if let Some((key, what)) = first_difference(expected, state, end) {
                    let what = format!("{who}: the same clock, but of {key} {what}");
                    let at = end.at;
                    let invariant = InvariantName::Convergence;
                    let differ = Violation { invariant, key: Some(key), at, what };
                    return (Verdict::Fail(differ), checked);
                }
            }
        }
        if self.clients > 0 && self.succeeded == 0 {
            return (Verdict::Unknown("no request of any client succeeded".to_owned()), checked);
        }
        (Verdict::Pass, checked)
    }
}

/// The first key of which two replicas show different values. What is not visible may differ:
/// markers are forgotten at different times.
fn first_difference(a: &VnodeState, b: &VnodeState, end: &Final) -> Option<(Key, String)> {
    let visible = |state: &VnodeState, key: &Key| -> Vec<Dot> {
        let row = state.rows.get(key);
        row.into_iter().flat_map(|row| row.visible(end.wall)).map(|entry| entry.dot).collect()
    };
    let keys: BTreeSet<&Key> = a.rows.keys().chain(b.rows.keys()).collect();
    keys.into_iter().find_map(|key| {
        let (one, other) = (visible(a, key), visible(b, key));
        (one != other).then(|| (*key, format!("the first shows {one:?}, the second {other:?}")))
    })
}
