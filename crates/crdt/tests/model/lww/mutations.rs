//! Leaves one rule out at a time and expects the check to fail.

use super::history::History;
use super::{pinned, run};
use crate::support::{HISTORIES, holds_without};

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A delta whose dot the clock has is applied again.
    ApplyTwice,
    /// An entry is taken although the own clock has its dot and nothing of it is left.
    JoinWithoutOwnClock,
    /// A marker is collected once all replicas durably know its dot, whatever else they lack.
    CollectByDot,
    /// Clocks that a crash can take back count.
    CountUnsyncedClocks,
    /// A crash takes back what a replica has promised.
    PromiseNotDurable,
    /// What was said under an older layout counts, and who came since is not asked.
    EvidenceOverEpochs,
    /// What a replica said counts while it rebuilds.
    RebuildCountsAsKnowing,
    /// An expired entry is collected when the own wall clock says so.
    CollectExpiredAtOnce,
    /// An expired entry is collected although older writes may be under way.
    CollectExpiredByTime,
    /// A full pull leaves what the peer has seen go.
    SweepWithoutCoverage,
    /// A replica that lost rows keeps its clock, and others sweep by it.
    KeepClockOfLostTables,
    /// It is enough to have pulled from others that rebuild as well.
    RebuildFromDamaged,
    /// A delta that the peer of a full pull had seen is taken into a row that the pull has swept.
    ForgetWhatPullPassed,
    /// A rebuilding replica answers reads, and they repair others.
    ReadWhileRebuilding,
    /// A replica that does not know what it promised gives stamps before it has heard all others.
    MintBeforeHearing,
    /// A write that was accepted long ago keeps its stamp, whatever its replica has promised.
    IntentBelowPromise,
    /// The dots of an ended actor that nobody has are left out of the clocks.
    CloseWithoutVoid,
    /// An ended actor is closed while one of its deltas is under way.
    CloseWhileUnderWay,
}

impl Mutation {
    pub(crate) const ALL: &[Self] = &[
        Self::ApplyTwice,
        Self::JoinWithoutOwnClock,
        Self::CollectByDot,
        Self::CountUnsyncedClocks,
        Self::PromiseNotDurable,
        Self::EvidenceOverEpochs,
        Self::RebuildCountsAsKnowing,
        Self::CollectExpiredAtOnce,
        Self::CollectExpiredByTime,
        Self::SweepWithoutCoverage,
        Self::KeepClockOfLostTables,
        Self::RebuildFromDamaged,
        Self::ForgetWhatPullPassed,
        Self::ReadWhileRebuilding,
        Self::MintBeforeHearing,
        Self::IntentBelowPromise,
        Self::CloseWithoutVoid,
        Self::CloseWhileUnderWay,
    ];
}

#[test]
fn every_rule_left_out_breaks_a_promise() {
    for &rule in Mutation::ALL {
        match pinned::history_of(rule) {
            Some(history) => {
                assert_eq!(run(&history, None), Ok(()), "{rule:?}: its history fails with it");
                assert!(run(&history, Some(rule)).is_err(), "{rule:?}: its history does not fail");
            }
            None => {
                let holds = holds_without::<History>(rule);
                assert!(!holds, "{rule:?}: no history of {HISTORIES} fails without it");
            }
        }
    }
}
