//! The validated options, typed as those who act on them want them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meridian_topology::Shape;
use meridian_types::{ConsistencyLevel, DcId, Limits, NodeId};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for comparing and deriving keys, never for messages.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Everything a node needs to know before it starts. Total, and consistent in itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node.
    pub node: NodeOptions,
    /// Its cluster.
    pub cluster: ClusterOptions,
    /// Where the other nodes listen for this one: `host:port`, by number. Every node of the shape
    /// but this one is there.
    pub peers: BTreeMap<NodeId, String>,
    /// The links between nodes.
    pub links: LinksOptions,
    /// The doors for clients.
    pub doors: DoorsOptions,
    /// The storage engine.
    pub storage: StorageOptions,
    /// Requests and what keeps replicas equal.
    pub replication: ReplicationOptions,
    /// What becomes of deletes.
    pub forgetting: ForgettingOptions,
    /// Logs.
    pub telemetry: TelemetryOptions,
    /// Bounds.
    pub limits: LimitsOptions,
}

/// This node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its name in the shape.
    pub name: String,
    /// Its number in the shape.
    pub id: NodeId,
    /// Its datacenter.
    pub dc: DcId,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// Threads that serve requests; `None` takes one per core.
    pub worker_threads: Option<usize>,
}

/// The cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its name.
    pub name: String,
    /// What seals causal contexts.
    pub secret: Secret,
    /// Its datacenters, racks, nodes and default replication.
    pub shape: Shape,
}

/// The links between nodes.
#[derive(Clone, Debug)]
pub struct LinksOptions {
    /// Where other nodes reach this one; `None` in a cluster of one.
    pub listen: Option<SocketAddr>,
    /// How often a silent link is asked whether it lives.
    pub keep_alive: Duration,
    /// How long a link may be silent before the node behind it is down.
    pub down_after: Duration,
}

/// The doors for clients.
#[derive(Clone, Debug)]
pub struct DoorsOptions {
    /// RESP, where open.
    pub resp: Option<SocketAddr>,
    /// REST, where open.
    pub rest: Option<SocketAddr>,
    /// gRPC, where open.
    pub grpc: Option<SocketAddr>,
    /// Asked for at every door.
    pub password: Option<Secret>,
}

/// When a write is durable on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// After `interval` or `writes`, whichever is first.
    Every {
        /// The longest time between a write and its sync.
        interval: Duration,
        /// The most writes between two syncs.
        writes: u32,
    },
    /// Before it is acknowledged.
    Always,
    /// When the operating system likes.
    Os,
}

/// The storage engine.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// When a write is durable.
    pub sync: SyncPolicy,
    /// Bytes of blocks in memory.
    pub block_cache_bytes: u64,
    /// Bytes of one table's memtable.
    pub memtable_bytes: usize,
    /// Bytes of all memtables.
    pub memtables_bytes: usize,
    /// Bytes after which a new WAL file begins.
    pub wal_segment_bytes: u64,
    /// Threads that flush and compact.
    pub workers: usize,
}

/// Requests and what keeps replicas equal.
#[derive(Clone, Debug)]
pub struct ReplicationOptions {
    /// Level of requests that name none.
    pub default_consistency: ConsistencyLevel,
    /// Deadline of requests that name none.
    pub request_timeout: Duration,
    /// How long hints are kept.
    pub hint_window: Duration,
    /// How often replicas compare their clocks.
    pub anti_entropy_interval: Duration,
}

/// What becomes of deletes and of what has expired.
#[derive(Clone, Debug)]
pub struct ForgettingOptions {
    /// Whether they are forgotten when all replicas know them.
    pub enabled: bool,
    /// How long a node waits after it looked through what it may forget.
    pub interval: Duration,
    /// By how much wall clocks may differ.
    pub max_skew: Duration,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// A level, or a list of `target=level`.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct LimitsOptions {
    /// Sizes of keys, values, batches and pages.
    pub sizes: Limits,
    /// Most connections of each door.
    pub connections: usize,
}
