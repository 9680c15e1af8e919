//! A replica of one row, with the actors that it has fenced and closed.

use std::collections::BTreeSet;

use meridian_crdt::{Actor, ConflictPolicy, Context, Delta, Dot, Row, VnodeClock};

use super::Mutation;
use crate::support::life;

const POLICY: ConflictPolicy = ConflictPolicy::Siblings;

/// More than any actor of a history writes: "all of its dots".
const ALL_DOTS: u64 = 100;

/// What is on a disk.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    clock: VnodeClock,
    row: Row,
    fenced: BTreeSet<Actor>,
    closed: BTreeSet<Actor>,
}

pub(crate) struct Replica {
    pub(crate) index: usize,
    incarnation: u64,
    next: u64,
    pub(crate) clock: VnodeClock,
    pub(crate) row: Row,
    pub(crate) fenced: BTreeSet<Actor>,
    pub(crate) closed: BTreeSet<Actor>,
    durable: Disk,
    pub(crate) checkpoint: Option<Disk>,
    /// The peers that a rebuilding replica has yet to pull from. Empty: it is sound.
    sweeps: BTreeSet<usize>,
    broken: Option<Mutation>,
}

impl Replica {
    pub(crate) fn new(index: usize, broken: Option<Mutation>) -> Self {
        Self {
            index,
            incarnation: 0,
            next: 0,
            clock: VnodeClock::default(),
            row: Row::default(),
            fenced: BTreeSet::new(),
            closed: BTreeSet::new(),
            durable: Disk::default(),
            checkpoint: None,
            sweeps: BTreeSet::new(),
            broken,
        }
    }

    fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    pub(crate) fn is_rebuilding(&self) -> bool {
        !self.sweeps.is_empty()
    }

    pub(crate) fn actor(&self) -> Actor {
        life(self.index, self.incarnation)
    }

    pub(crate) fn mint(&mut self) -> Dot {
        self.next += 1;
        Dot::new(self.actor(), self.next)
    }

    /// Rule 4, and the fence.
    pub(crate) fn apply(&mut self, delta: Delta) {
        let dot = delta.entry.dot;
        if !self.fenced.contains(&dot.actor) && self.clock.insert(dot) {
            self.row.apply(POLICY, delta);
            self.row.strip(&self.clock);
        }
    }

    /// Rule 9.
    pub(crate) fn token(&self) -> Context {
        self.row.reader_context(&self.clock)
    }

    /// Rules 6, 7 and 10.
    pub(crate) fn pull(&mut self, from: &Self) {
        // A fence that is durable says that what was there before it is durable as well.
        let theirs = match self.breaks(Mutation::CountUnsyncedFence) {
            true => &from.fenced,
            false => &from.durable.fenced,
        };
        let behind = !self.fenced.is_subset(theirs);
        if from.is_rebuilding() || behind && !self.breaks(Mutation::PullFromUnfenced) {
            return;
        }
        if self.is_rebuilding()
            && !from.closed.is_subset(&self.closed)
            && !self.breaks(Mutation::KeepClockFromBeforeClosing)
        {
            // What was void for the others may have had its effect here.
            self.clock = VnodeClock::default();
            self.row = Row::default();
        }
        self.fenced.extend(&from.fenced);
        let theirs = from.row.full_context(&from.clock);
        self.row.join_answer(POLICY, &mut self.clock, &from.row, &theirs);
        self.clock.join(&from.clock);
        self.row.strip(&self.clock);
        self.closed.extend(&from.closed);
        if self.sweeps.remove(&from.index) {
            self.sync();
        }
    }

    /// Nothing of the actor is applied here any more. Which of its dots are durably here.
    pub(crate) fn fence(&mut self, actor: Actor) -> BTreeSet<u64> {
        if self.breaks(Mutation::FenceNotDurable) {
            self.sync();
            self.fenced.insert(actor);
        } else {
            if !self.breaks(Mutation::CloseWithoutFence) {
                self.fenced.insert(actor);
            }
            self.sync();
        }
        (1..=ALL_DOTS).filter(|n| self.clock.contains(Dot::new(actor, *n))).collect()
    }

    pub(crate) fn has_all(&self, actor: Actor, counters: &BTreeSet<u64>) -> bool {
        counters.iter().all(|counter| self.clock.contains(Dot::new(actor, *counter)))
    }

    pub(crate) fn close(&mut self, actor: Actor) {
        for counter in 1..=ALL_DOTS {
            self.clock.insert(Dot::new(actor, counter));
        }
        self.row.strip(&self.clock);
        self.fenced.insert(actor);
        self.closed.insert(actor);
        self.sync();
    }

    /// The actors that this replica still counts one by one.
    pub(crate) fn counted(&self) -> usize {
        self.clock.dots().actors().filter(|(actor, _)| !self.closed.contains(actor)).count()
    }

    fn disk(&self) -> Disk {
        Disk {
            clock: self.clock.clone(),
            row: self.row.clone(),
            fenced: self.fenced.clone(),
            closed: self.closed.clone(),
        }
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.disk();
    }

    /// Not synced: as if what it has had been lost since in any other way, a wiped disk for one.
    pub(crate) fn take_checkpoint(&mut self) {
        self.checkpoint = Some(self.disk());
    }

    /// The actor that ended.
    pub(crate) fn crash(&mut self) -> Actor {
        let ended = self.actor();
        Disk { clock: self.clock, row: self.row, fenced: self.fenced, closed: self.closed } =
            self.durable.clone();
        self.incarnation += 1;
        self.next = 0;
        ended
    }

    pub(crate) fn restore(&mut self, old: Disk, peers: BTreeSet<usize>) -> Actor {
        self.durable = old;
        self.sweeps = peers;
        self.crash()
    }
}
