//! Many sorted sources as one, in one direction: a heap of positions.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::error::Error;
use crate::key::compare;
use crate::memtable::MemCursor;
use crate::table::cursor::{LevelCursor, TableCursor};

/// A sorted source of versions.
pub(crate) enum Source {
    Memtable(MemCursor),
    Table(TableCursor),
    Level(LevelCursor),
}

impl Source {
    fn valid(&self) -> bool {
        match self {
            Self::Memtable(cursor) => cursor.valid(),
            Self::Table(cursor) => cursor.valid(),
            Self::Level(cursor) => cursor.valid(),
        }
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::Memtable(cursor) => cursor.key(),
            Self::Table(cursor) => cursor.key(),
            Self::Level(cursor) => cursor.key(),
        }
    }

    fn tag(&self) -> u64 {
        match self {
            Self::Memtable(cursor) => cursor.tag(),
            Self::Table(cursor) => cursor.tag(),
            Self::Level(cursor) => cursor.tag(),
        }
    }

    fn value(&self) -> Bytes {
        match self {
            // Copied: a slice would keep the whole memtable alive for as long as the caller likes.
            Self::Memtable(cursor) => Bytes::copy_from_slice(cursor.value()),
            Self::Table(cursor) => cursor.value(),
            Self::Level(cursor) => cursor.value(),
        }
    }

    /// As [`Source::value`], until the source moves.
    fn value_ref(&self) -> &[u8] {
        match self {
            Self::Memtable(cursor) => cursor.value(),
            Self::Table(cursor) => cursor.value_ref(),
            Self::Level(cursor) => cursor.value_ref(),
        }
    }

    fn go(&mut self, to: Position<'_>) -> Result<(), Error> {
        match self {
            Self::Memtable(cursor) => {
                match to {
                    Position::First => cursor.first(),
                    Position::Last => cursor.last(),
                    Position::AtOrBehind(key, tag) => cursor.seek(key, tag),
                    Position::Before(key, tag) => cursor.seek_before(key, tag),
                    Position::Next => cursor.next(),
                    Position::Prev => cursor.prev(),
                }
                Ok(())
            }
            Self::Table(cursor) => cursor.go(to),
            Self::Level(cursor) => cursor.go(to),
        }
    }

    /// As `go`, to something further on.
    fn go_on(&mut self, to: Position<'_>) -> Result<(), Error> {
        match self {
            Self::Memtable(_) => self.go(to),
            Self::Table(cursor) => cursor.go_on(to),
            Self::Level(cursor) => cursor.go_on(to),
        }
    }
}

/// Where a source should go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Position<'a> {
    First,
    Last,
    /// The first version at or behind this one.
    AtOrBehind(&'a [u8], u64),
    /// The last version before this one.
    Before(&'a [u8], u64),
    Next,
    Prev,
}

/// The direction of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Reverse,
}

/// The sources merged in one direction. Newer sources come first in the list; that only matters
/// for versions that are equal in key, seqno and kind, of which any will do.
pub(crate) struct MergeIter {
    sources: Vec<Source>,
    direction: Direction,
    /// Indices of valid sources; the next one on top.
    heap: Vec<usize>,
    /// Which of the top's two children comes first; 0: not known. While one source gives entry
    /// after entry, each of them is compared with this one only.
    second: usize,
}

impl MergeIter {
    /// Starts at `start`, which fits the direction.
    pub(crate) fn new(
        mut sources: Vec<Source>,
        direction: Direction,
        start: Position<'_>,
    ) -> Result<Self, Error> {
        for source in &mut sources {
            source.go(start)?;
        }
        let heap = (0..sources.len()).filter(|at| sources[*at].valid()).collect();
        let mut merged = Self { sources, direction, heap, second: 0 };
        merged.order();
        Ok(merged)
    }

    /// Makes a heap of whatever order the sources are in.
    fn order(&mut self) {
        self.second = 0;
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
    }

    /// Goes on to `to`, which fits the direction and is not behind where the merge is.
    pub(crate) fn skip_to(&mut self, to: Position<'_>) -> Result<(), Error> {
        for &at in &self.heap {
            let source = &mut self.sources[at];
            let here = (source.key(), source.tag());
            let is_there = match to {
                Position::AtOrBehind(key, tag) => compare(here, (key, tag)) != Ordering::Less,
                Position::Before(key, tag) => compare(here, (key, tag)) == Ordering::Less,
                Position::First | Position::Last | Position::Next | Position::Prev => false,
            };
            if !is_there {
                source.go_on(to)?;
            }
        }
        self.heap.retain(|at| self.sources[*at].valid());
        self.order();
        Ok(())
    }

    pub(crate) fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    fn top(&self) -> Option<&Source> {
        self.heap.first().map(|at| &self.sources[*at])
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.top().map_or(&[], Source::key)
    }

    pub(crate) fn tag(&self) -> u64 {
        self.top().map_or(0, Source::tag)
    }

    pub(crate) fn value(&self) -> Bytes {
        self.top().map_or_else(Bytes::new, Source::value)
    }

    /// As [`MergeIter::value`], until the merge goes on.
    pub(crate) fn value_ref(&self) -> &[u8] {
        self.top().map_or(&[], Source::value_ref)
    }

    /// Goes on in the merge's direction.
    pub(crate) fn advance(&mut self) -> Result<(), Error> {
        let Some(&top) = self.heap.first() else { return Ok(()) };
        let step = match self.direction {
            Direction::Forward => Position::Next,
            Direction::Reverse => Position::Prev,
        };
        self.sources[top].go(step)?;
        if !self.sources[top].valid() {
            self.heap.swap_remove(0);
            self.second = 0;
        }
        self.sift_down(0);
        Ok(())
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        let (a_source, b_source) = (&self.sources[a], &self.sources[b]);
        let order = compare((a_source.key(), a_source.tag()), (b_source.key(), b_source.tag()));
        match (order, self.direction) {
            (Ordering::Equal, _) => a < b,
            (order, Direction::Forward) => order == Ordering::Less,
            (order, Direction::Reverse) => order == Ordering::Greater,
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            if left >= self.heap.len() {
                return;
            }
            let best = if at == 0 && self.second != 0 { self.second } else { self.first_of(left) };
            if !self.is_before(self.heap[best], self.heap[at]) {
                if at == 0 {
                    self.second = best;
                }
                return;
            }
            self.heap.swap(at, best);
            // A swap anywhere changes who is where among the top's children, or below them.
            self.second = 0;
            at = best;
        }
    }

    /// The position in the heap of the one that comes first: `left` or the one beside it.
    fn first_of(&self, left: usize) -> usize {
        let right = left + 1;
        let is_right = right < self.heap.len() && self.is_before(self.heap[right], self.heap[left]);
        if is_right { right } else { left }
    }
}
