//! The links of one life of one node, as the node sees them.
//!
//! Nodes send from inside their tasks, so the [`Fabric`] is shared, and what follows from a message
//! waits in it until the world takes it. The world tells nodes only after that, without the lock:
//! a node may send from inside what it is told.

use std::sync::Arc;

use bytes::Bytes;
use meridian_transport::{Class, ClassStats, LinkState, SendRefused};
use meridian_types::{Incarnation, NodeId};
use parking_lot::Mutex;

use super::{Agenda, Fabric, LinkActions, Micros, Owner, Spawner, StreamId};

/// The fabric, shared by the world and all nodes.
pub struct Network {
    agenda: Arc<Agenda>,
    spawner: Spawner,
    inner: Mutex<Inner>,
}

struct Inner {
    fabric: Fabric,
    actions: LinkActions,
}

impl Network {
    /// Shares a fabric.
    #[must_use]
    pub fn new(fabric: Fabric, agenda: Arc<Agenda>, spawner: Spawner) -> Arc<Self> {
        let inner = Mutex::new(Inner { fabric, actions: LinkActions::default() });
        Arc::new(Self { agenda, spawner, inner })
    }

    /// Tells the fabric something at the present time.
    pub fn tell<T>(&self, tell: impl FnOnce(&mut Fabric, Micros, &mut LinkActions) -> T) -> T {
        let Inner { fabric, actions } = &mut *self.inner.lock();
        tell(fabric, self.agenda.now(), actions)
    }

    /// Takes what follows from all that was told and sent, in order.
    pub fn take_actions(&self) -> LinkActions {
        std::mem::take(&mut self.inner.lock().actions)
    }

    /// The links of one life of a node, to `peers`.
    #[must_use]
    pub fn links(self: &Arc<Self>, owner: Owner, node: NodeId, peers: Vec<NodeId>) -> NodeLinks {
        NodeLinks { network: Arc::clone(self), owner, node, peers }
    }
}

/// The links of one life of one node.
pub struct NodeLinks {
    network: Arc<Network>,
    owner: Owner,
    node: NodeId,
    peers: Vec<NodeId>,
}

impl NodeLinks {
    /// Sends a message.
    ///
    /// # Errors
    /// As the transport refuses. Nothing is sent by a life that has ended, not even by the rest of
    /// the poll that it ended in.
    pub fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused> {
        if self.network.spawner.is_dead(self.owner) {
            return Err(SendRefused::Down);
        }
        let id = StreamId { from: self.node, to, class };
        self.network.tell(|fabric, now, out| fabric.send(now, id, message, out))
    }

    /// The peer's life, while the link is up.
    #[must_use]
    pub fn incarnation_of(&self, peer: NodeId) -> Option<Incarnation> {
        match self.network.tell(|fabric, _, _| fabric.state(self.node, peer)) {
            LinkState::Up { incarnation } => Some(incarnation),
            LinkState::Down => None,
        }
    }

    /// What was sent to each peer, by class.
    #[must_use]
    pub fn sent(&self) -> Vec<(StreamId, ClassStats)> {
        let from = self.node;
        let ids = self
            .peers
            .iter()
            .flat_map(|&to| Class::EVERY.map(move |class| StreamId { from, to, class }));
        self.network.tell(|fabric, _, _| {
            ids.filter_map(|id| fabric.stats(id).map(|stats| (id, stats))).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sim::{Executor, LinkEvent, LinkTiming, Order, Purpose, Queue, Streams, Told, Way};

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

    struct World {
        executor: Executor,
        agenda: Arc<Agenda>,
        network: Arc<Network>,
        queue: Queue<LinkEvent>,
        told: Vec<Told>,
    }

    impl World {
        /// Two nodes that know each other.
        fn new() -> Self {
            let way = Way { latency: Micros::from_millis(10), ..Way::default() };
            let ways = BTreeMap::from([((A, B), way), ((B, A), way)]);
            let fabric = Fabric::new(TIMING, Streams::new(1).draw(Purpose::Network), ways);
            let (executor, agenda) = (Executor::new(Order::Seeded), Arc::<Agenda>::default());
            let network = Network::new(fabric, Arc::clone(&agenda), executor.spawner());
            let (queue, told) = (Queue::default(), Vec::new());
            let mut world = Self { executor, agenda, network, queue, told };
            for node in [A, B] {
                let life = Incarnation(node.0.into());
                world.network.tell(|fabric, now, out| fabric.start(now, node, life, out));
            }
            world.pass(Micros::from_secs(5));
            world
        }

        fn links(&self, node: NodeId) -> NodeLinks {
            self.network.links(owner(node), node, vec![A, B])
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
        assert_eq!(world.links(A).incarnation_of(B), Some(Incarnation(2)));
        world.told.clear();
        let (links, message) = (world.links(A), Bytes::from_static(b"hello"));
        let sent = message.clone();
        world.executor.spawn(owner(A), async move {
            links.send(B, Class::Foreground, sent).unwrap();
            assert_eq!(
                links.send(A, Class::Foreground, Bytes::new()),
                Err(SendRefused::UnknownPeer)
            );
        });
        world.pass(Micros::from_millis(9));
        assert!(world.told.is_empty());
        world.pass(Micros::from_secs(1));
        let told = Told::Received { at: B, from: A, class: Class::Foreground, message };
        assert_eq!(world.told, [told]);
        let sent = world.links(A).sent();
        assert_eq!(sent.len(), 3, "one peer, three classes");
        assert_eq!(sent.iter().map(|(_, stats)| stats.sent_bytes).sum::<u64>(), 5);
    }

    #[test]
    fn a_life_that_has_ended_sends_nothing() {
        let mut world = World::new();
        let (links, spawner) = (world.links(A), world.executor.spawner());
        world.executor.spawn(owner(A), async move {
            spawner.kill(owner(A));
            let refused = links.send(B, Class::Foreground, Bytes::new());
            assert_eq!(refused, Err(SendRefused::Down));
        });
        world.pass(Micros::from_secs(1));
        assert!(world.links(A).sent().iter().all(|(_, stats)| stats.sent_messages == 0));
    }
}
