//! A node: its store, its links, and the requests that wait between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use meridian_crdt::TokenKey;
use meridian_node::{AliveView, LinkEvent, NodeEvent};
use meridian_store::{HintLog, Hints, Identity, Opened, SledMetadata, Store, StoreError};
use meridian_telemetry::Metrics;
use meridian_topology::Topology;
use meridian_transport::{Class, Handshake, LinkOptions, LinkState, Links, Peer, SendRefused};
use meridian_types::{Catalog, DcId, Incarnation, NodeId};
use meridian_vfs::StdFs;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::catalog::CatalogView;
use crate::clock::Monotonic;
use crate::control::{ControlEvent, ControlSender};
use crate::error::{StartError, StopError};
use crate::exchange::Exchange;
use crate::hints::HintKeeper;
use crate::in_flight::InFlight;
use crate::options::NodeOptions;
use crate::peer::{MAX_BLOCKING, MAX_HANDED, PeerDoor};
use crate::peers::Peers;

/// A running node. Implements [`meridian_service::Service`].
pub struct Node {
    pub(crate) inner: Arc<Inner>,
    opened: Opened,
    tasks: Mutex<JoinSet<()>>,
}

/// What every task of the node shares.
pub(crate) struct Inner {
    pub(crate) id: NodeId,
    pub(crate) dc: DcId,
    pub(crate) options: NodeOptions,
    pub(crate) topology: Topology,
    pub(crate) store: Store,
    pub(crate) catalog: ArcSwap<CatalogView>,
    pub(crate) exchanges: InFlight<Exchange>,
    pub(crate) hints: HintKeeper,
    pub(crate) token_key: TokenKey,
    pub(crate) clock: Monotonic,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) blocking: Arc<Semaphore>,
    pub(crate) handed: Arc<Semaphore>,
    pub(crate) peers: Peers,
    /// Who can be reached: made anew by the control plane at every change.
    pub(crate) alive: ArcSwap<AliveView>,
    pub(crate) control: ControlSender,
    pub(crate) links: ArcSwapOption<Links>,
    stopping: AtomicBool,
    /// The first thing that broke, for the health page.
    failure: Mutex<Option<String>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl Node {
    /// Opens the data directory, begins a new incarnation where one is needed, and links up.
    ///
    /// # Errors
    /// See [`StartError`]. The data is as it was.
    pub async fn start(options: NodeOptions, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let topology = options.topology.clone();
        let info = topology.node(options.node).ok_or(StartError::NoSuchNode(options.node))?;
        let (id, dc) = (info.id, info.dc);
        let (store, hint_log, opened) = open_store(&options)?;
        store.join_catalog(&options.initial_catalog)?;
        let view = CatalogView::build(&store.catalog(), &topology, &CatalogView::default());
        let hints: Arc<dyn HintLog> = Arc::new(hint_log);
        let peers = Peers::new(id, &topology, &metrics);
        let (control, events) = crate::control::queue();
        let inner = Arc::new(Inner {
            id,
            dc,
            topology,
            store,
            catalog: ArcSwap::from_pointee(view),
            exchanges: InFlight::new(random()?),
            hints: HintKeeper::new(hints),
            token_key: TokenKey::derive(&options.secret),
            clock: Monotonic::start(),
            metrics,
            blocking: Arc::new(Semaphore::new(MAX_BLOCKING)),
            handed: Arc::new(Semaphore::new(MAX_HANDED)),
            peers,
            alive: ArcSwap::from_pointee(AliveView::default()),
            control,
            links: ArcSwapOption::empty(),
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            options,
        });
        inner.hints.start(Arc::downgrade(&inner))?;
        let links = Arc::new(start_links(&inner, opened.incarnation).await?);
        inner.links.store(Some(Arc::clone(&links)));
        // Only now: what a peer says at once must find the links that answer it.
        links.set_peers(inner.link_peers());
        drop(links);
        let mut tasks = JoinSet::new();
        tasks.spawn(crate::control::run(Arc::clone(&inner), events, random()?));
        crate::background::start(&inner, &mut tasks);
        Ok(Self { inner, opened, tasks: Mutex::new(tasks) })
    }

    /// What was found in the data directory.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Where other nodes reach this one.
    #[must_use]
    pub fn link_address(&self) -> Option<SocketAddr> {
        self.inner.links.load().as_ref().map(|links| links.local_addr())
    }

    /// Says that the node is about to stop: new requests are refused from now on, those that run go
    /// on.
    pub fn announce_stop(&self) {
        self.inner.stopping.store(true, Ordering::Release);
    }

    /// Stops: new requests are refused, waiting ones are answered or time out with their clients,
    /// hints and log are made durable.
    ///
    /// # Errors
    /// See [`StopError`]; the node is stopped all the same.
    pub async fn stop(&self) -> Result<(), StopError> {
        self.announce_stop();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        drop(tasks);
        // Where a request still holds them, they end when it does.
        if let Some(links) = self.inner.links.swap(None).and_then(Arc::into_inner) {
            links.close().await;
        }
        let inner = Arc::clone(&self.inner);
        let stopped = tokio::task::spawn_blocking(move || {
            let hints = inner.hints.stop();
            let store = inner.store.clone().close();
            hints.map_err(StopError::from).and(store.map_err(StopError::from))
        });
        stopped.await.unwrap_or(Ok(()))
    }
}

