//! What the storage engine's merge operands mean: the same joins as everywhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use meridian_crdt::{ConflictPolicy, DecodeError, Row, VnodeClock};
use meridian_lsm::{MergeError, MergeOperator};

use crate::records;

/// A table's conflict policy. Shared with its merge operator, because a definition of the same
/// table with a higher version may bring another one while the tree is open.
#[derive(Clone, Debug)]
pub(crate) struct SharedPolicy(Arc<AtomicU8>);

impl SharedPolicy {
    pub(crate) fn new(policy: ConflictPolicy) -> Self {
        Self(Arc::new(AtomicU8::new(policy as u8)))
    }

    pub(crate) fn set(&self, policy: ConflictPolicy) {
        self.0.store(policy as u8, Ordering::Release);
    }

    pub(crate) fn get(&self) -> ConflictPolicy {
        ConflictPolicy::from_number(self.0.load(Ordering::Acquire)).unwrap_or_default()
    }
}

/// Rows: an operand is a delta that was stored without a read.
pub(crate) struct RowMerge {
    policy: SharedPolicy,
}

impl RowMerge {
    pub(crate) fn new(policy: SharedPolicy) -> Self {
        Self { policy }
    }
}

fn refused(cause: DecodeError) -> MergeError {
    MergeError { reason: cause.to_string() }
}

fn row(bytes: &[u8]) -> Result<Row, DecodeError> {
    Row::from_bytes(&Bytes::copy_from_slice(bytes))
}

impl MergeOperator for RowMerge {
    fn name(&self) -> &'static str {
        "meridian.row.1"
    }

    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<Option<Vec<u8>>, MergeError> {
        let Some(first) = base.or_else(|| operands.next()) else { return Ok(None) };
        let Some(second) = operands.next() else {
            // The steady state: one blind write. Whoever reads the row decodes it.
            return Ok(Some(first.to_vec()));
        };
        let policy = self.policy.get();
        let mut joined = row(first).map_err(refused)?;
        joined.absorb(policy, row(second).map_err(refused)?);
        for operand in operands {
            joined.absorb(policy, row(operand).map_err(refused)?);
        }
        Ok((!joined.is_empty()).then(|| joined.to_bytes()))
    }

    fn partial_merge(&self, _key: &[u8], left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
        // Damaged operands stay as they are: the reader of the row gets the error.
        let (mut left, right) = (row(left).ok()?, row(right).ok()?);
        left.absorb(self.policy.get(), right);
        Some(left.to_bytes())
    }
}

/// The store's own records: an operand of a vnode clock is a set of dots that were applied, one of
/// a number is another number, of which the highest holds.
pub(crate) struct RecordMerge;

impl MergeOperator for RecordMerge {
    fn name(&self) -> &'static str {
        "meridian.record.1"
    }

    fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<Option<Vec<u8>>, MergeError> {
        if !records::is_clock(key) {
            return highest(base, operands).map(Some).map_err(refused);
        }
        let mut clock = match base {
            Some(base) => VnodeClock::from_bytes(base).map_err(refused)?,
            None => VnodeClock::default(),
        };
        for dots in operands {
            clock.join(&VnodeClock::from_bytes(dots).map_err(refused)?);
        }
        Ok(Some(clock.to_bytes()))
    }

    fn partial_merge(&self, key: &[u8], left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
        self.full_merge(key, Some(left), &mut std::iter::once(right)).ok().flatten()
    }
}

fn highest(
    base: Option<&[u8]>,
    operands: &mut dyn Iterator<Item = &[u8]>,
) -> Result<Vec<u8>, DecodeError> {
    let mut highest = base.map_or(Ok(0), |base| records::number_from_bytes("number", base))?;
    for operand in operands {
        highest = highest.max(records::number_from_bytes("number", operand)?);
    }
    Ok(records::number_to_bytes(highest).to_vec())
}

#[cfg(test)]
mod tests {
    use meridian_crdt::{Actor, Context, Delta, Dot, DotSet, Entry};
    use meridian_types::{Hlc, Incarnation, NodeId};
    use proptest::prelude::*;

    use super::*;

    const CLOCK: [u8; 9] = [1; 9];

    fn delta(node: u32, counter: u64, stamp: u64, seen: &[(u32, u64)]) -> Delta {
        let dot = |node, counter| {
            Dot::new(Actor { node: NodeId(node), incarnation: Incarnation(7) }, counter)
        };
        let value = Some(Bytes::from(format!("{node}.{counter}")));
        Delta {
            entry: Entry { dot: dot(node, counter), stamp: Hlc(stamp), expires: None, value },
            context: seen.iter().map(|(node, counter)| dot(*node, *counter)).collect::<Context>(),
        }
    }

