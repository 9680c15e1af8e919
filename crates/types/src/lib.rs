//! The words of Meridian: keys, tokens, ids, the hybrid logical clock, consistency levels.
//!
//! Knows: what the words mean, how they are written, how long they may be.
//! Must not know: anything that acts. No time, randomness, files or sockets.
#![deny(missing_docs)]

pub mod catalog;
pub mod consistency;
pub mod crc16;
pub mod hlc;
pub mod ids;
pub mod kept;
pub mod key;
pub mod murmur3;
pub mod mutation;
pub mod place;
pub mod standing;
pub mod token;
pub mod varint;

pub use catalog::{
    Catalog, CatalogError, Compaction, Compression, ConflictPolicy, KeyspaceDef, TableDef,
    TableOptions,
};
pub use consistency::{ConsistencyLevel, ParseConsistencyLevelError};
pub use hlc::{Hlc, HlcClock, Millis, StampTooFarAhead};
pub use ids::{
    BatchId, DcId, Epoch, Incarnation, KeyspaceId, NodeId, RequestId, TableId, VnodeId, WriteId,
};
pub use kept::KeptAs;
pub use key::{KeyError, Limits, TableName, TableNameError};
#[cfg(meridian_mutations)]
pub use mutation::leave_out;
pub use mutation::{Mutation, broken};
pub use place::{RingPosition, RowKey};
pub use standing::{Goods, PeerStanding, ReadClass, VnodeKind};
pub use token::{Partitioner, Token};
