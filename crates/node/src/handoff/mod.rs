//! Delivers hints to replicas that can be reached again.
//!
//! Hints are deltas, and a delta may arrive late, twice and in any order; so nothing here keeps an
//! order, and a hint that may have been delivered is delivered again.
//!
//! ```text
//! HintsKept ─▶ Waiting ──up──▶ Delivering ──all sent──▶ Loading ──page──▶ Delivering
//!                 ▲                │ refused,              │ nothing behind the cursor
//!                 │                ▼ timed out             ▼
//!                 └──time── Pausing (longer each        Draining ──all answered──▶ (gone)
//!                           time, shorter window;
//!                           then from the log's start)
//! ```
//! `PeerDown` leads from anywhere back to `Waiting`, from the log's start.
//!
//! How fast is up to the receiver: each answer may say how many hints it bears at once. A receiver
//! that bears none is asked again, with one hint, after a pause.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meridian_types::{Millis, Mutation, NodeId, broken};

use crate::jitter::Jitter;
use crate::limits::{
    HINT_BACKOFF_MS, HINT_PAGE, HINT_REMOVALS, HINT_TARGETS, HINT_TIMEOUT_MS, HINT_WINDOW,
};

/// Names a hint in the log of its target. Later hints have higher ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HintId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoffEvent {
    /// Hints were kept for a replica; or they are there from before, at start.
    HintsKept {
        /// For whom.
        target: NodeId,
    },
    /// A node can be reached.
    PeerUp {
        /// Who.
        node: NodeId,
    },
    /// A node cannot be reached.
    PeerDown {
        /// Who.
        node: NodeId,
    },
    /// What [`HandoffAction::Load`] asked for, oldest first; empty where nothing is behind that
    /// position.
    PageLoaded {
        /// For whom.
        target: NodeId,
        /// Behind which, as was asked.
        after: Option<HintId>,
        /// The hints.
        ids: Vec<HintId>,
    },
    /// The log could not be read.
    LoadFailed {
        /// For whom.
        target: NodeId,
    },
    /// The replica has the delta.
    Delivered {
        /// Who.
        target: NodeId,
        /// Which.
        id: HintId,
        /// Whether it had it before.
        known: bool,
        /// How many hints the replica bears under way from here at once; `None` leaves that to
        /// this side.
        credit: Option<u32>,
    },
    /// The replica refused the delta, or the link took no message. The hint is kept.
    Refused {
        /// Who.
        target: NodeId,
        /// Which.
        id: HintId,
    },
    /// Time has passed: [`Handoff::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoffAction {
    /// Read hints from the log, and keep them at hand until they are delivered or refused.
    Load {
        /// For whom.
        target: NodeId,
        /// Behind this one.
        after: Option<HintId>,
        /// At most this many.
        limit: usize,
    },
    /// Send a loaded hint.
    Deliver {
        /// To whom.
        target: NodeId,
        /// Which.
        id: HintId,
    },
    /// Remove hints from the log: the replica has their deltas.
    Remove {
        /// Whose.
        target: NodeId,
        /// Which it took.
        delivered: Vec<HintId>,
        /// Which it had before.
        superseded: Vec<HintId>,
    },
}

/// Delivers hints, to several replicas at once.
///
/// INVARIANT: a hint is removed only after its replica said that it has the delta; a replica is
/// forgotten only after a look behind the last of its hints found none.
#[derive(Clone, Debug)]
pub struct Handoff {
    up: BTreeSet<NodeId>,
    targets: BTreeMap<NodeId, Target>,
    jitter: Jitter,
}

/// A replica that hints are kept for.
#[derive(Clone, Debug)]
struct Target {
    state: State,
    /// Where the last page ended.
    after: Option<HintId>,
    /// Loaded, not sent yet.
    waiting: VecDeque<HintId>,
    /// Sent, and until when an answer is waited for.
    under_way: BTreeMap<HintId, Millis>,
    /// Delivered, and known before; not removed from the log yet.
    delivered: Vec<HintId>,
    superseded: Vec<HintId>,
    /// What the replica takes without refusing: halved by a refusal, and grown by each answer.
    window: usize,
    /// What the replica said that it bears.
    credit: usize,
    /// Pauses since the last hint that was taken.
    pauses: u32,
    /// Whether hints were kept since the last page was asked for.
    more_kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The replica is down, or too many others are being delivered to.
    Waiting,
    /// Loaded hints are sent as the window allows.
    Delivering,
    /// Everything that was loaded is sent; a page was asked for.
    Loading,
    /// Nothing is left to load; answers are under way.
    Draining,
    /// Refused: nothing is sent until then.
    Pausing(Millis),
}

