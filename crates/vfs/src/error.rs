//! The one error of this crate: which operation on which path failed, and how.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The operation that failed or that a fault rule waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Creating a file.
    Create,
    /// Opening a file.
    Open,
    /// Appending to a file.
    Append,
    /// Giving a file room behind its end.
    Reserve,
    /// Reading from a file.
    Read,
    /// Making a file's bytes durable.
    Sync,
    /// Measuring a file.
    Length,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Listing a directory.
    List,
    /// Creating a directory.
    CreateDir,
    /// Making a directory's names durable.
    SyncDir,
    /// Giving a file a second name.
    Link,
    /// Asking whether a name is there.
    Exists,
    /// Taking the lock of a directory.
    Lock,
}

impl Op {
    /// Every operation, for those who make each of them fail.
    pub const EVERY: [Self; 15] = [
        Self::Create,
        Self::Open,
        Self::Append,
        Self::Reserve,
        Self::Read,
        Self::Sync,
        Self::Length,
        Self::Rename,
        Self::Remove,
        Self::List,
        Self::CreateDir,
        Self::SyncDir,
        Self::Link,
        Self::Exists,
        Self::Lock,
    ];
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Append => "append to",
            Self::Reserve => "reserve room in",
            Self::Read => "read",
            Self::Sync => "sync",
            Self::Length => "measure",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::List => "list",
            Self::CreateDir => "create the directory",
            Self::SyncDir => "sync the directory",
            Self::Link => "link",
            Self::Exists => "look for",
            Self::Lock => "lock",
        })
    }
}

/// An operation of the file system failed. What that means for the data is said where the
/// operation is declared.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}", path.display())]
pub struct IoError {
    op: Op,
    path: PathBuf,
    source: Arc<io::Error>,
}

impl IoError {
    /// An error of `op` on `path`.
    #[must_use]
    pub fn new(op: Op, path: &Path, source: io::Error) -> Self {
        Self { op, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// The operation that failed.
    #[must_use]
    pub const fn op(&self) -> Op {
        self.op
    }

    /// The file or directory concerned.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the disk or a quota is full: the one failure that passes by itself.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}
