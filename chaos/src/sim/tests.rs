//! All parts together: a small world whose nodes pass messages on, under faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use meridian_transport::{Class, Handshake, LinkOptions, LinkState};
use meridian_types::{Incarnation, NodeId};
use parking_lot::Mutex;

use super::*;

const NODES: u32 = 4;

/// Tasks of each node: they share a stream of chance, so that their order shows.
const TASKS: usize = 3;

enum Event {
    Link(LinkEvent),
    /// The world sends something to a node.
    Stir(NodeId),
    Fault(u64),
}

type Outbox = Arc<Mutex<Vec<(StreamId, Bytes)>>>;

struct Node {
    life: u32,
    inboxes: Vec<mpsc::UnboundedSender<Bytes>>,
    next: usize,
}

struct World {
    now: Micros,
    streams: Streams,
    queue: Queue<Event>,
    executor: Executor,
    tasks: Draw,
    faults: Draw,
    fabric: Fabric,
    out: LinkActions,
    outbox: Outbox,
    nodes: BTreeMap<NodeId, Node>,
    trace: Trace,
}

/// Passes a message on to another node, one hop less.
async fn pass_on(
    node: NodeId,
    draw: Arc<Mutex<Draw>>,
    mut inbox: mpsc::UnboundedReceiver<Bytes>,
    outbox: Outbox,
) {
    while let Some(message) = inbox.next().await {
        let [hops, rest @ ..] = &message[..] else { continue };
        if *hops == 0 {
            continue;
        }
        let mut draw = draw.lock();
        let to = NodeId(u32::try_from(draw.between(1, NODES.into())).unwrap());
        let class = *draw.pick(&Class::EVERY).unwrap();
        let message = [&[hops - 1], rest].concat();
        outbox.lock().push((StreamId { from: node, to, class }, message.into()));
    }
}

impl World {
    fn new(seed: u64, order: Order) -> Self {
        let streams = Streams::new(seed);
        let nodes = || (1..=NODES).map(NodeId);
        let pairs = nodes().flat_map(|a| nodes().map(move |b| (a, b)));
        let way = Way {
            latency: Micros::from_millis(20),
            jitter: Micros::from_millis(15),
            ..Way::default()
        };
        let ways = pairs.filter(|(a, b)| a != b).map(|pair| (pair, way)).collect();
        let handshake = Handshake {
            cluster: "test".to_owned(),
            node: NodeId(0),
            incarnation: Incarnation(0),
            protocol: 1,
        };
        let options = LinkOptions::new(([127, 0, 0, 1], 0).into(), handshake, Vec::new());
        let fabric = Fabric::new((&options).into(), streams.draw(Purpose::Network), ways);
        let mut world = Self {
            now: Micros::ZERO,
            streams,
            queue: Queue::default(),
            executor: Executor::new(order),
            tasks: streams.draw(Purpose::Tasks),
            faults: streams.draw(Purpose::Faults),
            fabric,
            out: LinkActions::default(),
            outbox: Outbox::default(),
            nodes: BTreeMap::new(),
            trace: Trace::default(),
        };
        for node in nodes() {
            world.start(node, 0);
        }
        for number in 1..20 {
            let node = NodeId(1 + number % NODES);
            world.queue.push(Micros::from_millis(u64::from(number) * 1_000), Event::Stir(node));
            world.queue.push(Micros::from_millis(u64::from(number) * 1_300), Event::Fault(0));
        }
        world
    }

    fn start(&mut self, id: NodeId, life: u32) {
        let (owner, mut inboxes) = (Owner::Node { id, life }, Vec::new());
        let draw = Arc::new(Mutex::new(self.streams.draw(Purpose::Node(id))));
        for _ in 0..TASKS {
            let (sender, inbox) = mpsc::unbounded();
            inboxes.push(sender);
            let (draw, outbox) = (Arc::clone(&draw), Arc::clone(&self.outbox));
            self.executor.spawn(owner, pass_on(id, draw, inbox, outbox));
        }
        self.nodes.insert(id, Node { life, inboxes, next: 0 });
        self.fabric.start(self.now, id, Incarnation(u64::from(life) + 1), &mut self.out);
    }

