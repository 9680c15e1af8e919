//! The cluster as it is meant to be: datacenters, racks, nodes, the links between datacenters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use meridian_types::{DcId, Epoch, NodeId, Partitioner, Token, VnodeId};

use crate::layout::{Layout, LayoutError, Member};
use crate::ring::VnodeCount;

/// How much of the data a node takes, relative to the others: 1 unless said otherwise.
///
/// Kept as a whole number of thousandths, so that layouts do not depend on floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capacity(u32);

/// A number that is no capacity. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} is no capacity; it must be from 0.001 to 1000")]
pub struct CapacityError(pub f64);

impl Capacity {
    /// The capacity of a node that says nothing.
    pub const ONE: Self = Self(1_000);

    /// A capacity in thousandths, from 1 to 1,000,000.
    #[must_use]
    pub const fn from_thousandths(thousandths: u32) -> Option<Self> {
        match thousandths {
            1..=1_000_000 => Some(Self(thousandths)),
            _ => None,
        }
    }

    /// The capacity in thousandths.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0
    }
}

impl TryFrom<f64> for Capacity {
    type Error = CapacityError;

    fn try_from(value: f64) -> Result<Self, CapacityError> {
        if !(0.001..=1_000.0).contains(&value) {
            return Err(CapacityError(value));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the range was checked in the line above"
        )]
        let thousandths = (value * 1_000.0).round() as u32;
        Ok(Self(thousandths))
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1_000.0)
    }
}

/// A datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DcInfo {
    /// Its number.
    pub id: DcId,
    /// Its name: `us`.
    pub name: String,
}

/// A node, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number.
    pub id: NodeId,
    /// Its name: `us-1`.
    pub name: String,
    /// Its datacenter.
    pub dc: DcId,
    /// Its rack, a failure domain inside the datacenter. Racks of the same name in two datacenters
    /// are two racks.
    pub rack: String,
    /// How much of its datacenter's data it takes, relative to the others.
    pub capacity: Capacity,
}

/// What the way between two datacenters is like, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// How long a message is under way, one way.
    pub latency: Duration,
    /// By how much the latency varies, up and down.
    pub jitter: Duration,
    /// How many packets of a hundred are lost.
    pub loss_percent: f64,
}

/// The datacenters, racks and nodes of a cluster, and how its ring is cut.
///
/// A value: a change of the cluster is a new `Topology`.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    partitioner: Partitioner,
    vnodes: VnodeCount,
    /// By id.
    dcs: Vec<DcInfo>,
    /// By id.
    nodes: Vec<NodeInfo>,
    /// By pair, the smaller id first.
    links: BTreeMap<(DcId, DcId), Link>,
    /// For each datacenter the others, nearest first.
    nearest: BTreeMap<DcId, Vec<DcId>>,
}

/// Parts that make no cluster. Nothing was changed; the same parts give the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// A cluster has at least one datacenter and one node.
    #[error("a cluster needs at least one datacenter and one node")]
    Empty,
    /// More nodes than the vnodes can be given to.
    #[error("{nodes} nodes are too many; at most {} are allowed", Topology::MAX_NODES)]
    TooManyNodes {
        /// How many there are.
        nodes: usize,
    },
    /// More datacenters than allowed.
    #[error("{dcs} datacenters are too many; at most {} are allowed", Topology::MAX_DCS)]
    TooManyDcs {
        /// How many there are.
        dcs: usize,
    },
    /// Two datacenters, or two nodes, of one name or one number.
    #[error("{what} is there twice")]
    Duplicate {
        /// Which, by kind and name.
        what: String,
    },
    /// A node stands in a datacenter, or a link ends at one, that is not there.
    #[error("{what} names datacenter {dc}, which is not there")]
    UnknownDc {
        /// The node or link concerned.
        what: String,
        /// The number it names.
        dc: DcId,
    },
    /// A link whose two ends are one datacenter.
    #[error("a link joins datacenter {dc} to itself")]
    LinkToItself {
        /// The datacenter.
        dc: DcId,
    },
}

impl Topology {
    /// The most nodes of a cluster: what [`VnodeCount::MAX`] holds at the default vnodes per node.
    pub const MAX_NODES: usize = (VnodeCount::MAX / VnodeCount::DEFAULT_PER_NODE) as usize;

