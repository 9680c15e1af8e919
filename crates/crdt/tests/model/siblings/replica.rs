//! One replica of the model: its state is the crate's own types, its steps are the crate's own
//! calls. Where a rule is left out, the step goes around the call that keeps it.

use std::collections::{BTreeMap, BTreeSet};

use meridian_crdt::{ConflictPolicy, Context, Coverage, Delta, Dot, Entry, Row, VnodeClock};

use super::mutations::Mutation;
use crate::support::life;

const POLICY: ConflictPolicy = ConflictPolicy::Siblings;

/// What is on a disk.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) clock: VnodeClock,
    pub(crate) rows: Vec<Row>,
    next: u64,
}

pub(crate) struct Replica {
    pub(crate) index: usize,
    incarnation: u64,
    next: u64,
    pub(crate) clock: VnodeClock,
    pub(crate) rows: Vec<Row>,
    pub(crate) durable: Disk,
    pub(crate) checkpoint: Option<Disk>,
    /// What this replica has heard of the others' durable clocks.
    known: BTreeMap<usize, VnodeClock>,
    /// The peers that a rebuilding replica has yet to pull from. Empty: it is sound.
    todo: BTreeSet<usize>,
    durable_todo: BTreeSet<usize>,
    /// Rises whenever memory is lost: a pull does not outlive it.
    pub(crate) life: u32,
    broken: Option<Mutation>,
}

impl Replica {
    pub(crate) fn new(index: usize, keys: usize, broken: Option<Mutation>) -> Self {
        Self {
            index,
            incarnation: 0,
            next: 0,
            clock: VnodeClock::default(),
            rows: vec![Row::default(); keys],
            durable: Disk { rows: vec![Row::default(); keys], ..Disk::default() },
            checkpoint: None,
            known: BTreeMap::new(),
            todo: BTreeSet::new(),
            durable_todo: BTreeSet::new(),
            life: 0,
            broken,
        }
    }

    pub(crate) fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    pub(crate) fn is_rebuilding(&self) -> bool {
        !self.todo.is_empty()
    }

    /// Rules 2 and 3: a count per actor, and an actor per incarnation, which is random.
    pub(crate) fn mint(&mut self) -> Dot {
        self.next += 1;
        Dot::new(life(self.index, self.incarnation), self.next)
    }

    /// Rule 4.
    pub(crate) fn apply(&mut self, key: usize, delta: Delta) {
        let dot = delta.entry.dot;
        if self.clock.contains(dot) && !self.breaks(Mutation::ApplyTwice) {
            return;
        }
        if self.breaks(Mutation::ApplyDespiteRowContext) {
            let kept = self.rows[key].context().clone();
            self.rows[key] = Row::new(self.rows[key].entries().to_vec(), Context::default());
            self.rows[key].apply(POLICY, delta);
            self.rows[key].remember(&kept);
        } else {
            self.rows[key].apply(POLICY, delta);
        }
        self.clock.insert(dot);
        self.strip(key);
    }

    /// Rule 5.
    fn strip(&mut self, key: usize) {
        if self.breaks(Mutation::StripToHighest) {
            let mut highest = VnodeClock::default();
            for (actor, counters) in self.clock.dots().actors() {
                for counter in 1..=counters.highest() {
                    highest.insert(Dot::new(actor, counter));
                }
            }
            self.rows[key].strip(&highest);
        } else {
            self.rows[key].strip(&self.clock);
        }
    }

    /// Rule 9.
    pub(crate) fn token(&self, key: usize) -> Context {
        if self.breaks(Mutation::TokenWithoutRowContext) {
            let entries = self.rows[key].entries().to_vec();
            return Row::new(entries, Context::default()).reader_context(&self.clock);
        }
        self.rows[key].reader_context(&self.clock)
    }

    pub(crate) fn coverage(&self, key: usize) -> Context {
        self.rows[key].full_context(&self.clock)
    }

    /// Rule 6.
    pub(crate) fn join_answer(&mut self, key: usize, other: &Row, theirs: &Context) {
        let row = &mut self.rows[key];
        let before = row.context().clone();
        match self.broken {
            Some(Mutation::ForgetRowContext) => {
                row.join_answer(POLICY, &mut self.clock, other, theirs);
                *row = Row::new(row.entries().to_vec(), before.stripped(&self.clock));
            }
            Some(Mutation::JoinWithoutTheirCoverage) => {
                let mine = Coverage { clock: Some(&self.clock), context: &before };
                row.join(POLICY, &mine, other, &Context::default());
                row.remember(theirs);
            }
            Some(Mutation::JoinWithoutOwnClock) => {
                let mine = Coverage { clock: None, context: &before };
                row.join(POLICY, &mine, other, theirs);
                row.remember(theirs);
            }
            _ => row.join_answer(POLICY, &mut self.clock, other, theirs),
        }
        for entry in other.entries() {
            self.clock.insert(entry.dot);
        }
        self.strip(key);
    }

