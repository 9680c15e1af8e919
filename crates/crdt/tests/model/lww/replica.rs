//! One replica of the model: its state is the crate's own types, its joins are the crate's own
//! calls. Where a rule is left out, the step goes around the call that keeps it.

use std::collections::{BTreeMap, BTreeSet};

use meridian_crdt::{Actor, ConflictPolicy, Context, Delta, Dot, Entry, Row, VnodeClock};
use meridian_types::Hlc;

use super::evidence::{Evidence, Promise};
use super::mutations::Mutation;
use crate::support::life;

const POLICY: ConflictPolicy = ConflictPolicy::Lww;

/// What an LWW row is compared by.
pub(crate) fn rank(entry: &Entry) -> (Hlc, Dot) {
    (entry.stamp, entry.dot)
}

/// What is on a disk.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) clock: VnodeClock,
    pub(crate) rows: Vec<Row>,
}

/// What a replica that cannot prove its data, or has none yet, has still to do.
#[derive(Clone)]
pub(crate) struct Rebuild {
    /// The peers that it has yet to pull from in full.
    todo: BTreeSet<usize>,
    /// Whether one of those that it pulled from was sound.
    found_sound: bool,
    /// It may have promised more than it remembers, so it gives no stamp before its peers' are
    /// known.
    stamps_unsure: bool,
}

pub(crate) struct Replica {
    pub(crate) index: usize,
    incarnation: u64,
    next: u64,
    /// Stamps given so far end here.
    pub(crate) hlc: u64,
    /// How far its wall clock is from true time.
    pub(crate) skew: u64,
    pub(crate) live: Disk,
    pub(crate) durable: Disk,
    checkpoint: Option<Disk>,
    rebuild: Option<Rebuild>,
    durable_rebuild: Option<Rebuild>,
    /// What it promised in each of its lives. Durable before anybody is told.
    pub(crate) promises: BTreeMap<Actor, Promise>,
    /// The layout that it knows of.
    pub(crate) epoch: u32,
    /// What it was told by the others.
    pub(crate) evidence: BTreeMap<usize, Evidence>,
    /// Rises whenever memory is lost: a pull does not outlive it.
    pub(crate) life: u32,
    broken: Option<Mutation>,
}

impl Replica {
    pub(crate) fn new(index: usize, keys: usize, broken: Option<Mutation>) -> Self {
        let empty = Disk { clock: VnodeClock::default(), rows: vec![Row::default(); keys] };
        let mut replica = Self {
            index,
            incarnation: 0,
            next: 0,
            hlc: 0,
            skew: 0,
            live: empty.clone(),
            durable: empty,
            checkpoint: None,
            rebuild: None,
            durable_rebuild: None,
            promises: BTreeMap::new(),
            epoch: 0,
            evidence: BTreeMap::new(),
            life: 0,
            broken,
        };
        replica.promises.insert(replica.actor(), Promise::default());
        replica
    }

    pub(crate) fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    pub(crate) fn actor(&self) -> Actor {
        life(self.index, self.incarnation)
    }

    pub(crate) fn is_rebuilding(&self) -> bool {
        self.rebuild.is_some()
    }

    /// Whether it may give a stamp: what it gives is above all that it ever promised.
    pub(crate) fn may_mint(&self) -> bool {
        self.breaks(Mutation::MintBeforeHearing)
            || self.rebuild.as_ref().is_none_or(|rebuild| !rebuild.stamps_unsure)
    }

    /// The next dot, with a stamp by the hybrid clock.
    pub(crate) fn mint(&mut self, wall: u64) -> (Dot, Hlc) {
        self.hlc = self.hlc.max(wall) + 1;
        (self.next_dot(), Hlc(self.hlc))
    }

    /// The dot and stamp of a write that was accepted long ago, with `stamp` (rule 14); `None` if
    /// it is superseded here. Up to what this replica promised it has no stamps to give any more:
    /// such a write gets the next one, which loses to as much as it can.
    pub(crate) fn mint_intent(&mut self, key: usize, stamp: u64) -> Option<(Dot, Hlc)> {
        if self.live.rows[key].entries().iter().any(|entry| entry.stamp.0 >= stamp) {
            return None;
        }
        let promised = self.promises.values().map(|promise| promise.stamp.0).max();
        let stamp = match self.breaks(Mutation::IntentBelowPromise) {
            true => stamp,
            false => stamp.max(promised.unwrap_or_default() + 1),
        };
        self.follow(stamp);
        Some((self.next_dot(), Hlc(stamp)))
    }

    fn next_dot(&mut self) -> Dot {
        self.next += 1;
        Dot::new(self.actor(), self.next)
    }

    pub(crate) fn follow(&mut self, stamp: u64) {
        self.hlc = self.hlc.max(stamp);
    }

    pub(crate) fn promise(&mut self) {
        let promise = Promise { counter: self.next, stamp: Hlc(self.hlc) };
        self.promises.insert(self.actor(), promise);
    }

