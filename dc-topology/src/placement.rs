//! A keyspace's placement: the layouts of all its datacenters side by side, ready for the data
//! path.

use std::collections::BTreeMap;
use std::ops::Range;

use meridian_types::{DcId, Epoch, NodeId, Token, VnodeId};
use serde::{Deserialize, Serialize};

use crate::layout::{Layout, LayoutError};
use crate::ring::VnodeCount;
use crate::topology::Topology;

/// A keyspace's replication map: how many replicas each datacenter holds. A datacenter that is not
/// in it holds none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyspaceMap(BTreeMap<DcId, u8>);

/// A replication map that does not fit the cluster. Nothing was changed; another map may be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyspaceMapError {
    /// Nobody would hold anything.
    #[error("the replication map is empty; name at least one datacenter of {known}")]
    Empty {
        /// The datacenters that there are.
        known: String,
    },
    /// A datacenter that is not there.
    #[error("the replication map names datacenter `{dc}`, which is not there; known are {known}")]
    UnknownDc {
        /// The name or number given.
        dc: String,
        /// The datacenters that there are.
        known: String,
    },
    /// A number of replicas that the datacenter cannot hold.
    #[error("{replicas} replicas in datacenter `{dc}` are not possible; allowed is 1 to {most}")]
    Replicas {
        /// The datacenter's name.
        dc: String,
        /// The number given.
        replicas: u8,
        /// The most: its nodes, or [`KeyspaceMap::MAX_REPLICAS`].
        most: usize,
    },
}

impl KeyspaceMap {
    /// The most replicas of a vnode in one datacenter. Request plans and tallies keep a replica
    /// each; more copies than this cost writes and no longer buy safety.
    pub const MAX_REPLICAS: u8 = 16;

    /// The map with these numbers; entries of 0 replicas are left out.
    #[must_use]
    pub fn new(replicas: impl IntoIterator<Item = (DcId, u8)>) -> Self {
        Self(replicas.into_iter().filter(|&(_, replicas)| replicas > 0).collect())
    }

    /// The map that these names mean in a cluster.
    ///
    /// # Errors
    /// As [`Self::check`]; and a number of 0.
    pub fn from_names<'a>(
        topology: &Topology,
        replicas: impl IntoIterator<Item = (&'a str, u8)>,
    ) -> Result<Self, KeyspaceMapError> {
        let mut map = BTreeMap::new();
        for (name, replicas) in replicas {
            let dc = topology.dc_id(name).ok_or_else(|| KeyspaceMapError::UnknownDc {
                dc: name.to_owned(),
                known: known_dcs(topology),
            })?;
            map.insert(dc, replicas);
        }
        let map = Self(map);
        map.check(topology)?;
        Ok(map)
    }

    /// Whether the cluster can hold what the map asks for.
    ///
    /// # Errors
    /// It is empty, names a datacenter that is not there, or asks for more replicas than there are
    /// nodes.
    pub fn check(&self, topology: &Topology) -> Result<(), KeyspaceMapError> {
        if self.0.is_empty() {
            return Err(KeyspaceMapError::Empty { known: known_dcs(topology) });
        }
        for (&dc, &replicas) in &self.0 {
            let Some(name) = topology.dc_name(dc) else {
                let known = known_dcs(topology);
                return Err(KeyspaceMapError::UnknownDc { dc: dc.to_string(), known });
            };
            let most = topology.nodes_in(dc).count().min(usize::from(Self::MAX_REPLICAS));
            if !(1..=most).contains(&usize::from(replicas)) {
                let dc = name.to_owned();
                return Err(KeyspaceMapError::Replicas { dc, replicas, most });
            }
        }
        Ok(())
    }

    /// How many replicas a datacenter holds.
    #[must_use]
    pub fn replicas_in(&self, dc: DcId) -> u8 {
        self.0.get(&dc).copied().unwrap_or(0)
    }

