//! Full pulls of a vnode that are under way, and what they have gone by (rules 7 and 10).
//!
//! Where neither side has a row, a full pull joins nothing. What comes to such a row before the pull
//! ends, and what the peer had seen go and forgotten, would be back: the clock that is joined in the
//! end covers both. So nothing that the peer had seen when the pull began comes to a row that the
//! pull has gone by. It is refused and not taken for known, for the pull may break off.

use std::sync::Arc;

use meridian_crdt::{Dot, VnodeClock};
use meridian_types::TableId;

use crate::store::PagePosition;

/// Those of one vnode.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    pulls: Vec<Pull>,
    last: u64,
}

#[derive(Debug)]
struct Pull {
    number: u64,
    /// The peer's clock when it began.
    began: Arc<VnodeClock>,
    passed: Passed,
}

/// How far a full pull has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Nothing,
    UpTo(PagePosition),
    Everything,
}

impl Passed {
    fn has(&self, table: TableId, key: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::UpTo((last, end)) => (table, key) <= (*last, end),
            Self::Everything => true,
        }
    }
}

impl Passing {
    /// A full pull begins; its number.
    pub(crate) fn begin(&mut self, began: Arc<VnodeClock>) -> u64 {
        self.last += 1;
        self.pulls.push(Pull { number: self.last, began, passed: Passed::Nothing });
        self.last
    }

    pub(crate) fn come_to(&mut self, number: u64, passed: Passed) {
        if let Some(pull) = self.pulls.iter_mut().find(|pull| pull.number == number) {
            pull.passed = passed;
        }
    }

    pub(crate) fn end(&mut self, number: u64) {
        self.pulls.retain(|pull| pull.number != number);
    }

    /// Whether a write must not come to this row now; `by` is the full pull that brings it, if one
    /// does.
    pub(crate) fn refuses(&self, table: TableId, key: &[u8], dot: Dot, by: Option<u64>) -> bool {
        let others = self.pulls.iter().filter(|pull| Some(pull.number) != by);
        others.into_iter().any(|pull| pull.passed.has(table, key) && pull.began.contains(dot))
    }
}
