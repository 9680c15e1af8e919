//! What is chosen, over plain views.

use bytes::Bytes;

use super::choice::{Action, Choice, choose, everything, pending_bytes};
use super::view::{LevelsView, TableView};
use crate::options::{Compaction, LEVELS, MAX_RUNS, Tiers};
use crate::version::edit::TableTimes;

const LEVELED: Compaction = Compaction::Leveled { l0_files: 4, l1_bytes: 100, factor: 10 };
const TIERS: Tiers =
    Tiers { min_runs: 4, max_runs: 6, low_percent: 50, high_percent: 150, small_bytes: 10 };
const TIERED: Compaction = Compaction::SizeTiered(TIERS);
const WINDOW: Compaction = Compaction::TimeWindow { window_ms: 1000, tiers: TIERS };
const HYBRID: Compaction = Compaction::Hybrid { tiers: TIERS, run_bytes: 100, factor: 10 };

/// `id:smallest-largest:bytes`, with `@written` and `%expiring,earliest,latest` if wanted; ten
/// entries each.
fn table(text: &str) -> TableView {
    let (text, expiry) = text.split_once('%').unwrap_or((text, ""));
    let (text, written) = text.split_once('@').unwrap_or((text, "0"));
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let expiry: Vec<u64> = expiry.split(',').filter_map(|part| part.parse().ok()).collect();
    TableView {
        id: parts[0].parse().unwrap(),
        smallest: Bytes::copy_from_slice(parts[1].as_bytes()),
        largest: Bytes::copy_from_slice(parts[2].as_bytes()),
        bytes: parts[3].parse().unwrap(),
        entries: 10,
        min_seqno: 5,
        times: TableTimes {
            written: written.parse().unwrap(),
            expiring: expiry.first().copied().unwrap_or(0),
            earliest_expiry: expiry.get(1).copied().unwrap_or(0),
            latest_expiry: expiry.get(2).copied().unwrap_or(0),
            made: 0,
        },
        ..TableView::default()
    }
}

/// Levels as text, tables separated by spaces.
fn view(levels: &[&str]) -> LevelsView {
    let mut view = LevelsView { levels: vec![Vec::new(); LEVELS], ..LevelsView::default() };
    for (level, text) in levels.iter().enumerate() {
        view.levels[level] = text.split_whitespace().map(table).collect();
    }
    view
}

/// The last levels as text.
fn deep(levels: &[&str]) -> LevelsView {
    let mut texts = vec![""; LEVELS - levels.len()];
    texts.extend(levels);
    view(&texts)
}

/// A choice as text.
fn chosen(strategy: Compaction, view: &LevelsView) -> String {
    let Some(Choice { inputs, output, action }) = choose(strategy, view) else {
        return "nothing".to_owned();
    };
    format!("{action:?} {inputs:?} -> {output}").replace(['[', ']', ','], "")
}

#[test]
fn nothing_to_do() {
    for strategy in [LEVELED, TIERED, WINDOW, HYBRID] {
        assert_eq!(chosen(strategy, &view(&[])), "nothing");
        assert_eq!(chosen(strategy, &view(&["1:a-b:50 2:a-b:50 3:a-b:50"])), "nothing");
        assert_eq!(chosen(strategy, &deep(&["", "1:a-b:50 2:c-d:50"])), "nothing");
        assert_eq!(pending_bytes(strategy, &deep(&["", "1:a-b:50 2:c-d:50"])), 0);
    }
    assert_eq!(everything(&view(&[])), None);
}

#[test]
fn level_0_goes_down_whole_with_what_it_overlaps() {
    let mut levels = deep(&["5:a-a:9 6:c-d:9 7:h-k:9"]);
    levels.levels[0] = view(&["1:d-f:5 2:a-b:5 3:e-g:5 4:b-c:5"]).levels[0].clone();
    assert_eq!(chosen(LEVELED, &levels), "Merge 1 2 3 4 5 6 -> 6");
    levels.levels[6].drain(..2);
    assert_eq!(chosen(LEVELED, &levels), "Merge 1 2 3 4 -> 6");
    // In order of their keys they only move.
    levels.levels[0] = view(&["1:a-b:5 2:c-d:5 3:e-f:5 4:g-g:5"]).levels[0].clone();
    assert_eq!(chosen(LEVELED, &levels), "Move 1 2 3 4 -> 6");
}

