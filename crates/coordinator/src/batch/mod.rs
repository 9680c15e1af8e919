//! An atomic batch: all of its writes, or none, however its coordinator dies. Not isolated: a reader
//! may see some of them before the others.
//!
//! ```text
//! Reserving ──every write has its dot──▶ Logging ──durable at two nodes──▶ Writing ──▶ Done
//!     │                                     │                                 │
//!     └─ Reply(not applied)                 └─ Reply(not applied, or unknown) ├─ Reply(ok): every write
//!                                              once a log may have it         │  has its level
//!                                                                             └─ Reply(unknown)
//! ```
//!
//! Because every write has its dot before anything is logged (rule 14), a batch in a log is a list of
//! deltas: its coordinator and everybody who keeps it may send them, again and again and beside each
//! other, and rule 4 applies each once. So nobody need know who lives. A holder begins when the
//! coordinator has been silent, and forgets the batch when it is whole: [`is_whole`].
//!
//! INVARIANT: nothing is sent before the batch is durable where it is kept, and the client is told
//! of success after that only.

mod machine;
#[cfg(test)]
mod tests;

pub use machine::BatchMachine;

use std::collections::BTreeSet;

use bytes::Bytes;
use meridian_crdt::{Context, Delta, Dot};
use meridian_topology::{Replicas, Topology};
use meridian_types::{BatchId, DcId, Hlc, Millis, NodeId, RowKey, WriteId};

use crate::message::{LoggedBatch, NamedWrite, Reserve};

/// How many nodes durably keep a batch before its writes go out, where there are as many.
pub const COPIES: usize = 2;

/// Most nodes that may keep one batch, its coordinator included: so many are asked before a reserved
/// dot is taken for unused.
pub const MAX_KEEPERS: usize = 5;

/// A write of a batch, before it has its dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchWrite {
    /// The row.
    pub row: RowKey,
    /// What is written; `None` deletes.
    pub value: Option<Bytes>,
    /// When the value stops being visible.
    pub expires: Option<Millis>,
    /// What the writer had seen.
    pub context: Context,
    /// Whether it replaces what the replica has that reserves its dot.
    pub over_what_is_here: bool,
    /// The write's name.
    pub write_id: WriteId,
    /// The replicas that can be reached, in the order in which they are asked for a dot.
    pub reservers: Vec<NodeId>,
}

/// What a batch's coordinator knows when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// The batch's name.
    pub id: BatchId,
    /// One stamp for all its writes, so that a repetition ties with itself.
    pub stamp: Hlc,
    /// Its writes.
    pub writes: Vec<BatchWrite>,
    /// Who may keep it, in the order in which they are asked.
    pub candidates: Vec<NodeId>,
    /// How many of them must.
    pub copies: usize,
    /// When the client is answered at the latest.
    pub deadline: Millis,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum BatchEvent {
    /// A replica has reserved a dot.
    Reserved {
        /// For which write.
        write: usize,
        /// Who.
        from: NodeId,
        /// The dot.
        dot: Dot,
        /// What the write replaces, where it replaces what is there.
        context: Context,
        /// The lowest stamp that it may have.
        not_below: Hlc,
    },
    /// A replica has the write already, under its name: a retry.
    Named {
        /// Which write.
        write: usize,
        /// Who.
        from: NodeId,
        /// Its delta.
        delta: Delta,
    },
    /// A replica gives no dot.
    NotReserved {
        /// For which write.
        write: usize,
        /// Who.
        from: NodeId,
    },
    /// A node durably keeps the batch.
    Kept {
        /// Who.
        by: NodeId,
    },
    /// A node does not keep it.
    NotKept {
        /// Who.
        by: NodeId,
        /// Whether it may keep it all the same: its answer was lost.
        perhaps: bool,
    },
    /// A write has its level.
    Written {
        /// Which.
        write: usize,
    },
    /// A write did not get its level.
    NotWritten {
        /// Which.
        write: usize,
    },
    /// Time has passed: the deadline may have come.
    TimePassed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum BatchAction {
    /// Ask a replica for a write's dot.
    Reserve {
        /// Which write.
        write: usize,
        /// Whom.
        at: NodeId,
        /// What to ask.
        request: Reserve,
    },
    /// Have a node keep the batch, durably.
    Keep {
        /// Who.
        at: NodeId,
        /// The batch.
        batch: LoggedBatch,
    },
    /// Write, at the client's level. Its dot is durable where the batch is kept.
    Write {
        /// Which.
        write: usize,
        /// The write.
        named: NamedWrite,
    },
    /// Answer the client. Exactly once.
    Reply(Result<BatchDone, BatchFailure>),
    /// The machine is at its end. The batch, if it was logged, is to be brought about and forgotten.
    Done(Option<LoggedBatch>),
}

/// A batch that is logged, and whose writes have their level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchDone {
    /// The stamps of its writes, in their order.
    pub stamps: Vec<Hlc>,
}

