use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use meridian_transport::{Class, Handshake, LinkOptions, LinkState, SendRefused};
use meridian_types::{Incarnation, NodeId};
use proptest::prelude::*;

use super::*;
use crate::sim::{Purpose, Queue, Streams};

const NODES: u32 = 3;

/// What tests break, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// What was under way on a stream that broke arrives all the same.
    DeliverAfterBreak,
    /// A link that breaks is not told of.
    UpWithoutDown,
}

fn timing() -> LinkTiming {
    let cluster = "test".to_owned();
    let (node, incarnation) = (NodeId(0), Incarnation(0));
    let handshake = Handshake { cluster, node, incarnation, protocol: 1 };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    LinkTiming::from(&LinkOptions::new(listen, handshake, Vec::new()))
}

/// What one side of a link was told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    /// The peer's life, while the link is up.
    up: Option<Incarnation>,
    /// How often it was down: told so, or at a start.
    downs: u32,
}

/// A message: its number on its stream, and the sender's life.
fn encode(number: u64, life: Incarnation) -> Bytes {
    [number.to_le_bytes(), life.0.to_le_bytes()].concat().into()
}

fn decode(message: &Bytes) -> (u64, Incarnation) {
    let word = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().unwrap());
    (word(0), Incarnation(word(8)))
}

/// Drives a fabric, and holds what it tells against what `transport` promises.
struct World {
    now: Micros,
    queue: Queue<LinkEvent>,
    fabric: Fabric,
    out: LinkActions,
    lives: BTreeMap<NodeId, Incarnation>,
    frozen: Vec<NodeId>,
    next_life: u64,
    seen: BTreeMap<(NodeId, NodeId), Seen>,
    /// What each stream's sender knew when it sent each message, and which attempt to dial the
    /// stream came from.
    sent: BTreeMap<StreamId, Vec<(Seen, Option<u32>)>>,
    /// What each stream's receiver got, and what it knew then.
    received: BTreeMap<StreamId, Vec<(u64, Seen)>>,
    in_order: bool,
    violations: Vec<String>,
}

impl World {
    fn new(seed: u64, way: Way) -> Self {
        let mut ways = BTreeMap::new();
        for (from, to) in pairs() {
            ways.insert((from, to), way);
        }
        Self {
            now: Micros::ZERO,
            queue: Queue::default(),
            fabric: Fabric::new(timing(), Streams::new(seed).draw(Purpose::Network), ways),
            out: LinkActions::default(),
            lives: BTreeMap::new(),
            frozen: Vec::new(),
            next_life: 0,
            seen: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            in_order: true,
            violations: Vec::new(),
        }
    }

    /// A world whose nodes run and know each other.
    fn running(seed: u64, way: Way) -> Self {
        let mut world = Self::new(seed, way);
        for node in nodes() {
            world.start(node);
        }
        world.pass(Micros::from_secs(5));
        assert!(world.all_up(), "{:?}", world.seen);
        world
    }

    fn all_up(&self) -> bool {
        pairs().all(|(at, peer)| {
            let up = self.seen.get(&(at, peer)).and_then(|seen| seen.up);
            up.is_some() && up == self.lives.get(&peer).copied()
        })
    }

    fn seen(&self, at: NodeId, peer: NodeId) -> Seen {
        self.seen.get(&(at, peer)).copied().unwrap_or_default()
    }

    fn start(&mut self, node: NodeId) {
        if self.lives.contains_key(&node) {
            return;
        }
        self.next_life += 1;
        let life = Incarnation(self.next_life);
        self.lives.insert(node, life);
        for peer in nodes() {
            let seen = self.seen.entry((node, peer)).or_default();
            *seen = Seen { up: None, downs: seen.downs + 1 };
        }
        self.fabric.start(self.now, node, life, &mut self.out);
        self.settle();
    }

    fn stop(&mut self, node: NodeId, death: Death) {
        if self.lives.remove(&node).is_some() {
            self.frozen.retain(|frozen| *frozen != node);
            self.fabric.stop(self.now, node, death, &mut self.out);
            self.settle();
        }
    }

