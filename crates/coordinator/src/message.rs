//! What replicas say to each other while they serve requests.

use bytes::Bytes;
use meridian_crdt::{Context, Delta, Dot, Row, RowVersion};
use meridian_service::{Outcome, Request, RequestError};
use meridian_types::{
    BatchId, Epoch, Hlc, KeptAs, KeyspaceId, NodeId, ReadClass, RingPosition, RowKey, TableId,
    VnodeId, WriteId,
};

/// From a coordinator to a replica.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplicaRequest {
    /// Apply a delta.
    Write(WriteDelta),
    /// Read a row, or its digest.
    Read {
        /// The row.
        row: RowKey,
        /// How much of it.
        kind: ReadKind,
        /// What the read waits for: a replica that may have lost something may be good enough for
        /// one read and not for another (rule 10).
        class: ReadClass,
        /// The layout that the request was planned with.
        epoch: Epoch,
        /// What the reader's session has seen of the vnode. A replica whose clock lacks some of it
        /// waits a little, and then refuses: [`Refusal::Behind`].
        seen: Option<Context>,
    },
    /// Join a version of a row: read repair.
    Join {
        /// The row.
        row: RowKey,
        /// The version.
        version: Row,
        /// Everything that the version's makers covered, their entries included.
        coverage: Context,
        /// The layout that the request was planned with.
        epoch: Epoch,
    },
    /// Read a page of a table.
    Page(PageRequest),
    /// Serve this client's request in the sender's stead: the sender is no replica of its key.
    Coordinate(Request),
    /// Give out a dot for a write that the sender keeps (rule 14).
    Reserve(Reserve),
    /// Does the receiver still need a dot that it was given for a write that it keeps? Whoever says
    /// no has given it up, together with whatever of it is still under way.
    StillNeeded {
        /// Where the receiver has the write.
        kept_as: KeptAs,
        /// The dot.
        dot: VnodeDot,
    },
    /// Which of these dots does the receiver's disk have?
    Holds(Vec<VnodeDot>),
    /// Keep this batch, durably, and bring it about if its coordinator does not.
    KeepBatch(LoggedBatch),
    /// These batches are whole. Not answered.
    ForgetBatches(Vec<BatchId>),
}

/// Asks for a dot before its delta exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The row.
    pub row: RowKey,
    /// The write's name.
    pub write_id: WriteId,
    /// Where the sender keeps the write.
    pub kept_as: KeptAs,
    /// Who may come to keep it besides the sender: all of them are asked before the dot is taken
    /// for unused.
    pub holders: Vec<NodeId>,
    /// Whether the write replaces what the receiver has of the row now.
    pub over_what_is_here: bool,
}

/// Names a write: a dot is counted per vnode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VnodeDot {
    /// The vnode's keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// The dot.
    pub dot: Dot,
}

impl VnodeDot {
    /// The name of a delta's write.
    #[must_use]
    pub fn of(row: &RowKey, delta: &Delta) -> Self {
        Self { keyspace: row.keyspace, vnode: row.vnode, dot: delta.entry.dot }
    }
}

/// An atomic batch as its log has it: every write has its dot, so it may be repeated by anybody.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedBatch {
    /// Its name.
    pub id: BatchId,
    /// Everybody who keeps it.
    pub holders: Vec<NodeId>,
    /// What it writes.
    pub writes: Vec<NamedWrite>,
}

/// A write that has its dot before any replica has it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedWrite {
    /// The row.
    pub row: RowKey,
    /// The change.
    pub delta: Delta,
    /// The write's name, for the replicas' tables of recent writes.
    pub write_id: Option<WriteId>,
}

impl NamedWrite {
    /// The write's dot and where it is counted.
    #[must_use]
    pub fn dot(&self) -> VnodeDot {
        VnodeDot::of(&self.row, &self.delta)
    }
}

/// A delta on its way to a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteDelta {
    /// The row.
    pub row: RowKey,
    /// The change.
    pub delta: Delta,
    /// The write's name, for the replica's table of recent writes.
    pub write_id: Option<WriteId>,
    /// Replicas in the receiver's datacenter that the receiver sends copies to. They answer
    /// [`Self::reply_to`] themselves.
    pub forward_to: Vec<NodeId>,
    /// Who collects the acknowledgements.
    pub reply_to: NodeId,
    /// Whether this is a hint that was kept: then nobody forwards it.
    pub hinted: bool,
    /// The layout that the request was planned with.
    pub epoch: Epoch,
}

