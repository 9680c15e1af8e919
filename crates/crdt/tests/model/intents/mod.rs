//! Writes that somebody keeps until they are done, and repeats: intents of ANY, logged batches
//! (rules 11 and 14).
//!
//! The keeper first has a replica *reserve* a dot, makes the dot durable with what it keeps, and
//! only then sends the delta, to whichever replica is alive, as often as it likes: by then it is a
//! delta as any other, and rule 4 applies it once. It forgets the write when the replica that
//! reserved the dot durably has it. A replica that does not hear of a reserved dot again asks the
//! keeper, who gives it up by answering, and then counts the dot as seen, so that its base moves on.
//!
//! Checked on one row of `siblings`, against an oracle that knows which dots are one write: in the
//! end every replica shows a kept write unless something overwrote one of its dots, it replaces
//! what its client had seen, and no living actor has a gap.

mod history;
mod keeper;
mod replica;
mod world;

use history::{History, Op};
use world::{Violation, run};

use crate::support::{self, HISTORIES, RandomHistory, holds_without};

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Whichever replica is asked mints a dot of its own; ids are remembered in memory, where the
    /// delta came by.
    IdsInMemory,
    /// The keeper asks one replica only, which stores the id with its mint.
    AskOneReplica,
    /// The delta is sent before the dot is durable at the keeper.
    SendBeforeDotIsDurable,
    /// The keeper forgets what a replica has, but not on its disk.
    ForgetWhenApplied,
    /// The keeper forgets what another replica has than the one that reserved the dot.
    ForgetWhenAnybodyHasIt,
    /// The keeper does not keep what the client had seen.
    KeepWithoutContext,
    /// A replica counts a reserved dot as seen without asking.
    FillWithoutAsking,
    /// A dot that the keeper is asked about is given to it once more.
    NameAgainWhileAsking,
    /// The keeper takes an answer that came after it had given the dot up.
    AnswerWithoutGivingUp,
    /// Reserved dots that nobody uses are never counted as seen.
    NeverFill,
}

impl Mutation {
    const ALL: &[Self] = &[
        Self::IdsInMemory,
        Self::AskOneReplica,
        Self::SendBeforeDotIsDurable,
        Self::ForgetWhenApplied,
        Self::ForgetWhenAnybodyHasIt,
        Self::KeepWithoutContext,
        Self::FillWithoutAsking,
        Self::NameAgainWhileAsking,
        Self::AnswerWithoutGivingUp,
        Self::NeverFill,
    ];

    /// Whether replicas mint when they are asked, rather than reserve.
    fn mints_at_once(self) -> bool {
        matches!(self, Self::IdsInMemory | Self::AskOneReplica)
    }
}

impl RandomHistory for History {
    const MODEL: &str = "intents";
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
    let holds = |rule: &Mutation| holds_without::<History>(*rule);
    let unneeded: Vec<&Mutation> = Mutation::ALL.iter().filter(|rule| holds(rule)).collect();
    assert!(unneeded.is_empty(), "no history of {HISTORIES} fails without {unneeded:?}");
}
