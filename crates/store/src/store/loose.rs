//! Entries that were found without the clock that proved them (rule 10).
//!
//! Where tables are lost, the clock is: it claims what is not there. What is left of the rows is
//! *loose*: the clock of the moment does not have its dots, and its contexts are gone. Of a siblings
//! table nobody is shown a loose entry, because nothing says what it had replaced; a delta, an answer
//! or a pull proves it, or takes it away. What is still loose when the vnode has been pulled in full
//! from everybody is nowhere else: it is written anew.

use meridian_crdt::{ConflictPolicy, Dot, Entry};
use meridian_lsm::WriteBatch;

use super::*;
use crate::standing::OtherReplicas;
use crate::vnodes::Vnode;

/// Rows whose loose entries are written anew under one holding of the vnode's lock, at most: some
/// ten milliseconds, and one sync.
pub const REISSUED_ROWS: usize = 1_000;

/// Where loose entries are.
type LooseRow = (TableId, Bytes);

/// The row without the entries that the clock does not have. Both of one moment.
pub(super) fn proven(row: Row, clock: &VnodeClock) -> Row {
    if !has_loose(&row, clock) {
        return row;
    }
    let entries = row.entries().iter().filter(|entry| clock.contains(entry.dot));
    Row::new(entries.cloned(), row.context().clone())
}

fn has_loose(row: &Row, clock: &VnodeClock) -> bool {
    row.entries().iter().any(|entry| !clock.contains(entry.dot))
}

impl Store {
    /// Ends the rebuilding of a vnode that is through: what is loose gets a new dot of this replica
    /// and no context, as a write would, and is synced before anybody is shown it; from then on
    /// the other replicas find it by their clocks. A loose marker does nothing but what its context
    /// says, and that is gone: it is dropped. Where something else has begun meanwhile, the vnode
    /// stays as it is, and the progress says so.
    ///
    /// # Errors
    /// As [`Store::judge`]; a row that cannot be read. Some of the rows may have been written.
    pub fn end_rebuild(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        others: &OtherReplicas,
    ) -> Result<Progress, StoreError> {
        let inner = &*self.inner;
        let vnodes = inner.vnodes(keyspace)?;
        vnodes.check(vnode)?;
        let proven = inner.loose_lww(&vnodes, vnode)?;
        let mut from = None;
        loop {
            let (rows, next) = inner.loose_rows(&vnodes, vnode, from)?;
            let mut locked = vnodes.lock(vnode);
            inner.check_open()?;
            let mut state = locked.state(inner.actor.incarnation);
            if !(state.kind.is_unproven() && state.is_through(others)) {
                return Ok(states::show(&vnodes, vnode, &state, others));
            }
            let is_last = next.is_none();
            if is_last {
                state.end(others);
            }
            let mut batch = WriteBatch::new();
            let mut clock = VnodeClock::clone(locked.clock());
            clock.join(&proven);
            for row in &rows {
                inner.reissue(&mut batch, &locked, &mut clock, row)?;
            }
            inner.join_clock_in(&mut locked, batch, clock, is_last.then(|| state.clone()))?;
            if !rows.is_empty() {
                inner.db.sync()?;
            }
            if is_last {
                return Ok(states::show(&vnodes, vnode, &state, others));
            }
            from = next;
        }
    }
}

impl Inner {
    /// Writes the loose entries of a row anew.
    fn reissue(
        &self,
        batch: &mut WriteBatch,
        vnode: &Vnode,
        clock: &mut VnodeClock,
        (table, key): &LooseRow,
    ) -> Result<(), StoreError> {
        let Some(table) = self.view().tables.get(table).cloned() else { return Ok(()) };
        let row = table.row_now(key)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(row.entries().len());
        for entry in row.entries() {
            if clock.contains(entry.dot) {
                entries.push(entry.clone());
            } else if entry.value.is_some() {
                let dot = self.next_dot(vnode, clock)?;
                if row.context().contains(dot) {
                    let (keyspace, vnode) = vnode.id();
                    return Err(StoreError::ForgottenDot { keyspace, vnode, dot });
                }
                clock.insert(dot);
                entries.push(Entry { dot, ..entry.clone() });
                self.counters.reissued.add();
            }
        }
        put_stored(batch, &table.tree, key, &Row::new(entries, row.context().clone()));
        Ok(())
    }

