//! What a peer that pulls a vnode lacks (rule 7).

use std::collections::BTreeSet;

use super::*;
use crate::recent::{Scan, StoredRow};
use crate::standing::{PeerStanding, VnodeKind};

/// Rows that one page of a pull looks at, at most: where the puller has nearly everything, a page
/// ends with few rows or none, so that a pull never holds a thread for long.
pub const PULL_ROWS_EXAMINED: usize = 10_000;

/// A page of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VnodePage {
    /// The clock, of the same moment as the rows: what covers them. That of the first page is what
    /// the puller joins after the last.
    pub clock: Arc<VnodeClock>,
    /// What this replica can prove of the vnode at that moment.
    pub standing: PeerStanding,
    /// Tables, keys and rows that the puller needs, without the context that the clock's base
    /// covers. Of siblings tables without what the clock does not prove (rule 10).
    pub rows: Vec<(TableId, Bytes, Row)>,
    /// Where the next page starts; `None` after the last. Opaque: give it back as `after`.
    pub next: Option<(TableId, Bytes)>,
    /// Bytes of the rows, as far as they count against what was asked for.
    pub bytes: usize,
    /// Rows that were looked at.
    pub rows_examined: usize,
}

impl VnodePage {
    fn empty(clock: Arc<VnodeClock>, standing: PeerStanding) -> Self {
        Self { clock, standing, rows: Vec::new(), next: None, bytes: 0, rows_examined: 0 }
    }
}

impl Store {
    /// A page of the rows of a vnode that have a dot which the puller lacks, or a context that no
    /// clock covers yet; of all its rows, if `full`. No more than `max_bytes` of them, but at least
    /// one where there is one among those looked at; a page may be empty and not be the last.
    ///
    /// Nothing is looked at where the puller's clock has all that this one has: replicas with equal
    /// clocks show equal rows, and joining these would leave the puller's clock as it is. Where few
    /// dots are missing and it is known which rows they are in, these are looked up; otherwise the
    /// vnode is scanned.
    ///
    /// # Errors
    /// A row that cannot be read fails the page: the puller must not join the clock that covers it.
    pub fn pull_page(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        puller: &VnodeClock,
        after: Option<(TableId, Bytes)>,
        full: bool,
        max_bytes: usize,
    ) -> Result<VnodePage, StoreError> {
        let wanted = Wanted { keyspace, vnode, puller, full, max_bytes };
        self.inner.pull_page(wanted, after, Search::Known)
    }

    /// As [`Self::pull_page`], by a scan whatever is known: what it says is what is stored.
    ///
    /// # Errors
    /// As [`Self::pull_page`].
    pub fn scan_page(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        puller: &VnodeClock,
        after: Option<(TableId, Bytes)>,
        max_bytes: usize,
    ) -> Result<VnodePage, StoreError> {
        let wanted = Wanted { keyspace, vnode, puller, full: false, max_bytes };
        self.inner.pull_page(wanted, after, Search::Scan)
    }
}

/// What a page is asked for with.
struct Wanted<'a> {
    keyspace: KeyspaceId,
    vnode: VnodeId,
    puller: &'a VnodeClock,
    full: bool,
    max_bytes: usize,
}

/// How a page's rows are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// By what is known of the dots that the puller lacks.
    Known,
    /// By looking at all rows.
    Scan,
}

/// What is to be looked at.
enum Rows {
    None,
    Some(BTreeSet<StoredRow>),
    /// All of them; and whoever needs to know of rows with a context.
    All(Option<Scan>),
}

impl Inner {
    fn pull_page(
        &self,
        wanted: Wanted<'_>,
        after: Option<StoredRow>,
        search: Search,
    ) -> Result<VnodePage, StoreError> {
        let Wanted { keyspace, vnode, puller, full, max_bytes } = wanted;
        let vnodes = self.vnodes(keyspace)?;
        vnodes.check(vnode)?;
        let place = (keyspace, vnode);
        let (clock, standing, snapshot, rows) = {
            let locked = vnodes.lock(vnode);
            let standing = vnodes.peer_standing(&locked, self.actor.incarnation);
            let is_proven = standing.kind != VnodeKind::Rebuilding;
            let rows = if full || !is_proven || search == Search::Scan {
                Rows::All(None)
            } else if locked.clock().is_covered_by(puller) {
                Rows::None
            } else {
                match self.recent.find(place, &locked.clock().beyond(puller)) {
                    Some(rows) => Rows::Some(rows),
                    None => Rows::All(self.recent.scan_begins(place, after.as_ref())),
                }
            };
            (locked.clock().clone(), standing, self.db.snapshot(), rows)
        };
        let mut page = Pulling {
            page: VnodePage::empty(clock, standing),
            puller,
            full,
            bytes_left: max_bytes,
            rows_left: PULL_ROWS_EXAMINED,
            last: after,
            contexts: Vec::new(),
        };
        match rows {
            Rows::None => {}
            Rows::Some(rows) => page.look_up(self, rows, &snapshot)?,
            Rows::All(scan) => {
                page.scan(self, keyspace, vnode, &snapshot)?;
                if let Some(scan) = scan {
                    let contexts = std::mem::take(&mut page.contexts);
                    self.recent.scan_saw(place, scan, contexts, page.page.next.as_ref());
                }
            }
        }
        page.page.rows_examined = PULL_ROWS_EXAMINED - page.rows_left;
        self.counters.pull_rows_examined.add_many(page.page.rows_examined as u64);
        Ok(page.page)
    }
}

