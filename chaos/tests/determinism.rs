//! The same scenario and seed are the same history: shipped scenarios, with the faults that are
//! drawn for them, run twice.

use meridian_chaos::scenario::{self, Scenario};
use meridian_chaos::schedule::Schedule;
use meridian_chaos::sim::{Micros, Order, Trace};
use meridian_chaos::world::World;

/// Runs a scenario up to some time; returns the hash of its trace.
fn hash(
    scenario: &Scenario,
    seed: u64,
    order: Order,
    until: Micros,
) -> Result<u64, Box<dyn std::error::Error>> {
    let mut world = World::with(scenario, seed, order, Trace::default())?;
    let schedule = Schedule::drawn(scenario, seed)?;
    for (at, edge, planned) in schedule.edges() {
        if at <= until {
            world.run_until(at)?;
            world.apply(planned.id, &planned.fault, planned.chance, edge);
        }
    }
    world.run_until(until)?;
    Ok(world.with_trace(|trace| {
        assert!(trace.noted() > 1_000, "{}: {} lines", scenario.name, trace.noted());
        trace.hash()
    }))
}

#[test]
fn the_mixed_scenario_is_the_same_twice() {
    let mixed = scenario::named("mixed").unwrap();
    let mut hashes = Vec::new();
    for seed in 1..=6 {
        let run = || hash(&mixed, seed, Order::Seeded, mixed.sim + Micros::from_secs(5));
        let first = run().unwrap();
        assert_eq!(first, run().unwrap(), "seed {seed}");
        hashes.push(first);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 6, "seeds differ");
}

#[test]
fn every_scenario_runs_and_is_the_same_twice() {
    for scenario in scenario::shipped() {
        let scenario = scenario.unwrap();
        // Longer ones are the same longer.
        let until = scenario.sim.min(Micros::from_secs(6));
        let run = || hash(&scenario, 1, Order::Seeded, until);
        assert_eq!(run().unwrap(), run().unwrap(), "{}", scenario.name);
    }
}

#[test]
fn the_order_of_tasks_is_exercised() {
    let calm = scenario::named("calm").unwrap();
    let run = |order| hash(&calm, 1, order, Micros::from_secs(2));
    assert_ne!(run(Order::Seeded).unwrap(), run(Order::Fifo).unwrap());
}
