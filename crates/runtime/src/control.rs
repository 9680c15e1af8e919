//! The control plane's task: owns the machines that deliver hints and compare clocks, and does
//! what they ask for.
//!
//! Events come through one bounded queue. Only one kind comes without bound, and it is dropped
//! before the queue is full.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_coordinator::message::{ReplicaReply, ReplicaRequest, WriteDelta, Written};
use meridian_node::{
    AntiEntropyEvent, AntiEntropyOptions, HandoffAction, HandoffEvent, LivenessChange, Node,
    NodeAction, NodeEvent, RebuildEvent,
};
use meridian_store::{Fulfilment, Hint, HintId};
use meridian_transport::Class;
use meridian_types::{KeyspaceId, Millis, NodeId};
use meridian_wire::replica::PeerBody;
use tokio::sync::mpsc;

use crate::alarm::Alarm;
use crate::exchange::epoch_of;
use crate::node::Inner;
use crate::put::millis;
use crate::rebuild::Lacks;

/// Most events that wait for the control plane.
pub(crate) const MAX_EVENTS: usize = 65_536;

/// Most bytes of hints that are loaded at a time, for one replica.
const HINT_PAGE_BYTES: usize = 4 << 20;

/// How long one hint waits for its answer. The machine gives up at about the same time.
const HINT_TIMEOUT_MS: u64 = meridian_node::limits::HINT_TIMEOUT_MS;

/// Vnodes that may have lost something, up to which every change is shown.
const FEW_VNODES: usize = 64;

/// How often it is shown where there are more.
const OUTLOOK_EVERY_MS: u64 = 500;

/// What the control plane is told.
pub(crate) enum ControlEvent {
    Node(NodeEvent),
    /// Hints that were read from the log, for [`HandoffEvent::PageLoaded`].
    Loaded {
        target: NodeId,
        after: Option<HintId>,
        hints: Vec<(HintId, Hint)>,
    },
    /// There are other keyspaces than before.
    CatalogChanged,
}

/// Where the control plane is told things.
#[derive(Clone)]
pub(crate) struct ControlSender(mpsc::Sender<ControlEvent>);

impl ControlSender {
    /// Tells the control plane something that it waits for. Of these there are a few thousand at
    /// most: a link's changes, and an answer to each thing under way.
    pub(crate) fn tell(&self, event: ControlEvent) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.0.try_send(event) {
            tracing::error!(limit = MAX_EVENTS, "the control plane stands still");
        }
    }

    /// Tells that hints were kept. Half of the queue is not for these: they come with every batch
    /// of writes, and one of many is as good as all.
    pub(crate) fn tell_hints_kept(&self, target: NodeId) {
        if self.0.capacity() > MAX_EVENTS / 2 {
            self.tell(ControlEvent::Node(NodeEvent::Handoff(HandoffEvent::HintsKept { target })));
        }
    }
}

pub(crate) fn queue() -> (ControlSender, mpsc::Receiver<ControlEvent>) {
    let (sender, receiver) = mpsc::channel(MAX_EVENTS);
    (ControlSender(sender), receiver)
}

/// The machine, and what it holds on to.
struct Control {
    inner: Arc<Inner>,
    node: Node,
    /// Hints that are loaded and not delivered yet; bounded by the machine's page.
    loaded: BTreeMap<(NodeId, HintId), Hint>,
    /// When it was last shown what may be lost.
    shown: Millis,
}

