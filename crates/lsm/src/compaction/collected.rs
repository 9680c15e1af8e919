//! Blob files of which much is garbage: the tables that refer to them are rewritten in their place,
//! one after the other, and the values with them.

use super::choice::{Action, Choice};
use super::view::LevelsView;

/// A table to rewrite, the deepest first: no other compaction comes by there soon.
pub(crate) fn choose(view: &LevelsView) -> Option<Choice> {
    let deep = view.levels.iter().enumerate().rev();
    deep.flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
        .filter(|(_, table)| table.collect && !table.busy)
        .map(|(output, table)| Choice { inputs: vec![table.id], output, action: Action::Merge })
        .find(|choice| view.allows(choice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compaction::choice::choose as choose_any;
    use crate::compaction::view::TableView;
    use crate::options::{Compaction, LEVELS};

    #[test]
    fn the_deepest_table_that_is_free_is_rewritten_where_it_is() {
        let table = |id, collect, busy| TableView {
            id,
            smallest: vec![u8::try_from(id).unwrap()].into(),
            largest: vec![u8::try_from(id).unwrap()].into(),
            collect,
            busy,
            ..TableView::default()
        };
        let mut view = LevelsView { levels: vec![Vec::new(); LEVELS], ..LevelsView::default() };
        view.levels[0] = vec![table(9, true, false)];
        view.levels[3] = vec![table(1, false, false), table(2, true, true), table(3, true, false)];
        let chosen = |view: &LevelsView| choose_any(Compaction::default(), view);
        let wanted = |id, output| Some(Choice { inputs: vec![id], output, action: Action::Merge });
        assert_eq!(chosen(&view), wanted(3, 3));
        view.levels[3].pop();
        assert_eq!(chosen(&view), wanted(9, 0));
        view.levels[0].pop();
        assert_eq!(chosen(&view), None);
    }
}
