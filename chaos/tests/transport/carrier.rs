//! One simulated host for each node, with the links of its present life.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_chaos::sim::{
    Carrier, Counted, Death, LinkActions, LinkEvent, Micros, Owner, Spawner, StreamId, Tap, Told,
    Way,
};
use meridian_chaos::world::LinksOfAWorld;
use meridian_runtime::Linker;
use meridian_transport::{Inbound, SendRefused};
use meridian_types::NodeId;
use parking_lot::Mutex;

use crate::life::{LifeLinker, Wanted};

/// How finely time passes on hosts.
const TICK: Micros = Micros::from_millis(1);

/// Segments that wait for a host to read them, by connection; turmoil's own would break a link that
/// catches up.
const SEGMENTS: usize = 65_536;

/// What nodes share with the hosts of their links.
pub(crate) struct Shared {
    pub(crate) keep_alive: Duration,
    pub(crate) down_after: Duration,
    pub(crate) tap: Arc<dyn Tap>,
    spawner: Spawner,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    told: Vec<Told>,
    wanted: Vec<(NodeId, Wanted)>,
    /// By the life that began last on each node: who is told, and whether it still lives.
    inbound: BTreeMap<NodeId, (Arc<dyn Inbound>, Arc<AtomicBool>)>,
    tried: BTreeMap<StreamId, u64>,
}

impl Shared {
    pub(crate) fn begin(&self, node: NodeId, inbound: Arc<dyn Inbound>) -> Arc<AtomicBool> {
        let alive = Arc::new(AtomicBool::new(true));
        self.inner.lock().inbound.insert(node, (inbound, Arc::clone(&alive)));
        alive
    }

    pub(crate) fn want(&self, node: NodeId, wanted: Wanted) {
        self.inner.lock().wanted.push((node, wanted));
    }

    pub(crate) fn tell(&self, told: Told) {
        self.inner.lock().told.push(told);
    }

    pub(crate) fn is_dead(&self, owner: Owner) -> bool {
        self.spawner.is_dead(owner)
    }

    pub(crate) fn count(&self, stream: StreamId, sent: Result<(), SendRefused>) {
        if matches!(sent, Ok(()) | Err(SendRefused::Down)) {
            *self.inner.lock().tried.entry(stream).or_default() += 1;
        }
    }
}

/// See the module.
pub(crate) struct TurmoilLinks {
    shared: Arc<Shared>,
    sim: RefCell<turmoil::Sim<'static>>,
    hosts: BTreeMap<NodeId, Host>,
    ways: RefCell<BTreeMap<(NodeId, NodeId), Way>>,
}

struct Host {
    name: String,
    /// What it runs when it starts next.
    next: Rc<RefCell<Option<Wanted>>>,
    /// It has no power, so not even an end of its connections is heard.
    is_dark: RefCell<bool>,
}

impl TurmoilLinks {
    pub(crate) fn new(links: LinksOfAWorld, seed: u64) -> Self {
        let LinksOfAWorld { timing, ways, names, spawner, tap, .. } = links;
        let mut sim = turmoil::Builder::new()
            .simulation_duration(Duration::MAX)
            .tick_duration(duration(TICK))
            .tcp_capacity(SEGMENTS)
            .rng_seed(seed)
            .build();
        let hosts = names.into_iter().map(|(id, name)| {
            let next = Rc::<RefCell<Option<Wanted>>>::default();
            let run = Rc::clone(&next);
            sim.host(name.as_str(), move || {
                let wanted = run.borrow_mut().take();
                async move {
                    if let Some(wanted) = wanted {
                        wanted.live().await;
                    }
                    futures::future::pending::<turmoil::Result>().await
                }
            });
            (id, Host { name, next, is_dark: RefCell::new(false) })
        });
        let hosts = hosts.collect();
        let links = Self {
            shared: Arc::new(Shared {
                keep_alive: duration(timing.keep_alive),
                down_after: duration(timing.down_after),
                tap,
                spawner,
                inner: Mutex::default(),
            }),
            sim: RefCell::new(sim),
            hosts,
            ways: RefCell::new(ways),
        };
        let pairs: Vec<_> = links.ways.borrow().keys().copied().collect();
        pairs.into_iter().for_each(|(from, to)| links.apply(from, to));
        links
    }

