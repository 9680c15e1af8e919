//! The tables of a tree, by level: an immutable value. Every change makes a new one; readers keep
//! the one they took.
//!
//! INVARIANT: level 0 is sorted newest first, and its tables' seqnos do not overlap: each is a run
//! of its own; the tables of every other level are sorted by key and no user key is in two of them;
//! every version of a key is newer than those of the same key further down.

use std::sync::Arc;

use crate::key::Seqno;
use crate::options::LEVELS;
use crate::table::reader::Table;

#[derive(Clone, Debug)]
pub(crate) struct Version {
    levels: Vec<Vec<Arc<Table>>>,
}

impl Version {
    pub(crate) fn empty() -> Self {
        Self { levels: vec![Vec::new(); LEVELS] }
    }

    pub(crate) fn levels(&self) -> &[Vec<Arc<Table>>] {
        &self.levels
    }

    pub(crate) fn level(&self, level: usize) -> &[Arc<Table>] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.levels.iter().flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables().next().is_none()
    }

    /// The table of level `level` (not 0) that may hold `key`.
    pub(crate) fn find(&self, level: usize, key: &[u8]) -> Option<&Arc<Table>> {
        let tables = self.level(level);
        let at = tables.partition_point(|table| *table.record.largest < *key);
        tables.get(at).filter(|table| table.covers(key))
    }

    /// Whether `key` may be in a table older than those that become part of `level`, of which the
    /// oldest entry is `oldest`.
    pub(crate) fn has_older(&self, level: usize, oldest: Seqno, key: &[u8]) -> bool {
        let is_older = |table: &&Arc<Table>| table.record.max_seqno < oldest;
        let in_young =
            level == 0 && self.level(0).iter().filter(is_older).any(|table| table.covers(key));
        in_young || (level + 1..self.levels.len()).any(|below| self.find(below, key).is_some())
    }

    /// This one without the tables `removed` and with `added` at their levels.
    pub(crate) fn with(&self, removed: &[u64], added: &[(usize, Arc<Table>)]) -> Self {
        let mut levels = self.levels.clone();
        for tables in &mut levels {
            tables.retain(|table| !removed.contains(&table.record.id));
        }
        for (level, table) in added {
            levels[*level].push(table.clone());
        }
        for (level, tables) in levels.iter_mut().enumerate() {
            if level == 0 {
                tables.sort_by_key(|table| std::cmp::Reverse(table.record.max_seqno));
            } else {
                tables.sort_by(|a, b| a.record.smallest.cmp(&b.record.smallest));
            }
        }
        Self { levels }
    }

    /// The first violation of the invariant, if there is one.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (level, tables) in self.levels.iter().enumerate() {
            for pair in tables.windows(2) {
                let (a, b) = (&pair[0].record, &pair[1].record);
                let sound =
                    if level == 0 { a.min_seqno > b.max_seqno } else { a.largest < b.smallest };
                if !sound {
                    return Err(format!("level {level}: tables {} and {} overlap", a.id, b.id));
                }
            }
        }
        Ok(())
    }
}
