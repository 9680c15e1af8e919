//! One read: the nearest replica's row, the digests of others, and what is done where they differ.

mod hedge;
mod machine;
mod read_repair;
mod reconcile;
#[cfg(test)]
mod tests;

pub use hedge::HedgeBudget;
pub use machine::GetMachine;
pub use reconcile::{Reconciled, reconcile};

use meridian_crdt::{ConflictPolicy, Context, Row, RowVersion};
use meridian_types::{Millis, NodeId};
use smallvec::SmallVec;

use crate::failure::Failure;
use crate::message::{ReadKind, Refusal};

/// How a read is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetOptions {
    /// How the table's versions are joined.
    pub policy: ConflictPolicy,
    /// Whether [`GetDone::reader`] is wanted: it copies the clock's base.
    pub with_context: bool,
    /// When the client is answered at the latest.
    pub deadline: Millis,
    /// When one more replica than needed is asked, if the answer is not there yet. `None`: never.
    pub hedge_at: Option<Millis>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum GetEvent {
    /// A replica answered [`GetAction::Read`] of [`ReadKind::Data`].
    DataArrived {
        /// Who.
        from: NodeId,
        /// Its version of the row.
        version: RowVersion,
    },
    /// A replica answered [`GetAction::Read`] of [`ReadKind::Digest`].
    DigestArrived {
        /// Who.
        from: NodeId,
        /// The digest of its row.
        digest: u128,
    },
    /// A replica does not answer [`GetAction::Read`].
    ReadRefused {
        /// Who.
        from: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// A replica has joined what [`GetAction::Repair`] sent.
    Repaired {
        /// Who.
        from: NodeId,
    },
    /// A replica has not joined it.
    RepairRefused {
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
    /// Time has passed: [`GetMachine::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done. The node itself may be among the replicas.
#[derive(Clone, Debug, PartialEq)]
pub enum GetAction {
    /// Ask a replica for the row.
    Read {
        /// Whom.
        from: NodeId,
        /// For how much of it.
        kind: ReadKind,
        /// Whether it is to refuse where it lacks something that the session has seen.
        covering: bool,
    },
    /// Have a stale replica join the row ([`crate::message::ReplicaRequest::Join`]). At most once
    /// for a replica and read.
    Repair {
        /// Whom.
        to: NodeId,
        /// The joined row.
        version: Row,
        /// Everything that the joined versions' makers covered.
        coverage: Context,
    },
    /// Answer the client. Exactly once.
    Reply(Result<GetDone, Failure>),
    /// The machine is at its end; events that come later do nothing.
    Done,
}

/// What a step asks for, in the order in which it is to be done.
pub type GetActions = SmallVec<[GetAction; 4]>;

/// A row that the level's replicas agree on, or were made to.
#[derive(Clone, Debug, PartialEq)]
pub struct GetDone {
    /// The row. Markers and expired entries are among its entries; [`Row::visible`] sorts them
    /// out.
    pub row: Row,
    /// What the reader has seen, exactly (rule 9): the content of its token. `None` where it was
    /// not wanted.
    pub reader: Option<Context>,
    /// How the row was joined.
    pub policy: ConflictPolicy,
    /// Whether the answers differed.
    pub differed: bool,
}
