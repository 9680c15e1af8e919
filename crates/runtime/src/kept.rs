//! Writes that a node keeps until they are done and repeats until then (rule 14): intents of ANY,
//! atomic batches.
//!
//! A replica reserves a dot, the dot becomes durable beside the write, and from then on the write is
//! a delta that may be sent to anybody, as often as it takes ([`Inner::bring`]). It is done when the
//! disk of the replica that reserved the dot has it. The other way round a replica asks the keepers
//! of dots that have not come ([`ask_keepers`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use meridian_coordinator::message::{
    NamedWrite, ReplicaReply, ReplicaRequest, VnodeDot, WriteDelta,
};
use meridian_store::ReservedDot;
use meridian_transport::Class;
use meridian_types::{NodeId, RowKey};
use meridian_wire::replica::PeerBody;

use crate::exchange::{Lost, epoch_of};
use crate::node::Inner;

/// Most requests about kept writes that are served at once. More are refused, and asked again.
pub(crate) const MAX_KEPT_REQUESTS: usize = 1_024;

/// How long an answer about a kept write is waited for.
pub(crate) const TIMEOUT_MS: u64 = 10_000;

/// Deltas of kept writes that are under way at once from one round.
const SENDS_AT_ONCE: usize = 64;

/// Dots that one message asks about.
const DOTS_AT_ONCE: usize = 1_024;

/// How old a reserved dot is before its keeper is asked whether it needs it: longer than a keeper
/// that lives takes, and short beside what a gap in a clock costs.
const ASK_AFTER_MS: u64 = 30_000;

/// How often keepers are asked.
const ASK_EVERY_MS: u64 = 10_000;

/// Reserved dots that keepers are asked about at once.
const ASKED_AT_ONCE: usize = 64;

impl Inner {
    /// The replicas of a row that can be reached, those of this datacenter first; none where the
    /// keyspace is not known here yet.
    pub(crate) fn living_replicas(&self, row: &RowKey) -> Vec<NodeId> {
        let view = self.catalog.load();
        let Some(keyspace) = view.keyspace(row.keyspace) else { return Vec::new() };
        let replicas = keyspace.placement.replicas(row.vnode);
        let mut nodes: Vec<NodeId> = replicas.in_dc(self.dc).to_vec();
        nodes.extend(replicas.all().iter().filter(|&node| !replicas.in_dc(self.dc).contains(node)));
        nodes.sort_by_key(|&node| node != self.id);
        nodes.retain(|&node| self.is_alive(node));
        nodes
    }

    /// Whether a kept write may be forgotten: the replica that reserved its dot durably has it,
    /// whatever its life is now. Not when another has it, for the one that reserved would take the
    /// dot for unused; unless that one is no replica any more.
    pub(crate) fn is_done(&self, write: &NamedWrite, holders: &BTreeSet<NodeId>) -> bool {
        let reserver = write.delta.entry.dot.actor.node;
        let view = self.catalog.load();
        let Some(keyspace) = view.keyspace(write.row.keyspace) else { return false };
        let replicas = keyspace.placement.replicas(write.row.vnode);
        if replicas.contains(reserver) {
            return holders.contains(&reserver);
        }
        !holders.is_empty()
    }

    /// Asks a node, which may be this one, about a kept write.
    pub(crate) async fn ask_about_kept(
        self: &Arc<Self>,
        to: NodeId,
        class: Class,
        request: ReplicaRequest,
    ) -> Result<ReplicaReply, Lost> {
        if to == self.id {
            return Ok(self.serve_kept(to, request).await);
        }
        let body = PeerBody::Request(request);
        match self.ask(to, class, None, body, TIMEOUT_MS).await? {
            PeerBody::Reply(reply) => Ok(reply),
            _ => Err(Lost::Down),
        }
    }

