//! The outcome of a decision.

use super::leveled;
use super::view::LevelsView;
use crate::options::{Compaction, LEVELS};

/// Merge these tables into a level, or, if nothing overlaps there, move them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Table ids; of level `output` and others.
    pub(crate) inputs: Vec<u64>,
    pub(crate) output: usize,
    /// Nothing has to be rewritten.
    pub(crate) is_move: bool,
}

/// What the tree's strategy wants done now, if anything.
pub(crate) fn choose(strategy: Compaction, view: &LevelsView) -> Option<Choice> {
    match strategy {
        Compaction::Leveled { l0_files, l1_bytes, factor } => {
            leveled::choose(view, l0_files.max(1), l1_bytes.max(1), factor.max(2))
        }
    }
}

/// Everything into the deepest level in use.
pub(crate) fn everything(view: &LevelsView) -> Option<Choice> {
    let deepest = (0..LEVELS).rev().find(|level| !view.levels[*level].is_empty())?;
    let inputs = view.levels.iter().flatten().map(|table| table.id).collect();
    Some(Choice { inputs, output: deepest.max(1), is_move: false })
}