    fn crash(&mut self, id: NodeId, death: Death) {
        let life = self.nodes[&id].life;
        self.executor.kill(Owner::Node { id, life });
        self.fabric.stop(self.now, id, death, &mut self.out);
        self.start(id, life + 1);
    }

    fn note(&mut self, node: NodeId, what: &'static str, message: &[u8]) {
        let owner = Owner::Node { id: node, life: self.nodes[&node].life };
        self.trace.note_message(self.now, owner, what, message);
    }

    /// Gives a message to the next of the node's tasks.
    fn hand(&mut self, at: NodeId, message: Bytes) {
        self.note(at, "received", &message);
        let node = self.nodes.get_mut(&at).unwrap();
        node.next = (node.next + 1) % TASKS;
        node.inboxes[node.next].unbounded_send(message).unwrap();
    }

    fn fault(&mut self, kind: u64) {
        let a = NodeId(1 + u32::try_from(self.faults.below(NODES.into())).unwrap());
        let b = NodeId(1 + a.0 % NODES);
        let owner = Owner::Node { id: a, life: self.nodes[&a].life };
        let now = self.now;
        let (begins, kind) =
            if kind == 0 { (true, self.faults.between(1, 4)) } else { (false, kind) };
        match kind {
            1 => self.fabric.change(now, a, b, |way| way.cut = begins, &mut self.out),
            2 => self.crash(a, Death::Process),
            3 => self.crash(a, Death::Power),
            _ if self.executor.is_frozen(owner) => {
                self.executor.thaw(owner);
                self.fabric.thaw(now, a, &mut self.out);
            }
            _ => {
                self.executor.freeze(owner);
                self.fabric.freeze(now, a, &mut self.out);
            }
        }
        if begins {
            let ends = now + Micros(self.faults.below(5_000_000));
            self.queue.push(ends, Event::Fault(kind));
        }
    }

    /// Carries out what follows, until nothing does.
    fn settle(&mut self) {
        loop {
            self.executor.run_ready(&mut self.tasks).unwrap();
            let sent = std::mem::take(&mut *self.outbox.lock());
            for (id, message) in sent {
                let sent = self.fabric.send(self.now, id, message.clone(), &mut self.out);
                self.note(id.from, if sent.is_ok() { "sent" } else { "refused" }, &message);
            }
            for (at, event) in std::mem::take(&mut self.out.planned) {
                self.queue.push(at, Event::Link(event));
            }
            let told = std::mem::take(&mut self.out.told);
            if told.is_empty() {
                return;
            }
            for told in told {
                match told {
                    Told::Received { at, message, .. } => self.hand(at, message),
                    Told::Changed { at, peer, state } => {
                        let up = state != LinkState::Down;
                        let what = if up { "up" } else { "down" };
                        self.note(at, what, &peer.0.to_le_bytes());
                    }
                }
            }
        }
    }

    /// Runs to the end, and returns the trace.
    fn run(mut self) -> Trace {
        self.settle();
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            match event {
                Event::Link(event) => self.fabric.step(at, event, &mut self.out),
                Event::Stir(node) => {
                    for number in 0..10 {
                        self.hand(node, Bytes::from(vec![20, number]));
                    }
                }
                Event::Fault(kind) => self.fault(kind),
            }
            self.settle();
        }
        self.trace
    }
}

fn hash(seed: u64, order: Order) -> u64 {
    World::new(seed, order).run().hash()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut hashes = Vec::new();
    for seed in 1..=20 {
        let trace = World::new(seed, Order::Seeded).run();
        assert_eq!(hash(seed, Order::Seeded), trace.hash(), "seed {seed}");
        for what in ["sent", "received", "up", "down"] {
            assert!(trace.last().any(|line| line.what == what), "seed {seed}: nothing {what}");
        }
        hashes.push(trace.hash());
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 20, "seeds differ");
}

#[test]
fn the_order_of_tasks_is_exercised() {
    assert!((1..=5).any(|seed| hash(seed, Order::Fifo) != hash(seed, Order::Seeded)));
}
