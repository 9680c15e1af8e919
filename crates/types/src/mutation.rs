//! Rules that a build for the mutation tests can leave out, to show that a check notices.
//!
//! A check that nothing can break proves nothing. So each invariant of the simulator is shown
//! to fail when the rule that it watches is broken, and the break sits where the rule is:
//! `if broken(Mutation::X) { .. }`. In every other build [`broken`] is a constant `false` and
//! the branch is gone. Built by `RUSTFLAGS="--cfg meridian_mutations"`, never by a feature:
//! features are added up over a build, and no user may get one of these by accident.

/// A rule that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mutation {
    /// An atomic batch is acknowledged, and written, once other nodes keep it.
    AckBatchBeforeLog,
    /// A replica acknowledges what is as durable as its sync policy says, not before.
    AckBeforeSettled,
    /// A request that would wait for longer than it can is refused before it is begun.
    AdmitAll,
    /// Above ONE a replica answers a read when what it shows is durable.
    AnswerUnsynced,
    /// A delta's entry that the row's context covers stays away (rules 4 and 6).
    ApplyDespiteRowContext,
    /// Of a datacenter only a minority is hurt at one time (the simulator's own rule).
    BudgetIgnored,
    /// A marker is forgotten when every replica durably knows its dot (rule 8).
    CollectAtOnce,
    /// On LWW tables a marker is forgotten when all that is older is known, too (rule 12).
    CollectByDot,
    /// What a crash can take back is no evidence (rules 8 and 12).
    CountUnsyncedClocks,
    /// What was synced survives a power cut (the simulated disk's own rule).
    DropTailOnReplay,
    /// What was said under another layout is no evidence (rules 8 and 12).
    EvidenceOverEpochs,
    /// What a replica said is void when it is gone, and when it pulls in full (rule 10).
    EvidenceOverLives,
    /// Hints that expire are counted.
    ExpireSilently,
    /// A session that forgets a vnode remembers that it has seen something there.
    FoldForgets,
    /// An atomic batch is kept until it is whole.
    ForgetBatchLog,
    /// A row remembers what its replica's clock does not say yet (rule 6).
    ForgetRowContext,
    /// Nothing that a peer had seen comes to a row that a full pull from it has gone by (rule 10).
    ForgetWhatPullPassed,
    /// A retry under the same name gets the dot of the first try (rule 11).
    ForgetWriteIds,
    /// A replica that has nothing and cannot prove that it never had answers no read (rule 10).
    FreshAfterWipe,
    /// A target that refused a hint is tried again after a pause.
    HandoffNeverResumes,
    /// A hint is no replica, but at ANY.
    HintCountsAsAck,
    /// A replica that lacks what a session has seen does not answer it.
    IgnoreSession,
    /// A write that was accepted long ago gets no stamp that was promised away (rule 14).
    IntentBelowPromise,
    /// A write at ANY that waits for a replica keeps what its writer had seen (rule 14).
    IntentWithoutContext,
    /// A peer's clock is joined after the last row of a pull (rule 7).
    JoinClockOfHalfPull,
    /// A vnode whose rows are not all there begins with an empty clock (rule 10).
    KeepClockOfLostTables,
    /// The clock that a pull joins is that of its first page (rule 7).
    JoinClockOfTheEnd,
    /// At a local level the replicas of other datacenters do not count.
    LocalCountsRemote,
    /// What differs is pulled.
    NoPull,
    /// A promise is durable before it is told (rule 12).
    PromiseNotDurable,
    /// A quorum is more than half.
    QuorumOfOne,
    /// A replica that lost more than a tail answers no read (rule 10).
    ReadWhileRebuilding,
    /// What was lost is made good by full pulls (rule 10).
    RebuildWithoutFullPull,
    /// A hint is removed after its target has its delta.
    RemoveBeforeDelivered,
    /// A stale replica gets the joined row with everything that its makers covered (rule 6).
    RepairWithoutContext,
    /// A write that is repeated by those who keep it has one dot (rule 14).
    ReplayMintsAnew,
    /// Above ONE a read answers when as many as its level names hold the answer.
    ReplyBeforeRepair,
    /// A life that was not closed in order is followed by another incarnation (rule 3).
    ReuseIncarnation,
    /// A replica that may have lost the tail of its log answers no read above ONE (rule 10).
    ServeAfterUnclean,
    /// A session has seen what it wrote.
    SessionWithoutWrites,
    /// A pull brings the rows that have a context, whatever their dots (rule 7).
    SkipContextRows,
    /// What is planned to go wrong does (the simulator's own rule).
    SkipFaults,
    /// That a vnode begins anew is durable before its clock is gone (rule 10).
    StateAfterReset,
    /// From a row's context goes what the clock's contiguous base covers, no more (rule 5).
    StripToHighest,
    /// A write succeeds when its level has it.
    SuccessWithoutQuorum,
    /// A reader has seen what the row's context covers (rule 9).
    TokenWithoutRowContext,
    /// Of a write that may have been applied it is not said that it was not.
    UnknownAsNotApplied,
    /// What nobody waits for any more is not done.
    WorkPastDeadline,
}

#[cfg(meridian_mutations)]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static BROKEN: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Whether this thread runs with a rule left out.
    #[must_use]
    pub fn broken(rule: Mutation) -> bool {
        BROKEN.get() == Some(rule)
    }

    /// Leaves a rule out, on this thread only: a simulated world is one thread, so tests of
    /// several rules run beside each other.
    pub fn leave_out(rule: Option<Mutation>) {
        BROKEN.set(rule);
    }
}

#[cfg(meridian_mutations)]
pub use switch::{broken, leave_out};

/// Whether a rule is left out: never, in this build.
#[cfg(not(meridian_mutations))]
#[must_use]
#[inline(always)]
pub const fn broken(_rule: Mutation) -> bool {
    false
}
