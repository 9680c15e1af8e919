//! Brings the rows of one vnode that a peer has and this node lacks.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meridian_crdt::{Entry, VnodeClock};
use meridian_repair::message::{
    PullMany, PullPage, PullPosition, PullRequest, PulledPages, PulledRow, RepairReply,
    RepairRequest,
};
use meridian_repair::{
    PullAction, PullError, PullEvent, PullKind, PullOptions, PullSession, Pulled, Sweep,
};
use meridian_store::{EndedPull, FullPull, StoreError};
use meridian_transport::Class;
use meridian_types::{KeyspaceId, NodeId, VnodeId};
use meridian_wire::replica::PeerBody;

use super::PAGE_BYTES;
use crate::exchange::Lost;
use crate::host::GivenUp;
use crate::node::Inner;
use crate::pace::{FAR_BYTES_A_SECOND, NEAR_BYTES_A_SECOND};

/// How long a pull waits for one page.
const PAGE_TIMEOUT_MS: u64 = 10_000;

/// Brings what a peer has of several vnodes, each in a session of its own whose first page comes
/// with those of the others.
pub(super) async fn pull_many(
    inner: &Arc<Inner>,
    peer: NodeId,
    keyspace: KeyspaceId,
    vnodes: &[VnodeId],
) -> Result<(), PullError> {
    let mut left: BTreeMap<VnodeId, VnodeClock> = vnodes
        .iter()
        .map(|&vnode| (vnode, VnodeClock::clone(&inner.store.clock(keyspace, vnode))))
        .collect();
    while !left.is_empty() {
        let asked = left.len();
        let vnodes = left.iter().map(|(vnode, clock)| (*vnode, clock.clone())).collect();
        let request = PullMany { keyspace, vnodes, max_bytes: PAGE_BYTES };
        let body = PeerBody::Repair(RepairRequest::PullMany(request));
        inner.wait_turn(peer).await;
        let answer = inner.ask(peer, Class::Background, None, body, PAGE_TIMEOUT_MS).await;
        let PulledPages { covered, pages } = told(answer)?;
        for vnode in covered {
            left.remove(&vnode);
            inner.lags.brought(peer, (keyspace, vnode));
        }
        for (vnode, page) in pages {
            if let Some(own) = left.remove(&vnode) {
                inner.note_page(peer, (keyspace, vnode), &page, &own);
                let pulled = go_on(inner, peer, keyspace, vnode, (own, page)).await?;
                inner.lags.brought(peer, (keyspace, vnode));
                inner.peers.pulled(peer, pulled.rows);
            }
        }
        if left.len() == asked {
            return Err(PullError::NoProgress { page: 1 });
        }
    }
    Ok(())
}

fn told(answer: Result<PeerBody, Lost>) -> Result<PulledPages, PullError> {
    match answer {
        Ok(PeerBody::RepairReply(RepairReply::Pages(pages))) => Ok(pages),
        Ok(PeerBody::RepairReply(RepairReply::Refused(why))) => Err(PullError::Refused(why)),
        Ok(_) => Err(PullError::Refused("answered something else".to_owned())),
        Err(Lost::Late) => Err(PullError::Timeout { page: 1, timeout_ms: PAGE_TIMEOUT_MS }),
        Err(Lost::Down | Lost::NotSent) => Err(PullError::PeerDown),
    }
}

/// Runs a session whose first page is here, and the clock that it was asked for with.
async fn go_on(
    inner: &Arc<Inner>,
    peer: NodeId,
    keyspace: KeyspaceId,
    vnode: VnodeId,
    (own, page): (VnodeClock, PullPage),
) -> Result<Pulled, PullError> {
    // An ordinary pull counts in no round.
    let (round, options) = (0, options(keyspace, vnode, PullKind::Missing));
    let mut actions = Vec::new();
    let session = PullSession::with_page(options, own, page, inner.host.now(), &mut actions);
    run(inner, peer, session, actions, round).await
}

/// Pulls a vnode in a session of its own.
pub(crate) async fn pull(
    inner: &Arc<Inner>,
    peer: NodeId,
    keyspace: KeyspaceId,
    vnode: VnodeId,
    kind: PullKind,
) -> Result<Pulled, PullError> {
    let round = inner.store.state(keyspace, vnode).round();
    let own = VnodeClock::clone(&inner.store.clock(keyspace, vnode));
    let mut actions = Vec::new();
    let options = options(keyspace, vnode, kind);
    let session = PullSession::start(options, own, inner.host.now(), &mut actions);
    run(inner, peer, session, actions, round).await
}

fn options(keyspace: KeyspaceId, vnode: VnodeId, kind: PullKind) -> PullOptions {
    let (page_bytes, page_timeout_ms) = (PAGE_BYTES, PAGE_TIMEOUT_MS);
    PullOptions { keyspace, vnode, kind, page_bytes, page_timeout_ms }
}

