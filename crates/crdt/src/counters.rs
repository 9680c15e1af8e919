//! A set of one actor's counters, as ranges.

use meridian_types::varint::{DecodeError, Reader, put_u64};
use smallvec::{SmallVec, smallvec};

/// A set of counters (from 1), kept as sorted ranges that neither overlap nor touch.
///
/// The range that starts at 1 is the *base*: everything up to it is there. In the steady state
/// that is the only range, and the set is two numbers on the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterSet {
    // INVARIANT: 1 <= lo <= hi, and each lo is at least the hi before it plus 2.
    ranges: SmallVec<[(u64, u64); 1]>,
}

impl CounterSet {
    /// Everything from 1 to `base`; nothing for 0.
    #[must_use]
    pub fn up_to(base: u64) -> Self {
        Self { ranges: if base == 0 { smallvec![] } else { smallvec![(1, base)] } }
    }

    /// A single counter, from 1.
    #[must_use]
    pub fn single(counter: u64) -> Self {
        debug_assert!(counter > 0, "counters begin at 1");
        Self { ranges: smallvec![(counter, counter)] }
    }

    /// Whether there is nothing in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The largest `n` such that everything from 1 to `n` is in the set.
    #[must_use]
    pub fn base(&self) -> u64 {
        match self.ranges.first() {
            Some(&(1, hi)) => hi,
            _ => 0,
        }
    }

