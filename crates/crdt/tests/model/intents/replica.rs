//! A replica of one row, with the dots that it reserved.

use std::collections::BTreeMap;

use meridian_crdt::{Actor, ConflictPolicy, Context, Delta, Dot, Row, VnodeClock};

use crate::support::life;

const POLICY: ConflictPolicy = ConflictPolicy::Siblings;

/// What survives a crash.
#[derive(Clone, Default)]
struct Disk {
    clock: VnodeClock,
    row: Row,
    ids: BTreeMap<usize, Dot>,
}

/// A dot that somebody keeps for a write of his.
#[derive(Clone, Copy)]
pub(crate) struct Reserved {
    pub(crate) keeper: usize,
    pub(crate) write: usize,
    pub(crate) dot: Dot,
    /// The keeper was asked whether it needs the dot. It is not given to anybody again: the answer
    /// would be about an older call.
    asked: bool,
}

pub(crate) struct Replica {
    index: usize,
    incarnation: u64,
    next: u64,
    pub(crate) clock: VnodeClock,
    pub(crate) row: Row,
    /// With the rule left out: which write became which dot.
    pub(crate) ids: BTreeMap<usize, Dot>,
    /// In memory: a crash ends the actor whose dots they are.
    reserved: Vec<Reserved>,
    durable: Disk,
}

impl Replica {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            incarnation: 0,
            next: 0,
            clock: VnodeClock::default(),
            row: Row::default(),
            ids: BTreeMap::new(),
            reserved: Vec::new(),
            durable: Disk::default(),
        }
    }

    pub(crate) fn actor(&self) -> Actor {
        life(self.index, self.incarnation)
    }

    pub(crate) fn mint(&mut self) -> Dot {
        self.next += 1;
        Dot::new(self.actor(), self.next)
    }

    /// A dot for somebody's write: the same one as long as this life remembers it.
    pub(crate) fn reserve(&mut self, (keeper, write): (usize, usize), broken: bool) -> Dot {
        let same = |r: &&Reserved| (r.keeper, r.write) == (keeper, write) && (broken || !r.asked);
        if let Some(reserved) = self.reserved.iter().find(same) {
            return reserved.dot;
        }
        let dot = self.mint();
        self.reserved.push(Reserved { keeper, write, dot, asked: false });
        dot
    }

    /// The reserved dots that have not come back in a delta: their keepers are asked.
    pub(crate) fn ask(&mut self) -> Vec<Reserved> {
        let clock = &self.clock;
        self.reserved.retain(|reserved| !clock.contains(reserved.dot));
        for reserved in &mut self.reserved {
            reserved.asked = true;
        }
        self.reserved.clone()
    }

    /// Nobody will ever use it. Another life's dots are not this one's to judge.
    pub(crate) fn fill(&mut self, dot: Dot) {
        if dot.actor != self.actor() {
            return;
        }
        self.clock.insert(dot);
        self.reserved.retain(|reserved| reserved.dot != dot);
        self.row.strip(&self.clock);
    }

    /// Rule 4.
    pub(crate) fn apply(&mut self, delta: Delta) {
        if self.clock.insert(delta.entry.dot) {
            self.row.apply(POLICY, delta);
            self.row.strip(&self.clock);
        }
    }

    /// Rule 9.
    pub(crate) fn token(&self) -> Context {
        self.row.reader_context(&self.clock)
    }

    /// Rules 6 and 7.
    pub(crate) fn pull(&mut self, from: &Self) {
        let theirs = from.row.full_context(&from.clock);
        self.row.join_answer(POLICY, &mut self.clock, &from.row, &theirs);
        self.clock.join(&from.clock);
        self.row.strip(&self.clock);
    }

    /// Whether the dot is this node's, of whatever life.
    pub(crate) fn named(&self, dot: Dot) -> bool {
        dot.actor.node == self.actor().node
    }

    pub(crate) fn has(&self, dot: Dot) -> bool {
        self.clock.contains(dot)
    }

    pub(crate) fn durably_has(&self, dot: Dot) -> bool {
        self.durable.clock.contains(dot)
    }

    pub(crate) fn sync(&mut self) {
        let (clock, row, ids) = (self.clock.clone(), self.row.clone(), self.ids.clone());
        self.durable = Disk { clock, row, ids };
    }

    pub(crate) fn crash(&mut self) {
        Disk { clock: self.clock, row: self.row, ids: self.ids } = self.durable.clone();
        self.reserved.clear();
        self.incarnation += 1;
        self.next = 0;
    }
}
