//! Runs a history of LWW rows.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use meridian_crdt::{Actor, Context, Delta, Dot, Entry, Row, VnodeClock};
use meridian_types::{ConflictPolicy, Hlc, Millis};

use super::history::{Fate, History, Op, TO_ITS_END};
use super::mutations::Mutation;
use super::oracle::{Oracle, Violation};
use super::pull::{Progress, Pull};
use super::replica::Replica;

/// What is under way to a replica.
#[derive(Clone)]
enum Message {
    Delta(Delta),
    /// What a read repair joined: entries alone, for an LWW row keeps no context.
    Repair(Row),
}

#[derive(Clone)]
struct Envelope {
    to: usize,
    key: usize,
    message: Message,
}

/// A write at ANY that nobody has given a dot yet.
struct Intent {
    key: usize,
    stamp: u64,
}

struct World {
    broken: Option<Mutation>,
    replicas: Vec<Replica>,
    pulls: Vec<Pull>,
    network: Vec<Envelope>,
    intents: Vec<Intent>,
    /// Ended actors that are closed everywhere.
    closed: BTreeSet<Actor>,
    /// Whether the last replica is one only in the second layout.
    enters: bool,
    /// True time.
    now: u64,
    oracle: Oracle,
}

/// Runs a history to its end.
pub(crate) fn run(history: &History, broken: Option<Mutation>) -> Result<(), Violation> {
    let mut world = World {
        broken,
        replicas: Vec::new(),
        pulls: Vec::new(),
        network: Vec::new(),
        intents: Vec::new(),
        closed: BTreeSet::new(),
        enters: history.enters && history.replicas > 2,
        now: 0,
        oracle: Oracle::new(history.keys),
    };
    for index in 0..history.replicas {
        let mut replica = Replica::new(index, history.keys, broken);
        replica.hlc = history.first_stamps >> (8 * index) & 0x7;
        replica.skew = (history.skews >> (2 * index) & 0x3).min(2);
        world.replicas.push(replica);
    }
    for op in history.ops.iter() {
        world.step(*op)?;
        world.oracle.check_step(world.members(), world.now)?;
    }
    world.settle()?;
    world.oracle.check_end(world.members(), world.now)
}

impl World {
    fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    /// Who is a replica in the layout of this epoch.
    fn layout(&self, epoch: u32) -> Range<usize> {
        0..self.replicas.len() - usize::from(self.enters && epoch == 0)
    }

    /// Whether somebody is a replica by what it knows itself.
    fn takes_part(&self, at: usize) -> bool {
        self.layout(self.replicas[at].epoch).contains(&at)
    }

    fn members(&self) -> &[Replica] {
        &self.replicas[self.layout(self.newest_epoch())]
    }

    fn newest_epoch(&self) -> u32 {
        self.replicas.iter().map(|replica| replica.epoch).max().unwrap_or(0)
    }

    fn step(&mut self, op: Op) -> Result<(), Violation> {
        match op {
            Op::Write { at, .. }
            | Op::Read { at, .. }
            | Op::Promise { at }
            | Op::Collect { at }
            | Op::Crash { at, .. }
            | Op::Checkpoint { at }
            | Op::Restore { at, .. }
            | Op::LoseTables { at, .. }
            | Op::Mint { at, .. }
                if !self.takes_part(at) => {}
            Op::Write { at, key, wall, marker, ttl } => {
                let expires = ttl.map(|ttl| Millis(self.now + ttl));
                if self.replicas[at].may_mint() {
                    let (dot, stamp) = self.replicas[at].mint(wall);
                    self.write(at, key, (dot, stamp), marker, expires);
                }
            }
            Op::Deliver { pick, fate } => self.deliver(pick, fate),
            Op::Pull { to, from, steps } => self.pull(to, from, steps),
            Op::Step { pick, breaks } => self.step_pull(pick, breaks),
            Op::Read { at, with, key } => self.read(at, with, key)?,
            Op::Promise { at } => self.replicas[at].promise(),
            Op::Sync { at } => self.replicas[at].sync(),
            Op::Publish { from, to } => self.publish(from, to),
            Op::Agree => self.agree(),
            Op::Collect { at } => self.collect(at),
            Op::Close => self.close_ended_actors(),
            Op::Crash { at, wall } => self.replicas[at].crash(wall),
            Op::Checkpoint { at } => self.replicas[at].take_checkpoint(),
            Op::Restore { at, wall, promises_lost } => {
                if let Some(peers) = self.peers_of_damaged(at) {
                    self.replicas[at].restore(wall, promises_lost, peers);
                }
            }
            Op::LoseTables { at, keep } => {
                if let Some(peers) = self.peers_of_damaged(at) {
                    self.replicas[at].lose_tables(keep, peers);
                }
            }
            Op::Enter => self.enter(),
            Op::Intend { key, stamp } => self.intents.push(Intent { key, stamp }),
            Op::Mint { pick, at } => self.mint_intent(pick, at),
            Op::Tick { by } => self.now += by,
        }
        Ok(())
    }