    /// Has replicas apply kept writes that they lack; who durably has each of them then. Those that
    /// cannot be reached get them by hints and anti-entropy, or in a later round.
    pub(crate) async fn bring(self: &Arc<Self>, writes: &[NamedWrite]) -> Vec<BTreeSet<NodeId>> {
        let targets = writes.iter().map(|write| self.living_replicas(&write.row));
        let targets: Vec<Vec<NodeId>> = targets.collect();
        let mut held = self.who_holds(writes, &targets).await;
        let pairs = targets.iter().enumerate();
        let lacking = pairs.flat_map(|(at, nodes)| nodes.iter().map(move |node| (at, *node)));
        let lacking = lacking.filter(|(at, node)| !held[*at].contains(node));
        let sends = lacking.map(|(at, node)| async move {
            let request = ReplicaRequest::Write(self.copy_of(&writes[at]));
            let answer = self.ask_about_kept(node, Class::Background, request).await;
            matches!(answer, Ok(ReplicaReply::Written(_))).then_some((at, node))
        });
        let mut applied = vec![Vec::new(); writes.len()];
        let sent: Vec<_> =
            stream::iter(sends.collect::<Vec<_>>()).buffered(SENDS_AT_ONCE).collect().await;
        for (at, node) in sent.into_iter().flatten() {
            applied[at].push(node);
        }
        for (held, more) in held.iter_mut().zip(self.who_holds(writes, &applied).await) {
            held.extend(more);
        }
        held
    }

    fn copy_of(&self, write: &NamedWrite) -> WriteDelta {
        let view = self.catalog.load();
        let epoch = view.keyspace(write.row.keyspace).map(|k| epoch_of(&k.placement, self.dc));
        let NamedWrite { row, delta, write_id } = write.clone();
        WriteDelta {
            row,
            delta,
            write_id,
            forward_to: Vec::new(),
            reply_to: self.id,
            hinted: false,
            epoch: epoch.unwrap_or(meridian_topology::Placement::INITIAL_EPOCH),
        }
    }

    /// Which of these nodes durably have each write: one message a node.
    async fn who_holds(
        self: &Arc<Self>,
        writes: &[NamedWrite],
        nodes: &[Vec<NodeId>],
    ) -> Vec<BTreeSet<NodeId>> {
        let mut by_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (at, nodes) in nodes.iter().enumerate() {
            for node in nodes {
                by_node.entry(*node).or_default().push(at);
            }
        }
        let mut questions = Vec::new();
        for (node, all) in &by_node {
            questions.extend(all.chunks(DOTS_AT_ONCE).map(|some| (*node, some)));
        }
        let asked = questions.into_iter().map(|(node, some)| async move {
            let dots = some.iter().map(|&at| writes[at].dot()).collect();
            let answer =
                self.ask_about_kept(node, Class::Background, ReplicaRequest::Holds(dots)).await;
            let Ok(ReplicaReply::Held(held)) = answer else { return (node, Vec::new()) };
            let held = some.iter().zip(held).filter(|(_, held)| *held).map(|(at, _)| *at);
            (node, held.collect::<Vec<_>>())
        });
        let mut holders = vec![BTreeSet::new(); writes.len()];
        let answers: Vec<_> =
            stream::iter(asked.collect::<Vec<_>>()).buffered(SENDS_AT_ONCE).collect().await;
        for (node, held) in answers {
            for at in held {
                holders[at].insert(node);
            }
        }
        holders
    }
}

/// Asks keepers about dots that this replica gave out and that have not come, for as long as the
/// node runs.
pub(crate) async fn ask_keepers(inner: Arc<Inner>) {
    loop {
        inner.host.pause(ASK_EVERY_MS).await;
        let mut after: Option<ReservedDot> = None;
        loop {
            let now = inner.host.wall();
            let page =
                inner.store.unused_reservations(after.as_ref(), ASKED_AT_ONCE, ASK_AFTER_MS, now);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            let asked = page.into_iter().map(|reserved| settle_reservation(&inner, reserved));
            let asked: Vec<_> = asked.collect();
            stream::iter(asked).buffered(ASKED_AT_ONCE).collect::<()>().await;
        }
    }
}

/// A dot that nobody needs is counted as seen. Whoever asked for it is asked first: once that one
/// has given it up, nobody else can come to have it.
async fn settle_reservation(inner: &Arc<Inner>, reserved: ReservedDot) {
    let ReservedDot { keyspace, vnode, dot, keeper, kept_as, .. } = reserved;
    let dot = VnodeDot { keyspace, vnode, dot };
    for node in [keeper].into_iter().chain(reserved.holders.iter().copied()) {
        let question = ReplicaRequest::StillNeeded { kept_as, dot };
        let answer = inner.ask_about_kept(node, Class::Background, question).await;
        if !matches!(answer, Ok(ReplicaReply::Needed(false))) {
            return;
        }
    }
    let given_up = inner.off_thread(move |inner| inner.store.give_up_reserved(&reserved)).await;
    if let Ok(Err(error)) = given_up {
        inner.note_storage_error(&error);
    }
}
