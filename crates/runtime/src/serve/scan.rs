//! Scans: a table's rows in the order of the ring, page by page.
//!
//! A cursor is a place on the ring and no state of any node, so any node can go on where another
//! stopped. It is eight bytes, the top of the next row's token; where several rows share these 64
//! bits it is followed by the key to go on after.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use meridian_coordinator::Segment;
use meridian_coordinator::message::{PageRequest, ReadKind};
use meridian_coordinator::page::PageItem;
use meridian_crdt::{Context, Row};
use meridian_service::{CallContext, Outcome, RequestError, Scan, ScanOutcome, ScanRow};
use meridian_types::{ConsistencyLevel, ReadClass, RingPosition, VnodeId};

use super::Budget;
use super::batch::KEYS_AT_ONCE;
use crate::catalog::TableRef;
use crate::node::Inner;
use crate::session::Sessional;

/// Most rows, markers and expired ones among them, that one page looks at: a page of a table full
/// of deleted rows comes back short, or empty, with a cursor.
pub(crate) const MAX_EXAMINED: usize = 20_000;

/// A scan under way.
struct Progress<'a> {
    session: Sessional<'a>,
    rows: Vec<ScanRow>,
    examined: usize,
    at: At,
}

/// Where a scan is.
enum At {
    /// Rows behind this position are next.
    After(RingPosition),
    End,
}

impl Inner {
    pub(crate) async fn scan(
        self: &Arc<Self>,
        context: &CallContext,
        scan: Scan,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        let most = self.options.limits.page_rows;
        if scan.limit == 0 || scan.limit > most {
            let why = format!("{} rows a page are not possible; 1 to {most} are", scan.limit);
            return Err(RequestError::InvalidArgument { what: "limit", why });
        }
        let table = self.table(&scan.table)?;
        let start = scan.cursor.as_ref().map_or(Ok(RingPosition::default()), position_of)?;
        let budget = Budget::new(context, self.host.now());
        let mut progress =
            Progress { session, rows: Vec::new(), examined: 0, at: At::After(start) };
        while let At::After(after) = &progress.at {
            let wanted = scan.limit - progress.rows.len();
            if wanted == 0 || progress.examined >= MAX_EXAMINED {
                break;
            }
            let after = after.clone();
            let left = budget.left(self.host.now());
            let items = self.next_items(&left, &table, &scan, after, wanted, &mut progress).await?;
            let left = budget.left(self.host.now());
            progress.rows.extend(self.rows_of(&left, &table, &scan, items, session).await?);
        }
        let next = match progress.at {
            At::End => None,
            At::After(position) => Some(cursor_of(&position)),
        };
        Ok(Outcome::Page(ScanOutcome { rows: progress.rows, next }))
    }