struct Pulling<'a> {
    page: VnodePage,
    puller: &'a VnodeClock,
    full: bool,
    bytes_left: usize,
    rows_left: usize,
    /// The last row looked at.
    last: Option<StoredRow>,
    /// Rows with a context that were seen.
    contexts: Vec<StoredRow>,
}

impl Pulling<'_> {
    /// Looks at rows by name, in the order that a scan meets them in.
    fn look_up(
        &mut self,
        inner: &Inner,
        rows: BTreeSet<StoredRow>,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        let view = inner.view.load_full();
        let start = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        for (id, key) in rows.range((start, Bound::Unbounded)) {
            let Some(table) = view.tables.get(id) else { continue };
            let stored = table.tree.get(key, snapshot).map_err(|cause| table.failed(key, cause))?;
            if let Some(value) = stored
                && self.look_at(table, key.clone(), value)?
            {
                self.page.next = self.last.take();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Looks at the vnode's rows, table by table.
    fn scan(
        &mut self,
        inner: &Inner,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        let view = inner.view.load_full();
        let from = self.last.as_ref().map_or(TableId(0), |(table, _)| *table);
        for table in view.tables.range(from..).map(|(_, table)| table) {
            if table.def.keyspace == keyspace && self.scan_table(table, inner, vnode, snapshot)? {
                self.page.next = self.last.take();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Looks at the rows of one table; whether the page ended in it.
    fn scan_table(
        &mut self,
        table: &Table,
        inner: &Inner,
        vnode: VnodeId,
        snapshot: &Snapshot,
    ) -> Result<bool, StoreError> {
        let range = self.range(table.def.id, inner, vnode);
        for stored in table.tree.scan(range, snapshot) {
            let (key, value) = stored.map_err(|cause| {
                let seen = self.last.as_ref().map_or(&b""[..], |(_, key)| key);
                table.failed(seen, cause)
            })?;
            if self.look_at(table, key, value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks at a row; whether the page ended before it.
    fn look_at(&mut self, table: &Table, key: Bytes, value: Bytes) -> Result<bool, StoreError> {
        if self.rows_left == 0 {
            return Ok(true);
        }
        self.rows_left -= 1;
        let id = table.def.id;
        let size = key.len() + value.len();
        let mut row = table.decode(&key, Some(value))?;
        // An LWW row has no context that could be missing.
        let is_siblings = table.policy() == ConflictPolicy::Siblings;
        if is_siblings && self.page.standing.kind == VnodeKind::Rebuilding {
            row = loose::proven(row, &self.page.clock);
        }
        row.strip(&self.page.clock);
        if !row.context().is_empty() {
            self.contexts.push((id, key.clone()));
        }
        if !row.is_empty() && (self.full || row.is_news_to(self.puller)) {
            if size > self.bytes_left && !self.page.rows.is_empty() {
                return Ok(true);
            }
            self.bytes_left = self.bytes_left.saturating_sub(size);
            self.page.bytes += size;
            let position =
                key::decode(&key).map_err(|cause| table.corrupt(&key, None, cause.to_string()))?;
            self.page.rows.push((id, position.key, row));
        }
        self.last = Some((id, key));
        Ok(false)
    }

    /// The stored keys of the vnode, behind where the page before ended.
    fn range(&self, table: TableId, inner: &Inner, vnode: VnodeId) -> (Bound<Bytes>, Bound<Bytes>) {
        let (first, end) = inner.stored_range(vnode);
        // What a peer gives back as a position may be anything; it never leads out of the vnode.
        let start = match (&self.last, &first) {
            (Some((last, key)), Bound::Included(first)) if *last == table && *key >= first => {
                Bound::Excluded(key.clone())
            }
            _ => first,
        };
        (start, end)
    }
}
