//! What a simulated node runs on: its clocks, its chance, its tasks, and work that takes time.
//!
//! A [`Host`] is for one life of one node. Several parts of the node use it at once and from inside
//! its tasks, so what it plans goes through the [`Agenda`], from which the world takes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use futures::future::{BoxFuture, FutureExt};
use meridian_types::Millis;
use parking_lot::Mutex;

use super::{Draw, Micros, NodeClock, Owner, Pace, Spawner};

/// Work that may wait for a disk.
pub type Work = Box<dyn FnOnce() + Send>;

/// What a host planned.
pub enum HostEvent {
    /// A time has come that a task sleeps for.
    Wake(Waker),
    /// The disk is done: the work's effects show now.
    Work {
        /// Whose work it is.
        owner: Owner,
        /// The work.
        work: Work,
    },
}

impl HostEvent {
    /// Lets it happen. Work becomes a task, so that a frozen owner's waits, and a dead one's never
    /// happens.
    pub fn happen(self, spawner: &Spawner) {
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Work { owner, work } => spawner.spawn(owner, async move { work() }),
        }
    }
}

/// The present, and what hosts planned.
#[derive(Default)]
pub struct Agenda {
    now: AtomicU64,
    planned: Mutex<Vec<(Micros, HostEvent)>>,
}

impl Agenda {
    /// The present.
    #[must_use]
    pub fn now(&self) -> Micros {
        Micros(self.now.load(Ordering::Relaxed))
    }

    /// Moves the present.
    pub fn set_now(&self, now: Micros) {
        self.now.store(now.0, Ordering::Relaxed);
    }

    /// Takes what was planned since the last time, in order.
    pub fn take_planned(&self) -> Vec<(Micros, HostEvent)> {
        std::mem::take(&mut self.planned.lock())
    }

    /// Ends when the time has come.
    pub fn sleep(self: &Arc<Self>, until: Micros) -> Sleep {
        Sleep { agenda: Arc::clone(self), until, wakes: None }
    }

    fn plan(&self, at: Micros, event: HostEvent) {
        self.planned.lock().push((at, event));
    }
}

/// What one life of a node runs on.
pub struct Host {
    agenda: Arc<Agenda>,
    spawner: Spawner,
    owner: Owner,
    started: Micros,
    /// The machine's, which outlives the process.
    clock: Arc<Mutex<NodeClock>>,
    random: Mutex<Draw>,
    /// How long works take.
    pace: Pace,
}

impl Host {
    /// A host for a life that begins now. `random` is what the node draws from.
    #[must_use]
    pub fn new(
        agenda: Arc<Agenda>,
        spawner: Spawner,
        owner: Owner,
        clock: Arc<Mutex<NodeClock>>,
        random: Draw,
        pace: Pace,
    ) -> Self {
        let (started, random) = (agenda.now(), Mutex::new(random));
        Self { agenda, spawner, owner, started, clock, random, pace }
    }
}

impl meridian_runtime::Host for Host {
    fn wall(&self) -> Millis {
        self.clock.lock().wall(self.agenda.now())
    }

    /// Milliseconds since this life began.
    fn now(&self) -> Millis {
        Millis((self.agenda.now() - self.started).to_millis())
    }

    fn random(&self) -> u64 {
        self.random.lock().bits()
    }

    /// The task dies with this life.
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.spawner.spawn_boxed(self.owner, task);
    }

    /// The work is done after as long as the disk takes, in one go. Several works may change places.
    fn block(&self, work: Work) {
        let event = HostEvent::Work { owner: self.owner, work };
        self.agenda.plan(self.agenda.now() + self.pace.work(), event);
    }

    fn sleep(&self, until: Millis) -> BoxFuture<'static, ()> {
        self.agenda.sleep(self.started + Micros::from_millis(until.0)).boxed()
    }
}

