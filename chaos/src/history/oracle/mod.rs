//! What was written, by whom, knowing what, and what became of it: told by clients and by the wire,
//! never by asking replicas to judge themselves.

mod facts;
mod losses;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_crdt::{Context, Dot, Row};
use meridian_service::Effect;
use meridian_types::{KeyspaceId, NodeId, VnodeId};

pub use self::facts::{Mint, Reused, Sure, Told, Try, VnodeDot, Write};
use super::{
    Answer, Ask, Attempt, Final, Invocation, Key, Loss, LossCause, Observation, OpId, Sample,
    Setting, What, WriteAnswer, WriteAsk, WriteName,
};
use crate::sim::Micros;

/// All that was written.
#[derive(Clone, Debug)]
pub struct Oracle {
    setting: Arc<Setting>,
    writes: BTreeMap<WriteName, Write>,
    by_attempt: BTreeMap<Attempt, Vec<WriteName>>,
    minted: BTreeMap<VnodeDot, Mint>,
    dots_of: BTreeMap<Key, BTreeSet<Dot>>,
    writes_of: BTreeMap<Key, BTreeSet<WriteName>>,
    losses: Vec<Loss>,
    replaced: BTreeMap<NodeId, BTreeSet<LossCause>>,
    acks_are_told: bool,
    reused: Vec<Reused>,
    alive: BTreeMap<(KeyspaceId, VnodeId), Context>,
}

impl Oracle {
    /// An oracle of a run in which nothing has happened.
    #[must_use]
    pub fn new(setting: Arc<Setting>) -> Self {
        Self {
            setting,
            writes: BTreeMap::new(),
            by_attempt: BTreeMap::new(),
            minted: BTreeMap::new(),
            dots_of: BTreeMap::new(),
            writes_of: BTreeMap::new(),
            losses: Vec::new(),
            replaced: BTreeMap::new(),
            acks_are_told: false,
            reused: Vec::new(),
            alive: BTreeMap::new(),
        }
    }

    /// Takes note.
    pub fn observe(&mut self, observation: &Observation) {
        let at = observation.at;
        match &observation.what {
            What::Invoked(invocation) => self.invoked(at, invocation),
            What::Returned { attempt, answer } => self.returned(at, *attempt, answer),
            What::Minted { write, key, dot, stamp, context } => {
                let on_wire = context.is_some().then_some(at);
                let (write, context) = (*write, context.clone());
                let (dot, stamp, key) = (*dot, *stamp, *key);
                let acks = BTreeMap::new();
                self.minted(Mint { dot, write, key, stamp, context, on_wire, acks });
            }
            What::ReplicaAcked { node, key, dot } => self.acked(at, *node, *key, *dot),
            What::Lost(loss) => self.losses.push(loss.clone()),
            What::DiskChanged { node, cause } => {
                self.replaced.entry(*node).or_default().insert(*cause);
            }
            What::Sampled(Sample { vnodes, .. }) => {
                for rows in vnodes.values().flat_map(BTreeMap::values).map(|vnode| &vnode.rows) {
                    self.learn(rows);
                }
            }
            _ => {}
        }
    }

    /// Takes note of what replicas have in the end.
    pub fn end(&mut self, end: &Final) {
        for replica in end.replicas.values() {
            for (place, vnode) in &replica.vnodes {
                self.learn(&vnode.rows);
                if replica.sound {
                    let alive = self.alive.entry(*place).or_default();
                    alive.union_with(&vnode.clock.to_context());
                }
            }
        }
    }

