//! The links of one life of one node, as the node sees them.
//!
//! Nodes send from inside their tasks, so the [`Fabric`] is shared, and what follows from a message
//! waits in it until the world takes it. The world tells nodes only after that, without the lock:
//! a node may send from inside what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use meridian_runtime::StartError;
use meridian_transport::{
    Class, ClassStats, Handshake, Inbound, LinkState, Peer, PeerState, PeerStats, SendRefused,
};
use meridian_types::{Incarnation, NodeId};
use parking_lot::Mutex;

use super::{Agenda, Death, Fabric, LinkActions, Micros, Owner, Spawner, StreamId, Told};

/// Sees every message that is sent, as its bytes on the wire.
pub trait Tap: Send + Sync + 'static {
    /// A link took a message.
    fn sent(&self, owner: Owner, stream: StreamId, message: &Bytes);
}

/// The fabric, shared by the world and all nodes.
pub struct Network {
    agenda: Arc<Agenda>,
    spawner: Spawner,
    tap: Arc<dyn Tap>,
    inner: Mutex<Inner>,
}

struct Inner {
    fabric: Fabric,
    actions: LinkActions,
    /// Who is told, by the life that has begun last on each node.
    inbound: BTreeMap<NodeId, Arc<dyn Inbound>>,
    /// How often each node's link to another came up.
    ups: BTreeMap<(NodeId, NodeId), u64>,
}

impl Network {
    /// Shares a fabric.
    #[must_use]
    pub fn new(
        fabric: Fabric,
        agenda: Arc<Agenda>,
        spawner: Spawner,
        tap: Arc<dyn Tap>,
    ) -> Arc<Self> {
        let actions = LinkActions::default();
        let (inbound, ups) = (BTreeMap::new(), BTreeMap::new());
        let inner = Mutex::new(Inner { fabric, actions, inbound, ups });
        Arc::new(Self { agenda, spawner, tap, inner })
    }

    /// Tells the fabric something at the present time.
    pub fn tell<T>(&self, tell: impl FnOnce(&mut Fabric, Micros, &mut LinkActions) -> T) -> T {
        let Inner { fabric, actions, .. } = &mut *self.inner.lock();
        tell(fabric, self.agenda.now(), actions)
    }

    /// Takes what follows from all that was told and sent, in order.
    pub fn take_actions(&self) -> LinkActions {
        let Inner { actions, ups, .. } = &mut *self.inner.lock();
        let actions = std::mem::take(actions);
        for told in &actions.told {
            if let Told::Changed { at, peer, state: LinkState::Up { .. } } = told {
                *ups.entry((*at, *peer)).or_default() += 1;
            }
        }
        actions
    }

    /// Who is told what happens to a node's links.
    #[must_use]
    pub fn inbound(&self, node: NodeId) -> Option<Arc<dyn Inbound>> {
        self.inner.lock().inbound.get(&node).cloned()
    }

    /// A life ends: its node is told nothing any more.
    pub fn end(&self, node: NodeId, death: Death) {
        self.tell(|fabric, now, out| fabric.stop(now, node, death, out));
        let inbound = self.inner.lock().inbound.remove(&node);
        // Without the lock: it may be the last that holds the node.
        drop(inbound);
    }

    /// What makes the links of one life of a node.
    #[must_use]
    pub fn linker(self: &Arc<Self>, owner: Owner, node: NodeId) -> SimLinker {
        SimLinker { network: Arc::clone(self), owner, node }
    }
}

/// Makes the links of one life of one node.
pub struct SimLinker {
    network: Arc<Network>,
    owner: Owner,
    node: NodeId,
}

impl meridian_runtime::Linker for SimLinker {
    fn link(
        self: Box<Self>,
        handshake: Handshake,
        inbound: Arc<dyn Inbound>,
    ) -> BoxFuture<'static, Result<Arc<dyn meridian_runtime::Network>, StartError>> {
        let Self { network, owner, node } = *self;
        network.inner.lock().inbound.insert(node, inbound);
        let (incarnation, peers) = (handshake.incarnation, Mutex::default());
        let links: Arc<dyn meridian_runtime::Network> =
            Arc::new(NodeLinks { network, owner, node, incarnation, peers });
        ready(Ok(links)).boxed()
    }
}

/// The links of one life of one node.
pub struct NodeLinks {
    network: Arc<Network>,
    owner: Owner,
    node: NodeId,
    incarnation: Incarnation,
    /// Nobody until the node can answer.
    peers: Mutex<Vec<Peer>>,
}