    /// One page of the segment behind `after`, and how far it came.
    async fn next_items(
        self: &Arc<Self>,
        context: &CallContext,
        table: &TableRef,
        scan: &Scan,
        after: RingPosition,
        wanted: usize,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<PageItem>, RequestError> {
        let Some(segment) = table.keyspace.segments.at(after.token) else {
            progress.at = At::End;
            return Ok(Vec::new());
        };
        let (seen, level) = seen_of(table, segment, scan.consistency, &after, progress.session);
        let request = PageRequest {
            keyspace: table.keyspace.def.id,
            table: table.def.id,
            after: Some(after),
            until: segment.last,
            // One more than wanted shows where the next page starts.
            limit: wanted + 1,
            prefix: scan.prefix.clone(),
            kind: ReadKind::Data,
            seen,
            class: ReadClass::of(level),
        };
        let mut page = self.page_of(context, table, segment, request, level).await?;
        progress.examined += page.items.len();
        let surplus = page.items.split_off(page.items.len().min(wanted));
        let last = page.items.last().map(|item| item.position().clone());
        progress.at = match (surplus.first(), last, page.next) {
            (Some(next), last, _) => At::After(before(next.position(), last.as_ref())),
            (None, _, Some(next)) => At::After(next),
            (None, _, None) => match segment.last.checked_add(1) {
                Some(token) => At::After(RingPosition { token, key: Bytes::new() }),
                None => At::End,
            },
        };
        Ok(page.items)
    }

    async fn rows_of(
        self: &Arc<Self>,
        context: &CallContext,
        table: &TableRef,
        scan: &Scan,
        items: Vec<PageItem>,
        session: Sessional<'_>,
    ) -> Result<Vec<ScanRow>, RequestError> {
        let row = |item: PageItem| async move {
            let (key, row) = match item {
                PageItem::Agreed(position, row) => {
                    if let Some(session) = session {
                        let vnode = self.store.vnode_of(&position.key);
                        let dots = row.entries().iter().map(|entry| entry.dot);
                        session.note(table.keyspace.def.id, vnode, dots, None);
                    }
                    (position.key, row)
                }
                PageItem::Differs(position) => {
                    let key = position.key;
                    let row = self.settled_row(context, table, scan, key.clone(), session).await?;
                    (key, row)
                }
            };
            Ok((key, self.visible_values(&row)))
        };
        let read: Vec<Result<_, RequestError>> =
            stream::iter(items.into_iter().map(row)).buffered(KEYS_AT_ONCE).collect().await;
        let mut rows = Vec::with_capacity(read.len());
        for row in read {
            let (key, mut values) = row?;
            if values.is_empty() {
                continue;
            }
            if !scan.with_values {
                values.clear();
            }
            rows.push(ScanRow { key, values });
        }
        Ok(rows)
    }

    async fn settled_row(
        self: &Arc<Self>,
        context: &CallContext,
        table: &TableRef,
        scan: &Scan,
        key: Bytes,
        session: Sessional<'_>,
    ) -> Result<Row, RequestError> {
        let level = scan.consistency;
        let done = match session {
            None => self.get_row(context, table, key, level, false, None)?.answer().await,
            Some(session) => self.read_in_session(context, table, key, level, session).await,
        };
        Ok(done?.row)
    }
}

/// What the session has seen of the vnodes that a page may show, and the level of the page: where
/// the session has forgotten some of it, all replicas are asked.
fn seen_of(
    table: &TableRef,
    segment: Segment,
    level: ConsistencyLevel,
    after: &RingPosition,
    session: Sessional<'_>,
) -> (Vec<(VnodeId, Context)>, ConsistencyLevel) {
    let Some(session) = session else { return (Vec::new(), level) };
    let count = table.keyspace.placement.vnode_count();
    let shown = |vnode| {
        let range = count.token_range(vnode);
        range.is_some_and(|r| r.end().high() >= after.token && r.start().high() <= segment.last)
    };
    match session.needs(table.keyspace.def.id, shown) {
        Some(seen) => (seen, level),
        None => (Vec::new(), ConsistencyLevel::All),
    }
}

/// A position with nothing between it and `next`, as short as it can be.
fn before(next: &RingPosition, last: Option<&RingPosition>) -> RingPosition {
    match last {
        Some(last) if last.token == next.token => last.clone(),
        _ => RingPosition { token: next.token, key: Bytes::new() },
    }
}

fn cursor_of(position: &RingPosition) -> Bytes {
    let mut cursor = position.token.to_be_bytes().to_vec();
    cursor.extend_from_slice(&position.key);
    cursor.into()
}

fn position_of(cursor: &Bytes) -> Result<RingPosition, RequestError> {
    match cursor.split_first_chunk::<8>() {
        Some((token, _)) => {
            Ok(RingPosition { token: u64::from_be_bytes(*token), key: cursor.slice(8..) })
        }
        None => Err(RequestError::InvalidArgument {
            what: "cursor",
            why: "it is no cursor of this table's pages; use the one that the last page gave"
                .to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(token: u64, key: &'static str) -> RingPosition {
        RingPosition { token, key: Bytes::from_static(key.as_bytes()) }
    }

    #[test]
    fn cursors_are_short_unless_tokens_collide() {
        assert_eq!(before(&at(7, "b"), Some(&at(5, "a"))), at(7, ""));
        assert_eq!(before(&at(7, "b"), Some(&at(7, "a"))), at(7, "a"));
        assert_eq!(before(&at(7, "b"), None), at(7, ""));
        assert_eq!(cursor_of(&at(7, "")).len(), 8);
        for position in [at(7, ""), at(u64::MAX, "key")] {
            assert_eq!(position_of(&cursor_of(&position)), Ok(position));
        }
        assert!(position_of(&Bytes::from_static(b"short")).is_err());
    }
}
