//! What carries messages between simulated machines.

use std::sync::Arc;

use meridian_runtime::Linker;
use meridian_transport::Inbound;
use meridian_types::NodeId;

use super::{Death, LinkActions, LinkEvent, Micros, Network, Owner, StreamId, Way};

/// Links between machines, and what may happen to them: the simulated ones ([`Network`]), or others
/// that a test brings, such as the product's own over simulated sockets.
///
/// Nothing is told to a node from inside a call: it waits in [`Self::take_actions`], because a node
/// may send from inside what it is told.
pub trait Carrier {
    /// What makes the links of one life of a node.
    fn linker(&self, owner: Owner, node: NodeId) -> Box<dyn Linker>;

    /// Who is told what happens to a node's links.
    fn inbound(&self, node: NodeId) -> Option<Arc<dyn Inbound>>;

    /// A life ends: its node is told nothing any more.
    fn end(&self, node: NodeId, death: Death);

    /// A node's process runs no more for a while.
    fn freeze(&self, node: NodeId);

    /// It goes on.
    fn thaw(&self, node: NodeId);

    /// What is sent from one node to another goes another way from now on.
    fn change(&self, from: NodeId, to: NodeId, way: Way);

    /// What was counted of a stream.
    fn counted(&self, stream: StreamId) -> Counted;

    /// Takes what follows from all that was told and sent, in order.
    fn take_actions(&self) -> LinkActions;

    /// What was planned happens.
    fn happen(&self, event: LinkEvent);

    /// How often [`Self::tick`] is called, for those that do not plan.
    fn tick_every(&self) -> Option<Micros> {
        None
    }

    /// That much time has passed.
    fn tick(&self) {}
}

/// Messages of a stream since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Handed over, and refused because the link was down.
    pub tried: u64,
    /// Lost, late or doubled.
    pub disturbed: u64,
}

impl Carrier for Arc<Network> {
    fn linker(&self, owner: Owner, node: NodeId) -> Box<dyn Linker> {
        Box::new(Network::linker(self, owner, node))
    }

    fn inbound(&self, node: NodeId) -> Option<Arc<dyn Inbound>> {
        Network::inbound(self, node)
    }

    fn end(&self, node: NodeId, death: Death) {
        Network::end(self, node, death);
    }

    fn freeze(&self, node: NodeId) {
        self.tell(|fabric, now, out| fabric.freeze(now, node, out));
    }

    fn thaw(&self, node: NodeId) {
        self.tell(|fabric, now, out| fabric.thaw(now, node, out));
    }

    fn change(&self, from: NodeId, to: NodeId, way: Way) {
        self.tell(|fabric, now, out| fabric.change(now, from, to, |old| *old = way, out));
    }

    fn counted(&self, stream: StreamId) -> Counted {
        self.tell(|fabric, _, _| {
            let stats = fabric.stats(stream).unwrap_or_default();
            let tried = stats.sent_messages + stats.refused_down;
            Counted { tried, disturbed: fabric.disturbed(stream) }
        })
    }

    fn take_actions(&self) -> LinkActions {
        Network::take_actions(self)
    }

    fn happen(&self, event: LinkEvent) {
        self.tell(|fabric, now, out| fabric.step(now, event, out));
    }
}
