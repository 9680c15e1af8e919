//! One page of a scan: the nearest replica's rows, the digests of others, merged in the order of
//! the ring.
//!
//! A page covers a run of the ring that the same replicas hold ([`crate::Segment`]). Rows that all
//! answers agree on are taken; those that they differ on are named, and each is read again by a
//! [`crate::GetMachine`], which joins and repairs it.

mod machine;
mod merge;
#[cfg(test)]
mod tests;

pub use machine::PageMachine;

use meridian_crdt::Row;
use meridian_types::{Millis, NodeId, RingPosition};
use smallvec::SmallVec;

use crate::failure::Failure;
use crate::message::{PageReply, PageRequest, Refusal};

/// How long a page waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTiming {
    /// When it is answered at the latest.
    pub deadline: Millis,
    /// When one more replica than needed is asked, if the answer is not there yet. `None`: never.
    pub hedge_at: Option<Millis>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum PageEvent {
    /// A replica answered.
    PageArrived {
        /// Who.
        from: NodeId,
        /// Its page.
        page: PageReply,
    },
    /// A replica does not answer.
    ReadRefused {
        /// Who.
        from: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// The link to a node went down.
    NodeDown {
        /// Whose.
        node: NodeId,
    },
    /// The link took no message: it is down, or its queue is full.
    SendRefused {
        /// To whom.
        to: NodeId,
    },
    /// Time has passed: [`PageMachine::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done. The node itself may be among the replicas.
#[derive(Clone, Debug, PartialEq)]
pub enum PageAction {
    /// Ask a replica for a page.
    Read {
        /// Whom.
        from: NodeId,
        /// For what.
        request: PageRequest,
    },
    /// Answer. Exactly once.
    Reply(Result<PageDone, Failure>),
    /// The machine is at its end; events that come later do nothing.
    Done,
}

/// What a step asks for, in the order in which it is to be done.
pub type PageActions = SmallVec<[PageAction; 4]>;

/// A page that the level's replicas answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageDone {
    /// The rows, in the order of the ring; at most as many as were asked for.
    pub items: Vec<PageItem>,
    /// Where the page ended, if there may be more in this run of the ring; `None` where there is
    /// no more.
    pub next: Option<RingPosition>,
}

/// A row of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum PageItem {
    /// All answers agree on it. It may be a marker or expired.
    Agreed(RingPosition, Row),
    /// The answers differ: read it at the scan's level.
    Differs(RingPosition),
}

impl PageItem {
    /// Where the row is.
    #[must_use]
    pub fn position(&self) -> &RingPosition {
        match self {
            Self::Agreed(position, _) | Self::Differs(position) => position,
        }
    }
}
