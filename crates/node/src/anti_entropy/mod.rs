//! Paces anti-entropy: compares clocks with one peer after the other, and pulls what differs.
//!
//! Every keyspace is compared with every peer that shares vnodes of it, once an interval, and less
//! often while nothing differs and nothing is written. One comparison serves both nodes: who was
//! asked waits as long as who has asked. Whoever compared pulls what differs, and the request says
//! what it has, so that its peer pulls in turn what it lacks itself.
//!
//! Under load the clocks of two replicas differ at every moment by the writes that are under way.
//! So a vnode is pulled when it differed in two comparisons in a row; at once where the peer was
//! out of reach before, or gave up hints for this node.

mod pulls;
mod share;

use std::collections::{BTreeMap, BTreeSet};

use meridian_types::{KeyspaceId, Millis, Mutation, NodeId, VnodeId, broken};

use crate::jitter::Jitter;
use crate::limits::{
    COMPARE_GAP_MS, COMPARE_INTERVAL_MS, COMPARE_SECOND_MS, COMPARE_TIMEOUT_MS, IDLE_STRETCH,
    PULLS_AT_ONCE,
};

use pulls::{Priority, Pulls};
use share::Share;

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AntiEntropyOptions {
    /// How often each keyspace is compared with each peer, in milliseconds; while nothing differs
    /// and nothing is written, up to [`IDLE_STRETCH`] times as long.
    pub interval_ms: u64,
    /// Pull sessions at once.
    pub pulls_at_once: usize,
    /// Spreads the timers of nodes that start together.
    pub seed: u64,
}

impl AntiEntropyOptions {
    /// Every three seconds, four sessions at once.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { interval_ms: COMPARE_INTERVAL_MS, pulls_at_once: PULLS_AT_ONCE, seed }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AntiEntropyEvent {
    /// The peers that share vnodes of a keyspace with this node, for all keyspaces: at start, and
    /// after every change of keyspaces or layouts.
    SharesChanged {
        /// Each pair once.
        shares: Vec<(NodeId, KeyspaceId)>,
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
    /// A comparison ended; vnodes that differ, none where the clocks are equal.
    Compared {
        /// With whom.
        peer: NodeId,
        /// Of what.
        keyspace: KeyspaceId,
        /// Of this node's clocks of all vnodes that both share.
        digest: u128,
        /// The vnodes, by number.
        differing: Vec<VnodeId>,
    },
    /// A peer compared, and was answered.
    Asked {
        /// Who.
        peer: NodeId,
        /// Of what.
        keyspace: KeyspaceId,
        /// Of this node's clocks of all vnodes that both share.
        digest: u128,
        /// Whether nothing differs.
        same: bool,
    },
    /// A peer that pulls has what this node lacks.
    Behind {
        /// Who.
        peer: NodeId,
        /// Of what.
        keyspace: KeyspaceId,
        /// The vnodes.
        vnodes: Vec<VnodeId>,
    },
    /// A comparison broke off: refused, or the link took no message.
    CompareFailed {
        /// With whom.
        peer: NodeId,
        /// Of what.
        keyspace: KeyspaceId,
    },
    /// This node gave up hints for a replica, which therefore lacks writes until it pulls them:
    /// the next comparison comes soon, and says so.
    HintsGivenUp {
        /// The replica.
        peer: NodeId,
        /// Of what; `None` is any keyspace.
        keyspace: Option<KeyspaceId>,
    },
    /// A peer says in its comparison that it gave up hints for this node.
    ToldOfGaps {
        /// Who.
        peer: NodeId,
        /// Of what.
        keyspace: KeyspaceId,
    },
    /// A pull session is over, however it ended: what it did not bring still differs at the next
    /// comparison.
    PullEnded {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnodes of [`AntiEntropyAction::Pull`].
        vnodes: Vec<VnodeId>,
    },
    /// Time has passed: [`AntiEntropy::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AntiEntropyAction {
    /// Compare the clocks of all shared vnodes.
    Compare {
        /// With whom.
        peer: NodeId,
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// Whether to say that this node gave up hints for the peer.
        gaps: bool,
    },
    /// Run a pull session; then [`AntiEntropyEvent::PullEnded`].
    Pull {
        /// From whom.
        peer: NodeId,
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// Which vnodes: [`crate::limits::PULL_BATCH`] at most.
        vnodes: Vec<VnodeId>,
    },
}

/// Decides what is compared and pulled, and when.
///
/// INVARIANT: no vnode is pulled from two peers at once, and no more sessions run than are allowed.
#[derive(Clone, Debug)]
pub struct AntiEntropy {
    me: NodeId,
    options: AntiEntropyOptions,
    up: BTreeSet<NodeId>,
    shares: Vec<Share>,
    /// The earliest time of the next comparison, whatever is due.
    gap_until: Millis,
    pulls: Pulls,
    jitter: Jitter,
}

impl AntiEntropy {
    /// Nothing shared yet, nobody up.
    #[must_use]
    pub fn new(me: NodeId, options: AntiEntropyOptions, now: Millis) -> Self {
        Self {
            me,
            options,
            up: BTreeSet::new(),
            shares: Vec::new(),
            gap_until: now,
            pulls: Pulls::default(),
            jitter: Jitter::new(options.seed),
        }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: AntiEntropyEvent, now: Millis, out: &mut Vec<AntiEntropyAction>) {
        match event {
            AntiEntropyEvent::SharesChanged { shares } => self.shares_changed(shares, now),
            AntiEntropyEvent::PeerUp { node } => self.peer_up(node, now),
            AntiEntropyEvent::PeerDown { node } => self.peer_down(node),
            AntiEntropyEvent::Compared { peer, keyspace, digest, differing } => {
                self.compared(peer, keyspace, digest, differing, now);
            }
            AntiEntropyEvent::CompareFailed { peer, keyspace } => {
                let due = now.plus(self.jitter.around(self.options.interval_ms));
                if let Some(share) = self.share(peer, keyspace) {
                    (share.asked, share.due) = (false, due);
                }
            }
            AntiEntropyEvent::Asked { peer, keyspace, digest, same } => {
                self.asked(peer, keyspace, digest, same, now);
            }
            AntiEntropyEvent::Behind { peer, keyspace, vnodes } => {
                self.behind(peer, keyspace, vnodes);
            }
            AntiEntropyEvent::HintsGivenUp { peer, keyspace } => {
                self.hints_given_up(peer, keyspace, now);
            }
            AntiEntropyEvent::ToldOfGaps { peer, keyspace } => {
                let soon = self.soon(now);
                if let Some(share) = self.share(peer, keyspace) {
                    share.dirty = true;
                    share.hurry(soon);
                }
            }
            AntiEntropyEvent::PullEnded { keyspace, vnodes } => self.pulls.ended(keyspace, &vnodes),
            AntiEntropyEvent::TimePassed => {}
        }
        self.compare(now, out);
        self.pull(out);
    }

