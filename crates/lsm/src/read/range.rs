//! A range of keys, in either direction, as of one seqno.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::get::merge;
use super::merge_iter::{Direction, MergeIter, Position};
use crate::error::Error;
use crate::key::{Seqno, ValueKind, is_apart, is_same, kind_of, seek_tag, seqno_of};
use crate::options::TreeConfig;
use crate::table::reader::Table;
use crate::tree::{Tree, View};
use crate::version::edit::TableRecord;

/// A range of keys: both bounds.
pub type KeyRange = (Bound<Bytes>, Bound<Bytes>);

/// A key and its value, lent by a scan.
pub type LentRow<'a> = (&'a [u8], &'a [u8]);

/// Steps over versions of one key that do not matter, after which a scan searches for what does:
/// about what a search costs (`max_sequential_skip_in_iterations` in RocksDB).
const MAX_STEPS: usize = 8;

/// An iterator over the keys and values of a range. It keeps what it reads alive; drop it early.
///
/// [`Scan::next_ref`] lends each key and value instead of giving them away, which saves two
/// allocations.
pub struct Scan {
    /// An error: told at the next step, and then there is nothing more, for nothing is known about
    /// where the sources stand.
    merged: Result<MergeIter, Option<Error>>,
    resolver: Resolver,
}

/// What makes keys and values of versions.
struct Resolver {
    direction: Direction,
    /// The bound that ends it.
    end: Bound<Bytes>,
    at: Seqno,
    view: Arc<View>,
    config: Arc<TreeConfig>,
    /// The key that was found last.
    key: Vec<u8>,
    /// Whether its versions are ahead still.
    behind: bool,
    /// Its value where no source has it as it is.
    held: Option<Bytes>,
}

/// Where a value is.
enum Found {
    /// In the source on top of the merge.
    Top,
    /// In `held`.
    Held,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("tree", &self.resolver.config.name)
            .field("direction", &self.resolver.direction)
            .field("at", &self.resolver.at)
            .finish_non_exhaustive()
    }
}

impl Scan {
    pub(crate) fn new(tree: &Tree, range: KeyRange, at: Seqno, direction: Direction) -> Self {
        let (low, high) = range;
        let (start, end) = match direction {
            Direction::Forward => (low, high),
            Direction::Reverse => (high, low),
        };
        // Tag 0 sorts behind every version of a key, the largest tag before every one.
        let position = match (&start, direction) {
            (Bound::Unbounded, Direction::Forward) => Position::First,
            (Bound::Unbounded, Direction::Reverse) => Position::Last,
            (Bound::Included(key), Direction::Forward) => Position::AtOrBehind(key, u64::MAX),
            (Bound::Excluded(key), Direction::Forward) => Position::AtOrBehind(key, 0),
            (Bound::Included(key), Direction::Reverse) => Position::Before(key, 0),
            (Bound::Excluded(key), Direction::Reverse) => Position::Before(key, u64::MAX),
        };
        let view = tree.view_full();
        let sources = view.sources(&start, &end, direction, at);
        let merged = MergeIter::new(sources, direction, position).map_err(Some);
        let (config, key) = (tree.config(), Vec::new());
        let resolver =
            Resolver { direction, end, at, view, config, key, behind: false, held: None };
        Self { merged, resolver }
    }

    fn step(&mut self) -> Result<Option<Found>, Error> {
        let merged = match &mut self.merged {
            Ok(merged) => merged,
            Err(cause) => return cause.take().map_or(Ok(None), Err),
        };
        let found = match self.resolver.direction {
            Direction::Forward => self.resolver.forward(merged),
            Direction::Reverse => self.resolver.reverse(merged),
        };
        if found.is_err() {
            self.merged = Err(None);
        }
        found
    }

    /// As [`Iterator::next`], lent until the next step.
    ///
    /// # Errors
    /// As [`Tree::get`]; there is nothing more after one.
    pub fn next_ref(&mut self) -> Result<Option<LentRow<'_>>, Error> {
        let Some(found) = self.step()? else { return Ok(None) };
        let value = match found {
            Found::Top => self.merged.as_ref().map_or(&[][..], MergeIter::value_ref),
            Found::Held => self.resolver.held.as_deref().unwrap_or_default(),
        };
        Ok(Some((&self.resolver.key, value)))
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = match self.step() {
            Ok(None) => return None,
            Ok(Some(Found::Top)) => {
                self.merged.as_ref().map_or_else(|_| Bytes::new(), MergeIter::value)
            }
            Ok(Some(Found::Held)) => self.resolver.held.take().unwrap_or_default(),
            Err(cause) => return Some(Err(cause)),
        };
        Some(Ok((Bytes::copy_from_slice(&self.resolver.key), value)))
    }
}

impl Resolver {
    /// Versions come newest first.
    fn forward(&mut self, merged: &mut MergeIter) -> Result<Option<Found>, Error> {
        if std::mem::take(&mut self.behind) {
            merged.advance()?;
            self.leave(merged, 0)?;
        }
        while self.begin_key(merged) {
            // Those that were written later are not seen.
            if merged.tag() > seek_tag(self.at) && !self.leave(merged, seek_tag(self.at))? {
                continue;
            }
            match kind_of(merged.tag()) {
                ValueKind::Put => {
                    self.behind = true;
                    if is_apart(merged.tag()) {
                        let stored = merged.value_ref();
                        self.held = Some(self.view.version.apart(&self.key, stored)?);
                        return Ok(Some(Found::Held));
                    }
                    return Ok(Some(Found::Top));
                }
                ValueKind::Delete => {}
                ValueKind::Merge => {
                    self.held = self.merge_down(merged)?;
                    if self.held.is_some() {
                        self.leave(merged, 0)?;
                        return Ok(Some(Found::Held));
                    }
                }
            }
            self.leave(merged, 0)?;
        }
        Ok(None)
    }

