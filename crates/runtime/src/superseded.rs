//! Hints whose replica has the write already, by what its clocks say.
//!
//! A replica that was away pulls what it missed, and often has it before its hints come. What it
//! had at a moment is known whenever it compares clocks with this node or pulls from it. So those
//! clocks are kept while there are hints for it, and the hints are looked through, some at a
//! time: what a clock covers is taken for delivered.
//!
//! A clock counts for the life of the replica in which it was told: a replica that starts again may
//! have less.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_crdt::VnodeClock;
use meridian_store::{HintError, HintId, HintLog};
use meridian_types::{Incarnation, KeyspaceId, NodeId, VnodeId};
use parking_lot::Mutex;

use crate::node::Inner;

/// Most vnodes of one replica whose clocks are kept until the next look: all of a node's. Others
/// are told again by the next comparison.
pub(crate) const MAX_CLOCKS: usize = 4_096;

/// Hints that are looked at in one tick, for one replica.
pub(crate) const HINTS_A_TICK: usize = 1_000;

/// How often they are looked at.
const EVERY_MS: u64 = 1_000;

type Clocks = BTreeMap<(KeyspaceId, VnodeId), Arc<VnodeClock>>;

/// What other nodes were seen to have.
#[derive(Debug, Default)]
pub(crate) struct PeerClocks(Mutex<BTreeMap<NodeId, Known>>);

#[derive(Debug, Default)]
struct Known {
    life: Incarnation,
    told: Clocks,
    look: Option<Look>,
}

/// A walk through the hints for one replica.
#[derive(Clone, Debug, Default)]
struct Look {
    clocks: Arc<Clocks>,
    after: Option<HintId>,
}

impl PeerClocks {
    /// A replica has at least this, in this life.
    pub(crate) fn told(
        &self,
        peer: NodeId,
        life: Incarnation,
        keyspace: KeyspaceId,
        clocks: impl IntoIterator<Item = (VnodeId, Arc<VnodeClock>)>,
    ) {
        let mut known = self.0.lock();
        let known = known.entry(peer).or_default();
        if known.life != life {
            *known = Known { life, ..Known::default() };
        }
        for (vnode, clock) in clocks {
            if known.told.len() < MAX_CLOCKS || known.told.contains_key(&(keyspace, vnode)) {
                known.told.insert((keyspace, vnode), clock);
            }
        }
    }

    /// Looks at some hints for a replica in its present life.
    pub(crate) fn sweep(
        &self,
        peer: NodeId,
        life: Incarnation,
        hints: &dyn HintLog,
    ) -> Result<(), HintError> {
        let Some(Look { clocks, after }) = self.next_look(peer, life) else { return Ok(()) };
        let has = |hint: &meridian_store::Hint| {
            let clock = clocks.get(&(hint.row.keyspace, hint.row.vnode));
            clock.is_some_and(|clock| clock.contains(hint.delta.entry.dot))
        };
        let next = hints.supersede(peer, after, HINTS_A_TICK, &has)?;
        if let Some(known) = self.0.lock().get_mut(&peer).filter(|known| known.life == life) {
            known.look = next.map(|after| Look { clocks, after: Some(after) });
        }
        Ok(())
    }

    fn next_look(&self, peer: NodeId, life: Incarnation) -> Option<Look> {
        let mut known = self.0.lock();
        let known = known.get_mut(&peer).filter(|known| known.life == life)?;
        if known.look.is_none() && !known.told.is_empty() {
            let clocks = Arc::new(std::mem::take(&mut known.told));
            known.look = Some(Look { clocks, after: None });
        }
        known.look.clone()
    }

    /// There are no hints for a replica any more.
    fn forget(&self, keep: impl Fn(NodeId) -> bool) {
        self.0.lock().retain(|peer, _| keep(*peer));
    }
}

impl Inner {
    /// A replica has at least this.
    pub(crate) fn peer_has<C>(&self, peer: NodeId, keyspace: KeyspaceId, clocks: C)
    where
        C: IntoIterator<Item = (VnodeId, Arc<VnodeClock>)>,
    {
        if let Some(life) = self.incarnation_of(peer) {
            self.peer_clocks.told(peer, life, keyspace, clocks);
        }
    }

    /// This node's clocks of some vnodes, while hints wait for a replica.
    pub(crate) fn held_if_hints(
        &self,
        peer: NodeId,
        keyspace: KeyspaceId,
        vnodes: &[VnodeId],
    ) -> Vec<(VnodeId, Arc<VnodeClock>)> {
        if !self.has_hints_for(peer) {
            return Vec::new();
        }
        vnodes.iter().map(|&vnode| (vnode, self.store.clock(keyspace, vnode))).collect()
    }

    /// What a replica has that pulls, if hints wait for it.
    pub(crate) fn puller_has<'a>(
        &self,
        peer: NodeId,
        keyspace: KeyspaceId,
        clocks: impl IntoIterator<Item = (VnodeId, &'a VnodeClock)>,
    ) {
        if self.has_hints_for(peer) {
            let clocks = clocks.into_iter().map(|(vnode, clock)| (vnode, Arc::new(clock.clone())));
            self.peer_has(peer, keyspace, clocks);
        }
    }

