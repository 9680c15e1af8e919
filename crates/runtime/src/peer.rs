//! What other nodes ask of this one, and what they answer.
//!
//! Small requests are done on the link's task, because handing them to another would cost more
//! than they do. Pages, pulls and catalogs read files or wait for them, so they go to threads that
//! may block, at most [`MAX_BLOCKING`] at once.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use meridian_coordinator::message::{
    PageReply, PageRequest, PageRow, ReadKind, Refusal, ReplicaReply, ReplicaRequest, WriteDelta,
    Written,
};
use meridian_coordinator::page::PageEvent;
use meridian_coordinator::{GetEvent, PutEvent};
use meridian_node::{AntiEntropyEvent, NodeEvent};
use meridian_repair::message::{RepairReply, RepairRequest};
use meridian_service::CallContext;
use meridian_transport::{Class, Inbound, LinkState};
use meridian_types::{ConsistencyLevel, NodeId, RequestId, RowKey};
use meridian_wire::replica::{CatalogMessage, CatalogReply, PeerBody, PeerMessage, catalog_digest};

use crate::control::ControlEvent;
use crate::exchange::Exchange;
use crate::in_flight::Call;
use crate::node::Inner;
use crate::serve::Handed;

/// Most page reads, pulls and catalog joins at once. More are refused, and asked again.
pub(crate) const MAX_BLOCKING: usize = 64;

/// Most requests that others have handed on to this node at once.
pub(crate) const MAX_HANDED: usize = 4_096;

/// A message's bytes.
pub(crate) fn encode(call: Call, trace: Option<RequestId>, body: PeerBody) -> Bytes {
    PeerMessage { call, trace, body }.encode()
}

/// Takes messages from the links.
pub(crate) struct PeerDoor(pub(crate) Weak<Inner>);

impl Inbound for PeerDoor {
    fn received(&self, from: NodeId, class: Class, message: Bytes) {
        let Some(inner) = self.0.upgrade() else { return };
        match PeerMessage::decode(message) {
            Ok(message) => inner.peer_said(Asker { node: from, class }, message),
            Err(error) => {
                tracing::warn!(peer = %inner.name_of(from), %error, "dropped a message");
                if let Some(call) = error.asked {
                    let refusal = Refusal::Malformed(error.to_string());
                    let asker = Asker { node: from, class };
                    inner.answer(asker, call, None, ReplicaReply::Refused(refusal));
                }
            }
        }
    }

    fn link_changed(&self, peer: NodeId, state: LinkState) {
        if let Some(inner) = self.0.upgrade() {
            inner.link_changed(peer, state);
        }
    }
}

/// Who asked, and over which class of link the answer goes back.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    node: NodeId,
    class: Class,
}

impl Inner {
    fn peer_said(self: &Arc<Self>, asker: Asker, message: PeerMessage) {
        let PeerMessage { call, trace, body } = message;
        match body {
            PeerBody::Request(request) => self.peer_asked(asker, call, trace, request),
            PeerBody::Reply(reply) => self.replica_answered(asker.node, call, reply),
            PeerBody::Repair(request) => self.repair_asked(asker, call, request),
            PeerBody::Catalog(message) => self.catalog_said(asker, call, message),
            body @ (PeerBody::RepairReply(_) | PeerBody::CatalogReply(_)) => {
                self.with_ask(call, |ask| self.end_ask(call, ask, Ok(body)));
            }
        }
    }

