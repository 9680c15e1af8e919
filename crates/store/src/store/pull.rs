//! What a peer that pulls a vnode lacks (rule 7).

use super::*;
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
        let inner = &*self.inner;
        let vnodes = inner.vnodes(keyspace)?;
        vnodes.check(vnode)?;
        let (clock, standing, snapshot) = {
            let locked = vnodes.lock(vnode);
            let standing = vnodes.peer_standing(&locked, inner.actor.incarnation);
            (locked.clock().clone(), standing, inner.db.snapshot())
        };
        let view = inner.view.load_full();
        let mut page = Pulling {
            page: VnodePage::empty(clock, standing),
            puller,
            full,
            bytes_left: max_bytes,
            rows_left: PULL_ROWS_EXAMINED,
            last: after,
        };
        let from = page.last.as_ref().map_or(TableId(0), |(table, _)| *table);
        for table in view.tables.range(from..).map(|(_, table)| table) {
            if table.def.keyspace == keyspace && page.table(table, inner, vnode, &snapshot)? {
                page.page.next = page.last;
                break;
            }
        }
        page.page.rows_examined = PULL_ROWS_EXAMINED - page.rows_left;
        inner.counters.pull_rows_examined.add_many(page.page.rows_examined as u64);
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
    last: Option<(TableId, Bytes)>,
}

impl Pulling<'_> {
    /// Looks at the rows of one table; whether the page ended in it.
    fn table(
        &mut self,
        table: &Table,
        inner: &Inner,
        vnode: VnodeId,
        snapshot: &Snapshot,
    ) -> Result<bool, StoreError> {
        let id = table.def.id;
        // An LWW row has no context that could be missing.
        let is_siblings = table.policy() == ConflictPolicy::Siblings;
        let hides_loose = is_siblings && self.page.standing.kind == VnodeKind::Rebuilding;
        let range = self.range(id, inner, vnode);
        for stored in table.tree.scan(range, snapshot) {
            let (key, value) = stored.map_err(|cause| {
                let seen = self.last.as_ref().map_or(&b""[..], |(_, key)| key);
                table.failed(seen, cause)
            })?;
            if self.rows_left == 0 {
                return Ok(true);
            }
            self.rows_left -= 1;
            let size = key.len() + value.len();
            let mut row = table.decode(&key, Some(value))?;
            if hides_loose {
                row = loose::proven(row, &self.page.clock);
            }
            row.strip(&self.page.clock);
            if !row.is_empty() && (self.full || row.is_news_to(self.puller)) {
                if size > self.bytes_left && !self.page.rows.is_empty() {
                    return Ok(true);
                }
                self.bytes_left = self.bytes_left.saturating_sub(size);
                self.page.bytes += size;
                let position = key::decode(&key)
                    .map_err(|cause| table.corrupt(&key, None, cause.to_string()))?;
                self.page.rows.push((id, position.key, row));
            }
            self.last = Some((id, key));
        }
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