/// Runs until the node is dropped. `lacks` is what the start found of its vnodes.
pub(crate) async fn run(
    inner: Arc<Inner>,
    mut events: mpsc::Receiver<ControlEvent>,
    seed: u64,
    lacks: BTreeMap<KeyspaceId, Lacks>,
) {
    let options = AntiEntropyOptions {
        interval_ms: millis(inner.options.anti_entropy_every),
        ..AntiEntropyOptions::new(seed)
    };
    let peers = inner.topology.nodes().iter().map(|node| node.id);
    let near = inner.topology.nodes_in(inner.dc).map(|node| node.id);
    let node = Node::new(inner.id, peers, near, options, inner.host.now());
    let mut alarm = Alarm::new(Arc::clone(&inner.host));
    let shown = inner.host.now();
    let mut control = Control { inner, node, loaded: BTreeMap::new(), shown };
    for target in control.inner.hints.counts().into_keys() {
        control.step(NodeEvent::Handoff(HandoffEvent::HintsKept { target }));
    }
    control.share_keyspaces();
    for (keyspace, vnodes) in lacks {
        control.step(NodeEvent::Rebuild(RebuildEvent::Judged { keyspace, vnodes }));
    }
    loop {
        let wakeup = control.node.next_wakeup();
        tokio::select! {
            biased;
            // First: events may come without end, and this at most once a millisecond.
            () = alarm.until(wakeup) => control.step(NodeEvent::TimePassed),
            event = events.recv() => match event {
                Some(event) => control.take(event),
                None => return,
            },
        }
    }
}

impl Control {
    fn take(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::CatalogChanged => self.share_keyspaces(),
            ControlEvent::Loaded { target, after, hints } => {
                let after = after.map(|id| meridian_node::HintId(id.0));
                let ids = hints.iter().map(|(id, _)| meridian_node::HintId(id.0)).collect();
                self.loaded.extend(hints.into_iter().map(|(id, hint)| ((target, id), hint)));
                self.step(NodeEvent::Handoff(HandoffEvent::PageLoaded { target, after, ids }));
            }
            ControlEvent::Node(event) => {
                if let NodeEvent::Handoff(
                    HandoffEvent::Delivered { target, id, .. }
                    | HandoffEvent::Refused { target, id },
                ) = &event
                {
                    self.loaded.remove(&(*target, HintId(id.0)));
                }
                self.step(event);
            }
        }
    }

    fn step(&mut self, event: NodeEvent) {
        // What differs changes with comparisons only, and hints come far more often.
        let compared = matches!(event, NodeEvent::AntiEntropy(_));
        let rebuilding = matches!(event, NodeEvent::Rebuild(_) | NodeEvent::Link(_));
        let mut actions = Vec::new();
        self.node.step(event, self.inner.host.now(), &mut actions);
        for action in actions {
            match action {
                NodeAction::Liveness(change) => self.publish_liveness(change),
                NodeAction::Handoff(action) => self.hand_off(action),
                NodeAction::AntiEntropy(action) => {
                    crate::repair::perform(&self.inner, action);
                }
                NodeAction::Rebuild(action) => crate::rebuild::perform(&self.inner, action),
            }
        }
        if compared {
            self.show_lag();
        }
        if rebuilding {
            self.show_outlook();
        }
    }

    /// Shows what may be lost: seldom while there is much of it, for all of it is looked at.
    fn show_outlook(&mut self) {
        let now = self.inner.host.now();
        let lacking = self.node.rebuild().lacking();
        if lacking <= FEW_VNODES || now.since(self.shown) >= OUTLOOK_EVERY_MS {
            self.shown = now;
            self.inner.outlook.store(Arc::new(self.node.rebuild().outlook()));
        }
    }

    fn publish_liveness(&mut self, change: LivenessChange) {
        self.inner.alive.store(Arc::new(self.node.liveness().view()));
        let (LivenessChange::Rose { node, .. } | LivenessChange::Fell { node }) = change;
        self.inner.store.void_evidence(node);
        match change {
            LivenessChange::Rose { node, restarted } => {
                tracing::info!(peer = self.inner.name_of(node), restarted, "can be reached");
                if restarted {
                    // What was sent to its last life is not answered any more.
                    self.inner.tell_node_down(node);
                }
            }
            LivenessChange::Fell { node } => {
                if !self.inner.is_stopping() {
                    tracing::warn!(peer = self.inner.name_of(node), "cannot be reached");
                }
                // They are read again, from the start of the log, when it is back.
                self.loaded.retain(|(target, _), _| *target != node);
                self.inner.tell_node_down(node);
            }
        }
    }

    fn hand_off(&mut self, action: HandoffAction) {
        match action {
            HandoffAction::Load { target, after, limit } => {
                load(&self.inner, target, after.map(|id| HintId(id.0)), limit);
            }
            HandoffAction::Deliver { target, id } => {
                match self.loaded.get(&(target, HintId(id.0))) {
                    Some(hint) => deliver(&self.inner, target, id, hint.clone()),
                    None => {
                        let refused = HandoffEvent::Refused { target, id };
                        self.inner.control.tell(ControlEvent::Node(NodeEvent::Handoff(refused)));
                    }
                }
            }
            HandoffAction::Remove { target, delivered, superseded } => {
                remove(&self.inner, target, &delivered, &superseded);
            }
        }
    }

    /// Tells the machine which keyspaces are compared with whom.
    fn share_keyspaces(&mut self) {
        let shares = crate::repair::shares(&self.inner);
        self.step(NodeEvent::AntiEntropy(AntiEntropyEvent::SharesChanged { shares }));
    }

    fn show_lag(&self) {
        for peer in self.inner.peers.iter() {
            peer.set_differing(self.node.anti_entropy().differing(peer.id));
        }
    }
}