    fn name(&self, node: NodeId) -> &str {
        &self.hosts[&node].name
    }

    fn is_dark(&self, node: NodeId) -> bool {
        *self.hosts[&node].is_dark.borrow()
    }

    /// Both directions of a link take as long as the slower one: turmoil knows no other.
    fn apply(&self, from: NodeId, to: NodeId) {
        let ways = self.ways.borrow();
        let (there, back) = (ways[&(from, to)], ways[&(to, from)]);
        let (sim, a, b) = (self.sim.borrow(), self.name(from), self.name(to));
        if there.cut || self.is_dark(from) || self.is_dark(to) {
            sim.partition_oneway(a, b);
        } else {
            sim.repair_oneway(a, b);
        }
        let latency = there.latency.max(back.latency);
        let jitter = there.jitter.max(back.jitter);
        sim.set_link_latency(a, b, duration(latency));
        sim.set_link_max_message_latency(a, b, duration(latency + jitter));
    }

    fn set_dark(&self, node: NodeId, dark: bool) {
        *self.hosts[&node].is_dark.borrow_mut() = dark;
        for &other in self.hosts.keys().filter(|other| **other != node) {
            self.apply(node, other);
            self.apply(other, node);
        }
    }

    /// With every other node.
    fn others(&self, node: NodeId) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter(move |(id, _)| **id != node).map(|(_, host)| host.name.as_str())
    }
}

impl Carrier for TurmoilLinks {
    fn linker(&self, owner: Owner, node: NodeId) -> Box<dyn Linker> {
        Box::new(LifeLinker { shared: Arc::clone(&self.shared), owner, node })
    }

    fn inbound(&self, node: NodeId) -> Option<Arc<dyn Inbound>> {
        self.shared.inner.lock().inbound.get(&node).map(|(inbound, _)| Arc::clone(inbound))
    }

    fn end(&self, node: NodeId, death: Death) {
        let ended = {
            let mut inner = self.shared.inner.lock();
            inner.told.retain(|told| {
                let (Told::Received { at, .. } | Told::Changed { at, .. }) = told;
                *at != node
            });
            inner.wanted.retain(|(wanted, _)| *wanted != node);
            inner.inbound.remove(&node)
        };
        if let Some((_, alive)) = &ended {
            alive.store(false, Ordering::Relaxed);
        }
        if death == Death::Power {
            self.set_dark(node, true);
        }
        self.sim.borrow_mut().crash(self.name(node));
    }

    fn freeze(&self, node: NodeId) {
        self.others(node).for_each(|other| self.sim.borrow().hold(self.name(node), other));
    }

    fn thaw(&self, node: NodeId) {
        self.others(node).for_each(|other| self.sim.borrow().release(self.name(node), other));
    }

    fn change(&self, from: NodeId, to: NodeId, way: Way) {
        self.ways.borrow_mut().insert((from, to), way);
        self.apply(from, to);
    }

    fn counted(&self, stream: StreamId) -> Counted {
        let tried = self.shared.inner.lock().tried.get(&stream).copied().unwrap_or(0);
        Counted { tried, disturbed: 0 }
    }

    fn take_actions(&self) -> LinkActions {
        let told = std::mem::take(&mut self.shared.inner.lock().told);
        LinkActions { told, ..LinkActions::default() }
    }

    /// Nothing is planned here.
    fn happen(&self, _event: LinkEvent) {}

    fn tick_every(&self) -> Option<Micros> {
        Some(TICK)
    }

    fn tick(&self) {
        let wanted = std::mem::take(&mut self.shared.inner.lock().wanted);
        for (node, wanted) in wanted {
            self.set_dark(node, false);
            let host = &self.hosts[&node];
            *host.next.borrow_mut() = Some(wanted);
            self.sim.borrow_mut().bounce(host.name.as_str());
        }
        self.sim.borrow_mut().step().unwrap();
    }
}

fn duration(span: Micros) -> Duration {
    Duration::from_micros(span.0)
}
