//! The cluster as this node sees it.

use meridian_service::{ClusterView, DcView, NodeView, Outcome};

use crate::node::Inner;

impl Inner {
    pub(crate) fn cluster(&self) -> Outcome {
        let hints = self.hints.counts();
        let datacenters = self.topology.dcs().iter();
        let lost = self.outlook.load().vnodes as u64;
        let wall = self.host.wall();
        let lag = |node| self.lags.of(node, wall);
        let nodes = self.topology.nodes().iter().map(|node| NodeView {
            id: node.id,
            name: node.name.clone(),
            datacenter: self.dc_name_of(node.id).to_owned(),
            rack: node.rack.clone(),
            alive: node.id == self.id || self.is_alive(node.id),
            incarnation: self.incarnation_of(node.id),
            hints: hints.get(&node.id).copied().unwrap_or(0),
            differing_vnodes: self.peers.get(node.id).map_or(0, |peer| peer.differing()),
            unsound_vnodes: self.peers.get(node.id).map_or(lost, |peer| peer.unsound()),
            behind_dots: lag(node.id).behind,
            behind_ms: lag(node.id).behind_ms,
        });
        Outcome::Cluster(ClusterView {
            name: self.options.cluster.clone(),
            answered_by: self.id,
            default_consistency: self.options.default_consistency,
            datacenters: datacenters
                .map(|dc| DcView { id: dc.id, name: dc.name.clone() })
                .collect(),
            nodes: nodes.collect(),
        })
    }
}