/// Runs a session to its end. `round` is the [`meridian_store::VnodeState::round`] that it began in.
async fn run(
    inner: &Arc<Inner>,
    peer: NodeId,
    mut session: PullSession,
    mut actions: Vec<PullAction>,
    round: usize,
) -> Result<Pulled, PullError> {
    let PullOptions { keyspace, vnode, .. } = *session.options();
    // Until the pull has ended or broken off, what it has gone by is guarded (rule 10).
    let mut guard: Option<Arc<FullPull>> = None;
    loop {
        let Some(action) = actions.pop() else { return Err(PullError::PeerDown) };
        let event = match action {
            PullAction::Request(request) => ask_page(inner, peer, request).await,
            PullAction::Join { rows, coverage, sweep } => {
                inner.pace_repair(bytes_of(&rows)).await;
                if sweep.is_some() && guard.is_none() {
                    let peer = Arc::new(coverage.clone());
                    match inner.store.begin_full_pull(keyspace, vnode, peer) {
                        Ok(begun) => guard = Some(Arc::new(begun)),
                        Err(error) => return Err(PullError::Store(error.to_string())),
                    }
                }
                let guard = guard.clone();
                let join = move |inner: &Arc<Inner>| {
                    let joined = match (sweep, guard) {
                        (Some(span), Some(guard)) => sweep_page(&guard, rows, &span, &coverage),
                        _ => inner.join_rows(keyspace, vnode, &rows, &coverage),
                    };
                    joined.map_err(|e| e.to_string())
                };
                joined_event(inner.off_thread(join).await)
            }
            PullAction::JoinClock { clock, standing, own_entries } => {
                let ended = EndedPull { peer, at: standing, full: own_entries, round };
                let join = move |inner: &Arc<Inner>| {
                    let joined = inner.pull_ended(keyspace, vnode, &ended, &clock);
                    joined.map_err(|e| e.to_string())
                };
                joined_event(inner.off_thread(join).await)
            }
            PullAction::Ended(result) => return result,
        };
        session.step(event, inner.host.now(), &mut actions);
    }
}

async fn ask_page(inner: &Arc<Inner>, peer: NodeId, request: PullRequest) -> PullEvent {
    let (place, own) = ((request.keyspace, request.vnode), request.clock.clone());
    let body = PeerBody::Repair(RepairRequest::Pull(request));
    inner.wait_turn(peer).await;
    match inner.ask(peer, Class::Background, None, body, PAGE_TIMEOUT_MS).await {
        Ok(PeerBody::RepairReply(RepairReply::Page(page))) => {
            inner.note_page(peer, place, &page, &own);
            PullEvent::PageArrived(page)
        }
        Ok(PeerBody::RepairReply(RepairReply::Refused(why))) => PullEvent::Refused(why),
        Ok(_) => PullEvent::Refused("answered something else".to_owned()),
        Err(Lost::Late) => PullEvent::Refused("no page came in time".to_owned()),
        Err(Lost::Down | Lost::NotSent) => PullEvent::PeerDown,
    }
}

/// What rows bring, about.
fn bytes_of(rows: &[PulledRow]) -> u64 {
    let value = |entry: &Entry| entry.value.as_ref().map_or(0, Bytes::len);
    let row = |PulledRow { key, row, .. }: &PulledRow| {
        key.len() + row.entries().iter().map(value).sum::<usize>()
    };
    rows.iter().map(row).sum::<usize>() as u64
}

fn joined_event(joined: Result<Result<(), String>, GivenUp>) -> PullEvent {
    match joined {
        Ok(Ok(())) => PullEvent::Joined,
        Ok(Err(why)) => PullEvent::JoinFailed(why),
        Err(given_up) => PullEvent::JoinFailed(given_up.to_string()),
    }
}

/// Joins a page of a full pull: what is here and not there goes where the peer has seen it.
fn sweep_page(
    pull: &FullPull,
    rows: Vec<PulledRow>,
    span: &Sweep,
    coverage: &VnodeClock,
) -> Result<(), StoreError> {
    let position = |at: &Option<PullPosition>| at.clone().map(|at| (at.table, at.at));
    let (after, until) = (position(&span.after), position(&span.until));
    let rows: Vec<_> = rows.into_iter().map(|row| (row.table, row.key, row.row)).collect();
    pull.sweep(after.as_ref(), &rows, until.as_ref(), coverage).map(drop)
}

impl Inner {
    /// Waits until what came from a peer is paid for.
    async fn wait_turn(&self, peer: NodeId) {
        let pause = self.pace.pause(peer, self.host.now());
        if pause > 0 {
            self.host.pause(pause).await;
        }
    }

    /// A page came: what it cost, and what was missing.
    fn note_page(
        &self,
        peer: NodeId,
        place: (KeyspaceId, VnodeId),
        page: &PullPage,
        own: &VnodeClock,
    ) {
        let rate = if self.is_near(peer) { NEAR_BYTES_A_SECOND } else { FAR_BYTES_A_SECOND };
        self.pace.came(peer, bytes_of(&page.rows), rate, self.host.now());
        let (behind, ahead) = (page.clock.beyond(own).len(), own.beyond(&page.clock).len());
        self.lags.seen(peer, place, behind, ahead);
        let entries = page.rows.iter().flat_map(|row| row.row.entries());
        let missing = entries.filter(|entry| !own.contains(entry.dot));
        if let Some(oldest) = missing.map(|entry| entry.stamp.millis()).min() {
            self.lags.saw_row(peer, place, oldest);
        }
    }

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
