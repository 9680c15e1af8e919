//! What a coordinator asks of a replica.

use meridian_coordinator::message::{PageRequest, ReplicaRequest, WriteDelta};
use meridian_crdt::Context;
use meridian_types::{Epoch, KeyspaceId, NodeId, TableId, VnodeId};

use super::WireFault;
use super::kept::{kept_as, vnode_dot};
use super::parts::{context, delta, required, row, size};
use crate::v1;
use crate::v1::replica_request::Request as Kind;

impl From<&ReplicaRequest> for v1::ReplicaRequest {
    fn from(request: &ReplicaRequest) -> Self {
        let kind = match request {
            ReplicaRequest::Write(write) => Kind::Write(write.into()),
            ReplicaRequest::Read { row, kind, class, epoch, seen } => Kind::Read(v1::ReadRow {
                row: Some(row.into()),
                kind: v1::ReadKind::from(*kind).into(),
                epoch: epoch.0,
                class: v1::ReadClass::from(*class).into(),
                seen: seen.as_ref().map(|seen| seen.to_bytes().into()),
            }),
            ReplicaRequest::Join { row, version, coverage, epoch } => Kind::Join(v1::JoinRow {
                row: Some(row.into()),
                version: version.to_bytes().into(),
                coverage: coverage.to_bytes().into(),
                epoch: epoch.0,
            }),
            ReplicaRequest::Page(page) => Kind::Page(page.into()),
            ReplicaRequest::Coordinate(request) => Kind::Coordinate(request.clone().into()),
            ReplicaRequest::Reserve(reserve) => Kind::Reserve(reserve.into()),
            ReplicaRequest::StillNeeded { kept_as, dot } => Kind::StillNeeded(v1::StillNeeded {
                kept_as: Some((*kept_as).into()),
                dot: Some((*dot).into()),
            }),
            ReplicaRequest::Holds(dots) => {
                Kind::Holds(v1::DotList { dots: dots.iter().map(|dot| (*dot).into()).collect() })
            }
            ReplicaRequest::KeepBatch(batch) => Kind::KeepBatch(batch.into()),
            ReplicaRequest::ForgetBatches(ids) => {
                let ids = ids.iter().map(|id| (*id).into()).collect();
                Kind::ForgetBatches(v1::BatchList { ids })
            }
        };
        Self { request: Some(kind) }
    }
}

impl TryFrom<v1::ReplicaRequest> for ReplicaRequest {
    type Error = WireFault;

    fn try_from(request: v1::ReplicaRequest) -> Result<Self, WireFault> {
        Ok(match request.request.ok_or(WireFault::Missing("request"))? {
            Kind::Write(write) => Self::Write(write.try_into()?),
            Kind::Read(read) => Self::Read {
                kind: read.kind().try_into()?,
                class: read.class().try_into()?,
                row: required(read.row, "row of a read")?,
                epoch: Epoch(read.epoch),
                seen: read.seen.as_deref().map(context).transpose()?,
            },
            Kind::Join(join) => Self::Join {
                row: required(join.row, "row of a join")?,
                version: row(&join.version)?,
                coverage: context(&join.coverage)?,
                epoch: Epoch(join.epoch),
            },
            Kind::Page(page) => Self::Page(page.try_into()?),
            Kind::Coordinate(request) => Self::Coordinate(request.try_into()?),
            Kind::Reserve(reserve) => Self::Reserve(reserve.try_into()?),
            Kind::StillNeeded(asked) => {
                Self::StillNeeded { kept_as: kept_as(asked.kept_as)?, dot: vnode_dot(asked.dot)? }
            }
            Kind::Holds(list) => {
                let dots = list.dots.into_iter().map(|dot| vnode_dot(Some(dot)));
                Self::Holds(dots.collect::<Result<_, _>>()?)
            }
            Kind::KeepBatch(batch) => Self::KeepBatch(batch.try_into()?),
            Kind::ForgetBatches(list) => {
                Self::ForgetBatches(list.ids.into_iter().map(Into::into).collect())
            }
        })
    }
}

impl From<&WriteDelta> for v1::WriteDelta {
    fn from(write: &WriteDelta) -> Self {
        Self {
            row: Some((&write.row).into()),
            delta: write.delta.to_bytes().into(),
            write_id: write.write_id.map(Into::into),
            forward_to: write.forward_to.iter().map(|node| node.0).collect(),
            reply_to: write.reply_to.0,
            hinted: write.hinted,
            epoch: write.epoch.0,
        }
    }
}

impl TryFrom<v1::WriteDelta> for WriteDelta {
    type Error = WireFault;

    fn try_from(write: v1::WriteDelta) -> Result<Self, WireFault> {
        Ok(Self {
            row: required(write.row, "row of a write")?,
            delta: delta(&write.delta)?,
            write_id: write.write_id.map(Into::into),
            forward_to: write.forward_to.into_iter().map(NodeId).collect(),
            reply_to: NodeId(write.reply_to),
            hinted: write.hinted,
            epoch: Epoch(write.epoch),
        })
    }
}

fn seen((vnode, seen): &(VnodeId, Context)) -> v1::VnodeSeen {
    v1::VnodeSeen { vnode: vnode.0, seen: seen.to_bytes().into() }
}

impl From<&PageRequest> for v1::ReadPage {
    fn from(page: &PageRequest) -> Self {
        Self {
            keyspace: page.keyspace.0,
            table: page.table.0,
            after: page.after.as_ref().map(Into::into),
            until: page.until,
            limit: page.limit as u64,
            prefix: page.prefix.clone(),
            kind: v1::ReadKind::from(page.kind).into(),
            class: v1::ReadClass::from(page.class).into(),
            seen: page.seen.iter().map(seen).collect(),
        }
    }
}

impl TryFrom<v1::ReadPage> for PageRequest {
    type Error = WireFault;

    fn try_from(page: v1::ReadPage) -> Result<Self, WireFault> {
        let seen = page.seen.iter().map(|one| Ok((VnodeId(one.vnode), context(&one.seen)?)));
        Ok(Self {
            kind: page.kind().try_into()?,
            class: page.class().try_into()?,
            seen: seen.collect::<Result<_, WireFault>>()?,
            keyspace: KeyspaceId(page.keyspace),
            table: TableId(page.table),
            after: page.after.map(Into::into),
            until: page.until,
            limit: size(page.limit),
            prefix: page.prefix,
        })
    }
}
