//! What a replica must have been told before it may forget a marker (rule 12).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use meridian_crdt::{Actor, Dot, Entry, Row, VnodeClock};
use meridian_types::{Hlc, Millis};

use super::mutations::Mutation;
use super::replica::{Replica, rank};

/// How far a wall clock may be from true time.
pub(crate) const SKEW: u64 = 1;

/// Every dot of the actor up to `counter` has a stamp up to `stamp`, every later dot a higher one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promise {
    pub(crate) counter: u64,
    pub(crate) stamp: Hlc,
}

impl Promise {
    /// That of a life of which no more than the name is left: nobody ever has all its dots.
    pub(crate) fn unknown() -> Self {
        Self { counter: u64::MAX, stamp: Hlc::ZERO }
    }

    pub(crate) fn is_known(self) -> bool {
        self.counter != u64::MAX
    }
}

/// What a replica told another.
#[derive(Clone)]
pub(crate) struct Evidence {
    epoch: u32,
    clock: VnodeClock,
    promises: BTreeMap<Actor, Promise>,
}

impl Replica {
    fn evidence(&self) -> Evidence {
        let clock = match self.breaks(Mutation::CountUnsyncedClocks) {
            true => &self.live.clock,
            false => &self.durable.clock,
        };
        Evidence { epoch: self.epoch, clock: clock.clone(), promises: self.promises.clone() }
    }

    /// Hears from another replica. One that is rebuilding counts as knowing nothing.
    pub(crate) fn hear(&mut self, from: &Self) {
        if from.is_rebuilding() && !self.breaks(Mutation::RebuildCountsAsKnowing) {
            self.evidence.remove(&from.index);
        } else {
            self.evidence.insert(from.index, from.evidence());
        }
    }

    /// Two replicas that speak with each other know the newer layout from then on. What was said
    /// under the older one is void.
    pub(crate) fn learn_layout(&mut self, epoch: u32) {
        if epoch > self.epoch {
            self.epoch = epoch;
            if !self.breaks(Mutation::EvidenceOverEpochs) {
                self.evidence.clear();
            }
        }
    }

    /// A peer that pulls in full is not what it was: what it said before is void.
    pub(crate) fn meet_rebuilding(&mut self, peer: usize) {
        if !self.breaks(Mutation::RebuildCountsAsKnowing) {
            self.evidence.remove(&peer);
        }
    }

    /// Up to this stamp every replica durably knows every write.
    fn stable_stamp(&self, members: Range<usize>, closed: &BTreeSet<Actor>) -> Hlc {
        let mine = self.evidence();
        let over_epochs = self.breaks(Mutation::EvidenceOverEpochs);
        let mut told = vec![&mine];
        for peer in members.filter(|peer| *peer != self.index) {
            match self.evidence.get(&peer) {
                Some(evidence) if over_epochs || evidence.epoch == self.epoch => {
                    told.push(evidence);
                }
                // Asked only those that it knew before.
                None if over_epochs && !self.evidence.is_empty() => {}
                _ => return Hlc::ZERO,
            }
        }
        let promises: BTreeMap<Actor, Promise> =
            told.iter().flat_map(|evidence| evidence.promises.clone()).collect();
        let writers = told.iter().flat_map(|evidence| evidence.clock.dots().actors());
        let unheard = |actor: &Actor| !promises.contains_key(actor) && !closed.contains(actor);
        if writers.map(|(actor, _)| actor).any(|actor| unheard(&actor)) {
            return Hlc::ZERO;
        }
        let held = promises.iter().filter(|(actor, _)| !closed.contains(actor));
        let stable = held.map(|(actor, promise)| {
            let kept = |evidence: &&Evidence| evidence.clock.base(*actor) >= promise.counter;
            if told.iter().all(kept) { promise.stamp } else { Hlc::ZERO }
        });
        stable.min().unwrap_or_default()
    }

    /// Rule 12: forgets what every replica durably knows to have gone. The ranks of what went, by
    /// key.
    pub(crate) fn collect(
        &mut self,
        members: Range<usize>,
        closed: &BTreeSet<Actor>,
        now: u64,
    ) -> Vec<(usize, Entry)> {
        if self.is_rebuilding() {
            return Vec::new();
        }
        let stable = self.stable_stamp(members.clone(), closed);
        let everywhere = |entry: &Entry| {
            let peers = members.clone().filter(|peer| *peer != self.index);
            let mut told = peers.map(|peer| self.evidence.get(&peer));
            self.durable.clock.contains(entry.dot)
                && told.all(|told| told.is_some_and(|told| told.clock.contains(entry.dot)))
        };
        let wall = now + self.skew;
        let mut gone = Vec::new();
        for (key, row) in self.live.rows.iter().enumerate() {
            let dead = |entry: &&Entry| match (&entry.value, entry.expires) {
                (None, _) if self.breaks(Mutation::CollectByDot) => everywhere(entry),
                (None, _) => entry.stamp <= stable,
                (Some(_), None) => false,
                (Some(_), Some(expires)) => {
                    let margin = match self.breaks(Mutation::CollectExpiredAtOnce) {
                        true => 0,
                        false => 2 * SKEW,
                    };
                    let for_all = Millis(wall) >= expires.plus(SKEW + margin);
                    for_all
                        && (entry.stamp <= stable || self.breaks(Mutation::CollectExpiredByTime))
                }
            };
            gone.extend(row.entries().iter().find(dead).map(|entry| (key, entry.clone())));
        }
        for (key, _) in &gone {
            self.live.rows[*key] = Row::default();
        }
        gone
    }

    /// What a reader sees.
    pub(crate) fn winner(&self, key: usize, now: Millis) -> Option<(Hlc, Dot)> {
        self.live.rows[key].visible(now).next().map(rank)
    }
}
