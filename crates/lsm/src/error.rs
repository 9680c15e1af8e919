//! What can go wrong, in four kinds: the disk lied (`Corruption`), the disk failed (`Io`), the
//! caller erred (`Invalid…`, `TreeDropped`, `Merge…`, `WouldWait`), and the engine stopped
//! (`Poisoned`, `Stalled`).

use std::path::PathBuf;

use meridian_vfs::IoError;

use crate::key::Seqno;

/// An operation of the engine failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The bytes on disk are not those that were written. Nothing was changed; reading again
    /// gives the same. Never to be taken for "not there".
    #[error("{} is corrupt at offset {offset}: {what}", file.display())]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Where the damaged unit (chunk, block, record) begins.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// The file system refused. A read may be tried again; of a write nothing was made visible.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A write or sync of the WAL or manifest failed before, and nothing is known about what
    /// reached the disk. Every write is refused until the database is opened again; reads go on.
    #[error("writes are refused since {} failed: {cause}", file.display())]
    Poisoned {
        /// The file whose write or sync failed.
        file: PathBuf,
        /// What it said.
        cause: String,
    },
    /// The disk is full. A write that gets this was not written; of a wait or a sync it says that
    /// what was written before is in memory, and goes to the disk by itself as soon as there is
    /// room. Reads go on. Writes are taken again when there is room.
    #[error("the disk is full, writes are refused until there is room: {}: {cause}", file.display())]
    Full {
        /// The file that could not grow.
        file: PathBuf,
        /// What it said.
        cause: String,
    },
    /// The database was closed. Nothing was written.
    #[error("the database is closed")]
    Closed,
    /// Flushes or compactions keep failing and memory is full. Nothing was written; try again
    /// when the cause is removed.
    #[error("writes wait for a flush or compaction that fails: {cause}")]
    Stalled {
        /// The last failure.
        cause: String,
    },
    /// The log has a driver ([`crate::LogDriver`]), and the call would have to wait for it. Nothing
    /// was written; what was to be waited for goes on. Let the driver write or sync first.
    #[error("the call would have to wait for the driver of the log")]
    WouldWait,
    /// The caller asked for something that can never work. Nothing was changed.
    #[error("invalid argument: {what}")]
    InvalidArgument {
        /// What, and what is allowed.
        what: String,
    },
    /// The tree was dropped. Nothing was written.
    #[error("the tree {tree} was dropped")]
    TreeDropped {
        /// Its name.
        tree: String,
    },
    /// The tree has merge operands and was opened without its operator. Nothing was changed.
    #[error("the tree {tree} holds merge operands and has no merge operator")]
    MergeOperatorMissing {
        /// Its name.
        tree: String,
    },
    /// The merge operator refused its input. What is stored is unchanged.
    #[error("the merge operator of tree {tree} failed on key {key:02x?} at {seqno}: {reason}")]
    Merge {
        /// The tree's name.
        tree: String,
        /// The key concerned.
        key: Vec<u8>,
        /// The newest operand.
        seqno: Seqno,
        /// What the operator said.
        reason: String,
    },
}

impl Error {
    /// Whether the disk had no room: it is refused until there is some, and then taken again.
    #[must_use]
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io(cause) => cause.is_disk_full(),
            _ => false,
        }
    }

    pub(crate) fn corruption(
        file: impl Into<PathBuf>,
        offset: u64,
        what: impl Into<String>,
    ) -> Self {
        Self::Corruption { file: file.into(), offset, what: what.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::InvalidArgument { what: what.into() }
    }

    /// Whether the disk holds something else than what was written to it.
    #[must_use]
    pub const fn is_corruption(&self) -> bool {
        matches!(self, Self::Corruption { .. })
    }
}