    fn freeze(&mut self, node: NodeId) {
        if self.lives.contains_key(&node) && !self.frozen.contains(&node) {
            self.frozen.push(node);
            self.fabric.freeze(self.now, node, &mut self.out);
            self.settle();
        }
    }

    fn thaw(&mut self, node: NodeId) {
        if self.frozen.contains(&node) {
            self.frozen.retain(|frozen| *frozen != node);
            self.fabric.thaw(self.now, node, &mut self.out);
            self.settle();
        }
    }

    fn cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        self.fabric.change(self.now, from, to, |way| way.cut = cut, &mut self.out);
        self.settle();
    }

    fn send(&mut self, id: StreamId) -> Result<(), SendRefused> {
        let runs = !self.frozen.contains(&id.from);
        let Some(life) = self.lives.get(&id.from).copied().filter(|_| runs) else {
            return Err(SendRefused::Down);
        };
        let seen = self.seen(id.from, id.to);
        let number = self.sent.entry(id).or_default().len() as u64;
        let message = encode(number, life);
        self.fabric.send(self.now, id, message, &mut self.out)?;
        let attempt = self.fabric.attempt(id, End::Dialer);
        self.sent.entry(id).or_default().push((seen, attempt));
        self.settle();
        Ok(())
    }

    fn pass(&mut self, time: Micros) {
        let until = self.now + time;
        while let Some(at) = self.queue.next_at().filter(|at| *at <= until) {
            assert!(at >= self.now, "planned in the past");
            self.now = at;
            let (_, event) = self.queue.pop().unwrap();
            self.fabric.step(at, event, &mut self.out);
            self.settle();
        }
        self.now = until;
    }

    fn settle(&mut self) {
        for (at, event) in std::mem::take(&mut self.out.planned) {
            self.queue.push(at, event);
        }
        for told in std::mem::take(&mut self.out.told) {
            match told {
                Told::Changed { at, peer, state } => self.changed(at, peer, state),
                Told::Received { at, from, class, message } => {
                    self.received(StreamId { from, to: at, class }, &message);
                }
            }
        }
    }

    fn require(&mut self, holds: bool, what: &str) {
        if !holds {
            self.violations.push(format!("{:?}: {what}", self.now));
        }
    }

    fn require_runs(&mut self, node: NodeId) {
        let runs = self.lives.contains_key(&node) && !self.frozen.contains(&node);
        self.require(runs, "who does not run is told nothing");
    }

    fn changed(&mut self, at: NodeId, peer: NodeId, state: LinkState) {
        self.require_runs(at);
        let mut seen = self.seen(at, peer);
        match state {
            LinkState::Up { incarnation } => {
                self.require(seen.up.is_none(), "down before up");
                seen.up = Some(incarnation);
            }
            LinkState::Down => {
                self.require(seen.up.is_some(), "down once");
                seen = Seen { up: None, downs: seen.downs + 1 };
            }
        }
        self.seen.insert((at, peer), seen);
    }

    fn received(&mut self, id: StreamId, message: &Bytes) {
        self.require_runs(id.to);
        let (number, life) = decode(message);
        let seen = self.seen(id.to, id.from);
        self.require(seen.up.is_none_or(|up| up == life), "from the life that is up");
        let sent = usize::try_from(number).ok().and_then(|at| self.sent[&id].get(at).copied());
        let same = sent.is_some_and(|(_, attempt)| attempt == self.fabric.attempt(id, End::Target));
        self.require(same, "on the stream that it was sent on");
        let before = self.received.entry(id).or_default().last().copied();
        let (next, then) = before.map_or((0, Seen::default()), |(n, seen)| (n + 1, seen));
        if self.in_order {
            self.require(number >= next, "in order, and once");
            let told = then.up.is_none() || seen.downs > then.downs;
            self.require(number == next || told, "none is lost in between");
        }
        self.received.entry(id).or_default().push((number, seen));
    }

    /// Ends all faults: then all are up in time, everything passes, and nothing is planned for
    /// ever. Who lost a message knows that it may have.
    fn finish(&mut self) {
        for (from, to) in pairs() {
            self.cut(from, to, false);
        }
        for node in nodes() {
            self.thaw(node);
            self.start(node);
        }
        self.pass(Micros::from_secs(30));
        let up = self.all_up();
        self.require(up, "all are up again");
        let quiet = self.queue.is_empty();
        self.require(quiet, "nothing is planned when nothing happens");
        for id in streams() {
            let sent = self.send(id).is_ok();
            self.require(sent, "what is up takes messages");
        }
        self.pass(Micros::from_secs(1));
        for id in streams() {
            let received = self.received.get(&id).cloned().unwrap_or_default();
            let sent = self.sent.get(&id).cloned().unwrap_or_default();
            let last = received.last().map(|(number, _)| number + 1);
            self.require(last == Some(sent.len() as u64), "what is up delivers");
            let now = self.seen(id.from, id.to);
            for (number, (then, _)) in (0_u64..).zip(&sent) {
                let lost = received.iter().all(|(n, _)| *n != number);
                let told = then.up.is_none() || now.downs > then.downs;
                self.require(!lost || told, "who lost something is told");
            }
        }
    }
}

