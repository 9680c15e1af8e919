//! One vnode of `siblings` rows: design rules 1 to 10.
//!
//! Checked: A, after everything has arrived every replica shows exactly the oracle's siblings; B, a
//! quorum read sees every acknowledged quorum write or what covers it; C, equal clocks mean equal
//! visible rows, after every step; D, nothing deleted or overwritten comes back; L, with damaged
//! replicas nothing live is lost and what reappears was overwritten by writes that the lost tables
//! alone had known; and no row context outlives a clock without gaps.

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

/// The smallest part of a history that still fails.
fn smallest(history: &History, broken: Option<Mutation>) -> History {
    let ops = shrunk(history.ops.to_vec(), |ops| run(&history.with_ops(ops), broken).is_err());
    history.with_ops(&ops)
}

/// The first failing seed, with what failed.
fn first_failure(
    mut seeds: impl Iterator<Item = u64>,
    broken: Option<Mutation>,
) -> Option<(u64, Violation)> {
    seeds.find_map(|seed| run(&History::draw(seed), broken).err().map(|what| (seed, what)))
}

#[test]
fn every_history_keeps_its_promises() {
    let broken = broken_rule(Mutation::ALL);
    if let Some((seed, what)) = first_failure(seeds(), broken) {
        let smallest = smallest(&History::draw(seed), broken);
        panic!("{}", report("siblings", seed, &what, &smallest, &broken));
    }
}