    /// How many replicas there are in all datacenters together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().map(|&replicas| usize::from(replicas)).sum()
    }

    /// The datacenters that hold replicas, and how many, by number.
    pub fn iter(&self) -> impl Iterator<Item = (DcId, u8)> {
        self.0.iter().map(|(&dc, &replicas)| (dc, replicas))
    }
}

fn known_dcs(topology: &Topology) -> String {
    let names: Vec<&str> = topology.dcs().iter().map(|dc| dc.name.as_str()).collect();
    names.join(", ")
}

/// Who holds what of a keyspace, in all datacenters: a value that is computed once for a
/// replication map and a set of layouts, and then only read.
///
/// Keyspaces of one map share one placement. It costs 4 bytes for each vnode and replica: 1.1 MiB
/// for 32,768 vnodes with nine replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    vnodes: VnodeCount,
    /// One for each datacenter, by number.
    groups: Vec<Group>,
    /// How many nodes a vnode has in all.
    width: usize,
    /// For each vnode the lists of all groups, one after the other.
    nodes: Vec<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    dc: DcId,
    epoch: Epoch,
    /// The group's part of a vnode's nodes.
    part: Range<usize>,
}

/// Layouts that make no placement. Nothing was changed; the same input gives the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The replication map does not fit the cluster.
    #[error(transparent)]
    Map(#[from] KeyspaceMapError),
    /// A layout could not be computed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No layouts at all.
    #[error("a placement needs the layout of at least one datacenter")]
    Empty,
    /// Two layouts of one datacenter.
    #[error("there are two layouts of datacenter {0}")]
    DuplicateDc(DcId),
    /// Layouts that cut the ring differently.
    #[error("the layout of datacenter {dc} has {vnodes} vnodes, another has {others}")]
    OtherVnodeCount {
        /// The datacenter concerned.
        dc: DcId,
        /// How many its layout has.
        vnodes: VnodeCount,
        /// How many the first layout has.
        others: VnodeCount,
    },
}

impl Placement {
    /// The version of the layouts that a cluster begins with.
    pub const INITIAL_EPOCH: Epoch = Epoch(1);

    /// The placement of a new cluster: each datacenter's first layout, of
    /// [`Self::INITIAL_EPOCH`].
    ///
    /// # Errors
    /// The map does not fit the cluster.
    pub fn initial(topology: &Topology, map: &KeyspaceMap) -> Result<Self, PlacementError> {
        map.check(topology)?;
        let layouts: Vec<Layout> = map
            .iter()
            .map(|(dc, replicas)| topology.layout(Self::INITIAL_EPOCH, dc, replicas, None))
            .collect::<Result<_, _>>()?;
        Self::from_layouts(&layouts)
    }

    /// The placement that these layouts make, one for each datacenter, in any order.
    ///
    /// # Errors
    /// There are none, two are of one datacenter, or they differ in the number of vnodes.
    pub fn from_layouts<'a>(
        layouts: impl IntoIterator<Item = &'a Layout>,
    ) -> Result<Self, PlacementError> {
        let mut layouts: Vec<&Layout> = layouts.into_iter().collect();
        layouts.sort_by_key(|layout| layout.dc());
        let vnodes = layouts.first().ok_or(PlacementError::Empty)?.vnode_count();
        let mut groups: Vec<Group> = Vec::with_capacity(layouts.len());
        let mut width = 0;
        for layout in &layouts {
            let dc = layout.dc();
            if groups.last().is_some_and(|last| last.dc == dc) {
                return Err(PlacementError::DuplicateDc(dc));
            }
            if layout.vnode_count() != vnodes {
                let others = vnodes;
                let vnodes = layout.vnode_count();
                return Err(PlacementError::OtherVnodeCount { dc, vnodes, others });
            }
            let part = width..width + layout.width();
            width = part.end;
            groups.push(Group { dc, epoch: layout.epoch(), part });
        }
        let mut nodes = Vec::with_capacity(width * vnodes.get() as usize);
        for vnode in vnodes.vnodes() {
            for layout in &layouts {
                nodes.extend_from_slice(layout.replicas(vnode));
            }
        }
        Ok(Self { vnodes, groups, width, nodes })
    }

    /// How many vnodes there are.
    #[must_use]
    pub fn vnode_count(&self) -> VnodeCount {
        self.vnodes
    }

    /// The version of a datacenter's layout in this placement.
    #[must_use]
    pub fn epoch(&self, dc: DcId) -> Option<Epoch> {
        self.groups.iter().find(|group| group.dc == dc).map(|group| group.epoch)
    }

    /// The replicas of a vnode; none for one that is not there.
    #[inline]
    #[must_use]
    pub fn replicas(&self, vnode: VnodeId) -> Replicas<'_> {
        let start = vnode.0 as usize * self.width;
        match self.nodes.get(start..start + self.width) {
            Some(nodes) => Replicas { groups: &self.groups, nodes },
            None => Replicas { groups: &[], nodes: &[] },
        }
    }

    /// The vnode that a token lies in, and its replicas.
    #[inline]
    #[must_use]
    pub fn replicas_of(&self, token: Token) -> (VnodeId, Replicas<'_>) {
        let vnode = self.vnodes.vnode_of(token);
        (vnode, self.replicas(vnode))
    }

    /// The vnodes that a node holds, in the order of their tokens. Looks at all vnodes: not for the
    /// data path.
    pub fn vnodes_of(&self, node: NodeId) -> impl Iterator<Item = VnodeId> {
        self.vnodes.vnodes().filter(move |&vnode| self.replicas(vnode).contains(node))
    }
}

