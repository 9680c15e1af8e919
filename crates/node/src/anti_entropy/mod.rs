//! Paces anti-entropy: compares clocks with one peer after the other, and pulls what differs.
//!
//! Every keyspace is compared with every peer that shares vnodes of it, once an interval, one
//! comparison after the other and not all at once. Each node pulls what it lacks itself, so both
//! directions happen because both nodes do this.
//!
//! Under load the clocks of two replicas differ at every moment by the writes that are under way.
//! So a vnode is pulled when it differed in two comparisons in a row; at once where the peer was
//! out of reach before, or gave up hints for this node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meridian_types::{KeyspaceId, Millis, Mutation, NodeId, VnodeId, broken};

use crate::jitter::Jitter;
use crate::limits::{
    COMPARE_GAP_MS, COMPARE_INTERVAL_MS, COMPARE_TIMEOUT_MS, PULLS_AT_ONCE, QUEUED_PULLS,
};

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AntiEntropyOptions {
    /// How often each keyspace is compared with each peer, in milliseconds.
    pub interval_ms: u64,
    /// Pull sessions at once.
    pub pulls_at_once: usize,
    /// Spreads the timers of nodes that start together.
    pub seed: u64,
}

impl AntiEntropyOptions {
    /// Every five seconds, four sessions at once.
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
        /// The vnodes, by number.
        differing: Vec<VnodeId>,
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
        /// The vnode.
        vnode: VnodeId,
    },
    /// Time has passed: [`AntiEntropy::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        /// Which vnode.
        vnode: VnodeId,
    },
}

/// Decides what is compared and pulled, and when.
///
/// INVARIANT: no vnode is pulled from two peers at once, and no more sessions run than are allowed.
#[derive(Clone, Debug)]
pub struct AntiEntropy {
    options: AntiEntropyOptions,
    up: BTreeSet<NodeId>,
    shares: Vec<Share>,
    /// Where the round is: the share that is looked at next.
    turn: usize,
    next_compare: Millis,
    queue: VecDeque<(NodeId, KeyspaceId, VnodeId)>,
    /// What is in the queue or being pulled.
    claimed: BTreeSet<(KeyspaceId, VnodeId)>,
    pulling: BTreeSet<(KeyspaceId, VnodeId)>,
    jitter: Jitter,
}

/// A peer and a keyspace that this node has vnodes of in common.
#[derive(Clone, Debug)]
struct Share {
    peer: NodeId,
    keyspace: KeyspaceId,
    /// Since when an answer is waited for.
    asked: Option<Millis>,
    /// The peer was out of reach: compared at the next turn, and every difference counts.
    returned: bool,
    /// Hints for the peer were given up, and it was not told yet.
    gaps: bool,
    /// The comparison that is under way tells it.
    telling: bool,
    /// What differed at the last comparison, by number.
    differed: Vec<VnodeId>,
}

impl Share {
    /// Whether it is compared before those that are in no hurry.
    fn is_urgent(&self) -> bool {
        self.returned || self.gaps
    }
}

impl AntiEntropy {
    /// Nothing shared yet, nobody up.
    #[must_use]
    pub fn new(options: AntiEntropyOptions, now: Millis) -> Self {
        Self {
            options,
            up: BTreeSet::new(),
            shares: Vec::new(),
            turn: 0,
            next_compare: now,
            queue: VecDeque::new(),
            claimed: BTreeSet::new(),
            pulling: BTreeSet::new(),
            jitter: Jitter::new(options.seed),
        }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: AntiEntropyEvent, now: Millis, out: &mut Vec<AntiEntropyAction>) {
        match event {
            AntiEntropyEvent::SharesChanged { shares } => self.shares_changed(shares),
            AntiEntropyEvent::PeerUp { node } => self.peer_up(node, now),
            AntiEntropyEvent::PeerDown { node } => self.peer_down(node),
            AntiEntropyEvent::Compared { peer, keyspace, differing } => {
                self.compared(peer, keyspace, differing);
            }
            AntiEntropyEvent::CompareFailed { peer, keyspace } => {
                if let Some(share) = self.share(peer, keyspace) {
                    share.asked = None;
                }
            }
            AntiEntropyEvent::HintsGivenUp { peer, keyspace } => {
                let concerned = |share: &&mut Share| {
                    share.peer == peer && keyspace.is_none_or(|keyspace| share.keyspace == keyspace)
                };
                self.shares.iter_mut().filter(concerned).for_each(|share| share.gaps = true);
                self.compare_soon(now);
            }
            AntiEntropyEvent::ToldOfGaps { peer, keyspace } => {
                if let Some(share) = self.share(peer, keyspace) {
                    share.returned = true;
                    self.compare_soon(now);
                }
            }
            AntiEntropyEvent::PullEnded { keyspace, vnode } => {
                self.pulling.remove(&(keyspace, vnode));
                self.claimed.remove(&(keyspace, vnode));
            }
            AntiEntropyEvent::TimePassed => {}
        }
        self.compare(now, out);
        self.pull(out);
    }

