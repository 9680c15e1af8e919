//! What is fixed for a world: nodes, tables, options, the ways between machines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meridian_crdt::TokenKey;
use meridian_runtime::{ForgettingSettings, NodeOptions, PlacementCache, SessionLimits};
use meridian_store::{HintLimits, LogMode, StoreOptions, SyncPolicy};
use meridian_topology::{Placement, PlacementError, Topology};
use meridian_transport::{Handshake, LinkOptions};
use meridian_types::catalog::Version;
use meridian_types::{
    Catalog, CatalogError, ConsistencyLevel, DcId, Incarnation, KeyspaceId, Limits, NodeId,
    TableId, TableName, TableNameError, TableOptions, VnodeId,
};

use super::record::keys_of;
use crate::history::{Key, Place, Setting, SyncPromise, TableSetting};
use crate::scenario::{NodeSettings, Scenario, Sync};
use crate::sim::{LinkTiming, Micros, Way};

/// The secret that tokens are sealed with.
const SECRET: &[u8] = b"simulated";

/// Latency inside a datacenter, and by how much it varies.
const NEAR: (Micros, Micros) = (Micros(250), Micros(150));

/// How long a write waits to be written to the log's file.
pub(super) const WRITE_AFTER: Micros = Micros::from_millis(1);

/// What a sync takes at most while nothing makes the disk slow.
const SYNC_TAKES: Micros = Micros::from_millis(2);

/// Nodes of a simulated world notice and repair sooner than real ones, so that a history of some
/// seconds has all of it; see [`NodeSettings`].
const DOWN_AFTER: Micros = Micros::from_secs(1);
const ANTI_ENTROPY_EVERY: Micros = Micros::from_secs(2);
const HINT_AFTER: Duration = Duration::from_millis(500);
const CLOCK_SKEW: Micros = Micros::from_millis(50);

/// Bytes of the log after which everything is flushed. The engine's memtables are larger at least,
/// and a history of a thousand writes has flushes and compactions all the same.
const FLUSH_BYTES: usize = 16 << 10;

/// The smallest memtables that the engine allows.
const MEMTABLE_BYTES: usize = 64 << 10;

/// A cluster that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A table's name.
    #[error(transparent)]
    Name(#[from] TableNameError),
    /// The tables of the scenario make no catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The shape's replication does not fit the shape.
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

/// How long a node's processor is busy. Without one it is infinitely fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// With a step of a task, or a message.
    pub(crate) per_task: Micros,
    /// With a request that it refuses.
    pub(crate) per_refusal: Micros,
}

/// A table that clients use.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: TableName,
    pub(crate) id: TableId,
}

/// See the module.
pub(crate) struct Cluster {
    pub(crate) topology: Topology,
    pub(crate) tables: Vec<Table>,
    pub(crate) keys: u32,
    pub(crate) token_key: TokenKey,
    pub(crate) setting: Setting,
    /// By vnode, what is asked when it is looked at: the keys that lie in it.
    pub(crate) vnodes: BTreeMap<(KeyspaceId, VnodeId), Vnode>,
    pub(crate) timing: LinkTiming,
    pub(crate) clock_skew: Micros,
    pub(crate) cpu: Option<Cpu>,
    /// See [`FLUSH_BYTES`].
    pub(crate) flush_bytes: u64,
    catalog: Catalog,
    options: StoreOptions,
    hints: HintLimits,
    settings: NodeSettings,
    replication: meridian_topology::KeyspaceMap,
    placements: Arc<PlacementCache>,
}

/// A vnode: who holds it, and which keys lie in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vnode {
    pub(crate) replicas: Vec<NodeId>,
    pub(crate) keys: Vec<Key>,
}

