//! Pull sessions.

use bytes::Bytes;
use meridian_repair::message::{
    PullMany, PullPage, PullPosition, PullRequest, PulledPages, PulledRow, RepairReply,
    RepairRequest,
};
use meridian_types::{Goods, Incarnation, KeyspaceId, PeerStanding, TableId, VnodeId, VnodeKind};

use super::WireFault;
use super::parts::{clock, required, row, size};
use crate::v1;
use crate::v1::repair_reply::Reply;
use crate::v1::repair_request::Request;

/// Bytes of one digest.
const DIGEST_BYTES: usize = 16;

/// Bytes of what a peer says of one vnode: kind, reads, loss.
const STANDING_BYTES: usize = 10;

impl From<&RepairRequest> for v1::RepairRequest {
    fn from(request: &RepairRequest) -> Self {
        let request = match request {
            RepairRequest::Compare { keyspace, digest, gaps, losses } => {
                Request::Compare(v1::CompareClocks {
                    keyspace: keyspace.0,
                    digest: Some((*digest).into()),
                    gaps: *gaps,
                    losses: *losses,
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
            RepairRequest::PullMany(pull) => Request::PullMany(pull.into()),
            RepairRequest::Evidence { keyspace, layout, vnodes } => {
                Request::Evidence(v1::AskEvidence {
                    keyspace: keyspace.0,
                    layout: *layout,
                    vnodes: vnodes.iter().map(|vnode| vnode.0).collect(),
                })
            }
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
                losses: compare.losses,
            },
            Request::Pull(pull) => Self::Pull(PullRequest {
                keyspace: KeyspaceId(pull.keyspace),
                vnode: VnodeId(pull.vnode),
                clock: clock(&pull.clock)?,
                after: pull.after.map(Into::into),
                full: pull.full,
                max_bytes: size(pull.max_bytes),
            }),
            Request::PullMany(pull) => Self::PullMany(pull.try_into()?),
            Request::Evidence(ask) => Self::Evidence {
                keyspace: KeyspaceId(ask.keyspace),
                layout: ask.layout,
                vnodes: ask.vnodes.into_iter().map(VnodeId).collect(),
            },
        })
    }
}

impl From<&PullMany> for v1::PullMany {
    fn from(pull: &PullMany) -> Self {
        Self {
            keyspace: pull.keyspace.0,
            vnodes: pull.vnodes.iter().map(|(vnode, _)| vnode.0).collect(),
            clocks: pull.vnodes.iter().map(|(_, clock)| clock.to_bytes().into()).collect(),
            max_bytes: pull.max_bytes as u64,
        }
    }
}

impl TryFrom<v1::PullMany> for PullMany {
    type Error = WireFault;

    fn try_from(pull: v1::PullMany) -> Result<Self, WireFault> {
        each_has_one("clocks of a pull", pull.vnodes.len(), pull.clocks.len())?;
        let vnodes = pull.vnodes.into_iter().zip(&pull.clocks);
        let vnodes: Result<_, WireFault> =
            vnodes.map(|(vnode, bytes)| Ok((VnodeId(vnode), clock(bytes)?))).collect();
        let (keyspace, max_bytes) = (KeyspaceId(pull.keyspace), size(pull.max_bytes));
        Ok(Self { keyspace, vnodes: vnodes?, max_bytes })
    }
}

fn each_has_one(field: &'static str, vnodes: usize, others: usize) -> Result<(), WireFault> {
    if vnodes == others {
        return Ok(());
    }
    Err(WireFault::Invalid { field, why: format!("{others} for {vnodes} vnodes") })
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
            RepairReply::Same { unsound } => {
                Reply::Same(v1::ClocksSame { unsound: unsound_of(unsound) })
            }
            RepairReply::Differs { digests, unsound } => {
                Reply::Differs(digests_of(digests, unsound))
            }
            RepairReply::Page(page) => Reply::Page(page.into()),
            RepairReply::Pages(pages) => Reply::Pages(pages.into()),
            RepairReply::Refused(why) => Reply::Refused(why.clone()),
            RepairReply::Evidence(told) => Reply::Evidence(told.into()),
        };
        Self { reply: Some(reply) }
    }
}

impl TryFrom<v1::RepairReply> for RepairReply {
    type Error = WireFault;

    fn try_from(reply: v1::RepairReply) -> Result<Self, WireFault> {
        Ok(match reply.reply.ok_or(WireFault::Missing("repair reply"))? {
            Reply::Same(same) => Self::Same { unsound: standings_of(same.unsound)? },
            Reply::Differs(differs) => Self::Differs {
                digests: vnodes_of(&differs)?,
                unsound: standings_of(differs.unsound)?,
            },
            Reply::Page(page) => Self::Page(page.try_into()?),
            Reply::Pages(pages) => Self::Pages(pages.try_into()?),
            Reply::Refused(why) => Self::Refused(why),
            Reply::Evidence(told) => Self::Evidence(told.try_into()?),
        })
    }
}

