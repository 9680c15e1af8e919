//! A handful of seeds of shipped scenarios, whole: they end, and a replay does the same.

use std::sync::Arc;

use meridian_chaos::run::{Case, Outcome, Verdict};
use meridian_chaos::scenario;
use meridian_chaos::sim::{Micros, Order, Trace};
use meridian_chaos::simulate::simulate;

fn case(name: &str, seed: u64) -> Case {
    Case::whole(Arc::new(scenario::named(name).expect("it is shipped")), name, seed)
}

fn run(case: &Case) -> Outcome {
    simulate(case, Order::Seeded, Trace::default())
}

#[test]
fn calm_seeds_pass() {
    for seed in 1..=2 {
        let outcome = run(&case("calm", seed));
        assert_eq!(outcome.verdict, Verdict::Pass, "seed {seed}: {:#?}", outcome.last_lines);
    }
}

#[test]
fn sessions_hold_over_hops() {
    for seed in 1..=2 {
        let outcome = run(&case("sessions", seed));
        assert_eq!(outcome.verdict, Verdict::Pass, "seed {seed}: {:#?}", outcome.last_lines);
    }
}

#[test]
fn a_replay_does_the_same_also_of_a_part() {
    let whole = case("mixed", 1);
    let part = Case {
        kept: Some("1,3,5:200ms".parse().unwrap()),
        clients: Some(2),
        until: Some(Micros::from_secs(6)),
        ..case("mixed", 1)
    };
    let hashes = [&whole, &part].map(|case| {
        let (first, again) = (run(case), run(case));
        assert_eq!(first.trace_hash, again.trace_hash, "{}", case.replay());
        assert_eq!(first.verdict, again.verdict);
        first.trace_hash
    });
    assert_ne!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], run(&case("mixed", 2)).trace_hash);
}

/// What seeds found once stays mended.
#[test]
fn pinned_seeds_end_as_their_scenario_expects() {
    for scenario in scenario::shipped() {
        let scenario = Arc::new(scenario.unwrap());
        for seed in &scenario.pinned {
            let case = Case::whole(Arc::clone(&scenario), &scenario.name, *seed);
            match (run(&case).verdict, scenario.expect.violation) {
                (Verdict::Pass, None) => {}
                (Verdict::Fail(violation), Some(expected)) if violation.invariant == expected => {}
                (verdict, _) => panic!("{}: {verdict:?}", case.replay()),
            }
        }
    }
}
