//! A page of a table, in the order of the ring.

use meridian_types::RingPosition;

use super::*;
use crate::standing::VnodeKind;

/// Rows that one page looks at, at most: with a prefix that few keys have, a page ends before it is
/// full, so that a request never holds a thread for long.
pub const PAGE_ROWS_EXAMINED: usize = 10_000;

/// Bytes of keys and values in one page, beyond which it ends: it travels in one message.
pub const PAGE_BYTES: usize = 4 << 20;

/// A page of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorePage {
    /// The rows, markers and expired ones among them, in the order of the ring.
    pub rows: Vec<(RingPosition, Row)>,
    /// Whether there may be more behind [`Self::end`].
    pub more: bool,
    /// The last position that was looked at, where there may be more: where the next page starts.
    /// Behind the last row where the rows after it did not match; a page may have no row at all and
    /// still not be the last.
    pub end: Option<RingPosition>,
}

impl Store {
    /// Rows behind `after` (`None`: from the beginning of the ring) up to those whose token's top 64
    /// bits are `until`, at most `limit` of them, with keys that begin with `prefix`.
    ///
    /// # Errors
    /// A row that cannot be read fails the page: it must not look as if it were not there.
    pub fn page(
        &self,
        table: TableId,
        after: Option<&RingPosition>,
        until: u64,
        limit: usize,
        prefix: &[u8],
    ) -> Result<StorePage, StoreError> {
        let inner = &*self.inner;
        let table = inner.view().tables.get(&table).ok_or(StoreError::UnknownTable(table))?.clone();
        let start = match after {
            None => Bound::Unbounded,
            Some(at) => Bound::Excluded(Bytes::copy_from_slice(&key::encode(at.token, &at.key))),
        };
        let mut page = StorePage::default();
        let (mut examined, mut bytes) = (0, 0);
        for stored in table.tree.scan((start, last_bound(until)), &inner.db.snapshot()) {
            if examined == PAGE_ROWS_EXAMINED || page.rows.len() == limit || bytes >= PAGE_BYTES {
                page.more = true;
                return Ok(page);
            }
            examined += 1;
            let seen = page.end.as_ref().map_or(&b""[..], |end| &end.key);
            let (key, value) = stored.map_err(|cause| table.failed(seen, cause))?;
            let position =
                key::decode(&key).map_err(|cause| table.corrupt(&key, None, cause.to_string()))?;
            if position.key.starts_with(prefix) {
                let size = key.len() + value.len();
                let row = match inner.count.vnode_of(key::token_from_high(position.token)) {
                    vnode if table.vnodes.standing(vnode).kind() == VnodeKind::Rebuilding => {
                        inner.proven_row(&table, vnode, &key)?
                    }
                    _ => table.decode(&key, Some(value))?,
                };
                if !row.entries().is_empty() {
                    bytes += size;
                    page.rows.push((position.clone(), row));
                }
            }
            page.end = Some(position);
        }
        page.end = None;
        Ok(page)
    }
}

impl Inner {
    /// What is proven of a row, as it is now: a clock of another moment than the row would hide what
    /// was acknowledged, or show what was deleted.
    fn proven_row(&self, table: &Table, vnode: VnodeId, key: &[u8]) -> Result<Row, StoreError> {
        let (clock, snapshot) = {
            let locked = table.vnodes.lock(vnode);
            (locked.clock().clone(), self.db.snapshot())
        };
        Ok(loose::proven(table.row_at(key, &snapshot)?, &clock))
    }
}

/// The end of a range that includes every key with this token.
pub(super) fn last_bound(token: u64) -> Bound<Bytes> {
    token.checked_add(1).map_or(Bound::Unbounded, |next| Bound::Excluded(key::first_of(next)))
}
