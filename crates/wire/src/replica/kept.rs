//! Writes that somebody keeps until they are done: reserved dots, batches in their log.

use meridian_coordinator::message::{LoggedBatch, NamedWrite, Reserve, VnodeDot};
use meridian_crdt::{Actor, Dot};
use meridian_types::{Incarnation, KeptAs, KeyspaceId, NodeId, VnodeId};

use super::WireFault;
use super::parts::{delta, required};
use crate::v1;
use crate::v1::kept_as::Kept;

impl From<Dot> for v1::Dot {
    fn from(dot: Dot) -> Self {
        let Actor { node, incarnation } = dot.actor;
        Self { node: node.0, incarnation: incarnation.0, counter: dot.counter }
    }
}

impl From<v1::Dot> for Dot {
    fn from(dot: v1::Dot) -> Self {
        let v1::Dot { node, incarnation, counter } = dot;
        Self::new(Actor { node: NodeId(node), incarnation: Incarnation(incarnation) }, counter)
    }
}

impl From<VnodeDot> for v1::VnodeDot {
    fn from(dot: VnodeDot) -> Self {
        let VnodeDot { keyspace, vnode, dot } = dot;
        Self { keyspace: keyspace.0, vnode: vnode.0, dot: Some(dot.into()) }
    }
}

pub(super) fn vnode_dot(dot: Option<v1::VnodeDot>) -> Result<VnodeDot, WireFault> {
    let v1::VnodeDot { keyspace, vnode, dot } = dot.ok_or(WireFault::Missing("dot"))?;
    let (keyspace, vnode) = (KeyspaceId(keyspace), VnodeId(vnode));
    Ok(VnodeDot { keyspace, vnode, dot: required(dot, "dot")? })
}

impl From<KeptAs> for v1::KeptAs {
    fn from(kept: KeptAs) -> Self {
        let kept = match kept {
            KeptAs::Intent(number) => Kept::Intent(number),
            KeptAs::Batch(id) => Kept::Batch(id.into()),
        };
        Self { kept: Some(kept) }
    }
}

pub(super) fn kept_as(kept: Option<v1::KeptAs>) -> Result<KeptAs, WireFault> {
    match kept.and_then(|kept| kept.kept) {
        Some(Kept::Intent(number)) => Ok(KeptAs::Intent(number)),
        Some(Kept::Batch(id)) => Ok(KeptAs::Batch(id.into())),
        None => Err(WireFault::Missing("how a write is kept")),
    }
}

impl From<&Reserve> for v1::ReserveDot {
    fn from(reserve: &Reserve) -> Self {
        Self {
            row: Some((&reserve.row).into()),
            write_id: Some(reserve.write_id.into()),
            kept_as: Some(reserve.kept_as.into()),
            holders: reserve.holders.iter().map(|node| node.0).collect(),
            over_what_is_here: reserve.over_what_is_here,
        }
    }
}

impl TryFrom<v1::ReserveDot> for Reserve {
    type Error = WireFault;

    fn try_from(reserve: v1::ReserveDot) -> Result<Self, WireFault> {
        Ok(Self {
            row: required(reserve.row, "row of a reservation")?,
            write_id: required(reserve.write_id, "write id of a reservation")?,
            kept_as: kept_as(reserve.kept_as)?,
            holders: reserve.holders.into_iter().map(NodeId).collect(),
            over_what_is_here: reserve.over_what_is_here,
        })
    }
}

impl From<&LoggedBatch> for v1::LoggedBatch {
    fn from(batch: &LoggedBatch) -> Self {
        let one = |write: &NamedWrite| v1::NamedWrite {
            row: Some((&write.row).into()),
            delta: write.delta.to_bytes().into(),
            write_id: write.write_id.map(Into::into),
        };
        Self {
            id: Some(batch.id.into()),
            holders: batch.holders.iter().map(|node| node.0).collect(),
            writes: batch.writes.iter().map(one).collect(),
        }
    }
}

impl TryFrom<v1::LoggedBatch> for LoggedBatch {
    type Error = WireFault;

    fn try_from(batch: v1::LoggedBatch) -> Result<Self, WireFault> {
        let one = |write: v1::NamedWrite| {
            Ok(NamedWrite {
                row: required(write.row, "row of a batch")?,
                delta: delta(&write.delta)?,
                write_id: write.write_id.map(Into::into),
            })
        };
        Ok(Self {
            id: required(batch.id, "name of a batch")?,
            holders: batch.holders.into_iter().map(NodeId).collect(),
            writes: batch.writes.into_iter().map(one).collect::<Result<_, WireFault>>()?,
        })
    }
}