#[test]
fn the_targets_follow_from_the_last_level() {
    // 6 has 5000: 500 at 5 and 50 at 4.
    assert_eq!(chosen(LEVELED, &deep(&["1:a-c:51", "2:a-b:499", "3:a-z:5000"])), "Merge 1 2 -> 5");
    assert_eq!(chosen(LEVELED, &deep(&["1:a-c:49", "2:a-b:501", "3:a-z:5000"])), "Merge 2 3 -> 6");
    assert_eq!(chosen(LEVELED, &deep(&["1:a-c:50", "2:a-b:500", "3:a-z:5000"])), "nothing");
    // A level above the first in use is emptied, into the next one that holds anything.
    let levels = view(&["", "1:a-c:1", "", "2:a-b:1", "", "", "3:a-z:900"]);
    assert_eq!(chosen(LEVELED, &levels), "Merge 1 2 -> 3");
    let levels = view(&["", "1:a-c:1", "", "2:d-e:1", "", "", "3:a-z:900"]);
    assert_eq!(chosen(LEVELED, &levels), "Move 1 -> 3");
    // So level 0 passes by none.
    let levels = view(&["1:z-z:1 2:z-z:1 3:z-z:1 4:z-z:1 5:z-z:1 6:z-z:1 7:z-z:1", "8:a-c:1"]);
    assert_eq!(chosen(LEVELED, &levels), "Merge 1 2 3 4 5 6 7 -> 1");
    // Large flushes make for a large first level.
    let mut levels = deep(&["1:a-c:51", "2:a-b:499", "3:a-z:5000"]);
    levels.flush_bytes = 1000;
    assert_eq!(chosen(LEVELED, &levels), "Merge 1 2 -> 5");
    levels.levels[4].clear();
    assert_eq!(chosen(LEVELED, &levels), "nothing");
}

#[test]
fn the_cheapest_table_of_the_fullest_level_goes_down() {
    let levels = deep(&["1:a-c:300 2:d-f:300", "3:a-b:700 4:e-e:10 5:f-h:290"]);
    assert_eq!(chosen(LEVELED, &levels), "Merge 2 4 5 -> 6");
    let levels = deep(&["1:a-c:300 2:d-f:300", "3:a-b:1000"]);
    assert_eq!(chosen(LEVELED, &levels), "Move 2 -> 6");
}

#[test]
fn compactions_beside_each_other_keep_apart() {
    let mut levels = deep(&["1:a-c:300 2:d-f:300", "3:a-b:700 4:e-e:10 5:f-h:290"]);
    let first = choose(LEVELED, &levels).unwrap();
    levels.claims.push(levels.claim(&first));
    for table in levels.levels.iter_mut().flatten() {
        table.busy |= first.inputs.contains(&table.id);
    }
    assert_eq!(chosen(LEVELED, &levels), "Merge 1 3 -> 6");
    // What would land in the range of another's output waits.
    let mut second = levels.clone();
    second.levels[5][0].largest = Bytes::from_static(b"dd");
    assert_eq!(chosen(LEVELED, &second), "nothing");
    // So does level 0 while some of it goes down.
    let mut third = view(&["1:a-b:5 2:a-b:5 3:a-b:5 4:a-b:5 5:a-b:5 6:a-b:5 7:a-b:5 8:a-b:5"]);
    third.levels[0][7].busy = true;
    assert_eq!(chosen(LEVELED, &third), "nothing");
    // But its newer runs may become one meanwhile.
    assert_eq!(chosen(TIERED, &third), "Merge 2 3 4 5 6 7 -> 0");
}

#[test]
fn the_last_level_has_no_target() {
    let levels = deep(&["1:a-b:99999999999"]);
    assert_eq!(chosen(LEVELED, &levels), "nothing");
    let all = Choice { inputs: vec![1], output: LEVELS - 1, action: Action::Merge };
    assert_eq!(everything(&levels), Some(all));
}

#[test]
fn neighbours_of_a_size_make_a_tier() {
    let runs = "1:a-z:20 2:a-z:25 3:a-z:28 4:a-z:100 5:a-z:90 6:a-z:120 7:a-z:110 8:a-z:900";
    assert_eq!(chosen(TIERED, &view(&[runs])), "Merge 4 5 6 7 -> 0");
    // Not across one of another size: versions would change places.
    let runs = "1:a-z:20 2:a-z:25 3:a-z:100 4:a-z:20 5:a-z:25";
    assert_eq!(chosen(TIERED, &view(&[runs])), "nothing");
    // Small ones are all of one size; at most so many at once, the oldest.
    let runs = "1:a-z:1 2:a-z:9 3:a-z:2 4:a-z:8 5:a-z:1 6:a-z:1 7:a-z:1 8:a-z:1";
    assert_eq!(chosen(TIERED, &view(&[runs])), "Merge 3 4 5 6 7 8 -> 6");
    // As deep as there is room above what is older; level 0 if there is none.
    let levels = view(&["1:a-z:9 2:a-z:9 3:a-z:9 4:a-z:9", "", "", "5:a-c:900"]);
    assert_eq!(chosen(TIERED, &levels), "Merge 1 2 3 4 -> 2");
    let levels = view(&["1:a-z:9 2:a-z:9 3:a-z:9 4:a-z:9", "5:a-c:900"]);
    assert_eq!(chosen(TIERED, &levels), "Merge 1 2 3 4 -> 0");
    // A level that another strategy left is one run.
    let levels = view(&["1:a-z:100 2:a-z:100", "3:a-b:50 4:c-d:50", "5:a-z:110", "6:a-z:900"]);
    assert_eq!(chosen(TIERED, &levels), "Merge 1 2 3 4 5 -> 2");
}

