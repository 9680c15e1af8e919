//! Answers peers that compare clocks and pull.

use std::sync::Arc;

use meridian_node::{AntiEntropyEvent, NodeEvent};
use meridian_repair::combined_digest;
use meridian_repair::message::{
    PullPage, PullPosition, PullRequest, PulledRow, RepairReply, RepairRequest,
};
use meridian_types::{KeyspaceId, NodeId, PeerStanding};
use meridian_wire::replica::PeerBody;

use super::PAGE_BYTES;
use crate::control::ControlEvent;
use crate::node::Inner;
use crate::peer::Asker;

impl Inner {
    pub(crate) fn repair_asked(self: &Arc<Self>, asker: Asker, request: RepairRequest) {
        let Ok(permit) = Arc::clone(&self.blocking).try_acquire_owned() else {
            let refused = RepairReply::Refused("overloaded".to_owned());
            return self.send_back(asker, PeerBody::RepairReply(refused));
        };
        self.block(move |inner| {
            let reply = match request {
                RepairRequest::Compare { keyspace, digest, gaps } => {
                    if gaps {
                        let told = AntiEntropyEvent::ToldOfGaps { peer: asker.node, keyspace };
                        inner.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(told)));
                    }
                    inner.compare_clocks(asker.node, keyspace, digest)
                }
                RepairRequest::Pull(request) => inner.serve_pull(&request),
            };
            inner.send_back(asker, PeerBody::RepairReply(reply));
            drop(permit);
        });
    }

    fn compare_clocks(&self, peer: NodeId, keyspace: KeyspaceId, digest: u128) -> RepairReply {
        if self.catalog.load().keyspace(keyspace).is_none() {
            return RepairReply::Refused(format!("keyspace {keyspace} is not known here yet"));
        }
        let vnodes = self.shared_vnodes(keyspace, peer);
        let mine = self.store.clock_digests(keyspace, &vnodes);
        if combined_digest(mine.iter().copied()) == digest {
            return RepairReply::Same { unsound: Vec::new() };
        }
        RepairReply::Differs { digests: mine, unsound: Vec::new() }
    }

    fn serve_pull(&self, request: &PullRequest) -> RepairReply {
        let PullRequest { keyspace, vnode, clock, after, full, max_bytes } = request;
        let after = after.as_ref().map(|position| (position.table, position.at.clone()));
        let bytes = (*max_bytes).min(PAGE_BYTES);
        match self.store.pull_page(*keyspace, *vnode, clock, after, *full, bytes) {
            Ok(page) => RepairReply::Page(PullPage {
                clock: (*page.clock).clone(),
                standing: PeerStanding::SOUND,
                rows: page
                    .rows
                    .into_iter()
                    .map(|(table, key, row)| PulledRow { table, key, row })
                    .collect(),
                next: page.next.map(|(table, at)| PullPosition { table, at }),
            }),
            Err(error) => {
                self.note_storage_error(&error);
                RepairReply::Refused(error.to_string())
            }
        }
    }
}
