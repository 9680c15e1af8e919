//! Compares clocks with peers and pulls what differs (rule 7); serves the same to them.

use std::sync::Arc;

use meridian_crdt::VnodeClock;
use meridian_node::{AntiEntropyAction, AntiEntropyEvent, NodeEvent};
use meridian_repair::message::{
    PullPage, PullPosition, PullRequest, PulledRow, RepairReply, RepairRequest,
};
use meridian_repair::{
    PullAction, PullError, PullEvent, PullKind, PullOptions, PullSession, Pulled, combined_digest,
    differing,
};
use meridian_store::StoreError;
use meridian_transport::Class;
use meridian_types::{KeyspaceId, NodeId, VnodeId};
use meridian_wire::replica::PeerBody;

use crate::control::ControlEvent;
use crate::exchange::Lost;
use crate::host::GivenUp;
use crate::node::Inner;

/// How long a comparison waits for its answer; the machine gives up at the same time.
const COMPARE_TIMEOUT_MS: u64 = meridian_node::limits::COMPARE_TIMEOUT_MS;

/// How long a pull waits for one page.
const PAGE_TIMEOUT_MS: u64 = 10_000;

/// Bytes of rows in one page of a pull: small enough to share a link with requests.
const PAGE_BYTES: usize = 256 << 10;

/// The keyspaces of which this node has vnodes in common with each peer.
pub(crate) fn shares(inner: &Inner) -> Vec<(NodeId, KeyspaceId)> {
    let view = inner.catalog.load();
    let mut shares = Vec::new();
    for keyspace in view.keyspaces() {
        shares.extend(keyspace.shared.peers().map(|peer| (peer, keyspace.def.id)));
    }
    shares
}

/// Does what the machine asks for, in a task of its own.
pub(crate) fn perform(inner: &Arc<Inner>, action: AntiEntropyAction) {
    match action {
        AntiEntropyAction::Compare { peer, keyspace, gaps } => {
            inner.spawn(move |inner| async move {
                let event = match compare(&inner, peer, keyspace, gaps).await {
                    Some(differing) => {
                        inner.peers.compared(peer, differing.is_empty());
                        AntiEntropyEvent::Compared { peer, keyspace, differing }
                    }
                    None => {
                        inner.peers.exchange_failed(peer);
                        AntiEntropyEvent::CompareFailed { peer, keyspace }
                    }
                };
                inner.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(event)));
            });
        }
        AntiEntropyAction::Pull { peer, keyspace, vnode } => {
            inner.spawn(move |inner| async move {
                match pull(&inner, peer, keyspace, vnode).await {
                    Ok(pulled) => inner.peers.pulled(peer, pulled.rows),
                    Err(error) => {
                        inner.peers.exchange_failed(peer);
                        tracing::debug!(peer = inner.name_of(peer), %vnode, %error, "a pull ended");
                    }
                }
                let ended = AntiEntropyEvent::PullEnded { keyspace, vnode };
                inner.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(ended)));
            });
        }
    }
}

async fn compare(
    inner: &Arc<Inner>,
    peer: NodeId,
    keyspace: KeyspaceId,
    gaps: bool,
) -> Option<Vec<VnodeId>> {
    let mine = digests(inner, keyspace, peer).await?;
    let digest = combined_digest(mine.iter().copied());
    let body = PeerBody::Repair(RepairRequest::Compare { keyspace, digest, gaps });
    match inner.ask(peer, Class::Background, None, body, COMPARE_TIMEOUT_MS).await {
        Ok(PeerBody::RepairReply(RepairReply::Same)) => Some(Vec::new()),
        Ok(PeerBody::RepairReply(RepairReply::Differs(theirs))) => Some(differing(&mine, &theirs)),
        _ => None,
    }
}

/// Digests of the clocks that this node shares with a peer; off the async threads, because the
/// clocks of a node's thousands of vnodes take a while after a burst of writes.
async fn digests(
    inner: &Arc<Inner>,
    keyspace: KeyspaceId,
    peer: NodeId,
) -> Option<Vec<(VnodeId, u128)>> {
    let vnodes = inner.shared_vnodes(keyspace, peer);
    inner.off_thread(move |inner| inner.store.clock_digests(keyspace, &vnodes)).await.ok()
}

