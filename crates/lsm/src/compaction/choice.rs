//! The outcome of a decision.
//!
//! INVARIANT of every choice, whatever the strategy: its tables of level 0 are neighbours in age;
//! if it goes below level 0, no older table of level 0 is left behind, and its range is whole in
//! every level on the way. So each version of a key stays newer than those further down, and a
//! tree may change its strategy at any time.

use super::view::{LevelsView, Run};
use super::{collected, expired, leveled, tiered, window};
use crate::options::{Compaction, LEVELS};

/// What is done with the tables of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Merge them into the output level.
    Merge,
    /// Nothing overlaps: they become tables of the output level as they are.
    Move,
    /// Nothing in them matters any more.
    Drop,
}

/// Tables, where they go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Table ids; of level `output` and others.
    pub(crate) inputs: Vec<u64>,
    pub(crate) output: usize,
    pub(crate) action: Action,
}

/// What the tree's strategy wants done now beside what is under way, if anything.
pub(crate) fn choose(strategy: Compaction, view: &LevelsView) -> Option<Choice> {
    if let Some(choice) = expired::wholly(view) {
        return Some(choice);
    }
    let choice = match strategy {
        Compaction::Leveled { l0_files, l1_bytes, factor } => {
            let targets = leveled::Targets::new(view, l1_bytes.max(1), factor.max(2), l0_files);
            leveled::choose(view, &targets, |view| {
                let score = view.levels[0].len() as u128 * 1000 / l0_files.max(1) as u128;
                (score, view.levels[0].len())
            })
        }
        Compaction::SizeTiered(tiers) => {
            tiered::choose(&view.runs(), tiers).map(|choice| tiered::settle(view, choice))
        }
        Compaction::TimeWindow { window_ms, tiers } => window::choose(view, window_ms, tiers),
        Compaction::Hybrid { tiers, run_bytes, factor } => {
            let targets = leveled::Targets::new(view, run_bytes.max(1), factor.max(2), 1);
            let young: Vec<_> = view.runs().into_iter().filter(|run| run.level == 0).collect();
            leveled::choose(view, &targets, |_view| {
                let down = descending(&young, run_bytes).len();
                (down as u128 * 1000, down)
            })
            .or_else(|| tiered::choose(&young, tiers))
        }
    };
    choice
        .filter(|choice| view.allows(choice))
        .or_else(|| expired::mostly(view))
        .or_else(|| collected::choose(view))
}

/// Everything into the last level.
pub(crate) fn everything(view: &LevelsView) -> Option<Choice> {
    let inputs: Vec<u64> = view.levels.iter().flatten().map(|table| table.id).collect();
    let output = LEVELS - 1;
    (!inputs.is_empty()).then_some(Choice { inputs, output, action: Action::Merge })
}

/// Bytes that have to be rewritten before a strategy has nothing left to do: an estimate.
pub(crate) fn pending_bytes(strategy: Compaction, view: &LevelsView) -> u64 {
    match strategy {
        Compaction::Leveled { l0_files, l1_bytes, factor } => {
            let targets = leveled::Targets::new(view, l1_bytes.max(1), factor.max(2), l0_files);
            let full = view.levels[0].len() >= l0_files;
            targets.excess(view) + if full { view.bytes(0) } else { 0 }
        }
        Compaction::Hybrid { tiers, run_bytes, factor } => {
            let targets = leveled::Targets::new(view, run_bytes.max(1), factor.max(2), 1);
            let young: Vec<_> = view.runs().into_iter().filter(|run| run.level == 0).collect();
            let descending = tiered::bytes(descending(&young, run_bytes));
            targets.excess(view) + tiered::pending_bytes(&young, tiers) + descending
        }
        Compaction::SizeTiered(tiers) => tiered::pending_bytes(&view.runs(), tiers),
        Compaction::TimeWindow { window_ms, tiers } => {
            window::pending_bytes(view, window_ms, tiers)
        }
    }
}

/// The large runs, with all that are older.
fn descending<'r, 'a>(young: &'r [Run<'a>], run_bytes: u64) -> &'r [Run<'a>] {
    let newest = young.iter().position(|run| run.bytes() >= run_bytes);
    newest.map_or(&[], |newest| &young[newest..])
}

/// Runs of level 0 that wait to be merged: what writers are slowed down by, with the number from
/// which that begins.
pub(crate) fn slowdown_runs(strategy: Compaction) -> usize {
    use crate::options::{L0_SLOWDOWN_FACTOR, MAX_RUNS};
    match strategy {
        Compaction::Leveled { l0_files, .. } => l0_files * L0_SLOWDOWN_FACTOR,
        Compaction::SizeTiered(tiers)
        | Compaction::TimeWindow { tiers, .. }
        | Compaction::Hybrid { tiers, .. } => MAX_RUNS.max(tiers.min_runs) * L0_SLOWDOWN_FACTOR,
    }
}
