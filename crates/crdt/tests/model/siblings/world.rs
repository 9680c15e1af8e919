//! Runs a history: replicas, clients with their tokens, and a network that loses, repeats and
//! delays.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_crdt::{ConflictPolicy, Context, Delta, Entry, Row};
use meridian_types::Hlc;

use super::history::{History, Op};
use super::mutations::Mutation;
use super::oracle::{Oracle, Violation};
use super::pull::{Progress, Pull};
use super::replica::Replica;
use crate::support::ordered;

/// The values of writes: each the byte of its number, so that no run allocates for them.
static VALUES: [u8; 256] = {
    let mut values = [0; 256];
    let mut value = 0;
    while value < u8::MAX {
        value += 1;
        values[value as usize] = value;
    }
    values
};

struct Message {
    to: usize,
    key: usize,
    delta: Delta,
}

struct World<'a> {
    history: &'a History,
    broken: Option<Mutation>,
    replicas: Vec<Replica>,
    network: Vec<Message>,
    pulls: Vec<Pull>,
    tokens: BTreeMap<(usize, usize), Context>,
    oracle: Oracle,
}

/// What a majority answered, joined.
struct MajorityRead {
    asked: Vec<usize>,
    row: Row,
    coverage: Context,
    token: Context,
}

/// Runs a history to its end and compares what the replicas show with the oracle.
pub(crate) fn run(history: &History, broken: Option<Mutation>) -> Result<(), Violation> {
    let mut world = World {
        history,
        broken,
        replicas: (0..history.replicas).map(|i| Replica::new(i, history.keys, broken)).collect(),
        network: Vec::new(),
        pulls: Vec::new(),
        tokens: BTreeMap::new(),
        oracle: Oracle::default(),
    };
    for op in history.ops.iter() {
        world.step(*op)?;
        world.oracle.check_equal_clocks(&world.replicas)?;
    }
    world.settle();
    world.oracle.check_end(history, &world.replicas)
}

