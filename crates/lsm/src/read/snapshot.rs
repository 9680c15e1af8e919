//! Snapshots: a seqno that compaction must keep readable.
//!
//! INVARIANT: registering reads the visible seqno under the list's lock, and a compaction reads
//! list and visible seqno under the same lock; so a snapshot that it does not know of is at least
//! as new as everything it may drop.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::key::Seqno;
use crate::tree::Shared;

/// The registered seqnos, ascending, with how many snapshots hold each.
#[derive(Debug, Default)]
pub(crate) struct SnapshotList {
    held: Mutex<VecDeque<(Seqno, usize)>>,
}

impl SnapshotList {
    fn register(&self, seqno: impl FnOnce() -> Seqno) -> Seqno {
        let mut held = self.held.lock();
        let seqno = seqno();
        let at = held.partition_point(|(known, _)| *known < seqno);
        match held.get_mut(at) {
            Some((known, count)) if *known == seqno => *count += 1,
            _ => held.insert(at, (seqno, 1)),
        }
        seqno
    }

    fn release(&self, seqno: Seqno) {
        let mut held = self.held.lock();
        let at = held.partition_point(|(known, _)| *known < seqno);
        if let Some((_, count)) = held.get_mut(at) {
            *count -= 1;
            if *count == 0 {
                held.remove(at);
            }
        }
    }

    /// All of them, ascending.
    pub(crate) fn held(&self) -> Vec<Seqno> {
        self.held.lock().iter().map(|(seqno, _)| *seqno).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.held.lock().iter().map(|(_, count)| count).sum()
    }
}

/// A moment of the database; what was visible then stays readable until it is dropped.
#[derive(Debug)]
pub struct Snapshot {
    seqno: Seqno,
    shared: Arc<Shared>,
}

impl Snapshot {
    pub(crate) fn take(shared: &Arc<Shared>) -> Self {
        let seqno = shared.snapshots.register(|| shared.visible());
        Self { seqno, shared: shared.clone() }
    }

    /// The last write that it sees.
    #[must_use]
    pub const fn seqno(&self) -> Seqno {
        self.seqno
    }
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        self.shared.snapshots.register(|| self.seqno);
        Self { seqno: self.seqno, shared: self.shared.clone() }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.shared.snapshots.release(self.seqno);
    }
}
