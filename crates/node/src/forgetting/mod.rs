//! Paces forgetting (rules 8 and 12): a few vnodes at a time that may have something to forget, all
//! their other replicas asked what they durably have, then one vnode after the other walked
//! through. What found nothing that could go is left alone for longer and longer.
//!
//! ```text
//! Resting ──time──▶ Find ──Found──▶ Ask … ──Told by all──▶ Collect … ──Collected──▶ Find …, Resting
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meridian_types::{KeyspaceId, Millis, NodeId, VnodeId};

use crate::jitter::Jitter;
use crate::limits::{FORGETTING_LONGEST_REST, FORGETTING_RESTING, FORGETTING_ROUND};

/// A vnode of a keyspace.
pub type VnodeName = (KeyspaceId, VnodeId);

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgettingOptions {
    /// The pause after all vnodes were looked at, and that of a vnode whose walk left something,
    /// in milliseconds.
    pub interval_ms: u64,
    /// The pause between two parts of a walk, in milliseconds.
    pub part_pause_ms: u64,
    /// Spreads the rounds of nodes that start together.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgettingEvent {
    /// [`ForgettingAction::Find`]: vnodes that may have something to forget, with their other
    /// replicas. Those of which one is out of reach are left out.
    Found {
        /// The vnodes, in their order.
        vnodes: Vec<(VnodeName, Vec<NodeId>)>,
        /// Where to go on; `None` when all were looked at.
        next: Option<VnodeName>,
    },
    /// [`ForgettingAction::Ask`]: the vnodes that the peer said something of; none where it did not
    /// answer.
    Told {
        /// Who.
        peer: NodeId,
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The vnodes.
        vnodes: Vec<VnodeId>,
    },
    /// [`ForgettingAction::Collect`]: a part of a walk is done.
    Collected {
        /// Entries that went.
        entries: u64,
        /// Rows that have something to forget later.
        left: u64,
        /// Whether the walk goes on.
        more: bool,
    },
    /// Time has passed: [`Forgetting::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done: each answered by its event before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgettingAction {
    /// Find vnodes that may have something to forget.
    Find {
        /// Those behind this one.
        after: Option<VnodeName>,
        /// At most so many.
        limit: usize,
    },
    /// Ask a replica what it says of some vnodes.
    Ask {
        /// Whom.
        peer: NodeId,
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The vnodes.
        vnodes: Vec<VnodeId>,
    },
    /// Walk through a part of a vnode; the first one, or where the part before ended.
    Collect {
        /// The vnode.
        vnode: VnodeName,
        /// Whether this begins the walk.
        first: bool,
    },
    /// What was heard of a vnode is of no use any more. Not answered.
    Drop {
        /// The vnode.
        vnode: VnodeName,
    },
}

/// Decides which vnodes are looked through, and when.
///
/// INVARIANT: a vnode is walked through only after each of its other replicas said something of it
/// in the same round.
#[derive(Clone, Debug)]
pub struct Forgetting {
    options: ForgettingOptions,
    /// Vnodes that are left alone, until when, and how often they were walked for nothing.
    resting: BTreeMap<VnodeName, Rest>,
    /// Where the next round begins.
    cursor: Option<VnodeName>,
    state: State,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Millis,
    fruitless: u32,
}

#[derive(Clone, Debug)]
enum State {
    Resting { until: Millis },
    Finding,
    Asking { waits_for: BTreeMap<VnodeName, BTreeSet<NodeId>>, asked: usize },
    Walking { walk: Walk, queue: VecDeque<VnodeName> },
}

#[derive(Clone, Copy, Debug)]
struct Walk {
    vnode: VnodeName,
    entries: u64,
    left: u64,
    /// When the next part is due; `None` while one is under way.
    next_part: Option<Millis>,
}

impl Forgetting {
    /// Begins after a pause.
    #[must_use]
    pub fn new(options: ForgettingOptions, now: Millis) -> Self {
        let mut jitter = Jitter::new(options.seed);
        let until = now.plus(jitter.around(options.interval_ms));
        let (resting, state) = (BTreeMap::new(), State::Resting { until });
        Self { options, resting, cursor: None, state, jitter }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: ForgettingEvent, now: Millis, out: &mut Vec<ForgettingAction>) {
        match event {
            ForgettingEvent::TimePassed => self.time_passed(now, out),
            ForgettingEvent::Found { vnodes, next } => self.found(vnodes, next, now, out),
            ForgettingEvent::Told { peer, keyspace, vnodes } => {
                self.told(peer, keyspace, &vnodes, now, out);
            }
            ForgettingEvent::Collected { entries, left, more } => {
                self.collected((entries, left), more, now, out);
            }
        }
    }

