//! Leaves one rule out at a time and expects the check to fail.

use super::history::History;
use super::oracle::Violation;
use super::{pinned, run};
use crate::support::{HISTORIES, holds_without};

/// A part of rule 10 that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Reads are answered right after a crash that lost the unsynced tail.
    ServeAfterCrash,
    /// A replica without a record of the vnode answers reads.
    ServeFresh,
    /// A majority of replicas without a record take the vnode for new.
    BeginByMajority,
    /// A read that waits for r is answered after r - 1 peers.
    PullFromTooFew,
    /// Peers count whatever they lost themselves.
    CountAnyPeer,
    /// Lost tables leave the clock as it was.
    KeepClockOfLostTables,
    /// A replica that was put back pulls only what is new to it.
    PullOnlyNews,
    /// A peer that was swept is not swept again when another turns out to have lost something.
    SweepOnce,
    /// A pull that began before a peer's loss was heard of counts after it.
    CountOlderPulls,
    /// What comes to a row that a full pull has gone by, where nobody had one, is taken as if it had
    /// not.
    ForgetWhatPullPassed,
    /// Reads are answered although nobody is left who has not lost anything, and nobody accepted
    /// it.
    AnswerWithoutSound,
    /// What is written anew can be lost again with the tail.
    ReissueUnsynced,
    /// Entries without their context are handed to whoever pulls.
    HandOutLooseEntries,
    /// What is still loose in the end goes into the clock under its own dot.
    KeepDotOfLooseEntries,
    /// What is written anew covers its old dot, but not what that one had covered: where the old
    /// delta arrives late, nothing in the row tells a puller that it did.
    ReissueOverItself,
    /// What is still loose in the end is dropped.
    DropLooseEntries,
    /// Loose entries are written anew after one peer.
    ReissueEarly,
    /// An operator who accepts a loss ends the sweeping as well.
    AcceptWithoutSweep,
}

impl Mutation {
    pub(crate) const ALL: &[Self] = &[
        Self::ServeAfterCrash,
        Self::ServeFresh,
        Self::BeginByMajority,
        Self::PullFromTooFew,
        Self::CountAnyPeer,
        Self::KeepClockOfLostTables,
        Self::PullOnlyNews,
        Self::SweepOnce,
        Self::CountOlderPulls,
        Self::ForgetWhatPullPassed,
        Self::AnswerWithoutSound,
        Self::ReissueUnsynced,
        Self::HandOutLooseEntries,
        Self::KeepDotOfLooseEntries,
        Self::ReissueOverItself,
        Self::DropLooseEntries,
        Self::ReissueEarly,
        Self::AcceptWithoutSweep,
    ];
}

#[test]
fn every_rule_left_out_breaks_a_promise() {
    // Chance finds histories for these too rarely: theirs are below.
    let is_rare = |rule: &Mutation| {
        matches!(
            rule,
            Mutation::PullOnlyNews
                | Mutation::SweepOnce
                | Mutation::CountOlderPulls
                | Mutation::ForgetWhatPullPassed
        )
    };
    let holds = |rule: &Mutation| holds_without::<History>(*rule);
    let unneeded: Vec<&Mutation> =
        Mutation::ALL.iter().filter(|rule| !is_rare(rule) && holds(rule)).collect();
    assert!(unneeded.is_empty(), "no history of {HISTORIES} fails without {unneeded:?}");
}

/// What the rules are for, told in as few steps as possible.
#[test]
fn pinned_histories_need_their_rule() {
    type Pinned = (Mutation, History, fn(&Violation) -> bool);
    let unseen: fn(&Violation) -> bool =
        |what| matches!(what, Violation::AcknowledgedWriteUnseen { .. });
    let differ: fn(&Violation) -> bool = |what| matches!(what, Violation::EqualClocksDiffer { .. });
    let came_back: fn(&Violation) -> bool = |what| matches!(what, Violation::CameBack { .. });
    let anew: fn(&Violation) -> bool = |what| matches!(what, Violation::WrittenAnewTwice { .. });
    let unaccepted: fn(&Violation) -> bool = |what| *what == Violation::AnsweredUnaccepted;
    let cases: [Pinned; 13] = [
        (Mutation::ServeAfterCrash, pinned::crash_of_one_acker(), unseen),
        (Mutation::BeginByMajority, pinned::majority_without_a_record(), unseen),
        (Mutation::CountAnyPeer, pinned::two_of_five_crash(), unseen),
        (Mutation::PullFromTooFew, pinned::few_acks_many_answers(), unseen),
        (Mutation::PullOnlyNews, pinned::marker_forgotten_by_the_peer(), differ),
        (Mutation::SweepOnce, pinned::known_only_where_it_was_not_yet(), came_back),
        (Mutation::CountOlderPulls, pinned::swept_before_the_loss_was_heard_of(), came_back),
        (Mutation::ForgetWhatPullPassed, pinned::delta_behind_the_scan(), differ),
        (Mutation::AnswerWithoutSound, pinned::both_lost_something(), unaccepted),
        (Mutation::ReissueUnsynced, pinned::crash_after_writing_anew(), anew),
        (Mutation::AcceptWithoutSweep, pinned::accepted_before_sweeping(), differ),
        (Mutation::KeepDotOfLooseEntries, pinned::context_lost_with_the_clock(), differ),
        (Mutation::HandOutLooseEntries, pinned::entry_without_its_context(), differ),
    ];
    for (rule, history, is_expected) in cases {
        assert_eq!(run(&history, None), Ok(()), "{rule:?}: its history fails with it");
        match run(&history, Some(rule)) {
            Err(what) => assert!(is_expected(&what), "{rule:?}: fails otherwise: {what}"),
            Ok(()) => panic!("{rule:?}: its history does not fail without it"),
        }
    }
}
