//! Every order of acks, refusals, broken links and timers, against an oracle that keeps its own
//! account of what was sent to whom.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use meridian_types::{ConsistencyLevel, DcId, NodeId};

use crate::testing::{Cluster, Dice, LEVELS};
use world::World;

/// Walks through every order of events, with at most so many faults if a number is given; how many
/// states there are.
fn explore(start: World<'_>, most_faults: Option<u32>) -> usize {
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

/// Hints after the deadline, and before it.
const HINT_AFTER: [u64; 2] = [200, 40];

fn explore_every_level(
    cluster: &Cluster,
    downs: &[BTreeSet<NodeId>],
    most_faults: Option<u32>,
) -> usize {
    let mut states = 0;
    for level in LEVELS {
        for down in downs {
            for hint_after in HINT_AFTER {
                if let Some(world) = World::start(cluster, level, down, hint_after) {
                    states += explore(world, most_faults);
                }
            }
        }
    }
    states
}

/// Every set of nodes that may be down besides the leader.
fn every_down(cluster: &Cluster) -> Vec<BTreeSet<NodeId>> {
    let others: Vec<NodeId> =
        cluster.replicas().all().iter().copied().filter(|&n| n != cluster.leader()).collect();
    (0..1_u32 << others.len())
        .map(|set| (0..others.len()).filter(|at| set >> at & 1 == 1).map(|at| others[at]).collect())
        .collect()
}

#[test]
fn every_order_on_one_node() {
    let cluster = Cluster::new(&[1]);
    assert!(explore_every_level(&cluster, &every_down(&cluster), None) > 50);
}

#[test]
fn every_order_on_three_nodes() {
    let cluster = Cluster::new(&[3]);
    assert!(explore_every_level(&cluster, &every_down(&cluster), None) > 2_000);
}

#[test]
fn every_order_on_two_datacenters_of_two() {
    let cluster = Cluster::new(&[2, 2]);
    assert!(explore_every_level(&cluster, &every_down(&cluster), None) > 10_000);
}

#[test]
fn every_order_with_one_fault_on_two_datacenters_of_three() {
    let cluster = Cluster::new(&[3, 3]);
    let remote: BTreeSet<NodeId> = cluster.replicas().in_dc(DcId(1)).iter().copied().collect();
    let one = remote.iter().copied().take(1).collect();
    let downs = [BTreeSet::new(), one, remote];
    assert!(explore_every_level(&cluster, &downs, Some(1)) > 10_000);
}

#[test]
fn random_orders_on_three_datacenters_of_three() {
    let cluster = Cluster::new(&[3, 3, 3]);
    let mut dice = Dice(1);
    let mut answered = BTreeMap::<(ConsistencyLevel, bool), u32>::new();
    for walk in 0..6_000 {
        let level = LEVELS[walk % LEVELS.len()];
        let all = cluster.replicas().all();
        let most_faults = [0, 1, 3, 99][dice.below(4)];
        let down = (0..dice.below(4).min(most_faults))
            .map(|_| all[dice.below(all.len())])
            .filter(|&node| node != cluster.leader())
            .collect();
        let hint_after = HINT_AFTER[dice.below(2)];
        let Some(mut world) = World::start(&cluster, level, &down, hint_after) else { continue };
        loop {
            let possible = world.possible();
            if possible.is_empty() {
                break;
            }
            let next = possible[dice.below(possible.len())];
            let bounded = usize::try_from(world.faults).unwrap() >= most_faults;
            // Time may always pass: somebody may be silent for ever.
            if next.is_fault() && bounded && possible.iter().any(|next| !next.is_fault()) {
                continue;
            }
            world = world.then(next);
        }
        assert!(world.done);
        *answered.entry((level, world.replies[0].is_ok())).or_default() += 1;
    }
    for level in LEVELS {
        assert!(answered.contains_key(&(level, true)), "{level} never met: {answered:?}");
        assert!(answered.contains_key(&(level, false)), "{level} never failed: {answered:?}");
    }
}
