//! Runs a history of LWW rows and compares the winners with the oracle's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use meridian_crdt::{Actor, ConflictPolicy, Context, Delta, Dot, Entry, Row, VnodeClock};
use meridian_types::{Hlc, Incarnation, Millis, NodeId};

use super::history::{History, Op};
use super::mutations::Mutation;
use crate::support::mixed;

const POLICY: ConflictPolicy = ConflictPolicy::Lww;

/// A replica does not show the winner of all writes that survived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongWinner {
    replica: usize,
    key: usize,
    shown: Option<(Hlc, Dot)>,
    wanted: Option<(Hlc, Dot)>,
}

impl fmt::Display for WrongWinner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[derive(Clone, Default)]
struct Disk {
    clock: VnodeClock,
    rows: Vec<Row>,
}

struct Replica {
    incarnation: u64,
    next: u64,
    /// Stamps given so far end here.
    hlc: u64,
    live: Disk,
    durable: Disk,
}

struct Message {
    to: usize,
    key: usize,
    delta: Delta,
}

/// Every dot of the actor up to `counter` has a stamp up to `stamp`, every later dot a higher one.
#[derive(Clone, Copy, Default)]
struct Promise {
    counter: u64,
    stamp: Hlc,
}

struct World {
    broken: Option<Mutation>,
    replicas: Vec<Replica>,
    network: Vec<Message>,
    written: BTreeMap<Dot, (usize, Entry)>,
    promises: BTreeMap<Actor, (usize, Promise)>,
    /// Actors of past incarnations, of whose dots nothing is under way and all replicas durably
    /// have the same.
    closed: BTreeSet<Actor>,
}

/// Runs a history to its end.
pub(crate) fn run(history: &History, broken: Option<Mutation>) -> Result<(), WrongWinner> {
    let empty = Disk { clock: VnodeClock::default(), rows: vec![Row::default(); history.keys] };
    let mut world = World {
        broken,
        replicas: Vec::new(),
        network: Vec::new(),
        written: BTreeMap::new(),
        promises: BTreeMap::new(),
        closed: BTreeSet::new(),
    };
    for index in 0..history.replicas {
        let hlc = history.first_stamps >> (8 * index) & 0x7;
        let (live, durable) = (empty.clone(), empty.clone());
        world.replicas.push(Replica { incarnation: 0, next: 0, hlc, live, durable });
        world.promises.insert(world.actor(index), (index, Promise::default()));
    }
    for op in history.ops.iter() {
        world.step(*op);
    }
    world.settle();
    world.check(history.keys)
}

