//! What a node is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meridian_crdt::SessionLimits;
use meridian_store::{HintLimits, StoreOptions};
use meridian_topology::{KeyspaceMap, Topology};
use meridian_types::{Catalog, ConsistencyLevel, Limits, NodeId};

use crate::forgetting::ForgettingSettings;
use crate::placements::PlacementCache;

/// Everything that a node needs to know to start. Validated by whoever builds it.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The cluster's name. Nodes of another cluster are not talked to.
    pub cluster: String,
    /// The cluster's secret: causal contexts are authenticated with a key that is derived from it,
    /// so all nodes must have the same.
    pub secret: Vec<u8>,
    /// Which node of the topology this is.
    pub node: NodeId,
    /// Datacenters, racks, nodes, vnodes.
    pub topology: Topology,
    /// The replication map of keyspaces that name none.
    pub default_replication: KeyspaceMap,
    /// Keyspaces and tables that are there from the start, the same on every node.
    pub initial_catalog: Catalog,
    /// Where the node keeps its data.
    pub data_dir: PathBuf,
    /// Where other nodes reach this one. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where this node reaches the others: host and port by node.
    pub peers: Vec<(NodeId, String)>,
    /// Level of requests that name none.
    pub default_consistency: ConsistencyLevel,
    /// How long requests that other nodes hand on may take.
    pub request_timeout: Duration,
    /// The longest that any request may wait, whatever its client asks for.
    pub max_timeout: Duration,
    /// How long after a write was sent a silent replica gets a hint.
    pub hint_after: Duration,
    /// After what time a read asks one more replica; `None`: never.
    pub hedge_after: Option<Duration>,
    /// How often clocks are compared with each peer.
    pub anti_entropy_every: Duration,
    /// How often a link says that it is alive.
    pub keep_alive: Duration,
    /// After how long a silence a link counts as down.
    pub down_after: Duration,
    /// Sizes that requests may have.
    pub limits: Limits,
    /// The storage engine.
    pub store: StoreOptions,
    /// How much is kept for others.
    pub hints: HintLimits,
    /// How much sessions remember exactly. All nodes should say the same.
    pub session: SessionLimits,
    /// Whether and how deletes are forgotten that all replicas know.
    pub forgetting: ForgettingSettings,
    /// Shared by the nodes of one process. A process with one node gives it one of its own.
    pub placements: Arc<PlacementCache>,
}

impl NodeOptions {
    /// 5 s for requests that were handed on.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
    /// No request waits longer than a minute.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
    /// 2 s: several round trips of the longest link, and shorter than most clients wait.
    pub const HINT_AFTER: Duration = Duration::from_secs(2);
    /// 200 ms: far beyond a datacenter's p99, short beside a timeout.
    pub const HEDGE_AFTER: Duration = Duration::from_millis(200);
    /// 3 s: one digest a peer and keyspace when nothing differs.
    pub const ANTI_ENTROPY_EVERY: Duration = Duration::from_secs(3);
    /// 500 ms.
    pub const KEEP_ALIVE: Duration = Duration::from_millis(500);
    /// 3 s: six missed signs of life.
    pub const DOWN_AFTER: Duration = Duration::from_secs(3);
}