impl NodeLinks {
    fn is_dead(&self) -> bool {
        self.network.spawner.is_dead(self.owner)
    }

    fn stats_of(&self, peer: NodeId) -> PeerStats {
        let Inner { fabric, ups, .. } = &*self.network.inner.lock();
        let stats = |class| {
            let sent = fabric.stats(StreamId { from: self.node, to: peer, class });
            let back = fabric.stats(StreamId { from: peer, to: self.node, class });
            let (sent, back) = (sent.unwrap_or_default(), back.unwrap_or_default());
            let ClassStats { received_messages, received_bytes, .. } = back;
            ClassStats { received_messages, received_bytes, ..sent }
        };
        let ups = ups.get(&(self.node, peer)).copied().unwrap_or(0);
        PeerStats { id: peer, ups, classes: Class::EVERY.map(|class| (class, stats(class))) }
    }
}

impl meridian_runtime::Network for NodeLinks {
    /// The node is there for others from the first call on.
    fn set_peers(&self, peers: Vec<Peer>) {
        let first = std::mem::replace(&mut *self.peers.lock(), peers).is_empty();
        if first && !self.is_dead() {
            let (node, incarnation) = (self.node, self.incarnation);
            self.network.tell(|fabric, now, out| fabric.start(now, node, incarnation, out));
        }
    }

    /// Nothing is sent by a life that has ended, not even by the rest of the poll that it ended in.
    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused> {
        if self.is_dead() {
            return Err(SendRefused::Down);
        }
        let id = StreamId { from: self.node, to, class };
        let kept = message.clone();
        self.network.tell(|fabric, now, out| fabric.send(now, id, message, out))?;
        self.network.tap.sent(self.owner, id, &kept);
        Ok(())
    }

    fn incarnation_of(&self, peer: NodeId) -> Option<Incarnation> {
        match self.network.tell(|fabric, _, _| fabric.state(self.node, peer)) {
            LinkState::Up { incarnation } => Some(incarnation),
            LinkState::Down => None,
        }
    }

    fn stats(&self) -> Vec<PeerStats> {
        self.peers.lock().iter().map(|peer| self.stats_of(peer.id)).collect()
    }

