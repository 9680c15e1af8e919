//! Which rows the dots are in that were applied last: a peer that lacks few of them is served by
//! looking these rows up, without a scan of their vnode.
//!
//! A pull also brings the rows that have a context (rule 7), whose dots no clock may name. They are
//! listed here too: for a vnode that this life has seen the first write of, or all rows of, in a
//! scan. The list may name rows that have no context any more, and never lacks one that has.
//!
//! Volatile and bounded. What is not known here is found by a scan.
//!
//! INVARIANT: what is stored in a vnode is noted under its lock. So whoever asks under the lock that
//! it takes clock and snapshot under hears of that moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use meridian_crdt::{Dot, DotSet};
use meridian_types::{KeyspaceId, Mutation, TableId, VnodeId, broken};
use parking_lot::Mutex;

/// Locks that all vnodes share: no writer waits for one that notes something of another vnode.
const STRIPES: usize = 16;

/// Dots that a stripe remembers: all together the last 65,536 of a node.
const DOTS: usize = 4_096;

/// Bytes that a stripe's dots take at most; all together 8 MiB.
const DOT_BYTES: usize = 512 << 10;

/// Rows with a context that are listed of one vnode; beyond it a scan finds them.
const CONTEXT_ROWS: usize = 4_096;

/// Bytes that a stripe's rows with a context take at most; all together 4 MiB.
const CONTEXT_BYTES: usize = 256 << 10;

/// A vnode of a keyspace.
pub(crate) type Place = (KeyspaceId, VnodeId);

/// A row, by its table and its stored key.
pub(crate) type StoredRow = (TableId, Bytes);

/// See the module.
#[derive(Debug)]
pub(crate) struct Recent(Box<[Mutex<Stripe>]>);

#[derive(Debug, Default)]
struct Stripe {
    vnodes: BTreeMap<Place, Known>,
    /// Whose dots they are, oldest first.
    order: VecDeque<Place>,
    dot_bytes: usize,
    context_bytes: usize,
    scans: u64,
}

/// What is known of a vnode.
#[derive(Debug, Default)]
struct Known {
    /// Oldest first.
    dots: VecDeque<(Dot, StoredRow)>,
    contexts: Contexts,
}

#[derive(Debug, Default)]
enum Contexts {
    #[default]
    Unknown,
    Listed(BTreeSet<StoredRow>),
    /// A scan is looking for them. What gets a context meanwhile is noted as well.
    Scanning {
        rows: BTreeSet<StoredRow>,
        scan: Scan,
        /// Where the scan's next page begins; `None` while one is looked at.
        next: Option<StoredRow>,
    },
}

/// A scan that looks at all rows of a vnode, page by page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan(u64);

impl Recent {
    pub(crate) fn new() -> Self {
        Self((0..STRIPES).map(|_| Mutex::default()).collect())
    }

    fn stripe(&self, (keyspace, vnode): Place) -> &Mutex<Stripe> {
        &self.0[(keyspace.0 ^ vnode.0) as usize % STRIPES]
    }

    /// A vnode gets its first row ever.
    pub(crate) fn begun(&self, place: Place) {
        let mut stripe = self.stripe(place).lock();
        stripe.vnodes.entry(place).or_default().contexts = Contexts::Listed(BTreeSet::new());
    }

    /// Dots were applied to a row.
    pub(crate) fn applied(&self, place: Place, dots: &DotSet, table: TableId, key: &[u8]) {
        let mut stripe = self.stripe(place).lock();
        for (actor, counters) in dots.actors() {
            for (first, last) in counters.ranges() {
                for counter in first..=last {
                    let row = (table, Bytes::copy_from_slice(key));
                    stripe.note(place, Dot::new(actor, counter), row);
                }
            }
        }
    }

    /// A row was stored, with a context or without one.
    pub(crate) fn stored(&self, place: Place, table: TableId, key: &[u8], has_context: bool) {
        let mut stripe = self.stripe(place).lock();
        let row = (table, Bytes::copy_from_slice(key));
        if has_context {
            stripe.list(place, [row]);
        } else {
            stripe.unlist(place, &row);
        }
    }

    /// The rows that have one of some dots, or a context; `None` where that is not wholly known.
    /// To be asked under the vnode's lock.
    pub(crate) fn find(&self, place: Place, missing: &DotSet) -> Option<BTreeSet<StoredRow>> {
        let wanted = usize::try_from(missing.len()).ok().filter(|&dots| dots <= DOTS)?;
        let stripe = self.stripe(place).lock();
        let known = stripe.vnodes.get(&place)?;
        let mut rows = match &known.contexts {
            Contexts::Listed(rows) => rows.clone(),
            Contexts::Unknown | Contexts::Scanning { .. } => return None,
        };
        if broken(Mutation::SkipContextRows) {
            rows.clear();
        }
        let mut found = DotSet::default();
        for (dot, row) in &known.dots {
            if missing.contains(*dot) && found.insert(*dot) {
                rows.insert(row.clone());
            }
        }
        (found.len() == wanted as u64).then_some(rows)
    }