    /// Rule 4. `passed` is what a full pull that has gone by this row stands for.
    pub(crate) fn apply(&mut self, key: usize, delta: Delta, passed: &VnodeClock) {
        let dot = delta.entry.dot;
        self.follow(delta.entry.stamp.0);
        if passed.contains(dot) && !self.breaks(Mutation::ForgetWhatPullPassed) {
            return;
        }
        if self.live.clock.insert(dot) || self.breaks(Mutation::ApplyTwice) {
            self.live.rows[key].apply(POLICY, delta);
        }
    }

    /// Joins what a peer has of a row. `covered` is the peer's clock where it may sweep.
    pub(crate) fn join(
        &mut self,
        key: usize,
        other: &Row,
        covered: &VnodeClock,
        passed: &VnodeClock,
    ) {
        let Disk { clock, rows } = &mut self.live;
        let row = &mut rows[key];
        if self.broken == Some(Mutation::JoinWithoutOwnClock) {
            row.join_answer(POLICY, clock, other, &Context::default());
            return;
        }
        if self.broken == Some(Mutation::ForgetWhatPullPassed) || passed.is_empty() {
            row.sweep(POLICY, clock, other, covered);
            return;
        }
        let mut known = clock.clone();
        known.join(passed);
        row.sweep(POLICY, &mut known, other, covered);
        for entry in other.entries() {
            clock.insert(entry.dot);
        }
    }

    /// The last step of a pull (rule 7).
    pub(crate) fn end_pull(
        &mut self,
        from: usize,
        snapshot: &VnodeClock,
        from_sound: bool,
        peers: usize,
    ) {
        if self.is_rebuilding() {
            for entry in self.live.rows.iter().flat_map(Row::entries) {
                self.live.clock.insert(entry.dot);
            }
        }
        self.live.clock.join(snapshot);
        let Some(rebuild) = &mut self.rebuild else { return };
        rebuild.todo.remove(&from);
        rebuild.found_sound |= from_sound || self.broken == Some(Mutation::RebuildFromDamaged);
        if rebuild.todo.is_empty() {
            match rebuild.found_sound {
                true => self.end_rebuild(),
                // Whoever was asked may have lost the same: all over again.
                false => rebuild.todo = (0..peers).filter(|peer| *peer != self.index).collect(),
            }
        }
        self.sync();
    }

    fn end_rebuild(&mut self) {
        if self.rebuild.take().is_some_and(|rebuild| rebuild.stamps_unsure) {
            // All that its peers may count on lies below their stamps, which it has followed.
            self.promise();
        }
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.live.clone();
        self.durable_rebuild = self.rebuild.clone();
    }

    pub(crate) fn take_checkpoint(&mut self) {
        self.checkpoint = Some(self.live.clone());
    }

    pub(crate) fn crash(&mut self, wall: u64) {
        self.live = self.durable.clone();
        self.rebuild = self.durable_rebuild.clone();
        self.begin_life(wall);
    }

    /// An operator puts an old checkpoint back; its clock is true of its rows.
    pub(crate) fn restore(&mut self, wall: u64, promises_lost: bool, peers: BTreeSet<usize>) {
        let Some(old) = self.checkpoint.clone() else { return };
        self.live = old;
        if promises_lost {
            // That these lives were is still known: they hold everybody back until they are closed.
            self.promises.values_mut().for_each(|promise| *promise = Promise::unknown());
        }
        self.begin_life(wall);
        self.begin_rebuild(peers, promises_lost);
    }

    /// Rows vanish, and older versions of others come back (rule 10).
    pub(crate) fn lose_tables(&mut self, keep: usize, peers: BTreeSet<usize>) {
        for (key, row) in self.live.rows.iter_mut().enumerate() {
            let old = self.checkpoint.as_ref().map(|disk| &disk.rows[key]);
            if keep & 1 << key == 0 {
                *row = Row::default();
            } else if let Some(old) = old.filter(|old| !row.is_empty() && !old.is_empty()) {
                *row = old.clone();
            }
        }
        if !self.breaks(Mutation::KeepClockOfLostTables) {
            self.live.clock = VnodeClock::default();
        }
        self.begin_life(self.hlc);
        self.begin_rebuild(peers, false);
    }

    pub(crate) fn begin_rebuild(&mut self, todo: BTreeSet<usize>, stamps_unsure: bool) {
        let unsure = self.rebuild.as_ref().is_some_and(|rebuild| rebuild.stamps_unsure);
        let stamps_unsure = unsure || stamps_unsure;
        self.rebuild = Some(Rebuild { todo, found_sound: false, stamps_unsure });
        self.sync();
    }

    fn begin_life(&mut self, wall: u64) {
        self.incarnation += 1;
        self.next = 0;
        self.life += 1;
        self.evidence.clear();
        // The wall clock may step back; stamps that the replica stored or promised bind it.
        let stored = self.live.rows.iter().flat_map(Row::entries).map(|entry| entry.stamp);
        let promised = self.promises.values().filter(|promise| promise.is_known());
        let promised = promised.map(|promise| promise.stamp);
        let bound = match self.breaks(Mutation::PromiseNotDurable) {
            true => stored.max(),
            false => stored.chain(promised).max(),
        };
        self.hlc = (wall % (self.hlc + 1)).max(bound.unwrap_or_default().0);
        self.promises.insert(self.actor(), Promise::default());
    }
}