    /// The most datacenters of a cluster. Every read plan sorts them and every clock exchange
    /// visits them, so the bound is a matter of cost, not of format.
    pub const MAX_DCS: usize = 64;

    /// A cluster from its parts, in any order.
    ///
    /// # Errors
    /// The parts contradict one another, or are too many: see [`TopologyError`].
    pub fn new(
        partitioner: Partitioner,
        vnodes: VnodeCount,
        mut dcs: Vec<DcInfo>,
        mut nodes: Vec<NodeInfo>,
        links: impl IntoIterator<Item = (DcId, DcId, Link)>,
    ) -> Result<Self, TopologyError> {
        dcs.sort_by_key(|dc| dc.id);
        nodes.sort_by_key(|node| node.id);
        check(&dcs, &nodes)?;
        let links = index_links(&dcs, links)?;
        let nearest = dcs.iter().map(|dc| (dc.id, nearest_to(dc.id, &dcs, &links))).collect();
        Ok(Self { partitioner, vnodes, dcs, nodes, links, nearest })
    }

    /// The same cluster with its ring cut into another number of vnodes. For a cluster that does
    /// not exist yet: one that does keeps the number that it was created with.
    #[must_use]
    pub fn with_vnode_count(self, vnodes: VnodeCount) -> Self {
        Self { vnodes, ..self }
    }

    /// The same cluster with another partitioner. For a cluster that does not exist yet.
    #[must_use]
    pub fn with_partitioner(self, partitioner: Partitioner) -> Self {
        Self { partitioner, ..self }
    }

    /// How keys become tokens.
    #[must_use]
    pub fn partitioner(&self) -> Partitioner {
        self.partitioner
    }

    /// How many vnodes the ring is cut into.
    #[must_use]
    pub fn vnode_count(&self) -> VnodeCount {
        self.vnodes
    }

    /// A key's place on the ring.
    #[must_use]
    pub fn token(&self, key: &[u8]) -> Token {
        self.partitioner.token(key)
    }

    /// The vnode that a token lies in.
    #[inline]
    #[must_use]
    pub fn vnode_of(&self, token: Token) -> VnodeId {
        self.vnodes.vnode_of(token)
    }

    /// The datacenters, by number.
    #[must_use]
    pub fn dcs(&self) -> &[DcInfo] {
        &self.dcs
    }

    /// The nodes of all datacenters, by number.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// The nodes of a datacenter, by number.
    pub fn nodes_in(&self, dc: DcId) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(move |node| node.dc == dc)
    }

    /// The node of this number.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeInfo> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// The node of this name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The datacenter that a node stands in.
    #[must_use]
    pub fn dc_of(&self, node: NodeId) -> Option<DcId> {
        self.node(node).map(|node| node.dc)
    }

    /// A datacenter's name.
    #[must_use]
    pub fn dc_name(&self, id: DcId) -> Option<&str> {
        let at = self.dcs.binary_search_by_key(&id, |dc| dc.id).ok()?;
        self.dcs.get(at).map(|dc| dc.name.as_str())
    }

    /// A datacenter's number.
    #[must_use]
    pub fn dc_id(&self, name: &str) -> Option<DcId> {
        self.dcs.iter().find(|dc| dc.name == name).map(|dc| dc.id)
    }

    /// The link between two datacenters, in either order; `None` where nothing is known of it, and
    /// inside one datacenter.
    #[must_use]
    pub fn link(&self, a: DcId, b: DcId) -> Option<&Link> {
        self.links.get(&(a.min(b), a.max(b)))
    }

    /// All links, each once, the smaller datacenter number first.
    pub fn links(&self) -> impl Iterator<Item = (DcId, DcId, &Link)> {
        self.links.iter().map(|(&(a, b), link)| (a, b, link))
    }

    /// The other datacenters, nearest first by latency, those of unknown latency last. Empty for a
    /// datacenter that is not there.
    #[must_use]
    pub fn nearest_dcs(&self, from: DcId) -> &[DcId] {
        self.nearest.get(&from).map_or(&[], Vec::as_slice)
    }

    /// A datacenter's next layout: see [`Layout::compute`].
    ///
    /// # Errors
    /// `previous` is a layout of another datacenter or another ring.
    pub fn layout(
        &self,
        epoch: Epoch,
        dc: DcId,
        replicas: u8,
        previous: Option<&Layout>,
    ) -> Result<Layout, LayoutError> {
        let members: Vec<Member> = self.nodes_in(dc).map(Member::from).collect();
        Layout::compute(epoch, dc, &members, self.vnodes, replicas, previous)
    }
}

