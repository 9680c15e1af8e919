//! What other nodes ask of this one, and what they answer.
//!
//! Small requests are done on the link's task, because handing them to another would cost more
//! than they do. Pages, pulls and catalogs read files or wait for them, so they are works that may
//! block, at most [`MAX_BLOCKING`] at once.

mod catalog;
mod kept;
mod read;
mod reply;
mod write;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use meridian_coordinator::message::{Refusal, ReplicaReply, ReplicaRequest};
use meridian_repair::message::RepairReply;
use meridian_service::{CallContext, Request};
use meridian_store::Commit;
use meridian_transport::{Class, Inbound, LinkState};
use meridian_types::{Millis, Mutation, NodeId, RequestId, broken};
use meridian_wire::replica::{PeerBody, PeerMessage};

use crate::in_flight::Call;
use crate::node::Inner;
use crate::peers::Peer;
use crate::serve::Handed;

/// Most page reads, pulls and catalog joins at once. More are refused, and asked again.
pub(crate) const MAX_BLOCKING: usize = 64;

/// Most requests that others have handed on to this node at once.
pub(crate) const MAX_HANDED: usize = 4_096;

/// A message's bytes.
pub(crate) fn encode(call: Call, trace: Option<RequestId>, body: PeerBody) -> Bytes {
    PeerMessage { call, trace, deadline_ms: None, body }.encode()
}

/// The bytes of a message whose answer somebody waits for, for so long.
pub(crate) fn encode_by(
    call: Call,
    trace: Option<RequestId>,
    left_ms: u64,
    body: PeerBody,
) -> Bytes {
    let deadline_ms = Some(u32::try_from(left_ms).unwrap_or(u32::MAX));
    PeerMessage { call, trace, deadline_ms, body }.encode()
}

/// Takes messages from the links.
pub(crate) struct PeerDoor(pub(crate) Weak<Inner>);

