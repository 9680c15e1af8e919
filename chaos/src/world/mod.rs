//! A simulated cluster: real nodes on simulated machines, linked by simulated links, with clients.
//!
//! ```text
//! Scenario, seed ──> World ── run_until(time) ──> observations ──> checks
//!                      │  apply(fault, edge)
//!                      ├─ nodes     meridian_runtime::Node, whole, on a Host and a Network of ours
//!                      ├─ machines  a disk and a clock each; lives of a node begin and end on them
//!                      ├─ links     the fabric, with the faults that last now
//!                      └─ clients   tasks that call nodes as the doors do
//! ```
//!
//! Knows: how to run nodes and to do them harm. Must not know: what must hold.
//!
//! Invariant: the same scenario, seed and calls give the same trace.

mod cluster;
mod faults;
mod inspect;
mod lives;
mod log;
mod machine;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_transport::LinkState;
use meridian_types::NodeId;
use parking_lot::Mutex;

use crate::history::{Observation, Setting, What};
use crate::scenario::Scenario;
use crate::sim::{
    Agenda, Carrier, Disk, DiskTiming, Draw, Executor, Fabric, HostEvent, LinkActions, LinkEvent,
    LinkTiming, Livelock, Micros, Network, NodeClock, Order, Owner, Purpose, Queue, Spawner,
    Streams, Tap, Told, Trace, Way,
};
use crate::workload::{Clients, Doors};

pub(crate) use cluster::Cluster;
use cluster::Cpu;
pub use cluster::WorldError;
use lives::Birth;
use log::Due;
use machine::{Clocks, Machine};
pub(crate) use record::Record;
pub use traffic::{Crossed, Traffic};

/// When clients begin: links are up by then.
const CLIENTS_BEGIN: Micros = Micros::from_millis(400);

/// How often what replicas store is looked at.
const SAMPLE_EVERY: Micros = Micros::from_millis(500);

/// What happens at a time.
enum Event {
    Host(HostEvent),
    Link(LinkEvent),
    Disk {
        owner: Owner,
        due: Due,
    },
    /// A node's processor is done with a task.
    Processor(Owner),
    Start(NodeId),
    Look,
    Tick,
}

/// What links are made of.
pub struct LinksOfAWorld {
    /// How links are kept.
    pub timing: LinkTiming,
    /// Every direction between two nodes, while nothing is wrong with it.
    pub ways: BTreeMap<(NodeId, NodeId), Way>,
    /// Every node's name, which is its address.
    pub names: BTreeMap<NodeId, String>,
    /// The time.
    pub agenda: Arc<Agenda>,
    /// Knows which lives have ended.
    pub spawner: Spawner,
    /// Sees what is sent.
    pub tap: Arc<dyn Tap>,
}

/// See the module.
pub struct World {
    seed: u64,
    cluster: Arc<Cluster>,
    agenda: Arc<Agenda>,
    executor: Executor,
    tasks: Draw,
    queue: Queue<Event>,
    carrier: Box<dyn Carrier>,
    record: Arc<Record>,
    machines: BTreeMap<NodeId, Machine>,
    doors: Arc<Doors>,
    births: Arc<Mutex<Vec<Birth>>>,
    /// Clean stops that are through, and whether they went well.
    stops: Arc<Mutex<Vec<(Owner, bool)>>>,
    faults: faults::Active,
    /// What became due for processes that are paused.
    held_back: Vec<(Owner, Due)>,
    /// The clocks that were seen at the last look.
    looked: BTreeMap<NodeId, Clocks>,
    healing: bool,
}

impl World {
    /// The world of a scenario and a seed, at its beginning: all machines start.
    ///
    /// # Errors
    /// The scenario's tables or its shape's replication are not possible.
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self, WorldError> {
        Self::with(scenario, seed, Order::Seeded, Trace::default())
    }