    fn deltas() -> impl Strategy<Value = Vec<Delta>> {
        let seen = proptest::collection::vec((0u32..3, 1u64..6), 0..3);
        proptest::collection::vec((0u32..3, 1u64..6, 0u64..20, seen), 1..8).prop_map(|all| {
            let mut deltas: Vec<Delta> =
                all.iter().map(|(n, c, s, seen)| delta(*n, *c, *s, seen)).collect();
            let mut dots = std::collections::BTreeSet::new();
            deltas.retain(|delta| {
                !delta.context.contains(delta.entry.dot) && dots.insert(delta.entry.dot)
            });
            deltas
        })
    }

    proptest! {
        #[test]
        fn however_operands_are_grouped_the_row_is_the_same(all in deltas(), cut in 0usize..8) {
            for policy in [ConflictPolicy::Siblings, ConflictPolicy::Lww] {
                let mut expected = Row::default();
                for delta in &all {
                    expected.absorb(policy, delta.clone().into_row());
                }
                let merge = RowMerge::new(SharedPolicy::new(policy));
                let strip = |delta: &Delta| match policy {
                    ConflictPolicy::Lww => Row::new([delta.entry.clone()], Context::default()),
                    ConflictPolicy::Siblings => delta.clone().into_row(),
                };
                let operands: Vec<Vec<u8>> = all.iter().map(|d| strip(d).to_bytes()).collect();
                let (old, new) = operands.split_at(cut.min(operands.len()));
                let base = merge.full_merge(b"k", None, &mut old.iter().map(|o| &o[..])).unwrap();
                let folded = new.iter().cloned().reduce(|left, right| {
                    merge.partial_merge(b"k", &left, &right).unwrap()
                });
                let whole =
                    merge.full_merge(b"k", base.as_deref(), &mut folded.iter().map(|o| &o[..]));
                let whole = whole.unwrap().map(Bytes::from).unwrap_or_default();
                let whole = if all.is_empty() { Row::default() } else {
                    Row::from_bytes(&whole).unwrap()
                };
                prop_assert_eq!(whole, expected);
            }
        }

        #[test]
        fn damaged_operands_are_errors_and_stay(bytes: Vec<u8>) {
            let merge = RowMerge::new(SharedPolicy::new(ConflictPolicy::Siblings));
            let sound = delta(1, 1, 1, &[]).to_bytes();
            let whole = merge.full_merge(b"k", Some(&sound), &mut std::iter::once(&bytes[..]));
            let is_row = row(&bytes).is_ok();
            prop_assert_eq!(whole.is_ok(), is_row);
            prop_assert_eq!(merge.partial_merge(b"k", &sound, &bytes).is_some(), is_row);
            let clock = RecordMerge.full_merge(&CLOCK, Some(&bytes), &mut std::iter::empty());
            prop_assert_eq!(clock.is_ok(), VnodeClock::from_bytes(&bytes).is_ok());
        }
    }

    #[test]
    fn clocks_are_the_union_of_their_operands() {
        let dots = |counters: &[u64]| {
            let dots = counters.iter().map(|c| delta(1, *c, 0, &[]).entry.dot);
            dots.collect::<DotSet>().to_bytes()
        };
        let (a, b, c) = (dots(&[1, 2]), dots(&[4]), dots(&[3]));
        let all =
            RecordMerge.full_merge(&CLOCK, Some(&a), &mut [&b[..], &c[..]].into_iter()).unwrap();
        assert_eq!(all, Some(dots(&[1, 2, 3, 4])));
        assert_eq!(RecordMerge.partial_merge(&CLOCK, &b, &c), Some(dots(&[3, 4])));
    }

    #[test]
    fn of_numbers_the_highest_holds() {
        let [a, b, c] = [5, 9, 7].map(records::number_to_bytes);
        let merge = |base: Option<&[u8]>| {
            let operands = &mut [&b[..], &c[..]].into_iter();
            RecordMerge.full_merge(&records::MARK_KEY, base, operands).unwrap()
        };
        assert_eq!(merge(Some(&a)).unwrap(), b);
        assert_eq!(merge(None).unwrap(), b);
        let damaged = &mut std::iter::once(&b"\x09"[..]);
        assert!(RecordMerge.full_merge(&records::MARK_KEY, Some(&a), damaged).is_err());
    }
}
