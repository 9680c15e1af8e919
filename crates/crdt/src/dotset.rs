//! A set of dots: what clocks and contexts are made of.

use meridian_types::varint::{DecodeError, Reader, put_u64};
use meridian_types::{Mutation, broken};

use crate::{Actor, CounterSet, Dot};

/// A set of dots, by actor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DotSet {
    // INVARIANT: sorted by actor, no actor twice, no empty counter set.
    actors: Vec<(Actor, CounterSet)>,
}

impl DotSet {
    /// Whether there is no dot in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actors.is_empty()
    }

    /// The actors and their counters, in the order of the actors.
    pub fn actors(&self) -> impl Iterator<Item = (Actor, &CounterSet)> {
        self.actors.iter().map(|(actor, counters)| (*actor, counters))
    }

    /// The counters of one actor.
    #[must_use]
    pub fn counters(&self, actor: Actor) -> Option<&CounterSet> {
        self.find(actor).ok().map(|at| &self.actors[at].1)
    }

    /// How many dots are in the set; the largest number when there are more.
    #[must_use]
    pub fn len(&self) -> u64 {
        // A set that came over the network may claim any number.
        self.actors.iter().fold(0, |sum, (_, counters)| sum.saturating_add(counters.len()))
    }

    /// Whether `dot` is in the set.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.counters(dot.actor).is_some_and(|counters| counters.contains(dot.counter))
    }

    /// Adds a dot; whether it was new.
    pub fn insert(&mut self, dot: Dot) -> bool {
        match self.find(dot.actor) {
            Ok(at) => self.actors[at].1.insert(dot.counter),
            Err(at) => {
                self.actors.insert(at, (dot.actor, CounterSet::single(dot.counter)));
                true
            }
        }
    }

    /// Adds an actor's counters.
    pub fn insert_counters(&mut self, actor: Actor, counters: &CounterSet) {
        if counters.is_empty() {
            return;
        }
        match self.find(actor) {
            Ok(at) => self.actors[at].1.union_with(counters),
            Err(at) => self.actors.insert(at, (actor, counters.clone())),
        }
    }

    /// Adds everything of `other`.
    pub fn union_with(&mut self, other: &Self) {
        for (actor, counters) in &other.actors {
            self.insert_counters(*actor, counters);
        }
    }

    /// Whether every dot of this set is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.actors.iter().all(|(actor, counters)| {
            other.counters(*actor).is_some_and(|theirs| counters.is_subset(theirs))
        })
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.filtered(|actor, counters| match other.counters(actor) {
            Some(theirs) => counters.difference(theirs),
            None => counters.clone(),
        })
    }

    /// What is above the contiguous base that `other` has for each actor.
    #[must_use]
    pub fn above_base_of(&self, other: &Self) -> Self {
        self.filtered(|actor, counters| {
            let base = match broken(Mutation::StripToHighest) {
                true => CounterSet::highest,
                false => CounterSet::base,
            };
            counters.above(other.counters(actor).map_or(0, base))
        })
    }

    /// The contiguous bases alone: everything from 1 on that has no gap.
    #[must_use]
    pub fn base(&self) -> Self {
        self.filtered(|_, counters| CounterSet::up_to(counters.base()))
    }

    fn filtered(&self, keep: impl Fn(Actor, &CounterSet) -> CounterSet) -> Self {
        let actors = self.actors.iter().filter_map(|(actor, counters)| {
            let kept = keep(*actor, counters);
            (!kept.is_empty()).then_some((*actor, kept))
        });
        Self { actors: actors.collect() }
    }

    fn find(&self, actor: Actor) -> Result<usize, usize> {
        self.actors.binary_search_by_key(&actor, |(a, _)| *a)
    }

    /// About how many bytes [`Self::encode`] writes, to allocate once.
    pub(crate) fn encoded_len_hint(&self) -> usize {
        let ranges: usize = self.actors.iter().map(|(_, c)| c.ranges().len()).sum();
        // Node, incarnation and count of ranges, then two numbers of about four bytes a range.
        4 + 12 * self.actors.len() + 8 * ranges
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.actors.len() as u64);
        for (actor, counters) in &self.actors {
            actor.encode(out);
            counters.encode(out);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count(Actor::MIN_BYTES + CounterSet::MIN_BYTES, "number of actors")?;
        let mut actors: Vec<(Actor, CounterSet)> = Vec::with_capacity(count);
        for _ in 0..count {
            let actor = Actor::decode(reader)?;
            let counters = CounterSet::decode(reader)?;
            if counters.is_empty() || actors.last().is_some_and(|(last, _)| *last >= actor) {
                return Err(reader.invalid("order of actors"));
            }
            actors.push((actor, counters));
        }
        Ok(Self { actors })
    }
}

impl FromIterator<Dot> for DotSet {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut set = Self::default();
        for dot in dots {
            set.insert(dot);
        }
        set
    }
}