    fn write(
        &mut self,
        at: usize,
        key: usize,
        (dot, stamp): (Dot, Hlc),
        marker: bool,
        expires: Option<Millis>,
    ) {
        let value = (!marker).then(|| Bytes::from_static(b"value"));
        let entry = Entry { dot, stamp, expires: expires.filter(|_| !marker), value };
        self.oracle.written(key, &entry);
        let delta = Delta { entry, context: Context::default() };
        self.apply(at, key, Message::Delta(delta.clone()));
        for to in self.layout(self.replicas[at].epoch).filter(|to| *to != at) {
            self.network.push(Envelope { to, key, message: Message::Delta(delta.clone()) });
        }
    }

    /// All that full pulls have seen of a row at this replica since they went by it.
    fn passed(&self, at: usize, key: usize) -> VnodeClock {
        let mut passed = VnodeClock::default();
        for pull in self.pulls.iter().filter(|pull| pull.to == at) {
            let seen = pull.passed(key, self.replicas[at].life);
            seen.into_iter().for_each(|clock| passed.join(clock));
        }
        passed
    }

    fn apply(&mut self, at: usize, key: usize, message: Message) {
        let passed = self.passed(at, key);
        match message {
            Message::Delta(delta) => self.replicas[at].apply(key, delta, &passed),
            Message::Repair(row) => {
                self.replicas[at].join(key, &row, &VnodeClock::default(), &passed);
            }
        }
    }

    fn deliver(&mut self, pick: usize, fate: Fate) {
        if self.network.is_empty() {
            return;
        }
        let pick = pick % self.network.len();
        let Envelope { to, key, message } = match fate {
            Fate::ArrivesAndStays => self.network[pick].clone(),
            Fate::Arrives | Fate::Lost => self.network.remove(pick),
        };
        if fate != Fate::Lost && self.takes_part(to) {
            self.apply(to, key, message);
        }
    }

    /// Two replicas that speak with each other know the newer layout.
    fn meet(&mut self, a: usize, b: usize) -> Option<[&mut Replica; 2]> {
        if !self.takes_part(a) || !self.takes_part(b) {
            return None;
        }
        let both = self.replicas.get_disjoint_mut([a, b]).expect("nobody speaks with itself");
        let epoch = both.iter().map(|replica| replica.epoch).max()?;
        let [a, b] = both;
        a.learn_layout(epoch);
        b.learn_layout(epoch);
        Some([a, b])
    }

    fn pull(&mut self, to: usize, from: usize, steps: usize) {
        let Some([to, from]) = self.meet(to, from) else { return };
        let pull = Pull::begin(to, from);
        self.pulls.push(pull);
        let at = self.pulls.len() - 1;
        for _ in 0..steps {
            if self.advance(at) == Progress::Ended {
                return;
            }
        }
    }

    fn step_pull(&mut self, pick: usize, breaks: bool) {
        if self.pulls.is_empty() {
            return;
        }
        let pick = pick % self.pulls.len();
        if breaks {
            self.pulls.remove(pick);
        } else {
            self.advance(pick);
        }
    }

    fn advance(&mut self, at: usize) -> Progress {
        let mut pull = self.pulls.remove(at);
        let passed = self.passed(pull.to, pull.next_key());
        let peers = self.layout(self.replicas[pull.to].epoch).len();
        let progress = pull.step(&mut self.replicas, peers, &passed);
        if progress == Progress::More {
            self.pulls.insert(at, pull);
        }
        progress
    }

    /// Asks one replica or two, shows what they have together, and repairs all.
    fn read(&mut self, at: usize, with: usize, key: usize) -> Result<(), Violation> {
        let mut joined: Option<(Row, VnodeClock)> = None;
        for asked in [at, with] {
            let replica = &self.replicas[asked];
            let silent = replica.is_rebuilding() && !self.breaks(Mutation::ReadWhileRebuilding);
            if silent || !self.takes_part(asked) {
                return Ok(());
            }
            let (row, clock) = (&replica.live.rows[key], &replica.live.clock);
            match &mut joined {
                None => joined = Some((row.clone(), clock.clone())),
                Some((mine, covered)) => {
                    mine.sweep(ConflictPolicy::Lww, covered, row, clock);
                    covered.join(clock);
                }
            }
        }
        let Some((row, _)) = joined else { return Ok(()) };
        self.oracle.check_read(key, &row, self.now)?;
        for to in self.layout(self.replicas[at].epoch) {
            self.network.push(Envelope { to, key, message: Message::Repair(row.clone()) });
        }
        Ok(())
    }

