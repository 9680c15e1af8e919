//! What is known of one write, and of one dot.

use std::collections::{BTreeMap, BTreeSet};

use meridian_crdt::{Context, Dot};
use meridian_types::{ConsistencyLevel, DcId, Hlc, KeyspaceId, NodeId, VnodeId};

use crate::history::{Attempt, Key, OpId, WriteKind, WriteName};
use crate::sim::Micros;

/// A dot, with the vnode that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VnodeDot {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// The dot.
    pub dot: Dot,
}

/// How sure something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sure {
    /// It is not so.
    No,
    /// It may be so: nobody who is allowed to know was seen to know.
    Maybe,
    /// It is so.
    Yes,
}

/// What an attempt told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The level has it.
    Done {
        /// Its stamp.
        stamp: Hlc,
    },
    /// It did not happen.
    NotApplied,
    /// Nobody knows.
    Unknown,
}

/// One attempt of a write, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// The attempt.
    pub attempt: Attempt,
    /// When it was asked for.
    pub invoked: Micros,
    /// Whom.
    pub node: NodeId,
    /// Its datacenter.
    pub dc: DcId,
    /// The level.
    pub level: ConsistencyLevel,
    /// The answer; `None` while there is none.
    pub told: Option<(Micros, Told)>,
}

/// One write, as its client means it.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its name.
    pub name: WriteName,
    /// What was asked.
    pub key: Key,
    /// A value, or none.
    pub kind: WriteKind,
    /// The token that came with it.
    pub context: Option<Context>,
    /// The atomic batch that it belongs to.
    pub batch: Option<OpId>,
    /// The attempts, in order.
    pub tries: Vec<Try>,
    /// The dots that it got: one, unless a retry was not recognised.
    pub dots: BTreeSet<Dot>,
}

impl Write {
    /// When it was asked for first.
    #[must_use]
    pub fn invoked(&self) -> Micros {
        self.tries.first().map_or(Micros(u64::MAX), |first| first.invoked)
    }

    /// The first attempt that was acknowledged, when, and with which stamp.
    #[must_use]
    pub fn acked(&self) -> Option<(&Try, Micros, Hlc)> {
        self.tries.iter().find_map(|attempt| match attempt.told {
            Some((at, Told::Done { stamp })) => Some((attempt, at, stamp)),
            _ => None,
        })
    }

    /// Whether it may have happened: not so if every attempt was answered with *not applied*.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        self.tries.iter().any(|t| !matches!(t.told, Some((_, Told::NotApplied))))
    }

    /// Whether it is a delete.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        self.kind == WriteKind::Delete
    }

    /// Whether what it covers was decided by the replica that minted it.
    pub(crate) fn covers_what_is_there(&self) -> bool {
        self.is_delete() && self.context.is_none()
    }
}

/// One dot, and all that is known of it.
#[derive(Clone, Debug)]
pub struct Mint {
    /// The dot.
    pub dot: Dot,
    /// Whose it is.
    pub write: Option<WriteName>,
    /// The row.
    pub key: Key,
    /// The stamp.
    pub stamp: Hlc,
    /// What it covers, as its delta said on the wire.
    pub context: Option<Context>,
    /// When it was first seen on the wire.
    pub on_wire: Option<Micros>,
    /// The replicas that told a coordinator that they have it, and when.
    pub acks: BTreeMap<NodeId, Vec<Micros>>,
}

/// A dot that names two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reused {
    /// The dot.
    pub dot: VnodeDot,
    /// One key, and its write where known.
    pub one: (Key, Option<WriteName>),
    /// The other.
    pub other: (Key, Option<WriteName>),
}