    /// Notes the key on top of the merge, if it is inside the range.
    fn begin_key(&mut self, merged: &MergeIter) -> bool {
        let key = merged.key();
        if !merged.valid() || is_past(&self.end, self.direction, key) {
            return false;
        }
        self.key.clear();
        self.key.extend_from_slice(key);
        true
    }

    /// Passes over the versions of the key that sort before `tag`; says whether there is one left.
    fn leave(&self, merged: &mut MergeIter, tag: u64) -> Result<bool, Error> {
        let mut steps = 0;
        while merged.valid() && is_same(merged.key(), &self.key) {
            if merged.tag() <= tag {
                return Ok(true);
            }
            if steps == MAX_STEPS {
                merged.skip_to(Position::AtOrBehind(&self.key, tag))?;
                return Ok(merged.valid() && is_same(merged.key(), &self.key));
            }
            merged.advance()?;
            steps += 1;
        }
        Ok(false)
    }

    /// Merges the operands from here down to a value or tombstone, and stays there.
    fn merge_down(&self, merged: &mut MergeIter) -> Result<Option<Bytes>, Error> {
        let newest = seqno_of(merged.tag());
        let mut operands: Vec<Bytes> = Vec::new();
        let mut base = None;
        while merged.valid() && is_same(merged.key(), &self.key) {
            match kind_of(merged.tag()) {
                ValueKind::Merge => operands.push(merged.value()),
                ValueKind::Put => {
                    base = Some(self.value(merged.tag(), merged.value())?);
                    break;
                }
                ValueKind::Delete => break,
            }
            merged.advance()?;
        }
        let oldest_first = operands.iter().rev().map(|operand| &**operand);
        merge(&self.config, &self.key, newest, base.as_deref(), oldest_first)
    }

    /// The value of a version of the key.
    fn value(&self, tag: u64, stored: Bytes) -> Result<Bytes, Error> {
        if is_apart(tag) { self.view.version.apart(&self.key, &stored) } else { Ok(stored) }
    }

    /// Versions come oldest first.
    fn reverse(&mut self, merged: &mut MergeIter) -> Result<Option<Found>, Error> {
        while self.begin_key(merged) {
            self.held = self.merge_up(merged)?;
            if self.held.is_some() {
                return Ok(Some(Found::Held));
            }
        }
        Ok(None)
    }

    /// Resolves the versions of the key, and goes before them.
    fn merge_up(&self, merged: &mut MergeIter) -> Result<Option<Bytes>, Error> {
        let mut base = None;
        let mut operands: Vec<Bytes> = Vec::new();
        let mut newest = 0;
        let mut steps = 0;
        while merged.valid() && is_same(merged.key(), &self.key) {
            if steps == MAX_STEPS {
                // The newest one that counts is found faster from the other end.
                merged.skip_to(Position::Before(&self.key, u64::MAX))?;
                return self.view.get(&self.key, self.at, &self.config);
            }
            let seqno = seqno_of(merged.tag());
            if seqno <= self.at {
                newest = seqno;
                let kind = kind_of(merged.tag());
                if kind == ValueKind::Merge {
                    operands.push(merged.value());
                } else {
                    operands.clear();
                    base = (kind == ValueKind::Put).then(|| (merged.tag(), merged.value()));
                }
            }
            merged.advance()?;
            steps += 1;
        }
        let base = base.map(|(tag, stored)| self.value(tag, stored)).transpose()?;
        if operands.is_empty() {
            return Ok(base);
        }
        let oldest_first = operands.iter().map(|operand| &**operand);
        merge(&self.config, &self.key, newest, base.as_deref(), oldest_first)
    }
}

/// Whether `key` is behind the bound that ends a range.
fn is_past(end: &Bound<Bytes>, direction: Direction, key: &[u8]) -> bool {
    match (end, direction) {
        (Bound::Unbounded, _) => false,
        (Bound::Included(end), Direction::Forward) => key > end,
        (Bound::Excluded(end), Direction::Forward) => key >= end,
        (Bound::Included(end), Direction::Reverse) => key < end,
        (Bound::Excluded(end), Direction::Reverse) => key <= end,
    }
}

/// A range as a scan goes through it.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    pub(crate) start: &'a Bound<Bytes>,
    pub(crate) end: &'a Bound<Bytes>,
    pub(crate) direction: Direction,
}

impl Reach<'_> {
    fn low(&self) -> &Bound<Bytes> {
        if self.direction == Direction::Forward { self.start } else { self.end }
    }

    fn high(&self) -> &Bound<Bytes> {
        if self.direction == Direction::Forward { self.end } else { self.start }
    }

    /// Whether a table may hold a key of the range.
    pub(crate) fn touches(&self, record: &TableRecord) -> bool {
        !is_past(self.high(), Direction::Forward, &record.smallest)
            && !is_past(self.low(), Direction::Reverse, &record.largest)
    }

    /// Whether one of these sorted, disjoint tables may.
    pub(crate) fn touches_any(&self, tables: &[Arc<Table>]) -> bool {
        let is_below =
            |table: &Arc<Table>| is_past(self.low(), Direction::Reverse, &table.record.largest);
        let first = tables.get(tables.partition_point(is_below));
        first.is_some_and(|table| self.touches(&table.record))
    }
}
