//! Joining what other replicas answered: read repair and pulls (rules 6 and 7).

use meridian_crdt::Context;
use meridian_lsm::WriteBatch;

use super::loose::put_stored;
use super::write::refuse_behind_pull;
use super::*;

impl Store {
    /// Joins a version of a row that others hold: read repair. `coverage` is everything that its
    /// makers covered, their entries included.
    ///
    /// # Errors
    /// Nothing was changed, but for an error of the storage engine that says otherwise.
    pub fn join(
        &self,
        row: &RowKey,
        version: &Row,
        coverage: &Context,
    ) -> Result<Commit, StoreError> {
        let place = self.inner.locate(row)?;
        Ok(self.inner.join_version(&place, version, coverage)?.1)
    }

    /// Joins a row of a page that was pulled, with the clock of that page; whether it changed
    /// anything here.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn join_pulled(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        table: TableId,
        key: &[u8],
        row: &Row,
        peer: &VnodeClock,
    ) -> Result<bool, StoreError> {
        let key = Bytes::copy_from_slice(key);
        let place = self.inner.locate(&RowKey { keyspace, table, vnode, key })?;
        Ok(self.inner.join_version(&place, row, &row.full_context(peer))?.0)
    }

    /// Joins the clock that a peer had at the start of a pull, after the last of its rows was
    /// joined, and never before.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn join_clock(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        peer: &VnodeClock,
    ) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let vnodes = inner.vnodes(keyspace)?;
        vnodes.check(vnode)?;
        let mut state = vnodes.lock(vnode);
        inner.check_open()?;
        let mut clock = VnodeClock::clone(state.clock());
        clock.join(peer);
        inner.join_clock_in(&mut state, WriteBatch::new(), clock, None)
    }
}

impl Inner {
    pub(super) fn vnodes(&self, keyspace: KeyspaceId) -> Result<Arc<Vnodes>, StoreError> {
        let view = self.view();
        let known = view.keyspaces.get(&keyspace).cloned();
        known.ok_or(StoreError::UnknownKeyspace(keyspace))
    }

    /// Whether anything changed; and what settles the row as it is now.
    fn join_version(
        &self,
        place: &Place,
        other: &Row,
        theirs: &Context,
    ) -> Result<(bool, Commit), StoreError> {
        let policy = place.table.policy();
        let join = |row: &mut Row, clock: &mut VnodeClock| {
            match policy {
                ConflictPolicy::Siblings => row.join_answer(policy, clock, other, theirs),
                // What was read before all had forgotten it must not come back (rule 12).
                ConflictPolicy::Lww => row.sweep(policy, clock, other, &VnodeClock::default()),
            }
        };
        let joined = self.join_row(place, other, None, join)?;
        Ok((joined.is_news(), joined.commit))
    }

    /// Joins something of another replica's with the row that is there, under its vnode's lock: row
    /// and clock change in one batch. `other` is what may bring stamps;
    /// `by` the full pull that brings it, if one does.
    pub(super) fn join_row(
        &self,
        place: &Place,
        other: &Row,
        by: Option<u64>,
        join: impl FnOnce(&mut Row, &mut VnodeClock),
    ) -> Result<Joined, StoreError> {
        let mut vnode = place.table.vnodes.lock(place.vnode);
        self.check_open()?;
        let before = place.table.row_now(&place.key)?;
        for dot in other.entries().iter().map(|entry| entry.dot) {
            if before.entry(dot).is_none() && !vnode.clock().contains(dot) {
                refuse_behind_pull(&vnode, place, dot, by)?;
            }
        }
        let (mut after, mut clock) = (before.clone(), VnodeClock::clone(vnode.clock()));
        join(&mut after, &mut clock);
        let news = clock.beyond(vnode.clock());
        let has_dots = !news.is_empty();
        if after == before && !has_dots {
            return Ok(Joined { before, after, has_dots, commit: vnode.commit() });
        }
        let mut batch = WriteBatch::new();
        if after != before {
            vnode.forgetting.note(&after);
            put_stored(&mut batch, &place.table.tree, &place.key, &after);
        }
        if has_dots {
            self.add_dots(&mut batch, place.table.vnodes.keyspace, place.vnode, &news);
        }
        let stamps = other.entries().iter().map(|entry| entry.stamp);
        let carried = stamps.clone().map(|stamp| self.stamps.follow(stamp)).reduce(Carried::max);
        let commit = self.write_in(&mut vnode, batch, carried.unwrap_or_default())?;
        self.note_stored(vnode.id(), place, &news, Some(!after.context().is_empty()));
        stamps.for_each(|stamp| vnode.raise(stamp));
        self.counters.joined.add();
        if has_dots {
            vnode.replace(clock);
        }
        Ok(Joined { before, after, has_dots, commit })
    }
}

/// What a join did to a row.
pub(super) struct Joined {
    pub(super) before: Row,
    pub(super) after: Row,
    /// Whether it brought dots that the clock did not have.
    pub(super) has_dots: bool,
    /// What settles the row as it is now.
    commit: Commit,
}

impl Joined {
    fn is_news(&self) -> bool {
        self.has_dots || self.before != self.after
    }
}