    /// The largest counter; 0 when empty.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.ranges.last().map_or(0, |&(_, hi)| hi)
    }

    /// How many counters are in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|&(lo, hi)| hi - lo + 1).sum()
    }

    /// The ranges, lowest first, both ends included.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// Whether `counter` is in the set.
    #[must_use]
    pub fn contains(&self, counter: u64) -> bool {
        let at = self.ranges.partition_point(|&(_, hi)| hi < counter);
        self.ranges.get(at).is_some_and(|&(lo, _)| lo <= counter)
    }

    /// Adds a counter, from 1; whether it was new.
    pub fn insert(&mut self, counter: u64) -> bool {
        debug_assert!(counter > 0, "counters begin at 1");
        // The steady state: the next write of an actor whose writes all arrived.
        if let [(_, hi)] = self.ranges.as_mut_slice()
            && hi.checked_add(1) == Some(counter)
        {
            *hi = counter;
            return true;
        }
        let at = self.ranges.partition_point(|&(_, hi)| hi < counter);
        if self.ranges.get(at).is_some_and(|&(lo, _)| lo <= counter) {
            return false;
        }
        let joins_left = at > 0 && self.ranges[at - 1].1 + 1 == counter;
        let joins_right = self.ranges.get(at).is_some_and(|&(lo, _)| counter + 1 == lo);
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = counter,
            (false, true) => self.ranges[at].0 = counter,
            (false, false) => self.ranges.insert(at, (counter, counter)),
        }
        true
    }

    /// Adds everything of `other`.
    pub fn union_with(&mut self, other: &Self) {
        if other.is_subset(self) {
            return;
        }
        let mut all: SmallVec<[(u64, u64); 8]> =
            self.ranges.iter().chain(&other.ranges).copied().collect();
        all.sort_unstable();
        self.ranges.clear();
        for (lo, hi) in all {
            match self.ranges.last_mut() {
                Some(last) if lo <= last.1.saturating_add(1) => last.1 = last.1.max(hi),
                _ => self.ranges.push((lo, hi)),
            }
        }
    }

    /// Whether every counter of this set is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.ranges.iter().all(|&(lo, hi)| {
            let at = other.ranges.partition_point(|&(_, end)| end < lo);
            other.ranges.get(at).is_some_and(|&(start, end)| start <= lo && hi <= end)
        })
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for &(lo, hi) in &self.ranges {
            // `None` once the rest of this range, up to the largest number, is in `other`.
            let mut next = Some(lo);
            let from = other.ranges.partition_point(|&(_, end)| end < lo);
            for &(start, end) in other.ranges[from..].iter().take_while(|r| r.0 <= hi) {
                if let Some(next) = next.filter(|next| *next < start) {
                    out.ranges.push((next, start - 1));
                }
                next = end.checked_add(1);
            }
            if let Some(next) = next.filter(|next| *next <= hi) {
                out.ranges.push((next, hi));
            }
        }
        out
    }

    /// Everything above `base`.
    #[must_use]
    pub fn above(&self, base: u64) -> Self {
        let ranges = self
            .ranges
            .iter()
            .filter(|&&(_, hi)| hi > base)
            .map(|&(lo, hi)| (lo.max(base.saturating_add(1)), hi));
        Self { ranges: ranges.collect() }
    }

    /// Fewest bytes of an encoded set.
    pub(crate) const MIN_BYTES: usize = 3;

    /// Count of ranges, then each as its distance from the one before and its length, both less
    /// the smallest that is possible, so that there is one spelling only.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.ranges.len() as u64);
        let mut lowest = 1;
        for &(lo, hi) in &self.ranges {
            put_u64(out, lo - lowest);
            put_u64(out, hi - lo);
            lowest = hi.saturating_add(2);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "range of counters";
        let count = reader.count(2, "number of counter ranges")?;
        let mut ranges = SmallVec::with_capacity(count);
        let mut lowest = Some(1u64);
        for _ in 0..count {
            let gap = reader.u64(WHAT)?;
            let lo = lowest.and_then(|lowest| lowest.checked_add(gap));
            let lo = lo.ok_or_else(|| reader.invalid(WHAT))?;
            let len = reader.u64(WHAT)?;
            let hi = lo.checked_add(len).ok_or_else(|| reader.invalid(WHAT))?;
            ranges.push((lo, hi));
            lowest = hi.checked_add(2);
        }
        Ok(Self { ranges })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(counters: &BTreeSet<u64>) -> CounterSet {
        let mut set = CounterSet::default();
        for &n in counters {
            assert!(set.insert(n));
            assert!(!set.insert(n));
        }
        set
    }

    fn small() -> impl Strategy<Value = BTreeSet<u64>> {
        proptest::collection::btree_set(1u64..24, 0..16)
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(a in small(), b in small(), base in 0u64..26) {
            let (x, y) = (of(&a), of(&b));
            let mut union = x.clone();
            union.union_with(&y);
            prop_assert_eq!(&union, &of(&a.union(&b).copied().collect()));
            prop_assert_eq!(x.difference(&y), of(&a.difference(&b).copied().collect()));
            prop_assert_eq!(x.above(base), of(&a.iter().copied().filter(|n| *n > base).collect()));
            prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
            prop_assert_eq!(x.len(), a.len() as u64);
            prop_assert_eq!(x.highest(), a.last().copied().unwrap_or(0));
            let contiguous = (1..).take_while(|n| a.contains(n)).last().unwrap_or(0);
            prop_assert_eq!(x.base(), contiguous);
            for n in 1..26 {
                prop_assert_eq!(x.contains(n), a.contains(&n));
            }
        }

        #[test]
        fn ranges_beyond_the_largest_number_are_refused(hi in u64::MAX - 4.., gap in 0u64..4) {
            let mut out = vec![2];
            for n in [hi - 1, 0, gap, 0] {
                put_u64(&mut out, n);
            }
            // The second range is a single counter, two above the first at least.
            let second = hi.checked_add(2).and_then(|n| n.checked_add(gap));
            match (CounterSet::decode(&mut Reader::new(&out)), second) {
                (Ok(set), Some(second)) => prop_assert!(set.contains(hi) && set.contains(second)),
                (decoded, second) => prop_assert!(decoded.is_err() && second.is_none()),
            }
        }

        #[test]
        fn behaves_at_the_largest_numbers_as_at_the_smallest(a in small(), b in small()) {
            // Mirrored: n stands for u64::MAX - n + 1, so that 1 is the largest number.
            let mirror = |s: &BTreeSet<u64>| of(&s.iter().map(|n| u64::MAX - (n - 1)).collect());
            let (x, y) = (mirror(&a), mirror(&b));
            let mut union = x.clone();
            union.union_with(&y);
            prop_assert_eq!(&union, &mirror(&a.union(&b).copied().collect()));
            prop_assert_eq!(x.difference(&y), mirror(&a.difference(&b).copied().collect()));
            prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
            for n in 1..26 {
                prop_assert_eq!(x.contains(u64::MAX - (n - 1)), a.contains(&n));
            }
            let mut out = Vec::new();
            x.encode(&mut out);
            prop_assert_eq!(CounterSet::decode(&mut Reader::new(&out)), Ok(x));
        }

        #[test]
        fn round_trips_canonically(a in small()) {
            let set = of(&a);
            let mut out = Vec::new();
            set.encode(&mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(CounterSet::decode(&mut reader), Ok(set));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn arbitrary_bytes_decode_to_their_only_spelling_or_not_at_all(
            bytes in proptest::collection::vec(any::<u8>(), 0..24),
        ) {
            let mut reader = Reader::new(&bytes);
            if let Ok(set) = CounterSet::decode(&mut reader) {
                let mut out = Vec::new();
                set.encode(&mut out);
                prop_assert_eq!(&bytes[..reader.position()], &out[..]);
            }
        }
    }
}