    fn peer_asked(
        self: &Arc<Self>,
        asker: Asker,
        call: Call,
        trace: Option<RequestId>,
        request: ReplicaRequest,
    ) {
        if let Some(id) = trace {
            tracing::debug!(request_id = %id, peer = %self.name_of(asker.node), "replica request");
        }
        match request {
            ReplicaRequest::Write(write) => self.take_copy(asker, call, trace, write),
            ReplicaRequest::Read { row, kind, epoch: _ } => {
                let reply = match (self.store.read(&row), kind) {
                    (Ok(version), ReadKind::Data) => ReplicaReply::Row(version),
                    (Ok(version), ReadKind::Digest) => ReplicaReply::Digest(version.row.digest()),
                    (Err(error), _) => ReplicaReply::Refused(self.refusal(&error)),
                };
                self.answer(asker, call, trace, reply);
            }
            ReplicaRequest::Join { row, version, coverage, epoch: _ } => {
                match self.store.join(&row, &version, &coverage) {
                    Ok(commit) => {
                        let joined = ReplicaReply::Joined;
                        self.answer_when_settled(
                            asker.node,
                            asker.class,
                            call,
                            trace,
                            joined,
                            &commit,
                        );
                    }
                    Err(error) => {
                        let refused = ReplicaReply::Refused(self.refusal(&error));
                        self.answer(asker, call, trace, refused);
                    }
                }
            }
            ReplicaRequest::Page(request) => {
                self.answer_off_thread(asker, call, trace, move |inner| inner.read_page(&request));
            }
            ReplicaRequest::Mint(intent) => self.mint_intent(asker, call, trace, intent),
            ReplicaRequest::Coordinate(request) => self.coordinate(asker, call, trace, request),
        }
    }

    /// Applies a copy of a write, passes it on inside this datacenter, and acknowledges it to
    /// whoever collects the acks.
    fn take_copy(
        self: &Arc<Self>,
        asker: Asker,
        call: Call,
        trace: Option<RequestId>,
        mut write: WriteDelta,
    ) {
        let forward_to = std::mem::take(&mut write.forward_to);
        let hinted = write.hinted;
        let applied = self.store.apply(&write.row, &write.delta, write.write_id, self.host.wall());
        let reply_to = write.reply_to;
        if !forward_to.is_empty() {
            let body = PeerBody::Request(ReplicaRequest::Write(write));
            let copy = encode(call, trace, body);
            for node in forward_to {
                // A copy that cannot be passed on is missed by whoever collects the acks, and
                // becomes a hint there.
                if let Err(why) = self.send(node, asker.class, copy.clone()) {
                    tracing::debug!(peer = %self.name_of(node), ?why, "a copy was not passed on");
                }
            }
        }
        match applied {
            Ok(applied) => {
                let credit = hinted.then(|| self.hint_credit.get());
                let written = ReplicaReply::Written(Written { known: !applied.new, credit });
                let class = asker.class;
                self.answer_when_settled(reply_to, class, call, trace, written, &applied.commit);
            }
            Err(error) => {
                let refused = ReplicaReply::Refused(self.refusal(&error));
                self.answer(Asker { node: reply_to, ..asker }, call, trace, refused);
            }
        }
    }

    fn answer_when_settled(
        self: &Arc<Self>,
        to: NodeId,
        class: Class,
        call: Call,
        trace: Option<RequestId>,
        reply: ReplicaReply,
        commit: &meridian_store::Commit,
    ) {
        let asker = Asker { node: to, class };
        if self.store.is_settled(commit) {
            return self.answer(asker, call, trace, reply);
        }
        let inner = Arc::downgrade(self);
        let settled = move |settled: Result<(), meridian_lsm::Error>| {
            let Some(inner) = inner.upgrade() else { return };
            let reply = match settled {
                Ok(()) => reply,
                Err(error) => ReplicaReply::Refused(Refusal::Storage(error.to_string())),
            };
            inner.answer(asker, call, trace, reply);
        };
        self.store.on_settled(commit, Box::new(settled));
    }

    /// Sends an answer. One that the link does not take is missed by the asker, who waits no
    /// longer than its deadline.
    pub(crate) fn answer(
        &self,
        asker: Asker,
        call: Call,
        trace: Option<RequestId>,
        reply: ReplicaReply,
    ) {
        self.send_back(asker, call, trace, PeerBody::Reply(reply));
    }

