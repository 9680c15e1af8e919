//! Answers of other replicas, to the machines that wait for them.

use std::sync::Arc;

use meridian_coordinator::message::ReplicaReply;
use meridian_coordinator::page::PageEvent;
use meridian_coordinator::{GetEvent, PutEvent};
use meridian_types::NodeId;
use meridian_wire::replica::PeerBody;

use crate::exchange::Exchange;
use crate::in_flight::Call;
use crate::node::Inner;

impl Inner {
    pub(super) fn replica_answered(
        self: &Arc<Self>,
        from: NodeId,
        call: Call,
        reply: ReplicaReply,
    ) {
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
        ReplicaReply::Written(_)
        | ReplicaReply::Page(_)
        | ReplicaReply::Coordinated(_)
        | ReplicaReply::Reserved { .. }
        | ReplicaReply::Named(_)
        | ReplicaReply::Needed(_)
        | ReplicaReply::Held(_)
        | ReplicaReply::BatchKept => (None, None),
    };
    first.into_iter().chain(second)
}