fn nodes() -> impl Iterator<Item = NodeId> {
    (1..=NODES).map(NodeId)
}

fn pairs() -> impl Iterator<Item = (NodeId, NodeId)> {
    nodes().flat_map(|a| nodes().filter(move |b| *b != a).map(move |b| (a, b)))
}

fn streams() -> impl Iterator<Item = StreamId> {
    let every = |(from, to)| Class::EVERY.map(move |class| StreamId { from, to, class });
    pairs().flat_map(every)
}

fn stream(from: u32, to: u32, class: Class) -> StreamId {
    StreamId { from: NodeId(from), to: NodeId(to), class }
}

#[derive(Clone, Debug)]
enum Op {
    Send(usize, u8),
    Cut(usize, bool),
    Stop(u32, Death),
    Start(u32),
    Freeze(u32),
    Thaw(u32),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let node = 1..=NODES;
    let death = prop_oneof![Just(Death::Process), Just(Death::Power)];
    prop_oneof![
        6 => (0..18_usize, 1..20_u8).prop_map(|(stream, n)| Op::Send(stream, n)),
        3 => (0..6_usize, any::<bool>()).prop_map(|(pair, cut)| Op::Cut(pair, cut)),
        1 => (node.clone(), death).prop_map(|(node, death)| Op::Stop(node, death)),
        2 => node.clone().prop_map(Op::Start),
        1 => node.clone().prop_map(Op::Freeze),
        2 => node.prop_map(Op::Thaw),
        6 => (0..150_000_u64).prop_map(Op::Pass),
        2 => (0..16_000_000_u64).prop_map(Op::Pass),
    ]
}

fn way() -> Way {
    Way {
        latency: Micros::from_millis(40),
        jitter: Micros::from_millis(30),
        loss_ppm: 20_000,
        ..Way::default()
    }
}

/// What a history violates.
fn violations(seed: u64, ops: &[Op], broken: Option<Broken>) -> Vec<String> {
    let mut world = World::running(seed, way());
    world.fabric.broken = broken;
    for op in ops {
        match *op {
            Op::Send(at, n) => {
                let id = streams().nth(at).unwrap();
                for _ in 0..n {
                    // A refusal is an answer too.
                    let _ = world.send(id);
                }
            }
            Op::Cut(at, cut) => {
                let (from, to) = pairs().nth(at).unwrap();
                world.cut(from, to, cut);
            }
            Op::Stop(node, death) => world.stop(NodeId(node), death),
            Op::Start(node) => world.start(NodeId(node)),
            Op::Freeze(node) => world.freeze(NodeId(node)),
            Op::Thaw(node) => world.thaw(NodeId(node)),
            Op::Pass(micros) => world.pass(Micros(micros)),
        }
    }
    world.finish();
    world.violations
}

