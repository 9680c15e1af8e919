//! How much room there is: a disk that is full, and has room again.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{InodeRef, MemFs, Names};
use crate::{IoError, Op};

impl MemFs {
    /// Lets all files together have at most so many bytes, their room included; `None`: as many as
    /// there is memory. An append that finds too little takes what there is and fails with
    /// [`io::ErrorKind::StorageFull`], also where more is used already than is allowed now. A file
    /// without a name takes no room. What a crash leaves has the same quota.
    pub fn set_quota(&self, bytes: Option<u64>) {
        *self.shared.quota.lock() = bytes;
    }

    /// What [`Self::set_quota`] was last told.
    #[must_use]
    pub fn quota(&self) -> Option<u64> {
        *self.shared.quota.lock()
    }

    /// The bytes of all files together, their room included.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.names.lock().used(None)
    }

    /// Every file and its length, in the order of the names.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let names = self.shared.names.lock();
        let of = |(path, inode): (&PathBuf, &InodeRef)| (path.clone(), bytes_of(inode));
        names.live.iter().map(of).collect()
    }

    pub(super) fn append(
        &self,
        path: &Path,
        inode: &InodeRef,
        bytes: &[u8],
    ) -> Result<(), IoError> {
        let taken = self.with_free(inode, |inode, free| {
            let room = inode.data.len() - inode.end;
            let taken = bytes.len().min(room.saturating_add(free));
            inode.append(&bytes[..taken]);
            taken
        });
        if taken < bytes.len() { Err(full(Op::Append, path)) } else { Ok(()) }
    }

    pub(super) fn reserve(&self, path: &Path, inode: &InodeRef, bytes: u64) -> Result<(), IoError> {
        self.with_free(inode, |inode, free| {
            let len = usize::try_from(bytes).ok().and_then(|bytes| inode.end.checked_add(bytes));
            let most = inode.data.len().saturating_add(free);
            let len = len.filter(|len| *len <= most).ok_or_else(|| full(Op::Reserve, path))?;
            let end = inode.end;
            inode.data.truncate(end);
            inode.data.resize(len, 0);
            Ok(())
        })
    }

    /// Changes a file, told by how many bytes it may grow.
    fn with_free<T>(
        &self,
        inode: &InodeRef,
        change: impl FnOnce(&mut super::Inode, usize) -> T,
    ) -> T {
        let Some(quota) = self.quota() else { return change(&mut inode.lock(), usize::MAX) };
        // Held meanwhile: nobody else takes the room that was found.
        let names = self.shared.names.lock();
        let free = quota.saturating_sub(names.used(Some(inode)));
        change(&mut inode.lock(), usize::try_from(free).unwrap_or(usize::MAX))
    }
}

impl Names {
    /// The bytes of all files and of one that may have no name.
    fn used(&self, beside: Option<&InodeRef>) -> u64 {
        let mut counted = BTreeSet::new();
        let inodes = self.live.values().chain(beside);
        inodes.filter(|inode| counted.insert(Arc::as_ptr(inode).addr())).map(bytes_of).sum()
    }
}

fn bytes_of(inode: &InodeRef) -> u64 {
    inode.lock().data.len() as u64
}

fn full(op: Op, path: &Path) -> IoError {
    IoError::new(op, path, io::Error::new(io::ErrorKind::StorageFull, "no room within the quota"))
}
