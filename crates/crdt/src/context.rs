//! What a writer had seen.

use crate::{Covers, Dot, DotSet, VnodeClock};

/// A causal context: the dots whose effects its holder has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub(crate) seen: DotSet,
}

impl Context {
    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether `dot` was seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.seen.contains(dot)
    }

    /// Adds one dot.
    pub fn insert(&mut self, dot: Dot) {
        self.seen.insert(dot);
    }

    /// Adds everything of `other`.
    pub fn union_with(&mut self, other: &Self) {
        self.seen.union_with(&other.seen);
    }

    /// What is left to remember for a replica with this clock: everything that its contiguous base
    /// does not cover (rule 5).
    #[must_use]
    pub fn stripped(&self, clock: &VnodeClock) -> Self {
        Self { seen: self.seen.above_base_of(&clock.seen) }
    }

    /// The dots, by actor.
    #[must_use]
    pub fn dots(&self) -> &DotSet {
        &self.seen
    }
}

impl FromIterator<Dot> for Context {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        Self { seen: dots.into_iter().collect() }
    }
}

impl Covers for Context {
    fn covers(&self, dot: Dot) -> bool {
        self.contains(dot)
    }
}