    fn send_back(&self, asker: Asker, call: Call, trace: Option<RequestId>, body: PeerBody) {
        if let Err(why) = self.send(asker.node, asker.class, encode(call, trace, body)) {
            tracing::debug!(peer = %self.name_of(asker.node), ?why, "an answer was not sent");
        }
    }

    fn replica_answered(self: &Arc<Self>, from: NodeId, call: Call, reply: ReplicaReply) {
        if let Some(peer) = self.peers.get(from) {
            match &reply {
                ReplicaReply::Refused(_) => peer.metrics.failures.inc(),
                _ => peer.metrics.acks.inc(),
            };
        }
        let Some(exchange) = self.exchanges.get(call) else { return };
        let mut exchange = exchange.lock();
        match (&mut *exchange, reply) {
            (Exchange::Put(put), ReplicaReply::Written(_)) => {
                self.step_put_locked(call, put, PutEvent::ReplicaAcked { from });
            }
            (Exchange::Put(put), ReplicaReply::Refused(refusal)) => {
                self.step_put_locked(call, put, PutEvent::ReplicaRefused { from, refusal });
            }
            (Exchange::Get(get, row), reply) => {
                for event in get_events(from, reply) {
                    self.step_get_locked(call, get, row, event);
                }
            }
            (Exchange::Page(page), ReplicaReply::Page(reply)) => {
                self.step_page_locked(call, page, PageEvent::PageArrived { from, page: reply });
            }
            (Exchange::Page(page), ReplicaReply::Refused(refusal)) => {
                self.step_page_locked(call, page, PageEvent::ReadRefused { from, refusal });
            }
            (Exchange::Ask(ask), reply) => self.end_ask(call, ask, Ok(PeerBody::Reply(reply))),
            (Exchange::Put(_) | Exchange::Page(_), _) => {
                tracing::warn!(peer = %self.name_of(from), "an answer to another question");
            }
        }
    }

    /// Serves a request whose coordinator is no replica of its key.
    fn coordinate(
        self: &Arc<Self>,
        asker: Asker,
        call: Call,
        trace: Option<RequestId>,
        request: meridian_service::Request,
    ) {
        let Ok(permit) = Arc::clone(&self.handed).try_acquire_owned() else {
            return self.answer(asker, call, trace, ReplicaReply::Refused(Refusal::Overloaded));
        };
        let timeout = self.options.request_timeout;
        let id = trace.unwrap_or_else(|| self.fresh_request_id());
        self.spawn(move |inner| async move {
            let result = inner.serve(CallContext { id, timeout }, request, Handed::On).await;
            inner.answer(asker, call, trace, ReplicaReply::Coordinated(Box::new(result)));
            drop(permit);
        });
    }

    /// Mints a write that was accepted elsewhere at ANY when no replica was alive (rule 14).
    fn mint_intent(
        self: &Arc<Self>,
        asker: Asker,
        call: Call,
        trace: Option<RequestId>,
        intent: meridian_coordinator::Intent,
    ) {
        let table = self.catalog.load().table_by_id(intent.row.table).cloned();
        let Some(table) = table else {
            let refusal = Refusal::UnknownTable(intent.row.table);
            return self.answer(asker, call, trace, ReplicaReply::Refused(refusal));
        };
        let meridian_coordinator::Intent { row, value, expires, context: _, stamp, write_id } =
            intent;
        let created = self.host.wall();
        let kept = meridian_store::Intent { row, value, expires, stamp, write_id, created };
        let id = trace.unwrap_or_else(|| self.fresh_request_id());
        let context = CallContext { id, timeout: self.options.request_timeout };
        let row = kept.row.clone();
        let mint = |_: &RowKey, now| self.store.mint_intent(&kept, now);
        let level = ConsistencyLevel::One;
        let waiting = self.put_minted(&context, &table, row, Some(write_id), level, mint);
        self.spawn(move |inner| async move {
            let written = match waiting {
                Ok(waiting) => waiting.written(level).await,
                Err(error) => Err(error),
            };
            let reply = match written {
                Ok(_) => ReplicaReply::Written(Written::default()),
                Err(error) => ReplicaReply::Refused(Refusal::Storage(error.to_string())),
            };
            inner.answer(asker, call, trace, reply);
        });
    }

