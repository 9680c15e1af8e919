//! Scenarios over the links that production has: the same world, nodes, clients, faults and checks,
//! with `meridian-transport` (gRPC streams on HTTP/2) over the simulated TCP of `turmoil` in place
//! of simulated links.
//!
//! That TCP sends nothing again: a segment that meets a cut is gone, and its connection delivers
//! nothing any more. So what these runs need to pass is what production needs when a network
//! partition lasts: keep-alives that notice on both sides, and links that are dialed again. There is
//! no trace to compare: tokio's tasks inside a link are in tokio's order. Faults that lose single
//! messages are left out.
#![expect(clippy::unwrap_used, reason = "a test")]

mod carrier;
mod life;

use std::sync::Arc;

use meridian_chaos::fault::{Fault, WayFault};
use meridian_chaos::run::{Case, Outcome, Verdict};
use meridian_chaos::scenario::{self, InvariantName};
use meridian_chaos::schedule::Planned;
use meridian_chaos::sim::{Order, Trace};
use meridian_chaos::simulate::simulate_in;
use meridian_chaos::world::World;

use carrier::TurmoilLinks;

fn run(name: &str, seed: u64) -> Outcome {
    let mut case = Case::whole(Arc::new(scenario::named(name).unwrap()), name, seed);
    let schedule = case.schedule().unwrap();
    let is_here = |planned: &&Planned| {
        !matches!(planned.fault, Fault::Ways { what: WayFault::Lossy { .. }, .. })
    };
    case.kept = Some(schedule.planned().iter().filter(is_here).map(|p| (p.id, None)).collect());
    simulate_in(&case, |scenario| {
        World::over(scenario, seed, Order::Seeded, Trace::default(), |links| {
            Box::new(TurmoilLinks::new(links, seed))
        })
    })
}

fn passes(name: &str) {
    let outcome = run(name, 1);
    assert_eq!(outcome.verdict, Verdict::Pass, "{name}: {:#?}", outcome.last_lines);
    assert!(outcome.checked.contains_key(&InvariantName::Liveness), "{:?}", outcome.checked);
}

#[test]
fn nothing_goes_wrong() {
    passes("calm");
}

#[test]
fn a_datacenter_is_cut_off() {
    passes("dc-partition");
}

#[test]
fn messages_pass_in_one_direction_only() {
    passes("one-way-partition");
}

#[test]
fn a_link_is_cut_and_healed_again_and_again() {
    passes("flapping-link");
}

#[test]
fn links_are_slow_and_their_delays_vary() {
    passes("slow-link-jitter");
}

#[test]
fn machines_lose_power() {
    passes("crash-always");
}

#[test]
fn nodes_are_restarted_one_after_the_other() {
    passes("rolling-restart");
}
