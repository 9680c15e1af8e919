//! Minting and applying deltas (rules 2, 4, 5, 11).
//!
//! A delta without a context is stored blind, as an operand of the merge operator (on an LWW table,
//! where its stamp is above every stamp of the vnode, as the row that it makes); one with a context
//! is applied to the row that is there, stripped, and stored whole. Either way row, dot and mark go
//! into one batch, so a power cut takes all of them or none.

use meridian_crdt::{Context, Delta, Dot, DotSet, Entry};
use meridian_lsm::WriteBatch;
use meridian_types::{Mutation, WriteId, broken};

use super::loose::{proven, put_stored};
use super::*;
use crate::records::{self, AHEAD_KEY, MARK_KEY};
use crate::standing::{VnodeKind, VnodeState};
use crate::vnodes::Vnode;

/// What a write replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteContext {
    /// Nothing: it becomes a sibling of whatever is there.
    #[default]
    None,
    /// What its writer had seen, from a token.
    Seen(Context),
    /// What this replica has at the moment of the write: for writers that have not read.
    WhatIsHere,
}

/// A write that this replica is the leading one for. On LWW tables the context is of no use and is
/// left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalWrite {
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
    /// When the value stops being visible. A table's default TTL is up to the caller.
    pub expires: Option<Millis>,
    /// What the write replaces.
    pub context: WriteContext,
    /// The write's name, so that a retry gets the same dot.
    pub write_id: Option<WriteId>,
    /// On LWW tables: whether the write is refused where it would lose to what is here. It does so
    /// only to a stamp that was too far ahead to be followed.
    pub must_win: bool,
}

/// A minted write.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The change, for the other replicas. Send it when the commit is settled: what the policy
    /// `Always` has not synced is not there yet.
    pub delta: Delta,
    /// Whether an earlier try had minted it, and nothing was written now.
    pub retried: bool,
    /// What to wait for before it is acknowledged.
    pub commit: Commit,
}

/// An applied delta.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// Whether the replica did not have its dot yet.
    pub new: bool,
    /// What to wait for before it is acknowledged.
    pub commit: Commit,
}

impl Store {
    /// Mints a dot for a write and stores it, as the leading replica. A retry gets the delta of the
    /// first try, whatever it asks for now.
    ///
    /// # Errors
    /// Nothing was changed, but for an error of the storage engine that says otherwise.
    pub fn mint(&self, row: &RowKey, write: LocalWrite, now: Millis) -> Result<Minted, StoreError> {
        self.inner.mint(row, write, now)
    }

    /// Applies a delta that another replica minted, unless its dot is known (rule 4).
    ///
    /// # Errors
    /// Nothing was changed, but for an error of the storage engine that says otherwise.
    pub fn apply(
        &self,
        row: &RowKey,
        delta: &Delta,
        write_id: Option<WriteId>,
        now: Millis,
    ) -> Result<Applied, StoreError> {
        let inner = &*self.inner;
        let place = inner.locate(row)?;
        let mut vnode = place.table.vnodes.lock(place.vnode);
        inner.check_open()?;
        if vnode.clock().contains(delta.entry.dot) {
            inner.counters.duplicates.add();
            return Ok(Applied { new: false, commit: vnode.commit() });
        }
        refuse_behind_pull(&vnode, &place, delta.entry.dot, None)?;
        let carried = inner.stamps.observe(delta.entry.stamp, now)?;
        let commit = inner.store_delta(&place, &mut vnode, delta, None, carried)?;
        if delta.entry.dot.actor == inner.actor {
            inner.reservations.remove((row.keyspace, row.vnode, delta.entry.dot.counter));
        }
        if let Some(id) = write_id {
            inner.write_ids.note(id, row.table, place.token, delta, now);
        }
        Ok(Applied { new: true, commit })
    }
}

impl Inner {
    fn mint(&self, row: &RowKey, write: LocalWrite, now: Millis) -> Result<Minted, StoreError> {
        let place = self.locate(row)?;
        Limits::DEFAULT.check_value(write.value.as_ref().map_or(0, Bytes::len))?;
        let mut vnode = place.table.vnodes.lock(place.vnode);
        self.check_open()?;
        let known =
            write.write_id.and_then(|id| self.write_ids.find(id, row.table, place.token, now));
        if let Some(delta) = known {
            self.counters.retries.add();
            let (delta, commit) = (Delta::clone(&delta), vnode.commit());
            return Ok(Minted { delta, retried: true, commit });
        }
        let dot = self.next_dot(&vnode, vnode.clock())?;
        let (context, found) = self.context_of(&place, &vnode, write.context)?;
        if context.contains(dot) {
            let (keyspace, vnode) = (row.keyspace, row.vnode);
            return Err(StoreError::ForgottenDot { keyspace, vnode, dot });
        }
        // Under the vnode's lock, so that stamps rise with counters (rule 12).
        let (stamp, carried) = match write.must_win {
            true => self.winning_stamp(&place, &vnode, now)?,
            false => self.stamps.tick(now),
        };
        let entry = Entry { dot, stamp, expires: write.expires, value: write.value };
        let delta = Delta { entry, context };
        let commit = self.store_delta(&place, &mut vnode, &delta, found, carried)?;
        if let Some(id) = write.write_id {
            self.write_ids.note(id, row.table, place.token, &delta, now);
        }
        Ok(Minted { delta, retried: false, commit })
    }

