//! The tables of a tree, by level: an immutable value. Every change makes a new one; readers keep
//! the one they took.
//!
//! INVARIANT: level 0 is sorted newest first, and its tables' seqnos do not overlap: each is a run
//! of its own; the tables of every other level are sorted by key and no user key is in two of them;
//! every version of a key is newer than those of the same key further down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::blob::format::{Reference, path};
use crate::blob::reader::{BlobFile, Keep};
use crate::error::Error;
use crate::key::Seqno;
use crate::options::{Blobs, LEVELS};
use crate::table::filter_bits::Runs;
use crate::table::reader::Table;

/// A blob file and who refers to it.
#[derive(Clone, Debug)]
pub(crate) struct BlobUse {
    pub(crate) file: Arc<BlobFile>,
    /// Bytes of its records that tables refer to; the others are garbage.
    pub(crate) live: u64,
    tables: usize,
}

impl BlobUse {
    pub(crate) fn garbage(&self) -> u64 {
        self.file.record.payload().saturating_sub(self.live)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Version {
    levels: Vec<Vec<Arc<Table>>>,
    blobs: BTreeMap<u64, BlobUse>,
}

impl Version {
    pub(crate) fn empty() -> Self {
        Self { levels: vec![Vec::new(); LEVELS], blobs: BTreeMap::new() }
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

    /// The blob files that its tables refer to.
    pub(crate) const fn blobs(&self) -> &BTreeMap<u64, BlobUse> {
        &self.blobs
    }

    /// Those of which so much is garbage, out of the oldest, that their values are to be written
    /// anew.
    pub(crate) fn blobs_to_collect(&self, settings: Blobs) -> BTreeSet<u64> {
        let oldest = (self.blobs.len() * usize::from(settings.oldest_percent)).div_ceil(100);
        let share = u128::from(settings.garbage_percent);
        let is_due = |used: &BlobUse| {
            let (garbage, all) = (used.garbage(), used.file.record.payload());
            garbage > 0 && u128::from(garbage) * 100 >= u128::from(all) * share
        };
        let due = self.blobs.iter().take(oldest).filter(|(_, used)| is_due(used));
        due.map(|(id, _)| *id).collect()
    }

    /// The value of `key` that `stored`, which one of the tables holds, refers to: for a scan.
    pub(crate) fn apart(&self, key: &[u8], stored: &[u8]) -> Result<Bytes, Error> {
        self.resolve(key, stored, Keep::IfRoom)
    }

    /// As [`Version::apart`], for those who read everything once.
    pub(crate) fn apart_once(&self, key: &[u8], stored: &[u8]) -> Result<Bytes, Error> {
        self.resolve(key, stored, Keep::No)
    }

    fn resolve(&self, key: &[u8], stored: &[u8], keep: Keep) -> Result<Bytes, Error> {
        let reference = Reference::decode(stored).ok();
        let found = reference.and_then(|at| self.blobs.get(&at.file).map(|used| (used, at)));
        let Some((used, at)) = found else {
            let file = path(Path::new(""), reference.map_or(0, |at| at.file));
            return Err(Error::corruption(file, 0, "a reference is to no blob file of the tree"));
        };
        used.file.value(at, key, keep)
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

    /// The sorted runs beside which tables of `level` will be, made from `inputs` or, without any,
    /// from a memtable. Where inputs are taken from there will be others: half as many, on the
    /// average.
    pub(crate) fn runs_with(&self, level: usize, inputs: &[u64]) -> Runs {
        let keys = |tables: &[Arc<Table>], merged: bool| -> u64 {
            let chosen = tables.iter().filter(|table| inputs.contains(&table.record.id) == merged);
            chosen.map(|table| table.record.entries).sum()
        };
        let merged: u64 = self.levels.iter().map(|tables| keys(tables, true)).sum();
        let mut own = (!inputs.is_empty()).then_some(merged);
        let young = self.level(0).iter();
        let (taken, mut others): (Vec<_>, Vec<_>) =
            young.partition(|table| inputs.contains(&table.record.id));
        others.extend(taken.into_iter().step_by(2));
        let mut others: Vec<u64> = others.iter().map(|table| table.record.entries).collect();
        for (at, tables) in self.levels.iter().enumerate().skip(1) {
            let (kept, taken) = (keys(tables, false), keys(tables, true));
            if at == level { own = Some(merged + kept) } else { others.push(kept + taken / 2) }
        }
        Runs { others, own }
    }

    /// This one without the tables `removed` and with `added` at their levels.
    pub(crate) fn with(&self, removed: &[u64], added: &[(usize, Arc<Table>)]) -> Self {
        let mut levels = self.levels.clone();
        let mut blobs = self.blobs.clone();
        for table in self.tables().filter(|table| removed.contains(&table.record.id)) {
            for share in &table.record.blobs {
                if let Some(used) = blobs.get_mut(&share.file) {
                    used.live -= share.bytes.min(used.live);
                    used.tables -= 1;
                }
            }
        }
        for tables in &mut levels {
            tables.retain(|table| !removed.contains(&table.record.id));
        }
        for (level, table) in added {
            levels[*level].push(table.clone());
            for (share, file) in table.record.blobs.iter().zip(table.blobs()) {
                let fresh = || BlobUse { file: file.clone(), live: 0, tables: 0 };
                let used = blobs.entry(share.file).or_insert_with(fresh);
                used.live += share.bytes;
                used.tables += 1;
            }
        }
        blobs.retain(|_, used| used.tables > 0);
        for (level, tables) in levels.iter_mut().enumerate() {
            if level == 0 {
                tables.sort_by_key(|table| std::cmp::Reverse(table.record.max_seqno));
            } else {
                tables.sort_by(|a, b| a.record.smallest.cmp(&b.record.smallest));
            }
        }
        Self { levels, blobs }
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