impl Target {
    fn new() -> Self {
        Self {
            state: State::Waiting,
            after: None,
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            delivered: Vec::new(),
            superseded: Vec::new(),
            window: HINT_WINDOW,
            credit: HINT_WINDOW,
            pauses: 0,
            more_kept: true,
        }
    }

    /// Back to the log's start, which still has all that was not delivered.
    fn rewind(&mut self) {
        self.after = None;
        self.waiting.clear();
    }

    fn is_removing(&self, id: HintId) -> bool {
        self.delivered.contains(&id) || self.superseded.contains(&id)
    }

    fn is_active(&self) -> bool {
        matches!(self.state, State::Delivering | State::Loading | State::Draining)
    }
}

impl Handoff {
    /// Nothing to deliver, nobody up. `seed` spreads the pauses.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { up: BTreeSet::new(), targets: BTreeMap::new(), jitter: Jitter::new(seed) }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: HandoffEvent, now: Millis, out: &mut Vec<HandoffAction>) {
        match event {
            HandoffEvent::HintsKept { target } => {
                self.targets.entry(target).or_insert_with(Target::new).more_kept = true;
            }
            HandoffEvent::PeerUp { node } => self.peer_up(node),
            HandoffEvent::PeerDown { node } => self.peer_down(node, out),
            HandoffEvent::PageLoaded { target, after, ids } => {
                self.page_loaded(target, after, &ids);
            }
            HandoffEvent::LoadFailed { target } => {
                let state = self.targets.get(&target).map(|target| target.state);
                if state == Some(State::Loading) {
                    self.pause(target, now, out);
                }
            }
            HandoffEvent::Delivered { target, id, known, credit } => {
                self.delivered(target, id, known, out);
                self.credited(target, credit, now, out);
            }
            HandoffEvent::Refused { target, id } => {
                let sent = self.targets.get_mut(&target);
                if sent.is_some_and(|target| target.under_way.remove(&id).is_some()) {
                    self.pause(target, now, out);
                }
            }
            HandoffEvent::TimePassed => self.time_passed(now, out),
        }
        self.go_on(now, out);
    }

    /// When [`HandoffEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        let pauses = self.targets.values().filter_map(|target| match target.state {
            State::Pausing(until) => Some(until),
            State::Waiting | State::Delivering | State::Loading | State::Draining => None,
        });
        let answers = self.targets.values().flat_map(|target| target.under_way.values().copied());
        pauses.chain(answers).min()
    }

    /// How many hints are under way to a replica.
    #[must_use]
    pub fn under_way(&self, target: NodeId) -> usize {
        self.targets.get(&target).map_or(0, |target| target.under_way.len())
    }

    /// A node that is up again, perhaps in another life, has no reason to be waited for.
    fn peer_up(&mut self, node: NodeId) {
        self.up.insert(node);
        if let Some(target) = self.targets.get_mut(&node) {
            (target.window, target.credit, target.pauses) = (HINT_WINDOW, HINT_WINDOW, 0);
            if matches!(target.state, State::Pausing(_)) {
                target.state = State::Waiting;
            }
        }
    }

    fn peer_down(&mut self, node: NodeId, out: &mut Vec<HandoffAction>) {
        self.up.remove(&node);
        let Some(target) = self.targets.get_mut(&node) else { return };
        remove_delivered(node, target, out);
        target.rewind();
        target.under_way.clear();
        target.state = State::Waiting;
    }

    fn page_loaded(&mut self, node: NodeId, after: Option<HintId>, ids: &[HintId]) {
        let Some(target) = self.targets.get_mut(&node) else { return };
        // A page that was asked for before a pause says nothing of the log's start.
        if target.state != State::Loading || target.after != after {
            return;
        }
        let Some(&last) = ids.last() else {
            target.state = State::Draining;
            return;
        };
        target.state = State::Delivering;
        target.after = Some(last);
        let new = |id: &HintId| !target.under_way.contains_key(id) && !target.is_removing(*id);
        let new: Vec<_> = ids.iter().copied().filter(new).collect();
        target.waiting.extend(new);
    }

    fn delivered(&mut self, node: NodeId, id: HintId, known: bool, out: &mut Vec<HandoffAction>) {
        let Some(target) = self.targets.get_mut(&node) else {
            // An answer to a hint that was delivered twice.
            return out.push(HandoffAction::Remove {
                target: node,
                delivered: Vec::new(),
                superseded: vec![id],
            });
        };
        if target.under_way.remove(&id).is_none() {
            // A late answer, to a hint that was given up and is about to be sent again.
            target.waiting.retain(|waiting| *waiting != id);
        }
        match known {
            true => target.superseded.push(id),
            false => target.delivered.push(id),
        }
        target.window = (target.window + 1).min(HINT_WINDOW);
        let removals = target.delivered.len() + target.superseded.len();
        if removals >= HINT_REMOVALS || target.under_way.is_empty() {
            remove_delivered(node, target, out);
        }
    }

    /// The replica said how much it bears. Nothing at all is a pause, after which one hint finds
    /// out; it is no refusal, so the window stays, and the pause does not grow.
    fn credited(
        &mut self,
        node: NodeId,
        credit: Option<u32>,
        now: Millis,
        out: &mut Vec<HandoffAction>,
    ) {
        let Some(target) = self.targets.get_mut(&node) else { return };
        let credit = credit.map_or(HINT_WINDOW, |credit| {
            usize::try_from(credit).unwrap_or(HINT_WINDOW).min(HINT_WINDOW)
        });
        target.pauses = 0;
        target.credit = credit.max(1);
        if credit == 0 && target.is_active() {
            remove_delivered(node, target, out);
            target.rewind();
            target.state = State::Pausing(now.plus(self.jitter.around(HINT_BACKOFF_MS.0)));
        }
    }

    /// Stops sending for a while. What was not sent, and what was refused, is loaded again.
    fn pause(&mut self, node: NodeId, now: Millis, out: &mut Vec<HandoffAction>) {
        let Some(target) = self.targets.get_mut(&node) else { return };
        remove_delivered(node, target, out);
        target.rewind();
        // The others that are under way may be refused too: that is one pause.
        if !target.is_active() {
            return;
        }
        target.window = (target.window / 2).max(1);
        let (first, longest) = HINT_BACKOFF_MS;
        let pause = first.saturating_mul(1 << target.pauses.min(16)).min(longest);
        target.pauses += 1;
        target.state = State::Pausing(now.plus(self.jitter.around(pause)));
    }

    fn time_passed(&mut self, now: Millis, out: &mut Vec<HandoffAction>) {
        let mut late = Vec::new();
        for (&node, target) in &mut self.targets {
            let before = target.under_way.len();
            target.under_way.retain(|_, until| now < *until);
            if target.under_way.len() < before {
                late.push(node);
            }
            let resumes = !broken(Mutation::HandoffNeverResumes);
            if matches!(target.state, State::Pausing(until) if now >= until && resumes) {
                target.state = State::Waiting;
            }
        }
        for node in late {
            self.pause(node, now, out);
        }
    }

    /// Sends and loads as far as the windows allow.
    fn go_on(&mut self, now: Millis, out: &mut Vec<HandoffAction>) {
        let mut active = self.targets.values().filter(|target| target.is_active()).count();
        let up = &self.up;
        self.targets.retain(|&node, target| {
            match target.state {
                State::Waiting if up.contains(&node) && active < HINT_TARGETS => {
                    active += 1;
                    target.state = State::Delivering;
                }
                State::Draining if target.more_kept => target.state = State::Delivering,
                State::Draining => return !target.under_way.is_empty(),
                _ => {}
            }
            if target.state == State::Delivering {
                deliver(node, target, now, out);
            }
            true
        });
    }
}

fn deliver(node: NodeId, target: &mut Target, now: Millis, out: &mut Vec<HandoffAction>) {
    while target.under_way.len() < target.window.min(target.credit) {
        let Some(id) = target.waiting.pop_front() else {
            target.state = State::Loading;
            target.more_kept = false;
            out.push(HandoffAction::Load { target: node, after: target.after, limit: HINT_PAGE });
            return;
        };
        target.under_way.insert(id, now.plus(HINT_TIMEOUT_MS));
        out.push(HandoffAction::Deliver { target: node, id });
        if broken(Mutation::RemoveBeforeDelivered) {
            let (delivered, superseded) = (vec![id], Vec::new());
            out.push(HandoffAction::Remove { target: node, delivered, superseded });
        }
    }
}

fn remove_delivered(node: NodeId, target: &mut Target, out: &mut Vec<HandoffAction>) {
    let delivered = std::mem::take(&mut target.delivered);
    let superseded = std::mem::take(&mut target.superseded);
    if !delivered.is_empty() || !superseded.is_empty() {
        out.push(HandoffAction::Remove { target: node, delivered, superseded });
    }
}

#[cfg(test)]
mod tests;
