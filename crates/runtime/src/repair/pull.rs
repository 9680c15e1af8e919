//! Brings the rows of one vnode that a peer has and this node lacks.

use std::sync::Arc;

use meridian_crdt::VnodeClock;
use meridian_repair::message::{PullRequest, PulledRow, RepairReply, RepairRequest};
use meridian_repair::{
    PullAction, PullError, PullEvent, PullKind, PullOptions, PullSession, Pulled,
};
use meridian_store::StoreError;
use meridian_transport::Class;
use meridian_types::{KeyspaceId, NodeId, VnodeId};
use meridian_wire::replica::PeerBody;

use super::PAGE_BYTES;
use crate::exchange::Lost;
use crate::host::GivenUp;
use crate::node::Inner;

/// How long a pull waits for one page.
const PAGE_TIMEOUT_MS: u64 = 10_000;

/// Runs one pull session to its end.
pub(super) async fn pull(
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
            PullAction::JoinClock { clock, standing: _, own_entries: _ } => {
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
}