    /// What is fixed.
    #[must_use]
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// All writes.
    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.writes.values()
    }

    /// One write.
    #[must_use]
    pub fn write(&self, name: WriteName) -> Option<&Write> {
        self.writes.get(&name)
    }

    /// The writes of a key.
    pub fn writes_of(&self, key: Key) -> impl Iterator<Item = &Write> {
        self.writes_of.get(&key).into_iter().flatten().filter_map(|name| self.writes.get(name))
    }

    /// The dots of a key.
    pub fn mints_of(&self, key: Key) -> impl Iterator<Item = &Mint> {
        let dots = self.dots_of.get(&key).into_iter().flatten();
        dots.filter_map(move |dot| self.mint(key, *dot))
    }

    /// What is known of a dot.
    #[must_use]
    pub fn mint(&self, key: Key, dot: Dot) -> Option<&Mint> {
        self.minted.get(&self.place(key, dot)?)
    }

    /// Losses, in the order in which they were found.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Dots that name two writes.
    #[must_use]
    pub fn reused(&self) -> &[Reused] {
        &self.reused
    }

    /// Whether acknowledgements of replicas are told in this run.
    #[must_use]
    pub fn acks_are_told(&self) -> bool {
        self.acks_are_told
    }

    /// What was done to a node's disk.
    #[must_use]
    pub fn disk_changes(&self, node: NodeId) -> &BTreeSet<LossCause> {
        static NONE: BTreeSet<LossCause> = BTreeSet::new();
        self.replaced.get(&node).unwrap_or(&NONE)
    }

    /// Whether a sound replica has this dot in the end.
    #[must_use]
    pub fn is_alive(&self, key: Key, dot: Dot) -> bool {
        let Some(VnodeDot { keyspace, vnode, .. }) = self.place(key, dot) else { return false };
        self.alive.get(&(keyspace, vnode)).is_some_and(|alive| alive.contains(dot))
    }

    /// Whether one dot covers another.
    #[must_use]
    pub fn covers(&self, by: &Mint, dot: Dot) -> Sure {
        let yes_if = |covers| if covers { Sure::Yes } else { Sure::No };
        if by.dot == dot {
            return Sure::No;
        }
        if let Some(context) = &by.context {
            return yes_if(context.contains(dot));
        }
        match by.write.and_then(|name| self.writes.get(&name)) {
            Some(write) if write.covers_what_is_there() => Sure::Maybe,
            Some(write) => yes_if(write.context.as_ref().is_some_and(|c| c.contains(dot))),
            None => Sure::Maybe,
        }
    }

    /// Whether anything that was asked for before `until` covers a dot, and what does. Writes that
    /// never showed a dot may have had one.
    #[must_use]
    pub fn covered(&self, key: Key, dot: Dot, until: Micros) -> (Sure, Option<WriteName>) {
        let mut found = (Sure::No, None);
        for mint in self.mints_of(key) {
            let sure = self.covers(mint, dot);
            if sure > found.0 && self.asked_before(mint, until) {
                found = (sure, mint.write);
            }
        }
        if found.0 == Sure::No {
            let own = self.mint(key, dot).and_then(|mint| mint.write);
            let hidden = self
                .writes_of(key)
                .find(|w| Some(w.name) != own && w.invoked() <= until && Self::may_hide(w, dot));
            if let Some(write) = hidden {
                found = (Sure::Maybe, Some(write.name));
            }
        }
        found
    }

    /// Whether a write may have a dot that nobody saw, which covers this one.
    fn may_hide(write: &Write, dot: Dot) -> bool {
        let unseen = write.dots.is_empty() || write.tries.len() > 1;
        let may_cover = write.covers_what_is_there()
            || write.context.as_ref().is_some_and(|context| context.contains(dot));
        unseen && write.may_exist() && may_cover
    }

    fn asked_before(&self, mint: &Mint, until: Micros) -> bool {
        let write = mint.write.and_then(|name| self.writes.get(&name));
        write.is_none_or(|write| write.invoked() <= until)
    }

    /// The vnode of a key, with a dot of it.
    #[must_use]
    pub fn place(&self, key: Key, dot: Dot) -> Option<VnodeDot> {
        let keyspace = self.setting.tables.get(&key.table)?.keyspace;
        let vnode = self.setting.keys.get(&key)?.vnode;
        Some(VnodeDot { keyspace, vnode, dot })
    }

    fn invoked(&mut self, at: Micros, invocation: &Invocation) {
        let Invocation { attempt, node, dc, level, ask, .. } = invocation;
        let (batch, asks) = match ask {
            Ask::Write(write) => (None, std::slice::from_ref(write)),
            Ask::Batch { atomic, writes } => (atomic.then_some(attempt.op), writes.as_slice()),
            Ask::Get(_) | Ask::MultiGet(_) | Ask::Scan { .. } => return,
        };
        let (node, dc, level) = (*node, *dc, *level);
        for ask in asks {
            let attempt = Try { attempt: *attempt, invoked: at, node, dc, level, told: None };
            self.tried(ask, batch, attempt);
        }
        self.by_attempt.insert(*attempt, asks.iter().map(|ask| ask.write).collect());
    }

    fn tried(&mut self, ask: &WriteAsk, batch: Option<OpId>, attempt: Try) {
        let WriteAsk { write: name, key, kind, context, .. } = ask;
        self.writes_of.entry(*key).or_default().insert(*name);
        let write = self.writes.entry(*name).or_insert_with(|| Write {
            name: *name,
            key: *key,
            kind: *kind,
            context: context.clone(),
            batch,
            tries: Vec::new(),
            dots: BTreeSet::new(),
        });
        write.tries.push(attempt);
    }

    fn returned(&mut self, at: Micros, attempt: Attempt, answer: &Answer) {
        let Some(names) = self.by_attempt.get(&attempt) else { return };
        for (n, name) in names.iter().enumerate() {
            let told = match answer {
                Answer::Failed(failure) => told_of(failure.effect),
                Answer::Read(_) => Told::Unknown,
                Answer::Written(answers) => match answers.get(n) {
                    Some(WriteAnswer::Done { applied: true, stamp, .. }) => {
                        Told::Done { stamp: *stamp }
                    }
                    Some(WriteAnswer::Done { applied: false, .. }) => Told::NotApplied,
                    Some(WriteAnswer::Failed(failure)) => told_of(failure.effect),
                    None => Told::Unknown,
                },
            };
            let tries = self.writes.get_mut(name).into_iter().flat_map(|w| &mut w.tries);
            // A second answer is another check's business; the first counts.
            for one in tries.filter(|t| t.attempt == attempt && t.told.is_none()) {
                one.told = Some((at, told));
            }
        }
    }

    fn minted(&mut self, mint: Mint) {
        let Some(place) = self.place(mint.key, mint.dot) else { return };
        if let Some(write) = mint.write.and_then(|name| self.writes.get_mut(&name)) {
            write.dots.insert(mint.dot);
        }
        self.dots_of.entry(mint.key).or_default().insert(mint.dot);
        let Some(known) = self.minted.get_mut(&place) else {
            self.minted.insert(place, mint);
            return;
        };
        let one_write = match (known.write, mint.write) {
            (Some(one), Some(other)) => one == other,
            _ => known.stamp == mint.stamp,
        };
        if known.key != mint.key || !one_write {
            let reused =
                Reused { dot: place, one: (known.key, known.write), other: (mint.key, mint.write) };
            if !self.reused.contains(&reused) {
                self.reused.push(reused);
            }
            return;
        }
        known.write = known.write.or(mint.write);
        known.on_wire = known.on_wire.or(mint.on_wire);
        if known.context.is_none() {
            known.context = mint.context;
        }
    }

    fn acked(&mut self, at: Micros, node: NodeId, key: Key, dot: Dot) {
        self.acks_are_told = true;
        let place = self.place(key, dot);
        if let Some(mint) = place.and_then(|place| self.minted.get_mut(&place)) {
            mint.acks.entry(node).or_default().push(at);
        }
    }

    fn learn(&mut self, rows: &BTreeMap<Key, Row>) {
        for (key, row) in rows {
            for entry in row.entries() {
                let known = self.mint(*key, entry.dot).is_some_and(|known| {
                    let named = known.write.is_some() || entry.value.is_none();
                    named && known.stamp == entry.stamp && same_write(known, entry.value.as_deref())
                });
                if !known {
                    self.minted(Mint {
                        dot: entry.dot,
                        write: entry.value.as_deref().and_then(WriteName::of_value),
                        key: *key,
                        stamp: entry.stamp,
                        context: None,
                        on_wire: None,
                        acks: BTreeMap::new(),
                    });
                }
            }
        }
    }
}

fn same_write(known: &Mint, value: Option<&[u8]>) -> bool {
    value.is_none_or(|value| WriteName::of_value(value) == known.write)
}

fn told_of(effect: Effect) -> Told {
    match effect {
        Effect::NotApplied => Told::NotApplied,
        Effect::Unknown => Told::Unknown,
    }
}
