//! Which of the tables that were found are the database's: from what they say of each other.
//!
//! A table that was merged away and not yet removed must not count: what the merge dropped with its
//! tombstone would be back. Nor must one that a merge began and did not end count beside its
//! inputs: operands that it joined would count twice. The rules:
//! - what any table, or `TREES`, calls replaced is no part of anything;
//! - a merge has ended if an input of it is replaced or gone, or if one of its outputs is known to
//!   have been part of a version: an input of another merge, or named in `TREES`. Its inputs are
//!   replaced then;
//! - of any other merge all inputs are there, and its outputs are superfluous;
//! - an ingest has ended if `TREES` has its tables, or a merge took one;
//! - of two flushes of the same writes the first one failed.
//!
//! Sound because an input's file goes only behind the edit that replaces it; tables name everything
//! that is replaced and may still be found when they are begun; and what leaves no table is written
//! to `TREES`. The order of file removals does not matter.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::Seqno;
use crate::table::metadata::Origin;
use crate::version::edit::TableRecord;
use crate::version::trees::Trees;

/// A sound table.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) record: TableRecord,
    pub(super) origin: Origin,
}

/// What a sound table is to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Live,
    /// Other tables have what was in it.
    Replaced,
    /// Written by a merge that did not end, or a flush that was tried again.
    Superfluous,
    /// Of an ingest that did not end, as far as anybody knows.
    Unfinished,
    /// Of a tree that was dropped.
    Dropped,
}

#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) verdicts: BTreeMap<u64, Verdict>,
    /// Trees of which it cannot be told which tables count: an input of a merge is damaged.
    pub(super) doubtful: BTreeSet<u32>,
    pub(super) replaced: BTreeSet<u64>,
    /// How far each tree is known to have been flushed.
    pub(super) flushed: BTreeMap<u32, Seqno>,
}

impl Judged {
    pub(super) fn is(&self, table: u64, verdict: Verdict) -> bool {
        self.verdicts.get(&table) == Some(&verdict)
    }
}

/// `damaged`: tables that are there, and cannot be read. A table whose blob files are gone is
/// neither: those go only when it is replaced.
pub(super) fn judge(
    found: &BTreeMap<u64, Found>,
    damaged: &BTreeSet<u64>,
    noted: Option<&Trees>,
) -> Judged {
    let replaced = replaced(found, damaged, noted);
    let inputs: BTreeSet<u64> =
        found.values().flat_map(|table| table.origin.inputs.iter().copied()).collect();
    let mut judged = Judged::default();
    for (&id, Found { origin, .. }) in found {
        let dropped = noted.is_some_and(|noted| {
            origin.tree < noted.state.next_tree && !noted.state.trees.contains_key(&origin.tree)
        });
        let known = inputs.contains(&id) || noted.is_none_or(|noted| noted.tables.contains(&id));
        let has_inputs = origin.inputs.iter().any(|input| !replaced.contains(input));
        let verdict = if dropped {
            Verdict::Dropped
        } else if replaced.contains(&id) {
            Verdict::Replaced
        } else if origin.ingested && !known {
            Verdict::Unfinished
        } else if has_inputs && origin.inputs.iter().any(|input| damaged.contains(input)) {
            judged.doubtful.insert(origin.tree);
            Verdict::Live
        } else if has_inputs {
            Verdict::Superfluous
        } else {
            Verdict::Live
        };
        judged.verdicts.insert(id, verdict);
    }
    judged.replaced = replaced;
    flushed_twice(found, &mut judged);
    for (&tree, known) in noted.iter().flat_map(|noted| &noted.state.trees) {
        judged.flushed.insert(tree, known.flushed);
    }
    for (id, Found { origin, .. }) in found {
        if judged.is(*id, Verdict::Live) || judged.is(*id, Verdict::Superfluous) {
            let flushed = judged.flushed.entry(origin.tree).or_default();
            *flushed = origin.flushed.max(*flushed);
        }
    }
    judged
}