    /// As [`Self::new`], with tasks in another order, and a trace that is written elsewhere too.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(
        scenario: &Scenario,
        seed: u64,
        order: Order,
        trace: Trace,
    ) -> Result<Self, WorldError> {
        Self::over(scenario, seed, order, trace, |links| {
            let draw = Streams::new(seed).draw(Purpose::Network);
            let fabric = Fabric::new(links.timing, draw, links.ways);
            Box::new(Network::new(fabric, links.agenda, links.spawner, links.tap))
        })
    }

    /// As [`Self::with`], over links that `carrier` makes.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(
        scenario: &Scenario,
        seed: u64,
        order: Order,
        trace: Trace,
        carrier: impl FnOnce(LinksOfAWorld) -> Box<dyn Carrier>,
    ) -> Result<Self, WorldError> {
        let mut cluster = Cluster::new(scenario)?;
        cluster.setting.skew_ms += faults::skew_ms(scenario, seed);
        let cluster = Arc::new(cluster);
        let (streams, agenda) = (Streams::new(seed), Arc::<Agenda>::default());
        let (executor, doors) = (Executor::new(order), Arc::<Doors>::default());
        let record = Record::new(Arc::clone(&agenda), trace);
        let ways = cluster.ways();
        let carrier = carrier(LinksOfAWorld {
            timing: cluster.timing,
            ways: ways.clone(),
            names: cluster.names(),
            agenda: Arc::clone(&agenda),
            spawner: executor.spawner(),
            tap: Arc::<Record>::clone(&record),
        });
        let mut world = Self {
            seed,
            agenda: Arc::clone(&agenda),
            tasks: streams.draw(Purpose::Tasks),
            queue: Queue::default(),
            carrier,
            record: Arc::clone(&record),
            machines: machines(&cluster, streams),
            doors: Arc::clone(&doors),
            births: Arc::default(),
            stops: Arc::default(),
            faults: faults::Active::new(ways),
            held_back: Vec::new(),
            looked: BTreeMap::new(),
            healing: false,
            cluster: Arc::clone(&cluster),
            executor,
        };
        let ids: Vec<NodeId> = world.machines.keys().copied().collect();
        ids.into_iter().for_each(|id| world.start(id));
        world.queue.push(SAMPLE_EVERY, Event::Look);
        world.plan_tick();
        let clients = Clients { cluster, agenda, doors, record, spawner: world.executor.spawner() };
        clients.start(scenario, streams, CLIENTS_BEGIN);
        Ok(world)
    }

    /// What is fixed for the run.
    #[must_use]
    pub fn setting(&self) -> &Setting {
        &self.cluster.setting
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.agenda.now()
    }

    /// What was observed since this was last asked.
    #[must_use]
    pub fn take_observations(&self) -> Vec<Observation> {
        self.record.take_told()
    }

    /// The trace so far.
    pub fn with_trace<T>(&self, ask: impl FnOnce(&mut Trace) -> T) -> T {
        self.record.with_trace(ask)
    }

    /// Lets everything happen up to a time, that included.
    ///
    /// # Errors
    /// Tasks go on waking each other while no time passes.
    pub fn run_until(&mut self, until: Micros) -> Result<(), Livelock> {
        loop {
            self.settle()?;
            if self.queue.next_at().is_none_or(|at| at > until) {
                break;
            }
            let Some((at, event)) = self.queue.pop() else { break };
            self.agenda.set_now(at);
            match event {
                Event::Host(event) => event.happen(&self.executor.spawner()),
                Event::Link(event) => {
                    self.carrier.happen(event);
                }
                Event::Disk { owner, due } => self.disk_due(owner, due),
                Event::Processor(owner) => self.executor.refill(owner),
                Event::Start(id) => self.start(id),
                Event::Look => {
                    self.look();
                    self.queue.push(at + SAMPLE_EVERY, Event::Look);
                }
                Event::Tick => {
                    self.carrier.tick();
                    self.plan_tick();
                }
            }
        }
        self.agenda.set_now(until.max(self.agenda.now()));
        Ok(())
    }

    fn plan_tick(&mut self) {
        if let Some(every) = self.carrier.tick_every() {
            self.queue.push(self.agenda.now() + every, Event::Tick);
        }
    }

    /// Polls what is ready and carries out what follows, until nothing does.
    fn settle(&mut self) -> Result<(), Livelock> {
        loop {
            self.executor.run_ready(&mut self.tasks)?;
            for (at, event) in self.agenda.take_planned() {
                self.queue.push(at, Event::Host(event));
            }
            let LinkActions { planned, told } = self.carrier.take_actions();
            for (at, event) in planned {
                self.queue.push(at, Event::Link(event));
            }
            let births = std::mem::take(&mut *self.births.lock());
            let stops = std::mem::take(&mut *self.stops.lock());
            let quiet = told.is_empty() && births.is_empty() && stops.is_empty();
            births.into_iter().for_each(|birth| self.born(birth));
            stops.into_iter().for_each(|(owner, in_order)| self.stopped(owner, in_order));
            let refused = self.doors.take_refused();
            for owner in self.executor.take_polled() {
                if let Owner::Node { id, .. } = owner {
                    self.keep_busy(owner, refused.contains(&owner));
                    self.tend(id);
                }
            }
            told.into_iter().for_each(|told| self.carry(told));
            if quiet {
                return Ok(());
            }
        }
    }

    /// A task took its time of a node's processor.
    fn keep_busy(&mut self, owner: Owner, with_a_refusal: bool) {
        if let Some(Cpu { per_task, per_refusal }) = self.cluster.cpu {
            let takes = if with_a_refusal { per_refusal } else { per_task };
            self.queue.push(self.agenda.now() + takes, Event::Processor(owner));
        }
    }

    /// Tells a node what its links say.
    fn carry(&mut self, told: Told) {
        let (Told::Received { at, .. } | Told::Changed { at, .. }) = told;
        let owner = self.machines.get(&at).and_then(Machine::owner);
        let (Some(owner), Some(inbound)) = (owner, self.carrier.inbound(at)) else { return };
        match told {
            Told::Received { from, class, message, .. } => {
                self.record.note_bytes(owner, "received", &message);
                if self.cluster.cpu.is_some() {
                    let received = async move { inbound.received(from, class, message) };
                    return self.executor.spawn(owner, received);
                }
                inbound.received(from, class, message);
            }
            Told::Changed { peer, state, .. } => {
                let up = state != LinkState::Down;
                self.record.note(owner, if up { "up" } else { "down" }, peer.0.into());
                self.record.tell(What::LinkChanged { from: at, to: peer, up });
                inbound.link_changed(peer, state);
            }
        }
        self.tend(at);
    }
}

fn machines(cluster: &Cluster, streams: Streams) -> BTreeMap<NodeId, Machine> {
    let machine = |node: &meridian_topology::NodeInfo| {
        let disk = Disk::new(DiskTiming::default(), streams.draw(Purpose::Disk(node.id)));
        let skew = cluster.clock_skew.0;
        let ahead = streams.draw(Purpose::Node(node.id)).between(0, 2 * skew);
        let ahead = i64::try_from(ahead).unwrap_or(0) - i64::try_from(skew).unwrap_or(0);
        Machine {
            disk,
            clock: Arc::new(Mutex::new(NodeClock::new(ahead, 0))),
            lives: 0,
            life: None,
            held: 0,
            paused: 0,
            gone: false,
            rotten: false,
            snapshots: BTreeMap::new(),
            ended: None,
            found: Clocks::new(),
        }
    };
    cluster.topology.nodes().iter().map(|node| (node.id, machine(node))).collect()
}
