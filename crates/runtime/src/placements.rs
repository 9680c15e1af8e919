//! Placements by replication map: which nodes hold each vnode, computed once.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_coordinator::Segments;
use meridian_topology::{KeyspaceMap, Placement, PlacementError, Topology};
use meridian_types::{NodeId, VnodeId};
use parking_lot::Mutex;

/// Most placements that a cache keeps. Each takes up to 30 bytes a vnode; few clusters have more
/// than three replication maps.
const MAX_PLACEMENTS: usize = 8;

/// Placements that nodes of one process share: a simulated cluster of a hundred nodes would
/// otherwise compute and keep each a hundred times.
#[derive(Debug, Default)]
pub struct PlacementCache {
    /// Oldest first.
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    topology: Topology,
    map: KeyspaceMap,
    placed: Placed,
}

/// A replication map on the ring.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) placement: Arc<Placement>,
    /// Runs of the ring that the same nodes hold, for scans.
    pub(crate) segments: Arc<Segments>,
}

impl PlacementCache {
    pub(crate) fn placed(
        &self,
        topology: &Topology,
        map: KeyspaceMap,
    ) -> Result<Placed, PlacementError> {
        // Held while one is computed: whoever else starts now wants the same one.
        let mut known = self.known.lock();
        if let Some(same) = known.iter().find(|k| k.map == map && k.topology == *topology) {
            return Ok(same.placed.clone());
        }
        let placement = Placement::initial(topology, &map)?;
        let segments = Arc::new(Segments::of(&placement));
        let placed = Placed { placement: Arc::new(placement), segments };
        if known.len() == MAX_PLACEMENTS {
            known.remove(0);
        }
        known.push(Known { topology: topology.clone(), map, placed: placed.clone() });
        Ok(placed)
    }
}

/// The vnodes that one node holds in common with each other node, in their order.
#[derive(Debug, Default)]
pub(crate) struct SharedVnodes(BTreeMap<NodeId, Arc<[VnodeId]>>);

impl SharedVnodes {
    pub(crate) fn of(placement: &Placement, me: NodeId) -> Self {
        let mut shared: BTreeMap<NodeId, Vec<VnodeId>> = BTreeMap::new();
        for vnode in placement.vnodes_of(me) {
            for &peer in placement.replicas(vnode).all().iter().filter(|&&peer| peer != me) {
                shared.entry(peer).or_default().push(vnode);
            }
        }
        Self(shared.into_iter().map(|(peer, vnodes)| (peer, vnodes.into())).collect())
    }

    /// The other nodes with at least one vnode in common.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.0.keys().copied()
    }

    pub(crate) fn with(&self, peer: NodeId) -> Option<&Arc<[VnodeId]>> {
        self.0.get(&peer)
    }
}