/// How much of a row is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKind {
    /// The row, and the clock that it was read under.
    Data,
    /// A digest of the row's entries.
    Digest,
}

/// Asks for a page of a table, in the order of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The table.
    pub table: TableId,
    /// Rows after this position; `None` starts at the beginning of the ring.
    pub after: Option<RingPosition>,
    /// The last token's top 64 bits, included.
    pub until: u64,
    /// Most rows.
    pub limit: usize,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// Whether rows are wanted, or their digests.
    pub kind: ReadKind,
    /// What the scan waits for, as for reads of one row.
    pub class: ReadClass,
    /// What the reader's session has seen of vnodes of this run; see [`ReplicaRequest::Read`].
    pub seen: Vec<(VnodeId, Context)>,
}

/// From a replica to a coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplicaReply {
    /// The delta is applied, as durably as the sync policy says.
    Written(Written),
    /// The row.
    Row(RowVersion),
    /// The digest of the row's entries.
    Digest(u128),
    /// The version is joined.
    Joined,
    /// The page.
    Page(PageReply),
    /// What the replica, as coordinator, answers to the client.
    Coordinated(Box<Result<Outcome, RequestError>>),
    /// The replica did not do it, and changed nothing unless it says so.
    Refused(Refusal),
    /// A dot is reserved; and what the row's reader would have seen, where that was asked for.
    Reserved {
        /// The dot.
        dot: Dot,
        /// What the write replaces.
        context: Context,
        /// The lowest stamp that the write may have.
        not_below: Hlc,
    },
    /// The write has a name already: this is its delta.
    Named(Delta),
    /// Whether the dot may still be used.
    Needed(bool),
    /// For each dot, whether the replica's disk has it.
    Held(Vec<bool>),
    /// The batch is durable.
    BatchKept,
}

/// What a replica says of a delta that it has applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Whether it had the delta before.
    pub known: bool,
    /// In answers to hints: how many hints the replica bears under way from the asker at once. It
    /// asks for a pause by 0.
    pub credit: Option<u32>,
}

/// A page of a replica's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageReply {
    /// The rows, in the order of the ring.
    pub rows: Vec<PageRow>,
    /// The last position that was looked at, where there may be more behind it; `None` where there
    /// is none. It may be behind the last row, or stand alone: a replica looks at a bounded number
    /// of rows for one page, whether or not they match.
    pub end: Option<RingPosition>,
}

/// A row of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRow {
    /// Where it is.
    pub position: RingPosition,
    /// The row, or nothing where a digest was asked for.
    pub row: Option<Row>,
    /// The digest of its entries.
    pub digest: u128,
}

/// Why a replica did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The table is not in the replica's catalog yet.
    #[error("table {0} is not known here yet")]
    UnknownTable(TableId),
    /// The replica's storage failed; the change may or may not be in its log.
    #[error("storage: {0}")]
    Storage(String),
    /// The replica's queue is full.
    #[error("overloaded")]
    Overloaded,
    /// The stamp is too far ahead of the replica's clock.
    #[error("{0}")]
    Stamp(meridian_types::StampTooFarAhead),
    /// The replica has another layout.
    #[error("planned with layout {asked}, this replica has {has}")]
    StaleEpoch {
        /// The request's epoch.
        asked: Epoch,
        /// The replica's epoch.
        has: Epoch,
    },
    /// Nobody waits for the answer any more, so the replica did not do it.
    #[error("the deadline has passed")]
    DeadlinePassed,
    /// The replica may have lost something, and has not pulled from enough others since to answer a
    /// read like this one (rule 10).
    #[error("it makes good what it may have lost, and does not answer such reads until then")]
    Rebuilding,
    /// The replica lacks something that the session has seen. Nothing was changed.
    #[error("it does not have everything yet that the session has seen")]
    Behind,
    /// The replica cannot read the request.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Somebody was told that the batch's dots are not needed any more.
    #[error("the batch was given up")]
    GivenUp,
}
