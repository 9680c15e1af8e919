//! Pull sessions.

use bytes::Bytes;
use meridian_repair::message::{
    PullPage, PullPosition, PullRequest, PulledRow, RepairReply, RepairRequest,
};
use meridian_types::{KeyspaceId, TableId, VnodeId};

use super::WireFault;
use super::parts::{clock, required, row, size};
use crate::v1;
use crate::v1::repair_reply::Reply;
use crate::v1::repair_request::Request;

/// Bytes of one digest.
const DIGEST_BYTES: usize = 16;

impl From<&RepairRequest> for v1::RepairRequest {
    fn from(request: &RepairRequest) -> Self {
        let request = match request {
            RepairRequest::Compare { keyspace, digest, gaps } => {
                Request::Compare(v1::CompareClocks {
                    keyspace: keyspace.0,
                    digest: Some((*digest).into()),
                    gaps: *gaps,
                })
            }
            RepairRequest::Pull(pull) => Request::Pull(v1::PullRows {
                keyspace: pull.keyspace.0,
                vnode: pull.vnode.0,
                clock: pull.clock.to_bytes().into(),
                after: pull.after.as_ref().map(Into::into),
                full: pull.full,
                max_bytes: pull.max_bytes as u64,
            }),
        };
        Self { request: Some(request) }
    }
}

impl TryFrom<v1::RepairRequest> for RepairRequest {
    type Error = WireFault;

    fn try_from(request: v1::RepairRequest) -> Result<Self, WireFault> {
        Ok(match request.request.ok_or(WireFault::Missing("repair request"))? {
            Request::Compare(compare) => Self::Compare {
                keyspace: KeyspaceId(compare.keyspace),
                digest: required(compare.digest, "digest of a comparison")?,
                gaps: compare.gaps,
            },
            Request::Pull(pull) => Self::Pull(PullRequest {
                keyspace: KeyspaceId(pull.keyspace),
                vnode: VnodeId(pull.vnode),
                clock: clock(&pull.clock)?,
                after: pull.after.map(Into::into),
                full: pull.full,
                max_bytes: size(pull.max_bytes),
            }),
        })
    }
}

impl From<&PullPosition> for v1::PullPosition {
    fn from(position: &PullPosition) -> Self {
        Self { table: position.table.0, at: position.at.clone() }
    }
}

impl From<v1::PullPosition> for PullPosition {
    fn from(position: v1::PullPosition) -> Self {
        Self { table: TableId(position.table), at: position.at }
    }
}

impl From<&RepairReply> for v1::RepairReply {
    fn from(reply: &RepairReply) -> Self {
        let reply = match reply {
            RepairReply::Same => Reply::Same(v1::Nothing {}),
            RepairReply::Differs(digests) => Reply::Differs(digests_of(digests)),
            RepairReply::Page(page) => Reply::Page(page.into()),
            RepairReply::Refused(why) => Reply::Refused(why.clone()),
        };
        Self { reply: Some(reply) }
    }
}

impl TryFrom<v1::RepairReply> for RepairReply {
    type Error = WireFault;

    fn try_from(reply: v1::RepairReply) -> Result<Self, WireFault> {
        Ok(match reply.reply.ok_or(WireFault::Missing("repair reply"))? {
            Reply::Same(v1::Nothing {}) => Self::Same,
            Reply::Differs(digests) => Self::Differs(vnodes_of(&digests)?),
            Reply::Page(page) => Self::Page(page.try_into()?),
            Reply::Refused(why) => Self::Refused(why),
        })
    }
}

/// Two flat arrays: a node compares tens of thousands of vnodes at once.
fn digests_of(digests: &[(VnodeId, u128)]) -> v1::ClockDigests {
    let mut bytes = Vec::with_capacity(digests.len() * DIGEST_BYTES);
    for (_, digest) in digests {
        bytes.extend_from_slice(&digest.to_be_bytes());
    }
    let vnodes = digests.iter().map(|(vnode, _)| vnode.0).collect();
    v1::ClockDigests { vnodes, digests: Bytes::from(bytes) }
}

fn vnodes_of(digests: &v1::ClockDigests) -> Result<Vec<(VnodeId, u128)>, WireFault> {
    let (each, rest) = digests.digests.as_chunks::<DIGEST_BYTES>();
    if each.len() != digests.vnodes.len() || !rest.is_empty() {
        let (vnodes, bytes) = (digests.vnodes.len(), digests.digests.len());
        let why = format!("{bytes} bytes for {vnodes} vnodes; {DIGEST_BYTES} each are needed");
        return Err(WireFault::Invalid { field: "digests of clocks", why });
    }
    let vnodes = digests.vnodes.iter().copied().map(VnodeId);
    Ok(vnodes.zip(each.iter().copied().map(u128::from_be_bytes)).collect())
}

impl From<&PullPage> for v1::PulledPage {
    fn from(page: &PullPage) -> Self {
        let one = |row: &PulledRow| v1::PulledRow {
            table: row.table.0,
            key: row.key.clone(),
            row: row.row.to_bytes().into(),
        };
        Self {
            clock: page.clock.to_bytes().into(),
            rows: page.rows.iter().map(one).collect(),
            next: page.next.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::PulledPage> for PullPage {
    type Error = WireFault;

    fn try_from(page: v1::PulledPage) -> Result<Self, WireFault> {
        let one = |one: v1::PulledRow| {
            Ok(PulledRow { table: TableId(one.table), key: one.key, row: row(&one.row)? })
        };
        let rows: Result<_, WireFault> = page.rows.into_iter().map(one).collect();
        Ok(Self { clock: clock(&page.clock)?, rows: rows?, next: page.next.map(Into::into) })
    }
}
