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

#[cfg(test)]
mod tests {
    use meridian_topology::Shape;
    use meridian_types::DcId;

    use super::*;

    #[test]
    fn equal_maps_of_equal_clusters_share_a_placement_and_the_oldest_goes() {
        let (three, small) =
            (Shape::named("three-dc").unwrap(), Shape::named("three-node").unwrap());
        let cache = PlacementCache::default();
        let placed = |shape: &Shape, map: &KeyspaceMap| {
            cache.placed(&shape.topology().clone(), map.clone()).unwrap().placement
        };
        let first = placed(&three, three.replication());
        assert!(Arc::ptr_eq(&first, &placed(&three, three.replication())));
        assert!(!Arc::ptr_eq(&first, &placed(&small, small.replication())));
        let dcs: Vec<DcId> = three.topology().dcs().iter().map(|dc| dc.id).collect();
        for copies in 0..MAX_PLACEMENTS - 1 {
            let (a, b) = (copies / 3 + 1, copies % 3 + 1);
            let count = |n: usize| u8::try_from(n).unwrap();
            placed(&three, &KeyspaceMap::new([(dcs[0], count(a)), (dcs[1], count(b))]));
        }
        assert_eq!(cache.known.lock().len(), MAX_PLACEMENTS);
        let again = placed(&three, three.replication());
        assert!(!Arc::ptr_eq(&first, &again) && first == again);
    }

    #[test]
    fn shared_vnodes_are_those_that_both_hold() {
        let shape = Shape::named("three-dc").unwrap();
        let placement = Placement::initial(shape.topology(), shape.replication()).unwrap();
        let nodes: Vec<NodeId> = shape.topology().nodes().iter().map(|node| node.id).collect();
        let (me, others) = nodes.split_first().unwrap();
        let shared = SharedVnodes::of(&placement, *me);
        for peer in others {
            let both = |vnode: &VnodeId| placement.replicas(*vnode).contains(*peer);
            let expected: Vec<VnodeId> = placement.vnodes_of(*me).filter(both).collect();
            assert_eq!(shared.with(*peer).map_or(&[][..], |vnodes| vnodes), expected);
            assert_eq!(shared.peers().any(|known| known == *peer), !expected.is_empty());
        }
        assert!(shared.with(*me).is_none());
    }
}
