//! Dots for writes that somebody keeps until they are done (rule 14): see [`crate::reservations`].

use meridian_crdt::Dot;
use meridian_lsm::WriteBatch;
use meridian_types::{NodeId, WriteId};

use super::*;
use crate::hints::HintId;
use crate::reservations::{Kept, MAX_RESERVED, Reservation};

/// A dot that this replica gave out and has not seen used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedDot {
    /// The vnode's keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// The dot, of this store's actor.
    pub dot: Dot,
    /// Who keeps the write that it is for.
    pub keeper: NodeId,
    /// The write.
    pub write_id: WriteId,
    /// Where the keeper has it.
    pub number: HintId,
}

impl Store {
    /// Gives a dot out for a write that `keeper` keeps under `number`. Asked again for the same
    /// write it gives the same dot, as long as this life knows and the keeper was not asked about
    /// it ([`Self::unused_reservations`]).
    ///
    /// The vnode's clock has a gap from now on, until the delta comes or the dot is given up.
    ///
    /// # Errors
    /// [`StoreError::TooManyReserved`]: ask another replica, or later. Nothing was reserved.
    pub fn reserve(
        &self,
        row: &RowKey,
        keeper: NodeId,
        write_id: WriteId,
        number: HintId,
        now: Millis,
    ) -> Result<Dot, StoreError> {
        let inner = &*self.inner;
        let place = inner.locate(row)?;
        let vnode = place.table.vnodes.lock(place.vnode);
        inner.check_open()?;
        let kept = Kept { keeper, id: write_id, table: row.table, token: place.token };
        if let Some(counter) = inner.reservations.find(kept) {
            return Ok(Dot::new(inner.actor, counter));
        }
        let dot = inner.next_dot(&vnode, vnode.clock())?;
        let at = (row.keyspace, row.vnode, dot.counter);
        match inner.reservations.insert(at, Reservation { kept, number, since: now }) {
            true => Ok(dot),
            false => Err(StoreError::TooManyReserved { limit: MAX_RESERVED }),
        }
    }

    /// Dots that were given out `age_ms` ago or longer and whose deltas have not come, at most
    /// `limit` of them behind `after`, and where to go on: their keepers are to be asked. They are
    /// not given out again, because an answer that is on its way may be about another write.
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
            let Reservation { kept, number, since: _ } = reservation;
            let dot = Dot::new(inner.actor, counter);
            // A delta of it may have come through a pull.
            if self.clock(keyspace, vnode).contains(dot) {
                inner.reservations.remove(place);
                return None;
            }
            let (keeper, write_id) = (kept.keeper, kept.id);
            Some(ReservedDot { keyspace, vnode, dot, keeper, write_id, number })
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
