//! What a decision looks at: sizes and key ranges, nothing that can be read or changed.

use bytes::Bytes;

use crate::version::levels::Version;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableView {
    pub(crate) id: u64,
    pub(crate) bytes: u64,
    pub(crate) smallest: Bytes,
    pub(crate) largest: Bytes,
}

impl TableView {
    pub(crate) fn overlaps(&self, smallest: &[u8], largest: &[u8]) -> bool {
        *self.smallest <= *largest && *smallest <= *self.largest
    }
}

/// The levels of a tree, in the order of its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LevelsView {
    pub(crate) levels: Vec<Vec<TableView>>,
}

impl LevelsView {
    pub(crate) fn of(version: &Version) -> Self {
        let level = |tables: &Vec<std::sync::Arc<crate::table::reader::Table>>| {
            let view = |table: &std::sync::Arc<crate::table::reader::Table>| TableView {
                id: table.record.id,
                bytes: table.record.bytes,
                smallest: table.record.smallest.clone(),
                largest: table.record.largest.clone(),
            };
            tables.iter().map(view).collect()
        };
        Self { levels: version.levels().iter().map(level).collect() }
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
}
