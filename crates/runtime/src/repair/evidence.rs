//! What this node says to those who want to forget.

use meridian_node::limits::FORGETTING_ROUND;
use meridian_repair::message::{RepairReply, ToldEvidence};
use meridian_types::{KeyspaceId, VnodeId};

use crate::node::Inner;

impl Inner {
    /// Another number after every change of a keyspace's layouts: the sum of their epochs.
    pub(crate) fn layout_of(&self, keyspace: KeyspaceId) -> Option<u64> {
        let view = self.catalog.load();
        let placement = &view.keyspace(keyspace)?.placement;
        let epochs = self.topology.dcs().iter().filter_map(|dc| placement.epoch(dc.id));
        Some(epochs.map(|epoch| epoch.0).sum())
    }

    /// No more of them than anybody asks of at once.
    pub(super) fn say_evidence(&self, keyspace: KeyspaceId, vnodes: &[VnodeId]) -> RepairReply {
        let vnodes = &vnodes[..vnodes.len().min(FORGETTING_ROUND)];
        let Some(layout) = self.layout_of(keyspace) else {
            return RepairReply::Refused(format!("keyspace {keyspace} is not known here yet"));
        };
        match self.store.evidence(keyspace, vnodes, self.host.wall()) {
            Ok(vnodes) => {
                let incarnation = self.store.actor().incarnation;
                RepairReply::Evidence(ToldEvidence { incarnation, layout, vnodes })
            }
            Err(error) => {
                self.note_storage_error(&error);
                RepairReply::Refused(error.to_string())
            }
        }
    }
}
