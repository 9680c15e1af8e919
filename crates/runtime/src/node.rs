//! A node: its store, its links, and the requests that wait between them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use meridian_coordinator::HedgeBudget;
use meridian_coordinator::message::Refusal;
use meridian_crdt::TokenKey;
use meridian_node::{AliveView, LinkEvent, NodeEvent, Outlook, RebuildEvent};
use meridian_store::{Commit, HintLog, Identity, Metadata, Opened, Store, StoreError};
use meridian_telemetry::Metrics;
use meridian_topology::Topology;
use meridian_transport::{Class, Handshake, LinkState, Peer, SendRefused};
use meridian_types::{Catalog, DcId, Incarnation, KeyspaceId, Millis, NodeId};
use meridian_vfs::Fs;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use uuid::{Builder, Uuid};

use crate::admission::Admission;
use crate::batches::BatchKeeper;
use crate::catalog::{CatalogView, Ground};
use crate::control::{ControlEvent, ControlSender};
use crate::credit::HintCredit;
use crate::error::{StartError, StopError};
use crate::exchange::Exchange;
use crate::hints::HintKeeper;
use crate::host::{GivenUp, Host, Network};
use crate::in_flight::InFlight;
use crate::intents::IntentCalls;
use crate::kept::MAX_KEPT_REQUESTS;
use crate::lag::Lags;
use crate::options::NodeOptions;
use crate::pace::Pace;
use crate::parts::Parts;
use crate::peer::{MAX_BLOCKING, MAX_HANDED, PeerDoor};
use crate::peers::Peers;
use crate::repair_budget::RepairBudget;
use crate::shares::Shares;
use crate::superseded::PeerClocks;
use crate::tasks::Tasks;

/// How long the health page shows a full disk after the last write that it refused.
const FULL_SHOWN_MS: u64 = 10_000;

/// A running node. Implements [`meridian_service::Service`].
pub struct Node {
    pub(crate) inner: Arc<Inner>,
    opened: Opened,
    tasks: Mutex<Tasks>,
}