fn check(dcs: &[DcInfo], nodes: &[NodeInfo]) -> Result<(), TopologyError> {
    if dcs.is_empty() || nodes.is_empty() {
        return Err(TopologyError::Empty);
    }
    if dcs.len() > Topology::MAX_DCS {
        return Err(TopologyError::TooManyDcs { dcs: dcs.len() });
    }
    if nodes.len() > Topology::MAX_NODES {
        return Err(TopologyError::TooManyNodes { nodes: nodes.len() });
    }
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for dc in dcs {
        if !ids.insert(dc.id) || !names.insert(&dc.name) {
            return Err(TopologyError::Duplicate { what: format!("datacenter `{}`", dc.name) });
        }
    }
    let (mut node_ids, mut node_names) = (BTreeSet::new(), BTreeSet::new());
    for node in nodes {
        if !node_ids.insert(node.id) || !node_names.insert(&node.name) {
            return Err(TopologyError::Duplicate { what: format!("node `{}`", node.name) });
        }
        if !ids.contains(&node.dc) {
            let what = format!("node `{}`", node.name);
            return Err(TopologyError::UnknownDc { what, dc: node.dc });
        }
    }
    Ok(())
}

fn index_links(
    dcs: &[DcInfo],
    links: impl IntoIterator<Item = (DcId, DcId, Link)>,
) -> Result<BTreeMap<(DcId, DcId), Link>, TopologyError> {
    let mut index = BTreeMap::new();
    for (a, b, link) in links {
        let what = format!("the link between datacenters {a} and {b}");
        if a == b {
            return Err(TopologyError::LinkToItself { dc: a });
        }
        if let Some(&dc) = [a, b].iter().find(|&&end| dcs.iter().all(|dc| dc.id != end)) {
            return Err(TopologyError::UnknownDc { what, dc });
        }
        if index.insert((a.min(b), a.max(b)), link).is_some() {
            return Err(TopologyError::Duplicate { what });
        }
    }
    Ok(index)
}

