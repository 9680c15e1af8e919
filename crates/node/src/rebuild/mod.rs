//! Makes good what this replica may have lost (rule 10): whom each vnode is compared with and pulled
//! from until the replica can prove that it has everything again.
//!
//! What a vnode lacks, and when it lacks nothing more, is said by whoever keeps its state; here it
//! is decided in what order. Replicas of the own datacenter come first, because local reads wait
//! for them alone. Where a comparison may be enough, it comes before a pull: one message for all
//! vnodes that are shared with a peer.
//!
//! INVARIANT: of each vnode one pull or its end runs at a time, and of each keyspace one comparison
//! with each peer. What comes beside each other counts as far as its state says: what began before
//! another loss was heard of does not.

use std::collections::{BTreeMap, BTreeSet};

use meridian_types::{KeyspaceId, Millis, NodeId, VnodeId};

use crate::limits::{REBUILD_AGAIN_MS, REBUILD_BACKOFF_MS, REBUILD_PULLS_AT_ONCE};

/// What one vnode lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lack {
    /// Whom it must be pulled from.
    pub todo: BTreeSet<NodeId>,
    /// Whether full pulls are needed.
    pub full: bool,
    /// Whether a comparison may show that a peer has nothing to bring.
    pub comparable: bool,
    /// Whether it waits for nothing but its end.
    pub through: bool,
    /// Where nobody is left to pull from, and that was not enough: who may prove something later,
    /// because an operator says so there.
    pub again: BTreeSet<NodeId>,
}

impl Lack {
    fn is_stuck(&self) -> bool {
        self.todo.is_empty() && !self.through
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebuildEvent {
    /// A node can be reached.
    PeerUp {
        /// Who.
        node: NodeId,
    },
    /// A node cannot be reached. What runs with it ends by itself.
    PeerDown {
        /// Who.
        node: NodeId,
    },
    /// What vnodes lack now; `None`: nothing.
    Judged {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnodes.
        vnodes: Vec<(VnodeId, Option<Lack>)>,
    },
    /// A comparison is over, and what it settled is judged.
    Compared {
        /// With whom.
        peer: NodeId,
        /// Of what.
        keyspace: KeyspaceId,
        /// The vnodes that it did not settle; `None` where no answer came.
        unsettled: Option<BTreeSet<VnodeId>>,
    },
    /// A pull is over, and its vnode is judged.
    PullEnded {
        /// From whom.
        peer: NodeId,
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnode.
        vnode: VnodeId,
        /// Whether it came to its end.
        done: bool,
    },
    /// A vnode was ended, and judged.
    Ended {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnode.
        vnode: VnodeId,
        /// Whether that could be stored. If not, it is not tried again in this life.
        done: bool,
    },
    /// Time has passed: [`Rebuild::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebuildAction {
    /// Compare clocks; then [`RebuildEvent::Judged`] for what that settled, and
    /// [`RebuildEvent::Compared`].
    Compare {
        /// With whom.
        peer: NodeId,
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The vnodes that it is for.
        vnodes: Vec<VnodeId>,
    },
    /// Pull a vnode; then [`RebuildEvent::Judged`] and [`RebuildEvent::PullEnded`].
    Pull {
        /// From whom.
        peer: NodeId,
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// Which vnode.
        vnode: VnodeId,
        /// Whether all that the peer has is wanted.
        full: bool,
    },
    /// End it: nothing is missing any more. Then [`RebuildEvent::Judged`] and
    /// [`RebuildEvent::Ended`].
    End {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnode.
        vnode: VnodeId,
    },
}

type Place = (KeyspaceId, VnodeId);

#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    failures: u32,
    /// `None`: it is over.
    until: Option<Millis>,
}

/// Decides what is compared, pulled and ended, and when.
#[derive(Clone, Debug, Default)]
pub struct Rebuild {
    /// Those of the own datacenter.
    near: BTreeSet<NodeId>,
    up: BTreeSet<NodeId>,
    lacking: BTreeMap<Place, Lack>,
    /// Those that wait for nothing but their end.
    through: BTreeSet<Place>,
    /// Those that nobody is left for, and when the others are asked again.
    stuck: BTreeSet<Place>,
    ask_again: Option<Millis>,
    /// What is to be compared with whom.
    to_compare: BTreeMap<(KeyspaceId, NodeId), BTreeSet<VnodeId>>,
    /// What is to be pulled from whom.
    to_pull: BTreeMap<NodeId, BTreeSet<Place>>,
    /// What is being pulled or ended.
    busy: BTreeSet<Place>,
    comparing: BTreeMap<(KeyspaceId, NodeId), Vec<VnodeId>>,
    /// Pulls that run, by peer.
    pulling: BTreeMap<NodeId, usize>,
    /// Peers that failed lately: how often, and until when they are left alone.
    paused: BTreeMap<NodeId, Pause>,
}

impl Rebuild {
    /// Nothing lacks. `near` are the nodes of the own datacenter.
    #[must_use]
    pub fn new(near: impl IntoIterator<Item = NodeId>) -> Self {
        Self { near: near.into_iter().collect(), ..Self::default() }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: RebuildEvent, now: Millis, out: &mut Vec<RebuildAction>) {
        match event {
            RebuildEvent::PeerUp { node } => {
                self.up.insert(node);
                self.paused.remove(&node);
            }
            RebuildEvent::PeerDown { node } => drop(self.up.remove(&node)),
            RebuildEvent::Judged { keyspace, vnodes } => {
                for (vnode, lack) in vnodes {
                    self.judged((keyspace, vnode), lack);
                }
            }
            RebuildEvent::Compared { peer, keyspace, unsettled } => {
                self.compared(peer, keyspace, unsettled.as_ref(), now);
            }
            RebuildEvent::PullEnded { peer, keyspace, vnode, done } => {
                self.pull_ended(peer, (keyspace, vnode), done, now);
            }
            RebuildEvent::Ended { keyspace, vnode, done } => {
                if done {
                    self.busy.remove(&(keyspace, vnode));
                }
            }
            RebuildEvent::TimePassed => {}
        }
        for pause in self.paused.values_mut() {
            pause.until = pause.until.filter(|until| now < *until);
        }
        if self.lacking.is_empty() {
            return;
        }
        self.end(out);
        self.ask_again(now);
        self.compare(out);
        self.pull(out);
    }