impl Inner {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether messages to a node can be expected to arrive.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        node == self.id || self.alive.load().is_alive(node)
    }

    pub(crate) fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused> {
        match &*self.links.load() {
            Some(links) => links.send(to, class, message),
            None => Err(SendRefused::Down),
        }
    }

    fn link_peers(&self) -> Vec<Peer> {
        let peers = self.options.peers.iter().map(|(id, address)| Peer {
            id: *id,
            address: address.clone(),
            dc: self.topology.dc_of(*id).unwrap_or(self.dc),
        });
        peers.collect()
    }

    pub(crate) fn intent_limit(&self) -> usize {
        usize::try_from(self.options.hints.intent_bytes).unwrap_or(usize::MAX)
    }

    pub(crate) fn name_of(&self, node: NodeId) -> &str {
        self.topology.node(node).map_or("?", |info| &info.name)
    }

    pub(crate) fn dc_name_of(&self, node: NodeId) -> &str {
        let dc = self.topology.dc_of(node);
        dc.and_then(|dc| self.topology.dc_name(dc)).unwrap_or("?")
    }

    pub(crate) fn incarnation_of(&self, node: NodeId) -> Option<Incarnation> {
        if node == self.id {
            return Some(self.store.actor().incarnation);
        }
        let links = self.links.load();
        let states = links.as_ref()?.states();
        states.into_iter().find(|peer| peer.id == node).and_then(|peer| match peer.state {
            LinkState::Up { incarnation } => Some(incarnation),
            LinkState::Down => None,
        })
    }

    /// The control plane decides what a link's change means, and publishes who is alive.
    pub(crate) fn link_changed(&self, peer: NodeId, state: LinkState) {
        let event = match state {
            LinkState::Up { incarnation } => LinkEvent::Up { peer, incarnation },
            LinkState::Down => LinkEvent::Down { peer },
        };
        self.control.tell(ControlEvent::Node(NodeEvent::Link(event)));
    }

    /// Joins a catalog and shows what is new to the requests that come.
    pub(crate) fn join_catalog(&self, theirs: &Catalog) -> Result<bool, StoreError> {
        let changed = self.store.join_catalog(theirs)?;
        if changed {
            self.catalog
                .rcu(|before| CatalogView::build(&self.store.catalog(), &self.topology, before));
            self.control.tell(ControlEvent::CatalogChanged);
        }
        Ok(changed)
    }

    pub(crate) fn note_storage_error(&self, error: &StoreError) {
        tracing::error!(%error, "storage");
        self.note_failure(error.to_string());
    }

    /// Keeps the first failure for the health page.
    pub(crate) fn note_failure(&self, what: String) {
        self.failure.lock().get_or_insert(what);
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}

fn open_store(options: &NodeOptions) -> Result<(Store, Hints, Opened), StartError> {
    let topology = &options.topology;
    let info = topology.node(options.node).ok_or(StartError::NoSuchNode(options.node))?;
    let identity = Identity {
        cluster: options.cluster.clone(),
        node: info.id,
        node_name: info.name.clone(),
        dc: topology.dc_name(info.dc).unwrap_or_default().to_owned(),
        rack: info.rack.clone(),
    };
    let path = &options.data_dir;
    let unusable = |cause| StartError::DataDir { path: path.clone(), cause };
    std::fs::create_dir_all(path).map_err(unusable)?;
    let metadata = SledMetadata::open(&path.join("meta")).map_err(StoreError::from)?;
    let hints = Hints::on_sled(&metadata, options.hints)?;
    let (store, opened) = Store::open(
        Arc::new(StdFs),
        &path.join("data"),
        Arc::new(metadata),
        identity,
        options.store.clone(),
        Incarnation(random()?),
        crate::clock::now(),
    )?;
    Ok((store, hints, opened))
}

async fn start_links(inner: &Arc<Inner>, incarnation: Incarnation) -> Result<Links, StartError> {
    let options = &inner.options;
    let handshake = Handshake {
        cluster: options.cluster.clone(),
        node: options.node,
        incarnation,
        protocol: meridian_wire::replica::PROTOCOL,
    };
    let links = LinkOptions {
        keep_alive: options.keep_alive,
        down_after: options.down_after,
        ..LinkOptions::new(options.listen, handshake, Vec::new())
    };
    Ok(Links::start(links, Arc::new(PeerDoor(Arc::downgrade(inner)))).await?)
}

fn random() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(StartError::Randomness)?;
    Ok(u64::from_be_bytes(bytes))
}
