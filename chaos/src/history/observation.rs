//! What the world tells while it runs.

use std::collections::BTreeMap;

use meridian_crdt::{Context, Dot, DotSet};
use meridian_service::Effect;
use meridian_types::{
    ConsistencyLevel, DcId, Hlc, Incarnation, KeyspaceId, Millis, NodeId, TableId, VnodeId,
};

use super::{ClientId, FaultId, Key, OpId, SessionId, VnodeState, WriteName};
use crate::sim::Micros;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When, in true time. Observations are told in this order.
    pub at: Micros,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A client asked a node.
    Invoked(Invocation),
    /// The node answered.
    Returned {
        /// Which attempt.
        attempt: Attempt,
        /// With what.
        answer: Answer,
    },
    /// No answer will come: the node died, or the client's connection to it.
    Abandoned {
        /// Which attempt.
        attempt: Attempt,
    },
    /// A write got a dot, as first seen on the wire or in a store. The same may be told again.
    Minted {
        /// Whose write it is, by the write id or the value; `None` where it carries neither.
        write: Option<WriteName>,
        /// The row.
        key: Key,
        /// The dot.
        dot: Dot,
        /// Its stamp.
        stamp: Hlc,
        /// What it covers. `None` where it was seen in a store only, where contexts are stripped.
        context: Option<Context>,
    },
    /// A replica told a coordinator that it has applied a write.
    ReplicaAcked {
        /// The replica.
        node: NodeId,
        /// The row.
        key: Key,
        /// The write.
        dot: Dot,
    },
    /// A replica answered a hint that was handed over: it has the write now.
    HintTaken {
        /// Who had kept the hint.
        holder: NodeId,
        /// The replica.
        target: NodeId,
        /// Whether it had the write before.
        known: bool,
    },
    /// A link, one way, changed as its sender sees it.
    LinkChanged {
        /// The sender.
        from: NodeId,
        /// The receiver.
        to: NodeId,
        /// Whether it is up now.
        up: bool,
    },
    /// A node lost power: what was not synced is gone.
    Crashed {
        /// The node.
        node: NodeId,
    },
    /// A node stopped after it had synced everything.
    Stopped {
        /// The node.
        node: NodeId,
    },
    /// A node began a life.
    Started {
        /// The node.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// A node cannot begin a life, and says why (a damaged file).
    StartRefused {
        /// The node.
        node: NodeId,
        /// Its own words.
        why: String,
    },
    /// A node runs and cannot vouch for what it has, and says why.
    Unsound {
        /// The node.
        node: NodeId,
        /// Its own words.
        why: String,
    },
    /// A node's process was stopped, its state intact.
    Paused {
        /// The node.
        node: NodeId,
    },
    /// It goes on.
    Resumed {
        /// The node.
        node: NodeId,
    },
    /// Something was done to a node's disk while the node did not run, or under it.
    DiskChanged {
        /// The node.
        node: NodeId,
        /// What: anything but [`LossCause::Crash`].
        cause: LossCause,
    },
    /// A node's disk does not have any more what the node had: told once what is left is known,
    /// at the next start of the node, for each vnode that lost something.
    Lost(Loss),
    /// A planned fault began.
    FaultBegan {
        /// Which.
        fault: FaultId,
        /// Its kind's name in scenarios.
        kind: String,
    },
    /// A planned fault is over.
    FaultEnded {
        /// Which.
        fault: FaultId,
        /// What it did, in its own unit: messages lost or late, bytes lost, milliseconds of pause.
        /// 0: nothing would have been different without it.
        effect: u64,
    },
    /// No fault will begin any more, and none lasts: everything heals from here on.
    FaultsOver,
    /// What replicas store of vnodes that changed since the last sample, all of one instant.
    Sampled(Sample),
    /// A node's hints at a moment at which none of its hint work is under way.
    HintsCounted {
        /// The node.
        node: NodeId,
        /// For whom.
        target: NodeId,
        /// The numbers, of this life of the node.
        tally: HintTally,
    },
    /// What a node still had to do, while it heals.
    BacklogSeen {
        /// The node.
        node: NodeId,
        /// What.
        backlog: Backlog,
    },
}

/// One try of an operation: retries are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The operation.
    pub op: OpId,
    /// Which try.
    pub number: u32,
}