    /// Runs something that may wait for the disk on a thread of its own.
    fn answer_off_thread(
        self: &Arc<Self>,
        asker: Asker,
        call: Call,
        trace: Option<RequestId>,
        work: impl FnOnce(&Arc<Self>) -> ReplicaReply + Send + 'static,
    ) {
        let Ok(permit) = Arc::clone(&self.blocking).try_acquire_owned() else {
            return self.answer(asker, call, trace, ReplicaReply::Refused(Refusal::Overloaded));
        };
        self.block(move |inner| {
            let reply = work(inner);
            inner.answer(asker, call, trace, reply);
            drop(permit);
        });
    }

    pub(crate) fn read_page(&self, request: &PageRequest) -> ReplicaReply {
        let PageRequest { keyspace: _, table, after, until, limit, prefix, kind } = request;
        let page = match self.store.page(*table, after.as_ref(), *until, *limit, prefix) {
            Ok(page) => page,
            Err(error) => return ReplicaReply::Refused(self.refusal(&error)),
        };
        let rows = page.rows.into_iter().map(|(position, row)| {
            let digest = row.digest();
            let row = (*kind == ReadKind::Data).then_some(row);
            PageRow { position, row, digest }
        });
        ReplicaReply::Page(PageReply { rows: rows.collect(), end: page.end })
    }

    fn repair_asked(self: &Arc<Self>, asker: Asker, call: Call, request: RepairRequest) {
        let Ok(permit) = Arc::clone(&self.blocking).try_acquire_owned() else {
            let refused = RepairReply::Refused("overloaded".to_owned());
            return self.send_back(asker, call, None, PeerBody::RepairReply(refused));
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
            inner.send_back(asker, call, None, PeerBody::RepairReply(reply));
            drop(permit);
        });
    }

    fn catalog_said(self: &Arc<Self>, asker: Asker, call: Call, message: CatalogMessage) {
        self.block(move |inner| {
            let mine = inner.store.catalog();
            let reply = match message {
                CatalogMessage::Digest(digest) if digest == catalog_digest(&mine) => {
                    CatalogReply::Same
                }
                CatalogMessage::Digest(_) | CatalogMessage::Ask => {
                    CatalogReply::Catalog((*mine).clone())
                }
                CatalogMessage::Publish(theirs) => match inner.join_catalog(&theirs) {
                    Ok(_) => CatalogReply::Joined,
                    Err(error) => CatalogReply::Refused(error.to_string()),
                },
            };
            inner.send_back(asker, call, None, PeerBody::CatalogReply(reply));
        });
    }
}

/// A refusal does not say what was refused; the machine ignores the event that does not fit.
fn get_events(from: NodeId, reply: ReplicaReply) -> impl Iterator<Item = GetEvent> {
    let (first, second) = match reply {
        ReplicaReply::Row(version) => (Some(GetEvent::DataArrived { from, version }), None),
        ReplicaReply::Digest(digest) => (Some(GetEvent::DigestArrived { from, digest }), None),
        ReplicaReply::Joined => (Some(GetEvent::Repaired { from }), None),
        ReplicaReply::Refused(refusal) => (
            Some(GetEvent::ReadRefused { from, refusal: refusal.clone() }),
            Some(GetEvent::RepairRefused { from, refusal }),
        ),
        ReplicaReply::Written(_) | ReplicaReply::Page(_) | ReplicaReply::Coordinated(_) => {
            (None, None)
        }
    };
    first.into_iter().chain(second)
}
