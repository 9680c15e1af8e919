//! What is chosen, over plain views.

use bytes::Bytes;

use super::choice::{Choice, choose, everything};
use super::view::{LevelsView, TableView};
use crate::options::{Compaction, LEVELS};

const STRATEGY: Compaction = Compaction::Leveled { l0_files: 4, l1_bytes: 100, factor: 10 };

/// Levels as text: `id:smallest-largest:bytes`, separated by spaces.
fn view(levels: &[&str]) -> LevelsView {
    let table = |text: &str| {
        let parts: Vec<&str> = text.split([':', '-']).collect();
        TableView {
            id: parts[0].parse().unwrap(),
            smallest: Bytes::copy_from_slice(parts[1].as_bytes()),
            largest: Bytes::copy_from_slice(parts[2].as_bytes()),
            bytes: parts[3].parse().unwrap(),
        }
    };
    let mut view = LevelsView { levels: vec![Vec::new(); LEVELS] };
    for (level, text) in levels.iter().enumerate() {
        view.levels[level] = text.split_whitespace().map(table).collect();
    }
    view
}

fn chosen(inputs: &[u64], output: usize, is_move: bool) -> Option<Choice> {
    Some(Choice { inputs: inputs.to_vec(), output, is_move })
}

#[test]
fn nothing_to_do() {
    assert_eq!(choose(STRATEGY, &view(&[])), None);
    assert_eq!(choose(STRATEGY, &view(&["1:a-b:50 2:a-b:50 3:a-b:50"])), None);
    assert_eq!(choose(STRATEGY, &view(&["", "1:a-b:50 2:c-d:50"])), None);
    assert_eq!(everything(&view(&[])), None);
}

#[test]
fn level_0_goes_down_whole_with_what_it_overlaps() {
    let levels = view(&["1:d-f:5 2:a-b:5 3:e-g:5 4:b-c:5", "5:a-a:9 6:c-d:9 7:h-k:9"]);
    assert_eq!(choose(STRATEGY, &levels), chosen(&[1, 2, 3, 4, 5, 6], 1, false));
    let levels = view(&["1:d-f:5 2:a-b:5 3:e-g:5 4:b-c:5", "7:h-k:9"]);
    assert_eq!(choose(STRATEGY, &levels), chosen(&[1, 2, 3, 4], 1, false));
}

#[test]
fn the_cheapest_table_of_the_fullest_level_goes_down() {
    let levels = view(&["", "1:a-c:60 2:d-f:60", "3:a-b:500 4:e-e:10 5:f-h:20"]);
    assert_eq!(choose(STRATEGY, &levels), chosen(&[2, 4, 5], 2, false));
    let levels = view(&["", "1:a-c:60 2:d-f:60", "3:a-b:500"]);
    assert_eq!(choose(STRATEGY, &levels), chosen(&[2], 2, true));
    // Level 2 is at 1.5 of its target, level 1 at 1.2.
    let levels = view(&["", "1:a-c:60 2:d-f:60", "3:a-b:900 4:g-h:600", "5:a-a:1"]);
    assert_eq!(choose(STRATEGY, &levels), chosen(&[4], 3, true));
    // Level 0 at 1.25 is between them.
    let levels = view(&["1:z-z:1 2:z-z:1 3:z-z:1 4:z-z:1 6:z-z:1", "7:a-c:60 8:d-f:60"]);
    assert_eq!(choose(STRATEGY, &levels), chosen(&[1, 2, 3, 4, 6], 1, false));
}

#[test]
fn the_last_level_has_no_target() {
    let mut levels = view(&[]);
    levels.levels[LEVELS - 1] = view(&["1:a-b:99999999999"]).levels[0].clone();
    assert_eq!(choose(STRATEGY, &levels), None);
    assert_eq!(everything(&levels), chosen(&[1], LEVELS - 1, false));
}

#[test]
fn everything_goes_to_the_deepest_level_in_use() {
    assert_eq!(everything(&view(&["1:a-b:1"])), chosen(&[1], 1, false));
    let levels = view(&["1:a-b:1", "", "2:a-b:1"]);
    assert_eq!(everything(&levels), chosen(&[1, 2], 2, false));
}
