//! Forgetting: markers and expired entries that all replicas durably know leave (rules 8 and 12).
//!
//! A walk over a vnode reads a snapshot without the lock, and takes the lock for each row that has
//! something to forget: there it looks at the row again, and whether what it heard still holds.
//! A crash undoes a part of that, which does no harm. The engine's compaction forgets nothing: it
//! knows no clocks.

use std::sync::Arc;

use meridian_crdt::{Entry, Evidence};
use meridian_lsm::WriteBatch;
use meridian_types::{Mutation, NodeId, broken};

use super::*;
use crate::forgetting::is_debris;
use crate::vnodes::Vnode;

/// A part of a walk.
#[derive(Clone, Debug)]
pub struct Collecting<'a> {
    /// The vnode's keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// All other replicas of the vnode.
    pub others: &'a [NodeId],
    /// The layout that says so.
    pub layout: u64,
    /// Where the part before ended; `None` begins a walk.
    pub after: Option<PagePosition>,
    /// Most rows to look at.
    pub rows: usize,
    /// By how much wall clocks of the cluster may differ, in milliseconds.
    pub max_skew_ms: u64,
    /// The wall clock.
    pub now: Millis,
}

/// What a part of a walk did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Entries that were forgotten.
    pub entries: u64,
    /// Rows that are gone with them, or that had nothing but a context which the clock now has.
    pub rows: u64,
    /// Rows that have something to forget later.
    pub left: u64,
    /// Where to go on; `None` at the end, also where the walk had to stop: evidence is missing, or
    /// the vnode is fresh or rebuilding.
    pub next: Option<PagePosition>,
}

/// What may be forgotten now.
struct Judged {
    /// This replica's own is the first.
    told: Vec<Arc<Evidence>>,
    stable: Hlc,
    now: Millis,
    max_skew_ms: u64,
}

impl Judged {
    fn is_dead(&self, policy: ConflictPolicy, entry: &Entry) -> bool {
        if !self.is_over(entry) {
            return false;
        }
        let by_dot = || Evidence::is_known(self.told.iter().map(|told| &**told), entry.dot);
        match policy {
            ConflictPolicy::Siblings => by_dot() || broken(Mutation::CollectAtOnce),
            ConflictPolicy::Lww if broken(Mutation::CollectByDot) => by_dot(),
            ConflictPolicy::Lww => {
                // A life that begins on an empty disk does not know what was promised. Its stamps
                // are above these all the same, unless its clock is further off than clocks are.
                let settled = entry.stamp.millis().plus(2 * self.max_skew_ms) <= self.now;
                entry.stamp <= self.stable && settled
            }
        }
    }

    /// Whether the entry shows nothing to a reader by any clock of the cluster.
    fn is_over(&self, entry: &Entry) -> bool {
        match (&entry.value, entry.expires) {
            (None, _) => true,
            (Some(_), Some(at)) => at.plus(3 * self.max_skew_ms) <= self.now,
            (Some(_), None) => false,
        }
    }
}

impl Store {
    /// Vnodes that may have something to forget, behind `after`, at most `limit`. After a start
    /// these are all that have anything: a walk finds out.
    #[must_use]
    pub fn collectable(
        &self,
        after: Option<(KeyspaceId, VnodeId)>,
        limit: usize,
    ) -> Vec<(KeyspaceId, VnodeId)> {
        let view = self.inner.view.load_full();
        let from = after.map_or(KeyspaceId(0), |(keyspace, _)| keyspace);
        let mut found = Vec::new();
        for (keyspace, vnodes) in view.keyspaces.range(from..) {
            let behind = after.filter(|(last, _)| last == keyspace).map(|(_, vnode)| vnode);
            let left = limit - found.len();
            found.extend(vnodes.with_debris(behind, left).into_iter().map(|at| (*keyspace, at)));
        }
        found
    }

    /// Forgets what all replicas of a vnode durably know, in a part of its rows, by what was heard
    /// of them.
    ///
    /// # Errors
    /// A row that cannot be read; what was forgotten before it stays forgotten.
    pub fn collect(&self, part: &Collecting<'_>) -> Result<Collected, StoreError> {
        let inner = &*self.inner;
        let vnodes = inner.vnodes(part.keyspace)?;
        vnodes.check(part.vnode)?;
        let Some(judged) = inner.judge_evidence(&vnodes, part)? else {
            return Ok(Collected::default());
        };
        if part.after.is_none() {
            vnodes.lock(part.vnode).forgetting.set_debris(false);
        }
        let mut done = Collected::default();
        let walked = inner.walk(part, &judged, &mut done);
        if walked.is_err() || done.left > 0 {
            vnodes.lock(part.vnode).forgetting.set_debris(true);
        }
        walked.map(|()| done)
    }
}

