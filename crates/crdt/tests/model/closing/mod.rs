//! Ended incarnations leave clocks, tokens and counters for good (rule 13).
//!
//! All replicas *fence* the ended actor, durably: from then on they apply no delta of it. Each reports
//! which of its dots it has; these are united, and what nobody reported is void. Whoever has all
//! that was united *closes* the actor: its clock covers every dot that the actor ever had or will be
//! said to have had, so nothing of it needs to be counted any more.
//!
//! Checked on one row of `siblings`: nothing that a sound replica has is void; equal clocks mean
//! equal rows, after every step; in the end every replica shows the oracle's siblings, and counts
//! no more actors than there are replicas.

mod history;
mod pinned;
mod replica;
mod world;

use history::History;
use world::{Violation, run};

use crate::support::{HISTORIES, broken_rule, report, seeds, shrunk};

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A majority is enough to say what is void.
    CloseByMajority,
    /// Deltas of the actor are applied while it is being closed.
    CloseWithoutFence,
    /// A crash takes a fence back that was reported.
    FenceNotDurable,
    /// A replica closes before it has what was united.
    CloseBeforeUniting,
    /// A replica with a fence pulls from one without.
    PullFromUnfenced,
    /// A fence counts that a crash can take back, with what was applied before it.
    CountUnsyncedFence,
    /// A checkpoint from before a closing keeps its clock.
    KeepClockFromBeforeClosing,
}

impl Mutation {
    const ALL: &[Self] = &[
        Self::CloseByMajority,
        Self::CloseWithoutFence,
        Self::FenceNotDurable,
        Self::CloseBeforeUniting,
        Self::PullFromUnfenced,
        Self::CountUnsyncedFence,
        Self::KeepClockFromBeforeClosing,
    ];
}

/// The smallest part of a history that still fails.
fn smallest(history: &History, broken: Option<Mutation>) -> History {
    let ops = shrunk(history.ops.clone(), |ops| {
        run(&History { ops: ops.to_vec(), ..*history }, broken).is_err()
    });
    History { ops, ..*history }
}

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
        panic!("{}", report("closing", seed, &what, &smallest, &broken));
    }
}

#[test]
fn every_rule_left_out_breaks_a_promise() {
    // Chance finds histories for these too rarely: theirs are below.
    let is_rare = |rule: &Mutation| {
        matches!(rule, Mutation::CountUnsyncedFence | Mutation::KeepClockFromBeforeClosing)
    };
    let holds = |rule: &Mutation| first_failure(0..HISTORIES, Some(*rule)).is_none();
    let unneeded: Vec<&Mutation> =
        Mutation::ALL.iter().filter(|rule| !is_rare(rule) && holds(rule)).collect();
    assert!(unneeded.is_empty(), "no history of {HISTORIES} fails without {unneeded:?}");
}

#[test]
fn pinned_histories_need_their_rule() {
    let cases = [
        (Mutation::CountUnsyncedFence, pinned::fence_taken_back()),
        (Mutation::KeepClockFromBeforeClosing, pinned::void_in_a_checkpoint()),
    ];
    for (rule, history) in cases {
        assert_eq!(run(&history, None), Ok(()), "{rule:?}: its history fails with it");
        assert!(run(&history, Some(rule)).is_err(), "{rule:?}: its history does not need it");
    }
}
