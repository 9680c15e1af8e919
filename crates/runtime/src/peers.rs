//! What this node knows and counts about each of the others.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_telemetry::{Metrics, PeerMetrics};
use meridian_topology::Topology;
use meridian_types::NodeId;

/// One other node.
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) metrics: PeerMetrics,
    differing_vnodes: AtomicU64,
}

impl Peer {
    pub(crate) fn set_differing(&self, vnodes: usize) {
        self.differing_vnodes.store(vnodes as u64, Ordering::Relaxed);
    }

    pub(crate) fn differing(&self) -> u64 {
        self.differing_vnodes.load(Ordering::Relaxed)
    }
}

/// All other nodes, by number.
pub(crate) struct Peers(Vec<Peer>);

impl Peers {
    pub(crate) fn new(me: NodeId, topology: &Topology, metrics: &Metrics) -> Self {
        let others = topology.nodes().iter().filter(|node| node.id != me);
        let peer = |node: &meridian_topology::NodeInfo| {
            let dc = topology.dc_name(node.dc).unwrap_or_default();
            let metrics = metrics.peers().peer(&node.name, dc);
            Peer { id: node.id, metrics, differing_vnodes: AtomicU64::new(0) }
        };
        let mut peers: Vec<Peer> = others.map(peer).collect();
        peers.sort_by_key(|peer| peer.id);
        Self(peers)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.0.iter()
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Peer> {
        self.0.binary_search_by_key(&id, |peer| peer.id).ok().map(|at| &self.0[at])
    }

    /// A hint was kept for a peer.
    pub(crate) fn hints_kept(&self, id: NodeId, hints: usize) {
        if let Some(peer) = self.get(id) {
            peer.metrics.hints_stored.inc_by(hints as u64);
        }
    }

    /// Hints that a peer has taken.
    pub(crate) fn delivered(&self, id: NodeId, hints: usize) {
        if let Some(peer) = self.get(id) {
            peer.metrics.hints_delivered.inc_by(hints as u64);
        }
    }

    /// Clocks were compared with a peer's.
    pub(crate) fn compared(&self, id: NodeId, same: bool) {
        let Some(peer) = self.get(id) else { return };
        peer.metrics.anti_entropy_rounds.inc();
        if same {
            peer.metrics.clock_behind.set(0);
            peer.metrics.clock_lag.set(0);
        }
    }

    /// A comparison or a pull broke off.
    pub(crate) fn exchange_failed(&self, id: NodeId) {
        if let Some(peer) = self.get(id) {
            peer.metrics.anti_entropy_failures.inc();
        }
    }

    /// Dots of one vnode that the peer has and this node lacks, and the other way round.
    pub(crate) fn lag(&self, id: NodeId, behind: u64, ahead: u64) {
        if let Some(peer) = self.get(id) {
            peer.metrics.clock_behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
            peer.metrics.clock_lag.set(i64::try_from(ahead).unwrap_or(i64::MAX));
        }
    }

    /// Rows that a pull from a peer brought.
    pub(crate) fn pulled(&self, id: NodeId, rows: u64) {
        if let Some(peer) = self.get(id) {
            peer.metrics.anti_entropy_rows.inc_by(rows);
        }
    }
}
