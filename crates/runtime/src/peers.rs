//! What this node knows and counts about each of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use meridian_telemetry::{Metrics, PeerMetrics};
use meridian_topology::Topology;
use meridian_types::{Goods, KeyspaceId, NodeId, PeerStanding, ReadClass, VnodeId, VnodeKind};

/// One other node.
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) metrics: PeerMetrics,
    differing_vnodes: AtomicU64,
    /// The reads that it is good for in vnodes that it is not sound for, by its own word.
    unsound: ArcSwapOption<Unsound>,
    half_round_trip_ms: AtomicU64,
}

type Unsound = BTreeMap<KeyspaceId, BTreeMap<VnodeId, Goods>>;

impl Peer {
    pub(crate) fn set_differing(&self, vnodes: usize) {
        self.differing_vnodes.store(vnodes as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_round_trip(&self, time: Duration) {
        let half = u64::try_from(time.as_millis() / 2).unwrap_or(u64::MAX);
        self.half_round_trip_ms.store(half, Ordering::Relaxed);
    }

    /// How long a message takes, about.
    pub(crate) fn half_round_trip_ms(&self) -> u64 {
        self.half_round_trip_ms.load(Ordering::Relaxed)
    }

    /// How many vnodes it said that it is not sound for.
    pub(crate) fn unsound(&self) -> u64 {
        let unsound = self.unsound.load();
        unsound.as_ref().map_or(0, |known| known.values().map(|of| of.len() as u64).sum())
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
            let (differing_vnodes, unsound) = (AtomicU64::new(0), ArcSwapOption::empty());
            let half_round_trip_ms = AtomicU64::new(0);
            Peer { id: node.id, metrics, differing_vnodes, unsound, half_round_trip_ms }
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

    /// A peer said which vnodes of a keyspace it is not sound for.
    pub(crate) fn said_of_itself(
        &self,
        id: NodeId,
        keyspace: KeyspaceId,
        unsound: &[(VnodeId, PeerStanding)],
    ) {
        let Some(peer) = self.get(id) else { return };
        let before = peer.unsound.load();
        let known = before.as_ref().and_then(|known| known.get(&keyspace));
        let now: BTreeMap<VnodeId, Goods> = unsound
            .iter()
            .filter(|(_, standing)| standing.kind != VnodeKind::Sound)
            .map(|(vnode, standing)| (*vnode, standing.goods))
            .collect();
        if known.map_or(now.is_empty(), |known| *known == now) {
            return;
        }
        let mut all = before.as_deref().cloned().unwrap_or_default();
        if now.is_empty() {
            all.remove(&keyspace);
        } else {
            all.insert(keyspace, now);
        }
        peer.unsound.store((!all.is_empty()).then(|| Arc::new(all)));
    }

    /// Whether a peer said that it does not answer such reads.
    pub(crate) fn is_doubtful(
        &self,
        id: NodeId,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        class: ReadClass,
    ) -> bool {
        let Some(peer) = self.get(id) else { return false };
        let unsound = peer.unsound.load();
        let goods = unsound.as_ref().and_then(|unsound| unsound.get(&keyspace)?.get(&vnode));
        goods.is_some_and(|goods| !goods.has(class))
    }

    /// Clocks were compared with a peer's.
    pub(crate) fn compared(&self, id: NodeId) {
        let Some(peer) = self.get(id) else { return };
        peer.metrics.anti_entropy_rounds.inc();
    }

    /// A comparison or a pull broke off.
    pub(crate) fn exchange_failed(&self, id: NodeId) {
        if let Some(peer) = self.get(id) {
            peer.metrics.anti_entropy_failures.inc();
        }
    }

    /// Rows that a pull from a peer brought.
    pub(crate) fn pulled(&self, id: NodeId, rows: u64) {
        if let Some(peer) = self.get(id) {
            peer.metrics.anti_entropy_rows.inc_by(rows);
        }
    }
}