fn nearest_to(from: DcId, dcs: &[DcInfo], links: &BTreeMap<(DcId, DcId), Link>) -> Vec<DcId> {
    let mut others: Vec<DcId> = dcs.iter().map(|dc| dc.id).filter(|&id| id != from).collect();
    others.sort_by_key(|&to| {
        let latency = links.get(&(from.min(to), from.max(to))).map(|link| link.latency);
        (latency.unwrap_or(Duration::MAX), to)
    });
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dc(id: u16, name: &str) -> DcInfo {
        DcInfo { id: DcId(id), name: name.to_owned() }
    }

    fn node(id: u32, name: &str, dc: u16) -> NodeInfo {
        let (name, rack) = (name.to_owned(), "a".to_owned());
        NodeInfo { id: NodeId(id), name, dc: DcId(dc), rack, capacity: Capacity::ONE }
    }

    fn link(a: u16, b: u16, millis: u64) -> (DcId, DcId, Link) {
        let latency = Duration::from_millis(millis);
        (DcId(a), DcId(b), Link { latency, jitter: Duration::ZERO, loss_percent: 0.0 })
    }

    fn cluster(
        dcs: Vec<DcInfo>,
        nodes: Vec<NodeInfo>,
        links: Vec<(DcId, DcId, Link)>,
    ) -> Result<Topology, TopologyError> {
        let vnodes = VnodeCount::for_nodes(1, 256).unwrap();
        Topology::new(Partitioner::default(), vnodes, dcs, nodes, links)
    }

    #[test]
    fn everything_is_found_by_number_and_by_name() {
        let dcs = vec![dc(7, "eu"), dc(2, "us")];
        let nodes = vec![node(40, "eu-1", 7), node(3, "us-1", 2), node(5, "us-2", 2)];
        let topology = cluster(dcs, nodes, vec![]).unwrap();
        assert_eq!(topology.dc_name(DcId(7)), Some("eu"));
        assert_eq!(topology.dc_name(DcId(3)), None);
        assert_eq!(topology.dc_id("us"), Some(DcId(2)));
        assert_eq!(topology.node(NodeId(40)).map(|node| node.name.as_str()), Some("eu-1"));
        assert_eq!(topology.node(NodeId(4)), None);
        assert_eq!(topology.node_named("us-2").map(|node| node.id), Some(NodeId(5)));
        assert_eq!(topology.dc_of(NodeId(3)), Some(DcId(2)));
        let us: Vec<u32> = topology.nodes_in(DcId(2)).map(|node| node.id.0).collect();
        assert_eq!(us, [3, 5]);
    }

    #[test]
    fn the_nearest_come_first_and_the_unknown_last() {
        let dcs = (0..5).map(|id| dc(id, &format!("dc-{id}"))).collect();
        let links = vec![link(2, 0, 80), link(0, 4, 10), link(3, 0, 80)];
        let topology = cluster(dcs, vec![node(1, "n", 0)], links).unwrap();
        assert_eq!(topology.nearest_dcs(DcId(0)), [4, 2, 3, 1].map(DcId));
        assert_eq!(topology.nearest_dcs(DcId(1)), [0, 2, 3, 4].map(DcId));
        assert_eq!(topology.nearest_dcs(DcId(9)), []);
        assert_eq!(topology.link(DcId(1), DcId(2)), None);
        assert_eq!(topology.links().count(), 3);
    }

    #[test]
    fn parts_that_contradict_one_another_are_refused() {
        let us = || vec![dc(0, "us")];
        let one = || vec![node(1, "us-1", 0)];
        let refused = |result: Result<Topology, TopologyError>| result.unwrap_err().to_string();
        assert_eq!(cluster(vec![], one(), vec![]), Err(TopologyError::Empty));
        assert_eq!(cluster(us(), vec![], vec![]), Err(TopologyError::Empty));
        let twice = cluster(vec![dc(0, "us"), dc(1, "us")], one(), vec![]);
        assert_eq!(refused(twice), "datacenter `us` is there twice");
        let twice = cluster(us(), vec![node(1, "a", 0), node(1, "b", 0)], vec![]);
        assert_eq!(refused(twice), "node `b` is there twice");
        let elsewhere = cluster(us(), vec![node(1, "a", 4)], vec![]);
        assert_eq!(refused(elsewhere), "node `a` names datacenter 4, which is not there");
        let two = || vec![dc(0, "us"), dc(1, "eu")];
        let looped = cluster(two(), one(), vec![link(0, 0, 1)]);
        assert_eq!(looped, Err(TopologyError::LinkToItself { dc: DcId(0) }));
        assert!(refused(cluster(two(), one(), vec![link(0, 2, 1)])).contains("datacenter 2"));
        let twice = cluster(two(), one(), vec![link(0, 1, 1), link(1, 0, 2)]);
        assert!(refused(twice).contains("link between datacenters 1 and 0 is there twice"));
        let many = (0..=64).map(|id| dc(id, &format!("dc-{id}"))).collect();
        assert_eq!(cluster(many, one(), vec![]), Err(TopologyError::TooManyDcs { dcs: 65 }));
        let many = (0..4_097).map(|id| node(id, &format!("n-{id}"), 0)).collect();
        let error = TopologyError::TooManyNodes { nodes: 4_097 };
        assert_eq!(cluster(us(), many, vec![]), Err(error));
    }

    #[test]
    fn capacities_are_whole_thousandths() {
        assert_eq!(Capacity::try_from(2.5).map(Capacity::thousandths), Ok(2_500));
        assert_eq!(Capacity::try_from(0.001).map(Capacity::thousandths), Ok(1));
        assert_eq!(Capacity::try_from(1_000.0).map(Capacity::thousandths), Ok(1_000_000));
        for bad in [0.0, -1.0, 0.0009, 1_000.1, f64::NAN, f64::INFINITY] {
            assert!(Capacity::try_from(bad).is_err(), "{bad}");
        }
        assert_eq!(Capacity::from_thousandths(0), None);
        assert_eq!(Capacity::ONE.to_string(), "1");
    }
}