    /// A scan looks at a page of a vnode's rows, from its beginning or behind `after`. If somebody
    /// needs to know, it tells at the page's end which rows have a context. To be asked under the
    /// vnode's lock.
    pub(crate) fn scan_begins(&self, place: Place, after: Option<&StoredRow>) -> Option<Scan> {
        let stripe = &mut *self.stripe(place).lock();
        let known = stripe.vnodes.entry(place).or_default();
        match (&mut known.contexts, after) {
            (Contexts::Listed(_), _) | (Contexts::Unknown, Some(_)) => None,
            (Contexts::Scanning { next, scan, .. }, Some(after)) => {
                let goes_on = next.as_ref() == Some(after);
                goes_on.then(|| {
                    *next = None;
                    *scan
                })
            }
            (Contexts::Unknown | Contexts::Scanning { .. }, None) => {
                stripe.give_up(place);
                stripe.scans += 1;
                let scan = Scan(stripe.scans);
                let contexts = Contexts::Scanning { rows: BTreeSet::new(), scan, next: None };
                stripe.vnodes.entry(place).or_default().contexts = contexts;
                Some(scan)
            }
        }
    }

    /// The page was looked at, and the next one begins behind `next`.
    pub(crate) fn scan_saw(
        &self,
        place: Place,
        scan: Scan,
        found: Vec<StoredRow>,
        next: Option<&StoredRow>,
    ) {
        let stripe = &mut *self.stripe(place).lock();
        let is_it = |contexts: &Contexts| matches!(contexts, Contexts::Scanning { scan: other, .. } if *other == scan);
        if !stripe.vnodes.get(&place).is_some_and(|known| is_it(&known.contexts)) {
            return;
        }
        stripe.list(place, found);
        let Some(known) = stripe.vnodes.get_mut(&place) else { return };
        if let Contexts::Scanning { rows, next: waits, .. } = &mut known.contexts {
            match next {
                Some(next) => *waits = Some(next.clone()),
                None => known.contexts = Contexts::Listed(std::mem::take(rows)),
            }
        }
    }
}

impl Stripe {
    fn note(&mut self, place: Place, dot: Dot, row: StoredRow) {
        self.dot_bytes += size(&row);
        self.vnodes.entry(place).or_default().dots.push_back((dot, row));
        self.order.push_back(place);
        while self.order.len() > DOTS || self.dot_bytes > DOT_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            let known = self.vnodes.get_mut(&oldest);
            if let Some((_, row)) = known.and_then(|known| known.dots.pop_front()) {
                self.dot_bytes -= size(&row);
            }
        }
    }

    /// Lists rows with a context, if they are listed. Where they are too many, none are any more.
    fn list(&mut self, place: Place, new: impl IntoIterator<Item = StoredRow>) {
        let Some(rows) = self.vnodes.get_mut(&place).and_then(|known| known.contexts.rows()) else {
            return;
        };
        for row in new {
            let bytes = size(&row);
            if rows.insert(row) {
                self.context_bytes += bytes;
            }
        }
        if rows.len() > CONTEXT_ROWS || self.context_bytes > CONTEXT_BYTES {
            self.give_up(place);
        }
    }

    /// What a scan has found stays: it may have been found in an older state than this one.
    fn unlist(&mut self, place: Place, row: &StoredRow) {
        let Some(known) = self.vnodes.get_mut(&place) else { return };
        if let Contexts::Listed(rows) = &mut known.contexts
            && rows.remove(row)
        {
            self.context_bytes -= size(row);
        }
    }

    fn give_up(&mut self, place: Place) {
        let Some(known) = self.vnodes.get_mut(&place) else { return };
        if let Some(rows) = known.contexts.rows() {
            self.context_bytes -= rows.iter().map(size).sum::<usize>();
        }
        known.contexts = Contexts::Unknown;
    }
}

impl Contexts {
    fn rows(&mut self) -> Option<&mut BTreeSet<StoredRow>> {
        match self {
            Self::Unknown => None,
            Self::Listed(rows) | Self::Scanning { rows, .. } => Some(rows),
        }
    }
}

