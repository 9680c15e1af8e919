//! Which of the tables that were found are the database's: from what they say of each other.
//!
//! A table that was merged away and not yet removed must not count: what the merge dropped with its
//! tombstone would be back. Nor must one that a merge began and did not end count beside its inputs:
//! operands that it joined would count twice. The rules:
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

/// `damaged`: tables that are there, and cannot be read. A table whose blob files are gone is neither:
/// those go only when it is replaced.
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
