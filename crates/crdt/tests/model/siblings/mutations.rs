//! Leaves one rule out at a time and expects the check to fail: a check that cannot fail holds
//! nothing.

use bytes::Bytes;
use meridian_crdt::{Context, Delta, Entry};
use meridian_types::Hlc;

use super::history::History;
use super::oracle::Violation;
use super::replica::Replica;
use super::{pinned, run};
use crate::support::{HISTORIES, holds_without};

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Rule 3: a crashed replica goes on under its old incarnation.
    ReuseIncarnation,
    /// Rule 4: a delta whose dot the clock has is applied again.
    ApplyTwice,
    /// Rule 4: a delta's entry is added although the row's own context covers it.
    ApplyDespiteRowContext,
    /// Rule 5: more than the contiguous base is taken as covered.
    StripToHighest,
    /// Rule 6: the joined row does not keep the other side's coverage.
    ForgetRowContext,
    /// Rule 6: what the other side covers and does not have stays.
    JoinWithoutTheirCoverage,
    /// Rule 6: the own clock covers nothing.
    JoinWithoutOwnClock,
    /// Rule 6: a peer's answer is a row read before and a clock read after a write.
    TearAnswers,
    /// Rule 6: read repair sends entries without what the readers cover.
    RepairWithoutContext,
    /// Rule 7: a pull that broke off joins the clock all the same.
    JoinClockOfHalfPull,
    /// Rule 7: a pull joins the peer's clock as it is at the end of the scan.
    JoinClockOfTheEnd,
    /// Rule 8: markers are collected without asking who knows them.
    CollectAtOnce,
    /// Rule 8: clocks that a crash can take back count.
    CountUnsyncedClocks,
    /// Rule 9: a token leaves out the row's context.
    TokenWithoutRowContext,
    /// Rule 9: a token of one key is taken for another.
    TokenOfAnotherKey,
    /// Rule 10: lost tables leave the clock as it was.
    KeepClockOfLostTables,
    /// Rule 10: a rebuilding replica pulls only what is new to it.
    RebuildWithoutFullPull,
    /// Rule 10: one peer is enough to rebuild from.
    RebuildFromOnePeer,
    /// Rule 10: a rebuilding replica serves pulls with its clock.
    ServeWhileRebuilding,
    /// Rule 10: rows under equal clocks are never compared.
    SkipVerification,
}

impl Mutation {
    pub(crate) const ALL: &[Self] = &[
        Self::ReuseIncarnation,
        Self::ApplyTwice,
        Self::ApplyDespiteRowContext,
        Self::StripToHighest,
        Self::ForgetRowContext,
        Self::JoinWithoutTheirCoverage,
        Self::JoinWithoutOwnClock,
        Self::TearAnswers,
        Self::RepairWithoutContext,
        Self::JoinClockOfHalfPull,
        Self::JoinClockOfTheEnd,
        Self::CollectAtOnce,
        Self::CountUnsyncedClocks,
        Self::TokenWithoutRowContext,
        Self::TokenOfAnotherKey,
        Self::KeepClockOfLostTables,
        Self::RebuildWithoutFullPull,
        Self::RebuildFromOnePeer,
        Self::ServeWhileRebuilding,
        Self::SkipVerification,
    ];
}

/// How a rule is shown to matter.
enum Shown {
    /// By the same random histories as every other test run.
    BySearch,
    /// By a history written by hand, because chance finds one too rarely. The check that fails.
    ByHand(History, fn(&Violation) -> bool),
}

fn shown(rule: Mutation) -> Shown {
    match rule {
        Mutation::CountUnsyncedClocks => Shown::ByHand(pinned::marker_forgotten(), |what| {
            matches!(what, Violation::WrongSiblings { .. })
        }),
        Mutation::RebuildWithoutFullPull => {
            Shown::ByHand(pinned::row_outside_the_clock(), |what| {
                matches!(what, Violation::EqualClocksDiffer { .. })
            })
        }
        Mutation::RebuildFromOnePeer => Shown::ByHand(pinned::peer_that_is_behind(), |what| {
            matches!(what, Violation::EqualClocksDiffer { .. })
        }),
        Mutation::ServeWhileRebuilding => {
            Shown::ByHand(pinned::rows_without_their_clock(), |what| {
                matches!(what, Violation::EqualClocksDiffer { .. })
            })
        }
        Mutation::SkipVerification => {
            Shown::ByHand(pinned::context_lost_with_the_clock(), |what| {
                matches!(what, Violation::Disagree { .. })
            })
        }
        Mutation::ReuseIncarnation
        | Mutation::ApplyTwice
        | Mutation::ApplyDespiteRowContext
        | Mutation::StripToHighest
        | Mutation::ForgetRowContext
        | Mutation::JoinWithoutTheirCoverage
        | Mutation::JoinWithoutOwnClock
        | Mutation::TearAnswers
        | Mutation::RepairWithoutContext
        | Mutation::JoinClockOfHalfPull
        | Mutation::JoinClockOfTheEnd
        | Mutation::CollectAtOnce
        | Mutation::TokenWithoutRowContext
        | Mutation::TokenOfAnotherKey
        | Mutation::KeepClockOfLostTables => Shown::BySearch,
    }
}

#[test]
fn every_rule_left_out_breaks_a_promise() {
    for &rule in Mutation::ALL {
        match shown(rule) {
            Shown::BySearch => {
                let holds = holds_without::<History>(rule);
                assert!(!holds, "{rule:?}: no history of {HISTORIES} fails without it");
            }
            Shown::ByHand(history, is_expected) => {
                assert_eq!(run(&history, None), Ok(()), "{rule:?}: its history fails with it");
                match run(&history, Some(rule)) {
                    Err(what) => assert!(is_expected(&what), "{rule:?}: fails otherwise: {what}"),
                    Ok(()) => panic!("{rule:?}: its history does not fail without it"),
                }
            }
        }
    }
}

/// What the search sees as "minted twice" is a write that the others take for another one.
#[test]
fn a_dot_that_is_reused_loses_a_write() {
    let broken = Some(Mutation::ReuseIncarnation);
    let (mut writer, mut peer) = (Replica::new(0, 1, broken), Replica::new(1, 1, broken));
    let write = |writer: &mut Replica, value: &'static str| {
        let value = Some(Bytes::from_static(value.as_bytes()));
        let entry = Entry { dot: writer.mint(), stamp: Hlc::ZERO, expires: None, value };
        let delta = Delta { entry, context: Context::default() };
        writer.apply(0, delta.clone());
        delta
    };
    peer.apply(0, write(&mut writer, "lost with the tail, but sent"));
    writer.crash();
    peer.apply(0, write(&mut writer, "acknowledged"));
    assert_eq!(writer.clock, peer.clock);
    assert_ne!(writer.rows[0].digest(), peer.rows[0].digest());
}
