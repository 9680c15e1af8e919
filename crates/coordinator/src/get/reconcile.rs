//! Several replicas' versions of a row become one.

use meridian_crdt::{ConflictPolicy, Context, Row, RowVersion};

/// The join of several versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// The joined entries. Without a row context: [`Self::coverage`] says more.
    pub row: Row,
    /// Everything that the versions' makers covered, their entries included. Empty on an LWW table:
    /// causality decides nothing there.
    pub coverage: Context,
}

/// Joins versions (rule 6): an entry stays if every version has it, or those that lack it do not
/// cover its dot.
#[must_use]
pub fn reconcile<'a>(
    policy: ConflictPolicy,
    versions: impl IntoIterator<Item = &'a RowVersion>,
) -> Reconciled {
    let mut row = Row::default();
    let mut coverage = Context::default();
    for version in versions {
        let theirs = match policy {
            ConflictPolicy::Siblings => version.row.full_context(&version.clock),
            ConflictPolicy::Lww => Context::default(),
        };
        row.join(policy, &coverage, &version.row, &theirs);
        coverage.union_with(&theirs);
    }
    Reconciled { row, coverage }
}

/// What a reader of all these versions has seen: of each what its own reader would have.
pub(super) fn reader_context<'a>(versions: impl IntoIterator<Item = &'a RowVersion>) -> Context {
    let mut reader = Context::default();
    for version in versions {
        reader.union_with(&version.row.reader_context(&version.clock));
    }
    reader
}