    fn has_hints_for(&self, peer: NodeId) -> bool {
        self.hints.counts().contains_key(&peer)
    }
}

/// Looks through hints for as long as the node runs.
pub(crate) async fn sweep(inner: Arc<Inner>) {
    loop {
        inner.host.pause(EVERY_MS).await;
        let waiting = inner.hints.counts();
        inner.peer_clocks.forget(|peer| waiting.contains_key(&peer));
        for peer in waiting.into_keys() {
            let Some(life) = inner.incarnation_of(peer) else { continue };
            if inner.peer_clocks.next_look(peer, life).is_none() {
                continue;
            }
            let swept =
                move |inner: &Arc<Inner>| inner.peer_clocks.sweep(peer, life, &**inner.hints.log());
            if let Ok(Err(error)) = inner.off_thread(swept).await {
                tracing::error!(%error, "hints cannot be looked through");
                inner.note_failure(error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meridian_crdt::{Actor, Context, Delta, Dot, Entry};
    use meridian_store::{Hint, HintLimits, Hints, MemMetadata};
    use meridian_types::{Hlc, Millis, RowKey, TableId};

    use super::*;

    const PEER: NodeId = NodeId(7);
    const LIFE: Incarnation = Incarnation(1);
    const KEYSPACE: KeyspaceId = KeyspaceId(1);

    fn dot(counter: u64) -> Dot {
        Dot::new(Actor { node: NodeId(1), incarnation: Incarnation(9) }, counter)
    }

    fn hint(vnode: u32, counter: u64) -> Hint {
        let (table, key) = (TableId(1), Bytes::from_static(b"k"));
        let entry = Entry { dot: dot(counter), stamp: Hlc(1), expires: None, value: None };
        Hint {
            row: RowKey { keyspace: KEYSPACE, table, vnode: VnodeId(vnode), key },
            delta: Delta { entry, context: Context::default() },
            write_id: None,
            created: Millis(1),
        }
    }

    fn hints(of: impl IntoIterator<Item = Hint>) -> Hints {
        let hints = Hints::in_memory(&MemMetadata::new(), HintLimits::default()).unwrap();
        for hint in of {
            hints.append(PEER, &hint).unwrap();
        }
        hints
    }

    fn clock(upto: u64) -> Arc<VnodeClock> {
        let mut clock = VnodeClock::default();
        (1..=upto).for_each(|counter| {
            clock.insert(dot(counter));
        });
        Arc::new(clock)
    }

    #[test]
    fn what_the_replica_has_is_dropped_and_accounted_for() {
        let log = hints((1..=20).flat_map(|counter| [hint(1, counter), hint(2, counter)]));
        let clocks = PeerClocks::default();
        clocks.told(PEER, LIFE, KEYSPACE, [(VnodeId(1), clock(12))]);
        clocks.sweep(PEER, LIFE, &log).unwrap();
        let counted = log.counters();
        assert_eq!((counted.stored, counted.superseded), (40, 12));
        assert_eq!(log.counts()[&PEER], 28);
        // Delivered at the same time: it was counted once.
        log.remove(PEER, &[HintId(1)], meridian_store::Fulfilment::Delivered).unwrap();
        assert_eq!(log.counters().delivered, 0);
    }

    #[test]
    fn a_tick_looks_at_so_many_and_the_next_goes_on() {
        let many = 2 * HINTS_A_TICK as u64 + 10;
        let log = hints((1..=many).map(|counter| hint(1, counter)));
        let clocks = PeerClocks::default();
        clocks.told(PEER, LIFE, KEYSPACE, [(VnodeId(1), clock(many))]);
        for left in [HINTS_A_TICK as u64 + 10, 10, 0, 0] {
            clocks.sweep(PEER, LIFE, &log).unwrap();
            assert_eq!(log.counts().get(&PEER).copied().unwrap_or(0), left);
        }
        // The walk is at its end: what comes later needs another clock.
        log.append(PEER, &hint(1, 1)).unwrap();
        clocks.sweep(PEER, LIFE, &log).unwrap();
        assert_eq!(log.counts()[&PEER], 1);
    }

    #[test]
    fn a_clock_of_another_life_proves_nothing() {
        let log = hints([hint(1, 1)]);
        let clocks = PeerClocks::default();
        clocks.told(PEER, LIFE, KEYSPACE, [(VnodeId(1), clock(1))]);
        clocks.sweep(PEER, Incarnation(2), &log).unwrap();
        assert_eq!(log.counts()[&PEER], 1);
        clocks.told(PEER, Incarnation(2), KEYSPACE, [(VnodeId(2), clock(1))]);
        clocks.sweep(PEER, Incarnation(2), &log).unwrap();
        assert_eq!(log.counts()[&PEER], 1, "what it said before is forgotten");
        clocks.told(PEER, Incarnation(2), KEYSPACE, [(VnodeId(1), clock(1))]);
        for _ in 0..2 {
            clocks.sweep(PEER, Incarnation(2), &log).unwrap();
        }
        assert!(log.counts().is_empty());
    }
}
