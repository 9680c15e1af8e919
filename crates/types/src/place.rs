//! Where a row is: named for a replica, and in the order of the ring.

use bytes::Bytes;

use crate::{KeyspaceId, TableId, VnodeId};

/// Names a row: all that a replica needs to find it and the clock that covers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// The keyspace, for its clocks.
    pub keyspace: KeyspaceId,
    /// The table.
    pub table: TableId,
    /// The vnode that the key's token falls into.
    pub vnode: VnodeId,
    /// The key.
    pub key: Bytes,
}

/// A place in the order of the ring: the top 64 bits of a token, then the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingPosition {
    /// The top 64 bits of the token.
    pub token: u64,
    /// The key; empty is before every key with that token.
    pub key: Bytes,
}
