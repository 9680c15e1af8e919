//! What a replica answers to a coordinator.

use std::sync::Arc;

use meridian_coordinator::message::{PageReply, PageRow, Refusal, ReplicaReply, Written};
use meridian_crdt::RowVersion;
use meridian_types::{Epoch, Hlc, StampTooFarAhead, TableId};

use super::WireFault;
use super::parts::{clock, context, delta, required, row};
use crate::v1;
use crate::v1::refusal::Why;
use crate::v1::replica_reply::Reply as Kind;

impl From<&ReplicaReply> for v1::ReplicaReply {
    fn from(reply: &ReplicaReply) -> Self {
        let kind = match reply {
            ReplicaReply::Written(Written { known, credit }) => {
                Kind::Written(v1::Written { known: *known, credit: *credit })
            }
            ReplicaReply::Row(version) => Kind::Row(v1::RowVersion {
                row: version.row.to_bytes().into(),
                clock: version.clock.to_bytes().into(),
            }),
            ReplicaReply::Digest(digest) => Kind::Digest((*digest).into()),
            ReplicaReply::Joined => Kind::Joined(v1::Nothing {}),
            ReplicaReply::Page(page) => Kind::Page(page.into()),
            ReplicaReply::Coordinated(result) => Kind::Coordinated((**result).clone().into()),
            ReplicaReply::Refused(refusal) => Kind::Refused(refusal.into()),
            ReplicaReply::Reserved { dot, context, not_below } => Kind::Reserved(v1::ReservedDot {
                dot: Some((*dot).into()),
                context: context.to_bytes().into(),
                not_below: not_below.0,
            }),
            ReplicaReply::Named(delta) => Kind::Named(delta.to_bytes().into()),
            ReplicaReply::Needed(needed) => Kind::Needed(*needed),
            ReplicaReply::Held(held) => {
                Kind::Held(held.iter().map(|&held| u8::from(held)).collect::<Vec<_>>().into())
            }
            ReplicaReply::BatchKept => Kind::BatchKept(v1::Nothing {}),
        };
        Self { reply: Some(kind) }
    }
}

impl TryFrom<v1::ReplicaReply> for ReplicaReply {
    type Error = WireFault;

    fn try_from(reply: v1::ReplicaReply) -> Result<Self, WireFault> {
        Ok(match reply.reply.ok_or(WireFault::Missing("reply"))? {
            Kind::Written(v1::Written { known, credit }) => {
                Self::Written(Written { known, credit })
            }
            Kind::Row(version) => Self::Row(RowVersion {
                row: row(&version.row)?,
                clock: Arc::new(clock(&version.clock)?),
            }),
            Kind::Digest(digest) => Self::Digest(digest.into()),
            Kind::Joined(v1::Nothing {}) => Self::Joined,
            Kind::Page(page) => Self::Page(page.try_into()?),
            Kind::Coordinated(outcome) => Self::Coordinated(Box::new(outcome.into_result()?)),
            Kind::Refused(refusal) => Self::Refused(refusal.try_into()?),
            Kind::Reserved(reserved) => Self::Reserved {
                dot: required(reserved.dot, "reserved dot")?,
                context: context(&reserved.context)?,
                not_below: Hlc(reserved.not_below),
            },
            Kind::Named(bytes) => Self::Named(delta(&bytes)?),
            Kind::Needed(needed) => Self::Needed(needed),
            Kind::Held(held) => Self::Held(held.iter().map(|&held| held == 1).collect()),
            Kind::BatchKept(v1::Nothing {}) => Self::BatchKept,
        })
    }
}

impl From<&PageReply> for v1::PageRows {
    fn from(page: &PageReply) -> Self {
        let one = |row: &PageRow| v1::PageRow {
            position: Some((&row.position).into()),
            row: row.row.as_ref().map(|row| row.to_bytes().into()),
            digest: Some(row.digest.into()),
        };
        Self { rows: page.rows.iter().map(one).collect(), end: page.end.as_ref().map(Into::into) }
    }
}

impl TryFrom<v1::PageRows> for PageReply {
    type Error = WireFault;

    fn try_from(page: v1::PageRows) -> Result<Self, WireFault> {
        let one = |one: v1::PageRow| {
            Ok(PageRow {
                position: required(one.position, "position of a row")?,
                row: one.row.as_ref().map(row).transpose()?,
                digest: required(one.digest, "digest of a row")?,
            })
        };
        let rows: Result<_, WireFault> = page.rows.into_iter().map(one).collect();
        Ok(Self { rows: rows?, end: page.end.map(Into::into) })
    }
}

impl From<&Refusal> for v1::Refusal {
    fn from(refusal: &Refusal) -> Self {
        let why = match refusal {
            Refusal::UnknownTable(table) => Why::UnknownTable(table.0),
            Refusal::Storage(why) => Why::Storage(why.clone()),
            Refusal::Overloaded => Why::Overloaded(v1::Nothing {}),
            Refusal::Stamp(StampTooFarAhead { ahead_ms, limit_ms }) => {
                let (ahead_ms, limit_ms) = (*ahead_ms, *limit_ms);
                Why::Stamp(v1::refusal::StampTooFarAhead { ahead_ms, limit_ms })
            }
            Refusal::StaleEpoch { asked, has } => {
                Why::StaleEpoch(v1::refusal::StaleEpoch { asked: asked.0, has: has.0 })
            }
            Refusal::DeadlinePassed => Why::DeadlinePassed(v1::Nothing {}),
            Refusal::Rebuilding => Why::Rebuilding(v1::Nothing {}),
            Refusal::Behind => Why::Behind(v1::Nothing {}),
            Refusal::Malformed(why) => Why::Malformed(why.clone()),
            Refusal::GivenUp => Why::GivenUp(v1::Nothing {}),
        };
        Self { why: Some(why) }
    }
}

impl TryFrom<v1::Refusal> for Refusal {
    type Error = WireFault;

    fn try_from(refusal: v1::Refusal) -> Result<Self, WireFault> {
        Ok(match refusal.why.ok_or(WireFault::Missing("reason of a refusal"))? {
            Why::UnknownTable(table) => Self::UnknownTable(TableId(table)),
            Why::Storage(why) => Self::Storage(why),
            Why::Overloaded(v1::Nothing {}) => Self::Overloaded,
            Why::Stamp(v1::refusal::StampTooFarAhead { ahead_ms, limit_ms }) => {
                Self::Stamp(StampTooFarAhead { ahead_ms, limit_ms })
            }
            Why::StaleEpoch(v1::refusal::StaleEpoch { asked, has }) => {
                Self::StaleEpoch { asked: Epoch(asked), has: Epoch(has) }
            }
            Why::DeadlinePassed(v1::Nothing {}) => Self::DeadlinePassed,
            Why::Rebuilding(v1::Nothing {}) => Self::Rebuilding,
            Why::Behind(v1::Nothing {}) => Self::Behind,
            Why::Malformed(why) => Self::Malformed(why),
            Why::GivenUp(v1::Nothing {}) => Self::GivenUp,
        })
    }
}
