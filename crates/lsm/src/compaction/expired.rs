//! Expired data leaves without a read: by what the tables say about themselves.

use super::choice::{Action, Choice};
use super::view::{LevelsView, TableView};
use crate::options::EXPIRED_SHARE_PERCENT;

/// Tables in which nothing matters any more. Dropping one must not bring back what it covers: it
/// goes only when nothing older that stays has keys in its range.
pub(crate) fn wholly(view: &LevelsView) -> Option<Choice> {
    let mut inputs = Vec::new();
    // Oldest first, so that what lies beneath a table has been decided about.
    let mut stays: Vec<&TableView> = Vec::new();
    for level in view.levels.iter().rev() {
        // The tables of a level below 0 do not overlap; those of level 0 are newest first.
        for table in level.iter().rev() {
            let covers = stays.iter().any(|older| older.overlaps(&table.smallest, &table.largest));
            if is_over(view, table) && !table.busy && !covers {
                inputs.push(table.id);
            } else {
                stays.push(table);
            }
        }
    }
    (!inputs.is_empty()).then_some(Choice { inputs, output: 0, action: Action::Drop })
}

fn is_over(view: &LevelsView, table: &TableView) -> bool {
    let times = &table.times;
    times.expiring > 0
        && times.expiring + table.deletes == table.entries
        && times.latest_expiry <= view.now_ms
        && view.newest_snapshot.is_none_or(|snapshot| snapshot < table.min_seqno)
}

/// A table at the bottom of its range of which much has expired since it was made: rewritten in
/// its place. Counting from its making ends this even if the filter keeps what expired.
pub(crate) fn mostly(view: &LevelsView) -> Option<Choice> {
    let deep = view.levels.iter().enumerate().rev();
    deep.flat_map(|(level, tables)| tables.iter().enumerate().map(move |at| (level, at)))
        .filter(|(_, (_, table))| expired_percent(table, view.now_ms) >= EXPIRED_SHARE_PERCENT)
        .filter(|(level, (at, table))| is_bottom(view, *level, *at, table))
        .map(|(output, (_, table))| Choice {
            inputs: vec![table.id],
            output,
            action: Action::Merge,
        })
        .find(|choice| view.allows(choice))
}

fn is_bottom(view: &LevelsView, level: usize, at: usize, table: &TableView) -> bool {
    let older = if level == 0 { &view.levels[0][at + 1..] } else { &[] };
    let deeper = view.levels[level + 1..].iter().flatten();
    !older.iter().chain(deeper).any(|older| older.overlaps(&table.smallest, &table.largest))
}

/// Share of the entries that expired since the table was made, if expiries are spread evenly.
fn expired_percent(table: &TableView, now_ms: u64) -> u64 {
    let times = &table.times;
    let from = times.made.max(times.earliest_expiry);
    let until = now_ms.min(times.latest_expiry);
    if times.expiring == 0 || times.made >= times.latest_expiry || until < from {
        return 0;
    }
    let span = times.latest_expiry - times.earliest_expiry;
    let expired = if span == 0 {
        u128::from(times.expiring)
    } else {
        u128::from(times.expiring) * u128::from(until - from) / u128::from(span)
    };
    let percent = expired * 100 / u128::from(table.entries.max(1));
    u64::try_from(percent).unwrap_or(100)
}
