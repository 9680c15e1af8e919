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

use history::History;
use world::{Violation, run};

use crate::support::{HISTORIES, broken_rule, report, seeds, shrunk};

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
        panic!("{}", report("intents", seed, &what, &smallest, &broken));
    }
}

#[test]
fn every_rule_left_out_breaks_a_promise() {
    let holds = |rule: &Mutation| first_failure(0..HISTORIES, Some(*rule)).is_none();
    let unneeded: Vec<&Mutation> = Mutation::ALL.iter().filter(|rule| holds(rule)).collect();
    assert!(unneeded.is_empty(), "no history of {HISTORIES} fails without {unneeded:?}");
}