proptest! {
    /// What `transport` promises, whatever happens to ways and nodes.
    #[test]
    fn links_keep_the_transports_promises(
        seed in any::<u64>(),
        ops in proptest::collection::vec(op(), 0..60),
    ) {
        let violations = violations(seed, &ops, None);
        prop_assert!(violations.is_empty(), "{violations:#?}");
    }
}

/// A cut that both sides notice, with messages under way, and lives that end in it.
fn eventful() -> Vec<Op> {
    let mut ops = Vec::new();
    for pair in 0..6 {
        ops.extend((0..18).map(|stream| Op::Send(stream, 5)));
        ops.extend([Op::Cut(pair, true), Op::Pass(6_000_000), Op::Cut(pair, false)]);
        ops.extend([Op::Pass(4_000_000), Op::Send(3, 5), Op::Stop(1, Death::Power)]);
        ops.extend([Op::Start(1), Op::Pass(5_000_000)]);
    }
    ops
}

#[test]
fn the_promises_are_seen_to_break() {
    assert_eq!(violations(1, &eventful(), None), Vec::<String>::new());
    for broken in [Broken::DeliverAfterBreak, Broken::UpWithoutDown] {
        assert_ne!(violations(1, &eventful(), Some(broken)), Vec::<String>::new(), "{broken:?}");
    }
}

#[test]
fn a_short_cut_costs_time_and_nothing_else() {
    for seed in 0..50 {
        let mut world = World::running(seed, way());
        let id = stream(1, 2, Class::Foreground);
        world.send(id).unwrap();
        world.cut(NodeId(1), NodeId(2), true);
        world.pass(Micros::from_millis(1_000));
        assert!(world.received.is_empty(), "nothing passes a cut");
        world.send(id).unwrap();
        world.cut(NodeId(1), NodeId(2), false);
        world.pass(Micros::from_secs(3));
        assert_eq!(world.received[&id].len(), 2);
        assert!(world.all_up() && world.seen(NodeId(1), NodeId(2)).downs == 1);
        assert!(world.violations.is_empty(), "{:?}", world.violations);
    }
}

#[test]
fn a_cut_in_one_direction_is_noticed_by_both_sides_in_time() {
    for seed in 0..50 {
        let mut world = World::running(seed, way());
        let timing = timing();
        world.cut(NodeId(1), NodeId(2), true);
        world.pass(timing.down_after - timing.keep_alive - Micros(1));
        assert!(world.all_up());
        world.pass(timing.keep_alive + Micros::from_millis(200));
        assert_eq!(world.seen(NodeId(1), NodeId(2)).up, None);
        assert_eq!(world.seen(NodeId(2), NodeId(1)).up, None);
        assert!(world.seen(NodeId(1), NodeId(3)).up.is_some());
        let refused = world.send(stream(2, 1, Class::Foreground));
        assert_eq!(refused, Err(SendRefused::Down));
        // The background class is more patient, and goes on over what is left.
        assert_eq!(world.send(stream(1, 2, Class::Background)), Ok(()));
        world.cut(NodeId(1), NodeId(2), false);
        world.pass(timing.dial_timeout + timing.backoff_max + Micros::from_millis(500));
        assert!(world.seen(NodeId(1), NodeId(2)).up.is_some());
        world.finish();
        assert!(world.violations.is_empty(), "{:?}", world.violations);
    }
}

#[test]
fn peers_notice_a_death_at_once_and_a_power_cut_by_silence() {
    let timing = timing();
    let noticed = Micros::from_millis(200);
    let silent = timing.down_after - timing.keep_alive - Micros(1);
    for (death, still_up, then_down) in [
        (Death::Process, Micros::ZERO, noticed),
        (Death::Power, silent, timing.keep_alive + noticed),
    ] {
        let mut world = World::running(3, way());
        world.stop(NodeId(1), death);
        world.pass(still_up);
        assert!(world.seen(NodeId(2), NodeId(1)).up.is_some(), "{death:?}");
        world.pass(then_down);
        assert_eq!(world.seen(NodeId(2), NodeId(1)).up, None, "{death:?}");
        assert!(world.seen(NodeId(2), NodeId(3)).up.is_some());
        world.finish();
        assert!(world.violations.is_empty(), "{:?}", world.violations);
    }
}