    /// When [`ForgettingEvent::TimePassed`] is due; `None` while an answer is waited for.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        match &self.state {
            State::Resting { until } => Some(*until),
            State::Walking { walk, .. } => walk.next_part,
            State::Finding | State::Asking { .. } => None,
        }
    }

    fn time_passed(&mut self, now: Millis, out: &mut Vec<ForgettingAction>) {
        match &mut self.state {
            State::Resting { until } if *until <= now => {
                self.state = State::Finding;
                self.resting.retain(|_, rest| rest.until > now || rest.fruitless > 0);
                out.push(ForgettingAction::Find { after: self.cursor, limit: FORGETTING_ROUND });
            }
            State::Walking { walk, .. } if walk.next_part.is_some_and(|due| due <= now) => {
                walk.next_part = None;
                out.push(ForgettingAction::Collect { vnode: walk.vnode, first: false });
            }
            _ => {}
        }
    }

    fn found(
        &mut self,
        vnodes: Vec<(VnodeName, Vec<NodeId>)>,
        next: Option<VnodeName>,
        now: Millis,
        out: &mut Vec<ForgettingAction>,
    ) {
        self.cursor = next;
        let rests = |vnode: &VnodeName| self.resting.get(vnode).is_some_and(|it| it.until > now);
        let chosen: BTreeMap<VnodeName, BTreeSet<NodeId>> = vnodes
            .into_iter()
            .filter(|(vnode, _)| !rests(vnode))
            .map(|(vnode, others)| (vnode, others.into_iter().collect()))
            .collect();
        let mut asks: BTreeMap<(NodeId, KeyspaceId), Vec<VnodeId>> = BTreeMap::new();
        for ((keyspace, vnode), others) in &chosen {
            others.iter().for_each(|peer| asks.entry((*peer, *keyspace)).or_default().push(*vnode));
        }
        let asked = asks.len();
        out.extend(asks.into_iter().map(|((peer, keyspace), vnodes)| ForgettingAction::Ask {
            peer,
            keyspace,
            vnodes,
        }));
        self.state = State::Asking { waits_for: chosen, asked };
        if asked == 0 {
            self.all_told(now, out);
        }
    }

    fn told(
        &mut self,
        peer: NodeId,
        keyspace: KeyspaceId,
        vnodes: &[VnodeId],
        now: Millis,
        out: &mut Vec<ForgettingAction>,
    ) {
        let State::Asking { waits_for, asked } = &mut self.state else { return };
        for vnode in vnodes {
            if let Some(others) = waits_for.get_mut(&(keyspace, *vnode)) {
                others.remove(&peer);
            }
        }
        *asked = asked.saturating_sub(1);
        if *asked == 0 {
            self.all_told(now, out);
        }
    }

    /// Walks through those that all other replicas said something of.
    fn all_told(&mut self, now: Millis, out: &mut Vec<ForgettingAction>) {
        let State::Asking { waits_for, .. } =
            std::mem::replace(&mut self.state, State::Resting { until: now })
        else {
            return;
        };
        let mut queue = VecDeque::new();
        for (vnode, missing) in waits_for {
            if missing.is_empty() {
                queue.push_back(vnode);
            } else {
                out.push(ForgettingAction::Drop { vnode });
            }
        }
        self.next_walk(queue, now, out);
    }

    fn next_walk(
        &mut self,
        mut queue: VecDeque<VnodeName>,
        now: Millis,
        out: &mut Vec<ForgettingAction>,
    ) {
        if let Some(vnode) = queue.pop_front() {
            let walk = Walk { vnode, entries: 0, left: 0, next_part: None };
            self.state = State::Walking { walk, queue };
            out.push(ForgettingAction::Collect { vnode, first: true });
            return;
        }
        let pause = match self.cursor {
            Some(_) => self.options.part_pause_ms,
            None => self.options.interval_ms,
        };
        self.state = State::Resting { until: now.plus(self.jitter.around(pause)) };
    }

    fn collected(
        &mut self,
        (entries, left): (u64, u64),
        more: bool,
        now: Millis,
        out: &mut Vec<ForgettingAction>,
    ) {
        let State::Walking { walk, queue } = &mut self.state else { return };
        walk.entries += entries;
        walk.left += left;
        if more {
            walk.next_part = Some(now.plus(self.options.part_pause_ms));
            return;
        }
        let (walk, queue) = (*walk, std::mem::take(queue));
        out.push(ForgettingAction::Drop { vnode: walk.vnode });
        self.rest(walk, now);
        self.next_walk(queue, now, out);
    }

    fn rest(&mut self, walk: Walk, now: Millis) {
        let before = self.resting.remove(&walk.vnode).map_or(0, |rest| rest.fruitless);
        if walk.left == 0 || self.resting.len() >= FORGETTING_RESTING {
            return;
        }
        let fruitless = if walk.entries > 0 { 0 } else { before + 1 };
        // The first walk for nothing says little: promises are told a while after they are made.
        let factor = 1_u64.checked_shl(fruitless.saturating_sub(1)).unwrap_or(u64::MAX);
        let pause = self.options.interval_ms.saturating_mul(factor.min(FORGETTING_LONGEST_REST));
        self.resting.insert(walk.vnode, Rest { until: now.plus(pause), fruitless });
    }
}

#[cfg(test)]
mod tests;