/// What every task of the node shares.
pub(crate) struct Inner {
    pub(crate) id: NodeId,
    pub(crate) dc: DcId,
    pub(crate) options: NodeOptions,
    pub(crate) topology: Topology,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) store: Store,
    pub(crate) catalog: ArcSwap<CatalogView>,
    pub(crate) exchanges: InFlight<Exchange>,
    pub(crate) admission: Admission,
    pub(crate) hedges: HedgeBudget,
    pub(crate) hints: HintKeeper,
    pub(crate) peer_clocks: PeerClocks,
    pub(crate) hint_credit: HintCredit,
    pub(crate) shares: Shares,
    /// Bytes that requests have brought from other nodes.
    pub(crate) foreground_bytes: AtomicU64,
    pub(crate) lags: Lags,
    pub(crate) pace: Pace,
    pub(crate) repair_budget: RepairBudget,
    pub(crate) token_key: TokenKey,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) blocking: Arc<Semaphore>,
    pub(crate) handed: Arc<Semaphore>,
    pub(crate) kept: Arc<Semaphore>,
    pub(crate) intents: IntentCalls,
    pub(crate) batches: BatchKeeper,
    pub(crate) peers: Peers,
    /// Who can be reached: made anew by the control plane at every change.
    pub(crate) alive: ArcSwap<AliveView>,
    /// What may be lost, as the control plane saw it last.
    pub(crate) outlook: ArcSwap<Outlook>,
    pub(crate) control: ControlSender,
    pub(crate) links: OnceLock<Arc<dyn Network>>,
    stopping: AtomicBool,
    /// The first thing that broke, for the health page.
    failure: Mutex<Option<String>>,
    /// The last refusal for want of room on the disk.
    full: Mutex<Option<(Millis, String)>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl Node {
    /// Starts a node in a process of its own: on tokio, with its data in files, linked by sockets.
    /// See [`Self::start_on`].
    ///
    /// # Errors
    /// See [`StartError`]. The data is as it was.
    pub async fn start(options: NodeOptions, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        options.topology.node(options.node).ok_or(StartError::NoSuchNode(options.node))?;
        let parts = Parts::of_process(&options)?;
        Self::start_on(parts, options, metrics).await
    }

    /// Opens the store, begins a new incarnation where one is needed, and links up.
    ///
    /// # Errors
    /// See [`StartError`]. The data is as it was.
    pub async fn start_on(
        parts: Parts,
        options: NodeOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let topology = options.topology.clone();
        let info = topology.node(options.node).ok_or(StartError::NoSuchNode(options.node))?;
        let (id, dc) = (info.id, info.dc);
        let Parts { host, fs, metadata, hints, batches, links } = parts;
        let (store, opened) = open_store(&options, &*host, fs, metadata)?;
        store.join_catalog(&options.initial_catalog)?;
        let ground = Ground { me: id, topology: &topology, placements: &options.placements };
        let view = CatalogView::build(&store.catalog(), ground, &CatalogView::default());
        let peers = Peers::new(id, &topology, &metrics);
        let (control, events) = crate::control::queue();
        let inner = Arc::new(Inner {
            id,
            dc,
            topology,
            store,
            catalog: ArcSwap::from_pointee(view),
            exchanges: InFlight::new(host.random()),
            admission: Admission::default(),
            hedges: HedgeBudget::default(),
            hints: HintKeeper::new(hints),
            peer_clocks: PeerClocks::default(),
            hint_credit: HintCredit::new(),
            shares: Shares::default(),
            foreground_bytes: AtomicU64::new(0),
            lags: Lags::default(),
            pace: Pace::default(),
            repair_budget: RepairBudget::new(host.now()),
            token_key: TokenKey::derive(&options.secret),
            metrics,
            blocking: Arc::new(Semaphore::new(MAX_BLOCKING)),
            handed: Arc::new(Semaphore::new(MAX_HANDED)),
            kept: Arc::new(Semaphore::new(MAX_KEPT_REQUESTS)),
            intents: IntentCalls::default(),
            batches: BatchKeeper::new(batches),
            peers,
            alive: ArcSwap::from_pointee(AliveView::default()),
            outlook: ArcSwap::from_pointee(Outlook::default()),
            control,
            links: OnceLock::new(),
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            full: Mutex::new(None),
            host,
            options,
        });
        // Before anybody can ask: what may be lost answers no read.
        let lacks = crate::rebuild::judge_all(&inner)?;
        let inbound = Arc::new(PeerDoor(Arc::downgrade(&inner)));
        let linked = links.link(inner.handshake(opened.incarnation), inbound).await?;
        let links = inner.links.get_or_init(|| linked);
        // Only now: what a peer says at once must find the links that answer it.
        links.set_peers(inner.link_peers());
        let mut tasks = Tasks::default();
        let seed = inner.host.random();
        tasks.spawn(&*inner.host, crate::control::run(Arc::clone(&inner), events, seed, lacks));
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
        self.inner.links.get().and_then(|links| links.local_addr())
    }

    /// The node's store, for a world that drives its log and its jobs itself, and for checks of what
    /// a replica holds. Reading changes nothing; writing here bypasses replication.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What waits for other nodes, in the log: for checks.
    #[must_use]
    pub fn hints(&self) -> &dyn HintLog {
        &**self.inner.hints.log()
    }

    /// Atomic batches that are not known to be whole, of those that this node coordinated or keeps:
    /// for checks.
    #[must_use]
    pub fn open_batches(&self) -> u64 {
        self.inner.batches.open()
    }

    /// Says that the node is about to stop: new requests are refused from now on, those that run go
    /// on.
    pub fn announce_stop(&self) {
        self.inner.stopping.store(true, Ordering::Release);
    }

    /// Stops: new requests are refused, and the node's loops and links end. Requests that still
    /// wait for other nodes are answered that the node stopped; what became of a write is not known
    /// then. Hints and log are made durable.
    ///
    /// # Errors
    /// See [`StopError`]; the node is stopped all the same.
    pub async fn stop(&self) -> Result<(), StopError> {
        self.announce_stop();
        drop(std::mem::take(&mut *self.tasks.lock()));
        if let Some(links) = self.inner.links.get() {
            Arc::clone(links).close().await;
        }
        // Nothing answers or wakes them any more.
        self.inner.exchanges.close();
        self.inner.hints.stopped().await;
        let stopped = self.inner.off_thread(|inner| {
            let hints = inner.hints.flush_rest(inner);
            let store = inner.store.clone().close();
            hints.map_err(StopError::from).and(store.map_err(StopError::from))
        });
        stopped.await.unwrap_or(Ok(()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A task of the node that waits for one holds the table that it would wait in for ever.
        self.inner.exchanges.close();
    }
}

impl Inner {
    /// Starts a task beside the others.
    pub(crate) fn spawn<F>(self: &Arc<Self>, task: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.host.spawn(Box::pin(task(Arc::clone(self))));
    }

    /// Does a work that may wait for the disk; see [`Host::block`].
    pub(crate) fn block(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let inner = Arc::clone(self);
        self.host.block(Box::new(move || work(&inner)));
    }

    /// Does a work that may wait for the disk, and waits for its result.
    pub(crate) async fn off_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> Result<T, GivenUp> {
        let (sender, receiver) = oneshot::channel();
        // Whoever asked may have stopped waiting.
        self.block(move |inner| drop(sender.send(work(inner))));
        receiver.await.map_err(|_closed| GivenUp)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether messages to a node can be expected to arrive.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        node == self.id || self.alive.load().is_alive(node)
    }

    pub(crate) fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused> {
        match self.links.get() {
            Some(links) => links.send(to, class, message),
            None => Err(SendRefused::Down),
        }
    }

    /// A name that nobody else gives, for a request or a write that came without one.
    pub(crate) fn fresh_uuid(&self) -> Uuid {
        let (high, low) = (self.host.random().to_be_bytes(), self.host.random().to_be_bytes());
        let mut random = [0; 10];
        random[..8].copy_from_slice(&high);
        random[8..].copy_from_slice(&low[..2]);
        Builder::from_unix_timestamp_millis(self.host.wall().0, &random).into_uuid()
    }

    fn handshake(&self, incarnation: Incarnation) -> Handshake {
        Handshake {
            cluster: self.options.cluster.clone(),
            node: self.id,
            incarnation,
            protocol: meridian_wire::replica::PROTOCOL,
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

    /// Whether a node is of the same datacenter.
    pub(crate) fn is_near(&self, node: NodeId) -> bool {
        self.topology.node(node).is_some_and(|node| node.dc == self.dc)
    }

    pub(crate) fn dc_name_of(&self, node: NodeId) -> &str {
        let dc = self.topology.dc_of(node);
        dc.and_then(|dc| self.topology.dc_name(dc)).unwrap_or("?")
    }

    pub(crate) fn incarnation_of(&self, node: NodeId) -> Option<Incarnation> {
        if node == self.id {
            return Some(self.store.actor().incarnation);
        }
        self.links.get()?.incarnation_of(node)
    }

    /// The control plane decides what a link's change means, and publishes who is alive.
    pub(crate) fn link_changed(&self, peer: NodeId, state: LinkState) {
        let event = match state {
            LinkState::Up { incarnation } => LinkEvent::Up { peer, incarnation },
            LinkState::Down => LinkEvent::Down { peer },
        };
        self.control.tell(ControlEvent::Node(NodeEvent::Link(event)));
    }

    /// Joins a catalog and shows what is new to the requests that come. `created` is a keyspace of
    /// it that its sender has just created: where it was not known here before, nobody can have lost
    /// anything of it.
    pub(crate) fn join_catalog(
        &self,
        theirs: &Catalog,
        created: Option<KeyspaceId>,
    ) -> Result<bool, StoreError> {
        let before = self.catalog.load_full();
        let changed = self.store.join_catalog(theirs)?;
        if changed {
            let placements = &self.options.placements;
            let ground = Ground { me: self.id, topology: &self.topology, placements };
            self.catalog.rcu(|before| CatalogView::build(&self.store.catalog(), ground, before));
            let view = self.catalog.load_full();
            let ids = view.keyspaces().map(|keyspace| keyspace.def.id);
            for keyspace in ids.filter(|id| before.keyspace(*id).is_none()) {
                if created == Some(keyspace) {
                    self.store.begin(keyspace, &self.own_vnodes(keyspace))?;
                }
                let vnodes = self.judge(keyspace)?;
                self.tell_rebuild(RebuildEvent::Judged { keyspace, vnodes });
            }
            self.control.tell(ControlEvent::CatalogChanged);
        }
        Ok(changed)
    }

    /// Goes on when a commit is as durable as the sync policy says, unless the node is gone by then.
    pub(crate) fn when_settled(
        self: &Arc<Self>,
        commit: &Commit,
        then: impl FnOnce(&Arc<Self>, Result<(), Refusal>) + Send + 'static,
    ) {
        let inner = Arc::downgrade(self);
        let settled = move |settled: Result<(), meridian_lsm::Error>| {
            if let Some(inner) = inner.upgrade() {
                then(&inner, settled.map_err(|error| Refusal::Storage(error.to_string())));
            }
        };
        self.store.on_settled(commit, Box::new(settled));
    }

    /// A full disk passes by itself, everything else is there to stay.
    pub(crate) fn note_storage_error(&self, error: &StoreError) {
        tracing::error!(%error, "storage");
        if error.is_for_want_of_room() {
            *self.full.lock() = Some((self.host.now(), error.to_string()));
            return;
        }
        self.note_failure(error.to_string());
        if let Err(why) = self.store.note_damage(error) {
            tracing::error!(%why, "the damage cannot be noted for the next start");
        }
    }

    /// Keeps the first failure for the health page.
    pub(crate) fn note_failure(&self, what: String) {
        self.failure.lock().get_or_insert(what);
    }

    pub(crate) fn failure(&self) -> Option<String> {
        let lasting = self.failure.lock().clone();
        let full = self.full.lock().clone();
        let now = self.host.now();
        let passing = full.filter(|(at, _)| now.since(*at) < FULL_SHOWN_MS);
        lasting.or(passing.map(|(_, what)| what))
    }
}

fn open_store(
    options: &NodeOptions,
    host: &dyn Host,
    fs: Arc<dyn Fs>,
    metadata: Arc<dyn Metadata>,
) -> Result<(Store, Opened), StartError> {
    let topology = &options.topology;
    let info = topology.node(options.node).ok_or(StartError::NoSuchNode(options.node))?;
    let identity = Identity {
        cluster: options.cluster.clone(),
        node: info.id,
        node_name: info.name.clone(),
        dc: topology.dc_name(info.dc).unwrap_or_default().to_owned(),
        rack: info.rack.clone(),
    };
    Ok(Store::open(
        fs,
        &options.data_dir.join("data"),
        metadata,
        identity,
        options.store.clone(),
        Incarnation(host.random()),
        host.wall(),
    )?)
}
