//! Bidirectional positions in a table, and in a level of tables that do not overlap.

use std::sync::Arc;

use bytes::Bytes;

use super::block::BlockCursor;
use super::parts::Leaf;
use super::readahead::Readahead;
use super::reader::Table;
use crate::coding::Malformed;
use crate::error::Error;
use crate::read::merge_iter::Position;
use crate::version::levels::Version;

/// A position in one table.
pub(crate) struct TableCursor {
    table: Arc<Table>,
    /// With whether what is read goes into the cache: yes for readers, no for compactions.
    leaf: Leaf,
    ahead: Readahead,
    at: usize,
    block: Option<BlockCursor>,
    /// Room for the keys of the next one.
    spare: Vec<u8>,
}

impl TableCursor {
    pub(crate) const fn new(table: Arc<Table>, keep: bool) -> Self {
        let leaf = Leaf::new(keep);
        let ahead = Readahead::new(!keep);
        Self { table, leaf, ahead, at: 0, block: None, spare: Vec::new() }
    }

    /// Bytes held of what was read ahead.
    #[cfg(test)]
    pub(crate) const fn ahead_bytes(&self) -> usize {
        self.ahead.bytes()
    }

    pub(crate) const fn valid(&self) -> bool {
        self.block.is_some()
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], BlockCursor::key)
    }

    pub(crate) fn tag(&self) -> u64 {
        self.block.as_ref().map_or(0, BlockCursor::tag)
    }

    pub(crate) fn value(&self) -> Bytes {
        self.block.as_ref().map_or_else(Bytes::new, BlockCursor::value)
    }

    pub(crate) fn value_ref(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], BlockCursor::value_ref)
    }

    /// Opens the block at `at` and goes to `to` in it; off the table's end without one.
    fn enter(&mut self, at: usize, to: Position<'_>) -> Result<(), Error> {
        if self.at == at && self.block.is_some() {
            return self.within(to);
        }
        self.at = at;
        self.leave();
        if at < self.table.blocks() {
            let block = self.table.block_ahead(&mut self.leaf, at, &mut self.ahead)?;
            self.block = Some(BlockCursor::new(block, std::mem::take(&mut self.spare)));
            self.within(to)?;
        }
        Ok(())
    }

    fn within(&mut self, to: Position<'_>) -> Result<(), Error> {
        let Some(block) = &mut self.block else { return Ok(()) };
        let moved = match to {
            Position::First => block.first(),
            Position::Last => block.last(),
            Position::AtOrBehind(key, tag) => block.seek(key, tag),
            Position::Before(key, tag) => block.seek_before(key, tag),
            Position::Next => block.next(),
            Position::Prev => block.prev(),
        };
        if let Err(malformed) = moved {
            return Err(self.table.malformed(self.at, malformed));
        }
        if !block.valid() {
            self.leave();
        }
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(block) = self.block.take() {
            self.spare = block.into_key();
        }
    }

    pub(crate) fn go(&mut self, to: Position<'_>) -> Result<(), Error> {
        let blocks = self.table.blocks();
        match to {
            Position::First => self.enter(0, to),
            Position::Last => self.enter(blocks - 1, to),
            // The versions of a key may go on over several blocks, so the target has to be looked
            // for in each: neither the first nor the last entry of the next one will do.
            Position::AtOrBehind(key, _) => {
                let mut at = self.table.find(&mut self.leaf, key)?;
                self.enter(at, to)?;
                while self.block.is_none() && at + 1 < blocks {
                    at += 1;
                    self.enter(at, to)?;
                }
                Ok(())
            }
            Position::Before(key, _) => {
                let mut at = self.table.find(&mut self.leaf, key)?;
                while at + 1 < blocks && self.table.goes_on_with(&mut self.leaf, at, key)? {
                    at += 1;
                }
                at = at.min(blocks - 1);
                self.enter(at, to)?;
                while self.block.is_none() && at > 0 {
                    at -= 1;
                    self.enter(at, to)?;
                }
                Ok(())
            }
            Position::Next if self.block.is_some() => {
                self.within(to)?;
                self.spill_forward()
            }
            Position::Prev if self.block.is_some() => {
                self.within(to)?;
                self.spill_back()
            }
            Position::Next | Position::Prev => Ok(()),
        }
    }

    /// The block, and the place in it.
    fn place(&self) -> Option<(usize, Option<usize>)> {
        self.block.as_ref().map(|block| (self.at, block.place()))
    }

    /// As [`TableCursor::go`] to something further on. In a table whose entries are not in order
    /// a search may lead back, and a scan would go round for ever: that is an error.
    pub(crate) fn go_on(&mut self, to: Position<'_>) -> Result<(), Error> {
        let before = self.place();
        self.go(to)?;
        let leads_back = leads_back(to, before, self.place());
        if leads_back { Err(self.table.malformed(self.at, Malformed)) } else { Ok(()) }
    }

    fn spill_forward(&mut self) -> Result<(), Error> {
        if self.block.is_none() && self.at + 1 < self.table.blocks() {
            self.enter(self.at + 1, Position::First)?;
        }
        Ok(())
    }

    fn spill_back(&mut self) -> Result<(), Error> {
        if self.block.is_none() && self.at > 0 {
            self.enter(self.at - 1, Position::Last)?;
        }
        Ok(())
    }
}