/// Why a batch came to nothing, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchFailure {
    /// No replica of a write gives a dot for it. Nothing was written, and nothing will be.
    #[error("no replica of write {0} could take it; nothing was written")]
    NotReserved(usize),
    /// Too few nodes can keep it. Nothing was written, and nothing will be.
    #[error("only {kept} of {needed} nodes could keep the batch; nothing was written")]
    NotLogged {
        /// Who keep it: none, or it would be brought about.
        kept: usize,
        /// How many must.
        needed: usize,
    },
    /// The deadline came before anybody could have kept it. Nothing was written.
    #[error("there was no time to write it down; nothing was written")]
    Late,
    /// It is kept, or may be: then all of it will be written.
    #[error("{written} of {writes} writes have their level by now; all of them may still appear")]
    Unknown {
        /// How many writes have their level.
        written: usize,
        /// How many there are.
        writes: usize,
    },
}

impl BatchFailure {
    /// Whether something may have been written, or may be.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Whether a write of a batch may be forgotten by those who keep it: the replica that reserved its
/// dot durably has it, which would take the dot for unused otherwise, and so does a majority, so
/// that the loss of a disk does not halve the batch. A replica that is one no more counts no more.
#[must_use]
pub fn is_whole(write: &NamedWrite, replicas: Replicas<'_>, durable: &BTreeSet<NodeId>) -> bool {
    let reserver = write.delta.entry.dot.actor.node;
    let have = replicas.all().iter().filter(|node| durable.contains(node)).count();
    let reserver_has = !replicas.contains(reserver) || durable.contains(&reserver);
    reserver_has && 2 * have > replicas.len()
}

/// Who may keep a batch, those first that are asked first, and how many must: living nodes of this
/// datacenter in other racks than this node's and than each other's, then in any, then this node
/// itself. `turn` spreads batches over nodes that are as good.
#[must_use]
pub fn keepers(
    topology: &Topology,
    dc: DcId,
    self_id: NodeId,
    turn: u64,
    alive: impl Fn(NodeId) -> bool,
) -> (Vec<NodeId>, usize) {
    let rack = |id| topology.node(id).map(|node| node.rack.as_str());
    let nodes: Vec<NodeId> = topology.nodes_in(dc).map(|node| node.id).collect();
    let mut others: Vec<NodeId> =
        nodes.iter().copied().filter(|&id| id != self_id && alive(id)).collect();
    let by = usize::try_from(turn % others.len().max(1) as u64).unwrap_or(0);
    others.rotate_left(by);
    let mut racks = BTreeSet::from([rack(self_id)]);
    let (mut apart, beside): (Vec<NodeId>, Vec<NodeId>) =
        others.into_iter().partition(|&id| racks.insert(rack(id)));
    apart.extend(beside);
    apart.truncate(MAX_KEEPERS - 1);
    apart.push(self_id);
    (apart, COPIES.min(nodes.len()))
}
