//! A world on one thread: tasks, sleepers, works and messages, in the order of their times.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_runtime::{Host, Linker, Network, StartError};
use meridian_transport::{
    Class, Handshake, Inbound, LinkState, Peer, PeerState, PeerStats, SendRefused,
};
use meridian_types::{Incarnation, Millis, NodeId};
use parking_lot::Mutex;

/// When the world begins, by its wall clocks.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// How long a message or a work takes, in milliseconds.
const TAKES_MS: u64 = 1;

/// How long anything may take, in milliseconds.
const PATIENCE_MS: u64 = 3_600_000;

enum Event {
    Wake(Waker),
    Work(Box<dyn FnOnce() + Send>),
}

/// The world, shared by everything in it.
#[derive(Default)]
pub(crate) struct World {
    now: AtomicU64,
    seq: AtomicU64,
    ready: Mutex<VecDeque<Arc<Task>>>,
    events: Mutex<BTreeMap<(u64, u64), Event>>,
    nodes: Mutex<BTreeMap<NodeId, Arc<Wires>>>,
    /// Everything that was sent, and when.
    trace: Mutex<DefaultHasher>,
    /// What was sent: from whom, to whom.
    pub(crate) sent: Mutex<Vec<(NodeId, NodeId, Bytes)>>,
    /// Whether every message arrives twice.
    pub(crate) doubles: AtomicBool,
    /// Whether no message arrives.
    pub(crate) cut: AtomicBool,
}

struct Task {
    world: Arc<World>,
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    queued: AtomicBool,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let world = Arc::clone(&self.world);
            world.ready.lock().push_back(self);
        }
    }
}

impl World {
    /// Runs a future, and all that happens meanwhile.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        self.spawn(Box::pin(async move {
            let value = future.await;
            *slot.lock() = Some(value);
        }));
        let patience = self.now.load(Ordering::Relaxed) + PATIENCE_MS;
        loop {
            self.poll_ready();
            if let Some(result) = result.lock().take() {
                return result;
            }
            assert!(self.next_event(), "nothing will ever happen");
            assert!(self.now.load(Ordering::Relaxed) < patience, "it takes for ever");
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(self: &Arc<Self>, millis: u64) {
        let until = Millis(self.now.load(Ordering::Relaxed) + millis);
        self.run(Sleep { world: Arc::clone(self), until });
    }

    /// Ends after so many milliseconds.
    pub(crate) fn sleep(self: &Arc<Self>, millis: u64) -> BoxFuture<'static, ()> {
        let until = Millis(self.now.load(Ordering::Relaxed) + millis);
        Box::pin(Sleep { world: Arc::clone(self), until })
    }

    /// A digest of everything that was sent.
    /// Hands a node a message that nobody sent.
    pub(crate) fn hand(self: &Arc<Self>, from: NodeId, to: NodeId, class: Class, message: Bytes) {
        let node = Arc::clone(&self.nodes.lock()[&to]);
        self.soon(move || node.inbound.received(from, class, message));
    }

    pub(crate) fn trace(&self) -> u64 {
        self.trace.lock().finish()
    }

    fn spawn(self: &Arc<Self>, future: BoxFuture<'static, ()>) {
        let (future, queued) = (Mutex::new(Some(future)), AtomicBool::new(false));
        Arc::new(Task { world: Arc::clone(self), future, queued }).wake();
    }

    fn poll_ready(&self) {
        loop {
            let Some(task) = self.ready.lock().pop_front() else { return };
            task.queued.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&task));
            let mut slot = task.future.lock();
            let Some(future) = slot.as_mut() else { continue };
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                *slot = None;
            }
        }
    }

    fn at(&self, millis: u64, event: Event) {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        self.events.lock().insert((millis, seq), event);
    }

    fn soon(&self, work: impl FnOnce() + Send + 'static) {
        let at = self.now.load(Ordering::Relaxed) + TAKES_MS;
        self.at(at, Event::Work(Box::new(work)));
    }

    fn next_event(&self) -> bool {
        let Some(((at, _), event)) = self.events.lock().pop_first() else { return false };
        self.now.fetch_max(at, Ordering::Relaxed);
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Work(work) => work(),
        }
        true
    }
}

