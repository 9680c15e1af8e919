//! Layouts: which nodes of one datacenter hold which vnode, in which order.
//!
//! Computed in four steps, each a module: what racks and loads there must be (`fair`), a first
//! layout drawn to these loads (`draw`) or the previous one bent towards them (`carry`), and the
//! order inside each list (`order`). `docs/placement.md` says why, with sources and costs.
//!
//! INVARIANT: every list has the same length, so that a layout is one flat array.

mod carry;
mod draw;
mod fair;
mod order;
mod passes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use meridian_types::{DcId, Epoch, NodeId, VnodeId};

use crate::ring::VnodeCount;
use crate::topology::{Capacity, NodeInfo};
use fair::Site;

/// A node that a layout may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its rack.
    pub rack: String,
    /// How much it takes, relative to the other members.
    pub capacity: Capacity,
}

impl From<&NodeInfo> for Member {
    fn from(node: &NodeInfo) -> Self {
        Self { node: node.id, rack: node.rack.clone(), capacity: node.capacity }
    }
}

/// One datacenter's layout for one number of replicas: for every vnode the nodes that hold it, in
/// order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    epoch: Epoch,
    dc: DcId,
    vnodes: VnodeCount,
    /// How many nodes each list has.
    width: usize,
    /// The lists, one after the other.
    nodes: Vec<NodeId>,
}

/// An input that no layout can be computed from. Nothing was changed; the same input gives the same
/// error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A node is given twice.
    #[error("node {0} is given twice")]
    DuplicateNode(NodeId),
    /// The previous layout is another datacenter's.
    #[error("a layout of datacenter {dc} cannot follow one of datacenter {previous}")]
    OtherDc {
        /// Whose layout was asked for.
        dc: DcId,
        /// Whose the previous one is.
        previous: DcId,
    },
    /// The previous layout cuts the ring differently. The number of vnodes is fixed when the cluster
    /// is created.
    #[error("a layout of {vnodes} vnodes cannot follow one of {previous}")]
    OtherVnodeCount {
        /// The number asked for.
        vnodes: VnodeCount,
        /// The number in the previous layout.
        previous: VnodeCount,
    },
}

/// How many replicas a vnode really gets where `nodes` nodes are there for `replicas` of them: a node
/// never holds two.
#[must_use]
pub fn effective_replicas(replicas: u8, nodes: usize) -> usize {
    usize::from(replicas).min(nodes)
}

impl Layout {
    /// Computes a datacenter's layout: `replicas` distinct nodes for each vnode, or all nodes where
    /// there are fewer.
    ///
    /// - Racks are spread as far as they go: on distinct racks where there are enough of them, else
    ///   as evenly as the racks' sizes allow.
    /// - Loads follow the capacities as closely as that rule and whole vnodes allow, both for all
    ///   replicas and for each position of the lists.
    /// - From `previous` as little as possible is moved.
    ///
    /// The order of `members` does not matter.
    ///
    /// # Errors
    /// A node given twice, or a previous layout of something else: see [`LayoutError`].
    pub fn compute(
        epoch: Epoch,
        dc: DcId,
        members: &[Member],
        vnodes: VnodeCount,
        replicas: u8,
        previous: Option<&Self>,
    ) -> Result<Self, LayoutError> {
        let mut ids = BTreeSet::new();
        if let Some(twice) = members.iter().find(|member| !ids.insert(member.node)) {
            return Err(LayoutError::DuplicateNode(twice.node));
        }
        if let Some(previous) = previous {
            if previous.dc != dc {
                return Err(LayoutError::OtherDc { dc, previous: previous.dc });
            }
            if previous.vnodes != vnodes {
                return Err(LayoutError::OtherVnodeCount { vnodes, previous: previous.vnodes });
            }
        }
        let site = Site::new(members, vnodes, effective_replicas(replicas, members.len()));
        let seed = u64::from(dc.0);
        let mut rows = match previous.filter(|previous| previous.width > 0) {
            Some(previous) if site.width() > 0 => {
                carry::carry(&site, &site.rows_of(previous), seed)
            }
            _ => draw::draw(&site, &site.fair_loads(None), seed),
        };
        order::balance(&site, &mut rows);
        let nodes = rows.iter().map(|&node| site.id_of(node)).collect();
        Ok(Self { epoch, dc, vnodes, width: site.width(), nodes })
    }

    /// The layout's version.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The datacenter it is for.
    #[must_use]
    pub fn dc(&self) -> DcId {
        self.dc
    }

    /// How many vnodes it places.
    #[must_use]
    pub fn vnode_count(&self) -> VnodeCount {
        self.vnodes
    }

    /// How many nodes hold each vnode.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The nodes that hold a vnode, preferred first; none for a vnode that is not there.
    #[must_use]
    pub fn replicas(&self, vnode: VnodeId) -> &[NodeId] {
        let Ok(row) = usize::try_from(vnode.0) else { return &[] };
        let start = row * self.width;
        self.nodes.get(start..start + self.width).unwrap_or(&[])
    }

    /// The lists of all vnodes, in the order of the vnodes.
    pub fn lists(&self) -> impl Iterator<Item = (VnodeId, &[NodeId])> {
        self.vnodes.vnodes().map(|vnode| (vnode, self.replicas(vnode)))
    }

    /// How many replicas this layout has that `previous` has not: what must be copied to get from
    /// there to here, in vnodes.
    #[must_use]
    pub fn gained_since(&self, previous: &Self) -> usize {
        let gained = |vnode, list: &[NodeId]| {
            let before = previous.replicas(vnode);
            list.iter().filter(|node| !before.contains(node)).count()
        };
        self.lists().map(|(vnode, list)| gained(vnode, list)).sum()
    }
}
