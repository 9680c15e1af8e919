//! Parts that several messages have.

use bytes::Bytes;
use meridian_coordinator::message::ReadKind;
use meridian_crdt::{Context, Delta, Row, VnodeClock};
use meridian_types::varint::DecodeError;
use meridian_types::{
    BatchId, KeyspaceId, ReadClass, RequestId, RingPosition, RowKey, TableId, VnodeId, WriteId,
};

use super::WireFault;
use crate::v1;

/// A field that must be set.
pub(super) fn required<A, B: From<A>>(
    field: Option<A>,
    name: &'static str,
) -> Result<B, WireFault> {
    field.map(Into::into).ok_or(WireFault::Missing(name))
}

/// Sizes travel as 64 bits. One beyond this platform's is cut to the largest, as every size that
/// is sent is a bound on what comes back.
pub(super) fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn damaged(field: &'static str) -> impl Fn(DecodeError) -> WireFault {
    move |cause| WireFault::Damaged { field, cause }
}

pub(super) fn row(bytes: &Bytes) -> Result<Row, WireFault> {
    Row::from_bytes(bytes).map_err(damaged("row"))
}

pub(super) fn delta(bytes: &Bytes) -> Result<Delta, WireFault> {
    Delta::from_bytes(bytes).map_err(damaged("delta"))
}

pub(super) fn clock(bytes: &[u8]) -> Result<VnodeClock, WireFault> {
    VnodeClock::from_bytes(bytes).map_err(damaged("clock"))
}

pub(super) fn context(bytes: &[u8]) -> Result<Context, WireFault> {
    Context::from_bytes(bytes).map_err(damaged("coverage"))
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is meant")]
impl From<u128> for v1::U128 {
    fn from(n: u128) -> Self {
        Self { high: (n >> 64) as u64, low: n as u64 }
    }
}

impl From<v1::U128> for u128 {
    fn from(n: v1::U128) -> Self {
        Self::from(n.high) << 64 | Self::from(n.low)
    }
}

macro_rules! uuid {
    ($($id:ty),*) => {
        $(impl From<$id> for v1::U128 {
            fn from(id: $id) -> Self {
                u128::from_be_bytes(id.to_bytes()).into()
            }
        }

        impl From<v1::U128> for $id {
            fn from(id: v1::U128) -> Self {
                Self::from_bytes(u128::from(id).to_be_bytes())
            }
        })*
    };
}

uuid!(BatchId, RequestId, WriteId);

impl From<&RowKey> for v1::RowKey {
    fn from(row: &RowKey) -> Self {
        Self {
            keyspace: row.keyspace.0,
            table: row.table.0,
            vnode: row.vnode.0,
            key: row.key.clone(),
        }
    }
}

impl From<v1::RowKey> for RowKey {
    fn from(row: v1::RowKey) -> Self {
        Self {
            keyspace: KeyspaceId(row.keyspace),
            table: TableId(row.table),
            vnode: VnodeId(row.vnode),
            key: row.key,
        }
    }
}

impl From<&RingPosition> for v1::RingPosition {
    fn from(position: &RingPosition) -> Self {
        Self { token: position.token, key: position.key.clone() }
    }
}

impl From<v1::RingPosition> for RingPosition {
    fn from(position: v1::RingPosition) -> Self {
        Self { token: position.token, key: position.key }
    }
}

impl From<ReadKind> for v1::ReadKind {
    fn from(kind: ReadKind) -> Self {
        match kind {
            ReadKind::Data => Self::Data,
            ReadKind::Digest => Self::Digest,
        }
    }
}

impl TryFrom<v1::ReadKind> for ReadKind {
    type Error = WireFault;

    fn try_from(kind: v1::ReadKind) -> Result<Self, WireFault> {
        match kind {
            v1::ReadKind::Data => Ok(Self::Data),
            v1::ReadKind::Digest => Ok(Self::Digest),
            v1::ReadKind::Unspecified => Err(WireFault::Missing("kind of read")),
        }
    }
}

impl From<ReadClass> for v1::ReadClass {
    fn from(class: ReadClass) -> Self {
        match class {
            ReadClass::One => Self::One,
            ReadClass::Local => Self::Local,
            ReadClass::Global => Self::Global,
            ReadClass::All => Self::All,
        }
    }
}

impl TryFrom<v1::ReadClass> for ReadClass {
    type Error = WireFault;

    fn try_from(class: v1::ReadClass) -> Result<Self, WireFault> {
        match class {
            v1::ReadClass::One => Ok(Self::One),
            v1::ReadClass::Local => Ok(Self::Local),
            v1::ReadClass::Global => Ok(Self::Global),
            v1::ReadClass::All => Ok(Self::All),
            v1::ReadClass::Unspecified => Err(WireFault::Missing("class of a read")),
        }
    }
}
