//! Small clusters, and the levels' meaning written down a second time, for tests to compare with.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_crdt::{Actor, Context, Delta, Dot, Entry};
use meridian_topology::{
    Capacity, DcInfo, KeyspaceMap, NodeInfo, Placement, Replicas, Topology, VnodeCount,
};
use meridian_types::{
    ConsistencyLevel, DcId, Hlc, Incarnation, KeyspaceId, Millis, NodeId, Partitioner, RowKey,
    TableId, VnodeId,
};

/// The levels that are there.
pub(crate) const LEVELS: [ConsistencyLevel; 9] = [
    ConsistencyLevel::Any,
    ConsistencyLevel::One,
    ConsistencyLevel::LocalOne,
    ConsistencyLevel::Two,
    ConsistencyLevel::Three,
    ConsistencyLevel::Quorum,
    ConsistencyLevel::LocalQuorum,
    ConsistencyLevel::EachQuorum,
    ConsistencyLevel::All,
];

/// A cluster of one vnode that every node holds.
pub(crate) struct Cluster {
    pub(crate) topology: Topology,
    pub(crate) placement: Placement,
}

/// The datacenter that coordinates in tests.
pub(crate) const HOME: DcId = DcId(0);

impl Cluster {
    /// So many nodes in each datacenter.
    pub(crate) fn new(nodes_in: &[u32]) -> Self {
        Self::with_replicas(nodes_in, nodes_in)
    }

    /// So many nodes in each datacenter, and so many replicas.
    pub(crate) fn with_replicas(nodes_in: &[u32], replicas_in: &[u32]) -> Self {
        let dc = |at: usize| DcId(u16::try_from(at).unwrap());
        let dcs = (0..nodes_in.len()).map(|at| DcInfo { id: dc(at), name: format!("dc{at}") });
        let mut nodes = Vec::new();
        for (at, &count) in nodes_in.iter().enumerate() {
            for node in 1..=count {
                nodes.push(NodeInfo {
                    id: NodeId(u32::from(dc(at).0) * 10 + node),
                    name: format!("dc{at}-{node}"),
                    dc: dc(at),
                    rack: format!("r{node}"),
                    capacity: Capacity::ONE,
                });
            }
        }
        let vnodes = VnodeCount::new(1).unwrap();
        let topology =
            Topology::new(Partitioner::Murmur3, vnodes, dcs.collect(), nodes, []).unwrap();
        let map = replicas_in.iter().enumerate().map(|(at, &n)| (dc(at), u8::try_from(n).unwrap()));
        let placement = Placement::initial(&topology, &KeyspaceMap::new(map)).unwrap();
        Self { topology, placement }
    }

    pub(crate) fn replicas(&self) -> Replicas<'_> {
        self.placement.replicas(VnodeId(0))
    }

    /// The replica that coordinates: the preferred one at home.
    pub(crate) fn leader(&self) -> NodeId {
        self.replicas().in_dc(HOME)[0]
    }

    pub(crate) fn dc_of(&self, node: NodeId) -> DcId {
        self.topology.dc_of(node).unwrap()
    }

    /// How many of these nodes are in each datacenter.
    pub(crate) fn count(&self, nodes: &BTreeSet<NodeId>) -> BTreeMap<DcId, usize> {
        let mut counts = BTreeMap::new();
        for &node in nodes {
            *counts.entry(self.dc_of(node)).or_default() += 1;
        }
        counts
    }

    /// What a level means, from the table in the design: whether these replicas are enough.
    pub(crate) fn is_enough(&self, level: ConsistencyLevel, acked: &BTreeSet<NodeId>) -> bool {
        let counts = self.count(acked);
        let of = |dc: DcId| counts.get(&dc).copied().unwrap_or(0);
        let all = self.replicas().len();
        match level {
            ConsistencyLevel::Any | ConsistencyLevel::One => !acked.is_empty(),
            ConsistencyLevel::LocalOne => of(HOME) >= 1,
            ConsistencyLevel::Two => acked.len() >= 2,
            ConsistencyLevel::Three => acked.len() >= 3,
            ConsistencyLevel::Quorum => 2 * acked.len() > all,
            ConsistencyLevel::LocalQuorum => 2 * of(HOME) > self.replicas().in_dc(HOME).len(),
            ConsistencyLevel::EachQuorum => {
                self.replicas().per_dc().all(|(dc, nodes)| 2 * of(dc) > nodes.len())
            }
            ConsistencyLevel::All => acked.len() == all,
            ConsistencyLevel::Serial | ConsistencyLevel::LocalSerial => false,
        }
    }
}

pub(crate) fn row_key() -> RowKey {
    RowKey {
        keyspace: KeyspaceId(1),
        table: TableId(2),
        vnode: VnodeId(0),
        key: Bytes::from_static(b"key"),
    }
}

pub(crate) fn dot(node: NodeId, counter: u64) -> Dot {
    Dot::new(Actor { node, incarnation: Incarnation(1) }, counter)
}

pub(crate) fn delta(dot: Dot, value: &str, context: Context) -> Delta {
    let stamp = Hlc::new(Millis(dot.counter), 0);
    let value = (!value.is_empty()).then(|| Bytes::copy_from_slice(value.as_bytes()));
    Delta { entry: Entry { dot, stamp, expires: None, value }, context }
}

/// SplitMix64, for walks that repeat with their seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}