/// See [`Agenda::sleep`].
pub struct Sleep {
    agenda: Arc<Agenda>,
    until: Micros,
    /// Who is woken, once that is planned.
    wakes: Option<Waker>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.agenda.now() >= self.until {
            return Poll::Ready(());
        }
        let waker = context.waker();
        if !self.wakes.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.agenda.plan(self.until, HostEvent::Wake(waker.clone()));
            self.wakes = Some(waker.clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use meridian_runtime::Host as _;
    use meridian_types::NodeId;

    use super::*;
    use crate::sim::{Disk, DiskTiming, Executor, Order, Purpose, Queue, Streams};

    const OWNER: Owner = Owner::Node { id: NodeId(1), life: 0 };

    struct World {
        executor: Executor,
        agenda: Arc<Agenda>,
        queue: Queue<HostEvent>,
        clock: Arc<Mutex<NodeClock>>,
        draw: Draw,
        log: Arc<Mutex<Vec<(u64, u32)>>>,
    }

    impl World {
        fn new() -> Self {
            let draw = Streams::new(1).draw(Purpose::Tasks);
            let (executor, agenda) = (Executor::new(Order::Seeded), Arc::default());
            let (queue, clock, log) = (Queue::default(), Arc::default(), Arc::default());
            Self { executor, agenda, queue, clock, draw, log }
        }

        fn host(&self) -> Arc<Host> {
            let (agenda, clock) = (Arc::clone(&self.agenda), Arc::clone(&self.clock));
            let streams = Streams::new(1);
            let random = streams.draw(Purpose::Node(NodeId(1)));
            let timing = DiskTiming { work: 100..=200, ..DiskTiming::default() };
            let disk = Disk::new(timing, streams.draw(Purpose::Disk(NodeId(1))));
            let spawner = self.executor.spawner();
            Arc::new(Host::new(agenda, spawner, OWNER, clock, random, disk.pace()))
        }

        /// Something that notes when it ran.
        fn noting(&self, number: u32) -> impl FnOnce() + Send + use<> {
            let (agenda, log) = (Arc::clone(&self.agenda), Arc::clone(&self.log));
            move || log.lock().push((agenda.now().0, number))
        }

        fn run_until(&mut self, until: Micros) {
            let spawner = self.executor.spawner();
            loop {
                self.executor.run_ready(&mut self.draw).unwrap();
                for (at, event) in self.agenda.take_planned() {
                    self.queue.push(at, event);
                }
                let Some(at) = self.queue.next_at().filter(|at| *at <= until) else { break };
                self.agenda.set_now(at);
                let (_, event) = self.queue.pop().unwrap();
                event.happen(&spawner);
            }
            self.agenda.set_now(until);
        }

        fn log(&self) -> Vec<(u64, u32)> {
            self.log.lock().clone()
        }
    }

    #[test]
    fn a_task_sleeps_as_long_as_it_says() {
        let mut world = World::new();
        world.run_until(Micros(500));
        let (host, note, late) = (world.host(), world.noting(1), world.noting(2));
        let sleeper = Arc::clone(&host);
        let task = async move {
            sleeper.sleep(Millis(3)).await;
            assert_eq!(sleeper.now(), Millis(3));
            note();
            sleeper.sleep(Millis(1)).await;
            late();
        };
        host.spawn(task.boxed());
        world.run_until(Micros::from_secs(1));
        assert_eq!(world.log(), [(3_500, 1), (3_500, 2)], "what is past is not waited for");
    }

    #[test]
    fn work_takes_as_long_as_the_disk() {
        let mut world = World::new();
        let host = world.host();
        for number in 0..50 {
            host.block(Box::new(world.noting(number)));
        }
        world.run_until(Micros(99));
        assert!(world.log().is_empty());
        world.run_until(Micros(200));
        let log = world.log();
        assert_eq!(log.len(), 50);
        assert!(log.is_sorted_by_key(|(at, _)| *at) && log[0].0 >= 100);
        assert!(!log.is_sorted_by_key(|(_, number)| *number), "they change places");
    }

    #[test]
    fn work_of_a_frozen_owner_waits_and_of_a_dead_one_never_happens() {
        let mut world = World::new();
        let host = world.host();
        host.block(Box::new(world.noting(1)));
        world.executor.freeze(OWNER);
        world.run_until(Micros(1_000));
        assert!(world.log().is_empty());
        world.executor.thaw(OWNER);
        world.run_until(Micros(2_000));
        assert_eq!(world.log(), [(1_000, 1)]);
        host.block(Box::new(world.noting(2)));
        let (sleeper, note) = (Arc::clone(&host), world.noting(3));
        let task = async move {
            sleeper.sleep(Millis(3)).await;
            note();
        };
        host.spawn(task.boxed());
        world.run_until(Micros(2_050));
        world.executor.kill(OWNER);
        world.run_until(Micros::from_secs(1));
        assert_eq!(world.log().len(), 1);
    }

    #[test]
    fn the_wall_clock_steps_and_the_other_does_not() {
        let mut world = World::new();
        let host = world.host();
        world.run_until(Micros::from_secs(1));
        let before = host.wall();
        world.clock.lock().step(Micros::from_secs(1), -10_000_000);
        assert_eq!(before.since(host.wall()), 10_000);
        assert_eq!(host.now(), Millis(1_000));
        assert_ne!(host.random(), host.random());
    }
}
