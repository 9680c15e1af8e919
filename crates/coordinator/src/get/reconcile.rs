//! Several replicas' versions of a row become one.

use meridian_crdt::{ConflictPolicy, Context, Row, RowVersion, VnodeClock};

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
/// cover its dot. On an LWW table the last writer's stays, unless one that lacks it and has nothing
/// above it has seen it go: what a replica has forgotten, another's answer from before must not
/// bring back (rule 12).
#[must_use]
pub fn reconcile<'a>(
    policy: ConflictPolicy,
    versions: impl IntoIterator<Item = &'a RowVersion>,
) -> Reconciled {
    let mut row = Row::default();
    let mut coverage = Context::default();
    match policy {
        ConflictPolicy::Siblings => {
            for version in versions {
                let theirs = version.row.full_context(&version.clock);
                row.join(policy, &coverage, &version.row, &theirs);
                coverage.union_with(&theirs);
            }
        }
        ConflictPolicy::Lww => {
            let (mut covered, mut last) = (VnodeClock::default(), None::<&RowVersion>);
            for version in versions {
                if let Some(last) = last.replace(version) {
                    covered.join(&last.clock);
                }
                row.sweep(policy, &mut covered, &version.row, &version.clock);
            }
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use meridian_crdt::{Actor, Dot, Entry};
    use meridian_types::{Hlc, Incarnation, NodeId};

    use super::*;

    fn entry(counter: u64, value: Option<&'static str>) -> Entry {
        let dot = Dot::new(Actor { node: NodeId(1), incarnation: Incarnation(1) }, counter);
        let value = value.map(|value| Bytes::from_static(value.as_bytes()));
        Entry { dot, stamp: Hlc(counter), expires: None, value }
    }

    fn version(entries: &[Entry], seen: &[Entry]) -> RowVersion {
        let mut clock = VnodeClock::default();
        entries.iter().chain(seen).for_each(|entry| _ = clock.insert(entry.dot));
        RowVersion { row: Row::new(entries.to_vec(), Context::default()), clock: Arc::new(clock) }
    }

    #[test]
    fn the_last_writer_stays_unless_somebody_saw_it_go() {
        let (value, marker, newer) = (entry(1, Some("v")), entry(2, None), entry(3, Some("w")));
        let before = version(std::slice::from_ref(&value), &[]);
        let deleted = version(std::slice::from_ref(&marker), std::slice::from_ref(&value));
        let forgotten = version(&[], &[value.clone(), marker.clone()]);
        let written = version(std::slice::from_ref(&newer), &[]);
        for (versions, expected) in [
            ([&before, &deleted], Some(&marker)),
            ([&before, &forgotten], None),
            ([&deleted, &forgotten], None),
            ([&written, &forgotten], Some(&newer)),
            ([&written, &before], Some(&newer)),
        ] {
            for versions in [versions, [versions[1], versions[0]]] {
                let row = reconcile(ConflictPolicy::Lww, versions).row;
                assert_eq!(row.entries().first(), expected);
            }
        }
    }
}
