//! What a node is put together from, and what that is in production.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_store::{
    Batches, HintLog, Hints, MAX_BATCH_BYTES, Metadata, SledMetadata, StoreError,
};
use meridian_transport::{
    Class, Handshake, Inbound, LinkOptions, LinkState, Links, Peer, PeerState, PeerStats,
    SendRefused,
};
use meridian_types::{Incarnation, NodeId};
use meridian_vfs::{Fs, StdFs};

use crate::error::StartError;
use crate::host::{Host, Linker, Network};
use crate::options::NodeOptions;
use crate::tokio_host::TokioHost;

/// What a node runs on. Nothing of it is used by two lives of a node at once.
pub struct Parts {
    /// Time, chance, tasks and threads.
    pub host: Arc<dyn Host>,
    /// Where the rows are, in [`NodeOptions::data_dir`].
    pub fs: Arc<dyn Fs>,
    /// Identity, incarnation, catalog.
    pub metadata: Arc<dyn Metadata>,
    /// What waits for other nodes.
    pub hints: Arc<dyn HintLog>,
    /// Atomic batches that are kept until they are whole.
    pub batches: Arc<Batches>,
    /// How other nodes are reached.
    pub links: Box<dyn Linker>,
}

impl Parts {
    /// A process of its own: tokio, files, sockets.
    pub(crate) fn of_process(options: &NodeOptions) -> Result<Self, StartError> {
        let path = &options.data_dir;
        let unusable = |cause| StartError::DataDir { path: path.clone(), cause };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let metadata = SledMetadata::open(&path.join("meta")).map_err(StoreError::from)?;
        let hints = Hints::on_sled(&metadata, options.hints)?;
        let batches = Batches::on_sled(&metadata, MAX_BATCH_BYTES)?;
        Ok(Self {
            host: Arc::new(TokioHost::new()?),
            fs: Arc::new(StdFs),
            metadata: Arc::new(metadata),
            hints: Arc::new(hints),
            batches: Arc::new(batches),
            links: Box::new(Transport::of(options)),
        })
    }
}

/// Links over sockets: `meridian-transport`.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// Where other nodes reach this one. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// How often a link says that it is alive.
    pub keep_alive: Duration,
    /// After how long a silence a link counts as down.
    pub down_after: Duration,
}

impl Transport {
    /// As a node's options say.
    #[must_use]
    pub fn of(options: &NodeOptions) -> Self {
        let NodeOptions { listen, keep_alive, down_after, .. } = *options;
        Self { listen, keep_alive, down_after }
    }
}

impl Linker for Transport {
    fn link(
        self: Box<Self>,
        handshake: Handshake,
        inbound: Arc<dyn Inbound>,
    ) -> BoxFuture<'static, Result<Arc<dyn Network>, StartError>> {
        let options = LinkOptions {
            keep_alive: self.keep_alive,
            down_after: self.down_after,
            ..LinkOptions::new(self.listen, handshake, Vec::new())
        };
        Box::pin(async move {
            let links = Links::start(options, inbound).await?;
            let network: Arc<dyn Network> = Arc::new(Sockets(ArcSwapOption::from_pointee(links)));
            Ok(network)
        })
    }
}

/// [`Links`], until they are closed.
struct Sockets(ArcSwapOption<Links>);

impl Network for Sockets {
    fn set_peers(&self, peers: Vec<Peer>) {
        if let Some(links) = &*self.0.load() {
            links.set_peers(peers);
        }
    }

    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused> {
        match &*self.0.load() {
            Some(links) => links.send(to, class, message),
            None => Err(SendRefused::Down),
        }
    }

    fn incarnation_of(&self, peer: NodeId) -> Option<Incarnation> {
        let state = self.states().into_iter().find(|state| state.id == peer)?;
        match state.state {
            LinkState::Up { incarnation } => Some(incarnation),
            LinkState::Down => None,
        }
    }

    fn stats(&self) -> Vec<PeerStats> {
        self.0.load().as_ref().map_or_else(Vec::new, |links| links.stats())
    }

    fn states(&self) -> Vec<PeerState> {
        self.0.load().as_ref().map_or_else(Vec::new, |links| links.states())
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.0.load().as_ref().map(|links| links.local_addr())
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Where somebody sends at this moment, they end when that is done.
            if let Some(links) = self.0.swap(None).and_then(Arc::into_inner) {
                links.close().await;
            }
        })
    }
}