    /// A stamp above those of the row that is there.
    fn winning_stamp(
        &self,
        place: &Place,
        vnode: &Vnode,
        now: Millis,
    ) -> Result<(Hlc, Carried), StoreError> {
        let (stamp, carried) = self.stamps.tick(now);
        if place.table.policy() != ConflictPolicy::Lww || vnode.is_above_all(stamp) {
            return Ok((stamp, carried));
        }
        let row = place.table.row_now(&place.key)?;
        match row.entries().iter().map(|entry| entry.stamp).max() {
            Some(there) if there >= stamp => {
                self.stamps.observe(there, now)?;
                Ok(self.stamps.tick(now))
            }
            _ => Ok((stamp, carried)),
        }
    }

    /// The lowest stamp that a write which was accepted long ago may have: up to what was promised
    /// there are none to give any more. It gets the next one, which loses to as much as it can
    /// (rule 14).
    pub(super) fn above_promises(&self, place: &Place, vnode: &Vnode) -> Hlc {
        if place.table.policy() != ConflictPolicy::Lww || broken(Mutation::IntentBelowPromise) {
            return Hlc::ZERO;
        }
        let promised = vnode.forgetting.promised().max(self.promised_before);
        if promised == Hlc::ZERO { promised } else { promised.next() }
    }

    /// The context that a delta gets; and the row, where it had to be read for that.
    pub(super) fn context_of(
        &self,
        place: &Place,
        vnode: &Vnode,
        context: WriteContext,
    ) -> Result<(Context, Option<Row>), StoreError> {
        match (place.table.policy(), context) {
            (ConflictPolicy::Lww, _) | (_, WriteContext::None) => Ok((Context::default(), None)),
            (ConflictPolicy::Siblings, WriteContext::Seen(context)) => Ok((context, None)),
            (ConflictPolicy::Siblings, WriteContext::WhatIsHere) => {
                let row = place.table.row_now(&place.key)?;
                let context = match vnode.may_have_loose() {
                    true => proven(row.clone(), vnode.clock()).reader_context(vnode.clock()),
                    false => row.reader_context(vnode.clock()),
                };
                Ok((context, Some(row)))
            }
        }
    }

    /// Stores a delta whose dot the clock does not have. `found` is the row, if it was read under
    /// this lock already.
    fn store_delta(
        &self,
        place: &Place,
        vnode: &mut Vnode,
        delta: &Delta,
        found: Option<Row>,
        carried: Carried,
    ) -> Result<Commit, StoreError> {
        let dot = delta.entry.dot;
        let value_bytes = delta.entry.value.as_ref().map_or(0, Bytes::len);
        let mut batch = WriteBatch::with_capacity(BATCH_BYTES + place.key.len() + value_bytes);
        let is_blind = place.table.policy() == ConflictPolicy::Lww || delta.context.is_empty();
        let whole_clock = vnode.is_clock_due();
        let after = (whole_clock || !is_blind).then(|| {
            let mut clock = VnodeClock::clone(vnode.clock());
            clock.insert(dot);
            clock
        });
        let mut has_context = None;
        match &after {
            Some(clock) if !is_blind => {
                self.counters.applied.add();
                let mut row = match found {
                    Some(row) => row,
                    None => place.table.row_now(&place.key)?,
                };
                row.apply(place.table.policy(), delta.clone());
                row.strip(clock);
                vnode.forgetting.note(&row);
                has_context = Some(!row.context().is_empty());
                put_stored(&mut batch, &place.table.tree, &place.key, &row);
            }
            _ => {
                self.counters.blind.add();
                self.store_blind(&mut batch, place, vnode, delta);
                vnode.forgetting.note_entry(&delta.entry);
            }
        }
        match &after {
            Some(clock) if whole_clock => {
                let key = records::clock_key(place.table.vnodes.keyspace, place.vnode);
                batch.put(&self.clocks, key, clock.to_bytes());
            }
            _ => {
                let keyspace = place.table.vnodes.keyspace;
                self.add_dots(&mut batch, keyspace, place.vnode, &[dot].into_iter().collect());
            }
        }
        let commit = self.write_in(vnode, batch, carried)?;
        self.note_stored(vnode.id(), place, &[dot].into_iter().collect(), has_context);
        vnode.clock_stored(whole_clock);
        vnode.raise(delta.entry.stamp);
        match after {
            Some(clock) => vnode.replace(clock),
            None => vnode.insert(dot),
        }
        Ok(commit)
    }

