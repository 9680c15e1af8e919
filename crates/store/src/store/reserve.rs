//! Dots for writes that somebody keeps until they are done (rule 14): see [`crate::reservations`].

use meridian_crdt::{Context, Delta, Dot};
use meridian_lsm::WriteBatch;
use meridian_types::{KeptAs, NodeId, WriteId};

use super::*;
use crate::reservations::{Kept, MAX_RESERVED, Reservation};

/// A dot that this replica gave out and has not seen used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedDot {
    /// The vnode's keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// The dot, of this store's actor.
    pub dot: Dot,
    /// Who asked for it, and keeps the write that it is for.
    pub keeper: NodeId,
    /// Where the keeper has it.
    pub kept_as: KeptAs,
    /// Who may have come to keep it besides.
    pub holders: Vec<NodeId>,
}

/// A write that needs a dot before its delta exists.
#[derive(Clone, Debug)]
pub struct Reserving<'a> {
    /// The row.
    pub row: &'a RowKey,
    /// The write's name.
    pub write_id: WriteId,
    /// Who keeps it.
    pub keeper: NodeId,
    /// Where the keeper has it.
    pub kept_as: KeptAs,
    /// Who may come to keep it besides.
    pub holders: Vec<NodeId>,
    /// Whether it replaces what this replica has of the row now.
    pub over_what_is_here: bool,
}

/// What became of a [`Reserving`].
#[derive(Clone, Debug)]
pub enum Reserved {
    /// A dot is given out. The vnode's clock has a gap from now on, until the delta comes or the dot
    /// is given up.
    Dot {
        /// The dot.
        dot: Dot,
        /// What the write replaces, where that was asked for.
        context: Context,
        /// The lowest stamp that the write may have: those below were promised away (rule 12).
        not_below: Hlc,
    },
    /// The write is here already, under a dot of its own.
    Written {
        /// The change.
        delta: Delta,
        /// What to wait for before anybody is told.
        commit: Commit,
    },
}

impl Store {
    /// Gives a dot out for a write that somebody keeps. Asked again for the same write it gives the
    /// same dot, as long as this life knows and the keeper was not asked about it
    /// ([`Self::unused_reservations`]).
    ///
    /// # Errors
    /// [`StoreError::TooManyReserved`]: ask another replica, or later. Nothing was reserved.
    pub fn reserve(&self, asked: Reserving<'_>, now: Millis) -> Result<Reserved, StoreError> {
        let inner = &*self.inner;
        let Reserving { row, write_id, keeper, kept_as, holders, over_what_is_here } = asked;
        let place = inner.locate(row)?;
        let vnode = place.table.vnodes.lock(place.vnode);
        inner.check_open()?;
        if let Some(delta) = inner.write_ids.find(write_id, row.table, place.token, now) {
            inner.counters.retries.add();
            return Ok(Reserved::Written { delta: Delta::clone(&delta), commit: vnode.commit() });
        }
        let over = if over_what_is_here { WriteContext::WhatIsHere } else { WriteContext::None };
        let (context, _) = inner.context_of(&place, &vnode, over)?;
        let not_below = inner.above_promises(&place, &vnode);
        let kept = Kept { keeper, kept_as, table: row.table, token: place.token };
        if let Some(counter) = inner.reservations.find(kept) {
            let dot = Dot::new(inner.actor, counter);
            return Ok(Reserved::Dot { dot, context, not_below });
        }
        let dot = inner.next_dot(&vnode, vnode.clock())?;
        let at = (row.keyspace, row.vnode, dot.counter);
        match inner.reservations.insert(at, Reservation { kept, holders, since: now }) {
            true => Ok(Reserved::Dot { dot, context, not_below }),
            false => Err(StoreError::TooManyReserved { limit: MAX_RESERVED }),
        }
    }

    /// For each of these dots, whether this store's disk has it: what is in memory only is synced
    /// first.
    ///
    /// # Errors
    /// The disk refuses; the node must stop.
    pub fn holds(&self, dots: &[(KeyspaceId, VnodeId, Dot)]) -> Result<Vec<bool>, StoreError> {
        let inner = &*self.inner;
        let durable = inner.db.durable_seqno();
        let mut to_sync = false;
        let held = dots.iter().map(|(keyspace, id, dot)| {
            let Ok(vnodes) = inner.vnodes(*keyspace) else { return false };
            if vnodes.check(*id).is_err() {
                return false;
            }
            let vnode = vnodes.lock(*id);
            let held = vnode.clock().contains(*dot);
            to_sync |= held && vnode.commit().seqno() > durable;
            held
        });
        let held = held.collect();
        if to_sync {
            self.sync()?;
        }
        Ok(held)
    }

    /// Dots that were given out `age_ms` ago or longer and whose deltas have not come, at most
    /// `limit` of them behind `after`: their keepers are to be asked. They are not given out again,
    /// because an answer that is on its way may be about another write.
    #[must_use]
    pub fn unused_reservations(
        &self,
        after: Option<&ReservedDot>,
        limit: usize,
        age_ms: u64,
        now: Millis,
    ) -> Vec<ReservedDot> {
        let inner = &*self.inner;
        let after = after.map(|last| (last.keyspace, last.vnode, last.dot.counter));
        let asked = inner.reservations.ask(after, limit, age_ms, now);
        let unused = asked.into_iter().filter_map(|(place, reservation)| {
            let (keyspace, vnode, counter) = place;
            let Reservation { kept, holders, since: _ } = reservation;
            let dot = Dot::new(inner.actor, counter);
            // A delta of it may have come through a pull.
            if self.clock(keyspace, vnode).contains(dot) {
                inner.reservations.remove(place);
                return None;
            }
            let Kept { keeper, kept_as, .. } = kept;
            Some(ReservedDot { keyspace, vnode, dot, keeper, kept_as, holders })
        });
        unused.collect()
    }

    /// Counts a reserved dot as seen: its keeper has given it up, so no delta will ever have it.
    /// A dot of another life is left alone.
    ///
    /// # Errors
    /// Nothing was changed, but for an error of the storage engine that says otherwise.
    pub fn give_up_reserved(&self, reserved: &ReservedDot) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let ReservedDot { keyspace, vnode: id, dot, .. } = *reserved;
        if dot.actor != inner.actor {
            return Ok(());
        }
        let vnodes = inner.vnodes(keyspace)?;
        vnodes.check(id)?;
        let mut vnode = vnodes.lock(id);
        inner.check_open()?;
        inner.reservations.remove((keyspace, id, dot.counter));
        if vnode.clock().contains(dot) {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        inner.add_dots(&mut batch, keyspace, id, &[dot].into_iter().collect());
        inner.write_in(&mut vnode, batch, Carried::default())?;
        vnode.clock_stored(false);
        vnode.insert(dot);
        Ok(())
    }
}
