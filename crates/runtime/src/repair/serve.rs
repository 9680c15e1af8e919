//! Answers peers that compare clocks and pull.

use std::sync::Arc;

use meridian_crdt::VnodeClock;
use meridian_node::limits::PULL_BATCH;
use meridian_node::{AntiEntropyEvent, NodeEvent};
use meridian_repair::combined_digest;
use meridian_repair::message::{
    PullMany, PullPage, PullPosition, PullRequest, PulledPages, PulledRow, RepairReply,
    RepairRequest,
};
use meridian_store::{PULL_ROWS_EXAMINED, StoreError, VnodePage};
use meridian_types::{KeyspaceId, NodeId, VnodeId};
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
            if inner.is_late(asker) {
                return inner.send_back(asker, PeerBody::RepairReply(too_late()));
            }
            let reply = match request {
                RepairRequest::Compare { keyspace, digest, gaps, losses } => {
                    if gaps {
                        let told = AntiEntropyEvent::ToldOfGaps { peer: asker.node, keyspace };
                        inner.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(told)));
                    }
                    inner.compare_clocks(asker.node, keyspace, (digest, losses))
                }
                RepairRequest::Pull(request) => {
                    let PullRequest { keyspace, vnode, clock, .. } = &request;
                    inner.puller_has(asker.node, *keyspace, [(*vnode, clock)]);
                    if request.full {
                        let PullRequest { keyspace, vnode, .. } = request;
                        inner.store.void_evidence_of(keyspace, vnode, asker.node);
                    }
                    inner.serve_pull(&request)
                }
                RepairRequest::PullMany(request) => {
                    let clocks = request.vnodes.iter().map(|(vnode, clock)| (*vnode, clock));
                    inner.puller_has(asker.node, request.keyspace, clocks);
                    inner.note_behind(asker.node, &request);
                    inner.serve_pulls(&request)
                }
                RepairRequest::Evidence { keyspace, layout: _, vnodes } => {
                    inner.say_evidence(keyspace, &vnodes)
                }
            };
            inner.send_back(asker, PeerBody::RepairReply(reply));
            drop(permit);
        });
    }

    fn compare_clocks(
        &self,
        peer: NodeId,
        keyspace: KeyspaceId,
        (digest, losses): (u128, bool),
    ) -> RepairReply {
        if self.catalog.load().keyspace(keyspace).is_none() {
            return RepairReply::Refused(format!("keyspace {keyspace} is not known here yet"));
        }
        let vnodes = self.shared_vnodes(keyspace, peer);
        // Before the clocks: of what it says now, all is in them.
        let unsound = self.unsound(keyspace, &vnodes, losses);
        let held = self.held_if_hints(peer, keyspace, &vnodes);
        let digests = self.store.clock_digests(keyspace, &vnodes);
        let own = combined_digest(digests.iter().copied());
        let same = own == digest;
        let asked = AntiEntropyEvent::Asked { peer, keyspace, digest: own, same };
        self.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(asked)));
        if same {
            self.peer_has(peer, keyspace, held);
            self.lags.compared(peer, keyspace, &[]);
            return RepairReply::Same { unsound };
        }
        RepairReply::Differs { digests, unsound }
    }

    fn serve_pull(&self, request: &PullRequest) -> RepairReply {
        let PullRequest { keyspace, vnode, clock, after, full, max_bytes } = request;
        let after = after.as_ref().map(|position| (position.table, position.at.clone()));
        let bytes = (*max_bytes).min(PAGE_BYTES);
        match self.store.pull_page(*keyspace, *vnode, clock, after, *full, bytes) {
            Ok(page) => RepairReply::Page(as_told(page)),
            Err(error) => self.no_page(&error),
        }
    }

    /// What a peer asks for says what it has: there may be something in it that is missing here.
    fn note_behind(&self, peer: NodeId, request: &PullMany) {
        let PullMany { keyspace, vnodes, .. } = request;
        let lacks = |(vnode, theirs): &&(VnodeId, VnodeClock)| {
            let own = self.store.clock(*keyspace, *vnode);
            let (behind, ahead) = (theirs.beyond(&own).len(), own.beyond(theirs).len());
            self.lags.seen(peer, (*keyspace, *vnode), behind, ahead);
            behind > 0
        };
        let vnodes: Vec<_> = vnodes.iter().filter(lacks).map(|(vnode, _)| *vnode).collect();
        if !vnodes.is_empty() {
            let behind = AntiEntropyEvent::Behind { peer, keyspace: *keyspace, vnodes };
            self.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(behind)));
        }
    }

    /// A vnode after the other, until what they need together is as much as a page may hold and look
    /// at. What one has beyond that is told by later pages.
    fn serve_pulls(&self, request: &PullMany) -> RepairReply {
        let PullMany { keyspace, vnodes, max_bytes } = request;
        let mut bytes_left = (*max_bytes).min(PAGE_BYTES);
        let mut rows_left = PULL_ROWS_EXAMINED;
        let mut told = PulledPages::default();
        for (vnode, clock) in vnodes.iter().take(PULL_BATCH) {
            let page = match self.store.pull_page(*keyspace, *vnode, clock, None, false, bytes_left)
            {
                Ok(page) => page,
                Err(error) => return self.no_page(&error),
            };
            if page.clock.is_covered_by(clock) && page.rows.is_empty() && page.next.is_none() {
                told.covered.push(*vnode);
                continue;
            }
            bytes_left = bytes_left.saturating_sub(page.bytes);
            rows_left = rows_left.saturating_sub(page.rows_examined);
            told.pages.push((*vnode, as_told(page)));
            if bytes_left == 0 || rows_left == 0 {
                break;
            }
        }
        RepairReply::Pages(told)
    }

    fn no_page(&self, error: &StoreError) -> RepairReply {
        self.note_storage_error(error);
        RepairReply::Refused(error.to_string())
    }
}

fn as_told(page: VnodePage) -> PullPage {
    let VnodePage { clock, standing, rows, next, .. } = page;
    let row = |(table, key, row)| PulledRow { table, key, row };
    PullPage {
        clock: VnodeClock::clone(&clock),
        standing,
        rows: rows.into_iter().map(row).collect(),
        next: next.map(|(table, at)| PullPosition { table, at }),
    }
}

fn too_late() -> RepairReply {
    RepairReply::Refused("the deadline has passed".to_owned())
}