    /// The next dot of this replica behind those of a clock.
    pub(super) fn next_dot(&self, vnode: &Vnode, clock: &VnodeClock) -> Result<Dot, StoreError> {
        let (keyspace, vnode) = vnode.id();
        let reserved = self.reservations.highest(keyspace, vnode);
        let next = clock.highest(self.actor).max(reserved).checked_add(1);
        let counter = next.ok_or(StoreError::CountersExhausted { keyspace, vnode })?;
        Ok(Dot::new(self.actor, counter))
    }

    /// Rows of siblings tables with loose entries, behind `from`, and where to go on.
    fn loose_rows(
        &self,
        vnodes: &Vnodes,
        vnode: VnodeId,
        from: Option<LooseRow>,
    ) -> Result<(Vec<LooseRow>, Option<LooseRow>), StoreError> {
        let mut loose = Vec::new();
        let Some((clock, snapshot)) = self.loose_moment(vnodes, vnode) else {
            return Ok((loose, None));
        };
        for table in self.tables_of(vnodes.keyspace, ConflictPolicy::Siblings) {
            let id = table.def.id;
            let range = match (self.stored_range(vnode), &from) {
                (_, Some((last, _))) if *last > id => continue,
                ((_, end), Some((last, key))) if *last == id => (Bound::Excluded(key.clone()), end),
                (all, _) => all,
            };
            let mut last = Bytes::new();
            for stored in table.tree.scan(range, &snapshot) {
                let (key, value) = stored.map_err(|cause| table.failed(&last, cause))?;
                if has_loose(&table.decode(&key, Some(value))?, &clock) {
                    loose.push((id, key.clone()));
                    if loose.len() == REISSUED_ROWS {
                        return Ok((loose, Some((id, key))));
                    }
                }
                last = key;
            }
        }
        Ok((loose, None))
    }

    /// The dots of a vnode's entries in LWW tables that the clock does not have.
    pub(super) fn loose_lww(
        &self,
        vnodes: &Vnodes,
        vnode: VnodeId,
    ) -> Result<VnodeClock, StoreError> {
        let mut loose = VnodeClock::default();
        let Some((clock, snapshot)) = self.loose_moment(vnodes, vnode) else { return Ok(loose) };
        for table in self.tables_of(vnodes.keyspace, ConflictPolicy::Lww) {
            let mut last = Bytes::new();
            for stored in table.tree.scan(self.stored_range(vnode), &snapshot) {
                let (key, value) = stored.map_err(|cause| table.failed(&last, cause))?;
                let row = table.decode(&key, Some(value))?;
                let dots = row.entries().iter().map(|entry| entry.dot);
                dots.filter(|dot| !clock.contains(*dot)).for_each(|dot| _ = loose.insert(dot));
                last = key;
            }
        }
        Ok(loose)
    }

    /// The clock and the snapshot of a moment, where there may be loose entries.
    fn loose_moment(&self, vnodes: &Vnodes, vnode: VnodeId) -> Option<(Arc<VnodeClock>, Snapshot)> {
        let locked = vnodes.lock(vnode);
        locked.may_have_loose().then(|| (locked.clock().clone(), self.db.snapshot()))
    }

    fn tables_of(&self, keyspace: KeyspaceId, policy: ConflictPolicy) -> Vec<Arc<Table>> {
        let view = self.view();
        let wanted =
            |table: &&Arc<Table>| table.def.keyspace == keyspace && table.policy() == policy;
        view.tables.values().filter(wanted).cloned().collect()
    }
}

/// Replaces a stored row.
pub(super) fn put_stored(batch: &mut WriteBatch, tree: &Tree, key: &[u8], row: &Row) {
    if row.is_empty() {
        batch.delete(tree, key);
    } else {
        batch.put(tree, key, row.to_bytes());
    }
}
