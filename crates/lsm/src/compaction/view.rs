//! What a decision looks at: sizes, key ranges, times and what is under way; nothing that can be
//! read or changed.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::choice::Choice;
use crate::key::Seqno;
use crate::version::edit::TableTimes;
use crate::version::levels::Version;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableView {
    pub(crate) id: u64,
    pub(crate) bytes: u64,
    pub(crate) smallest: Bytes,
    pub(crate) largest: Bytes,
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    pub(crate) min_seqno: Seqno,
    pub(crate) times: TableTimes,
    /// Whether it refers to a blob file of which much is garbage.
    pub(crate) collect: bool,
    /// Whether a compaction has it for an input.
    pub(crate) busy: bool,
}

impl TableView {
    pub(crate) fn overlaps(&self, smallest: &[u8], largest: &[u8]) -> bool {
        *self.smallest <= *largest && *smallest <= *self.largest
    }
}

/// Where a running compaction will put its tables: nobody else may put any there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) inputs: Vec<u64>,
    pub(crate) output: usize,
    pub(crate) smallest: Bytes,
    pub(crate) largest: Bytes,
}

/// Tables that do not overlap: one of level 0, or all of another level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) level: usize,
    pub(crate) tables: &'a [TableView],
}

impl Run<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.tables.iter().any(|table| table.busy)
    }

    /// When the newest entry was written.
    pub(crate) fn written(&self) -> u64 {
        self.tables.iter().map(|table| table.times.written).max().unwrap_or(0)
    }
}

/// The levels of a tree, in the order of its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LevelsView {
    pub(crate) levels: Vec<Vec<TableView>>,
    pub(crate) claims: Vec<Claim>,
    /// Milliseconds since 1970; 0: unknown.
    pub(crate) now_ms: u64,
    /// Bytes that a flush writes, on average; 0: unknown.
    pub(crate) flush_bytes: u64,
    pub(crate) newest_snapshot: Option<Seqno>,
}

impl LevelsView {
    /// `blobs`: the blob files to collect.
    pub(crate) fn of(version: &Version, claims: &[Claim], blobs: &BTreeSet<u64>) -> Self {
        let level = |tables: &Vec<std::sync::Arc<crate::table::reader::Table>>| {
            let view = |table: &std::sync::Arc<crate::table::reader::Table>| {
                let record = &table.record;
                TableView {
                    id: record.id,
                    bytes: record.bytes,
                    smallest: record.smallest.clone(),
                    largest: record.largest.clone(),
                    entries: record.entries,
                    deletes: record.deletes,
                    min_seqno: record.min_seqno,
                    times: record.times,
                    collect: record.blobs.iter().any(|share| blobs.contains(&share.file)),
                    busy: claims.iter().any(|claim| claim.inputs.contains(&record.id)),
                }
            };
            tables.iter().map(view).collect()
        };
        Self {
            levels: version.levels().iter().map(level).collect(),
            claims: claims.to_vec(),
            ..Self::default()
        }
    }

    pub(crate) fn bytes(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|table| table.bytes).sum()
    }

    /// The tables of `level` that overlap the range.
    pub(crate) fn overlapping(
        &self,
        level: usize,
        smallest: &[u8],
        largest: &[u8],
    ) -> impl Iterator<Item = &TableView> {
        self.levels[level].iter().filter(move |table| table.overlaps(smallest, largest))
    }

    /// All runs, newest first.
    pub(crate) fn runs(&self) -> Vec<Run<'_>> {
        let (young, old) = self.levels.split_at(1);
        let young = young.iter().flat_map(|tables| tables.chunks(1));
        let mut runs: Vec<Run<'_>> = young.map(|tables| Run { level: 0, tables }).collect();
        let old = old.iter().enumerate().filter(|(_, tables)| !tables.is_empty());
        runs.extend(old.map(|(above, tables)| Run { level: above + 1, tables }));
        runs
    }

    fn inputs(&self, choice: &Choice) -> impl Iterator<Item = &TableView> {
        self.levels.iter().flatten().filter(|table| choice.inputs.contains(&table.id))
    }

    /// What a compaction will occupy.
    pub(crate) fn claim(&self, choice: &Choice) -> Claim {
        let smallest = self.inputs(choice).map(|table| &table.smallest).min();
        let largest = self.inputs(choice).map(|table| &table.largest).max();
        Claim {
            inputs: choice.inputs.clone(),
            output: choice.output,
            smallest: smallest.cloned().unwrap_or_default(),
            largest: largest.cloned().unwrap_or_default(),
        }
    }

    /// Whether a choice can be carried out beside what is under way.
    pub(crate) fn allows(&self, choice: &Choice) -> bool {
        if self.inputs(choice).any(|table| table.busy) {
            return false;
        }
        let claim = self.claim(choice);
        let collides = |other: &Claim| {
            other.output == claim.output
                && claim.output > 0
                && other.smallest <= claim.largest
                && claim.smallest <= other.largest
        };
        !self.claims.iter().any(collides)
    }
}
