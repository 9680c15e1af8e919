//! Leveled compaction (O'Neil et al. 1996; the scores are LevelDB's): the level that is fullest,
//! measured against its target, gives to the one below.

use super::choice::Choice;
use super::view::{LevelsView, TableView};

pub(crate) fn choose(
    view: &LevelsView,
    l0_files: usize,
    l1_bytes: u64,
    factor: u64,
) -> Option<Choice> {
    // Scores in thousandths of the target.
    let mut best: Option<(u128, usize)> = None;
    let mut target = l1_bytes;
    for level in 0..view.levels.len() - 1 {
        let score = if level == 0 {
            view.levels[0].len() as u128 * 1000 / l0_files as u128
        } else {
            let score = u128::from(view.bytes(level)) * 1000 / u128::from(target);
            target = target.saturating_mul(factor);
            // A level exactly at its target is full, not too full.
            if score == 1000 { 999 } else { score }
        };
        if score >= 1000 && best.is_none_or(|(most, _)| score > most) {
            best = Some((score, level));
        }
    }
    match best?.1 {
        0 => from_level_0(view),
        level => from_level(view, level),
    }
}

/// All of level 0 (its tables overlap each other), with what it overlaps at level 1.
fn from_level_0(view: &LevelsView) -> Option<Choice> {
    let upper = &view.levels[0];
    let smallest = upper.iter().map(|table| &table.smallest).min()?;
    let largest = upper.iter().map(|table| &table.largest).max()?;
    let lower = view.overlapping(1, smallest, largest);
    let inputs = upper.iter().chain(lower).map(|table| table.id).collect();
    Some(Choice { inputs, output: 1, is_move: false })
}

/// The table that costs the least rewriting below for each byte that it brings down.
fn from_level(view: &LevelsView, level: usize) -> Option<Choice> {
    let cost = |table: &TableView| {
        let below = view.overlapping(level + 1, &table.smallest, &table.largest);
        let bytes: u64 = below.map(|table| table.bytes).sum();
        u128::from(bytes) * 1000 / u128::from(table.bytes.max(1))
    };
    let table = view.levels[level].iter().min_by_key(|table| cost(table))?;
    let below = view.overlapping(level + 1, &table.smallest, &table.largest);
    let mut inputs = vec![table.id];
    inputs.extend(below.map(|table| table.id));
    let is_move = inputs.len() == 1;
    Some(Choice { inputs, output: level + 1, is_move })
}
