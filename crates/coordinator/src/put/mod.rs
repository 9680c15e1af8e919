//! One write: minted here, copied to the other replicas, answered when the level has it, and kept
//! as a hint for whoever stays silent.

mod machine;
#[cfg(test)]
mod tests;

pub use machine::PutMachine;

use meridian_crdt::{Delta, Dot};
use meridian_types::{Epoch, Hlc, Millis, NodeId, RowKey, WriteId};
use smallvec::SmallVec;

use crate::failure::Failure;
use crate::message::{Refusal, WriteDelta};

/// What is written, as far as the other replicas are told besides the delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutWrite {
    /// The row.
    pub row: RowKey,
    /// The write's name.
    pub write_id: Option<WriteId>,
    /// The layout that the plan was made with.
    pub epoch: Epoch,
}

/// How long a write waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutTiming {
    /// When the client is answered at the latest.
    pub deadline: Millis,
    /// How long after the copies were sent a replica that did not ack gets a hint, in
    /// milliseconds.
    pub hint_after_ms: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum PutEvent {
    /// The leading replica has applied the write, and its dot cannot be minted again whatever
    /// happens: with a synced log only after the sync, because such a log's owner keeps its
    /// incarnation over a crash (rule 3). From here the delta may leave the node. Counts as the
    /// leading replica's ack.
    Minted(Delta),
    /// The leading replica did not apply it.
    MintFailed(Refusal),
    /// A replica has applied the delta.
    ReplicaAcked {
        /// Who.
        from: NodeId,
    },
    /// A replica did not apply the delta.
    ReplicaRefused {
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
    /// The hint for a replica is durable.
    HintStored {
        /// For whom.
        target: NodeId,
    },
    /// Time has passed: [`PutMachine::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum PutAction {
    /// Mint the write on the leading replica, which is this node.
    Mint,
    /// Send a copy of the delta.
    Send {
        /// To whom.
        to: NodeId,
        /// The copy.
        write: WriteDelta,
    },
    /// Keep the delta for a replica until it takes it.
    StoreHint {
        /// For whom.
        target: NodeId,
        /// The delta, marked as a hint.
        write: WriteDelta,
    },
    /// Answer the client. Exactly once.
    Reply(Result<PutDone, Failure>),
    /// The machine is at its end; events that come later do nothing.
    Done,
}

/// What a step asks for, in the order in which it is to be done.
pub type PutActions = SmallVec<[PutAction; 4]>;

/// A write that the level's replicas have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// The write's dot.
    pub dot: Dot,
    /// The write's stamp.
    pub stamp: Hlc,
}