impl Cluster {
    pub(crate) fn new(scenario: &Scenario) -> Result<Self, WorldError> {
        let topology = scenario.shape.topology().clone().with_vnode_count(scenario.vnodes);
        let placement = Placement::initial(&topology, scenario.shape.replication())?;
        let (catalog, tables) = catalog(scenario, &topology)?;
        let (setting, vnodes) = setting(scenario, &topology, &placement, &catalog);
        let settings = scenario.node.clone();
        let defaults = HintLimits::default();
        let hints = HintLimits {
            hint_bytes: settings.hint_bytes.unwrap_or(defaults.hint_bytes),
            window_ms: settings.hint_window.map_or(defaults.window_ms, Micros::to_millis),
            ..defaults
        };
        Ok(Self {
            tables,
            keys: scenario.workload.keys,
            token_key: TokenKey::derive(SECRET),
            setting,
            vnodes,
            timing: timing(&settings),
            flush_bytes: settings.memtable_bytes.unwrap_or(FLUSH_BYTES) as u64,
            cpu: settings.cpu_per_task.map(|per_task| {
                let per_refusal = settings.cpu_per_refusal.unwrap_or(per_task);
                Cpu { per_task, per_refusal }
            }),
            clock_skew: settings.clock_skew.unwrap_or(CLOCK_SKEW),
            catalog,
            options: store_options(scenario, &topology),
            hints,
            settings,
            replication: scenario.shape.replication().clone(),
            placements: Arc::default(),
            topology,
        })
    }

    pub(crate) fn hint_limits(&self) -> HintLimits {
        self.hints
    }

    pub(crate) fn node_options(&self, node: NodeId) -> NodeOptions {
        let others = self.topology.nodes().iter().filter(|other| other.id != node);
        let settings = &self.settings;
        let hedge = settings.hedge_after.map_or(NodeOptions::HEDGE_AFTER, duration);
        let session = SessionLimits::default();
        let vnodes = settings.session_vnodes.unwrap_or(session.vnodes);
        let session = SessionLimits { vnodes, ..session };
        NodeOptions {
            cluster: "simulated".to_owned(),
            secret: SECRET.to_vec(),
            node,
            topology: self.topology.clone(),
            default_replication: self.replication.clone(),
            initial_catalog: self.catalog.clone(),
            data_dir: PathBuf::from("/node"),
            listen: ([127, 0, 0, 1], 0).into(),
            peers: others.map(|other| (other.id, other.name.clone())).collect(),
            default_consistency: ConsistencyLevel::LocalQuorum,
            request_timeout: NodeOptions::REQUEST_TIMEOUT,
            max_timeout: NodeOptions::MAX_TIMEOUT,
            hint_after: HINT_AFTER,
            hedge_after: Some(hedge),
            anti_entropy_every: duration(settings.anti_entropy_every.unwrap_or(ANTI_ENTROPY_EVERY)),
            forgetting: self.forgetting(),
            keep_alive: duration(Micros(down_after(settings).0 / 6)),
            down_after: duration(down_after(settings)),
            limits: Limits::DEFAULT,
            store: self.options.clone(),
            hints: self.hints,
            session,
            placements: Arc::clone(&self.placements),
        }
    }

    fn forgetting(&self) -> ForgettingSettings {
        let every = self.settings.forget_every;
        ForgettingSettings {
            enabled: every.is_some(),
            every: every.map_or(ForgettingSettings::DEFAULT.every, duration),
            max_skew: Duration::from_millis(self.setting.skew_ms),
        }
    }

    pub(crate) fn names(&self) -> BTreeMap<NodeId, String> {
        self.topology.nodes().iter().map(|node| (node.id, node.name.clone())).collect()
    }

    /// The ways between all machines while nothing is wrong with them.
    pub(crate) fn ways(&self) -> BTreeMap<(NodeId, NodeId), Way> {
        let nodes = self.topology.nodes();
        let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b)));
        let others = pairs.filter(|(a, b)| a.id != b.id);
        others.map(|(a, b)| ((a.id, b.id), self.way(a.dc, b.dc))).collect()
    }

    fn way(&self, from: DcId, to: DcId) -> Way {
        let Some(link) = self.topology.link(from, to) else {
            return Way { latency: NEAR.0, jitter: NEAR.1, ..Way::default() };
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a percentage: at most a million parts of a million"
        )]
        let loss_ppm = (link.loss_percent.clamp(0.0, 100.0) * 10_000.0) as u32;
        Way {
            latency: micros(link.latency),
            jitter: micros(link.jitter),
            loss_ppm,
            ..Way::default()
        }
    }
}

fn down_after(settings: &NodeSettings) -> Micros {
    settings.down_after.unwrap_or(DOWN_AFTER)
}

fn duration(span: Micros) -> Duration {
    Duration::from_micros(span.0)
}