fn replaced(
    found: &BTreeMap<u64, Found>,
    damaged: &BTreeSet<u64>,
    noted: Option<&Trees>,
) -> BTreeSet<u64> {
    let mut replaced: BTreeSet<u64> =
        found.values().flat_map(|table| table.origin.replaced.iter().copied()).collect();
    let mut versions: BTreeSet<u64> =
        found.values().flat_map(|table| table.origin.inputs.iter().copied()).collect();
    if let Some(noted) = noted {
        replaced.extend(&noted.obsolete);
        versions.extend(&noted.tables);
    }
    loop {
        let before = replaced.len();
        for (id, Found { origin, .. }) in found {
            let gone = |input: &u64| {
                replaced.contains(input) || !found.contains_key(input) && !damaged.contains(input)
            };
            let stale = replaced.contains(id) && !versions.contains(id);
            if !stale && (versions.contains(id) || origin.inputs.iter().any(gone)) {
                replaced.extend(&origin.inputs);
            }
        }
        if replaced.len() == before {
            return replaced;
        }
    }
}

fn flushed_twice(found: &BTreeMap<u64, Found>, judged: &mut Judged) {
    let flushes: Vec<(&u64, &Found)> = found
        .iter()
        .filter(|(id, table)| {
            judged.is(**id, Verdict::Live)
                && table.origin.inputs.is_empty()
                && !table.origin.ingested
        })
        .collect();
    for (at, (id, table)) in flushes.iter().enumerate() {
        let again = |(_, later): &(&u64, &Found)| {
            later.origin.tree == table.origin.tree
                && later.record.min_seqno <= table.record.max_seqno
                && table.record.min_seqno <= later.record.max_seqno
        };
        if flushes[at + 1..].iter().any(again) {
            judged.verdicts.insert(**id, Verdict::Superfluous);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Verdict::{Dropped, Live, Replaced, Superfluous, Unfinished};
    use super::*;
    use crate::options::TreeConfig;
    use crate::version::edit::{Change, TableTimes, TreeRecord};

    /// A table of tree 1 whose only write, and how far it was flushed, is its id.
    fn table(id: u64, inputs: &[u64], replaced: &[u64]) -> Found {
        let origin = Origin {
            tree: 1,
            table: id,
            flushed: id,
            inputs: inputs.to_vec(),
            replaced: replaced.to_vec(),
            ..Origin::default()
        };
        let record = TableRecord {
            id,
            level: 0,
            bytes: 0,
            digest: [0; 32],
            smallest: Bytes::new(),
            largest: Bytes::new(),
            min_seqno: id,
            max_seqno: id,
            entries: 1,
            deletes: 0,
            times: TableTimes::default(),
            blobs: Vec::new(),
        };
        Found { record, origin }
    }

    fn ingested(id: u64) -> Found {
        let mut table = table(id, &[], &[]);
        table.origin.ingested = true;
        table
    }

    /// Tree 1 of at most two, with these tables.
    fn noted(tables: &[u64], obsolete: &[u64]) -> Trees {
        let mut trees = Trees {
            tables: tables.iter().copied().collect(),
            obsolete: obsolete.iter().copied().collect(),
            ..Trees::default()
        };
        let record = TreeRecord::new(1, &TreeConfig::new("t"));
        trees.state.apply(&Change::CreateTree(record)).unwrap();
        trees.state.next_tree = 3;
        trees
    }

    fn judged(found: &[Found], damaged: &[u64], noted: Option<&Trees>) -> Judged {
        let found = found.iter().map(|table| (table.record.id, table.clone())).collect();
        judge(&found, &damaged.iter().copied().collect(), noted)
    }

    fn verdicts(found: &[Found], noted: Option<&Trees>) -> Vec<Verdict> {
        judged(found, &[], noted).verdicts.into_values().collect()
    }

    #[test]
    fn a_merge_has_ended_when_an_input_is_gone() {
        let merged = [table(2, &[], &[]), table(3, &[1, 2], &[]), table(4, &[1, 2], &[])];
        assert_eq!(verdicts(&merged, None), [Replaced, Live, Live]);
    }

    #[test]
    fn a_merge_with_all_its_inputs_has_not() {
        let begun = [table(1, &[], &[]), table(2, &[], &[]), table(3, &[1, 2], &[])];
        assert_eq!(verdicts(&begun, None), [Live, Live, Superfluous]);
        assert_eq!(verdicts(&begun, Some(&noted(&[], &[]))), [Live, Live, Superfluous]);
        // Unless somebody knows its output.
        assert_eq!(verdicts(&begun, Some(&noted(&[3], &[]))), [Replaced, Replaced, Live]);
        assert_eq!(verdicts(&begun, Some(&noted(&[], &[1]))), [Replaced, Replaced, Live]);
        let merged_on = [&begun[..], &[table(5, &[3], &[])]].concat();
        assert_eq!(verdicts(&merged_on, None), [Replaced, Replaced, Live, Superfluous]);
    }

    #[test]
    fn a_later_merge_of_one_output_tells_that_the_first_one_ended() {
        // 1 and 2 became 3 and 4; of these 4 became 5. Readers hold the files of 1 and 2.
        let held = [table(1, &[], &[]), table(2, &[], &[]), table(3, &[1, 2], &[])];
        let all = [&held[..], &[table(5, &[4], &[1, 2])]].concat();
        assert_eq!(verdicts(&all, None), [Replaced, Replaced, Live, Live]);
        // What was left of 4 is nothing: only `TREES` knows.
        assert_eq!(verdicts(&held, Some(&noted(&[3], &[1, 2, 4]))), [Replaced, Replaced, Live]);
    }

    #[test]
    fn what_a_failed_merge_left_does_not_tell_that_it_ended() {
        let failed = [table(1, &[], &[]), table(2, &[1], &[]), table(3, &[9], &[2])];
        assert_eq!(verdicts(&failed, None), [Live, Replaced, Live]);
        let again = [table(2, &[1], &[]), table(3, &[1], &[2])];
        assert_eq!(verdicts(&again, None), [Replaced, Live]);
        // One of its inputs was merged elsewhere; the other one counts.
        let elsewhere = [table(1, &[], &[]), table(2, &[1, 9], &[]), table(3, &[9], &[2])];
        assert_eq!(verdicts(&elsewhere, None), [Live, Replaced, Live]);
    }

    #[test]
    fn an_ingest_has_ended_when_somebody_knows_its_tables() {
        let two = [ingested(1), ingested(2)];
        assert_eq!(verdicts(&two, Some(&noted(&[], &[]))), [Unfinished, Unfinished]);
        assert_eq!(verdicts(&two, Some(&noted(&[1, 2], &[]))), [Live, Live]);
        let merging = [ingested(1), ingested(2), table(3, &[1, 2], &[])];
        assert_eq!(verdicts(&merging, Some(&noted(&[], &[]))), [Live, Live, Superfluous]);
        // Without `TREES` nobody can know; data is kept rather than lost.
        assert_eq!(verdicts(&two, None), [Live, Live]);
    }

    #[test]
    fn of_two_flushes_of_the_same_writes_the_later_one_counts() {
        let mut again = table(2, &[], &[]);
        again.record.min_seqno = 1;
        assert_eq!(verdicts(&[table(1, &[], &[]), again.clone()], None), [Superfluous, Live]);
        again.origin.tree = 2;
        assert_eq!(verdicts(&[table(1, &[], &[]), again], None), [Live, Live]);
    }

    #[test]
    fn a_dropped_trees_tables_are_nobodys() {
        let mut other = table(1, &[], &[]);
        other.origin.tree = 2;
        assert_eq!(verdicts(&[other.clone()], Some(&noted(&[], &[]))), [Dropped]);
        assert_eq!(verdicts(&[other], None), [Live]);
    }

    #[test]
    fn a_damaged_input_leaves_a_doubt_and_everything_else_in_use() {
        let found = [table(1, &[], &[]), table(3, &[1, 2], &[])];
        let judged = judged(&found, &[2], None);
        assert_eq!(judged.verdicts.into_values().collect::<Vec<_>>(), [Live, Live]);
        assert_eq!(judged.doubtful, [1].into());
    }

    #[test]
    fn how_far_a_tree_was_flushed_no_failed_flush_tells() {
        let found = [table(1, &[], &[]), table(5, &[], &[]), table(3, &[0], &[5])];
        assert_eq!(judged(&found, &[], None).flushed, [(1, 3)].into());
        let mut known = noted(&[], &[]);
        known.state.apply(&Change::Flushed { tree: 1, seqno: 4 }).unwrap();
        assert_eq!(judged(&found, &[], Some(&known)).flushed, [(1, 4)].into());
    }
}
