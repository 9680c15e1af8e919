//! One replica of the model, and what it may say of itself after it lost something.
//!
//! INVARIANT: clock and rows are always what the deltas in the clock give, so they are true
//! whatever was lost: a replica whose tables are gone starts again from nothing. Entries that were
//! found without the clock that proved them are *loose*: nobody is shown them, nobody pulls them.
//! While it rebuilds, rows may know more than the clock: what a full pull said and the clock does
//! not have yet.

use std::collections::BTreeMap;

use meridian_crdt::{ConflictPolicy, Context, Delta, Dot, Entry, Row, VnodeClock};

use super::history::Loss;
use super::mutations::Mutation;
use super::pull::Pull;
use super::rebuild::{Rebuild, Standing};
use crate::support::life;

const POLICY: ConflictPolicy = ConflictPolicy::Siblings;

/// What is on a disk.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) clock: VnodeClock,
    rows: Vec<Row>,
    /// Entries without their context, by key.
    loose: Vec<Vec<Entry>>,
    rebuild: Option<Rebuild>,
}

pub(crate) struct Replica {
    pub(crate) index: usize,
    /// Replicas of the vnode.
    replicas: usize,
    pub(crate) incarnation: u64,
    next: u64,
    pub(crate) clock: VnodeClock,
    pub(crate) rows: Vec<Row>,
    pub(crate) loose: Vec<Vec<Entry>>,
    rebuild: Option<Rebuild>,
    /// How often more than a tail was lost here; to have begun with nothing counts as well.
    losses: u32,
    /// The peers pulled from since something was lost, with the level that each was good for.
    /// `None`: whatever was lost has been made up for.
    pulled: Option<BTreeMap<usize, usize>>,
    pub(crate) durable: Disk,
    pub(crate) checkpoint: Option<Disk>,
    /// What this replica has heard of the others' durable clocks.
    known: BTreeMap<usize, VnodeClock>,
    broken: Option<Mutation>,
}

/// A loose entry that was written anew.
pub(crate) struct Reissued {
    pub(crate) key: usize,
    pub(crate) of: Dot,
    pub(crate) delta: Delta,
}

impl Replica {
    pub(crate) fn new(
        index: usize,
        (replicas, keys): (usize, usize),
        fresh: bool,
        broken: Option<Mutation>,
    ) -> Self {
        let empty = Disk {
            clock: VnodeClock::default(),
            rows: vec![Row::default(); keys],
            loose: vec![Vec::new(); keys],
            rebuild: fresh.then(|| Rebuild::begun(true)),
        };
        Self {
            index,
            replicas,
            incarnation: 0,
            next: 0,
            clock: empty.clock.clone(),
            rows: empty.rows.clone(),
            loose: empty.loose.clone(),
            rebuild: empty.rebuild.clone(),
            losses: u32::from(fresh),
            pulled: (fresh && broken != Some(Mutation::ServeFresh)).then(BTreeMap::new),
            durable: empty,
            checkpoint: None,
            known: BTreeMap::new(),
            broken,
        }
    }

    pub(crate) fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    pub(crate) fn is_rebuilding(&self) -> bool {
        self.rebuild.is_some()
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.rebuild.as_ref().is_some_and(|rebuild| rebuild.fresh)
    }

    /// Whether it has met nobody who did not lose anything, and no operator has accepted that.
    pub(crate) fn is_stuck(&self) -> bool {
        self.rebuild.as_ref().is_some_and(|rebuild| !rebuild.may_answer())
    }