#[test]
fn who_was_paused_reads_what_came_before_it_sees_the_end() {
    let mut world = World::running(5, way());
    world.freeze(NodeId(2));
    let id = stream(1, 2, Class::Foreground);
    world.send(id).unwrap();
    world.pass(Micros::from_secs(20));
    assert_eq!(world.seen(NodeId(1), NodeId(2)).up, None, "the others have given it up");
    assert!(world.seen(NodeId(2), NodeId(1)).up.is_some(), "it knows nothing of that");
    world.thaw(NodeId(2));
    assert_eq!(world.send(stream(2, 1, Class::Foreground)), Ok(()), "a late answer");
    world.pass(Micros::ZERO);
    assert_eq!(world.received[&id].len(), 1);
    assert_eq!(world.seen(NodeId(2), NodeId(1)).up, None);
    world.finish();
    assert!(world.violations.is_empty(), "{:?}", world.violations);
}

#[test]
fn queues_are_bounded() {
    let slow = Way { bytes_per_second: 16_000, ..Way::default() };
    let mut world = World::running(6, slow);
    world.fabric.timing.queue_messages = 10;
    let id = stream(1, 2, Class::Foreground);
    let sent = (0..20).take_while(|_| world.send(id).is_ok()).count();
    assert_eq!(sent, 11, "one under way, and ten that wait");
    assert_eq!(world.send(id), Err(SendRefused::Full));
    world.pass(Micros::from_millis(1));
    assert_eq!(world.send(id), Ok(()), "16 bytes take a millisecond");
    assert_eq!(world.received[&id].len(), 1);
    let large = Bytes::from(vec![0; world.fabric.timing.message_bytes + 1]);
    let refused = world.fabric.send(world.now, id, large, &mut world.out);
    assert!(matches!(refused, Err(SendRefused::TooLarge { .. })), "{refused:?}");
    world.pass(Micros::from_secs(1));
    assert_eq!(world.received[&id].len(), 12);
    let stats = world.fabric.stats(id).unwrap();
    assert_eq!((stats.sent_messages, stats.received_messages, stats.refused_full), (12, 12, 2));
}

#[test]
fn datagrams_are_lost_doubled_and_late_as_often_as_is_said() {
    let datagrams = Datagrams {
        lost_ppm: 50_000,
        doubled_ppm: 20_000,
        late_ppm: 100_000,
        late_by: Micros::from_millis(500),
    };
    let mut world = World::running(7, Way { datagrams, ..way() });
    world.in_order = false;
    let id = stream(1, 2, Class::Foreground);
    let messages = 100_000;
    for _ in 0..messages / 100 {
        for _ in 0..100 {
            world.send(id).unwrap();
        }
        world.pass(Micros::from_millis(10));
    }
    world.pass(Micros::from_secs(5));
    let numbers: Vec<u64> = world.received[&id].iter().map(|(number, _)| *number).collect();
    let mut times = vec![0_u32; messages];
    for number in &numbers {
        times[usize::try_from(*number).unwrap()] += 1;
    }
    let lost = times.iter().filter(|n| **n == 0).count();
    let doubled = times.iter().filter(|n| **n == 2).count();
    let late = numbers.windows(2).filter(|w| w[1] < w[0]).count();
    assert!((4_000..6_000).contains(&lost), "{lost}");
    assert!((1_500..2_500).contains(&doubled), "{doubled}");
    assert!(late > 5_000, "{late}");
    assert!(world.all_up(), "streams live on");
    assert!(world.violations.is_empty(), "{:?}", world.violations);
}
