//! Random histories of three stores against a naive model of each: a map of rows and a clock, by
//! the rules as written, without merge operands, stripping or files.
//!
//! After every step each store shows exactly what its model has. After a power cut it shows a state
//! that its model had at some moment, no older than the last sync: rows and clocks together. Equal
//! clocks mean equal visible rows. In the end everybody pulls from everybody, and all are equal.

use meridian_crdt::{Coverage, Delta, Entry, VnodeClock};
use meridian_types::VnodeId;
use meridian_vfs::CrashChoice;
use proptest::prelude::*;

use super::pulls::{Extent, keyspace, pull_vnode};
use super::*;

const TABLES: [(&str, ConflictPolicy); 2] =
    [("ks.siblings", ConflictPolicy::Siblings), ("ks.lww", ConflictPolicy::Lww)];
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const VNODES: [VnodeId; 2] = [VnodeId(0), VnodeId(1)];

/// A row of the model: (table, key).
type At = (usize, usize);

#[derive(Clone, Debug)]
enum Step {
    Mint {
        node: usize,
        at: At,
        context: Seen,
        delete: bool,
    },
    /// Takes the token that later puts with [`Seen::Token`] carry.
    ReadToken {
        node: usize,
        at: At,
    },
    Deliver {
        node: usize,
        delta: usize,
    },
    Repair {
        nodes: [usize; 2],
        at: At,
    },
    Pull {
        to: usize,
        from: usize,
        vnode: usize,
        pages: Option<usize>,
        bytes: usize,
    },
    Flush {
        node: usize,
        compact: bool,
    },
    Sync {
        node: usize,
    },
    Restart {
        node: usize,
    },
    Crash {
        node: usize,
        torn: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Seen {
    Nothing,
    Token,
    WhatIsHere,
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0usize..3;
    let at = || (0..TABLES.len(), 0..KEYS.len());
    let seen = prop_oneof![Just(Seen::Nothing), Just(Seen::Token), Just(Seen::WhatIsHere)];
    let pages = || prop_oneof![3 => Just(None), 1 => (0usize..3).prop_map(Some)];
    prop_oneof![
        12 => (node(), at(), seen, prop::bool::weighted(0.25))
            .prop_map(|(node, at, context, delete)| Step::Mint { node, at, context, delete }),
        4 => (node(), at()).prop_map(|(node, at)| Step::ReadToken { node, at }),
        10 => (node(), any::<usize>()).prop_map(|(node, delta)| Step::Deliver { node, delta }),
        3 => (node(), node(), at()).prop_map(|(a, b, at)| Step::Repair { nodes: [a, b], at }),
        6 => (node(), node(), 0..2usize, pages(), prop_oneof![Just(1usize), Just(1 << 20)])
            .prop_map(|(to, from, vnode, pages, bytes)| {
                Step::Pull { to, from, vnode, pages, bytes }
            }),
        2 => (node(), any::<bool>()).prop_map(|(node, compact)| Step::Flush { node, compact }),
        2 => node().prop_map(|node| Step::Sync { node }),
        1 => node().prop_map(|node| Step::Restart { node }),
        2 => (node(), proptest::option::of(any::<u64>()))
            .prop_map(|(node, torn)| Step::Crash { node, torn }),
    ]
}

/// What one store should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    rows: BTreeMap<At, Row>,
    clocks: [VnodeClock; 2],
}

impl Model {
    fn row(&self, at: At) -> Row {
        self.rows.get(&at).cloned().unwrap_or_default()
    }

    /// Rule 4, as it is written.
    fn apply(&mut self, at: At, vnode: VnodeId, delta: &Delta) {
        let clock = &mut self.clocks[vnode.0 as usize];
        if clock.contains(delta.entry.dot) {
            return;
        }
        let mut row = self.rows.get(&at).cloned().unwrap_or_default();
        let mine = Coverage { clock: Some(clock), context: row.context() };
        match TABLES[at.0].1 {
            ConflictPolicy::Lww => {
                let other = Row::new([delta.entry.clone()], Context::default());
                let none = Context::default();
                let mine_context = Coverage { clock: mine.clock, context: &none };
                let mut joined = Row::new(row.entries().to_vec(), Context::default());
                joined.join(ConflictPolicy::Lww, &mine_context, &other, &none);
                row = joined;
            }
            ConflictPolicy::Siblings => {
                let stays = |entry: &&Entry| !delta.context.contains(entry.dot);
                let mut entries: Vec<Entry> = row.entries().iter().filter(stays).cloned().collect();
                if !row.context().contains(delta.entry.dot) {
                    entries.push(delta.entry.clone());
                }
                let mut context = row.context().clone();
                context.union_with(&delta.context);
                row = Row::new(entries, context);
            }
        }
        clock.insert(delta.entry.dot);
        self.rows.insert(at, row);
    }