fn leads_back<P: PartialOrd>(to: Position<'_>, before: Option<P>, after: Option<P>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    match to {
        Position::AtOrBehind(..) => after < before,
        Position::Before(..) => after > before,
        Position::First | Position::Last | Position::Next | Position::Prev => false,
    }
}

/// Sorted tables that do not overlap.
pub(crate) enum Disjoint {
    /// All of a level that is not 0.
    Level(Arc<Version>, usize),
    Chosen(Vec<Arc<Table>>),
}

impl std::ops::Deref for Disjoint {
    type Target = [Arc<Table>];

    fn deref(&self) -> &[Arc<Table>] {
        match self {
            Self::Level(version, level) => version.level(*level),
            Self::Chosen(tables) => tables,
        }
    }
}

/// A position in the sorted, disjoint tables of a level; one of them is open at a time.
pub(crate) struct LevelCursor {
    tables: Disjoint,
    keep: bool,
    at: usize,
    table: Option<TableCursor>,
}

impl LevelCursor {
    pub(crate) const fn new(tables: Disjoint, keep: bool) -> Self {
        Self { tables, keep, at: 0, table: None }
    }

    pub(crate) const fn valid(&self) -> bool {
        self.table.is_some()
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.table.as_ref().map_or(&[], TableCursor::key)
    }

    pub(crate) fn tag(&self) -> u64 {
        self.table.as_ref().map_or(0, TableCursor::tag)
    }

    pub(crate) fn value(&self) -> Bytes {
        self.table.as_ref().map_or_else(Bytes::new, TableCursor::value)
    }

    pub(crate) fn value_ref(&self) -> &[u8] {
        self.table.as_ref().map_or(&[], TableCursor::value_ref)
    }

    fn enter(&mut self, at: usize, to: Position<'_>) -> Result<(), Error> {
        if self.at == at
            && let Some(table) = &mut self.table
        {
            table.go(to)?;
            if !table.valid() {
                self.table = None;
            }
            return Ok(());
        }
        self.at = at;
        self.table = None;
        if let Some(table) = self.tables.get(at) {
            let mut cursor = TableCursor::new(table.clone(), self.keep);
            cursor.go(to)?;
            self.table = Some(cursor).filter(TableCursor::valid);
        }
        Ok(())
    }

    pub(crate) fn go(&mut self, to: Position<'_>) -> Result<(), Error> {
        match to {
            Position::First => self.enter(0, to),
            Position::Last if self.tables.is_empty() => Ok(()),
            Position::Last => self.enter(self.tables.len() - 1, to),
            Position::AtOrBehind(key, _) => {
                let at = self.tables.partition_point(|table| *table.record.largest < *key);
                self.enter(at, to)?;
                self.spill_forward()
            }
            Position::Before(key, _) => {
                let after = self.tables.partition_point(|table| *table.record.smallest <= *key);
                let Some(at) = after.checked_sub(1) else {
                    self.table = None;
                    return Ok(());
                };
                self.enter(at, to)?;
                self.spill_back()
            }
            Position::Next | Position::Prev => {
                let Some(table) = &mut self.table else { return Ok(()) };
                table.go(to)?;
                if table.valid() {
                    return Ok(());
                }
                self.table = None;
                if matches!(to, Position::Next) { self.spill_forward() } else { self.spill_back() }
            }
        }
    }

    /// As [`TableCursor::go_on`].
    pub(crate) fn go_on(&mut self, to: Position<'_>) -> Result<(), Error> {
        let place = |cursor: &Self| Some((cursor.at, cursor.table.as_ref()?.place()));
        let before = place(self);
        self.go(to)?;
        match &self.table {
            Some(found) if leads_back(to, before, place(self)) => {
                Err(found.table.malformed(found.at, Malformed))
            }
            _ => Ok(()),
        }
    }

    fn spill_forward(&mut self) -> Result<(), Error> {
        if self.table.is_none() && self.at + 1 < self.tables.len() {
            self.enter(self.at + 1, Position::First)?;
        }
        Ok(())
    }

    fn spill_back(&mut self) -> Result<(), Error> {
        if self.table.is_none() && self.at > 0 {
            self.enter(self.at - 1, Position::Last)?;
        }
        Ok(())
    }
}