#[test]
fn many_runs_are_merged_whatever_their_sizes() {
    let sizes = (0..=MAX_RUNS).map(|id| format!("{}:a-z:{}", id + 1, 20 << (id % 3 * 2)));
    let runs = sizes.collect::<Vec<_>>().join(" ");
    assert_eq!(chosen(TIERED, &view(&[&runs])), "Merge 1 2 3 4 -> 0");
    let (fewer, _) = runs.rsplit_once(' ').unwrap();
    assert_eq!(chosen(TIERED, &view(&[fewer])), "nothing");
}

#[test]
fn a_window_that_is_over_becomes_one_run() {
    let mut levels =
        view(&["1:a-z:5@3100 2:a-z:5@3000 3:a-z:5@2999 4:a-z:500@2000 5:a-z:5@1500 6:a-z:5@400"]);
    levels.now_ms = 3500;
    assert_eq!(chosen(WINDOW, &levels), "Merge 3 4 -> 0");
    levels.levels[0].remove(3);
    assert_eq!(chosen(WINDOW, &levels), "nothing");
    levels.now_ms = 4000;
    assert_eq!(chosen(WINDOW, &levels), "Merge 1 2 -> 0");
    // In the present one there are tiers.
    let mut levels = view(&["1:a-z:5@3100 2:a-z:5@3000 3:a-z:5@3000 4:a-z:7@3000 5:a-z:7@2999"]);
    levels.now_ms = 3500;
    assert_eq!(chosen(WINDOW, &levels), "Merge 1 2 3 4 -> 0");
}

#[test]
fn large_young_runs_go_down() {
    assert_eq!(chosen(HYBRID, &view(&["1:a-z:30 2:a-z:40 3:a-z:110"])), "Move 3 -> 6");
    let mut levels = deep(&["5:a-m:500 6:n-z:500"]);
    levels.levels[0] = view(&["1:a-z:30 2:a-z:110 3:a-c:100 4:d-f:120"]).levels[0].clone();
    assert_eq!(chosen(HYBRID, &levels), "Merge 2 3 4 -> 5");
    levels.levels[0] = view(&["1:a-z:30 2:a-z:40 3:a-z:40 4:a-z:50"]).levels[0].clone();
    assert_eq!(chosen(HYBRID, &levels), "Merge 1 2 3 4 -> 0");
}

#[test]
fn what_has_expired_is_dropped_unread() {
    for strategy in [LEVELED, TIERED, WINDOW, HYBRID] {
        let mut levels = deep(&["1:a-c:5%10,100,200 2:d-f:5%10,100,201 3:g-k:5%9,100,200"]);
        levels.levels[6][0].times.made = 150;
        levels.levels[6][1].times.made = 150;
        levels.levels[6][2].times.made = 200;
        levels.now_ms = 200;
        assert_eq!(chosen(strategy, &levels), "Drop 1 -> 0");
        // A snapshot may see it.
        levels.newest_snapshot = Some(5);
        assert_ne!(chosen(strategy, &levels), "Drop 1 -> 0");
        levels.newest_snapshot = Some(4);
        assert_eq!(chosen(strategy, &levels), "Drop 1 -> 0");
        // Nor what somebody merges.
        levels.levels[6][0].busy = true;
        assert_ne!(chosen(strategy, &levels), "Drop 1 -> 0");
        // It may cover something older; together with that it goes.
        let mut levels = view(&["1:a-c:5@1%10,1,2 2:b-b:5@1%8,1,2"]);
        levels.now_ms = 2;
        levels.levels[0][1].times.made = 2;
        assert_eq!(chosen(strategy, &levels), "nothing");
        levels.levels[0][1].deletes = 2;
        assert_eq!(chosen(strategy, &levels), "Drop 2 1 -> 0");
    }
}

#[test]
fn what_has_mostly_expired_is_rewritten_in_its_place() {
    for strategy in [LEVELED, TIERED, WINDOW, HYBRID] {
        let mut levels = deep(&["1:a-c:5%8,100,200 2:d-f:5%4,100,200"]);
        levels.now_ms = 161;
        assert_eq!(chosen(strategy, &levels), "nothing");
        levels.now_ms = 163;
        assert_eq!(chosen(strategy, &levels), "Merge 1 -> 6");
        // Once is enough, whatever the filter thought of it.
        levels.levels[6][0].times.made = 163;
        assert_eq!(chosen(strategy, &levels), "nothing");
        let mut levels = deep(&["1:a-c:5%8,200,200"]);
        levels.now_ms = 200;
        levels.levels[6][0].times.made = 200;
        assert_eq!(chosen(strategy, &levels), "nothing");
        levels.levels[6][0].times.made = 199;
        assert_eq!(chosen(strategy, &levels), "Merge 1 -> 6");
        // Not while something older lies beneath.
        let mut levels = view(&["1:a-c:5@300%8,100,200 2:c-c:5@300"]);
        levels.now_ms = 300;
        assert_eq!(chosen(strategy, &levels), "nothing");
    }
}