    /// Rule 6.
    fn join(&mut self, at: At, vnode: VnodeId, other: &Row, theirs: &Context) {
        let mut row = self.row(at);
        let clock = &mut self.clocks[vnode.0 as usize];
        row.join_answer(TABLES[at.0].1, clock, other, theirs);
        self.rows.insert(at, row);
    }
}

/// A store with its model, and the models that it may come back as after a power cut.
struct Replica {
    node: Node,
    model: Model,
    since_sync: Vec<Model>,
}

impl Replica {
    fn row_key(&self, at: At) -> RowKey {
        self.node.row(TABLES[at.0].0, KEYS[at.1])
    }

    /// Changes the model as one batch of the store does: a power cut may come before it or after.
    fn change(&mut self, change: impl FnOnce(&mut Model)) {
        change(&mut self.model);
        self.since_sync.push(self.model.clone());
    }

    fn synced(&mut self) {
        self.since_sync = vec![self.model.clone()];
    }

    /// Whether the store shows what a model has.
    fn shows(&self, model: &Model) -> Result<(), String> {
        for vnode in VNODES {
            let (has, wants) =
                (self.node.store.clock(keyspace(), vnode), &model.clocks[vnode.0 as usize]);
            if *has != *wants {
                return Err(format!("clock of {vnode}: {has:?} instead of {wants:?}"));
            }
        }
        for at in rows() {
            let version = self.node.store.read(&self.row_key(at)).unwrap();
            let wants = model.row(at);
            let clock = &model.clocks[vnode_of(at).0 as usize];
            if *version.clock != *clock
                || version.row.entries() != wants.entries()
                || version.row.context().stripped(clock) != wants.context().stripped(clock)
            {
                return Err(format!("row {at:?}: {version:?} instead of {wants:?}"));
            }
        }
        Ok(())
    }

    /// Rule behind every read: what the clock covers is there, or something that replaced it is.
    fn clock_covers_entries(&self) -> bool {
        rows().all(|at| {
            let version = self.node.store.read(&self.row_key(at)).unwrap();
            version.row.entries().iter().all(|entry| version.clock.contains(entry.dot))
        })
    }
}

fn vnode_of(at: At) -> VnodeId {
    let count = meridian_topology::VnodeCount::new(2).unwrap();
    count.vnode_of(meridian_types::Partitioner::default().token(KEYS[at.1].as_bytes()))
}

fn place((id, key): &(TableId, Bytes)) -> At {
    rows().find(|at| table(TABLES[at.0].0) == *id && KEYS[at.1] == key).unwrap()
}

fn rows() -> impl Iterator<Item = At> {
    (0..TABLES.len()).flat_map(|table| (0..KEYS.len()).map(move |key| (table, key)))
}

struct World {
    replicas: Vec<Replica>,
    deltas: Vec<(At, Delta)>,
    tokens: BTreeMap<At, Context>,
    fresh: u64,
    values: u64,
    /// Pulls that break off join the clock all the same: to see that the check can fail.
    clock_of_broken_pulls: bool,
}

impl World {
    fn new() -> Self {
        let replica = |number| {
            let mut node = Node::new(number);
            node.store.sync().unwrap();
            node.opened.clean = true;
            Replica { node, model: Model::default(), since_sync: vec![Model::default()] }
        };
        Self {
            replicas: (1..=3).map(replica).collect(),
            deltas: Vec::new(),
            tokens: BTreeMap::new(),
            fresh: 10_000,
            values: 0,
            clock_of_broken_pulls: false,
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Mint { node, at, context, delete } => self.mint(node, at, context, delete),
            Step::ReadToken { node, at } => {
                let token = self.replicas[node].node.token(TABLES[at.0].0, KEYS[at.1]);
                self.tokens.insert(at, token);
            }
            Step::Deliver { node, delta } => self.deliver(node, delta),
            Step::Repair { nodes, at } => self.repair(nodes, at),
            Step::Pull { to, from, vnode, pages, bytes } => {
                self.pull(to, from, VNODES[vnode], pages, bytes);
            }
            Step::Flush { node, compact } => {
                let replica = &mut self.replicas[node];
                replica.node.store.flush().unwrap();
                if compact {
                    for (name, _) in TABLES {
                        replica.node.store.compact(table(name)).unwrap();
                    }
                }
            }
            Step::Sync { node } => {
                self.replicas[node].node.store.sync().unwrap();
                self.replicas[node].synced();
            }
            Step::Restart { node } => self.restart(node),
            Step::Crash { node, torn } => self.crash(node, torn)?,
        }
        for (number, replica) in self.replicas.iter().enumerate() {
            replica.shows(&replica.model).map_err(|what| format!("store {number}: {what}"))?;
            assert!(replica.clock_covers_entries());
        }
        self.equal_clocks_mean_equal_rows()
    }

