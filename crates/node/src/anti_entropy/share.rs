//! A peer and a keyspace that this node has vnodes of in common: when they are compared.

use meridian_types::{KeyspaceId, Millis, NodeId, VnodeId};

use super::pulls::Priority;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) peer: NodeId,
    pub(super) keyspace: KeyspaceId,
    /// When it is compared next; while an answer is waited for, when that is given up.
    pub(super) due: Millis,
    /// Whether an answer is waited for.
    pub(super) asked: bool,
    /// The pause after a comparison: it grows while nothing differs and nothing is written.
    pub(super) pause_ms: u64,
    /// Of this node's clocks, when nothing differed.
    same: Option<u128>,
    /// The peer was out of reach: every difference counts at once.
    pub(super) returned: bool,
    /// The peer gave up hints for this node: every difference counts, before others.
    pub(super) dirty: bool,
    /// Hints for the peer were given up, and it was not told yet.
    pub(super) gaps: bool,
    /// The comparison that is under way tells it.
    pub(super) telling: bool,
    /// The last comparison was the peer's, and found differences: it pulls, and says by that what
    /// this node lacks.
    pub(super) theirs: bool,
    /// What differed at this node's last comparison, by number.
    pub(super) differed: Vec<VnodeId>,
}

impl Share {
    /// One that was never compared.
    pub(super) fn new(peer: NodeId, keyspace: KeyspaceId, due: Millis, pause_ms: u64) -> Self {
        Self {
            peer,
            keyspace,
            due,
            asked: false,
            pause_ms,
            same: None,
            returned: true,
            dirty: false,
            gaps: false,
            telling: false,
            theirs: false,
            differed: Vec::new(),
        }
    }

    /// Whether it is compared before those that are in no hurry.
    pub(super) fn is_urgent(&self) -> bool {
        self.returned || self.dirty || self.gaps
    }

    /// How soon what differs is pulled; `None` where it must differ once more.
    pub(super) fn priority(&self) -> Option<Priority> {
        match (self.dirty, self.returned) {
            (true, _) => Some(Priority::Dirty),
            (false, true) => Some(Priority::Returned),
            (false, false) => None,
        }
    }

    /// Nothing differs, and this node's clocks have that digest. Where it is what it was, nothing
    /// was written meanwhile, and the pause grows.
    pub(super) fn found_same(&mut self, digest: u128, idle_ms: u64, busy_ms: u64) {
        let is_idle = self.same.replace(digest) == Some(digest);
        self.pause_ms =
            if is_idle { self.pause_ms.saturating_mul(2).min(idle_ms) } else { busy_ms };
        self.settle();
        self.differed.clear();
        self.theirs = false;
    }

    /// Something differs.
    pub(super) fn found_different(&mut self, busy_ms: u64) {
        self.same = None;
        self.pause_ms = busy_ms;
    }

    /// It is compared at that time, if not before; while an answer is waited for, after it.
    pub(super) fn hurry(&mut self, soon: Millis) {
        if !self.asked {
            self.due = self.due.min(soon);
        }
    }

    /// What was in a hurry was dealt with.
    pub(super) fn settle(&mut self) {
        self.returned = false;
        self.dirty = false;
    }
}
