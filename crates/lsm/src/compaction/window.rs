//! Time-window compaction (after Cassandra's `TimeWindowCompactionStrategy`): runs belong to the
//! window in which their newest entry was written. Size-tiered within the newest window; every
//! other one becomes a single run and is never touched again until all of it has expired.

use super::choice::Choice;
use super::tiered;
use super::view::{LevelsView, Run};
use crate::options::Tiers;

/// The level-0 runs of each window, newest first. A clock that went back only makes windows
/// shorter: neighbours stay neighbours.
fn windows<'r, 'a>(runs: &'r [Run<'a>], window_ms: u64) -> Vec<&'r [Run<'a>]> {
    let window = |run: &Run<'_>| run.written() / window_ms.max(1);
    runs.chunk_by(|a, b| window(a) == window(b)).collect()
}

fn is_open(runs: &[Run<'_>], now_ms: u64, window_ms: u64) -> bool {
    let window = |at: u64| at / window_ms.max(1);
    runs.first().is_some_and(|newest| window(newest.written()) >= window(now_ms))
}

pub(crate) fn choose(view: &LevelsView, window_ms: u64, tiers: Tiers) -> Option<Choice> {
    let runs: Vec<Run<'_>> = view.runs().into_iter().filter(|run| run.level == 0).collect();
    windows(&runs, window_ms).into_iter().find_map(|window| {
        if is_open(window, view.now_ms, window_ms) {
            return tiered::choose(window, tiers);
        }
        let most = window.len().min(tiers.max_runs.max(2));
        let oldest = &window[window.len() - most..];
        (most > 1 && !oldest.iter().any(Run::is_busy)).then(|| tiered::merge(oldest))
    })
}

pub(crate) fn pending_bytes(view: &LevelsView, window_ms: u64, tiers: Tiers) -> u64 {
    let runs: Vec<Run<'_>> = view.runs().into_iter().filter(|run| run.level == 0).collect();
    let of = |window: &[Run<'_>]| {
        if is_open(window, view.now_ms, window_ms) {
            tiered::pending_bytes(window, tiers)
        } else if window.len() > 1 {
            tiered::bytes(window)
        } else {
            0
        }
    };
    windows(&runs, window_ms).into_iter().map(of).sum()
}
