//! Runs a history: replicas, clients with their tokens, and a network that loses, repeats and
//! delays.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_crdt::{ConflictPolicy, Context, Delta, Entry, Row, VnodeClock};
use meridian_types::Hlc;

use super::history::{History, Loss, Op};
use super::mutations::Mutation;
use super::oracle::{Oracle, Violation};
use super::pull::{Progress, Pull};
use super::replica::{Reissued, Replica};
use crate::support::ordered;

/// Rounds in which everybody pulls from everybody: one to sweep, one for what was written anew in
/// it, one for what nobody had heard of before.
const ROUNDS: usize = 3;

struct Message {
    to: usize,
    key: usize,
    delta: Delta,
}

struct World<'a> {
    history: &'a History,
    replicas: Vec<Replica>,
    pulls: Vec<Pull>,
    network: Vec<Message>,
    tokens: BTreeMap<(usize, usize), Context>,
    oracle: Oracle,
}

/// Runs a history to its end and compares what the replicas show with the oracle.
pub(crate) fn run(history: &History, broken: Option<Mutation>) -> Result<(), Violation> {
    let shape = (history.replicas, history.keys);
    let replica = |index| Replica::new(index, shape, history.fresh, broken);
    let mut world = World {
        history,
        replicas: (0..history.replicas).map(replica).collect(),
        pulls: Vec::new(),
        network: Vec::new(),
        tokens: BTreeMap::new(),
        oracle: Oracle::default(),
    };
    for op in history.ops.iter() {
        world.step(*op)?;
        Oracle::check_equal_clocks(&world.replicas)?;
    }
    world.settle()?;
    world.oracle.check_end(&world.replicas)
}

