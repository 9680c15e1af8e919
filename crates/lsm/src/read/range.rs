//! A range of keys, in either direction, as of one seqno.

use std::ops::Bound;

use bytes::Bytes;

use super::get::merge;
use super::merge_iter::{Direction, MergeIter, Position};
use crate::error::Error;
use crate::key::{Seqno, ValueKind, kind_of, seqno_of};
use crate::options::TreeConfig;
use crate::tree::Tree;

/// A range of keys: both bounds.
pub type KeyRange = (Bound<Bytes>, Bound<Bytes>);

/// An iterator over the keys and values of a range. It keeps what it reads alive; drop it early.
pub struct Scan {
    merged: Result<MergeIter, Option<Error>>,
    direction: Direction,
    /// The bound that ends it.
    end: Bound<Bytes>,
    at: Seqno,
    config: std::sync::Arc<TreeConfig>,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("tree", &self.config.name)
            .field("direction", &self.direction)
            .field("at", &self.at)
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
        let view = tree.view();
        let merged = MergeIter::new(view.sources(), direction, position).map_err(Some);
        Self { merged, direction, end, at, config: tree.config() }
    }

    fn is_past_end(&self, key: &[u8]) -> bool {
        match (&self.end, self.direction) {
            (Bound::Unbounded, _) => false,
            (Bound::Included(end), Direction::Forward) => key > end,
            (Bound::Excluded(end), Direction::Forward) => key >= end,
            (Bound::Included(end), Direction::Reverse) => key < end,
            (Bound::Excluded(end), Direction::Reverse) => key <= end,
        }
    }

    /// The next key that has a value.
    fn step(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        loop {
            let Ok(merged) = &self.merged else { return Ok(None) };
            if !merged.valid() || self.is_past_end(merged.key()) {
                return Ok(None);
            }
            let key = Bytes::copy_from_slice(merged.key());
            let value = match self.direction {
                Direction::Forward => self.newest_first(&key)?,
                Direction::Reverse => self.oldest_first(&key)?,
            };
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
    }

    /// Resolves the versions of `key`, which come newest first, and goes behind them.
    fn newest_first(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let Ok(merged) = &mut self.merged else { return Ok(None) };
        let mut base = None;
        let mut operands: Vec<Bytes> = Vec::new();
        let mut newest = 0;
        let mut decided = false;
        while merged.valid() && merged.key() == key {
            let seqno = seqno_of(merged.tag());
            if !decided && seqno <= self.at {
                newest = newest.max(seqno);
                match kind_of(merged.tag()) {
                    ValueKind::Put => (base, decided) = (Some(merged.value()), true),
                    ValueKind::Delete => decided = true,
                    ValueKind::Merge => operands.push(merged.value()),
                }
            }
            merged.advance()?;
        }
        if operands.is_empty() {
            return Ok(base);
        }
        let oldest_first = operands.iter().rev().map(|operand| &**operand);
        merge(&self.config, key, newest, base.as_deref(), oldest_first)
    }

    /// Resolves the versions of `key`, which come oldest first, and goes before them.
    fn oldest_first(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let Ok(merged) = &mut self.merged else { return Ok(None) };
        let mut base = None;
        let mut operands: Vec<Bytes> = Vec::new();
        let mut newest = 0;
        while merged.valid() && merged.key() == key {
            let seqno = seqno_of(merged.tag());
            if seqno <= self.at {
                newest = seqno;
                let kind = kind_of(merged.tag());
                if kind == ValueKind::Merge {
                    operands.push(merged.value());
                } else {
                    operands.clear();
                    base = (kind == ValueKind::Put).then(|| merged.value());
                }
            }
            merged.advance()?;
        }
        if operands.is_empty() {
            return Ok(base);
        }
        let oldest_first = operands.iter().map(|operand| &**operand);
        merge(&self.config, key, newest, base.as_deref(), oldest_first)
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(cause) = &mut self.merged {
            return cause.take().map(Err);
        }
        match self.step() {
            Ok(found) => found.map(Ok),
            Err(cause) => {
                // After an error nothing is known about where the sources stand.
                self.merged = Err(None);
                Some(Err(cause))
            }
        }
    }
}
