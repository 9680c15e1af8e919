//! Vnodes that are to be pulled, and those that are.

use std::collections::{BTreeSet, VecDeque};

use meridian_types::{KeyspaceId, NodeId, VnodeId};

use crate::limits::{PULL_BATCH, QUEUED_PULLS};

/// What is pulled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// Hints were given up.
    Dirty,
    /// The peer was out of reach.
    Returned,
    /// It differed twice.
    Lasting,
}

impl Priority {
    const COUNT: usize = 3;
}

type Wanted = (NodeId, KeyspaceId, VnodeId);

/// See the module.
///
/// INVARIANT: no vnode is claimed twice, so none is pulled from two peers at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulls {
    queues: [VecDeque<Wanted>; Priority::COUNT],
    /// What is in a queue or being pulled.
    claimed: BTreeSet<(KeyspaceId, VnodeId)>,
    pulling: BTreeSet<(KeyspaceId, VnodeId)>,
    /// Sessions that run.
    sessions: usize,
}

impl Pulls {
    /// Wants a vnode, unless somebody is to bring it already, or there is no room: then a later
    /// comparison finds it again.
    pub(super) fn want(&mut self, priority: Priority, wanted: Wanted) {
        let (_, keyspace, vnode) = wanted;
        if self.queued() < QUEUED_PULLS && self.claimed.insert((keyspace, vnode)) {
            self.queues[priority as usize].push_back(wanted);
        }
    }

    /// Gives up what waits and is not kept; what is being pulled ends by itself.
    pub(super) fn retain(&mut self, keep: impl Fn(NodeId, KeyspaceId) -> bool) {
        let Self { queues, claimed, .. } = self;
        for queue in queues {
            queue.retain(|&(peer, keyspace, vnode)| {
                keep(peer, keyspace) || !claimed.remove(&(keyspace, vnode))
            });
        }
    }

    /// What one session should bring next: of one peer and keyspace, and of one priority.
    pub(super) fn next(&mut self) -> Option<(NodeId, KeyspaceId, Vec<VnodeId>)> {
        let queue = self.queues.iter_mut().find(|queue| !queue.is_empty())?;
        let &(peer, keyspace, _) = queue.front()?;
        let mut vnodes = Vec::new();
        queue.retain(|&(other, ks, vnode)| {
            let goes = (other, ks) == (peer, keyspace) && vnodes.len() < PULL_BATCH;
            if goes {
                vnodes.push(vnode);
            }
            !goes
        });
        self.pulling.extend(vnodes.iter().map(|vnode| (keyspace, *vnode)));
        self.sessions += 1;
        Some((peer, keyspace, vnodes))
    }

    /// A session is over.
    pub(super) fn ended(&mut self, keyspace: KeyspaceId, vnodes: &[VnodeId]) {
        self.sessions = self.sessions.saturating_sub(1);
        for vnode in vnodes {
            self.pulling.remove(&(keyspace, *vnode));
            self.claimed.remove(&(keyspace, *vnode));
        }
    }

    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }

    pub(super) fn pulling(&self) -> usize {
        self.pulling.len()
    }

    pub(super) fn queued(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.claimed.is_empty() && self.queued() == 0 && self.pulling.is_empty()
    }
}
