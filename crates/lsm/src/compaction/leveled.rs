//! Leveled compaction (O'Neil et al. 1996): the level that is fullest, measured against its target,
//! gives to the one below. The targets follow from the size of the last level upwards (Dong et al.,
//! "Optimizing Space Amplification in RocksDB", 2017), so that all levels above it together hold
//! about a tenth of it.

use super::choice::{Action, Choice};
use super::view::{LevelsView, TableView};
use crate::options::LEVELS;

/// Score of a level that should not be in use, in thousandths: it is emptied, mostly by moves, but
/// behind a level that is half over its target.
const UNUSED_SCORE: u128 = 1500;

/// The sizes that the levels should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    /// The first level in use below level 0.
    pub(crate) base: usize,
    /// Its target in bytes; each level below it has `factor` times the one above.
    pub(crate) base_bytes: u64,
    factor: u64,
}

impl Targets {
    /// What level 0 brings down at a time (`flushes` tables) should not fill the first level many
    /// times over, so its target is at least that.
    pub(crate) fn new(view: &LevelsView, most_bytes: u64, factor: u64, flushes: usize) -> Self {
        let most = most_bytes.max(view.flush_bytes.saturating_mul(flushes as u64));
        let largest = (1..LEVELS).map(|level| view.bytes(level)).max().unwrap_or(0);
        let (mut base, mut base_bytes) = (LEVELS - 1, largest);
        while base > 1 && base_bytes > most {
            base -= 1;
            base_bytes /= factor;
        }
        Self { base, base_bytes: base_bytes.max(most / factor).max(1), factor }
    }

    /// The target of a level in use.
    fn of(&self, level: usize) -> u64 {
        (self.base..level).fold(self.base_bytes, |bytes, _| bytes.saturating_mul(self.factor))
    }

    /// Where the tables of `level` go: no level with tables is passed by.
    fn below(&self, view: &LevelsView, level: usize) -> usize {
        let first = level + 1;
        if first > self.base {
            return first;
        }
        (first..self.base).find(|below| !view.levels[*below].is_empty()).unwrap_or(self.base)
    }

    fn score(&self, view: &LevelsView, level: usize) -> u128 {
        let bytes = view.bytes(level);
        if level < self.base {
            return if bytes > 0 { UNUSED_SCORE } else { 0 };
        }
        if level == LEVELS - 1 {
            return 0;
        }
        let score = u128::from(bytes) * 1000 / u128::from(self.of(level));
        // A level exactly at its target is full, not too full.
        if score == 1000 { 999 } else { score }
    }

    /// Bytes to rewrite until every level is at its target.
    pub(crate) fn excess(&self, view: &LevelsView) -> u64 {
        let of = |level: usize| {
            let target = if level < self.base { 0 } else { self.of(level) };
            view.bytes(level).saturating_sub(target).saturating_mul(1 + self.factor)
        };
        (1..LEVELS - 1).map(of).fold(0, u64::saturating_add)
    }
}

/// `young`: the score of level 0 and how many of its oldest tables go down.
pub(crate) fn choose(
    view: &LevelsView,
    targets: &Targets,
    young: impl Fn(&LevelsView) -> (u128, usize),
) -> Option<Choice> {
    let (young_score, tables) = young(view);
    let below = (1..LEVELS - 1).map(|level| (targets.score(view, level), level));
    let mut full: Vec<(u128, usize)> = std::iter::once((young_score, 0))
        .chain(below)
        .filter(|(score, _)| *score >= 1000)
        .collect();
    full.sort_by_key(|(score, level)| (std::cmp::Reverse(*score), *level));
    full.into_iter().find_map(|(_, level)| match level {
        0 => from_level_0(view, tables, targets.below(view, 0)),
        level => from_level(view, level, targets.below(view, level)),
    })
}

/// The oldest tables of level 0, with what they overlap where they go.
fn from_level_0(view: &LevelsView, tables: usize, output: usize) -> Option<Choice> {
    let all = &view.levels[0];
    let upper = &all[all.len().saturating_sub(tables)..];
    let smallest = upper.iter().map(|table| &table.smallest).min()?;
    let largest = upper.iter().map(|table| &table.largest).max()?;
    let lower: Vec<&TableView> = view.overlapping(output, smallest, largest).collect();
    let apart = |at: usize, table: &TableView| {
        upper[at + 1..].iter().all(|other| !other.overlaps(&table.smallest, &table.largest))
    };
    let moves = lower.is_empty() && upper.iter().enumerate().all(|(at, table)| apart(at, table));
    let inputs = upper.iter().chain(lower).map(|table| table.id).collect();
    let action = if moves { Action::Move } else { Action::Merge };
    let choice = Choice { inputs, output, action };
    view.allows(&choice).then_some(choice)
}

/// The table that costs the least rewriting below for each byte that it brings down.
fn from_level(view: &LevelsView, level: usize, output: usize) -> Option<Choice> {
    let cost = |table: &TableView| {
        let below = view.overlapping(output, &table.smallest, &table.largest);
        let bytes: u64 = below.map(|table| table.bytes).sum();
        u128::from(bytes) * 1000 / u128::from(table.bytes.max(1))
    };
    let mut tables: Vec<&TableView> =
        view.levels[level].iter().filter(|table| !table.busy).collect();
    tables.sort_by_cached_key(|table| cost(table));
    tables.into_iter().find_map(|table| {
        let below = view.overlapping(output, &table.smallest, &table.largest);
        let mut inputs = vec![table.id];
        inputs.extend(below.map(|table| table.id));
        let action = if inputs.len() == 1 { Action::Move } else { Action::Merge };
        let choice = Choice { inputs, output, action };
        view.allows(&choice).then_some(choice)
    })
}