    /// Notes for those who pull that a row was stored: with new dots, and whole with a context or
    /// without one. To be called under the vnode's lock.
    pub(super) fn note_stored(
        &self,
        vnode: (KeyspaceId, VnodeId),
        place: &Place,
        dots: &DotSet,
        has_context: Option<bool>,
    ) {
        let table = place.table.def.id;
        self.recent.applied(vnode, dots, table, &place.key);
        if let Some(has_context) = has_context
            && place.table.policy() == ConflictPolicy::Siblings
        {
            self.recent.stored(vnode, table, &place.key, has_context);
        }
    }

    /// Stores a delta without looking at its row.
    fn store_blind(&self, batch: &mut WriteBatch, place: &Place, vnode: &Vnode, delta: &Delta) {
        let operand = if delta.context.is_empty() {
            delta.to_bytes()
        } else {
            // Of an LWW table: what its writer had seen decides nothing.
            Row::new([delta.entry.clone()], Context::default()).to_bytes()
        };
        let table = &place.table;
        if table.policy() == ConflictPolicy::Lww && vnode.is_above_all(delta.entry.stamp) {
            // It wins over whatever is there, so that nobody need ever look at that again.
            batch.put(&table.tree, &place.key, operand);
        } else {
            batch.merge(&table.tree, &place.key, operand);
        }
    }

    /// Adds dots to the stored clock of a vnode.
    pub(super) fn add_dots(
        &self,
        batch: &mut WriteBatch,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        dots: &DotSet,
    ) {
        batch.merge(&self.clocks, records::clock_key(keyspace, vnode), dots.to_bytes());
    }

    /// Writes a batch that changes rows or the clock of a vnode, with what it must carry.
    ///
    /// Every change of a vnode passes here or [`Self::write_state`].
    pub(super) fn write_in(
        &self,
        vnode: &mut Vnode,
        batch: WriteBatch,
        carried: Carried,
    ) -> Result<Commit, StoreError> {
        if vnode.is_unrecorded() {
            let state = vnode.state(self.actor.incarnation);
            return self.write_state(vnode, batch, carried, state);
        }
        let commit = self.write(batch, carried)?;
        vnode.written(commit);
        Ok(commit)
    }

    /// As [`Self::write_in`], with what the replica can prove of the vnode from then on.
    pub(super) fn write_state(
        &self,
        vnode: &mut Vnode,
        mut batch: WriteBatch,
        carried: Carried,
        state: VnodeState,
    ) -> Result<Commit, StoreError> {
        let (keyspace, id) = vnode.id();
        // Without a record and a clock only what is rebuilt may have rows.
        let has_no_rows = vnode.is_unrecorded() && state.kind != VnodeKind::Rebuilding;
        batch.put(&self.clocks, records::state_key(keyspace, id), state.to_bytes());
        let commit = self.write(batch, carried)?;
        if has_no_rows {
            self.recent.begun((keyspace, id));
        }
        vnode.written(commit);
        vnode.recorded(state);
        Ok(commit)
    }

    /// Writes a batch that changes no vnode, with what it must carry.
    pub(super) fn write(
        &self,
        mut batch: WriteBatch,
        carried: Carried,
    ) -> Result<Commit, StoreError> {
        for (key, stamp) in [(MARK_KEY, carried.mark), (AHEAD_KEY, carried.ahead)] {
            if let Some(stamp) = stamp {
                batch.merge(&self.clocks, key, records::stamp_to_bytes(stamp));
            }
        }
        let commit = self.db.write(batch)?;
        self.stamps.stored(carried);
        Ok(commit)
    }
}

/// Refuses a write that may not come to its row now ([`crate::passing`]).
pub(super) fn refuse_behind_pull(
    vnode: &Vnode,
    place: &Place,
    dot: Dot,
    by: Option<u64>,
) -> Result<(), StoreError> {
    let is_refused = vnode.passing.refuses(place.table.def.id, &place.key, dot, by);
    if is_refused && !broken(Mutation::ForgetWhatPullPassed) {
        let (keyspace, vnode) = vnode.id();
        return Err(StoreError::BehindPull { keyspace, vnode, dot });
    }
    Ok(())
}

/// What a batch needs beside key and value, in bytes: entry, dot, their keys and lengths.
const BATCH_BYTES: usize = 128;