    pub(crate) fn round(&self) -> u32 {
        self.rebuild.as_ref().map_or(0, |rebuild| rebuild.round)
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            level: self.level(),
            loss: self.losses,
            rebuilding: self.is_rebuilding(),
            fresh: self.is_fresh(),
        }
    }

    /// The most replicas that a read may wait for if this one is to be among them.
    ///
    /// A read that waits for r replicas must meet every write that more than n - r acknowledged.
    /// Whoever lost such a write finds it at one of any r replicas that are themselves good for
    /// r, or at one of all the others.
    pub(crate) fn level(&self) -> usize {
        if self.is_stuck() && !self.breaks(Mutation::AnswerWithoutSound) {
            return 0;
        }
        let Some(pulled) = &self.pulled else {
            return self.replicas;
        };
        if pulled.len() == self.replicas - 1 {
            return self.replicas;
        }
        let spared = usize::from(self.breaks(Mutation::PullFromTooFew));
        let good_for = |level: usize| {
            let counts = |peer: &&usize| **peer >= level || self.breaks(Mutation::CountAnyPeer);
            pulled.values().filter(counts).count() + spared >= level
        };
        (1..=self.replicas).rev().find(|level| good_for(*level)).unwrap_or(0)
    }

    /// Rules 2 and 3.
    pub(crate) fn mint(&mut self) -> Dot {
        self.next += 1;
        Dot::new(life(self.index, self.incarnation), self.next)
    }

    /// Rule 4. What the delta's writer had seen goes from the loose entries as well. `passed` is
    /// what the full pulls that have gone by this row stand for.
    pub(crate) fn apply(&mut self, key: usize, delta: Delta, passed: &VnodeClock) {
        let dot = delta.entry.dot;
        if self.clock.contains(dot) {
            return;
        }
        self.remember_passed(key, passed);
        self.loose[key].retain(|entry| entry.dot != dot && !delta.context.contains(entry.dot));
        self.rows[key].apply(POLICY, delta);
        self.clock.insert(dot);
        self.rows[key].strip(&self.clock);
    }

    /// A full pull that went by where nobody had a row has joined nothing there. What comes to the
    /// row before the pull joins its clock meets what the peer had seen, as if it had.
    fn remember_passed(&mut self, key: usize, passed: &VnodeClock) {
        if !passed.is_empty() && !self.breaks(Mutation::ForgetWhatPullPassed) {
            self.rows[key].remember(&passed.to_context());
        }
    }

    pub(crate) fn has_anything(&self, key: usize) -> bool {
        !self.rows[key].is_empty() || !self.loose[key].is_empty()
    }

    pub(crate) fn coverage(&self, key: usize) -> Context {
        self.rows[key].full_context(&self.clock)
    }

    /// Rule 6.
    pub(crate) fn join_answer(
        &mut self,
        key: usize,
        other: &Row,
        theirs: &Context,
        passed: &VnodeClock,
    ) {
        self.remember_passed(key, passed);
        self.loose[key].retain(|entry| !theirs.contains(entry.dot));
        self.rows[key].join_answer(POLICY, &mut self.clock, other, theirs);
        self.rows[key].strip(&self.clock);
    }

    /// The row as a pull hands it out: without loose entries.
    pub(crate) fn handed_out(&self, key: usize) -> Row {
        let row = &self.rows[key];
        match self.breaks(Mutation::HandOutLooseEntries) {
            true => {
                let entries = row.entries().iter().chain(&self.loose[key]).cloned();
                Row::new(entries, row.context().clone())
            }
            false => row.clone(),
        }
    }

    /// The last step of a pull (rule 7).
    pub(crate) fn end_pull(&mut self, pull: &Pull) -> Vec<Reissued> {
        self.clock.join(&pull.snapshot);
        for row in &mut self.rows {
            row.strip(&self.clock);
        }
        self.known.insert(pull.from, pull.durable.clone());
        if let Some(pulled) = &mut self.pulled {
            pulled.insert(pull.from, pull.standing.level);
        }
        self.note_swept(pull);
        self.end_rebuild_if_done()
    }

    /// What the peer has lost, it may have given before to one that was swept already: the others
    /// are swept again.
    fn note_swept(&mut self, pull: &Pull) {
        let (sweeps_once, counts_all) =
            (self.breaks(Mutation::SweepOnce), self.breaks(Mutation::CountOlderPulls));
        let Some(rebuild) = &mut self.rebuild else { return };
        let Standing { loss, rebuilding, fresh, .. } = pull.standing;
        rebuild.found_sound |= !rebuilding;
        rebuild.found_older |= !fresh;
        if loss > 0 && rebuild.heard_of.insert((pull.from, loss)) && !sweeps_once {
            rebuild.swept.clear();
            rebuild.round += 1;
            rebuild.swept.insert(pull.from);
        } else if rebuild.round == pull.round || counts_all {
            rebuild.swept.insert(pull.from);
        }
    }

    fn end_rebuild_if_done(&mut self) -> Vec<Reissued> {
        let reissued = self.end_rebuild();
        let has_met_all = |pulled: &BTreeMap<usize, usize>| pulled.len() == self.replicas - 1;
        if self.rebuild.is_none() && self.pulled.as_ref().is_some_and(has_met_all) {
            self.pulled = None;
        }
        reissued
    }

    fn end_rebuild(&mut self) -> Vec<Reissued> {
        let Some(rebuild) = &self.rebuild else { return Vec::new() };
        let all_new = rebuild.fresh && !rebuild.found_older;
        let met = rebuild.swept.len();
        let is_done = met == self.replicas - 1 && (rebuild.may_answer() || all_new);
        // With the rule left out: a majority that never had anything is enough.
        let begins =
            self.breaks(Mutation::BeginByMajority) && all_new && met + 1 > self.replicas / 2;
        if !(is_done || begins || self.breaks(Mutation::ReissueEarly) && met > 0) {
            return Vec::new();
        }
        self.rebuild = None;
        if begins {
            self.pulled = None;
        }
        let reissued = self.reissue();
        if !self.breaks(Mutation::ReissueUnsynced) {
            self.sync();
        }
        reissued
    }

    /// No other replica covers what is still loose: these values are here alone, and what they
    /// replaced is not known any more. They are written anew, so that no dot has two meanings.
    fn reissue(&mut self) -> Vec<Reissued> {
        let mut reissued = Vec::new();
        for key in 0..self.rows.len() {
            // A marker does nothing but what its context says, and that is gone.
            let values: Vec<Entry> = std::mem::take(&mut self.loose[key])
                .into_iter()
                .filter(|entry| entry.value.is_some() && !self.breaks(Mutation::DropLooseEntries))
                .collect();
            for entry in values {
                let of = entry.dot;
                if self.breaks(Mutation::KeepDotOfLooseEntries) {
                    let delta = Delta { entry, context: Context::default() };
                    self.apply(key, delta, &VnodeClock::default());
                    continue;
                }
                let context = match self.breaks(Mutation::ReissueOverItself) {
                    true => std::iter::once(of).collect(),
                    false => Context::default(),
                };
                let delta = Delta { entry: Entry { dot: self.mint(), ..entry }, context };
                self.apply(key, delta.clone(), &VnodeClock::default());
                reissued.push(Reissued { key, of, delta });
            }
        }
        reissued
    }

    /// Rule 8.
    pub(crate) fn collect(&mut self) {
        for key in 0..self.rows.len() {
            let row = &self.rows[key];
            let (dead, kept): (Vec<Entry>, Vec<Entry>) =
                row.entries().iter().cloned().partition(|entry| {
                    entry.value.is_none() && self.is_known_everywhere(entry.dot)
                });
            if !dead.is_empty() {
                let mut row = Row::new(kept, row.context().clone());
                row.remember(&dead.iter().map(|entry| entry.dot).collect());
                row.strip(&self.clock);
                self.rows[key] = row;
            }
        }
    }

    fn is_known_everywhere(&self, dot: Dot) -> bool {
        (0..self.replicas).all(|index| match index == self.index {
            true => self.durable.clock.contains(dot),
            false => self.known.get(&index).is_some_and(|clock| clock.contains(dot)),
        })
    }

    fn disk(&self) -> Disk {
        Disk {
            clock: self.clock.clone(),
            rows: self.rows.clone(),
            loose: self.loose.clone(),
            rebuild: self.rebuild.clone(),
        }
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.disk();
    }

    /// What is in a checkpoint is on the disk as well.
    pub(crate) fn take_checkpoint(&mut self) {
        self.sync();
        self.checkpoint = Some(self.disk());
    }

    pub(crate) fn lose(&mut self, what: Loss) {
        match what {
            Loss::Tail => {}
            Loss::SinceCheckpoint => {
                if let Some(old) = self.checkpoint.clone() {
                    self.durable = Disk { rebuild: Some(Rebuild::begun(false)), ..old };
                }
            }
            Loss::Tables { keep } => self.durable = self.without_tables(keep),
            Loss::Disk => {
                let keys = self.rows.len();
                self.durable = Disk {
                    clock: VnodeClock::default(),
                    rows: vec![Row::default(); keys],
                    loose: vec![Vec::new(); keys],
                    rebuild: Some(Rebuild::begun(true)),
                };
                self.checkpoint = None;
            }
        }
        self.losses += u32::from(what != Loss::Tail);
        let Disk { clock, rows, loose, rebuild } = self.durable.clone();
        (self.clock, self.rows, self.loose, self.rebuild) = (clock, rows, loose, rebuild);
        self.known.clear();
        self.incarnation += 1;
        self.next = 0;
        self.pulled = Some(BTreeMap::new());
        if self.breaks(Mutation::ServeAfterCrash) && what == Loss::Tail {
            self.pulled = None;
        }
        if self.breaks(Mutation::ServeFresh) && what == Loss::Disk {
            self.pulled = None;
            self.rebuild = None;
        }
    }

    /// What is found when tables are gone.
    fn without_tables(&self, keep: usize) -> Disk {
        let mut found = self.durable.clone();
        for (key, row) in found.rows.iter_mut().enumerate() {
            let old = self.checkpoint.as_ref().map(|disk| &disk.rows[key]);
            if keep & 1 << key == 0 {
                *row = Row::default();
                found.loose[key].clear();
            } else if let Some(old) = old.filter(|old| !row.is_empty() && !old.is_empty()) {
                *row = old.clone();
            }
        }
        found.rebuild = Some(Rebuild::begun(false));
        if self.breaks(Mutation::KeepClockOfLostTables) {
            return found;
        }
        found.clock = VnodeClock::default();
        for (row, loose) in found.rows.iter_mut().zip(&mut found.loose) {
            loose.extend(std::mem::take(row).entries().iter().cloned());
            loose.sort_by_key(|entry| entry.dot);
            loose.dedup_by_key(|entry| entry.dot);
        }
        found
    }

    /// The replica answers reads as it is. It goes on sweeping: what it has may have been deleted,
    /// and forgotten by those who know of it.
    pub(crate) fn accept_loss(&mut self) -> Vec<Reissued> {
        self.pulled = None;
        if let Some(rebuild) = &mut self.rebuild {
            rebuild.accepted = true;
            if self.broken == Some(Mutation::AcceptWithoutSweep) {
                rebuild.swept.extend((0..self.replicas).filter(|peer| *peer != self.index));
            }
        }
        let reissued = self.end_rebuild_if_done();
        self.sync();
        reissued
    }
}
