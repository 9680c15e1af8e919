//! All links of a node.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use meridian_types::NodeId;
use parking_lot::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use crate::accept::Door;
use crate::dial::Dialer;
use crate::peer::PeerLink;
use crate::{
    Class, LinkOptions, LinkState, Peer, PeerState, PeerStats, SendRefused, Sockets, Tcp,
    TransportError,
};

/// What the links tell. Called on the transport's own tasks: whatever takes long belongs elsewhere.
pub trait Inbound: Send + Sync + 'static {
    /// A message came, after those that were sent before it in its class.
    ///
    /// It is a view into a frame that may hold other messages: keep a copy of what is kept for
    /// long.
    fn received(&self, from: NodeId, class: Class, message: Bytes);

    /// A peer's link came up or went down. After `Down`, whatever the peer was asked may have been
    /// lost, and so may its answer. Told in order for each peer, and with a lock of the peer held:
    /// [`Links::send`], [`Links::is_up`] and [`Links::states`] may be called from here,
    /// [`Links::set_peers`] and [`Links::close`] may not.
    fn link_changed(&self, peer: NodeId, state: LinkState);
}

/// The links of a node to all its peers. Dropped, they end without waiting; see [`Self::close`].
pub struct Links {
    shared: Arc<Shared>,
    local: SocketAddr,
    dialers: Mutex<JoinSet<()>>,
    door: Listening,
}

/// Takes connections until it is dropped; they are closed with it.
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What every task of the transport needs.
pub(crate) struct Shared {
    pub(crate) options: Arc<LinkOptions>,
    sockets: Arc<dyn Sockets>,
    inbound: Arc<dyn Inbound>,
    /// By id.
    peers: ArcSwap<Vec<Arc<PeerLink>>>,
}

impl Shared {
    pub(crate) fn peer(&self, id: NodeId) -> Option<Arc<PeerLink>> {
        self.with_peer(id, Arc::clone)
    }

    pub(crate) fn number_of_peers(&self) -> usize {
        self.peers.load().len()
    }

    fn with_peer<T>(&self, id: NodeId, use_it: impl FnOnce(&Arc<PeerLink>) -> T) -> Option<T> {
        let peers = self.peers.load();
        let at = peers.binary_search_by_key(&id, |peer| peer.id).ok()?;
        Some(use_it(&peers[at]))
    }
}

impl Links {
    /// Listens for other nodes, and dials them.
    ///
    /// # Errors
    /// An address that cannot be listened on, or options that contradict each other. Nothing runs.
    pub async fn start(
        options: LinkOptions,
        inbound: Arc<dyn Inbound>,
    ) -> Result<Self, TransportError> {
        Self::start_on(Arc::new(Tcp), options, inbound).await
    }

    /// As [`Self::start`], with connections that come from elsewhere.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(
        sockets: Arc<dyn Sockets>,
        options: LinkOptions,
        inbound: Arc<dyn Inbound>,
    ) -> Result<Self, TransportError> {
        options.validate()?;
        let address = options.listen;
        let not_taken = |cause| TransportError::Listen { address, cause };
        let listener = sockets.listen(address).await.map_err(not_taken)?;
        let local = listener.local_addr().map_err(not_taken)?;
        let peers = options.peers.clone();
        let options = Arc::new(options);
        let shared = Arc::new(Shared { options, sockets, inbound, peers: ArcSwap::default() });
        let dialers = Mutex::default();
        Self::change_peers(&shared, &dialers, peers);
        // Last: a peer that dials before it is known here would be refused.
        let door = Listening(tokio::spawn(Door::new(Arc::clone(&shared)).serve(listener)));
        Ok(Self { shared, local, dialers, door })
    }

    /// Where other nodes reach this one.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends a message to a peer. It was not sent when this returns: it waits for its turn.
    ///
    /// A stream to the peer is all that this needs: answers can be sent while the link as a whole
    /// is not up yet, or not any more.
    ///
    /// # Errors
    /// See [`SendRefused`]. The message will not be sent.
    pub fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused> {
        self.shared
            .with_peer(to, |peer| peer.send(class, message))
            .unwrap_or(Err(SendRefused::UnknownPeer))
    }

    /// Whether a peer can be talked to, as far as is known.
    #[must_use]
    pub fn is_up(&self, peer: NodeId) -> bool {
        self.shared.with_peer(peer, |peer| peer.is_up()).unwrap_or(false)
    }

    /// All peers and their links, by id.
    #[must_use]
    pub fn states(&self) -> Vec<PeerState> {
        self.shared.peers.load().iter().map(|peer| peer.state()).collect()
    }

    /// What went over the links, by id of the peer.
    #[must_use]
    pub fn stats(&self) -> Vec<PeerStats> {
        self.shared.peers.load().iter().map(|peer| peer.stats()).collect()
    }

    /// Changes the peers: new ones are dialed, missing ones are dropped, moved ones are dialed at
    /// their new address as soon as the old one does not answer.
    ///
    /// Must be called on a tokio runtime.
    pub fn set_peers(&self, peers: Vec<Peer>) {
        Self::change_peers(&self.shared, &self.dialers, peers);
    }

    fn change_peers(shared: &Shared, dialers: &Mutex<JoinSet<()>>, peers: Vec<Peer>) {
        // One change at a time.
        let mut dialers = dialers.lock();
        while dialers.try_join_next().is_some() {}
        let mut before: Vec<_> = shared.peers.load().to_vec();
        let mut now: Vec<Arc<PeerLink>> = Vec::with_capacity(peers.len());
        let mut added = Vec::new();
        for peer in peers {
            let is_self = peer.id == shared.options.handshake.node;
            if is_self || now.iter().any(|known| known.id == peer.id) {
                continue;
            }
            let known = |link: &Arc<PeerLink>| link.id == peer.id && link.dc() == peer.dc;
            if let Some(at) = before.iter().position(known) {
                let link = before.swap_remove(at);
                link.set_address(&peer.address);
                now.push(link);
            } else {
                let inbound = Arc::clone(&shared.inbound);
                let link = PeerLink::new(peer, &shared.options, inbound);
                added.push(Arc::clone(&link));
                now.push(link);
            }
        }
        now.sort_by_key(|peer| peer.id);
        shared.peers.store(Arc::new(now));
        for gone in before {
            gone.stop();
        }
        for peer in added {
            for class in Class::EVERY {
                let options = Arc::clone(&shared.options);
                let sockets = Arc::clone(&shared.sockets);
                let dialer = Dialer { options, sockets, peer: Arc::clone(&peer), class };
                dialers.spawn(dialer.run());
            }
        }
    }

    /// Ends all links; then the address that was listened on is free again. Messages that wait are
    /// dropped: who needs an answer has waited for it.
    pub async fn close(mut self) {
        self.stop();
        let mut dialers = std::mem::take(&mut *self.dialers.lock());
        while dialers.join_next().await.is_some() {}
        self.door.0.abort();
        // It ends with nothing but that it was aborted.
        let _ = (&mut self.door.0).await;
    }

    fn stop(&self) {
        for peer in self.shared.peers.load().iter() {
            peer.stop();
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.stop();
    }
}
