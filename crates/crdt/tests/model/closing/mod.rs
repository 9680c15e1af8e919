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

use history::{History, Op};
use world::{Violation, run};

use crate::support::{self, HISTORIES, RandomHistory, holds_without};

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

impl RandomHistory for History {
    const MODEL: &str = "closing";
    const RULES: &[Mutation] = Mutation::ALL;

    type Op = Op;
    type Rule = Mutation;
    type Violation = Violation;

    fn drawn(seed: u64) -> Self {
        Self::draw(seed)
    }

    fn ops(&self) -> &[Op] {
        &self.ops
    }

    fn with(&self, ops: &[Op]) -> Self {
        Self { ops: ops.to_vec(), ..*self }
    }

    fn check(&self, broken: Option<Mutation>) -> Result<(), Violation> {
        run(self, broken)
    }
}

#[test]
fn every_history_keeps_its_promises() {
    support::every_history_keeps_its_promises::<History>();
}

#[test]
fn every_rule_left_out_breaks_a_promise() {
    // Chance finds histories for these too rarely: theirs are below.
    let is_rare = |rule: &Mutation| {
        matches!(rule, Mutation::CountUnsyncedFence | Mutation::KeepClockFromBeforeClosing)
    };
    let holds = |rule: &Mutation| holds_without::<History>(*rule);
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
