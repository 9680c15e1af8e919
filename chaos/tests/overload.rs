//! More is asked than can be done: what is begun still ends in time, and what is not is refused at
//! once.

use std::collections::BTreeMap;

use meridian_chaos::history::{Answer, Attempt, Observation, What, WriteAnswer};
use meridian_chaos::scenario::{self, Scenario};
use meridian_chaos::sim::Micros;
use meridian_chaos::world::World;

/// What three nodes of the scenario do in a second, about: the rate at which goodput is highest.
const SUSTAINABLE: u32 = 550;

/// The rates have settled by then.
const WARM: Micros = Micros::from_secs(3);

/// What came of the requests that were begun while it was warm.
#[derive(Debug, Default)]
struct Load {
    asked: u64,
    /// Succeeded within their deadline.
    good: u64,
    /// Refused as overloaded, after how long at most and on average.
    refused: u64,
    refused_after: u64,
    slowest_refusal: u64,
    slowest: u64,
}

impl Load {
    fn per_second(&self, count: u64, end: Micros) -> u64 {
        count * 1_000_000 / (end - WARM).0
    }
}

fn overload(rate: u32) -> Scenario {
    let mut scenario = scenario::named("overload").expect("it is shipped");
    scenario.workload.rate = Some(rate);
    scenario
}

fn succeeded(answer: &Answer) -> bool {
    match answer {
        Answer::Written(all) => all.iter().all(|one| matches!(one, WriteAnswer::Done { .. })),
        Answer::Read(all) => all.iter().all(|one| one.result.is_ok()),
        Answer::Failed(_) => false,
    }
}

fn load(scenario: &Scenario, seed: u64) -> Load {
    let mut world = World::new(scenario, seed).expect("the scenario is shipped");
    let deadline = scenario.workload.deadline;
    let mut asked: BTreeMap<Attempt, Micros> = BTreeMap::new();
    let mut load = Load::default();
    let mut see = |seen: Vec<Observation>| {
        for Observation { at, what } in seen {
            match what {
                What::Invoked(invocation) if at >= WARM => {
                    asked.insert(invocation.attempt, at);
                    load.asked += 1;
                }
                What::Returned { attempt, answer } => {
                    let Some(since) = asked.remove(&attempt) else { continue };
                    let took = at - since;
                    if succeeded(&answer) && took <= deadline {
                        load.good += 1;
                        load.slowest = load.slowest.max(took.0);
                    }
                    if matches!(&answer, Answer::Failed(why) if why.code == "overloaded") {
                        load.refused += 1;
                        load.refused_after += took.0;
                        load.slowest_refusal = load.slowest_refusal.max(took.0);
                    }
                }
                _ => {}
            }
        }
    };
    for second in 1..=10 {
        world.run_until(Micros::from_secs(second)).expect("tasks come to rest");
        see(world.take_observations());
    }
    load
}

#[test]
fn goodput_stays_near_its_peak_at_twice_the_sustainable_rate() {
    let seed = 1;
    let at = |halves: u32| {
        let scenario = overload(SUSTAINABLE * halves / 2);
        let load = load(&scenario, seed);
        println!(
            "{} asked a second: {} good, {} refused after {} us on average, {} at most; slowest {}",
            load.per_second(load.asked, scenario.sim),
            load.per_second(load.good, scenario.sim),
            load.per_second(load.refused, scenario.sim),
            load.refused_after / load.refused.max(1),
            load.slowest_refusal,
            load.slowest,
        );
        load
    };
    let [half, one, two, four] = [1, 2, 4, 8].map(at);
    assert!(half.refused == 0 && half.good == half.asked, "what can be done is done");
    let peak = [&half, &one, &two, &four].map(|load| load.good).into_iter().max().unwrap();
    assert!(two.good * 100 >= peak * 80, "at twice the rate: {} of {peak}", two.good);
    assert!(four.good * 100 >= peak * 40, "at four times the rate: {} of {peak}", four.good);
    let deadline = overload(1).workload.deadline.0;
    assert!(two.refused > 0 && two.refused_after / two.refused <= deadline / 4, "{two:?}");
}

/// A node that begins all that it is asked for ends little of it in time.
#[cfg(meridian_mutations)]
#[test]
fn admitting_everything_is_noticed() {
    use meridian_types::{Mutation, leave_out};

    let sound = load(&overload(2 * SUSTAINABLE), 1);
    leave_out(Some(Mutation::AdmitAll));
    let broken = load(&overload(2 * SUSTAINABLE), 1);
    leave_out(None);
    assert!(broken.good * 2 < sound.good, "{} of {} in time", broken.good, sound.good);
}
