//! Full pulls (rules 7 and 10): what this replica has and the peer has seen go leaves.

use super::*;
use crate::passing::Passed;

/// Where a page of a pull ended: a table, and the key as the store orders it inside the table.
pub type PagePosition = (TableId, Bytes);

/// What a page of a full pull did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows that have other entries now, or whose dots were new here.
    pub changed: u64,
    /// Rows among them that have no entry left.
    pub gone: u64,
}

impl Swept {
    /// Counts what another row or page did.
    pub fn add(&mut self, other: Self) {
        self.changed += other.changed;
        self.gone += other.gone;
    }
}

/// Where a page of a vnode begins and ends: behind `after`, up to and with `until`.
struct Span<'a> {
    after: Option<&'a PagePosition>,
    until: Option<&'a PagePosition>,
}

impl Span<'_> {
    /// The stored keys of a table that lie in it.
    fn of(
        &self,
        table: TableId,
        tokens: (Bytes, Bound<Bytes>),
    ) -> Option<(Bound<Bytes>, Bound<Bytes>)> {
        let (first, end) = tokens;
        let start = match self.after {
            Some((last, _)) if *last > table => return None,
            // What a peer gave as a position may be anything; it never leads out of the vnode.
            Some((last, key)) if *last == table && *key >= first => Bound::Excluded(key.clone()),
            _ => Bound::Included(first),
        };
        let end = match self.until {
            Some((last, _)) if *last < table => return None,
            Some((last, key)) if *last == table && is_before(key, &end) => {
                Bound::Included(key.clone())
            }
            _ => end,
        };
        let is_empty = match (&start, &end) {
            (Bound::Excluded(start), Bound::Included(end)) => start >= end,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            _ => false,
        };
        (!is_empty).then_some((start, end))
    }
}

fn is_before(key: &Bytes, end: &Bound<Bytes>) -> bool {
    match end {
        Bound::Excluded(end) => key < end,
        Bound::Included(end) => key <= end,
        Bound::Unbounded => true,
    }
}

/// A full pull that is under way: what it has gone by is guarded until it ends, and this is dropped.
#[derive(Debug)]
pub struct FullPull {
    store: Store,
    keyspace: KeyspaceId,
    vnode: VnodeId,
    number: u64,
}

impl FullPull {
    /// As [`Store::sweep`], where nothing that the peer had seen comes to a row of the page from
    /// before it is joined on.
    ///
    /// # Errors
    /// As [`Store::sweep`].
    pub fn sweep(
        &self,
        after: Option<&PagePosition>,
        rows: &[(TableId, Bytes, Row)],
        until: Option<&PagePosition>,
        peer: &VnodeClock,
    ) -> Result<Swept, StoreError> {
        let passed = until.map_or(Passed::Everything, |until| Passed::UpTo(until.clone()));
        let vnodes = self.store.inner.vnodes(self.keyspace)?;
        vnodes.lock(self.vnode).passing.come_to(self.number, passed);
        let (name, by) = ((self.keyspace, self.vnode), Some(self.number));
        self.store.inner.sweep(name, (after, until), rows, peer, by)
    }
}

impl Drop for FullPull {
    fn drop(&mut self) {
        if let Ok(vnodes) = self.store.inner.vnodes(self.keyspace) {
            vnodes.lock(self.vnode).passing.end(self.number);
        }
    }
}

impl Store {
    /// Begins a full pull from a peer that has this clock, that of the first page. To be kept until
    /// [`Self::pull_ended`] has returned, or the pull has broken off.
    ///
    /// # Errors
    /// There is no such keyspace or vnode.
    pub fn begin_full_pull(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        peer: Arc<VnodeClock>,
    ) -> Result<FullPull, StoreError> {
        let vnodes = self.inner.vnodes(keyspace)?;
        vnodes.check(vnode)?;
        let number = vnodes.lock(vnode).passing.begin(peer);
        Ok(FullPull { store: self.clone(), keyspace, vnode, number })
    }

    /// Joins a page of a full pull: each row that the peer showed, and each own row between the ends
    /// of the page that it did not show, which it then has not, or has seen go. `peer` is its clock
    /// of the page's instant; `after` where the page before ended, `until` where this one did.
    ///
    /// # Errors
    /// As [`Self::join`]: what was joined before the error stays.
    pub fn sweep(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        after: Option<&PagePosition>,
        rows: &[(TableId, Bytes, Row)],
        until: Option<&PagePosition>,
        peer: &VnodeClock,
    ) -> Result<Swept, StoreError> {
        self.inner.sweep((keyspace, vnode), (after, until), rows, peer, None)
    }
}

impl Inner {
    fn sweep(
        &self,
        (keyspace, vnode): (KeyspaceId, VnodeId),
        (after, until): (Option<&PagePosition>, Option<&PagePosition>),
        rows: &[(TableId, Bytes, Row)],
        peer: &VnodeClock,
        by: Option<u64>,
    ) -> Result<Swept, StoreError> {
        let inner = self;
        inner.vnodes(keyspace)?.check(vnode)?;
        let mut swept = Swept::default();
        let mut shown = BTreeSet::new();
        for (table, key, row) in rows {
            let name = RowKey { keyspace, table: *table, vnode, key: key.clone() };
            let place = inner.locate(&name)?;
            swept.add(inner.sweep_row(&place, row, peer, by)?);
            shown.insert((*table, place.key));
        }
        let Some(tokens) = inner.count.token_range(vnode) else { return Ok(swept) };
        let all = (key::first_of(tokens.start().high()), page::last_bound(tokens.end().high()));
        let span = Span { after, until };
        let view = inner.view.load_full();
        for table in view.tables.values().filter(|table| table.def.keyspace == keyspace) {
            let Some(range) = span.of(table.def.id, all.clone()) else { continue };
            for stored in table.tree.scan(range, &inner.db.snapshot()) {
                let (stored_key, _) = stored.map_err(|cause| table.failed(b"", cause))?;
                if shown.contains(&(table.def.id, StoredKey::from_slice(&stored_key))) {
                    continue;
                }
                let position = key::decode(&stored_key)
                    .map_err(|cause| table.corrupt(&stored_key, None, cause.to_string()))?;
                let name = RowKey { keyspace, table: table.def.id, vnode, key: position.key };
                swept.add(inner.sweep_row(&inner.locate(&name)?, &Row::default(), peer, by)?);
            }
        }
        Ok(swept)
    }
}

impl Inner {
    /// Joins a peer's row with its clock.
    fn sweep_row(
        &self,
        place: &Place,
        theirs: &Row,
        peer: &VnodeClock,
        by: Option<u64>,
    ) -> Result<Swept, StoreError> {
        let policy = place.table.policy();
        let sweep = |row: &mut Row, clock: &mut VnodeClock| row.sweep(policy, clock, theirs, peer);
        let joined = self.join_row(place, theirs, by, sweep)?;
        let (before, after) = (joined.before.entries(), joined.after.entries());
        // What a row no longer remembers, because the clock has it, is no change to anybody.
        let changed = after != before || joined.has_dots;
        let gone = after.is_empty() && !before.is_empty();
        Ok(Swept { changed: u64::from(changed), gone: u64::from(gone) })
    }
}