    /// The last step of a pull (rule 7), and what the puller then knows of the peer.
    pub(crate) fn end_pull(&mut self, snapshot: &VnodeClock, from: usize, known: VnodeClock) {
        if self.is_rebuilding() && !self.breaks(Mutation::RebuildWithoutFullPull) {
            for entry in self.rows.iter().flat_map(Row::entries) {
                self.clock.insert(entry.dot);
            }
        }
        self.clock.join(snapshot);
        for key in 0..self.rows.len() {
            self.strip(key);
        }
        if self.is_rebuilding() {
            self.todo.remove(&from);
            if self.breaks(Mutation::RebuildFromOnePeer) {
                self.todo.clear();
            }
            self.sync();
        }
        self.known.insert(from, known);
    }

    /// What the others count as known here (rule 8).
    pub(crate) fn provable_clock(&self) -> &VnodeClock {
        match self.breaks(Mutation::CountUnsyncedClocks) {
            true => &self.clock,
            false => &self.durable.clock,
        }
    }

    /// Rule 8.
    pub(crate) fn collect(&mut self, replicas: usize) {
        for key in 0..self.rows.len() {
            let row = &self.rows[key];
            let (dead, kept): (Vec<Entry>, Vec<Entry>) =
                row.entries().iter().cloned().partition(|entry| {
                    entry.value.is_none() && self.is_known_everywhere(entry.dot, replicas)
                });
            if !dead.is_empty() {
                let mut row = Row::new(kept, row.context().clone());
                // A marker that goes stays covered until the base covers it.
                row.remember(&dead.iter().map(|entry| entry.dot).collect());
                self.rows[key] = row;
                self.strip(key);
            }
        }
    }

    fn is_known_everywhere(&self, dot: Dot, replicas: usize) -> bool {
        self.breaks(Mutation::CollectAtOnce)
            || (0..replicas).all(|index| match index == self.index {
                true => self.provable_clock().contains(dot),
                false => self.known.get(&index).is_some_and(|clock| clock.contains(dot)),
            })
    }

    fn disk(&self) -> Disk {
        Disk { clock: self.clock.clone(), rows: self.rows.clone(), next: self.next }
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.disk();
        self.durable_todo = self.todo.clone();
    }

    pub(crate) fn take_checkpoint(&mut self) {
        self.checkpoint = Some(self.disk());
    }

    /// An operator puts an old checkpoint back; its clock is true of its rows.
    pub(crate) fn restore(&mut self, old: Disk, peers: BTreeSet<usize>) {
        self.clock = old.clock;
        self.rows = old.rows;
        self.rebuild(peers);
    }

    /// Rows vanish, and older versions of the others may come to light (rule 10).
    pub(crate) fn lose_tables(&mut self, keep: usize, peers: BTreeSet<usize>) {
        for (key, row) in self.rows.iter_mut().enumerate() {
            let old = self.checkpoint.as_ref().map(|disk| &disk.rows[key]);
            if keep & 1 << key == 0 {
                *row = Row::default();
            } else if let Some(old) = old.filter(|old| !row.is_empty() && !old.is_empty()) {
                *row = old.clone();
            }
        }
        if !self.breaks(Mutation::KeepClockOfLostTables) {
            self.clock = VnodeClock::default();
        }
        self.rebuild(peers);
    }

    fn rebuild(&mut self, peers: BTreeSet<usize>) {
        self.todo = peers;
        self.begin_life();
        self.sync();
    }

    pub(crate) fn crash(&mut self) {
        let Disk { clock, rows, next } = self.durable.clone();
        self.clock = clock;
        self.rows = rows;
        self.todo = self.durable_todo.clone();
        self.begin_life();
        if self.breaks(Mutation::ReuseIncarnation) {
            self.incarnation -= 1;
            self.next = next;
        }
    }

    fn begin_life(&mut self) {
        self.known.clear();
        self.incarnation += 1;
        self.next = 0;
        self.life += 1;
    }
}
