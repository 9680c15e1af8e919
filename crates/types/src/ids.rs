//! Identifiers. Each is a plain number or a UUID with a name of its own, so that one cannot be
//! passed for another.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// A node of the cluster. Given once by the layout, never reused for another node, and small,
    /// because every dot carries it.
    NodeId(u32)
}
number_id! {
    /// A datacenter, by its order in the catalog.
    DcId(u16)
}
number_id! {
    /// One slice of the ring: the unit of ownership, clock, streaming, repair and backup.
    VnodeId(u32)
}
number_id! {
    /// A keyspace: a replication map and the tables under it. Never reused.
    KeyspaceId(u32)
}
number_id! {
    /// A table. Unique in the whole cluster, never reused, so that a dropped table's rows cannot
    /// come back under a new table of the same name.
    TableId(u32)
}
number_id! {
    /// The version of a layout. Every replica request carries the one it was planned with.
    Epoch(u64)
}
number_id! {
    /// One life of a node's memory: a fresh random number, durable before its first dot.
    ///
    /// It is random and not counted because a counter comes back with a restored disk, and a dot
    /// that is minted twice loses a write (design rule 3).
    Incarnation(u64)
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The id as 16 bytes, most significant first.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The id from the 16 bytes that [`Self::to_bytes`] gave.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// One request through its whole way over all nodes: what traces and logs are joined by.
    RequestId
}
uuid_id! {
    /// One write as its client means it. A retry carries the same id, so that it is stored once
    /// (design rule 11).
    WriteId
}
uuid_id! {
    /// One atomic batch, over all nodes that keep it until it is whole.
    BatchId
}