    /// How long a state has lasted, and round trips, are not measured here.
    fn states(&self) -> Vec<PeerState> {
        let state = |peer: &Peer| PeerState {
            id: peer.id,
            address: peer.address.clone(),
            dc: peer.dc,
            state: self.network.tell(|fabric, _, _| fabric.state(self.node, peer.id)),
            lasted: Duration::ZERO,
            problem: None,
            round_trip: None,
        };
        self.peers.lock().iter().map(state).collect()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        if !self.is_dead() {
            self.network.end(self.node, Death::Process);
        }
        ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use meridian_runtime::Linker;
    use meridian_types::DcId;

    use super::*;
    use crate::sim::{Executor, LinkEvent, LinkTiming, Order, Purpose, Queue, Streams, Way};

    const TIMING: LinkTiming = LinkTiming {
        keep_alive: Micros::from_millis(500),
        down_after: Micros::from_secs(3),
        dial_timeout: Micros::from_millis(1_500),
        backoff_min: Micros::from_millis(50),
        backoff_max: Micros::from_millis(500),
        queue_messages: 10,
        queue_bytes: 1_000,
        message_bytes: 1_000,
        window_bytes: 1_000,
    };

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn owner(id: NodeId) -> Owner {
        Owner::Node { id, life: 0 }
    }

    #[derive(Default)]
    struct Seen(Mutex<Vec<(StreamId, Bytes)>>);

    impl Tap for Seen {
        fn sent(&self, _: Owner, stream: StreamId, message: &Bytes) {
            self.0.lock().push((stream, message.clone()));
        }
    }

    struct Nobody;

    impl Inbound for Nobody {
        fn received(&self, _: NodeId, _: Class, _: Bytes) {}
        fn link_changed(&self, _: NodeId, _: LinkState) {}
    }

    struct World {
        executor: Executor,
        agenda: Arc<Agenda>,
        network: Arc<Network>,
        seen: Arc<Seen>,
        queue: Queue<LinkEvent>,
        told: Vec<Told>,
        links: BTreeMap<NodeId, Arc<dyn meridian_runtime::Network>>,
    }

    impl World {
        /// Two nodes that know each other.
        fn new() -> Self {
            let way = Way { latency: Micros::from_millis(10), ..Way::default() };
            let ways = BTreeMap::from([((A, B), way), ((B, A), way)]);
            let fabric = Fabric::new(TIMING, Streams::new(1).draw(Purpose::Network), ways);
            let (executor, agenda) = (Executor::new(Order::Seeded), Arc::<Agenda>::default());
            let seen = Arc::<Seen>::default();
            let tap = Arc::clone(&seen);
            let network = Network::new(fabric, Arc::clone(&agenda), executor.spawner(), tap);
            let (queue, told, links) = (Queue::default(), Vec::new(), BTreeMap::new());
            let mut world = Self { executor, agenda, network, seen, queue, told, links };
            for (node, peer) in [(A, B), (B, A)] {
                let handshake = Handshake {
                    cluster: "test".to_owned(),
                    node,
                    incarnation: Incarnation(node.0.into()),
                    protocol: 1,
                };
                let linker = Box::new(world.network.linker(owner(node), node));
                let links = linker.link(handshake, Arc::new(Nobody)).now_or_never();
                let links = links.unwrap().unwrap();
                links.set_peers(vec![Peer { id: peer, address: "peer".to_owned(), dc: DcId(0) }]);
                world.links.insert(node, links);
            }
            world.pass(Micros::from_secs(5));
            world
        }

        fn pass(&mut self, time: Micros) {
            let mut draw = Streams::new(1).draw(Purpose::Tasks);
            let until = self.agenda.now() + time;
            loop {
                self.executor.run_ready(&mut draw).unwrap();
                let LinkActions { planned, told } = self.network.take_actions();
                self.told.extend(told);
                for (at, event) in planned {
                    self.queue.push(at, event);
                }
                if self.queue.next_at().is_none_or(|at| at > until) {
                    break;
                }
                let (at, event) = self.queue.pop().unwrap();
                self.agenda.set_now(at);
                self.network.tell(|fabric, now, out| fabric.step(now, event, out));
            }
            self.agenda.set_now(until);
        }
    }

    #[test]
    fn a_task_sends_and_the_peer_is_told() {
        let mut world = World::new();
        assert_eq!(world.links[&A].incarnation_of(B), Some(Incarnation(2)));
        assert!(matches!(world.links[&A].states()[..], [PeerState { id: B, .. }]));
        world.told.clear();
        let (links, message) = (Arc::clone(&world.links[&A]), Bytes::from_static(b"hello"));
        let sent = message.clone();
        world.executor.spawn(owner(A), async move {
            links.send(B, Class::Foreground, sent).unwrap();
            let unknown = links.send(A, Class::Foreground, Bytes::new());
            assert_eq!(unknown, Err(SendRefused::UnknownPeer));
        });
        world.pass(Micros::from_millis(9));
        assert!(world.told.is_empty());
        world.pass(Micros::from_secs(1));
        let stream = StreamId { from: A, to: B, class: Class::Foreground };
        assert_eq!(*world.seen.0.lock(), [(stream, message.clone())]);
        let told = Told::Received { at: B, from: A, class: Class::Foreground, message };
        assert_eq!(world.told, [told]);
        let bytes = |node: NodeId, of: fn(&ClassStats) -> u64| {
            let stats = &world.links[&node].stats()[0];
            assert_eq!(stats.ups, 1);
            stats.classes.iter().map(|(_, stats)| of(stats)).sum::<u64>()
        };
        assert_eq!((bytes(A, |s| s.sent_bytes), bytes(A, |s| s.received_bytes)), (5, 0));
        assert_eq!((bytes(B, |s| s.sent_bytes), bytes(B, |s| s.received_bytes)), (0, 5));
    }

    #[test]
    fn a_life_that_has_ended_sends_nothing() {
        let mut world = World::new();
        let (links, spawner) = (Arc::clone(&world.links[&A]), world.executor.spawner());
        world.executor.spawn(owner(A), async move {
            spawner.kill(owner(A));
            let refused = links.send(B, Class::Foreground, Bytes::new());
            assert_eq!(refused, Err(SendRefused::Down));
        });
        world.pass(Micros::from_secs(1));
        assert!(world.seen.0.lock().is_empty());
    }

    #[test]
    fn links_that_are_closed_are_seen_to_close() {
        let mut world = World::new();
        world.told.clear();
        Arc::clone(&world.links[&A]).close().now_or_never().unwrap();
        assert!(world.network.inbound(A).is_none() && world.network.inbound(B).is_some());
        world.pass(Micros::from_secs(1));
        let down = Told::Changed { at: B, peer: A, state: LinkState::Down };
        assert_eq!(world.told, [down]);
        assert_eq!(world.links[&B].incarnation_of(A), None);
    }
}
