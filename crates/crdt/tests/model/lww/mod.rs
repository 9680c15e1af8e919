//! One vnode of LWW rows, and when it may forget a marker: design rule 12, with what rules 7, 10,
//! 13 and 14 must hold for it.
//!
//! Checked: W, after everything has arrived every replica shows the write with the highest (stamp,
//! dot) of all that survived, or nothing where that is a delete or has expired; C, equal clocks of
//! sound replicas mean equal visible rows at any moment that may be theirs, after every step; D,
//! what a collected marker had beaten is shown by no sound replica and by no read, ever again.
//! Markers are not collected by the product yet; this holds the rules for when they are.
//!
//! What stands by argument only: a disk lost with the record of its lives (a write of a life that
//! nobody has heard of may be under way with any stamp), and no sound replica left, after which
//! nothing is promised.

mod evidence;
mod history;
mod mutations;
mod oracle;
mod pinned;
mod pull;
mod replica;
mod world;

use history::History;
use mutations::Mutation;
use oracle::Violation;
use world::run;

use crate::support::{broken_rule, report, seeds, shrunk};

fn smallest(history: &History, broken: Option<Mutation>) -> History {
    let ops = shrunk(history.ops.to_vec(), |ops| run(&history.with_ops(ops), broken).is_err());
    history.with_ops(&ops)
}

fn first_failure(
    mut seeds: impl Iterator<Item = u64>,
    broken: Option<Mutation>,
) -> Option<(u64, Violation)> {
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