/// A client asks a node.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Which attempt of which operation.
    pub attempt: Attempt,
    /// Who.
    pub client: ClientId,
    /// In which session; `None` where its client keeps none.
    pub session: Option<SessionId>,
    /// Whom.
    pub node: NodeId,
    /// The node's datacenter.
    pub dc: DcId,
    /// The level.
    pub level: ConsistencyLevel,
    /// By when the node must have answered.
    pub deadline: Micros,
    /// What.
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Writes a key: a put or a delete.
    Write(WriteAsk),
    /// Writes several keys.
    Batch {
        /// Whether all or nothing was asked for.
        atomic: bool,
        /// The writes.
        writes: Vec<WriteAsk>,
    },
    /// Reads a key.
    Get(Key),
    /// Reads several keys.
    MultiGet(Vec<Key>),
    /// Reads a page of a table.
    Scan {
        /// The table.
        table: TableId,
        /// Most rows.
        limit: usize,
    },
}

/// One write.
#[derive(Clone, Debug)]
pub struct WriteAsk {
    /// Its name.
    pub write: WriteName,
    /// The key.
    pub key: Key,
    /// What is written.
    pub kind: WriteKind,
    /// The token that came with it, as the set of dots that it is. `None`: a write without one.
    pub context: Option<Context>,
    /// Whether it has a condition, and may so be refused.
    pub conditional: bool,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// A value.
    Put {
        /// When it stops being visible, by wall clocks.
        expires: Option<Millis>,
    },
    /// Nothing.
    Delete,
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To writes: one answer each, in the order of the request.
    Written(Vec<WriteAnswer>),
    /// To reads: keys and what was seen of them. A page may name fewer keys than there are.
    Read(Vec<ReadAnswer>),
    /// To any request: it failed as a whole.
    Failed(Failure),
}

/// What is answered to one write.
#[derive(Clone, Debug)]
pub enum WriteAnswer {
    /// The level was reached.
    Done {
        /// False where a condition did not hold: then nothing was written.
        applied: bool,
        /// The write's stamp.
        stamp: Hlc,
        /// The token that came with the answer, where one was asked for.
        context: Option<Context>,
    },
    /// It failed.
    Failed(Failure),
}

/// What is answered to the read of one key.
#[derive(Clone, Debug)]
pub struct ReadAnswer {
    /// The key.
    pub key: Key,
    /// What was seen.
    pub result: Result<Seen, Failure>,
}

/// What a reader saw of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The values, by the writes that they name, and their stamps.
    pub values: Vec<(WriteName, Hlc)>,
    /// Values that no client wrote: always a violation.
    pub foreign: usize,
    /// The token that came with the answer, where one was asked for, as the set of dots that it
    /// is: what was seen, or seen to be overwritten.
    pub context: Option<Context>,
}

/// A request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it did to the data, by its own word.
    pub effect: Effect,
    /// The name of its code.
    pub code: &'static str,
}

/// Why a node's disk has less than it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossCause {
    /// Power was cut.
    Crash,
    /// The disk was wiped.
    Wipe,
    /// An older state was put back.
    Restore,
    /// Bytes rotted, or files vanished.
    Damage,
}

/// What a node's disk has no more, of one vnode.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The node.
    pub node: NodeId,
    /// Why.
    pub cause: LossCause,
    /// When: the crash, not the start after it.
    pub since: Micros,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// The dots that its clock had and has no more.
    pub dots: DotSet,
    /// Of these, the ones that no other node's clock had when they were lost. Hints and messages
    /// under way may still bring one back.
    pub gone: DotSet,
}

/// What replicas store.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The true wall time.
    pub wall: Millis,
    /// By vnode and sound replica. A vnode that is named has all its running sound replicas.
    pub vnodes: BTreeMap<(KeyspaceId, VnodeId), BTreeMap<NodeId, VnodeState>>,
}

/// What became of the hints that a node has for another, since this life of it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintTally {
    /// Were there at the start.
    pub found: u64,
    /// Came.
    pub stored: u64,
    /// The target has them, because of us.
    pub delivered: u64,
    /// The target had them already.
    pub superseded: u64,
    /// Were too old.
    pub expired: u64,
    /// Were pushed out by the bound.
    pub dropped: u64,
    /// Could not be read.
    pub damaged: u64,
    /// Are there.
    pub pending: u64,
}

/// What a node still has to do before everything is as if nothing had happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Links that are not up.
    pub links_down: u64,
    /// Hints that wait.
    pub hints: u64,
    /// Intents that wait.
    pub intents: u64,
    /// Atomic batches that are not known to be whole.
    pub batches: u64,
    /// Requests of clients that are not answered.
    pub requests: u64,
    /// Vnodes whose clock differs from a peer's, by the last comparison.
    pub differing: u64,
    /// Vnodes that it may have lost something of; 0 where a node that it waits for never comes back.
    pub unsound: u64,
}

impl Backlog {
    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
