//! What can go wrong in a replica's room, and what it means for the data.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use meridian_crdt::{DecodeError, Dot};
use meridian_types::{KeyspaceId, StampTooFarAhead, TableId, TableName, VnodeId};

use crate::metadata::MetadataError;

/// An operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The table is not in this node's catalog. Nothing was changed; the catalog may be on its way.
    #[error("table {0} is not known here")]
    UnknownTable(TableId),
    /// The keyspace is not in this node's catalog. Nothing was changed.
    #[error("keyspace {0} is not known here")]
    UnknownKeyspace(KeyspaceId),
    /// The row names a keyspace that its table is not in. Nothing was changed.
    #[error("table {table} is in keyspace {actual}, not in {given}")]
    WrongKeyspace {
        /// The table.
        table: TableId,
        /// The keyspace of the request.
        given: KeyspaceId,
        /// The table's keyspace.
        actual: KeyspaceId,
    },
    /// The row names a vnode that its key does not lie in. Nothing was changed; the sender cuts the
    /// ring differently.
    #[error("the key lies in vnode {actual}, not in {given}")]
    WrongVnode {
        /// The vnode of the request.
        given: VnodeId,
        /// The key's vnode.
        actual: VnodeId,
    },
    /// There is no such vnode. Nothing was changed.
    #[error("there is no vnode {vnode}; the ring has {count} of them")]
    NoSuchVnode {
        /// The vnode of the request.
        vnode: VnodeId,
        /// How many there are.
        count: u32,
    },
    /// A key that cannot be stored. Nothing was changed.
    #[error(transparent)]
    Key(#[from] meridian_types::KeyError),
    /// The stamp is too far ahead of this node's clock. Nothing was changed; it may be tried again
    /// when the clocks agree.
    #[error(transparent)]
    Stamp(#[from] StampTooFarAhead),
    /// The context of a write covers the dot that the write would get: this replica has forgotten
    /// writes of its own. Nothing was changed; the node must begin a new incarnation.
    #[error(
        "the context covers {dot}, which would be minted next in vnode {vnode} of keyspace \
         {keyspace}: this replica has forgotten writes of its own"
    )]
    ForgottenDot {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnode.
        vnode: VnodeId,
        /// The dot.
        dot: Dot,
    },
    /// The actor has no counter left in this vnode: a peer's clock claims that it wrote 2^64 - 1
    /// times. Nothing was changed; the node must begin a new incarnation.
    #[error("no counter is left in vnode {vnode} of keyspace {keyspace}")]
    CountersExhausted {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnode.
        vnode: VnodeId,
    },
    /// A full pull has gone by this row, from a replica that had seen the write when it began: it
    /// may have seen it go. Nothing was changed; it may be tried again when the pull has ended.
    #[error("a full pull of vnode {vnode} of keyspace {keyspace} has gone by the row of {dot}")]
    BehindPull {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnode.
        vnode: VnodeId,
        /// The write.
        dot: Dot,
    },
    /// Too many dots are given out to writes that are kept elsewhere. Nothing was reserved: ask
    /// another replica, or later.
    #[error("{limit} dots are reserved already")]
    TooManyReserved {
        /// The limit in force.
        limit: usize,
    },
    /// A stored row cannot be read. It is there, and must never be taken for a missing one.
    #[error(transparent)]
    Corrupt(Box<CorruptRow>),
    /// A record of the store's own (clock, identity, catalog) cannot be read. Nothing was changed.
    #[error("the stored {record} is damaged: {cause}")]
    CorruptRecord {
        /// What it is.
        record: String,
        /// What was found.
        cause: String,
    },
    /// A part of the data is lost, and the catalog that says what it belonged to is gone as well.
    /// Nothing was changed. The replica is rebuilt from the others if it starts with an empty data
    /// directory.
    #[error(
        "data is lost ({lost}), and so is the catalog that says whose it was: move the data \
         directory away and start again, the replica is rebuilt from the others"
    )]
    LostWithCatalog {
        /// What is lost.
        lost: String,
    },
    /// The storage engine failed; its error says what happened to the data.
    #[error(transparent)]
    Storage(#[from] meridian_lsm::Error),
    /// Metadata could not be read or written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The data directory is somebody else's. Nothing was changed.
    #[error(transparent)]
    Foreign(Box<ForeignDirectory>),
    /// An option is out of range. Nothing was changed.
    #[error("{option} = {given} is not allowed; {allowed}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What was given.
        given: u64,
        /// What is allowed.
        allowed: String,
    },
    /// The operating system gave no thread for the storage engine.
    #[error("cannot start the threads of the storage engine: {0}")]
    Threads(std::io::Error),
    /// The store is closed. Nothing was changed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the disk holds something else than what was written to it.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::CorruptRecord { .. } => true,
            Self::Storage(cause) => cause.is_corruption(),
            _ => false,
        }
    }

    /// The damaged file, where it is corruption and the file is known.
    #[must_use]
    pub fn damaged_file(&self) -> Option<&Path> {
        match self {
            Self::Corrupt(row) => row.file.as_deref(),
            Self::Storage(meridian_lsm::Error::Corruption { file, .. }) => Some(file),
            _ => None,
        }
    }

    /// Whether the disk is full: nothing was changed, and the store goes on by itself as soon as
    /// there is room.
    #[must_use]
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Storage(cause) if cause.is_for_want_of_room())
    }

    pub(crate) fn record(record: impl Into<String>, cause: &DecodeError) -> Self {
        Self::CorruptRecord { record: record.into(), cause: cause.to_string() }
    }
}

/// A row whose stored bytes are no row.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the row {} of table {table} is damaged{}: {cause}", key.escape_ascii(), in_file(file.as_ref()))]
pub struct CorruptRow {
    /// The table.
    pub table: TableName,
    /// The row's key, or the part of the ring where the table cannot be read.
    pub key: Bytes,
    /// The damaged file, where it is known.
    pub file: Option<PathBuf>,
    /// What was found.
    pub cause: String,
}

fn in_file(file: Option<&PathBuf>) -> String {
    file.map_or_else(String::new, |file| format!(" in {}", file.display()))
}

/// A data directory that was written by another node, cluster, or with another ring.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the data directory {} has {what} {recorded}, and this node has {given}; nothing was changed: \
     give each node its own directory",
    dir.display()
)]
pub struct ForeignDirectory {
    /// The directory.
    pub dir: PathBuf,
    /// What differs.
    pub what: &'static str,
    /// As recorded in the directory.
    pub recorded: String,
    /// As this node was configured.
    pub given: String,
}