impl World<'_> {
    fn step(&mut self, op: Op) -> Result<(), Violation> {
        match op {
            Op::Write { .. } => self.write(op)?,
            Op::Deliver { pick, twice, lost } => self.deliver(pick, twice, lost),
            Op::Read { client, key, count, order, repair } => {
                self.read((client, key), (count, order), repair)?;
            }
            Op::Pull { to, from, rows } => self.pull(to, from, rows)?,
            Op::BeginPull { to, from } => {
                self.pulls.push(Pull::begin(&self.replicas[to], &self.replicas[from], None));
            }
            Op::StepPull { pick } => self.step_pull(pick)?,
            Op::Collect { replicas } => {
                for replica in &mut self.replicas {
                    if replicas & 1 << replica.index != 0 {
                        replica.collect();
                    }
                }
            }
            Op::Sync { at } => self.replicas[at].sync(),
            Op::Checkpoint { at } => self.replicas[at].take_checkpoint(),
            Op::Lose { at, what } => self.lose(at, what),
            Op::AcceptLoss { at } => {
                self.accept_loss(at)?;
            }
        }
        Ok(())
    }

    fn accept_loss(&mut self, at: usize) -> Result<(), Violation> {
        self.oracle.note_accepted(&self.replicas[at]);
        let reissued = self.replicas[at].accept_loss();
        self.note_reissued(at, &reissued)
    }

    /// All that full pulls have seen of a row at this replica since they went by it.
    fn passed(&self, at: usize, key: usize) -> VnodeClock {
        let mut passed = VnodeClock::default();
        let seen = self.pulls.iter().filter_map(|pull| pull.passed(&self.replicas[at], key));
        seen.for_each(|clock| passed.join(clock));
        passed
    }

    fn apply(&mut self, at: usize, key: usize, delta: Delta) {
        let passed = self.passed(at, key);
        self.replicas[at].apply(key, delta, &passed);
    }

    fn write(&mut self, op: Op) -> Result<(), Violation> {
        let Op::Write { at, client, key, with_token, marker, acks, order } = op else {
            return Ok(());
        };
        let seen = self.tokens.get(&(client, key)).filter(|_| with_token);
        let context = seen.cloned().unwrap_or_default();
        let number = self.oracle.writes();
        let value = (!marker).then(|| Bytes::from(number.to_be_bytes().to_vec()));
        let entry = Entry {
            dot: self.replicas[at].mint(),
            stamp: Hlc(number as u64),
            expires: None,
            value,
        };
        let delta = Delta { entry, context };
        self.oracle.record(key, &delta)?;
        self.apply(at, key, delta.clone());
        let mut by = BTreeSet::from([at]);
        let others = (0..self.history.replicas).filter(|to| *to != at).collect();
        for to in ordered(others, order) {
            if by.len() < acks {
                self.apply(to, key, delta.clone());
                by.insert(to);
            } else {
                self.network.push(Message { to, key, delta: delta.clone() });
            }
        }
        self.oracle.acknowledge(key, delta.entry.dot, by);
        Ok(())
    }

    fn deliver(&mut self, pick: usize, twice: bool, lost: bool) {
        if self.network.is_empty() {
            return;
        }
        let at = pick % self.network.len();
        let Message { to, key, ref delta } = self.network[at];
        if !lost {
            let delta = delta.clone();
            self.apply(to, key, delta);
        }
        if !twice {
            self.network.remove(at);
        }
    }

    /// Asks replicas that are good for the level; without enough of them there is no answer.
    fn read(
        &mut self,
        (client, key): (usize, usize),
        (count, order): (usize, usize),
        repair: bool,
    ) -> Result<(), Violation> {
        let good = self.replicas.iter().filter(|replica| replica.level() >= count);
        let mut asked = ordered(good.map(|replica| replica.index).collect(), order);
        if asked.len() < count {
            return Ok(());
        }
        asked.truncate(count);
        let (mut row, mut coverage, mut token) =
            (Row::default(), Context::default(), Context::default());
        for replica in asked.iter().map(|at| &self.replicas[*at]) {
            let theirs = replica.coverage(key);
            row.join(ConflictPolicy::Siblings, &coverage, &replica.rows[key], &theirs);
            coverage.union_with(&theirs);
            token.union_with(&replica.rows[key].reader_context(&replica.clock));
        }
        self.oracle.check_read((key, count, self.history.replicas), &row, &coverage)?;
        if repair {
            for at in asked {
                let passed = self.passed(at, key);
                self.replicas[at].join_answer(key, &row, &coverage, &passed);
            }
        }
        self.tokens.insert((client, key), token);
        Ok(())
    }

    fn pull(&mut self, to: usize, from: usize, rows: Option<usize>) -> Result<(), Violation> {
        self.pulls.push(Pull::begin(&self.replicas[to], &self.replicas[from], rows));
        let at = self.pulls.len() - 1;
        while self.advance(at)? == Progress::More {}
        Ok(())
    }

    fn step_pull(&mut self, pick: usize) -> Result<(), Violation> {
        if !self.pulls.is_empty() {
            self.advance(pick % self.pulls.len())?;
        }
        Ok(())
    }

    fn advance(&mut self, at: usize) -> Result<Progress, Violation> {
        let mut pull = self.pulls.remove(at);
        let passed = self.passed(pull.to, pull.next_key());
        let (progress, reissued) = pull.step(&mut self.replicas, &passed);
        self.note_reissued(pull.to, &reissued)?;
        if progress == Progress::More {
            self.pulls.insert(at, pull);
        }
        Ok(progress)
    }

    fn note_reissued(&mut self, at: usize, reissued: &[Reissued]) -> Result<(), Violation> {
        reissued.iter().try_for_each(|reissued| self.oracle.reissue(at, reissued))
    }

    fn lose(&mut self, at: usize, what: Loss) {
        if what == Loss::SinceCheckpoint && self.replicas[at].checkpoint.is_none() {
            return;
        }
        if what != Loss::Tail {
            self.oracle.note_fragile(at, &self.replicas);
        }
        self.replicas[at].lose(what);
        self.oracle.note_lost(what, &self.replicas[at]);
        self.oracle.note_left(&self.replicas);
    }

    fn pull_all(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS {
            for to in 0..self.history.replicas {
                for from in (0..self.history.replicas).filter(|from| *from != to) {
                    self.pull(to, from, None)?;
                }
                self.replicas[to].sync();
                self.replicas[to].collect();
            }
            Oracle::check_equal_clocks(&self.replicas)?;
        }
        Ok(())
    }

    /// Everything under way arrives, some of it only after the replicas had agreed and collected.
    fn settle(&mut self) -> Result<(), Violation> {
        self.pulls.clear();
        let network = std::mem::take(&mut self.network);
        for (n, Message { to, key, delta }) in network.iter().enumerate() {
            if self.history.early & 1 << (n % 64) != 0 {
                self.apply(*to, *key, delta.clone());
            }
        }
        self.pull_all()?;
        // One replica is enough: the others find it.
        if let Some(at) = self.replicas.iter().position(Replica::is_stuck) {
            self.accept_loss(at)?;
            self.pull_all()?;
        }
        for Message { to, key, delta } in network {
            self.apply(to, key, delta);
        }
        self.pull_all()
    }
}