impl Inbound for PeerDoor {
    fn received(&self, from: NodeId, class: Class, message: Bytes) {
        let Some(inner) = self.0.upgrade() else { return };
        if class == Class::Foreground {
            inner.foreground_bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
        }
        match PeerMessage::decode(message) {
            Ok(PeerMessage { call, trace, deadline_ms, body }) => {
                let deadline = deadline_ms.map(|left| inner.deadline_of(from, left));
                inner.peer_said(Asker { node: from, class, call, trace, deadline }, body);
            }
            Err(error) => {
                tracing::warn!(peer = %inner.name_of(from), %error, "dropped a message");
                if let Some(call) = error.asked {
                    let refusal = Refusal::Malformed(error.to_string());
                    let asker = Asker { node: from, class, call, trace: None, deadline: None };
                    inner.answer(asker, ReplicaReply::Refused(refusal));
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

/// Who asked what, and over which class of link the answer goes back.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) node: NodeId,
    class: Class,
    call: Call,
    /// The client's request, where it is one's.
    trace: Option<RequestId>,
    /// When nobody waits for the answer any more; `None`: the answer is wanted however late.
    deadline: Option<Millis>,
}

impl Inner {
    /// When whoever asked stops waiting, who would wait for so long when it asked. The clocks of
    /// two nodes are not compared: what the message needed is half a round trip, or as long as
    /// everything waits on this node.
    fn deadline_of(&self, from: NodeId, left_ms: u32) -> Millis {
        let now = self.host.now();
        let way = self.peers.get(from).map_or(0, Peer::half_round_trip_ms);
        let took = way.max(self.admission.lag_ms(now));
        now.plus(u64::from(left_ms).saturating_sub(took))
    }

    /// Whether nobody waits for the answer any more. What is asked then is not done: not at the
    /// beginning, not before the store is asked, and no answer is built.
    pub(crate) fn is_late(&self, asker: Asker) -> bool {
        let late = asker.deadline.is_some_and(|deadline| self.host.now() >= deadline);
        if late {
            self.metrics.admission().late.inc();
        }
        late && !broken(Mutation::WorkPastDeadline)
    }

    fn peer_said(self: &Arc<Self>, asker: Asker, body: PeerBody) {
        match body {
            PeerBody::Request(request) => self.peer_asked(asker, request),
            PeerBody::Reply(reply) => self.replica_answered(asker.node, asker.call, reply),
            PeerBody::Repair(request) => self.repair_asked(asker, request),
            PeerBody::Catalog(message) => self.catalog_said(asker, message),
            body @ (PeerBody::RepairReply(_) | PeerBody::CatalogReply(_)) => {
                self.with_ask(asker.call, |ask| self.end_ask(asker.call, ask, Ok(body)));
            }
        }
    }

    fn peer_asked(self: &Arc<Self>, asker: Asker, request: ReplicaRequest) {
        if let Some(id) = asker.trace {
            tracing::debug!(request_id = %id, peer = %self.name_of(asker.node), "replica request");
        }
        if self.is_late(asker) {
            return self.answer(asker, ReplicaReply::Refused(Refusal::DeadlinePassed));
        }
        match request {
            ReplicaRequest::Write(write) => self.take_copy(asker, write),
            ReplicaRequest::Read { row, kind, class, epoch: _, seen: None } => {
                self.read_copy(asker, &row, kind, class);
            }
            ReplicaRequest::Read { row, kind, class, epoch: _, seen: Some(seen) } => {
                self.read_copy_in_session(asker, row, (kind, class), seen);
            }
            ReplicaRequest::Join { row, version, coverage, epoch: _ } => {
                self.join_copy(asker, &row, &version, &coverage);
            }
            ReplicaRequest::Page(request) if request.seen.is_empty() => {
                self.answer_page(asker, request);
            }
            ReplicaRequest::Page(request) => self.read_page_in_session(asker, request),
            ReplicaRequest::Coordinate(request) => self.coordinate(asker, request),
            request @ (ReplicaRequest::Reserve(_)
            | ReplicaRequest::StillNeeded { .. }
            | ReplicaRequest::Holds(_)
            | ReplicaRequest::KeepBatch(_)) => self.kept_asked(asker, request),
            ReplicaRequest::ForgetBatches(ids) => {
                self.block(move |inner| inner.forget_own_batches(&ids));
            }
        }
    }

    /// Serves a request whose coordinator is no replica of its key.
    fn coordinate(self: &Arc<Self>, asker: Asker, request: Request) {
        let Ok(permit) = Arc::clone(&self.handed).try_acquire_owned() else {
            return self.answer(asker, ReplicaReply::Refused(Refusal::Overloaded));
        };
        let left = asker.deadline.map(|deadline| deadline.since(self.host.now()));
        let timeout = left.map_or(self.options.request_timeout, Duration::from_millis);
        let timeout = timeout.min(self.options.max_timeout);
        let id = asker.trace.unwrap_or_else(|| self.fresh_request_id());
        self.spawn(move |inner| async move {
            let context = CallContext { id, timeout };
            let result = inner.admit_and_serve(context, request, Handed::On).await;
            inner.answer(asker, ReplicaReply::Coordinated(Box::new(result)));
            drop(permit);
        });
    }

    /// Sends an answer. One that the link does not take is missed by the asker, who waits no
    /// longer than its deadline.
    pub(crate) fn answer(&self, asker: Asker, reply: ReplicaReply) {
        self.send_back(asker, PeerBody::Reply(reply));
    }

    /// Answers once a commit is as durable as the sync policy says.
    fn answer_when_settled(self: &Arc<Self>, asker: Asker, reply: ReplicaReply, commit: &Commit) {
        if self.store.is_settled(commit) || broken(Mutation::AckBeforeSettled) {
            return self.answer(asker, reply);
        }
        self.when_settled(commit, move |inner, settled| {
            let refused = ReplicaReply::Refused;
            inner.answer(asker, settled.map_or_else(refused, |()| reply));
        });
    }

    pub(crate) fn send_back(&self, asker: Asker, body: PeerBody) {
        let Asker { node, class, call, trace, deadline: _ } = asker;
        let message = PeerMessage { call, trace, deadline_ms: None, body };
        let is_page = matches!(
            message.body,
            PeerBody::RepairReply(RepairReply::Page(_) | RepairReply::Pages(_))
        );
        let bytes = match is_page && !self.is_near(node) {
            true => message.encode_squeezed(),
            false => message.encode(),
        };
        if let Err(why) = self.send(node, class, bytes) {
            tracing::debug!(peer = %self.name_of(node), ?why, "an answer was not sent");
        }
    }
}
