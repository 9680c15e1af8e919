//! Size-tiered compaction: neighbours of about one size become one run. The sizes are those of
//! Cassandra's `SizeTieredCompactionStrategy`; that only runs next to each other in age are
//! merged, as in RocksDB's universal compaction, keeps every version newer than those in older
//! runs, so a read may stop at the first one that it finds.

use super::choice::{Action, Choice};
use super::view::{LevelsView, Run};
use crate::options::{MAX_RUNS, Tiers};

/// What to merge of these neighbouring runs, newest first.
pub(crate) fn choose(runs: &[Run<'_>], tiers: Tiers) -> Option<Choice> {
    let least = tiers.min_runs.max(2);
    let tier = buckets(runs, tiers).into_iter().filter(|tier| tier.len() >= least);
    if let Some(tier) = tier.min_by_key(|tier| bytes(tier) / tier.len() as u64) {
        // The oldest of them: what is left is again a tier of newer ones.
        return Some(merge(&tier[tier.len().saturating_sub(tiers.max_runs.max(least))..]));
    }
    if runs.len() <= MAX_RUNS {
        return None;
    }
    let width = least.min(runs.len());
    let idle = runs.windows(width).filter(|window| !window.iter().any(Run::is_busy));
    idle.min_by_key(|window| bytes(window)).map(merge)
}

pub(crate) fn bytes(runs: &[Run<'_>]) -> u64 {
    runs.iter().map(Run::bytes).sum()
}

/// Into the place of the oldest.
pub(crate) fn merge(runs: &[Run<'_>]) -> Choice {
    let output = runs.last().map_or(0, |oldest| oldest.level);
    let inputs = runs.iter().flat_map(|run| run.tables).map(|table| table.id).collect();
    Choice { inputs, output, action: Action::Merge }
}

/// A merge of the oldest runs of level 0 gets a level for itself, the deepest that nothing older is
/// in or beneath: a run there may have many tables, and so many threads write it. The larger a run
/// the older it is, so what is left for level 0 and one thread is the small ones.
pub(crate) fn settle(view: &LevelsView, choice: Choice) -> Choice {
    let oldest = view.levels[0].last();
    if choice.output > 0 || oldest.is_none_or(|oldest| !choice.inputs.contains(&oldest.id)) {
        return choice;
    }
    let in_use = (1..view.levels.len()).find(|level| !view.levels[*level].is_empty());
    Choice { output: in_use.unwrap_or(view.levels.len()) - 1, ..choice }
}

/// Neighbours of about one size that nobody is at, as long as possible from the newest on.
fn buckets<'r, 'a>(runs: &'r [Run<'a>], tiers: Tiers) -> Vec<&'r [Run<'a>]> {
    let mut buckets = Vec::new();
    let mut start = 0;
    while start < runs.len() {
        let mut end = start;
        let mut sum = 0u128;
        while end < runs.len() && !runs[end].is_busy() {
            let size = u128::from(runs[end].bytes());
            let members = (end - start) as u128;
            let small = u128::from(tiers.small_bytes);
            // size against sum / members, in percent.
            let alike = members == 0
                || (size * 100 * members >= sum * u128::from(tiers.low_percent)
                    && size * 100 * members <= sum * u128::from(tiers.high_percent));
            let both_small = size < small && sum < small * members;
            if !(alike || both_small) {
                break;
            }
            sum += size;
            end += 1;
        }
        if end > start {
            buckets.push(&runs[start..end]);
        }
        start = end.max(start + 1);
    }
    buckets
}

pub(crate) fn pending_bytes(runs: &[Run<'_>], tiers: Tiers) -> u64 {
    let least = tiers.min_runs.max(2);
    buckets(runs, tiers).into_iter().filter(|tier| tier.len() >= least).map(bytes).sum()
}
