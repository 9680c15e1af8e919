//! One node: opens the store, joins the links, opens the doors, stops cleanly on a signal.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use meridian_options::{Options, SyncPolicy};
use meridian_runtime::{Condition, ForgettingSettings, Lost, Node, NodeOptions};
use meridian_server::{Check, DoorLimits, Doors, DoorsOptions, Health, HealthSource, Password};
use meridian_store::{HintLimits, StoreOptions};
use meridian_telemetry::Metrics;
use meridian_types::catalog::Version;
use meridian_types::{Catalog, ConflictPolicy, Hlc, NodeId, TableName, TableOptions};
use tokio::signal::unix::{SignalKind, signal};

/// The keyspace of RESP's numbered databases.
const RESP_KEYSPACE: &str = "redis";

/// How many numbered databases there are, as in Redis.
const RESP_DATABASES: usize = 16;

/// Runs a node until it is told to stop.
///
/// # Errors
/// What keeps the node from starting, or made it stop.
pub(crate) async fn run(options: Options) -> Result<()> {
    // Listening for signals comes first: a node that is told to stop while it opens must hear it.
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be heard")?;
    let metrics = Arc::new(Metrics::new());
    let node = Node::start(node_options(&options)?, Arc::clone(&metrics)).await?;
    let opened = node.opened();
    tracing::info!(
        node = options.node.name,
        incarnation = %opened.incarnation,
        clean = opened.clean,
        replayed = opened.recovered_records,
        torn_bytes = opened.torn_bytes,
        "the store is open"
    );
    for lost in &opened.lost {
        tracing::error!(
            %lost, vnodes = opened.reset_vnodes,
            "a part of the disk cannot be read; what it held is rebuilt from the other replicas"
        );
    }
    let node = Arc::new(node);
    let health = Arc::new(NodeHealth(Arc::clone(&node)));
    let doors = Doors::open(Arc::clone(&node), metrics, health, doors_options(&options)).await?;
    let addresses = doors.addresses();
    tracing::info!(
        resp = ?addresses.resp, rest = ?addresses.rest, grpc = ?addresses.grpc,
        links = ?node.link_address(), "the doors are open"
    );
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        why = broken(&node) => Some(why),
    };
    tracing::info!("stopping");
    node.announce_stop();
    doors.close().await;
    // The doors have let go of the node; a client that still waits holds it a moment longer.
    node.stop().await.context("the node did not stop cleanly; it will replay its log")?;
    match failed {
        Some(why) => bail!("the node stopped because its storage failed: {why}"),
        None => Ok(()),
    }
}

/// Waits until the storage has failed in a way that a node must not live with: a log that cannot be
/// synced takes no promise any more.
async fn broken(node: &Node) -> String {
    let mut every = tokio::time::interval(std::time::Duration::from_millis(200));
    loop {
        every.tick().await;
        if let Some(why) = node.poisoned() {
            return why;
        }
    }
}

/// Translates the node's condition for `/health`.
struct NodeHealth(Arc<Node>);

impl HealthSource for NodeHealth {
    fn health(&self) -> Health {
        let Condition {
            stopping,
            failure,
            unreachable,
            others,
            lost,
            hints,
            hints_dropped,
            in_flight: (waiting, limit),
        } = self.0.condition();
        let mut health = Health::ok();
        if stopping {
            health.node = Check::failed("the node is stopping");
        }
        if let Some(failure) = failure {
            health.data = Check::failed(failure);
        } else if hints_dropped > 0 {
            health.data = Check::degraded(format!(
                "{hints_dropped} hints found their queue full; anti-entropy brings their writes"
            ));
        }
        if health.data == Check::ok() && lost.vnodes > 0 {
            health.data = Check::degraded(rebuilding(&lost));
        }
        if !unreachable.is_empty() {
            health.cluster = Check::degraded(format!(
                "{} of {others} other nodes cannot be reached: {}; {hints} hints wait",
                unreachable.len(),
                unreachable.join(", ")
            ));
        }
        if waiting * 10 > limit * 9 {
            health.performance = Check::degraded(format!(
                "{waiting} requests wait for other nodes; more than {limit} are refused"
            ));
        }
        health
    }
}