/// Two flat arrays: a node compares tens of thousands of vnodes at once.
fn digests_of(
    digests: &[(VnodeId, u128)],
    unsound: &[(VnodeId, PeerStanding)],
) -> v1::ClockDigests {
    let mut bytes = Vec::with_capacity(digests.len() * DIGEST_BYTES);
    for (_, digest) in digests {
        bytes.extend_from_slice(&digest.to_be_bytes());
    }
    let vnodes = digests.iter().map(|(vnode, _)| vnode.0).collect();
    v1::ClockDigests { vnodes, digests: Bytes::from(bytes), unsound: unsound_of(unsound) }
}

fn unsound_of(unsound: &[(VnodeId, PeerStanding)]) -> Option<v1::Unsound> {
    if unsound.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(unsound.len() * STANDING_BYTES);
    for (_, standing) in unsound {
        bytes.extend_from_slice(&[standing.kind as u8, standing.goods.bits()]);
        bytes.extend_from_slice(&standing.loss.0.to_be_bytes());
    }
    let vnodes = unsound.iter().map(|(vnode, _)| vnode.0).collect();
    Some(v1::Unsound { vnodes, standings: Bytes::from(bytes) })
}

fn standings_of(unsound: Option<v1::Unsound>) -> Result<Vec<(VnodeId, PeerStanding)>, WireFault> {
    let Some(v1::Unsound { vnodes, standings }) = unsound else { return Ok(Vec::new()) };
    let (each, rest) = standings.as_chunks::<STANDING_BYTES>();
    if each.len() != vnodes.len() || !rest.is_empty() {
        let (vnodes, bytes) = (vnodes.len(), standings.len());
        let why = format!("{bytes} bytes for {vnodes} vnodes; {STANDING_BYTES} each are needed");
        return Err(WireFault::Invalid { field: "standings", why });
    }
    let one = |(vnode, bytes): (u32, &[u8; STANDING_BYTES])| {
        let [kind, goods, loss @ ..] = bytes;
        Ok((VnodeId(vnode), standing(*kind, *goods, u64::from_be_bytes(*loss))?))
    };
    vnodes.into_iter().zip(each).map(one).collect()
}

fn standing(kind: u8, goods: u8, loss: u64) -> Result<PeerStanding, WireFault> {
    let kind = VnodeKind::from_number(kind).ok_or(WireFault::Missing("kind of a vnode"))?;
    let goods = Goods::from_bits(goods).ok_or(WireFault::Missing("reads of a vnode"))?;
    Ok(PeerStanding { kind, goods, loss: Incarnation(loss) })
}

impl From<&PeerStanding> for v1::Standing {
    fn from(standing: &PeerStanding) -> Self {
        let PeerStanding { kind, goods, loss } = standing;
        Self { kind: *kind as u32, goods: goods.bits().into(), loss: loss.0 }
    }
}

impl TryFrom<v1::Standing> for PeerStanding {
    type Error = WireFault;

    fn try_from(said: v1::Standing) -> Result<Self, WireFault> {
        let byte = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        standing(byte(said.kind), byte(said.goods), said.loss)
    }
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

impl From<&PulledPages> for v1::PulledPages {
    fn from(pages: &PulledPages) -> Self {
        Self {
            covered: pages.covered.iter().map(|vnode| vnode.0).collect(),
            vnodes: pages.pages.iter().map(|(vnode, _)| vnode.0).collect(),
            pages: pages.pages.iter().map(|(_, page)| page.into()).collect(),
        }
    }
}

impl TryFrom<v1::PulledPages> for PulledPages {
    type Error = WireFault;

    fn try_from(pages: v1::PulledPages) -> Result<Self, WireFault> {
        each_has_one("pages", pages.vnodes.len(), pages.pages.len())?;
        let each = pages.vnodes.into_iter().zip(pages.pages);
        let each: Result<_, WireFault> =
            each.map(|(vnode, page)| Ok((VnodeId(vnode), page.try_into()?))).collect();
        Ok(Self { covered: pages.covered.into_iter().map(VnodeId).collect(), pages: each? })
    }
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
            standing: Some((&page.standing).into()),
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
        Ok(Self {
            clock: clock(&page.clock)?,
            standing: page.standing.ok_or(WireFault::Missing("standing of a peer"))?.try_into()?,
            rows: rows?,
            next: page.next.map(Into::into),
        })
    }
}
