//! Runs a history: replicas, keepers, clients, and a network that loses, repeats and delays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use meridian_crdt::{Context, Delta, Dot, Entry, Row};
use meridian_types::Hlc;

use super::Mutation;
use super::history::{History, KEEPERS, Op};
use super::keeper::Keeper;
use super::replica::Replica;

/// Something that a client wrote once, under however many names.
struct Write {
    marker: bool,
    kept: bool,
    context: Context,
    dots: BTreeSet<Dot>,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A replica does not show what it should: writes by their numbers.
    WrongSiblings { replica: usize, shown: BTreeSet<usize>, wanted: BTreeSet<usize> },
    /// A kept write is gone.
    Lost { write: usize },
    /// A living actor's dots have a gap.
    Gap { replica: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[derive(Clone)]
enum Message {
    /// A delta, of a write.
    Delta { to: usize, write: usize, delta: Delta },
    /// The answer to a call: the write's dot.
    Named { keeper: usize, write: usize, call: u64, dot: Dot },
    /// Whether the keeper needs the dot.
    Question { keeper: usize, write: usize, dot: Dot },
    /// It does not.
    Unused { dot: Dot },
}

struct World {
    broken: Option<Mutation>,
    replicas: Vec<Replica>,
    keepers: Vec<Keeper>,
    network: Vec<Message>,
    tokens: BTreeMap<usize, Context>,
    writes: Vec<Write>,
}

/// Runs a history to its end and compares what the replicas show with what was written.
pub(crate) fn run(history: &History, broken: Option<Mutation>) -> Result<(), Violation> {
    let mut world = World {
        broken,
        replicas: (0..history.replicas).map(Replica::new).collect(),
        keepers: (0..KEEPERS).map(|_| Keeper::default()).collect(),
        network: Vec::new(),
        tokens: BTreeMap::new(),
        writes: Vec::new(),
    };
    for op in &history.ops {
        world.step(*op);
    }
    world.settle();
    world.check_end()
}

impl World {
    fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Write { at, client, marker } => {
                let write = self.begin(client, marker, false);
                let dot = self.replicas[at].mint();
                let context = self.writes[write].context.clone();
                let delta = self.delta(write, dot, context);
                self.replicas[at].apply(delta.clone());
                self.send_to_others(at, write, &delta);
            }
            Op::Read { at, client } => {
                self.tokens.insert(client, self.replicas[at].token());
            }
            Op::Keep { keeper, client } => {
                let write = self.begin(client, false, true);
                let context = match self.breaks(Mutation::KeepWithoutContext) {
                    true => Context::default(),
                    false => self.writes[write].context.clone(),
                };
                self.keepers[keeper].keep(write, context);
            }
            Op::Reserve { keeper, pick, at } => self.reserve(keeper, pick, at),
            Op::Send { keeper, pick, to } => self.send(keeper, pick, to),
            Op::Confirm { keeper, pick, by } => self.confirm(keeper, pick, by),
            Op::Deliver { pick, twice, lost } => self.deliver(pick, twice, lost),
            Op::Ask { at } => self.ask(at),
            Op::Pull { to, from } => self.pull(to, from),
            Op::Sync { at } => self.replicas[at].sync(),
            Op::Crash { at } => {
                self.replicas[at].crash();
                if self.breaks(Mutation::IdsInMemory) {
                    self.replicas[at].ids.clear();
                }
            }
            Op::SyncKeeper { keeper } => self.keepers[keeper].sync(),
            Op::CrashKeeper { keeper } => self.keepers[keeper].crash(),
        }
    }

    fn begin(&mut self, client: usize, marker: bool, kept: bool) -> usize {
        let context = self.tokens.get(&client).cloned().unwrap_or_default();
        self.writes.push(Write { marker, kept, context, dots: BTreeSet::new() });
        self.writes.len() - 1
    }

