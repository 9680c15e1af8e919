//! The links of one life of a node: `meridian-transport` on a simulated host.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::StreamExt;
use meridian_chaos::sim::{Owner, StreamId, Told};
use meridian_runtime::{Linker, Network, StartError};
use meridian_transport::{
    Class, Handshake, Inbound, LinkOptions, LinkState, Links, Listener, Peer, PeerState, PeerStats,
    SendRefused, Socket, Sockets, TransportError,
};
use meridian_types::{Incarnation, NodeId};
use parking_lot::Mutex;

use crate::carrier::Shared;

/// Where every node listens: each has an address of its own.
const PORT: u16 = 7_000;

/// Connections of turmoil.
struct Turmoil;

impl Sockets for Turmoil {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Socket>>> {
        async move {
            let socket = turmoil::net::TcpStream::connect((address.to_owned(), PORT)).await?;
            let socket: Box<dyn Socket> = Box::new(socket);
            Ok(socket)
        }
        .boxed()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        async move {
            let listener = turmoil::net::TcpListener::bind(address).await?;
            let listener: Box<dyn Listener> = Box::new(Listening(listener));
            Ok(listener)
        }
        .boxed()
    }
}

struct Listening(turmoil::net::TcpListener);

impl Listener for Listening {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Socket>>> {
        async move {
            let socket: Box<dyn Socket> = Box::new(self.0.accept().await?.0);
            Ok(socket)
        }
        .boxed()
    }
}

/// What a host is asked to do by the node whose links it has.
enum Order {
    SetPeers(Vec<Peer>),
    Close(oneshot::Sender<()>),
}

/// Links that a host is to start.
pub(crate) struct Wanted {
    options: LinkOptions,
    inbound: Arc<dyn Inbound>,
    started: oneshot::Sender<Result<Arc<Links>, TransportError>>,
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Wanted {
    /// Keeps the links until they are closed, or the host crashes.
    pub(crate) async fn live(mut self) {
        let links = match Links::start_on(Arc::new(Turmoil), self.options, self.inbound).await {
            Ok(links) => Arc::new(links),
            Err(error) => return drop(self.started.send(Err(error))),
        };
        // A node that died meanwhile listens no more; the host crashes with it.
        drop(self.started.send(Ok(Arc::clone(&links))));
        while let Some(order) = self.orders.next().await {
            match order {
                Order::SetPeers(peers) => links.set_peers(peers),
                Order::Close(closed) => {
                    drop(links);
                    let _ = closed.send(());
                    return;
                }
            }
        }
    }
}

/// Hands on what links tell, for as long as their node lives.
struct Mailbox {
    shared: Arc<Shared>,
    node: NodeId,
    alive: Arc<AtomicBool>,
}

impl Mailbox {
    fn tell(&self, told: Told) {
        if self.alive.load(Ordering::Relaxed) {
            self.shared.tell(told);
        }
    }
}

impl Inbound for Mailbox {
    fn received(&self, from: NodeId, class: Class, message: Bytes) {
        self.tell(Told::Received { at: self.node, from, class, message });
    }

    fn link_changed(&self, peer: NodeId, state: LinkState) {
        self.tell(Told::Changed { at: self.node, peer, state });
    }
}

/// Makes the links of one life of one node.
pub(crate) struct LifeLinker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) owner: Owner,
    pub(crate) node: NodeId,
}

impl Linker for LifeLinker {
    fn link(
        self: Box<Self>,
        handshake: Handshake,
        inbound: Arc<dyn Inbound>,
    ) -> BoxFuture<'static, Result<Arc<dyn Network>, StartError>> {
        let Self { shared, owner, node } = *self;
        let alive = shared.begin(node, inbound);
        let options = LinkOptions {
            keep_alive: shared.keep_alive,
            down_after: shared.down_after,
            ..LinkOptions::new(([0, 0, 0, 0], PORT).into(), handshake, Vec::new())
        };
        let (started, links) = oneshot::channel();
        let (sender, orders) = mpsc::unbounded();
        let inbound = Arc::new(Mailbox { shared: Arc::clone(&shared), node, alive });
        shared.want(node, Wanted { options, inbound, started, orders });
        async move {
            let links = match links.await {
                Ok(links) => links?,
                // The host crashed, and the node with it.
                Err(_) => futures::future::pending().await,
            };
            let links = Mutex::new(Some(links));
            let network: Arc<dyn Network> =
                Arc::new(LifeLinks { shared, owner, node, links, orders: sender });
            Ok(network)
        }
        .boxed()
    }
}

/// The links of one life of one node.
struct LifeLinks {
    shared: Arc<Shared>,
    owner: Owner,
    node: NodeId,
    links: Mutex<Option<Arc<Links>>>,
    orders: mpsc::UnboundedSender<Order>,
}

impl LifeLinks {
    fn links(&self) -> Option<Arc<Links>> {
        let links = self.links.lock();
        links.clone().filter(|_| !self.shared.is_dead(self.owner))
    }
}

impl Network for LifeLinks {
    fn set_peers(&self, peers: Vec<Peer>) {
        // Where the host has crashed there is nobody to tell.
        drop(self.orders.unbounded_send(Order::SetPeers(peers)));
    }

    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused> {
        let stream = StreamId { from: self.node, to, class };
        let sent = match self.links() {
            Some(links) => links.send(to, class, message.clone()),
            None => Err(SendRefused::Down),
        };
        self.shared.count(stream, sent);
        sent?;
        self.shared.tap.sent(self.owner, stream, &message);
        Ok(())
    }

    fn incarnation_of(&self, peer: NodeId) -> Option<Incarnation> {
        let state = self.states().into_iter().find(|state| state.id == peer)?;
        match state.state {
            LinkState::Up { incarnation } => Some(incarnation),
            LinkState::Down => None,
        }
    }

    fn stats(&self) -> Vec<PeerStats> {
        self.links().map_or_else(Vec::new, |links| links.stats())
    }

    fn states(&self) -> Vec<PeerState> {
        self.links().map_or_else(Vec::new, |links| links.states())
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.links().map(|links| links.local_addr())
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        drop(self.links.lock().take());
        let (closed, end) = oneshot::channel();
        let asked = self.orders.unbounded_send(Order::Close(closed));
        async move {
            // Where the host has crashed they are closed.
            if asked.is_ok() {
                let _ = end.await;
            }
        }
        .boxed()
    }
}
