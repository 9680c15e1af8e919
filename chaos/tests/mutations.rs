//! The checks have teeth: with one rule left out, a run that passes whole fails, by the invariant
//! that watches the rule.
//!
//! Only a build in which rules can be left out has these tests; in any other this file is empty and
//! says nothing (`docs/chaos.md`, *Mutations*). The scenarios are aimed: small, and cheap enough to
//! run them all at every commit. A row says within how many seeds its rule must show, a few times
//! what it takes; which seed it is changes with every change of anybody's timing.
#![cfg(meridian_mutations)]

use std::collections::BTreeSet;
use std::sync::Arc;

use meridian_chaos::run::{Case, Verdict};
use meridian_chaos::scenario::{InvariantName, Scenario};
use meridian_chaos::sim::{Order, Trace};
use meridian_chaos::simulate::simulate;
use meridian_types::{Mutation, leave_out};

/// A scenario that is aimed at some rules.
macro_rules! aimed {
    ($name:literal) => {
        include_str!(concat!("mutations/", $name, ".toml"))
    };
}

const FOLDS: &str = aimed!("folds");
const HOPS: &str = aimed!("hops");
const EXPIRED: &str = aimed!("expired");
const FULL: &str = aimed!("full");
const LOCAL: &str = aimed!("local");
const LOST: &str = aimed!("lost");
const ORDER: &str = aimed!("order");
const PAGES: &str = aimed!("pages");
const PULLS: &str = aimed!("pulls");
const RETRIES: &str = aimed!("retries");
const SYNCED: &str = aimed!("synced");
const TAIL: &str = aimed!("tail");

/// Scenarios that the program ships are aimed too.
macro_rules! shipped {
    ($name:literal) => {
        include_str!(concat!("../scenarios/", $name, ".toml"))
    };
}

const AFTER_CRASH: &str = shipped!("read-after-crash");
const AFTER_WIPE: &str = shipped!("read-after-wipe");
const BEFORE_SYNC: &str = shipped!("read-before-sync");
const GLOBAL: &str = shipped!("read-after-crash-global");

fn judged(scenario: &Scenario, seed: u64) -> Verdict {
    let case = Case::whole(Arc::new(scenario.clone()), &scenario.name, seed);
    simulate(&case, Order::Seeded, Trace::default()).verdict
}

/// Whether this verdict is what the invariant says of a broken rule.
fn is_by(verdict: &Verdict, by: InvariantName) -> bool {
    match verdict {
        // It never fails a run: it says that nothing is known.
        Verdict::Unknown(_) => by == InvariantName::Vacuous,
        Verdict::Fail(violation) => violation.invariant == by,
        Verdict::Pass => false,
    }
}

/// One of the first seeds fails by this invariant with the rule left out, and passes every check
/// with it.
fn is_caught(rule: Mutation, scenario: &str, within: u64, by: InvariantName) {
    let scenario = Scenario::parse(scenario).unwrap();
    let one = Scenario { invariants: BTreeSet::from([by]), ..scenario.clone() };
    let caught = (1..=within).find(|seed| {
        leave_out(Some(rule));
        let broken = judged(&one, *seed);
        leave_out(None);
        is_by(&broken, by)
    });
    let Some(seed) = caught else { panic!("{within} seeds without {rule:?}, and {by} holds") };
    assert_eq!(judged(&scenario, seed), Verdict::Pass, "{} {seed}, whole", scenario.name);
}

/// A test for each rule.
macro_rules! caught {
    ($($test:ident: $rule:ident in $scenario:ident within $seeds:literal by $by:ident;)*) => {
        $(#[test]
        fn $test() {
            is_caught(Mutation::$rule, $scenario, $seeds, InvariantName::$by);
        })*
    };
}

caught! {
    ack_before_settled: AckBeforeSettled in SYNCED within 5 by Acknowledged;
    answer_unsynced: AnswerUnsynced in BEFORE_SYNC within 60 by Monotonic;
    apply_despite_row_context: ApplyDespiteRowContext in ORDER within 10 by Convergence;
    apply_despite_row_context_undeletes: ApplyDespiteRowContext in ORDER within 15 by Deletes;
    drop_tail_on_replay: DropTailOnReplay in SYNCED within 5 by Acknowledged;
    expire_silently: ExpireSilently in EXPIRED within 5 by Hints;
    fold_forgets: FoldForgets in FOLDS within 10 by Sessions;
    forget_row_context: ForgetRowContext in ORDER within 10 by Convergence;
    forget_write_ids: ForgetWriteIds in RETRIES within 15 by Counters;
    fresh_after_wipe: FreshAfterWipe in AFTER_WIPE within 10 by Local;
    handoff_never_resumes: HandoffNeverResumes in FULL within 20 by Liveness;
    hint_counts_as_ack: HintCountsAsAck in RETRIES within 5 by Answers;
    ignore_session: IgnoreSession in HOPS within 5 by Sessions;
    join_clock_of_half_pull: JoinClockOfHalfPull in PAGES within 10 by Convergence;
    join_clock_of_half_pull_loses_siblings: JoinClockOfHalfPull in PAGES within 10 by Siblings;
    local_counts_remote: LocalCountsRemote in LOCAL within 20 by Local;
    no_pull: NoPull in PULLS within 10 by Liveness;
    no_pull_loses_siblings: NoPull in PULLS within 20 by Siblings;
    quorum_of_one: QuorumOfOne in TAIL within 5 by Regular;
    quorum_of_one_local: QuorumOfOne in LOCAL within 5 by Local;
    quorum_of_one_loses: QuorumOfOne in TAIL within 5 by Acknowledged;
    remove_before_delivered: RemoveBeforeDelivered in LOST within 5 by Hints;
    repair_without_context: RepairWithoutContext in ORDER within 10 by Convergence;
    repair_without_context_undeletes: RepairWithoutContext in ORDER within 15 by Deletes;
    reply_before_repair: ReplyBeforeRepair in LOST within 40 by Monotonic;
    reuse_incarnation: ReuseIncarnation in TAIL within 15 by Counters;
    serve_after_unclean: ServeAfterUnclean in AFTER_CRASH within 10 by Local;
    serve_after_unclean_global: ServeAfterUnclean in GLOBAL within 40 by Regular;
    session_without_writes: SessionWithoutWrites in HOPS within 5 by Sessions;
    skip_faults: SkipFaults in TAIL within 1 by Vacuous;
    strip_to_highest: StripToHighest in ORDER within 15 by Convergence;
    success_without_quorum: SuccessWithoutQuorum in RETRIES within 5 by Answers;
    token_without_row_context: TokenWithoutRowContext in ORDER within 30 by Regular;
    unknown_as_not_applied: UnknownAsNotApplied in LOCAL within 10 by Answers;
}
