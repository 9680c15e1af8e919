//! How far replicas lag behind each other: what one has of a vnode that another lacks, in dots, and
//! how old the oldest of it is.
//!
//! Exact at every pull, whose two sides tell each other their clocks. Between pulls comparisons say
//! which vnodes are equal by now. What a replica that is out of reach has written meanwhile nobody
//! knows: what is shown is what was known last.

use std::collections::BTreeMap;

use meridian_types::{KeyspaceId, Millis, NodeId, VnodeId};
use parking_lot::Mutex;

/// Sums over all vnodes that two nodes share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Dots that the peer has and this node lacks.
    pub(crate) behind: u64,
    /// How old the oldest of these is, by the stamp of its write, in milliseconds. As far as its
    /// row was seen: what was replaced meanwhile has none.
    pub(crate) behind_ms: u64,
    /// Dots that this node has and the peer lacks.
    pub(crate) ahead: u64,
}

/// What one side of a vnode lacks.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    behind: u64,
    /// Of the dots behind.
    oldest: Option<Millis>,
    ahead: u64,
}

type Vnodes = BTreeMap<(KeyspaceId, VnodeId), Missing>;

/// Keeps what is known, by peer and vnode. Vnodes that are equal are not kept.
#[derive(Debug, Default)]
pub(crate) struct Lags(Mutex<BTreeMap<NodeId, Vnodes>>);

impl Lags {
    /// A comparison says which vnodes of a keyspace differ: the others do not lag.
    pub(crate) fn compared(&self, peer: NodeId, keyspace: KeyspaceId, differing: &[VnodeId]) {
        if let Some(vnodes) = self.0.lock().get_mut(&peer) {
            vnodes.retain(|(other, vnode), _| *other != keyspace || differing.contains(vnode));
        }
    }

    /// Both clocks of a vnode were seen: `behind` dots are missing here, `ahead` at the peer.
    pub(crate) fn seen(
        &self,
        peer: NodeId,
        (keyspace, vnode): (KeyspaceId, VnodeId),
        behind: u64,
        ahead: u64,
    ) {
        let mut peers = self.0.lock();
        let vnodes = peers.entry(peer).or_default();
        if behind == 0 && ahead == 0 {
            vnodes.remove(&(keyspace, vnode));
            return;
        }
        let missing = vnodes.entry((keyspace, vnode)).or_default();
        (missing.behind, missing.ahead) = (behind, ahead);
        if behind == 0 {
            missing.oldest = None;
        }
    }

    /// A row that was missing was written at that time.
    pub(crate) fn saw_row(&self, peer: NodeId, place: (KeyspaceId, VnodeId), written: Millis) {
        let mut peers = self.0.lock();
        let missing = peers.get_mut(&peer).and_then(|vnodes| vnodes.get_mut(&place));
        if let Some(missing) = missing {
            missing.oldest = Some(missing.oldest.map_or(written, |known| known.min(written)));
        }
    }

    /// A pull of a vnode is through.
    pub(crate) fn brought(&self, peer: NodeId, place: (KeyspaceId, VnodeId)) {
        let mut peers = self.0.lock();
        let Some(vnodes) = peers.get_mut(&peer) else { return };
        if let Some(missing) = vnodes.get_mut(&place) {
            (missing.behind, missing.oldest) = (0, None);
            if missing.ahead == 0 {
                vnodes.remove(&place);
            }
        }
    }

    /// How far this node and a peer are from each other, by the wall clock's time.
    pub(crate) fn of(&self, peer: NodeId, wall: Millis) -> Lag {
        let peers = self.0.lock();
        let mut lag = Lag::default();
        for missing in peers.get(&peer).into_iter().flat_map(BTreeMap::values) {
            lag.behind += missing.behind;
            lag.ahead += missing.ahead;
            let age = missing.oldest.map_or(0, |oldest| wall.since(oldest));
            lag.behind_ms = lag.behind_ms.max(age);
        }
        lag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);
    const SPACE: KeyspaceId = KeyspaceId(1);

    fn at(vnode: u32) -> (KeyspaceId, VnodeId) {
        (SPACE, VnodeId(vnode))
    }

    #[test]
    fn what_is_missing_is_summed_until_it_was_brought_or_is_equal() {
        let lags = Lags::default();
        let wall = Millis(10_000);
        lags.seen(PEER, at(1), 5, 0);
        lags.saw_row(PEER, at(1), Millis(9_000));
        lags.saw_row(PEER, at(1), Millis(9_500));
        lags.seen(PEER, at(2), 2, 3);
        assert_eq!(lags.of(PEER, wall), Lag { behind: 7, behind_ms: 1_000, ahead: 3 });
        lags.brought(PEER, at(1));
        assert_eq!(lags.of(PEER, wall), Lag { behind: 2, behind_ms: 0, ahead: 3 });
        lags.compared(PEER, KeyspaceId(9), &[]);
        lags.compared(PEER, SPACE, &[VnodeId(2)]);
        assert_eq!(lags.of(PEER, wall).behind, 2);
        lags.compared(PEER, SPACE, &[]);
        assert_eq!(lags.of(PEER, wall), Lag::default());
        assert_eq!(lags.of(NodeId(3), wall), Lag::default());
    }

    #[test]
    fn equal_clocks_leave_nothing() {
        let lags = Lags::default();
        lags.seen(PEER, at(1), 1, 0);
        lags.seen(PEER, at(1), 0, 0);
        lags.saw_row(PEER, at(1), Millis(1));
        assert_eq!(lags.of(PEER, Millis(5)), Lag::default());
        assert!(lags.0.lock()[&PEER].is_empty());
    }
}
