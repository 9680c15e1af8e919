//! Runs a history: replicas, clients, the closing of one actor at a time, and a network that loses,
//! repeats and delays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use meridian_crdt::{Actor, Context, Delta, Dot, Entry, Row};
use meridian_types::Hlc;

use super::Mutation;
use super::history::{History, Op};
use super::replica::Replica;

struct Write {
    marker: bool,
    context: Context,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A sound replica has a dot that is taken for void.
    VoidButPresent { replica: usize, dot: Dot },
    /// Two sound replicas with equal clocks show different rows.
    EqualClocksDiffer { replicas: (usize, usize) },
    /// A replica does not show the oracle's siblings in the end.
    WrongSiblings { replica: usize, shown: Vec<Dot>, wanted: Vec<Dot> },
    /// A replica counts more actors than there are replicas.
    ActorsLeft { replica: usize, counted: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

struct Message {
    to: usize,
    delta: Delta,
}

/// The closing of one actor.
struct Round {
    actor: Actor,
    reports: BTreeMap<usize, BTreeSet<u64>>,
    /// What was united of all reports.
    united: Option<BTreeSet<u64>>,
}

struct World {
    broken: Option<Mutation>,
    replicas: Vec<Replica>,
    network: Vec<Message>,
    tokens: BTreeMap<usize, Context>,
    written: BTreeMap<Dot, Write>,
    void: BTreeSet<Dot>,
    ended: Vec<Actor>,
    round: Option<Round>,
}

/// Runs a history to its end and compares what the replicas show with what was written.
pub(crate) fn run(history: &History, broken: Option<Mutation>) -> Result<(), Violation> {
    let mut world = World {
        broken,
        replicas: (0..history.replicas).map(|index| Replica::new(index, broken)).collect(),
        network: Vec::new(),
        tokens: BTreeMap::new(),
        written: BTreeMap::new(),
        void: BTreeSet::new(),
        ended: Vec::new(),
        round: None,
    };
    for op in &history.ops {
        world.step(*op)?;
        world.check_equal_clocks()?;
    }
    world.settle()?;
    world.check_end()
}

fn live(row: &Row) -> impl Iterator<Item = Dot> {
    row.entries().iter().filter(|entry| entry.value.is_some()).map(|entry| entry.dot)
}

impl World {
    fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    fn step(&mut self, op: Op) -> Result<(), Violation> {
        match op {
            Op::Write { at, client, marker } => self.write(at, client, marker),
            Op::Read { at, client } if !self.replicas[at].is_rebuilding() => {
                self.tokens.insert(client, self.replicas[at].token());
            }
            Op::Read { .. } => {}
            Op::Deliver { pick, twice, lost } => self.deliver(pick, twice, lost),
            Op::Pull { to, from } => self.pull(to, from),
            Op::Sync { at } => self.replicas[at].sync(),
            Op::Crash { at } => self.crash(at),
            Op::Checkpoint { at } => self.replicas[at].take_checkpoint(),
            Op::Restore { at } => self.restore(at),
            Op::Propose { pick } => self.propose(pick),
            Op::Fence { at } => return self.fence(at),
            Op::Close { at } => self.close(at),
        }
        Ok(())
    }

    fn write(&mut self, at: usize, client: usize, marker: bool) {
        if self.replicas[at].is_rebuilding() {
            return;
        }
        let context = self.tokens.get(&client).cloned().unwrap_or_default();
        let dot = self.replicas[at].mint();
        let value = (!marker).then(|| Bytes::from_static(b"value"));
        let entry = Entry { dot, stamp: Hlc::ZERO, expires: None, value };
        let delta = Delta { entry, context: context.clone() };
        self.written.insert(dot, Write { marker, context });
        self.replicas[at].apply(delta.clone());
        for to in (0..self.replicas.len()).filter(|to| *to != at) {
            self.network.push(Message { to, delta: delta.clone() });
        }
    }

    fn deliver(&mut self, pick: usize, twice: bool, lost: bool) {
        if self.network.is_empty() {
            return;
        }
        let at = pick % self.network.len();
        let Message { to, ref delta } = self.network[at];
        if !lost {
            self.replicas[to].apply(delta.clone());
        }
        if !twice {
            self.network.remove(at);
        }
    }

    fn pull(&mut self, to: usize, from: usize) {
        if let Ok([puller, peer]) = self.replicas.get_disjoint_mut([to, from]) {
            puller.pull(peer);
        }
    }

    fn crash(&mut self, at: usize) {
        let ended = self.replicas[at].crash();
        self.ended.push(ended);
    }

    fn restore(&mut self, at: usize) {
        let Some(old) = self.replicas[at].checkpoint.clone() else {
            return;
        };
        if self.replicas.iter().any(Replica::is_rebuilding) {
            return self.crash(at);
        }
        let peers = (0..self.replicas.len()).filter(|peer| *peer != at).collect();
        let ended = self.replicas[at].restore(old, peers);
        self.ended.push(ended);
        // What it reported may be gone with what it had. Once somebody has closed the actor, all
        // that was united is with that one.
        if let Some(round) = &mut self.round
            && !self.replicas.iter().any(|replica| replica.closed.contains(&round.actor))
        {
            round.reports.clear();
            if round.united.take().is_some() {
                let actor = round.actor;
                self.void.retain(|dot| dot.actor != actor);
            }
        }
    }

    fn propose(&mut self, pick: usize) {
        let closed = |actor: &Actor| self.replicas.iter().all(|r| r.closed.contains(actor));
        let open: Vec<Actor> = self.ended.iter().filter(|actor| !closed(actor)).copied().collect();
        if self.round.is_none() && !open.is_empty() {
            let actor = open[pick % open.len()];
            self.round = Some(Round { actor, reports: BTreeMap::new(), united: None });
        }
    }

    /// Only sound replicas take part.
    fn fence(&mut self, at: usize) -> Result<(), Violation> {
        let enough = match self.breaks(Mutation::CloseByMajority) {
            true => self.replicas.len() / 2 + 1,
            false => self.replicas.len(),
        };
        let Some(round) = &mut self.round else {
            return Ok(());
        };
        if self.replicas[at].is_rebuilding() || round.united.is_some() {
            return Ok(());
        }
        let report = self.replicas[at].fence(round.actor);
        round.reports.insert(at, report);
        if round.reports.len() < enough {
            return Ok(());
        }
        let united: BTreeSet<u64> = round.reports.values().flatten().copied().collect();
        let is_void = |dot: &&Dot| dot.actor == round.actor && !united.contains(&dot.counter);
        let void: Vec<Dot> = self.written.keys().filter(is_void).copied().collect();
        round.united = Some(united);
        for replica in self.replicas.iter().filter(|replica| !replica.is_rebuilding()) {
            if let Some(&dot) = void.iter().find(|dot| replica.clock.contains(**dot)) {
                return Err(Violation::VoidButPresent { replica: replica.index, dot });
            }
        }
        self.void.extend(void);
        Ok(())
    }

    fn close(&mut self, at: usize) {
        let early = self.breaks(Mutation::CloseBeforeUniting);
        let Some(Round { actor, united: Some(united), .. }) = &self.round else {
            return;
        };
        let replica = &mut self.replicas[at];
        if replica.is_rebuilding() || !replica.has_all(*actor, united) && !early {
            return;
        }
        replica.close(*actor);
        if self.replicas.iter().all(|replica| replica.closed.contains(actor)) {
            self.round = None;
        }
    }

    fn check_equal_clocks(&self) -> Result<(), Violation> {
        let sound = || self.replicas.iter().filter(|replica| !replica.is_rebuilding());
        for a in sound() {
            for b in sound().filter(|b| b.index > a.index && b.clock == a.clock) {
                if !live(&a.row).eq(live(&b.row)) {
                    return Err(Violation::EqualClocksDiffer { replicas: (a.index, b.index) });
                }
            }
        }
        Ok(())
    }

    fn pull_all(&mut self) {
        for _ in 0..3 {
            for to in 0..self.replicas.len() {
                for from in 0..self.replicas.len() {
                    self.pull(to, from);
                }
            }
        }
    }

    /// Everybody meets, everything arrives, and every ended actor is closed.
    fn settle(&mut self) -> Result<(), Violation> {
        self.pull_all();
        // Sound by now, so that no fence stands between any two of them.
        // One round may be under way; each of the others closes one actor.
        for _ in 0..=self.ended.len() {
            self.propose(0);
            for at in 0..self.replicas.len() {
                self.fence(at)?;
            }
            self.pull_all();
            for at in 0..self.replicas.len() {
                self.close(at);
            }
            self.check_equal_clocks()?;
        }
        for Message { to, delta } in std::mem::take(&mut self.network) {
            self.replicas[to].apply(delta);
        }
        self.pull_all();
        self.check_equal_clocks()
    }

    fn check_end(&self) -> Result<(), Violation> {
        let survived = |dot: &Dot| {
            !self.void.contains(dot) && self.replicas.iter().any(|r| r.clock.contains(*dot))
        };
        let survivors: Vec<(&Dot, &Write)> =
            self.written.iter().filter(|(dot, _)| survived(dot)).collect();
        let covered = |dot: Dot| {
            survivors.iter().any(|(by, write)| **by != dot && write.context.contains(dot))
        };
        let wanted: Vec<Dot> = survivors
            .iter()
            .filter(|(dot, write)| !write.marker && !covered(**dot))
            .map(|(dot, _)| **dot)
            .collect();
        for replica in &self.replicas {
            let shown: Vec<Dot> = live(&replica.row).collect();
            if shown != wanted {
                let replica = replica.index;
                return Err(Violation::WrongSiblings { replica, shown, wanted });
            }
            if replica.counted() > self.replicas.len() {
                let counted = replica.counted();
                return Err(Violation::ActorsLeft { replica: replica.index, counted });
            }
        }
        Ok(())
    }
}