    fn mint(&mut self, node: usize, at: At, context: Seen, delete: bool) {
        let replica = &mut self.replicas[node];
        let (row, vnode) = (replica.row_key(at), vnode_of(at));
        self.values += 1;
        let value = (!delete).then(|| Bytes::from(self.values.to_string()));
        let context = match context {
            Seen::Nothing => WriteContext::None,
            Seen::Token => {
                self.tokens.get(&at).cloned().map_or(WriteContext::None, WriteContext::Seen)
            }
            Seen::WhatIsHere => WriteContext::WhatIsHere,
        };
        let write = LocalWrite { value, context, ..LocalWrite::default() };
        let minted = replica.node.store.mint(&row, write, NOW).unwrap();
        let mut earlier = self.deltas.iter().filter(|(at, _)| vnode_of(*at) == vnode);
        assert!(earlier.all(|(_, delta)| delta.entry.dot != minted.delta.entry.dot));
        replica.change(|model| model.apply(at, vnode, &minted.delta));
        self.deltas.push((at, minted.delta));
    }

    fn deliver(&mut self, node: usize, delta: usize) {
        if self.deltas.is_empty() {
            return;
        }
        let (at, delta) = self.deltas[delta % self.deltas.len()].clone();
        let replica = &mut self.replicas[node];
        let (row, vnode) = (replica.row_key(at), vnode_of(at));
        let known = replica.model.clocks[vnode.0 as usize].contains(delta.entry.dot);
        let applied = replica.node.store.apply(&row, &delta, None, NOW).unwrap();
        assert_eq!(applied.new, !known);
        replica.change(|model| model.apply(at, vnode, &delta));
    }

    /// As a coordinator does it: both versions joined, and the joined one given to both.
    fn repair(&mut self, nodes: [usize; 2], at: At) {
        let [a, b] = nodes.map(|node| {
            let replica = &self.replicas[node];
            replica.node.store.read(&replica.row_key(at)).unwrap()
        });
        let mut row = a.row.clone();
        let mine = Coverage { clock: Some(&a.clock), context: a.row.context() };
        let theirs = Coverage { clock: Some(&b.clock), context: b.row.context() };
        row.join(TABLES[at.0].1, &mine, &b.row, &theirs);
        let mut coverage = a.row.full_context(&a.clock);
        coverage.union_with(&b.row.full_context(&b.clock));
        for node in nodes {
            let replica = &mut self.replicas[node];
            let vnode = vnode_of(at);
            replica.node.store.join(&replica.row_key(at), &row, &coverage).unwrap();
            replica.change(|model| model.join(at, vnode, &row, &coverage));
        }
    }

    fn pull(&mut self, to: usize, from: usize, vnode: VnodeId, pages: Option<usize>, bytes: usize) {
        if to == from {
            return;
        }
        let extent = match pages {
            None => Extent::Whole,
            Some(pages) if self.clock_of_broken_pulls => Extent::PagesAndClock(pages),
            Some(pages) => Extent::Pages(pages),
        };
        let source = self.replicas[from].model.clone();
        let [target, peer] = [to, from].map(|node| &self.replicas[node].node.store);
        let pulled = pull_vnode(target, peer, vnode, extent, bytes);
        let theirs = &source.clocks[vnode.0 as usize];
        let replica = &mut self.replicas[to];
        let mine = &replica.model.clocks[vnode.0 as usize];
        let is_news = |at: &At| {
            let mut row = source.row(*at);
            row.strip(theirs);
            let is_news = !theirs.is_covered_by(mine) && row.is_news_to(mine);
            vnode_of(*at) == vnode && is_news
        };
        let news: Vec<At> = rows().filter(is_news).collect();
        let sent: Vec<At> = pulled.rows.iter().map(place).collect();
        assert!(sent.iter().all(|at| news.contains(at)), "{sent:?} of {news:?}");
        assert!(extent != Extent::Whole || sent.len() == news.len(), "{sent:?} of {news:?}");
        for at in sent {
            let row = source.row(at);
            replica.change(|model| model.join(at, vnode, &row, &row.full_context(theirs)));
        }
        if pulled.clock {
            replica.change(|model| model.clocks[vnode.0 as usize].join(theirs));
        }
    }

