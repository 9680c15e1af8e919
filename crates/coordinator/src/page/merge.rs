//! Several replicas' pages become one.

use super::{PageDone, PageItem};
use crate::message::{PageReply, PageRequest, PageRow, ReadKind};

/// What is wrong with a page that a replica sent, if anything. Merging relies on its order, and
/// the scan's progress on its being past the cursor.
pub(super) fn defect(page: &PageReply, request: &PageRequest) -> Option<&'static str> {
    let positions = || page.rows.iter().map(|row| &row.position);
    if page.rows.len() > request.limit {
        Some("the page has more rows than were asked for")
    } else if page.end.as_ref().is_some_and(|end| request.after.as_ref() >= Some(end)) {
        Some("the page ends where it began and says there are more")
    } else if page.end.as_ref().is_some_and(|end| positions().any(|at| at > end)) {
        Some("the page has rows behind its end")
    } else if !positions().is_sorted_by(|a, b| a < b) {
        Some("the page is not in the order of the ring")
    } else if request.after.as_ref().is_some_and(|after| positions().any(|at| at <= after))
        || positions().chain(&page.end).any(|at| at.token > request.until)
    {
        Some("the page goes beyond what was asked for")
    } else if request.kind == ReadKind::Data && page.rows.iter().any(|row| row.row.is_none()) {
        Some("the page has digests only")
    } else {
        None
    }
}

/// Merges pages, of which the first has rows and the others at least digests.
///
/// Of a page with more behind it nothing is known past its end, so the merged page ends at the
/// smallest of those.
pub(super) fn merge(pages: Vec<PageReply>, limit: usize) -> PageDone {
    let end = pages.iter().filter_map(|page| page.end.clone()).min();
    let mut pages: Vec<_> =
        pages.into_iter().map(|page| page.rows.into_iter().peekable()).collect();
    let mut items: Vec<PageItem> = Vec::new();
    loop {
        let heads = pages.iter_mut().filter_map(|rows| rows.peek());
        let Some(position) = heads.map(|row| &row.position).min().cloned() else { break };
        if end.as_ref().is_some_and(|end| position > *end) {
            break;
        }
        if items.len() >= limit {
            let next = items.last().map(|item| item.position().clone());
            return PageDone { items, next };
        }
        let here = |row: &PageRow| row.position == position;
        let mut rows = pages.iter_mut().map(|rows| rows.next_if(here));
        let first = rows.next().flatten();
        let digest = first.as_ref().map(|row| row.digest);
        let mut agree = true;
        // Every page is moved past the position, whether or not the rows agree.
        for other in rows {
            agree &= other.map(|row| row.digest) == digest;
        }
        items.push(match first.filter(|_| agree).and_then(|row| row.row) {
            Some(row) => PageItem::Agreed(position, row),
            None => PageItem::Differs(position),
        });
    }
    PageDone { items, next: end }
}