    /// When [`AntiEntropyEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        self.shares.iter().any(|share| self.up.contains(&share.peer)).then_some(self.next_compare)
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
        (self.pulling.len(), self.queue.len())
    }

    fn share(&mut self, peer: NodeId, keyspace: KeyspaceId) -> Option<&mut Share> {
        self.shares.iter_mut().find(|share| share.peer == peer && share.keyspace == keyspace)
    }

    /// What is known of the shares that stay is kept.
    fn shares_changed(&mut self, shares: Vec<(NodeId, KeyspaceId)>) {
        let mut before: BTreeMap<_, _> =
            self.shares.drain(..).map(|share| ((share.peer, share.keyspace), share)).collect();
        let shares: BTreeSet<_> = shares.into_iter().collect();
        self.queue.retain(|&(peer, keyspace, vnode)| {
            shares.contains(&(peer, keyspace)) || !self.claimed.remove(&(keyspace, vnode))
        });
        let new = |(peer, keyspace)| Share {
            peer,
            keyspace,
            asked: None,
            returned: true,
            gaps: false,
            telling: false,
            differed: Vec::new(),
        };
        self.shares =
            shares.into_iter().map(|at| before.remove(&at).unwrap_or_else(|| new(at))).collect();
    }

    fn peer_up(&mut self, node: NodeId, now: Millis) {
        self.up.insert(node);
        for share in self.shares.iter_mut().filter(|share| share.peer == node) {
            share.returned = true;
            share.asked = None;
        }
        self.compare_soon(now);
    }

    /// A little later: nodes that see a network partition heal see it at the same moment.
    fn compare_soon(&mut self, now: Millis) {
        let soon = now.plus(self.jitter.around(COMPARE_GAP_MS));
        self.next_compare = self.next_compare.min(soon);
    }

    fn peer_down(&mut self, node: NodeId) {
        self.up.remove(&node);
        for share in self.shares.iter_mut().filter(|share| share.peer == node) {
            share.asked = None;
        }
        // Others may have the same; those that are being pulled end by themselves.
        self.queue.retain(|&(peer, keyspace, vnode)| {
            peer != node || !self.claimed.remove(&(keyspace, vnode))
        });
    }

    fn compared(&mut self, peer: NodeId, keyspace: KeyspaceId, differing: Vec<VnodeId>) {
        let Some(share) = self.share(peer, keyspace) else { return };
        if share.asked.take().is_some() {
            share.gaps &= !std::mem::take(&mut share.telling);
        }
        let before = std::mem::replace(&mut share.differed, differing.clone());
        let returned = std::mem::replace(&mut share.returned, false);
        for vnode in differing {
            let lasting = returned || before.binary_search(&vnode).is_ok();
            let room = self.queue.len() < QUEUED_PULLS && !broken(Mutation::NoPull);
            if lasting && room && self.claimed.insert((keyspace, vnode)) {
                self.queue.push_back((peer, keyspace, vnode));
            }
        }
    }

    /// One comparison, if it is time for one.
    fn compare(&mut self, now: Millis, out: &mut Vec<AntiEntropyAction>) {
        if now < self.next_compare {
            return;
        }
        let ready = |share: &Share| {
            let waiting = share.asked.is_some_and(|asked| now.since(asked) < COMPARE_TIMEOUT_MS);
            self.up.contains(&share.peer) && !waiting
        };
        let count = self.shares.len();
        let round = (self.turn..count).chain(0..self.turn.min(count));
        let mut ready = round.filter(|&at| ready(&self.shares[at])).peekable();
        let first = ready.peek().copied();
        let urgent = ready.find(|&at| self.shares[at].is_urgent());
        let reachable = self.shares.iter().filter(|share| self.up.contains(&share.peer)).count();
        let Some(at) = urgent.or(first) else {
            self.next_compare = now.plus(self.jitter.around(self.options.interval_ms));
            return;
        };
        self.turn = at + 1;
        let share = &mut self.shares[at];
        share.asked = Some(now);
        share.telling = share.gaps;
        let Share { peer, keyspace, gaps, .. } = *share;
        out.push(AntiEntropyAction::Compare { peer, keyspace, gaps });
        let reachable = u64::try_from(reachable.max(1)).unwrap_or(u64::MAX);
        let in_a_hurry = |share: &Share| {
            share.is_urgent() && share.asked.is_none() && self.up.contains(&share.peer)
        };
        let gap = if self.shares.iter().any(in_a_hurry) {
            COMPARE_GAP_MS
        } else {
            (self.options.interval_ms / reachable).max(COMPARE_GAP_MS)
        };
        self.next_compare = now.plus(self.jitter.around(gap));
    }

    fn pull(&mut self, out: &mut Vec<AntiEntropyAction>) {
        while self.pulling.len() < self.options.pulls_at_once {
            let Some((peer, keyspace, vnode)) = self.queue.pop_front() else { break };
            self.pulling.insert((keyspace, vnode));
            out.push(AntiEntropyAction::Pull { peer, keyspace, vnode });
        }
    }
}

#[cfg(test)]
mod tests;
