//! What a replica knows of one vnode.

use xxhash_rust::xxh3::xxh3_128;

use crate::{Actor, Context, CounterSet, Dot, DotSet};

/// The dots that a replica has applied, per keyspace and vnode: for each actor the contiguous
/// base, plus single dots beyond it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VnodeClock {
    pub(crate) seen: DotSet,
}

impl VnodeClock {
    /// Whether nothing was ever applied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether `dot` was applied.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.seen.contains(dot)
    }

    /// Notes that `dot` was applied; whether that is news.
    pub fn insert(&mut self, dot: Dot) -> bool {
        self.seen.insert(dot)
    }

    /// The highest counter of an actor; 0 when it never wrote.
    #[must_use]
    pub fn highest(&self, actor: Actor) -> u64 {
        self.seen.counters(actor).map_or(0, CounterSet::highest)
    }

    /// The contiguous base of an actor.
    #[must_use]
    pub fn base(&self, actor: Actor) -> u64 {
        self.seen.counters(actor).map_or(0, CounterSet::base)
    }

    /// Joins another clock. Only right when every row behind `other` was joined before (rule 7).
    pub fn join(&mut self, other: &Self) {
        self.seen.union_with(&other.seen);
    }

    /// Whether `other` has everything that this clock has.
    #[must_use]
    pub fn is_covered_by(&self, other: &Self) -> bool {
        self.seen.is_subset(&other.seen)
    }

    /// The dots that this clock has and `other` lacks.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> DotSet {
        self.seen.difference(&other.seen)
    }

    /// The dots, by actor.
    #[must_use]
    pub fn dots(&self) -> &DotSet {
        &self.seen
    }

    /// Everything that this clock covers, as a context.
    #[must_use]
    pub fn to_context(&self) -> Context {
        Context { seen: self.seen.clone() }
    }

    /// The contiguous bases alone, as a context: what a reader's token starts from (rule 9).
    #[must_use]
    pub fn base_context(&self) -> Context {
        Context { seen: self.seen.base() }
    }

    /// A digest of the clock's canonical bytes: equal clocks have equal digests.
    #[must_use]
    pub fn digest(&self) -> u128 {
        xxh3_128(&self.to_bytes())
    }
}
