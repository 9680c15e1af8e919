//! Runs of the ring that the same replicas hold, so that a scan asks them once for many vnodes.

use meridian_topology::{Placement, Replicas};
use meridian_types::{NodeId, VnodeId};
use smallvec::SmallVec;

/// A run of vnodes side by side that the same nodes hold, in whatever order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first vnode: its preference list is as good as that of any other of the run.
    pub vnode: VnodeId,
    /// The top 64 bits of the first token.
    pub first: u64,
    /// The top 64 bits of the last token, included.
    pub last: u64,
}

/// All segments of a placement, in the order of the ring. Computed once for a placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// Merges vnodes side by side that have the same replicas.
    #[must_use]
    pub fn of(placement: &Placement) -> Self {
        let count = placement.vnode_count();
        let mut segments: Vec<Segment> = Vec::new();
        let mut before: Option<SmallVec<[NodeId; 16]>> = None;
        for vnode in count.vnodes() {
            let Some(range) = count.token_range(vnode) else { continue };
            let (first, last) = (range.start().high(), range.end().high());
            let holders = sorted(placement.replicas(vnode));
            match segments.last_mut() {
                Some(segment) if before.as_ref() == Some(&holders) => segment.last = last,
                _ => segments.push(Segment { vnode, first, last }),
            }
            before = Some(holders);
        }
        Self(segments)
    }

    /// The segment that the top 64 bits of a token lie in.
    #[must_use]
    pub fn at(&self, token: u64) -> Option<Segment> {
        let at = self.0.partition_point(|segment| segment.last < token);
        self.0.get(at).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Segment> + '_ {
        self.0.iter().copied()
    }
}

fn sorted(replicas: Replicas<'_>) -> SmallVec<[NodeId; 16]> {
    let mut nodes = SmallVec::from_slice(replicas.all());
    nodes.sort_unstable();
    nodes
}