impl Inner {
    fn judge_evidence(
        &self,
        vnodes: &Vnodes,
        part: &Collecting<'_>,
    ) -> Result<Option<Judged>, StoreError> {
        let Some(heard) = self.heard((part.keyspace, part.vnode), part.others, part.layout) else {
            return Ok(None);
        };
        let promised = self.promise(part.now)?;
        let Some(own) = self.say(vnodes, part.vnode, promised)? else { return Ok(None) };
        let told: Vec<_> = [Arc::new(own)].into_iter().chain(heard).collect();
        let stable = Evidence::stable_stamp(told.iter().map(|told| &**told));
        Ok(Some(Judged { told, stable, now: part.now, max_skew_ms: part.max_skew_ms }))
    }

    fn walk(
        &self,
        part: &Collecting<'_>,
        judged: &Judged,
        done: &mut Collected,
    ) -> Result<(), StoreError> {
        let view = self.view.load_full();
        let from = part.after.as_ref().map_or(TableId(0), |(table, _)| *table);
        let snapshot = self.db.snapshot();
        let mut examined = 0;
        for (id, table) in view.tables.range(from..) {
            if table.def.keyspace != part.keyspace {
                continue;
            }
            let (first, end) = self.stored_range(part.vnode);
            let start = match &part.after {
                Some((last, key)) if last == id => Bound::Excluded(key.clone()),
                _ => first,
            };
            let mut last = Bytes::new();
            for stored in table.tree.scan((start, end), &snapshot) {
                let (key, value) = stored.map_err(|cause| table.failed(&last, cause))?;
                let row = table.decode(&key, Some(value))?;
                if is_debris(&row) && !self.forget(table, part, judged, &key, done)? {
                    return Ok(());
                }
                examined += 1;
                if examined >= part.rows {
                    done.next = Some((*id, key));
                    return Ok(());
                }
                last = key;
            }
        }
        Ok(())
    }

    /// Forgets what may be forgotten of one row; whether the walk may go on.
    fn forget(
        &self,
        table: &Table,
        part: &Collecting<'_>,
        judged: &Judged,
        key: &Bytes,
        done: &mut Collected,
    ) -> Result<bool, StoreError> {
        let mut vnode = table.vnodes.lock(part.vnode);
        self.check_open()?;
        if !self.still_holds(&vnode, part, judged) {
            vnode.forgetting.set_debris(true);
            return Ok(false);
        }
        let policy = table.policy();
        let before = table.row_now(key)?;
        let (dead, kept): (Vec<Entry>, Vec<Entry>) =
            before.entries().iter().cloned().partition(|entry| judged.is_dead(policy, entry));
        let mut after = Row::new(kept, before.context().clone());
        if policy == ConflictPolicy::Siblings {
            // What goes stays covered until the base covers it.
            after.remember(&dead.iter().map(|entry| entry.dot).collect());
        }
        after.strip(vnode.clock());
        done.left += u64::from(is_debris(&after));
        if after == before {
            return Ok(true);
        }
        let mut batch = WriteBatch::new();
        if after.is_empty() {
            batch.delete(&table.tree, key);
        } else {
            batch.put(&table.tree, key, after.to_bytes());
        }
        self.write_in(&mut vnode, batch, Carried::default())?;
        if policy == ConflictPolicy::Siblings {
            let has_context = !after.context().is_empty();
            self.recent.stored(vnode.id(), table.def.id, key, has_context);
        }
        done.entries += dead.len() as u64;
        done.rows += u64::from(after.is_empty());
        self.counters.forgotten_entries.add_many(dead.len() as u64);
        self.counters.forgotten_rows.add_many(u64::from(after.is_empty()));
        Ok(true)
    }

    /// Whether what a walk goes by has not become void since. To be called under the vnode's lock,
    /// which whoever begins to pull in full takes after it was made void.
    fn still_holds(&self, vnode: &Vnode, part: &Collecting<'_>, judged: &Judged) -> bool {
        let heard = self.heard((part.keyspace, part.vnode), part.others, part.layout);
        let is_same = heard.is_some_and(|heard| {
            let used = judged.told.iter().skip(1);
            heard.len() == part.others.len()
                && heard.iter().zip(used).all(|(a, b)| Arc::ptr_eq(a, b))
        });
        is_same && self.is_proven(vnode)
    }
}
