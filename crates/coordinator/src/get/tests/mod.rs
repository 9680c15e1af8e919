//! Every order of answers, refusals, broken links and timers, against real rows and clocks and an
//! oracle that knows all writes.

mod history;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use meridian_crdt::ConflictPolicy;
use meridian_types::ConsistencyLevel;

use crate::testing::{Cluster, Dice, LEVELS};
use history::History;
use world::World;

fn explore(start: World<'_>, most_faults: Option<usize>) -> usize {
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        if !seen.insert(world.fingerprint(most_faults.is_some())) {
            continue;
        }
        world.check_end();
        for next in world.possible() {
            if most_faults.is_none_or(|most| world.faults < most) || !next.is_fault() {
                open.push(world.then(next));
            }
        }
    }
    seen.len()
}

const POLICIES: [ConflictPolicy; 2] = [ConflictPolicy::Siblings, ConflictPolicy::Lww];

fn explore_histories(cluster: &Cluster, histories: u64, most_faults: Option<usize>) -> usize {
    let mut states = 0;
    for seed in 0..histories {
        for policy in POLICIES {
            let history = History::random(cluster, policy, &mut Dice(seed));
            for level in LEVELS {
                for seen in [None, Some(history.seen_by_somebody(&mut Dice(seed)))] {
                    let none = BTreeSet::new();
                    let world = World::start(cluster, level, history.clone(), &none, seen);
                    states += world.map_or(0, |world| explore(world, most_faults));
                }
            }
        }
    }
    states
}

#[test]
fn every_order_on_one_node() {
    assert!(explore_histories(&Cluster::new(&[1]), 3, None) > 50);
}

#[test]
fn every_order_on_three_nodes() {
    assert!(explore_histories(&Cluster::new(&[3]), 3, None) > 5_000);
}

#[test]
fn every_order_with_one_fault_on_two_datacenters_of_two() {
    assert!(explore_histories(&Cluster::new(&[2, 2]), 4, Some(1)) > 1_000);
}

#[test]
fn random_orders_on_three_datacenters_of_three() {
    let cluster = Cluster::new(&[3, 3, 3]);
    let mut dice = Dice(2);
    let mut answered = BTreeMap::<(ConsistencyLevel, bool), u32>::new();
    let (mut differed, mut background) = (0, 0);
    for walk in 0..3_000 {
        let level = LEVELS[walk % LEVELS.len()];
        let policy = POLICIES[dice.below(2)];
        let history = History::random(&cluster, policy, &mut dice);
        let most_faults = [0, 1, 3, 99][dice.below(4)];
        let all = cluster.replicas().all();
        let down = (0..dice.below(3).min(most_faults))
            .map(|_| all[dice.below(all.len())])
            .filter(|&node| node != cluster.leader())
            .collect();
        let seen = (dice.below(2) == 0).then(|| history.seen_by_somebody(&mut dice));
        let Some(mut world) = World::start(&cluster, level, history, &down, seen) else { continue };
        loop {
            let possible = world.possible();
            if possible.is_empty() {
                break;
            }
            let next = possible[dice.below(possible.len())];
            let bounded = world.faults >= most_faults;
            if next.is_fault() && bounded && possible.iter().any(|next| !next.is_fault()) {
                continue;
            }
            world = world.then(next);
        }
        assert!(world.done);
        differed += u32::from(matches!(&world.replies[0], Ok(done) if done.differed));
        background += u32::from(world.of_one() && !world.repaired.is_empty());
        *answered.entry((level, world.replies[0].is_ok())).or_default() += 1;
    }
    for level in LEVELS.into_iter().filter(|&level| level != ConsistencyLevel::Any) {
        assert!(answered.contains_key(&(level, true)), "{level} never met: {answered:?}");
        assert!(answered.contains_key(&(level, false)), "{level} never failed: {answered:?}");
    }
    assert!(differed > 100 && background > 5, "{differed} {background}");
}
