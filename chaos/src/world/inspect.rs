//! What figures ask of a world.

use meridian_runtime::Node;
use meridian_types::{KeyspaceId, NodeId, TableId, VnodeId};

use super::{Machine, Traffic, World};

impl World {
    /// The nodes, by number.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    /// A node, while it runs.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        Some(&self.machines.get(&id)?.up()?.node)
    }

    /// The first table, and its keyspace.
    #[must_use]
    pub fn table(&self) -> (TableId, KeyspaceId) {
        let first = self.cluster.setting.tables.first_key_value();
        first.map_or((TableId(0), KeyspaceId(0)), |(id, table)| (*id, table.keyspace))
    }

    /// Where a key lies.
    #[must_use]
    pub fn vnode_of(&self, key: &[u8]) -> VnodeId {
        self.cluster.topology.vnode_of(self.cluster.topology.token(key))
    }

    /// The nodes of the first datacenter, and all others.
    #[must_use]
    pub fn split_first_dc(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let first = self.cluster.topology.dcs().first().map(|dc| dc.id);
        let nodes = self.cluster.topology.nodes().iter();
        let (inside, outside): (Vec<_>, Vec<_>) = nodes.partition(|node| Some(node.dc) == first);
        let ids = |nodes: Vec<&meridian_topology::NodeInfo>| nodes.iter().map(|n| n.id).collect();
        (ids(inside), ids(outside))
    }

    /// What all links took so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.record.traffic()
    }

    /// Whether all nodes run, and all replicas of each vnode have the same clock.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.cluster.vnodes.iter().all(|(&(keyspace, vnode), held)| {
            let clock = |id: &NodeId| Some(self.node(*id)?.store().clock(keyspace, vnode));
            let clocks: Vec<_> = held.replicas.iter().map(clock).collect();
            clocks.iter().all(|clock| clock.is_some() && *clock == clocks[0])
        })
    }

    /// Dots that replicas lack and another replica of the vnode has, over all replicas.
    #[must_use]
    pub fn dots_behind(&self) -> u64 {
        let mut behind = 0;
        for (&(keyspace, vnode), held) in &self.cluster.vnodes {
            let nodes = held.replicas.iter().filter_map(|id| self.node(*id));
            let clocks: Vec<_> = nodes.map(|node| node.store().clock(keyspace, vnode)).collect();
            let mut all = meridian_crdt::VnodeClock::default();
            clocks.iter().for_each(|clock| all.join(clock));
            behind += clocks.iter().map(|clock| all.beyond(clock).len()).sum::<u64>();
        }
        behind
    }

    /// Hints that wait, on all nodes together.
    #[must_use]
    pub fn hints(&self) -> u64 {
        let up = self.machines.values().filter_map(Machine::up);
        up.map(|up| up.node.condition().hints).sum()
    }

    /// Blocks of tables that were read so far, from memory or disk, on all nodes together.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        let stats =
            self.machines.values().filter_map(Machine::up).map(|up| up.node.store().stats());
        stats.map(|stats| stats.engine.cache.hits + stats.engine.cache.misses).sum()
    }

    /// Rows that were looked at for replicas that pull, on all nodes together.
    #[must_use]
    pub fn rows_examined(&self) -> u64 {
        let stats =
            self.machines.values().filter_map(Machine::up).map(|up| up.node.store().stats());
        stats.map(|stats| stats.pull_rows_examined).sum()
    }
}