    /// The write under a name. Its value is its number.
    fn delta(&mut self, write: usize, dot: Dot, context: Context) -> Delta {
        self.writes[write].dots.insert(dot);
        let number = u8::try_from(write).expect("few writes");
        let value = (!self.writes[write].marker).then(|| Bytes::copy_from_slice(&[number]));
        let entry = Entry { dot, stamp: Hlc::ZERO, expires: None, value };
        Delta { entry, context }
    }

    fn send_to_others(&mut self, at: usize, write: usize, delta: &Delta) {
        for to in (0..self.replicas.len()).filter(|to| *to != at) {
            self.network.push(Message::Delta { to, write, delta: delta.clone() });
        }
    }

    fn reserve(&mut self, keeper: usize, pick: usize, at: usize) {
        let Some(write) = self.keepers[keeper].pick(pick) else {
            return;
        };
        if self.broken.is_some_and(Mutation::mints_at_once) {
            return self.mint_at_once(keeper, write, at);
        }
        if self.keepers[keeper].kept[&write].dot.is_some() {
            return;
        }
        let call = self.keepers[keeper].call(write);
        let again = self.breaks(Mutation::NameAgainWhileAsking);
        let dot = self.replicas[at].reserve((keeper, write), again);
        self.network.push(Message::Named { keeper, write, call, dot });
    }

    /// With the rule left out: every replica that is asked mints, unless it knows the id.
    fn mint_at_once(&mut self, keeper: usize, write: usize, at: usize) {
        let kept = self.keepers[keeper].kept.get_mut(&write).expect("picked of the kept");
        let at = match self.broken {
            Some(Mutation::AskOneReplica) => *kept.asked.get_or_insert(at),
            _ => at,
        };
        let context = kept.context.clone();
        self.keepers[keeper].sync();
        if self.replicas[at].ids.contains_key(&write) {
            return;
        }
        let dot = self.replicas[at].mint();
        let delta = self.delta(write, dot, context);
        self.replicas[at].ids.insert(write, dot);
        self.replicas[at].apply(delta.clone());
        self.send_to_others(at, write, &delta);
    }

    fn send(&mut self, keeper: usize, pick: usize, to: usize) {
        let Some(write) = self.keepers[keeper].pick(pick) else {
            return;
        };
        let kept = self.keepers[keeper].kept[&write].clone();
        if let Some(dot) = kept.dot {
            let delta = self.delta(write, dot, kept.context);
            self.network.push(Message::Delta { to, write, delta });
        }
    }

    fn confirm(&mut self, keeper: usize, pick: usize, by: usize) {
        let Some(write) = self.keepers[keeper].pick(pick) else {
            return;
        };
        let replica = &self.replicas[by];
        let dot = match self.broken.is_some_and(Mutation::mints_at_once) {
            true => replica.ids.get(&write).copied(),
            false => self.keepers[keeper].kept[&write].dot,
        };
        let Some(dot) = dot else {
            return;
        };
        let has = match self.breaks(Mutation::ForgetWhenApplied) {
            true => replica.has(dot),
            false => replica.durably_has(dot),
        };
        if has && (replica.named(dot) || self.breaks(Mutation::ForgetWhenAnybodyHasIt)) {
            self.keepers[keeper].forget(write);
        }
    }

    fn ask(&mut self, at: usize) {
        for reserved in self.replicas[at].ask() {
            let (keeper, write, dot) = (reserved.keeper, reserved.write, reserved.dot);
            match self.broken {
                Some(Mutation::NeverFill) => {}
                Some(Mutation::FillWithoutAsking) => self.replicas[at].fill(dot),
                _ => self.network.push(Message::Question { keeper, write, dot }),
            }
        }
    }

    fn deliver(&mut self, pick: usize, twice: bool, lost: bool) {
        if self.network.is_empty() {
            return;
        }
        let at = pick % self.network.len();
        let message = match twice {
            true => self.network[at].clone(),
            false => self.network.remove(at),
        };
        if !lost {
            self.arrive(message);
        }
    }