    fn next_fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    fn restart(&mut self, node: usize) {
        let fresh = self.next_fresh();
        let replica = self.replicas.remove(node);
        let before = replica.node.store.actor();
        let node_after = replica.node.restarted(fresh);
        assert_eq!(node_after.store.actor(), before, "a tidy stop keeps the incarnation");
        self.replicas.insert(node, Replica { node: node_after, ..replica });
        self.replicas[node].synced();
    }

    fn crash(&mut self, node: usize, torn: Option<u64>) -> Result<(), String> {
        let fresh = self.next_fresh();
        let choice = torn.map_or(CrashChoice::LoseUnsynced, CrashChoice::Torn);
        let replica = self.replicas.remove(node);
        let fs = replica.node.fs.crash_clone(choice);
        let metadata = replica.node.metadata.crash_clone();
        let before = replica.node.store.actor();
        let after = Node::on(replica.node.number, fs, metadata, fresh);
        assert_ne!(after.store.actor(), before, "a crash begins a new incarnation");
        let mut replica = Replica { node: after, ..replica };
        let found = replica.since_sync.iter().find(|model| replica.shows(model).is_ok()).cloned();
        let Some(model) = found else {
            let why = replica.shows(&replica.since_sync[0]);
            return Err(format!("store {node} came back as nothing that it was: {why:?}"));
        };
        replica.model = model;
        replica.synced();
        self.replicas.insert(node, replica);
        Ok(())
    }

    fn equal_clocks_mean_equal_rows(&self) -> Result<(), String> {
        for (number, a) in self.replicas.iter().enumerate() {
            for b in &self.replicas[number + 1..] {
                for at in rows() {
                    let vnode = vnode_of(at).0 as usize;
                    let (x, y) = (a.model.row(at), b.model.row(at));
                    let same = x.visible(NOW).eq(y.visible(NOW));
                    if a.model.clocks[vnode] == b.model.clocks[vnode] && !same {
                        return Err(format!("equal clocks, and {at:?} is {x:?} and {y:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn converge(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            for (to, from) in [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)] {
                for vnode in VNODES {
                    self.pull(to, from, vnode, None, 200);
                }
            }
        }
        for replica in &self.replicas {
            replica.shows(&replica.model)?;
        }
        let [a, b, c] = [0, 1, 2].map(|number| &self.replicas[number].model.clocks);
        if a != b || b != c {
            return Err(format!("clocks differ after pulls: {a:?}, {b:?}, {c:?}"));
        }
        self.equal_clocks_mean_equal_rows()
    }
}

fn run(steps: &[Step], clock_of_broken_pulls: bool) -> Result<(), String> {
    let mut world = World::new();
    world.clock_of_broken_pulls = clock_of_broken_pulls;
    for (number, step) in steps.iter().enumerate() {
        world.take(step).map_err(|what| format!("step {number}, {step:?}: {what}"))?;
    }
    world.converge()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn stores_behave_as_their_models(steps in proptest::collection::vec(step(), 1..80)) {
        run(&steps, false).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn the_check_fails_when_a_broken_pull_joins_the_clock() {
    let write = |at| Step::Mint { node: 0, at, context: Seen::Nothing, delete: false };
    let pull = |pages| {
        let vnode = |vnode| Step::Pull { to: 1, from: 0, vnode, pages: Some(pages), bytes: 1 };
        [vnode(0), vnode(1)]
    };
    let steps: Vec<Step> = rows().map(write).chain(pull(1)).collect();
    assert_eq!(run(&steps, false), Ok(()));
    let failure = run(&steps, true).unwrap_err();
    assert!(failure.contains("equal clocks, and"), "{failure}");
}