/// Runs one pull session to its end.
async fn pull(
    inner: &Arc<Inner>,
    peer: NodeId,
    keyspace: KeyspaceId,
    vnode: VnodeId,
) -> Result<Pulled, PullError> {
    let own = (*inner.store.clock(keyspace, vnode)).clone();
    let options = PullOptions {
        keyspace,
        vnode,
        kind: PullKind::Missing,
        page_bytes: PAGE_BYTES,
        page_timeout_ms: PAGE_TIMEOUT_MS,
    };
    let mut actions = Vec::new();
    let mut session = PullSession::start(options, own, inner.host.now(), &mut actions);
    loop {
        let Some(action) = actions.pop() else { return Err(PullError::PeerDown) };
        let event = match action {
            PullAction::Request(request) => ask_page(inner, peer, request).await,
            PullAction::Join { rows, coverage, sweep: _ } => {
                let join = move |inner: &Arc<Inner>| {
                    inner.join_rows(keyspace, vnode, &rows, &coverage).map_err(|e| e.to_string())
                };
                joined_event(inner.off_thread(join).await)
            }
            PullAction::JoinClock { clock, own_entries: _ } => {
                let join = move |inner: &Arc<Inner>| {
                    inner.store.join_clock(keyspace, vnode, &clock).map_err(|e| e.to_string())
                };
                joined_event(inner.off_thread(join).await)
            }
            PullAction::Ended(result) => return result,
        };
        session.step(event, inner.host.now(), &mut actions);
    }
}

async fn ask_page(inner: &Arc<Inner>, peer: NodeId, request: PullRequest) -> PullEvent {
    let own = request.clock.clone();
    let body = PeerBody::Repair(RepairRequest::Pull(request));
    match inner.ask(peer, Class::Background, None, body, PAGE_TIMEOUT_MS).await {
        Ok(PeerBody::RepairReply(RepairReply::Page(page))) => {
            inner.peers.lag(peer, page.clock.beyond(&own).len(), own.beyond(&page.clock).len());
            PullEvent::PageArrived(page)
        }
        Ok(PeerBody::RepairReply(RepairReply::Refused(why))) => PullEvent::Refused(why),
        Ok(_) => PullEvent::Refused("answered something else".to_owned()),
        Err(Lost::Late) => PullEvent::Refused("no page came in time".to_owned()),
        Err(Lost::Down | Lost::NotSent) => PullEvent::PeerDown,
    }
}

fn joined_event(joined: Result<Result<(), String>, GivenUp>) -> PullEvent {
    match joined {
        Ok(Ok(())) => PullEvent::Joined,
        Ok(Err(why)) => PullEvent::JoinFailed(why),
        Err(given_up) => PullEvent::JoinFailed(given_up.to_string()),
    }
}

impl Inner {
    fn join_rows(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        rows: &[PulledRow],
        coverage: &VnodeClock,
    ) -> Result<(), StoreError> {
        for PulledRow { table, key, row } in rows {
            self.store.join_pulled(keyspace, vnode, *table, key, row, coverage)?;
        }
        Ok(())
    }

    /// The vnodes of a keyspace that both this node and a peer hold, in their order.
    fn shared_vnodes(&self, keyspace: KeyspaceId, peer: NodeId) -> Arc<[VnodeId]> {
        let view = self.catalog.load();
        let shared = view.keyspace(keyspace).and_then(|k| k.shared.with(peer));
        shared.cloned().unwrap_or_default()
    }

    /// Answers a peer that compares clocks.
    pub(crate) fn compare_clocks(
        &self,
        peer: NodeId,
        keyspace: KeyspaceId,
        digest: u128,
    ) -> RepairReply {
        if self.catalog.load().keyspace(keyspace).is_none() {
            return RepairReply::Refused(format!("keyspace {keyspace} is not known here yet"));
        }
        let vnodes = self.shared_vnodes(keyspace, peer);
        let mine = self.store.clock_digests(keyspace, &vnodes);
        if combined_digest(mine.iter().copied()) == digest {
            return RepairReply::Same;
        }
        RepairReply::Differs(mine)
    }

    /// Answers a peer that pulls.
    pub(crate) fn serve_pull(&self, request: &PullRequest) -> RepairReply {
        let PullRequest { keyspace, vnode, clock, after, full, max_bytes } = request;
        let after = after.as_ref().map(|position| (position.table, position.at.clone()));
        let bytes = (*max_bytes).min(PAGE_BYTES);
        match self.store.pull_page(*keyspace, *vnode, clock, after, *full, bytes) {
            Ok(page) => RepairReply::Page(PullPage {
                clock: (*page.clock).clone(),
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