    /// When [`RebuildEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        let waited_for = |peer: &NodeId| {
            self.up.contains(peer)
                && (self.to_pull.contains_key(peer)
                    || self.to_compare.keys().any(|(_, other)| other == peer))
        };
        let paused = self.paused.iter().filter(|(peer, _)| waited_for(peer));
        paused.filter_map(|(_, pause)| pause.until).chain(self.ask_again).min()
    }

    /// Whether a vnode is to be pulled from a peer: then nobody else need.
    #[must_use]
    pub fn waits_for(&self, peer: NodeId, keyspace: KeyspaceId, vnode: VnodeId) -> bool {
        self.lacking.get(&(keyspace, vnode)).is_some_and(|lack| lack.todo.contains(&peer))
    }

    /// How many vnodes lack something.
    #[must_use]
    pub fn lacking(&self) -> usize {
        self.lacking.len()
    }

    /// What is lacking, over all vnodes.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        let waited_for: BTreeSet<NodeId> =
            self.lacking.values().flat_map(|lack| lack.todo.iter().copied()).collect();
        Outlook {
            vnodes: self.lacking.len(),
            stuck: self.stuck.len(),
            missing: waited_for.difference(&self.up).copied().collect(),
        }
    }

    fn judged(&mut self, place: Place, lack: Option<Lack>) {
        let (keyspace, vnode) = place;
        let before = self.lacking.remove(&place).unwrap_or_default();
        self.through.remove(&place);
        self.stuck.remove(&place);
        let wanted = |peer: &NodeId| lack.as_ref().is_some_and(|lack| lack.todo.contains(peer));
        for peer in before.todo.union(&before.again).filter(|peer| !wanted(peer)) {
            take(&mut self.to_compare, (keyspace, *peer), vnode);
            take(&mut self.to_pull, *peer, place);
        }
        let Some(lack) = lack else { return };
        for peer in &lack.todo {
            if self.to_pull.get(peer).is_some_and(|places| places.contains(&place)) {
                continue;
            }
            if lack.comparable {
                self.to_compare.entry((keyspace, *peer)).or_default().insert(vnode);
            } else {
                take(&mut self.to_compare, (keyspace, *peer), vnode);
                self.to_pull.entry(*peer).or_default().insert(place);
            }
        }
        if lack.through {
            self.through.insert(place);
        } else if lack.is_stuck() {
            self.stuck.insert(place);
        }
        self.lacking.insert(place, lack);
    }

    /// What a comparison did not settle is pulled.
    fn compared(
        &mut self,
        peer: NodeId,
        keyspace: KeyspaceId,
        unsettled: Option<&BTreeSet<VnodeId>>,
        now: Millis,
    ) {
        self.came_to(peer, unsettled.is_some(), now);
        for vnode in self.comparing.remove(&(keyspace, peer)).unwrap_or_default() {
            let is_unsettled = unsettled.is_some_and(|unsettled| unsettled.contains(&vnode));
            let is_stuck = self.stuck.contains(&(keyspace, vnode));
            if !(self.waits_for(peer, keyspace, vnode) || is_stuck && is_unsettled) {
                continue;
            }
            if is_unsettled {
                take(&mut self.to_compare, (keyspace, peer), vnode);
                self.to_pull.entry(peer).or_default().insert((keyspace, vnode));
            } else {
                self.to_compare.entry((keyspace, peer)).or_default().insert(vnode);
            }
        }
    }

    fn pull_ended(&mut self, peer: NodeId, place: Place, done: bool, now: Millis) {
        self.came_to(peer, done, now);
        self.busy.remove(&place);
        if let Some(pulls) = self.pulling.get_mut(&peer) {
            *pulls = pulls.saturating_sub(1);
        }
        // One that broke off is tried again.
        if !done && self.waits_for(peer, place.0, place.1) {
            take(&mut self.to_compare, (place.0, peer), place.1);
            self.to_pull.entry(peer).or_default().insert(place);
        }
    }

    /// Who fails is left alone for a while, twice as long every time.
    fn came_to(&mut self, peer: NodeId, done: bool, now: Millis) {
        if done {
            self.paused.remove(&peer);
            return;
        }
        let pause = self.paused.entry(peer).or_default();
        let (first, longest) = REBUILD_BACKOFF_MS;
        pause.until = Some(now.plus(longest.min(first << pause.failures.min(16))));
        pause.failures += 1;
    }

    fn is_ready(&self, peer: NodeId) -> bool {
        let is_paused = self.paused.get(&peer).is_some_and(|pause| pause.until.is_some());
        self.up.contains(&peer) && !is_paused
    }

    fn end(&mut self, out: &mut Vec<RebuildAction>) {
        let idle = self.through.iter().filter(|place| !self.busy.contains(place));
        for place in idle.copied().collect::<Vec<_>>() {
            let (keyspace, vnode) = place;
            self.busy.insert(place);
            out.push(RebuildAction::End { keyspace, vnode });
        }
    }

    /// Nobody was left for some: perhaps somebody is by now.
    fn ask_again(&mut self, now: Millis) {
        if self.stuck.is_empty() {
            self.ask_again = None;
            return;
        }
        if self.ask_again.is_some_and(|at| now < at) {
            return;
        }
        self.ask_again = Some(now.plus(REBUILD_AGAIN_MS));
        for (keyspace, vnode) in &self.stuck {
            for peer in self.lacking.get(&(*keyspace, *vnode)).iter().flat_map(|l| &l.again) {
                self.to_compare.entry((*keyspace, *peer)).or_default().insert(*vnode);
            }
        }
    }

    fn compare(&mut self, out: &mut Vec<RebuildAction>) {
        let is_ready =
            |at: &(KeyspaceId, NodeId)| self.is_ready(at.1) && !self.comparing.contains_key(at);
        let ready: Vec<_> = self.to_compare.keys().copied().filter(is_ready).collect();
        for (keyspace, peer) in ready {
            let vnodes = self.to_compare.remove(&(keyspace, peer)).unwrap_or_default();
            let vnodes: Vec<VnodeId> = vnodes.into_iter().collect();
            self.comparing.insert((keyspace, peer), vnodes.clone());
            out.push(RebuildAction::Compare { peer, keyspace, vnodes });
        }
    }

    fn pull(&mut self, out: &mut Vec<RebuildAction>) {
        while self.pulling.values().sum::<usize>() < REBUILD_PULLS_AT_ONCE {
            let idle = |places: &BTreeSet<Place>| {
                places.iter().find(|place| !self.busy.contains(place)).copied()
            };
            let ready = self.to_pull.iter().filter(|(peer, _)| self.is_ready(**peer));
            let next = ready.filter_map(|(peer, places)| Some((*peer, idle(places)?)));
            let load = |peer: NodeId| self.pulling.get(&peer).copied().unwrap_or(0);
            let rank =
                |(peer, _): &(NodeId, Place)| (!self.near.contains(peer), load(*peer), *peer);
            let Some((peer, place)) = next.min_by_key(rank) else { return };
            let (keyspace, vnode) = place;
            take(&mut self.to_pull, peer, place);
            self.busy.insert(place);
            *self.pulling.entry(peer).or_default() += 1;
            let full = self.lacking.get(&place).is_some_and(|lack| lack.full);
            out.push(RebuildAction::Pull { peer, keyspace, vnode, full });
        }
    }
}

/// What is lacking, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Vnodes that lack something.
    pub vnodes: usize,
    /// Those among them that nobody is left for: only an operator's word ends them.
    pub stuck: usize,
    /// Nodes that vnodes wait for and that cannot be reached.
    pub missing: BTreeSet<NodeId>,
}

/// Takes something out of one of several sets; none of them stays empty.
fn take<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: K, value: V) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(&value);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