/// What a node says while it makes good what it may have lost.
fn rebuilding(lost: &Lost) -> String {
    let mut words = format!("rebuilding {} vnodes, which answer few reads until then", lost.vnodes);
    if !lost.waits_for.is_empty() {
        words.push_str("; waits for ");
        words.push_str(&lost.waits_for.join(", "));
    }
    if lost.stuck > 0 {
        words.push_str(&format!(
            "; of {} no replica is left that lost nothing: `meridian repair accept-loss` lets them \
             begin with what there is",
            lost.stuck
        ));
    }
    words
}

fn node_options(options: &Options) -> Result<NodeOptions> {
    let shape = &options.cluster.shape;
    let topology = shape.topology();
    let replication = &options.replication;
    Ok(NodeOptions {
        cluster: options.cluster.name.clone(),
        secret: options.cluster.secret.expose().as_bytes().to_vec(),
        node: options.node.id,
        topology: topology.clone(),
        default_replication: shape.replication().clone(),
        initial_catalog: initial_catalog(options)?,
        data_dir: options.node.data_dir.clone(),
        // A cluster of one node has no links; it listens where nobody is told to look.
        listen: options.links.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        peers: options.peers.iter().map(|(id, address)| (*id, address.clone())).collect(),
        default_consistency: replication.default_consistency,
        request_timeout: replication.request_timeout,
        max_timeout: NodeOptions::MAX_TIMEOUT,
        hint_after: NodeOptions::HINT_AFTER,
        hedge_after: Some(NodeOptions::HEDGE_AFTER),
        anti_entropy_every: replication.anti_entropy_interval,
        keep_alive: options.links.keep_alive,
        down_after: options.links.down_after,
        limits: options.limits.sizes,
        store: store_options(options),
        hints: HintLimits {
            window_ms: u64::try_from(replication.hint_window.as_millis()).unwrap_or(u64::MAX),
            ..HintLimits::default()
        },
        session: meridian_runtime::SessionLimits::default(),
        forgetting: ForgettingSettings {
            enabled: options.forgetting.enabled,
            every: options.forgetting.interval,
            max_skew: options.forgetting.max_skew,
        },
        placements: Arc::default(),
    })
}

fn store_options(options: &Options) -> StoreOptions {
    let storage = &options.storage;
    let topology = options.cluster.shape.topology();
    StoreOptions {
        sync: match storage.sync {
            SyncPolicy::Every { interval, writes } => {
                meridian_store::SyncPolicy::Every { interval, writes }
            }
            SyncPolicy::Always => meridian_store::SyncPolicy::Always,
            SyncPolicy::Os => meridian_store::SyncPolicy::Os,
        },
        block_cache_bytes: storage.block_cache_bytes,
        memtable_bytes: storage.memtable_bytes,
        total_memtable_bytes: storage.memtables_bytes,
        workers: storage.workers,
        partitioner: topology.partitioner(),
        vnode_bits: topology.vnode_count().get().trailing_zeros(),
        ..StoreOptions::default()
    }
}

/// RESP's databases are there from the start, the same on every node: their definitions are the
/// oldest that can be, so nobody's choice is ever overruled by them.
fn initial_catalog(options: &Options) -> Result<Catalog> {
    let oldest = Version { stamp: Hlc(1), node: NodeId(0) };
    let shape = &options.cluster.shape;
    let name_of = |dc| shape.topology().dc_name(dc).map(str::to_owned);
    let replication =
        shape.replication().iter().filter_map(|(dc, n)| Some((name_of(dc)?, n))).collect();
    let mut catalog = Catalog::default();
    catalog.create_keyspace(RESP_KEYSPACE, replication, oldest)?;
    for number in 0..RESP_DATABASES {
        let name = TableName::new(RESP_KEYSPACE, &format!("db{number}"))?;
        let lww = TableOptions { policy: ConflictPolicy::Lww, ..TableOptions::default() };
        catalog.create_table(&name, lww, oldest)?;
    }
    Ok(catalog)
}

fn doors_options(options: &Options) -> DoorsOptions {
    let doors = &options.doors;
    DoorsOptions {
        resp: doors.resp,
        rest: doors.rest,
        grpc: doors.grpc,
        default_consistency: options.replication.default_consistency,
        resp_keyspace: RESP_KEYSPACE.to_owned(),
        resp_create_databases: false,
        password: doors.password.as_ref().map(|p| Password::new(p.expose().to_owned())),
        // Checked with the other options, where the error can name the key and the file.
        allow_public_without_password: true,
        limits: DoorLimits {
            data: options.limits.sizes,
            connections: options.limits.connections,
            default_timeout: options.replication.request_timeout,
            ..DoorLimits::DEFAULT
        },
    }
}
