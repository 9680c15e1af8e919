//! Asks replicas what they durably have, and forgets what all of them do (rules 8 and 12).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use meridian_node::forgetting::VnodeName;
use meridian_node::{Forgetting, ForgettingAction, ForgettingEvent, ForgettingOptions};
use meridian_repair::message::{RepairReply, RepairRequest};
use meridian_store::{Collecting, PagePosition};
use meridian_transport::Class;
use meridian_types::{KeyspaceId, NodeId, VnodeId};
use meridian_wire::replica::PeerBody;

use crate::alarm::Alarm;
use crate::node::Inner;
use crate::put::millis;

/// How long a replica may take to say what it has.
const TELL_TIMEOUT_MS: u64 = 10_000;

/// Rows that a walk looks at without a pause: some milliseconds of a processor.
const ROWS_A_PART: usize = 1_000;

/// The pause after them, in milliseconds: a walk takes at most a fifth of a processor.
const PART_PAUSE_MS: u64 = 20;

/// Whether and how a node forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgettingSettings {
    /// Whether it does. What it says to others that do it says always.
    pub enabled: bool,
    /// How long it waits after it looked at all its vnodes.
    pub every: Duration,
    /// By how much wall clocks of the cluster may differ.
    pub max_skew: Duration,
}

impl ForgettingSettings {
    /// Every minute, where clocks differ by a minute at most.
    pub const DEFAULT: Self =
        Self { enabled: false, every: Duration::from_secs(60), max_skew: Duration::from_secs(60) };
}

/// Runs for as long as the node does.
pub(crate) async fn run(inner: Arc<Inner>) {
    let settings = inner.options.forgetting;
    if !settings.enabled {
        return;
    }
    let options = ForgettingOptions {
        interval_ms: millis(settings.every),
        part_pause_ms: PART_PAUSE_MS,
        seed: inner.host.random(),
    };
    let machine = Forgetting::new(options, inner.host.now());
    let mut round = Round { inner, machine, others: BTreeMap::new(), at: None };
    let mut alarm = Alarm::new(Arc::clone(&round.inner.host));
    loop {
        alarm.until(round.machine.next_wakeup()).await;
        round.tell(ForgettingEvent::TimePassed).await;
    }
}

/// The machine, and what a round holds on to.
struct Round {
    inner: Arc<Inner>,
    machine: Forgetting,
    /// The other replicas of the vnodes that are looked at.
    others: BTreeMap<VnodeName, Vec<NodeId>>,
    /// Where the walk is.
    at: Option<PagePosition>,
}

impl Round {
    /// Tells the machine something, and does what it asks for until it asks for nothing more.
    async fn tell(&mut self, event: ForgettingEvent) {
        let mut actions = Vec::new();
        self.machine.step(event, self.inner.host.now(), &mut actions);
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let event = match action {
                ForgettingAction::Find { after, limit } => self.find(after, limit),
                ForgettingAction::Ask { peer, keyspace, vnodes } => {
                    let vnodes = self.ask(peer, keyspace, vnodes).await;
                    ForgettingEvent::Told { peer, keyspace, vnodes }
                }
                ForgettingAction::Collect { vnode, first } => self.collect(vnode, first).await,
                ForgettingAction::Drop { vnode: (keyspace, vnode) } => {
                    self.inner.store.drop_evidence(keyspace, vnode);
                    continue;
                }
            };
            let mut more = Vec::new();
            self.machine.step(event, self.inner.host.now(), &mut more);
            actions.extend(more);
        }
    }

    fn find(&mut self, after: Option<VnodeName>, limit: usize) -> ForgettingEvent {
        let found = self.inner.store.collectable(after, limit);
        let next = if found.len() < limit { None } else { found.last().copied() };
        let with_others = |vnode| Some((vnode, self.inner.reachable_others(vnode)?));
        self.others = found.into_iter().filter_map(with_others).collect();
        let vnodes = self.others.iter().map(|(vnode, others)| (*vnode, others.clone())).collect();
        ForgettingEvent::Found { vnodes, next }
    }

    /// The vnodes that the peer said something of.
    async fn ask(&self, peer: NodeId, keyspace: KeyspaceId, vnodes: Vec<VnodeId>) -> Vec<VnodeId> {
        let inner = &self.inner;
        let Some(layout) = inner.layout_of(keyspace) else { return Vec::new() };
        let asked = inner.store.asking(peer);
        let body = PeerBody::Repair(RepairRequest::Evidence { keyspace, layout, vnodes });
        let answer = inner.ask(peer, Class::Background, None, body, TELL_TIMEOUT_MS).await;
        let Ok(PeerBody::RepairReply(RepairReply::Evidence(told))) = answer else {
            return Vec::new();
        };
        if inner.incarnation_of(peer) != Some(told.incarnation) {
            return Vec::new();
        }
        let heard = told.vnodes.into_iter().map(|(vnode, evidence)| {
            inner.store.hear(asked, keyspace, vnode, told.layout, evidence);
            vnode
        });
        heard.collect()
    }

    async fn collect(&mut self, (keyspace, vnode): VnodeName, first: bool) -> ForgettingEvent {
        let nothing = ForgettingEvent::Collected { entries: 0, left: 0, more: false };
        let Some(others) = self.others.get(&(keyspace, vnode)).cloned() else { return nothing };
        let Some(layout) = self.inner.layout_of(keyspace) else { return nothing };
        let after = if first { None } else { self.at.take() };
        let max_skew_ms = millis(self.inner.options.forgetting.max_skew);
        let walk = move |inner: &Arc<Inner>| {
            inner.store.collect(&Collecting {
                keyspace,
                vnode,
                others: &others,
                layout,
                after,
                rows: ROWS_A_PART,
                max_skew_ms,
                now: inner.host.wall(),
            })
        };
        match self.inner.off_thread(walk).await {
            Ok(Ok(done)) => {
                let more = done.next.is_some();
                self.at = done.next;
                ForgettingEvent::Collected { entries: done.entries, left: done.left, more }
            }
            Ok(Err(error)) => {
                self.inner.note_storage_error(&error);
                nothing
            }
            Err(_given_up) => nothing,
        }
    }
}

impl Inner {
    /// The other replicas of a vnode, if this node is one of them and all can be reached.
    fn reachable_others(&self, (keyspace, vnode): VnodeName) -> Option<Vec<NodeId>> {
        let view = self.catalog.load();
        let replicas = view.keyspace(keyspace)?.placement.replicas(vnode).all();
        let all_here = replicas.contains(&self.id) && replicas.iter().all(|&it| self.is_alive(it));
        all_here.then(|| replicas.iter().copied().filter(|&node| node != self.id).collect())
    }
}
