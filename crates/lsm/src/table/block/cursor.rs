//! A bidirectional position in a block.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use super::Block;
use crate::coding::Malformed;
use crate::key::compare;
use crate::prefetch::prefetch_all;

/// Bytes of a block that are asked for at once.
const ASKED_AHEAD: usize = 1 << 10;

/// A position; keys are put together as it moves.
#[derive(Debug)]
pub(crate) struct BlockCursor {
    block: Block,
    key: Vec<u8>,
    tag: u64,
    value: Range<usize>,
    /// Where the current entry begins; `None`: at no entry.
    start: Option<usize>,
    /// Where the next one begins.
    end: usize,
    /// Up to where the block's memory was asked for, going forward.
    asked: usize,
}

impl BlockCursor {
    /// At no entry. Keys are put together in `key`.
    pub(crate) const fn new(block: Block, key: Vec<u8>) -> Self {
        Self { block, key, tag: 0, value: 0..0, start: None, end: 0, asked: 0 }
    }

    /// What [`BlockCursor::new`] was given.
    pub(crate) fn into_key(self) -> Vec<u8> {
        self.key
    }

    pub(crate) const fn valid(&self) -> bool {
        self.start.is_some()
    }

    /// Where in the block the current entry begins.
    pub(crate) const fn place(&self) -> Option<usize> {
        self.start
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) const fn tag(&self) -> u64 {
        self.tag
    }

    pub(crate) fn value(&self) -> Bytes {
        self.block.slice(self.value.clone())
    }

    pub(crate) fn value_ref(&self) -> &[u8] {
        self.block.data.get(self.value.clone()).unwrap_or_default()
    }

    fn jump(&mut self, offset: usize) {
        self.key.clear();
        self.start = None;
        self.end = offset;
        self.asked = offset;
    }

    /// Asks for what lies before the cursor, a stretch at a time: entries are short, and each of
    /// them would wait for memory of its own.
    #[inline]
    fn ask_ahead(&mut self) {
        if self.end + ASKED_AHEAD / 2 > self.asked {
            let to = (self.asked + ASKED_AHEAD).min(self.block.entries_end);
            prefetch_all(self.block.data.get(self.asked..to).unwrap_or_default());
            self.asked += ASKED_AHEAD;
        }
    }

    pub(crate) fn next(&mut self) -> Result<(), Malformed> {
        if self.end >= self.block.entries_end {
            self.start = None;
            return Ok(());
        }
        self.ask_ahead();
        let entry = self.block.entry(self.end)?;
        if entry.shared > self.key.len() {
            return Err(Malformed);
        }
        let tag = entry.tag()?;
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(entry.delta);
        self.tag = tag;
        self.value = entry.value;
        self.start = Some(self.end);
        self.end = entry.end;
        Ok(())
    }

    pub(crate) fn first(&mut self) -> Result<(), Malformed> {
        self.jump(0);
        self.next()
    }

    pub(crate) fn last(&mut self) -> Result<(), Malformed> {
        self.jump(self.block.restart(self.block.restarts - 1)?);
        self.next()?;
        while self.end < self.block.entries_end {
            self.next()?;
        }
        Ok(())
    }

    /// The first entry at or behind `(key, tag)`.
    pub(crate) fn seek(&mut self, key: &[u8], tag: u64) -> Result<(), Malformed> {
        self.block.prefetch_restarts();
        self.jump(self.block.restart_before(key, tag)?);
        self.next()?;
        while self.valid() && compare((&self.key, self.tag), (key, tag)) == Ordering::Less {
            self.next()?;
        }
        Ok(())
    }

    /// The last entry before `(key, tag)`.
    pub(crate) fn seek_before(&mut self, key: &[u8], tag: u64) -> Result<(), Malformed> {
        self.seek(key, tag)?;
        if self.valid() { self.prev() } else { self.last() }
    }

    /// The entry before this one: found again from the whole key before it.
    pub(crate) fn prev(&mut self) -> Result<(), Malformed> {
        let Some(current) = self.start else { return Ok(()) };
        if current == 0 {
            self.start = None;
            return Ok(());
        }
        let (mut low, mut high) = (0, self.block.restarts);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if self.block.restart(middle)? < current { low = middle } else { high = middle }
        }
        self.jump(self.block.restart(low)?);
        self.next()?;
        while self.valid() && self.end < current {
            self.next()?;
        }
        // A damaged restart array could lead past the entry; it must not lead in circles.
        if self.start.is_some_and(|start| start < current) { Ok(()) } else { Err(Malformed) }
    }
}
