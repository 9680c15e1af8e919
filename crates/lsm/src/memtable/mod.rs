//! The newest data of a tree: an arena skip list that many threads write and read at once.
//!
//! A memtable is *active* until the commit lock seals it; writers that took it before go on
//! inserting, so it is complete only when everything numbered up to its seal is visible.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::key::{Seqno, ValueKind, seek_tag};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

mod arena;
mod cursor;
mod skip_list;
mod supply;

pub(crate) use cursor::MemCursor;
use skip_list::SkipList;
pub(crate) use supply::Supply;

/// No WAL segment: the memtable is empty.
pub(crate) const NO_SEGMENT: u64 = u64::MAX;

/// A memtable. Its numbers are set under the commit lock and read anywhere.
pub(crate) struct Memtable {
    list: SkipList,
    entries: AtomicUsize,
    /// The oldest WAL segment that may hold an entry of it.
    wal_floor: AtomicU64,
    /// The last seqno numbered before it was sealed; 0 while active.
    seal: AtomicU64,
}

impl Memtable {
    /// An empty one.
    pub(crate) fn new(supply: Arc<Supply>) -> Self {
        Self {
            list: SkipList::new(supply),
            entries: AtomicUsize::new(0),
            wal_floor: AtomicU64::new(NO_SEGMENT),
            seal: AtomicU64::new(0),
        }
    }

    /// Real bytes: what was taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        self.list.allocated()
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Notes, under the commit lock and before the insertion, which segment a batch may be in.
    pub(crate) fn note_segment(&self, segment: u64) {
        if self.wal_floor.load(Ordering::Relaxed) == NO_SEGMENT {
            self.wal_floor.store(segment, Ordering::Release);
        }
    }

    pub(crate) fn wal_floor(&self) -> u64 {
        self.wal_floor.load(Ordering::Acquire)
    }

    /// Whether no batch was ever meant for it.
    pub(crate) fn is_unused(&self) -> bool {
        self.wal_floor() == NO_SEGMENT
    }

    pub(crate) fn seal(&self, last: Seqno) {
        self.seal.store(last, Ordering::Release);
    }

    /// The last seqno that may be in a sealed memtable.
    pub(crate) fn sealed_at(&self) -> Seqno {
        self.seal.load(Ordering::Acquire)
    }

    /// Inserts a version; returns how many merge operands of the key lie on top of each other.
    pub(crate) fn insert(&self, key: &[u8], seqno: Seqno, kind: ValueKind, value: &[u8]) -> u32 {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.list.insert(key, seqno, kind, value)
    }

    /// Hands the versions of `key` visible at `at` to `visit`, newest first, until it breaks.
    pub(crate) fn visit(
        &self,
        key: &[u8],
        at: Seqno,
        visit: &mut impl FnMut(Seqno, ValueKind, &[u8]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut next = self.list.seek(key, seek_tag(at));
        while let Some(node) = next.filter(|node| node.key() == key) {
            visit(node.seqno(), node.kind(), node.value())?;
            next = self.list.next(node);
        }
        ControlFlow::Continue(())
    }
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memtable")
            .field("entries", &self.entries())
            .field("bytes", &self.bytes())
            .field("wal_floor", &self.wal_floor())
            .field("seal", &self.sealed_at())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