fn load(inner: &Arc<Inner>, target: NodeId, after: Option<HintId>, limit: usize) {
    inner.block(move |inner| {
        let page = inner.hints.log().page(target, after, limit, HINT_PAGE_BYTES);
        let event = match page {
            Ok(hints) => {
                // One that was damaged was given up.
                inner.tell_given_up();
                ControlEvent::Loaded { target, after, hints }
            }
            Err(error) => {
                tracing::error!(%error, "hints cannot be read");
                inner.note_failure(error.to_string());
                ControlEvent::Node(NodeEvent::Handoff(HandoffEvent::LoadFailed { target }))
            }
        };
        inner.control.tell(event);
    });
}

/// Sends a hint, and tells the control plane what became of it.
fn deliver(inner: &Arc<Inner>, target: NodeId, id: meridian_node::HintId, hint: Hint) {
    inner.spawn(move |inner| async move {
        let view = inner.catalog.load();
        let keyspace = view.keyspace(hint.row.keyspace);
        let epoch = keyspace.map_or(meridian_topology::Placement::INITIAL_EPOCH, |k| {
            epoch_of(&k.placement, inner.dc)
        });
        drop(view);
        let write = WriteDelta {
            row: hint.row,
            delta: hint.delta,
            write_id: hint.write_id,
            forward_to: Vec::new(),
            reply_to: inner.id,
            hinted: true,
            epoch,
        };
        let body = PeerBody::Request(ReplicaRequest::Write(write));
        let answer = inner.ask(target, Class::Background, None, body, HINT_TIMEOUT_MS).await;
        let event = match answer {
            Ok(PeerBody::Reply(ReplicaReply::Written(Written { known, credit }))) => {
                HandoffEvent::Delivered { target, id, known, credit }
            }
            _ => HandoffEvent::Refused { target, id },
        };
        inner.control.tell(ControlEvent::Node(NodeEvent::Handoff(event)));
    });
}

fn remove(
    inner: &Arc<Inner>,
    target: NodeId,
    delivered: &[meridian_node::HintId],
    superseded: &[meridian_node::HintId],
) {
    let of = |ids: &[meridian_node::HintId]| ids.iter().map(|id| HintId(id.0)).collect::<Vec<_>>();
    let (delivered, superseded) = (of(delivered), of(superseded));
    inner.peers.delivered(target, delivered.len() + superseded.len());
    inner.block(move |inner| {
        let log = inner.hints.log();
        let removed = log
            .remove(target, &delivered, Fulfilment::Delivered)
            .and_then(|()| log.remove(target, &superseded, Fulfilment::Superseded));
        if let Err(error) = removed {
            tracing::error!(%error, "delivered hints cannot be removed; they are delivered again");
            inner.note_failure(error.to_string());
        }
    });
}