fn micros(span: Duration) -> Micros {
    Micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

fn timing(settings: &NodeSettings) -> LinkTiming {
    let handshake = Handshake {
        cluster: String::new(),
        node: NodeId(0),
        incarnation: Incarnation(0),
        protocol: 0,
    };
    let down_after = down_after(settings);
    LinkTiming {
        down_after,
        keep_alive: Micros(down_after.0 / 6),
        ..(&LinkOptions::new(([127, 0, 0, 1], 0).into(), handshake, Vec::new())).into()
    }
}

fn store_options(scenario: &Scenario, topology: &Topology) -> StoreOptions {
    let sync = match scenario.sync {
        Sync::Every { interval, writes } => {
            SyncPolicy::Every { interval: duration(interval), writes }
        }
        Sync::Always {} => SyncPolicy::Always,
        Sync::Os {} => SyncPolicy::Os,
    };
    let memtable_bytes = scenario.node.memtable_bytes.unwrap_or(0).max(MEMTABLE_BYTES);
    StoreOptions {
        sync,
        block_cache_bytes: 1 << 20,
        memtable_bytes,
        total_memtable_bytes: (8 * memtable_bytes).max(1 << 20),
        write_id_table_bytes: 256 << 10,
        workers: 0,
        log: LogMode::Driven,
        partitioner: topology.partitioner(),
        vnode_bits: topology.vnode_count().get().ilog2(),
        ..StoreOptions::default()
    }
}

/// Each table in a keyspace of its name.
fn catalog(scenario: &Scenario, topology: &Topology) -> Result<(Catalog, Vec<Table>), WorldError> {
    let (mut catalog, mut tables) = (Catalog::default(), Vec::new());
    let names = scenario.shape.replication().iter();
    let replication: BTreeMap<String, u8> = names
        .filter_map(|(dc, replicas)| Some((topology.dc_name(dc)?.to_owned(), replicas)))
        .collect();
    for spec in &scenario.tables {
        let name = TableName::new(&spec.name, &spec.name)?;
        let options = TableOptions {
            policy: spec.policy,
            default_ttl_ms: spec.default_ttl.map(Micros::to_millis),
            ..TableOptions::default()
        };
        catalog.create_keyspace(&spec.name, replication.clone(), Version::default())?;
        let id = catalog.create_table(&name, options, Version::default())?.id;
        tables.push(Table { name, id });
    }
    Ok((catalog, tables))
}

type Vnodes = BTreeMap<(KeyspaceId, VnodeId), Vnode>;

fn setting(
    scenario: &Scenario,
    topology: &Topology,
    placement: &Placement,
    catalog: &Catalog,
) -> (Setting, Vnodes) {
    let (mut keys, mut vnodes, mut tables) = (BTreeMap::new(), Vnodes::new(), BTreeMap::new());
    for table in catalog.tables() {
        let options = &table.options;
        let setting = TableSetting {
            keyspace: table.keyspace,
            policy: options.policy,
            has_ttl: options.default_ttl_ms.is_some(),
        };
        tables.insert(table.id, setting);
        for vnode in topology.vnode_count().vnodes() {
            let replicas = placement.replicas(vnode).all().to_vec();
            vnodes.entry((table.keyspace, vnode)).or_default().replicas = replicas;
        }
        for key in keys_of(table.id, scenario.workload.keys) {
            let vnode = topology.vnode_of(topology.token(&key.to_bytes()));
            let replicas = placement.replicas(vnode).all().to_vec();
            keys.insert(key, Place { vnode, replicas });
            vnodes.entry((table.keyspace, vnode)).or_default().keys.push(key);
        }
    }
    let sync = match scenario.sync {
        Sync::Always {} => SyncPromise::Always,
        Sync::Every { interval, .. } => {
            SyncPromise::Within(interval + WRITE_AFTER + SYNC_TAKES + SYNC_TAKES)
        }
        Sync::Os {} => SyncPromise::Within(Micros(u64::MAX)),
    };
    let skew = scenario.node.clock_skew.unwrap_or(CLOCK_SKEW);
    let setting = Setting {
        sync,
        nodes: topology.nodes().iter().map(|node| (node.id, node.dc)).collect(),
        tables,
        keys,
        skew_ms: 2 * skew.to_millis(),
        heal: scenario.heal,
    };
    (setting, vnodes)
}