impl World {
    fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    fn actor(&self, index: usize) -> Actor {
        let node = u32::try_from(index).expect("few replicas");
        let life = u64::from(node + 1) << 32 | self.replicas[index].incarnation;
        Actor { node: NodeId(node), incarnation: Incarnation(mixed(life)) }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Write { at, key, wall, marker } => self.write(at, key, wall, marker),
            Op::Deliver { pick, lost } => self.deliver(pick, lost),
            Op::Pull { to, from } => self.pull(to, from),
            Op::Promise { at } => {
                let replica = &self.replicas[at];
                let promise = Promise { counter: replica.next, stamp: Hlc(replica.hlc) };
                self.promises.insert(self.actor(at), (at, promise));
            }
            Op::Sync { at } => self.replicas[at].durable = self.replicas[at].live.clone(),
            Op::Collect => {
                self.close_ended_actors();
                self.collect();
            }
            Op::Crash { at, wall } => self.crash(at, wall),
        }
    }

    fn write(&mut self, at: usize, key: usize, wall: u64, marker: bool) {
        let actor = self.actor(at);
        let replica = &mut self.replicas[at];
        replica.hlc = replica.hlc.max(wall) + 1;
        replica.next += 1;
        let entry = Entry {
            dot: Dot::new(actor, replica.next),
            stamp: Hlc(replica.hlc),
            expires: None,
            value: (!marker).then(|| Bytes::from_static(b"value")),
        };
        self.written.insert(entry.dot, (key, entry.clone()));
        let delta = Delta { entry, context: Context::default() };
        self.apply(at, key, delta.clone());
        for to in (0..self.replicas.len()).filter(|to| *to != at) {
            self.network.push(Message { to, key, delta: delta.clone() });
        }
    }

    fn apply(&mut self, at: usize, key: usize, delta: Delta) {
        let again = self.breaks(Mutation::ApplyTwice);
        let Disk { clock, rows } = &mut self.replicas[at].live;
        if clock.insert(delta.entry.dot) || again {
            rows[key].apply(POLICY, delta);
        }
    }

    fn deliver(&mut self, pick: usize, lost: bool) {
        if self.network.is_empty() {
            return;
        }
        let Message { to, key, delta } = self.network.remove(pick % self.network.len());
        if !lost {
            let stamp = delta.entry.stamp.0;
            self.apply(to, key, delta);
            self.replicas[to].hlc = self.replicas[to].hlc.max(stamp);
        }
    }

    fn pull(&mut self, to: usize, from: usize) {
        let [to, from] = self
            .replicas
            .get_disjoint_mut([to, from])
            .expect("a replica does not pull from itself");
        let (mine, theirs) = (&mut to.live, &from.live);
        for (row, other) in mine.rows.iter_mut().zip(&theirs.rows) {
            if other.is_news_to(&mine.clock) {
                row.join_answer(POLICY, &mut mine.clock, other, &other.full_context(&theirs.clock));
            }
        }
        mine.clock.join(&theirs.clock);
    }

    /// Below this stamp every replica durably knows every write.
    fn stable_stamp(&self) -> Hlc {
        let unsynced = self.breaks(Mutation::CountUnsyncedClocks);
        let mut stable: Option<Hlc> = None;
        for replica in &self.replicas {
            let clock = if unsynced { &replica.live.clock } else { &replica.durable.clock };
            for (actor, (_, promise)) in &self.promises {
                if self.closed.contains(actor) {
                    continue;
                }
                let kept = clock.base(*actor) >= promise.counter;
                let stamp = if kept { promise.stamp } else { Hlc::ZERO };
                stable = Some(stable.map_or(stamp, |least| least.min(stamp)));
            }
        }
        stable.unwrap_or_default()
    }

    fn close_ended_actors(&mut self) {
        for (actor, (index, _)) in &self.promises {
            let under_way = |m: &Message| m.delta.entry.dot.actor == *actor;
            if *actor == self.actor(*index) || self.network.iter().any(under_way) {
                continue;
            }
            let first = self.replicas[0].durable.clock.dots().counters(*actor);
            let agreed = self.replicas.iter().all(|replica| {
                replica.durable.clock.dots().counters(*actor) == first
                    && replica.live.clock.dots().counters(*actor) == first
            });
            if agreed {
                self.closed.insert(*actor);
            }
        }
    }

    fn collect(&mut self) {
        let stable = self.stable_stamp();
        for at in 0..self.replicas.len() {
            for key in 0..self.replicas[at].live.rows.len() {
                let row = &self.replicas[at].live.rows[key];
                let forget = row.entries().iter().any(|entry| {
                    entry.value.is_none()
                        && match self.breaks(Mutation::CollectByDot) {
                            true => self.is_durable_everywhere(entry.dot),
                            false => entry.stamp <= stable,
                        }
                });
                if forget {
                    self.replicas[at].live.rows[key] = Row::default();
                }
            }
        }
    }

    fn is_durable_everywhere(&self, dot: Dot) -> bool {
        self.replicas.iter().all(|replica| replica.durable.clock.contains(dot))
    }

    fn crash(&mut self, at: usize, wall: u64) {
        let replica = &mut self.replicas[at];
        replica.live = replica.durable.clone();
        replica.incarnation += 1;
        replica.next = 0;
        // The wall clock may step back; stamps that the replica stored or promised bind it.
        let stored = replica.live.rows.iter().flat_map(Row::entries).map(|entry| entry.stamp);
        let promised = self.promises.values().filter(|(index, _)| *index == at);
        let bound = stored.chain(promised.map(|(_, promise)| promise.stamp)).max();
        replica.hlc = (wall % (replica.hlc + 1)).max(bound.unwrap_or_default().0);
        self.promises.insert(self.actor(at), (at, Promise::default()));
    }

    fn settle(&mut self) {
        for Message { to, key, delta } in std::mem::take(&mut self.network) {
            self.apply(to, key, delta);
        }
        for _ in 0..2 {
            for to in 0..self.replicas.len() {
                for from in (0..self.replicas.len()).filter(|from| *from != to) {
                    self.pull(to, from);
                }
            }
        }
    }

    fn check(&self, keys: usize) -> Result<(), WrongWinner> {
        let alive = |dot: Dot| self.replicas.iter().any(|r| r.live.clock.contains(dot));
        let rank = |entry: &Entry| (entry.stamp, entry.dot);
        for key in 0..keys {
            let of_key = self.written.values().filter(|(of, _)| *of == key).map(|(_, entry)| entry);
            let winner = of_key.filter(|entry| alive(entry.dot)).max_by_key(|entry| rank(entry));
            let wanted = winner.filter(|entry| entry.value.is_some()).map(rank);
            for (replica, state) in self.replicas.iter().enumerate() {
                let shown = state.live.rows[key].visible(Millis(0)).next().map(rank);
                if shown != wanted {
                    return Err(WrongWinner { replica, key, shown, wanted });
                }
            }
        }
        Ok(())
    }
}