    /// When [`AntiEntropyEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        let up = self.shares.iter().filter(|share| self.up.contains(&share.peer));
        Some(up.map(|share| share.due).min()?.max(self.gap_until))
    }

    /// How many vnodes differed from a peer's at the last comparison, over all keyspaces.
    #[must_use]
    pub fn differing(&self, peer: NodeId) -> usize {
        let shares = self.shares.iter().filter(|share| share.peer == peer);
        shares.map(|share| share.differed.len()).sum()
    }

    /// How many vnodes are being pulled, and how many wait for it.
    #[must_use]
    pub fn pulls(&self) -> (usize, usize) {
        (self.pulls.pulling(), self.pulls.queued())
    }

    fn share(&mut self, peer: NodeId, keyspace: KeyspaceId) -> Option<&mut Share> {
        self.shares.iter_mut().find(|share| share.peer == peer && share.keyspace == keyspace)
    }

    /// What is known of the shares that stay is kept.
    fn shares_changed(&mut self, shares: Vec<(NodeId, KeyspaceId)>, now: Millis) {
        let mut before: BTreeMap<_, _> =
            self.shares.drain(..).map(|share| ((share.peer, share.keyspace), share)).collect();
        let shares: BTreeSet<_> = shares.into_iter().collect();
        self.pulls.retain(|peer, keyspace| shares.contains(&(peer, keyspace)));
        for (peer, keyspace) in shares {
            let share = before.remove(&(peer, keyspace)).unwrap_or_else(|| {
                Share::new(peer, keyspace, self.first_turn(peer, now), self.options.interval_ms)
            });
            self.shares.push(share);
        }
    }

    fn peer_up(&mut self, node: NodeId, now: Millis) {
        self.up.insert(node);
        for at in 0..self.shares.len() {
            if self.shares[at].peer == node {
                let due = self.first_turn(node, now);
                let share = &mut self.shares[at];
                (share.asked, share.returned, share.due) = (false, true, due);
            }
        }
    }

    /// Both nodes see a link come up at the same time: one of them begins, and the other has no need
    /// to, unless it hears nothing.
    fn first_turn(&mut self, peer: NodeId, now: Millis) -> Millis {
        let begins = (self.me < peer) == (self.me.0 ^ peer.0).is_multiple_of(2);
        now.plus(self.jitter.around(if begins { COMPARE_GAP_MS } else { COMPARE_SECOND_MS }))
    }