/// The replicas of one vnode: by datacenter, and in each in order of preference.
///
/// A view into a [`Placement`]; copying it copies two pointers.
#[derive(Clone, Copy, Debug)]
pub struct Replicas<'a> {
    groups: &'a [Group],
    nodes: &'a [NodeId],
}

impl<'a> Replicas<'a> {
    /// All replicas, those of a datacenter side by side.
    #[inline]
    #[must_use]
    pub fn all(self) -> &'a [NodeId] {
        self.nodes
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none: the vnode is not there.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a node is one of them.
    #[inline]
    #[must_use]
    pub fn contains(self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// Those of one datacenter, preferred first; none if the keyspace is not there.
    #[inline]
    #[must_use]
    pub fn in_dc(self, dc: DcId) -> &'a [NodeId] {
        let group = self.groups.iter().find(|group| group.dc == dc);
        group.map_or(&[], |group| self.part(group))
    }

    /// The datacenters by number, and the replicas in each.
    pub fn per_dc(self) -> impl ExactSizeIterator<Item = (DcId, &'a [NodeId])> {
        self.groups.iter().map(move |group| (group.dc, self.part(group)))
    }

    /// The datacenter that a replica stands in; `None` if the node is no replica.
    #[must_use]
    pub fn dc_of(self, node: NodeId) -> Option<DcId> {
        self.per_dc().find(|(_, nodes)| nodes.contains(&node)).map(|(dc, _)| dc)
    }

    fn part(self, group: &Group) -> &'a [NodeId] {
        self.nodes.get(group.part.clone()).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shape::Shape;

    fn shape() -> Shape {
        Shape::named("two-dc-uneven").unwrap()
    }

    const MAIN: DcId = DcId(0);
    const SPARE: DcId = DcId(1);

    #[test]
    fn a_placement_is_its_layouts_side_by_side() {
        let shape = shape();
        let topology = shape.topology();
        let placement = Placement::initial(topology, shape.replication()).unwrap();
        let main = topology.layout(Epoch(1), MAIN, 3, None).unwrap();
        let spare = topology.layout(Epoch(1), SPARE, 2, None).unwrap();
        for vnode in topology.vnode_count().vnodes() {
            let replicas = placement.replicas(vnode);
            assert_eq!(replicas.in_dc(MAIN), main.replicas(vnode));
            assert_eq!(replicas.in_dc(SPARE), spare.replicas(vnode));
            assert_eq!(replicas.in_dc(DcId(9)), &[]);
            assert_eq!(replicas.all(), [main.replicas(vnode), spare.replicas(vnode)].concat());
            assert_eq!((replicas.len(), replicas.is_empty()), (5, false));
            let by_dc: Vec<_> = replicas.per_dc().collect();
            assert_eq!(by_dc, [(MAIN, main.replicas(vnode)), (SPARE, spare.replicas(vnode))]);
            for node in topology.nodes() {
                let here = replicas.dc_of(node.id);
                assert_eq!(here.is_some(), replicas.contains(node.id));
                assert!(here.is_none_or(|dc| dc == node.dc));
            }
        }
        assert_eq!(placement.epoch(MAIN), Some(Epoch(1)));
        assert_eq!(placement.epoch(DcId(9)), None);
        assert_eq!(placement, Placement::from_layouts([&spare, &main]).unwrap());
    }

