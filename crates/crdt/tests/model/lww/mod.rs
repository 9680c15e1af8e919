//! One vnode of LWW rows, and when it may forget a marker: design rule 12.
//!
//! Checked: after everything has arrived, every replica shows the write with the highest (stamp,
//! dot) of all that survived, or nothing where that is a delete. Markers are not collected by the
//! product yet; this holds the rule for when they are.

mod history;
mod mutations;
mod world;

use history::History;
use mutations::Mutation;
use world::{WrongWinner, run};

use crate::support::{broken_rule, report, seeds, shrunk};

fn smallest(history: &History, broken: Option<Mutation>) -> History {
    let ops = shrunk(history.ops.to_vec(), |ops| run(&history.with_ops(ops), broken).is_err());
    history.with_ops(&ops)
}

fn first_failure(
    mut seeds: impl Iterator<Item = u64>,
    broken: Option<Mutation>,
) -> Option<(u64, WrongWinner)> {
    seeds.find_map(|seed| run(&History::draw(seed), broken).err().map(|what| (seed, what)))
}

#[test]
fn every_history_shows_the_last_writer() {
    let broken = broken_rule(Mutation::ALL);
    if let Some((seed, what)) = first_failure(seeds(), broken) {
        let smallest = smallest(&History::draw(seed), broken);
        panic!("{}", report("lww", seed, &what, &smallest, &broken));
    }
}