    fn arrive(&mut self, message: Message) {
        match message {
            Message::Delta { to, write, delta } => {
                if self.broken.is_some_and(Mutation::mints_at_once) {
                    self.replicas[to].ids.insert(write, delta.entry.dot);
                }
                self.replicas[to].apply(delta);
            }
            Message::Named { keeper, write, call, dot } => {
                self.keepers[keeper].answered(write, call, dot, self.broken);
            }
            Message::Question { keeper, write, dot } => {
                if !self.keepers[keeper].uses(write, dot, self.broken) {
                    self.network.push(Message::Unused { dot });
                }
            }
            Message::Unused { dot } => {
                for replica in &mut self.replicas {
                    replica.fill(dot);
                }
            }
        }
    }

    fn pull(&mut self, to: usize, from: usize) {
        if let Ok([puller, peer]) = self.replicas.get_disjoint_mut([to, from]) {
            puller.pull(peer);
        }
    }

    fn pull_all(&mut self) {
        for _ in 0..2 {
            for to in 0..self.replicas.len() {
                for from in 0..self.replicas.len() {
                    self.pull(to, from);
                }
            }
        }
    }

    /// All that is under way arrives, and what the arrivals sent.
    fn drain(&mut self) {
        while let Some(message) = self.network.pop() {
            self.arrive(message);
        }
    }

    /// What is kept is done, replica by replica, and then whatever is still under way arrives.
    fn settle(&mut self) {
        let late = std::mem::take(&mut self.network);
        (0..self.replicas.len()).for_each(|at| self.ask(at));
        self.drain();
        for keeper in 0..KEEPERS {
            let kept = self.keepers[keeper].kept.len();
            for pick in 0..kept {
                self.reserve(keeper, pick, pick % self.replicas.len());
            }
            self.drain();
            for pick in 0..kept {
                (0..self.replicas.len()).for_each(|to| self.send(keeper, pick, to));
            }
            self.drain();
        }
        self.replicas.iter_mut().for_each(Replica::sync);
        for keeper in 0..KEEPERS {
            for pick in (0..self.keepers[keeper].kept.len()).rev() {
                (0..self.replicas.len()).for_each(|by| self.confirm(keeper, pick, by));
            }
        }
        self.pull_all();
        self.network = late;
        self.drain();
        (0..self.replicas.len()).for_each(|at| self.ask(at));
        self.drain();
        self.pull_all();
    }

    fn check_end(&self) -> Result<(), Violation> {
        let has = |dot: &Dot| self.replicas.iter().any(|replica| replica.has(*dot));
        let survived = |write: &Write| write.dots.iter().any(has);
        let is_lost = |write: &Write| write.kept && !survived(write);
        if let Some(write) = self.writes.iter().position(is_lost) {
            return Err(Violation::Lost { write });
        }
        let covers = |by: &Write, write: &Write| {
            survived(by) && write.dots.iter().any(|dot| by.context.contains(*dot))
        };
        let is_live = |number: &usize| {
            let write = &self.writes[*number];
            let mut others = self.writes.iter().enumerate().filter(|(n, _)| n != number);
            survived(write) && !write.marker && !others.any(|(_, by)| covers(by, write))
        };
        let wanted: BTreeSet<usize> = (0..self.writes.len()).filter(is_live).collect();
        for (index, replica) in self.replicas.iter().enumerate() {
            let shown = numbers(&replica.row);
            if shown != wanted {
                let wanted = wanted.clone();
                return Err(Violation::WrongSiblings { replica: index, shown, wanted });
            }
            let own = replica.actor();
            if replica.clock.base(own) != replica.clock.highest(own) {
                return Err(Violation::Gap { replica: index });
            }
        }
        Ok(())
    }
}

/// The writes that a row shows.
fn numbers(row: &Row) -> BTreeSet<usize> {
    let values = row.entries().iter().filter_map(|entry| entry.value.as_deref());
    values.map(|value| usize::from(value[0])).collect()
}