    fn publish(&mut self, from: usize, to: usize) {
        if let Some([to, from]) = self.meet(to, from) {
            to.hear(from);
        }
    }

    fn agree(&mut self) {
        for replica in &mut self.replicas {
            replica.promise();
            // A replica that has lost its clock has nothing to sync that it did not sync then.
            replica.sync();
        }
        for to in 0..self.replicas.len() {
            for from in (0..self.replicas.len()).filter(|from| *from != to) {
                self.publish(from, to);
            }
        }
    }

    fn collect(&mut self, at: usize) {
        let layout = self.layout(self.replicas[at].epoch);
        for (key, entry) in self.replicas[at].collect(layout, &self.closed, self.now) {
            self.oracle.collected(key, &entry);
        }
    }

    /// Rule 13, as far as rule 12 needs it, by agreement that costs nothing: nothing of the actor
    /// is under way, and all replicas durably have the same of its dots. What nobody has is void.
    fn close_ended_actors(&mut self) {
        let newest = self.newest_epoch();
        let layout = self.layout(newest);
        let apart = |replica: &Replica| replica.is_rebuilding() || replica.epoch != newest;
        if self.replicas[layout.clone()].iter().any(apart) {
            return;
        }
        let current: Vec<Actor> = self.replicas.iter().map(Replica::actor).collect();
        let lives = self.replicas.iter().flat_map(|replica| replica.promises.keys().copied());
        let ended: Vec<Actor> = lives.filter(|actor| !current.contains(actor)).collect();
        for actor in ended {
            let dots = |replica: &Replica, durable: bool| {
                let disk = if durable { &replica.durable } else { &replica.live };
                disk.clock.dots().counters(actor).cloned()
            };
            let first = dots(&self.replicas[0], true);
            let agreed = self.replicas[layout.clone()]
                .iter()
                .all(|replica| dots(replica, true) == first && dots(replica, false) == first);
            let may_come = self.is_under_way(actor) && !self.breaks(Mutation::CloseWhileUnderWay);
            if !agreed || may_come || !self.closed.insert(actor) {
                continue;
            }
            if self.breaks(Mutation::CloseWithoutVoid) {
                continue;
            }
            for dot in self.oracle.close(actor, &self.replicas[0].live.clock) {
                for replica in &mut self.replicas[layout.clone()] {
                    replica.live.clock.insert(dot);
                    replica.durable.clock.insert(dot);
                }
            }
        }
    }

    fn is_under_way(&self, actor: Actor) -> bool {
        let of_row = |row: &Row| row.entries().iter().any(|entry| entry.dot.actor == actor);
        self.pulls.iter().any(|pull| pull.has_entry(of_row))
            || self.network.iter().any(|envelope| match &envelope.message {
                Message::Delta(delta) => delta.entry.dot.actor == actor,
                Message::Repair(row) => of_row(row),
            })
    }

    /// The peers that a replica rebuilds from, unless it is the last that is sound.
    fn peers_of_damaged(&self, at: usize) -> Option<BTreeSet<usize>> {
        let sound = |peer: &usize| *peer != at && !self.replicas[*peer].is_rebuilding();
        let layout = self.layout(self.replicas[at].epoch);
        layout.clone().any(|peer| sound(&peer)).then(|| layout.filter(|peer| *peer != at).collect())
    }

    fn enter(&mut self) {
        let last = self.replicas.len() - 1;
        if self.enters && self.replicas[last].epoch == 0 {
            let todo = (0..last).collect();
            self.replicas[last].learn_layout(1);
            self.replicas[last].begin_rebuild(todo, true);
        }
    }

    fn mint_intent(&mut self, pick: usize, at: usize) {
        if self.intents.is_empty() || !self.replicas[at].may_mint() {
            return;
        }
        let Intent { key, stamp } = self.intents.remove(pick % self.intents.len());
        if let Some(minted) = self.replicas[at].mint_intent(key, stamp) {
            self.write(at, key, minted, false, None);
        }
    }

    /// Everything arrives, everybody is rebuilt, and what may be forgotten is.
    fn settle(&mut self) -> Result<(), Violation> {
        self.pulls.clear();
        for Envelope { to, key, message } in std::mem::take(&mut self.network) {
            if self.takes_part(to) {
                self.apply(to, key, message);
            }
        }
        for _ in 0..3 {
            for to in 0..self.replicas.len() {
                for from in (0..self.replicas.len()).filter(|from| *from != to) {
                    self.pull(to, from, TO_ITS_END);
                }
            }
            self.oracle.check_step(self.members(), self.now)?;
            self.agree();
            for at in self.layout(self.newest_epoch()) {
                self.collect(at);
            }
        }
        Ok(())
    }
}