    /// A little later: nodes that see a network partition heal see it at the same moment.
    fn soon(&mut self, now: Millis) -> Millis {
        now.plus(self.jitter.around(COMPARE_GAP_MS))
    }

    fn peer_down(&mut self, node: NodeId) {
        self.up.remove(&node);
        for share in self.shares.iter_mut().filter(|share| share.peer == node) {
            share.asked = false;
        }
        // Others may have the same; those that are being pulled end by themselves.
        self.pulls.retain(|peer, _| peer != node);
    }

    fn hints_given_up(&mut self, peer: NodeId, keyspace: Option<KeyspaceId>, now: Millis) {
        let soon = self.soon(now);
        let concerned = |share: &&mut Share| {
            share.peer == peer && keyspace.is_none_or(|keyspace| share.keyspace == keyspace)
        };
        for share in self.shares.iter_mut().filter(concerned) {
            share.gaps = true;
            share.hurry(soon);
        }
    }

    fn compared(
        &mut self,
        peer: NodeId,
        keyspace: KeyspaceId,
        digest: u128,
        differing: Vec<VnodeId>,
        now: Millis,
    ) {
        let (busy_ms, soon) = (self.options.interval_ms, self.soon(now));
        let Some(share) = self.share(peer, keyspace) else { return };
        if std::mem::take(&mut share.asked) {
            share.gaps &= !std::mem::take(&mut share.telling);
        }
        if differing.is_empty() {
            share.found_same(digest, busy_ms.saturating_mul(IDLE_STRETCH), busy_ms);
        } else {
            share.found_different(busy_ms);
        }
        let (before, at_once) = (std::mem::take(&mut share.differed), share.priority());
        (share.differed, share.theirs) = (differing.clone(), false);
        share.settle();
        let (has_gaps, pause) = (share.gaps, share.pause_ms);
        let due = if has_gaps { soon } else { now.plus(self.jitter.around(pause)) };
        if let Some(share) = self.share(peer, keyspace) {
            share.due = due;
        }
        for vnode in differing {
            let lasting = before.binary_search(&vnode).is_ok().then_some(Priority::Lasting);
            if let Some(priority) = at_once.or(lasting).filter(|_| !broken(Mutation::NoPull)) {
                self.pulls.want(priority, (peer, keyspace, vnode));
            }
        }
    }

    /// The peer's comparison is as good as an own one, unless this node has something to say.
    fn asked(&mut self, peer: NodeId, keyspace: KeyspaceId, digest: u128, same: bool, now: Millis) {
        let busy_ms = self.options.interval_ms;
        let Some(share) = self.share(peer, keyspace) else { return };
        if same {
            share.found_same(digest, busy_ms.saturating_mul(IDLE_STRETCH), busy_ms);
        } else {
            share.found_different(busy_ms);
            share.theirs = true;
        }
        if share.asked || share.gaps || share.dirty {
            return;
        }
        let pause = share.pause_ms;
        let due = now.plus(self.jitter.around(pause));
        if let Some(share) = self.share(peer, keyspace) {
            share.due = due;
        }
    }

    /// Counts only after the peer's comparison, not after an own one: two nodes that take writes all
    /// the time would otherwise find each other behind for ever.
    fn behind(&mut self, peer: NodeId, keyspace: KeyspaceId, vnodes: Vec<VnodeId>) {
        let Some(share) = self.share(peer, keyspace).filter(|share| share.theirs) else { return };
        let priority = share.priority().unwrap_or(Priority::Lasting);
        for vnode in vnodes {
            if !broken(Mutation::NoPull) {
                self.pulls.want(priority, (peer, keyspace, vnode));
            }
        }
    }

    /// One comparison, if it is time for one.
    fn compare(&mut self, now: Millis, out: &mut Vec<AntiEntropyAction>) {
        if now < self.gap_until {
            return;
        }
        let is_due = |share: &&mut Share| share.due <= now && self.up.contains(&share.peer);
        let due = self.shares.iter_mut().filter(is_due);
        let Some(share) = due.min_by_key(|share| (!share.is_urgent(), share.due)) else { return };
        share.asked = true;
        share.telling = share.gaps;
        share.due = now.plus(COMPARE_TIMEOUT_MS);
        let Share { peer, keyspace, gaps, .. } = *share;
        out.push(AntiEntropyAction::Compare { peer, keyspace, gaps });
        self.gap_until = self.soon(now);
    }

    fn pull(&mut self, out: &mut Vec<AntiEntropyAction>) {
        while self.pulls.sessions() < self.options.pulls_at_once {
            let Some((peer, keyspace, vnodes)) = self.pulls.next() else { break };
            out.push(AntiEntropyAction::Pull { peer, keyspace, vnodes });
        }
    }
}

#[cfg(test)]
mod tests;
