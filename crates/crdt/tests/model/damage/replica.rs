//! One replica of the model, and what it may say of itself after it lost something.
//!
//! INVARIANT: clock and rows are always what the deltas in the clock give, so they are true
//! whatever was lost: a replica whose tables are gone starts again from nothing. Entries that were
//! found without the clock that proved them are *loose*: nobody is shown them, nobody pulls them.

use std::collections::{BTreeMap, BTreeSet};

use meridian_crdt::{ConflictPolicy, Context, Delta, Dot, Entry, Row, VnodeClock};

use super::history::Loss;
use super::mutations::Mutation;
use crate::support::life;

const POLICY: ConflictPolicy = ConflictPolicy::Siblings;

/// What is on a disk.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) clock: VnodeClock,
    rows: Vec<Row>,
    loose: Vec<Vec<Entry>>,
    sweeps: BTreeSet<usize>,
    heard_of: BTreeSet<(usize, u32)>,
}

pub(crate) struct Replica {
    pub(crate) index: usize,
    /// Replicas of the vnode.
    replicas: usize,
    incarnation: u64,
    next: u64,
    pub(crate) clock: VnodeClock,
    pub(crate) rows: Vec<Row>,
    /// Entries without their context, by key.
    pub(crate) loose: Vec<Vec<Entry>>,
    /// The peers whose coverage the own rows and the loose entries have yet to be joined against.
    pub(crate) sweeps: BTreeSet<usize>,
    /// The losses of peers, by their numbers, that this rebuilding replica has taken note of.
    heard_of: BTreeSet<(usize, u32)>,
    /// How often more than a tail was lost here.
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
            sweeps: BTreeSet::new(),
            heard_of: BTreeSet::new(),
        };
        Self {
            index,
            replicas,
            incarnation: 0,
            next: 0,
            clock: empty.clock.clone(),
            rows: empty.rows.clone(),
            loose: empty.loose.clone(),
            sweeps: BTreeSet::new(),
            heard_of: BTreeSet::new(),
            losses: 0,
            pulled: (fresh && broken != Some(Mutation::ServeFresh)).then(BTreeMap::new),
            durable: empty,
            checkpoint: None,
            known: BTreeMap::new(),
            broken,
        }
    }

    fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    /// The most replicas that a read may wait for if this one is to be among them.
    ///
    /// A read that waits for r replicas must meet every write that more than n - r acknowledged.
    /// Whoever lost such a write finds it at one of any r replicas that are themselves good for
    /// r, or at one of all the others.
    pub(crate) fn level(&self) -> usize {
        let Some(pulled) = &self.pulled else {
            return self.replicas;
        };
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

    /// Rule 4. What the delta's writer had seen goes from the loose entries as well.
    pub(crate) fn apply(&mut self, key: usize, delta: Delta) {
        let dot = delta.entry.dot;
        if self.clock.contains(dot) {
            return;
        }
        self.loose[key].retain(|entry| entry.dot != dot && !delta.context.contains(entry.dot));
        self.rows[key].apply(POLICY, delta);
        self.clock.insert(dot);
        self.rows[key].strip(&self.clock);
    }

    pub(crate) fn coverage(&self, key: usize) -> Context {
        self.rows[key].full_context(&self.clock)
    }

    /// Rule 6.
    pub(crate) fn join_answer(&mut self, key: usize, other: &Row, theirs: &Context) {
        self.loose[key].retain(|entry| !theirs.contains(entry.dot));
        self.rows[key].join_answer(POLICY, &mut self.clock, other, theirs);
        self.rows[key].strip(&self.clock);
    }

    /// The row as a pull hands it out: without loose entries.
    fn handed_out(&self, key: usize) -> Row {
        let row = &self.rows[key];
        match self.breaks(Mutation::HandOutLooseEntries) {
            true => {
                let entries = row.entries().iter().chain(&self.loose[key]).cloned();
                Row::new(entries, row.context().clone())
            }
            false => row.clone(),
        }
    }

    /// Rule 7, at one instant. Breaks off before it joins more than `rows` rows.
    pub(crate) fn pull(&mut self, from: &Self, rows: Option<usize>) -> Vec<Reissued> {
        let full = !self.sweeps.is_empty() && !self.breaks(Mutation::PullOnlyNews);
        let mut joined = 0;
        for key in 0..self.rows.len() {
            let row = from.handed_out(key);
            let news = row.is_news_to(&self.clock);
            if news && rows == Some(joined) {
                return Vec::new();
            }
            joined += usize::from(news);
            if news || full {
                self.join_answer(key, &row, &row.full_context(&from.clock));
            }
        }
        self.clock.join(&from.clock);
        for row in &mut self.rows {
            row.strip(&self.clock);
        }
        self.known.insert(from.index, from.durable.clock.clone());
        self.note_pulled(from);
        self.note_swept(from)
    }

    fn note_pulled(&mut self, from: &Self) {
        let level = from.level();
        let Some(pulled) = &mut self.pulled else {
            return;
        };
        pulled.insert(from.index, level);
        let nobody_knows_more = pulled.len() == self.replicas - 1;
        // With the rule left out: nobody of a majority has ever had anything.
        let begins = self.broken == Some(Mutation::BeginByMajority)
            && self.clock.is_empty()
            && pulled.len() + 1 > self.replicas / 2;
        if nobody_knows_more || begins {
            self.pulled = None;
        }
    }

    /// What the peer has lost, it may have given before to one that was swept already: the others
    /// are swept again.
    fn note_swept(&mut self, from: &Self) -> Vec<Reissued> {
        if self.sweeps.is_empty() {
            return Vec::new();
        }
        let is_news = from.losses > 0 && self.heard_of.insert((from.index, from.losses));
        if is_news && !self.breaks(Mutation::SweepOnce) {
            self.sweeps = self.others();
        }
        self.sweeps.remove(&from.index);
        if self.breaks(Mutation::ReissueEarly) {
            self.sweeps.clear();
        }
        if self.sweeps.is_empty() { self.reissue() } else { Vec::new() }
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
                    self.apply(key, Delta { entry, context: Context::default() });
                    continue;
                }
                let context = match self.breaks(Mutation::ReissueOverItself) {
                    true => std::iter::once(of).collect(),
                    false => Context::default(),
                };
                let delta = Delta { entry: Entry { dot: self.mint(), ..entry }, context };
                self.apply(key, delta.clone());
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
            sweeps: self.sweeps.clone(),
            heard_of: self.heard_of.clone(),
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
                    self.durable = old;
                    self.durable.sweeps = self.others();
                }
            }
            Loss::Tables { keep } => self.durable = self.without_tables(keep),
            Loss::Disk => {
                let keys = self.rows.len();
                self.durable.clock = VnodeClock::default();
                self.durable.rows = vec![Row::default(); keys];
                self.durable.loose = vec![Vec::new(); keys];
                self.durable.sweeps = self.others();
                self.checkpoint = None;
            }
        }
        if what != Loss::Tail {
            self.durable.heard_of.clear();
            self.losses += 1;
        }
        let Disk { clock, rows, loose, sweeps, heard_of } = self.durable.clone();
        (self.clock, self.rows, self.loose) = (clock, rows, loose);
        (self.sweeps, self.heard_of) = (sweeps, heard_of);
        self.known.clear();
        self.incarnation += 1;
        self.next = 0;
        self.pulled = Some(BTreeMap::new());
        if self.breaks(Mutation::ServeAfterCrash) && what == Loss::Tail
            || self.breaks(Mutation::ServeFresh) && what == Loss::Disk
        {
            self.pulled = None;
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
        found.sweeps = self.others();
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

    fn others(&self) -> BTreeSet<usize> {
        (0..self.replicas).filter(|peer| *peer != self.index).collect()
    }

    /// The replica answers reads as it is. It goes on sweeping: what it has may have been deleted,
    /// and forgotten by those who know of it.
    pub(crate) fn accept_loss(&mut self) -> Vec<Reissued> {
        self.pulled = None;
        if self.breaks(Mutation::AcceptWithoutSweep) && !self.sweeps.is_empty() {
            self.sweeps.clear();
            return self.reissue();
        }
        Vec::new()
    }
}