impl World<'_> {
    fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    fn step(&mut self, op: Op) -> Result<(), Violation> {
        match op {
            Op::Write { .. } => return self.write(op),
            Op::Deliver { pick, twice, lost } => self.deliver(pick, twice, lost),
            Op::ReadOne { at, client, key } => {
                self.tokens.insert((client, key), self.replicas[at].token(key));
            }
            Op::ReadMajority { client, key, order, repair } => {
                if let Some(read) = self.read_majority(key, order) {
                    self.oracle.check_majority_read(key, &read.row, &read.coverage)?;
                    self.repair(key, &read, repair);
                    self.tokens.insert((client, key), read.token);
                }
            }
            Op::Pull { to, from, rows } => self.pull(to, from, rows),
            Op::BeginPull { to, from } => {
                self.pulls.extend(Pull::begin(&self.replicas[to], &self.replicas[from], None));
            }
            Op::StepPull { pick } => self.step_pull(pick),
            Op::Collect { replicas } => {
                for replica in &mut self.replicas {
                    if replicas & 1 << replica.index != 0 {
                        replica.collect(self.history.replicas);
                    }
                }
            }
            Op::Sync { at } => self.replicas[at].sync(),
            Op::Crash { at } => self.crash(at),
            Op::Checkpoint { at } => self.replicas[at].take_checkpoint(),
            Op::Damage { at, restore, keep } => self.damage(at, restore, keep),
        }
        Ok(())
    }

    fn write(&mut self, op: Op) -> Result<(), Violation> {
        let Op::Write { at, client, key, with_token, marker, majority, order } = op else {
            return Ok(());
        };
        let dot = self.replicas[at].mint();
        let seen = self.tokens.get(&(client, key)).filter(|_| with_token);
        let seen = seen.cloned().unwrap_or_default();
        let number = self.oracle.writes();
        let value = (!marker).then(|| Bytes::from_static(&VALUES[number..=number]));
        let mut delta = Delta {
            entry: Entry { dot, stamp: Hlc(number as u64), expires: None, value },
            context: seen,
        };
        self.oracle.record(key, &delta)?;
        if self.breaks(Mutation::TokenOfAnotherKey) {
            let other = (client, (key + 1) % self.history.keys);
            delta.context = self.tokens.get(&other).cloned().unwrap_or_default();
        }
        self.replicas[at].apply(key, delta.clone());
        let others = (0..self.history.replicas).filter(|to| *to != at).collect();
        let at_once = if majority { self.history.replicas / 2 } else { 0 };
        for (nth, to) in ordered(others, order).into_iter().enumerate() {
            match nth < at_once {
                true => self.replicas[to].apply(key, delta.clone()),
                false => self.network.push(Message { to, key, delta: delta.clone() }),
            }
        }
        if majority && !self.history.crashes {
            self.oracle.acknowledge(dot);
        }
        Ok(())
    }

    fn deliver(&mut self, pick: usize, twice: bool, lost: bool) {
        if self.network.is_empty() {
            return;
        }
        let at = pick % self.network.len();
        let Message { to, key, ref delta } = self.network[at];
        if !lost {
            self.replicas[to].apply(key, delta.clone());
        }
        if !twice {
            self.network.remove(at);
        }
    }

    /// Rule 10: who is rebuilding answers no quorum read.
    fn read_majority(&self, key: usize, order: usize) -> Option<MajorityRead> {
        let needed = self.history.replicas / 2 + 1;
        let sound: Vec<usize> =
            self.replicas.iter().filter(|r| !r.is_rebuilding()).map(|r| r.index).collect();
        if sound.len() < needed {
            return None;
        }
        let mut asked = ordered(sound, order);
        asked.truncate(needed);
        let (mut row, mut coverage, mut token) =
            (Row::default(), Context::default(), Context::default());
        for replica in asked.iter().map(|at| &self.replicas[*at]) {
            let theirs = replica.coverage(key);
            row.join(ConflictPolicy::Siblings, &coverage, &replica.rows[key], &theirs);
            coverage.union_with(&theirs);
            token.union_with(&replica.token(key));
        }
        Some(MajorityRead { asked, row, coverage, token })
    }

    fn repair(&mut self, key: usize, read: &MajorityRead, repair: bool) {
        if !repair {
            return;
        }
        let entries_only = read.row.entries().iter().map(|entry| entry.dot).collect();
        let coverage = match self.breaks(Mutation::RepairWithoutContext) {
            true => &entries_only,
            false => &read.coverage,
        };
        for at in &read.asked {
            self.replicas[*at].join_answer(key, &read.row, coverage);
        }
    }

    fn pull(&mut self, to: usize, from: usize, rows: Option<usize>) {
        if let Some(mut pull) = Pull::begin(&self.replicas[to], &self.replicas[from], rows) {
            while pull.step(&mut self.replicas) == Progress::More {}
        }
    }

    fn step_pull(&mut self, pick: usize) {
        if self.pulls.is_empty() {
            return;
        }
        let at = pick % self.pulls.len();
        if self.pulls[at].step(&mut self.replicas) == Progress::Ended {
            self.pulls.remove(at);
        }
    }

    fn crash(&mut self, at: usize) {
        if !self.replicas[at].is_rebuilding() {
            self.replicas[at].crash();
        }
    }

    fn damage(&mut self, at: usize, restore: bool, keep: usize) {
        if self.replicas.iter().any(Replica::is_rebuilding) {
            return self.crash(at);
        }
        let peers = (0..self.history.replicas).filter(|peer| *peer != at).collect();
        match self.replicas[at].checkpoint.clone() {
            Some(old) if restore => self.replicas[at].restore(old, peers),
            _ => {
                self.oracle.note_fragile(at, &self.replicas);
                self.replicas[at].lose_tables(keep, peers);
            }
        }
    }

    fn pull_all(&mut self, rounds: usize, collect: bool) {
        for _ in 0..rounds {
            for to in 0..self.history.replicas {
                for from in (0..self.history.replicas).filter(|from| *from != to) {
                    self.pull(to, from, None);
                }
                if collect {
                    self.replicas[to].collect(self.history.replicas);
                }
            }
        }
    }

    /// Everything under way arrives, some of it only after the replicas had agreed and collected.
    fn settle(&mut self) {
        let network = std::mem::take(&mut self.network);
        for (n, Message { to, key, delta }) in network.iter().enumerate() {
            if self.history.early & 1 << (n % 64) != 0 {
                self.replicas[*to].apply(*key, delta.clone());
            }
        }
        self.pull_all(3, true);
        for Message { to, key, delta } in network {
            self.replicas[to].apply(key, delta);
        }
        // They may be news: a crashed writer lost its own copy.
        self.pull_all(2, false);
        if self.history.damage && !self.breaks(Mutation::SkipVerification) {
            self.verify();
        }
    }

    /// The verification layer (rule 10): rows compared under equal clocks, joined where they
    /// differ.
    fn verify(&mut self) {
        for to in 0..self.history.replicas {
            for from in (0..self.history.replicas).filter(|from| *from != to) {
                for key in 0..self.history.keys {
                    let (mine, theirs) = (&self.replicas[to], &self.replicas[from]);
                    let differ = mine.rows[key].digest() != theirs.rows[key].digest();
                    if mine.clock == theirs.clock && differ {
                        let (row, coverage) = (theirs.rows[key].clone(), theirs.coverage(key));
                        self.replicas[to].join_answer(key, &row, &coverage);
                    }
                }
            }
        }
    }
}