fn size((_, key): &StoredRow) -> usize {
    size_of::<(Dot, StoredRow)>() + key.len()
}

#[cfg(test)]
mod tests {
    use meridian_crdt::Actor;
    use meridian_types::{Incarnation, NodeId};

    use super::*;

    const PLACE: Place = (KeyspaceId(1), VnodeId(2));

    fn dots(counters: impl IntoIterator<Item = u64>) -> DotSet {
        let actor = Actor { node: NodeId(1), incarnation: Incarnation(1) };
        counters.into_iter().map(|counter| Dot::new(actor, counter)).collect()
    }

    fn row(key: &str) -> StoredRow {
        (TableId(1), Bytes::copy_from_slice(key.as_bytes()))
    }

    fn found(recent: &Recent, counters: impl IntoIterator<Item = u64>) -> Option<Vec<StoredRow>> {
        Some(recent.find(PLACE, &dots(counters))?.into_iter().collect())
    }

    #[test]
    fn finds_rows_of_dots_where_all_are_known() {
        let recent = Recent::new();
        recent.begun(PLACE);
        recent.applied(PLACE, &dots([1]), TableId(1), b"a");
        recent.applied(PLACE, &dots([2, 3]), TableId(1), b"b");
        assert_eq!(found(&recent, [1, 3]), Some(vec![row("a"), row("b")]));
        assert_eq!(found(&recent, [2]), Some(vec![row("b")]));
        assert_eq!(found(&recent, [2, 4]), None);
        assert_eq!(recent.find((KeyspaceId(1), VnodeId(3)), &dots([1])), None);
    }

    #[test]
    fn remembers_the_last_of_them_and_takes_no_more_memory() {
        let recent = Recent::new();
        let other = (KeyspaceId(1), VnodeId(2 + u32::try_from(STRIPES).unwrap()));
        recent.begun(PLACE);
        recent.applied(PLACE, &dots([1]), TableId(1), b"a");
        for counter in 1..=DOTS as u64 {
            recent.applied(other, &dots([counter]), TableId(1), b"b");
        }
        assert_eq!(found(&recent, [1]), None);
        assert_eq!(recent.stripe(PLACE).lock().order.len(), DOTS);
        recent.applied(PLACE, &dots([2]), TableId(1), &vec![0; DOT_BYTES]);
        let stripe = recent.stripe(PLACE).lock();
        assert_eq!((stripe.order.len(), stripe.dot_bytes), (0, 0));
    }

    #[test]
    fn rows_with_a_context_come_always_and_are_unknown_until_all_were_seen() {
        let recent = Recent::new();
        recent.applied(PLACE, &dots([1]), TableId(1), b"a");
        assert_eq!(found(&recent, [1]), None);
        let scan = recent.scan_begins(PLACE, None).unwrap();
        recent.scan_saw(PLACE, scan, vec![row("c")], Some(&row("c")));
        assert_eq!(found(&recent, [1]), None);
        // Somebody else begins elsewhere; a row before the scan's position gets a context.
        assert_eq!(recent.scan_begins(PLACE, Some(&row("d"))), None);
        recent.stored(PLACE, TableId(1), b"b", true);
        assert_eq!(recent.scan_begins(PLACE, Some(&row("c"))), Some(scan));
        recent.scan_saw(PLACE, scan, vec![], None);
        assert_eq!(found(&recent, [1]), Some(vec![row("a"), row("b"), row("c")]));
        recent.stored(PLACE, TableId(1), b"c", false);
        assert_eq!(found(&recent, []), Some(vec![row("b")]));
        assert_eq!(recent.scan_begins(PLACE, None), None);
    }

    #[test]
    fn a_scan_that_another_one_overtook_says_nothing() {
        let recent = Recent::new();
        let first = recent.scan_begins(PLACE, None).unwrap();
        let second = recent.scan_begins(PLACE, None).unwrap();
        recent.scan_saw(PLACE, first, vec![], None);
        assert_eq!(found(&recent, []), None);
        recent.scan_saw(PLACE, second, vec![], None);
        assert_eq!(found(&recent, []), Some(vec![]));
    }

    #[test]
    fn too_many_rows_with_a_context_are_none_that_are_known() {
        let recent = Recent::new();
        recent.begun(PLACE);
        for n in 0..CONTEXT_ROWS {
            recent.stored(PLACE, TableId(1), n.to_string().as_bytes(), true);
            if found(&recent, []).is_none() {
                break;
            }
        }
        recent.stored(PLACE, TableId(1), b"one more", true);
        assert_eq!(found(&recent, []), None);
        assert_eq!(recent.stripe(PLACE).lock().context_bytes, 0);
    }
}