struct Sleep {
    world: Arc<World>,
    until: Millis,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.world.now.load(Ordering::Relaxed) >= self.until.0 {
            return Poll::Ready(());
        }
        self.world.at(self.until.0, Event::Wake(context.waker().clone()));
        Poll::Pending
    }
}

/// What one life of a node runs on.
pub(crate) struct TestHost {
    world: Arc<World>,
    random: AtomicU64,
    /// Tasks that are not dropped yet.
    pub(crate) tasks: Arc<AtomicUsize>,
}

impl TestHost {
    pub(crate) fn new(world: &Arc<World>, seed: u64) -> Arc<Self> {
        let (world, random) = (Arc::clone(world), AtomicU64::new(seed << 32));
        Arc::new(Self { world, random, tasks: Arc::default() })
    }
}

/// Counts for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host for TestHost {
    fn wall(&self) -> Millis {
        Millis(EPOCH_MS + self.now().0)
    }

    fn now(&self) -> Millis {
        Millis(self.world.now.load(Ordering::Relaxed))
    }

    fn random(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        let mut z = self.random.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&self.tasks));
        self.world.spawn(Box::pin(async move {
            let _counted = counted;
            task.await;
        }));
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) {
        self.world.soon(work);
    }

    fn sleep(&self, until: Millis) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { world: Arc::clone(&self.world), until })
    }
}

/// The links of one life of a node.
struct Wires {
    world: Arc<World>,
    me: NodeId,
    incarnation: Incarnation,
    inbound: Arc<dyn Inbound>,
}

impl Wires {
    fn tell(self: &Arc<Self>, peer: NodeId, state: LinkState) {
        let wires = Arc::clone(self);
        self.world.soon(move || wires.inbound.link_changed(peer, state));
    }
}

impl Network for Wires {
    fn set_peers(&self, _peers: Vec<Peer>) {
        let nodes = self.world.nodes.lock();
        let mine = &nodes[&self.me];
        for (id, other) in nodes.iter().filter(|(id, _)| **id != self.me) {
            mine.tell(*id, LinkState::Up { incarnation: other.incarnation });
            other.tell(self.me, LinkState::Up { incarnation: self.incarnation });
        }
    }

    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused> {
        let from = self.me;
        let at = self.world.now.load(Ordering::Relaxed);
        (at, from, to, &message).hash(&mut *self.world.trace.lock());
        self.world.sent.lock().push((from, to, message.clone()));
        let Some(other) = self.world.nodes.lock().get(&to).cloned() else {
            return Err(SendRefused::Down);
        };
        if self.world.cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        let times = if self.world.doubles.load(Ordering::Relaxed) { 2 } else { 1 };
        for _ in 0..times {
            let (other, message) = (Arc::clone(&other), message.clone());
            self.world.soon(move || other.inbound.received(from, class, message));
        }
        Ok(())
    }

    fn incarnation_of(&self, peer: NodeId) -> Option<Incarnation> {
        self.world.nodes.lock().get(&peer).map(|other| other.incarnation)
    }

    fn stats(&self) -> Vec<PeerStats> {
        Vec::new()
    }

    fn states(&self) -> Vec<PeerState> {
        Vec::new()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        let mut nodes = self.world.nodes.lock();
        nodes.remove(&self.me);
        nodes.values().for_each(|other| other.tell(self.me, LinkState::Down));
        Box::pin(std::future::ready(()))
    }
}

/// Links a node to all that were linked before.
pub(crate) struct TestLinker(pub(crate) Arc<World>);

impl Linker for TestLinker {
    fn link(
        self: Box<Self>,
        handshake: Handshake,
        inbound: Arc<dyn Inbound>,
    ) -> BoxFuture<'static, Result<Arc<dyn Network>, StartError>> {
        let Handshake { node: me, incarnation, .. } = handshake;
        let wires = Arc::new(Wires { world: Arc::clone(&self.0), me, incarnation, inbound });
        self.0.nodes.lock().insert(me, Arc::clone(&wires));
        let network: Arc<dyn Network> = wires;
        Box::pin(std::future::ready(Ok(network)))
    }
}
