//! Leaves one rule out at a time and expects the check to fail.

use std::borrow::Cow;

use super::history::{History, Op};
use super::{first_failure, run};
use crate::support::HISTORIES;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A marker is collected once all replicas durably know its dot, whatever else they lack.
    CollectByDot,
    /// Clocks that a crash can take back count.
    CountUnsyncedClocks,
    /// A delta whose dot the clock has is applied again.
    ApplyTwice,
}

impl Mutation {
    pub(crate) const ALL: &[Self] =
        &[Self::CollectByDot, Self::CountUnsyncedClocks, Self::ApplyTwice];
}

/// Rule 12, durable clocks only. Replica 0 has the marker, but not on its disk. Both collect it;
/// replica 0 crashes and has the deleted value again.
fn marker_forgotten() -> History {
    const OPS: &[Op] = &[
        Op::Write { at: 0, key: 0, wall: 0, marker: false },
        Op::Sync { at: 0 },
        Op::Write { at: 1, key: 0, wall: 5, marker: true },
        DELIVER,
        DELIVER,
        Op::Promise { at: 0 },
        Op::Promise { at: 1 },
        Op::Sync { at: 1 },
        Op::Collect,
        Op::Crash { at: 0, wall: 0 },
    ];
    history(OPS)
}

/// Rule 4. Replica 1 pulled the value while its delta was under way, and everybody has forgotten
/// its deletion when the delta arrives.
fn delta_that_comes_late() -> History {
    const OPS: &[Op] = &[
        Op::Write { at: 0, key: 0, wall: 0, marker: false },
        Op::Pull { to: 1, from: 0 },
        Op::Write { at: 1, key: 0, wall: 5, marker: true },
        Op::Deliver { pick: 1, lost: false },
        Op::Promise { at: 0 },
        Op::Promise { at: 1 },
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        Op::Collect,
    ];
    history(OPS)
}

const DELIVER: Op = Op::Deliver { pick: 0, lost: false };

fn history(ops: &'static [Op]) -> History {
    History { replicas: 2, keys: 1, first_stamps: 0, ops: Cow::Borrowed(ops) }
}

#[test]
fn every_rule_left_out_breaks_a_promise() {
    for &rule in Mutation::ALL {
        let by_hand = match rule {
            Mutation::CollectByDot => None,
            Mutation::CountUnsyncedClocks => Some(marker_forgotten()),
            Mutation::ApplyTwice => Some(delta_that_comes_late()),
        };
        match by_hand {
            Some(history) => {
                assert_eq!(run(&history, None), Ok(()), "{rule:?}: its history fails with it");
                assert!(run(&history, Some(rule)).is_err(), "{rule:?}: its history does not fail");
            }
            None => {
                let failure = first_failure(0..HISTORIES, Some(rule));
                assert!(failure.is_some(), "{rule:?}: no history of {HISTORIES} fails without it");
            }
        }
    }
}