    #[test]
    fn the_vnodes_of_a_node_are_those_that_name_it() {
        let shape = shape();
        let placement = Placement::initial(shape.topology(), shape.replication()).unwrap();
        let nodes = shape.topology().nodes();
        let held: usize = nodes.iter().map(|node| placement.vnodes_of(node.id).count()).sum();
        assert_eq!(held, 5 * placement.vnode_count().get() as usize);
        assert_eq!(placement.vnodes_of(NodeId(99)).count(), 0);
    }

    #[test]
    fn a_map_must_fit_the_cluster() {
        let shape = shape();
        let topology = shape.topology();
        let check = |entries: &[(DcId, u8)]| {
            KeyspaceMap::new(entries.iter().copied())
                .check(topology)
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(&[(MAIN, 5)]), Ok(()));
        assert!(check(&[]).unwrap_err().contains("at least one datacenter of main, spare"));
        assert!(check(&[(MAIN, 0)]).unwrap_err().contains("empty"));
        assert!(
            check(&[(MAIN, 6)]).unwrap_err().contains("`main` are not possible; allowed is 1 to 5")
        );
        assert!(check(&[(DcId(7), 1)]).unwrap_err().contains("`7`, which is not there"));
        let named =
            |entries: &[(&str, u8)]| KeyspaceMap::from_names(topology, entries.iter().copied());
        assert_eq!(named(&[("spare", 2)]), Ok(KeyspaceMap::new([(SPARE, 2)])));
        assert!(named(&[("spare", 0)]).unwrap_err().to_string().contains("allowed is 1 to 2"));
        assert!(named(&[("mars", 1)]).unwrap_err().to_string().contains("known are main, spare"));
        let map = KeyspaceMap::new([(MAIN, 2), (SPARE, 1)]);
        assert_eq!((map.replicas_in(MAIN), map.replicas_in(DcId(9)), map.total()), (2, 0, 3));
    }

    #[test]
    fn layouts_that_do_not_belong_together_are_refused() {
        let topology = shape().topology().clone();
        let main = topology.layout(Epoch(1), MAIN, 3, None).unwrap();
        let fewer = topology.with_vnode_count(VnodeCount::new(64).unwrap());
        let spare = fewer.layout(Epoch(1), SPARE, 2, None).unwrap();
        assert_eq!(Placement::from_layouts([]), Err(PlacementError::Empty));
        assert_eq!(Placement::from_layouts([&main, &main]), Err(PlacementError::DuplicateDc(MAIN)));
        assert_eq!(
            Placement::from_layouts([&main, &spare]),
            Err(PlacementError::OtherVnodeCount {
                dc: SPARE,
                vnodes: spare.vnode_count(),
                others: main.vnode_count(),
            })
        );
    }

    proptest! {
        #[test]
        fn any_vnode_number_is_answered(number: u32, token: u128) {
            let shape = Shape::named("one-node").unwrap();
            let placement = Placement::initial(shape.topology(), shape.replication()).unwrap();
            let there = number < placement.vnode_count().get();
            prop_assert_eq!(placement.replicas(VnodeId(number)).len(), usize::from(there));
            let (vnode, replicas) = placement.replicas_of(Token(token));
            prop_assert!(placement.vnode_count().contains(vnode));
            prop_assert_eq!(replicas.all(), &[NodeId(1)]);
        }
    }
}
