//! Nodes on a host of the test's own: no tokio runtime, no thread, no socket, no file.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kept;
mod late;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_runtime::{ForgettingSettings, Node, NodeOptions, Parts, PlacementCache};
use meridian_service::{
    CallContext, Effect, Expiry, Get, Outcome, Put, PutItem, Request, RequestError, Service,
};
use meridian_store::{Batches, HintLimits, Hints, MAX_BATCH_BYTES, MemMetadata, StoreOptions};
use meridian_telemetry::Metrics;
use meridian_topology::{Capacity, DcInfo, KeyspaceMap, NodeInfo, Topology, VnodeCount};
use meridian_types::catalog::Version;
use meridian_types::{
    Catalog, ConsistencyLevel, DcId, Limits, NodeId, Partitioner, RequestId, TableName,
    TableOptions,
};
use meridian_vfs::MemFs;
use uuid::Uuid;
use world::{TestHost, TestLinker, World};

const VNODE_BITS: u32 = 4;

/// Nodes of one datacenter, with three replicas of everything, and their disks.
struct Cluster {
    world: Arc<World>,
    topology: Topology,
    disks: BTreeMap<NodeId, (MemFs, MemMetadata)>,
    nodes: BTreeMap<NodeId, Arc<Node>>,
    hosts: BTreeMap<NodeId, Arc<TestHost>>,
    placements: Arc<PlacementCache>,
}

impl Cluster {
    fn of(size: u32) -> Self {
        let dc = DcId(1);
        let node = |id: u32| NodeInfo {
            id: NodeId(id),
            name: format!("n-{id}"),
            dc,
            rack: format!("r-{id}"),
            capacity: Capacity::ONE,
        };
        let dcs = vec![DcInfo { id: dc, name: "dc".to_owned() }];
        let count = VnodeCount::new(1 << VNODE_BITS).unwrap();
        let partitioner = Partitioner::default();
        let nodes = (1..=size).map(node).collect();
        let topology = Topology::new(partitioner, count, dcs, nodes, []).unwrap();
        let mut cluster = Self {
            world: Arc::default(),
            topology,
            disks: (1..=size).map(|id| (NodeId(id), Default::default())).collect(),
            nodes: BTreeMap::new(),
            hosts: BTreeMap::new(),
            placements: Arc::default(),
        };
        (1..=size).for_each(|id| cluster.start(NodeId(id), 0));
        // Links rise, and every node tells its control plane so.
        cluster.world.pass(100);
        for node in cluster.nodes.values() {
            assert_eq!(node.condition().unreachable, [""; 0]);
        }
        cluster
    }

    fn start(&mut self, id: NodeId, life: u64) {
        let host = TestHost::new(&self.world, u64::from(id.0) * 1_000 + life);
        let (disk, metadata) = &self.disks[&id];
        let hints = Hints::in_memory(metadata, HintLimits::default()).unwrap();
        let parts = Parts {
            host: host.clone(),
            fs: Arc::new(disk.clone()),
            metadata: Arc::new(metadata.clone()),
            hints: Arc::new(hints),
            batches: Arc::new(Batches::in_memory(metadata, MAX_BATCH_BYTES).unwrap()),
            links: Box::new(TestLinker(Arc::clone(&self.world))),
        };
        let options = self.options(id);
        let start = async move { Node::start_on(parts, options, Arc::new(Metrics::new())).await };
        let node = self.world.run(start).unwrap();
        self.nodes.insert(id, Arc::new(node));
        self.hosts.insert(id, host);
    }

    fn options(&self, node: NodeId) -> NodeOptions {
        let mut initial_catalog = Catalog::default();
        let replication = BTreeMap::from([("dc".to_owned(), 3)]);
        initial_catalog.create_keyspace("geo", replication, Version::default()).unwrap();
        let options = TableOptions::default();
        initial_catalog.create_table(&cities(), options, Version::default()).unwrap();
        NodeOptions {
            cluster: "test".to_owned(),
            secret: b"secret".to_vec(),
            node,
            topology: self.topology.clone(),
            default_replication: KeyspaceMap::new([(DcId(1), 3)]),
            initial_catalog,
            data_dir: "/node".into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            peers: Vec::new(),
            default_consistency: ConsistencyLevel::Quorum,
            request_timeout: NodeOptions::REQUEST_TIMEOUT,
            max_timeout: NodeOptions::MAX_TIMEOUT,
            hint_after: NodeOptions::HINT_AFTER,
            hedge_after: Some(NodeOptions::HEDGE_AFTER),
            anti_entropy_every: NodeOptions::ANTI_ENTROPY_EVERY,
            forgetting: ForgettingSettings::DEFAULT,
            keep_alive: NodeOptions::KEEP_ALIVE,
            down_after: NodeOptions::DOWN_AFTER,
            limits: Limits::default(),
            store: StoreOptions { workers: 0, vnode_bits: VNODE_BITS, ..StoreOptions::default() },
            hints: HintLimits::default(),
            session: meridian_runtime::SessionLimits::default(),
            placements: Arc::clone(&self.placements),
        }
    }

    fn call(
        &self,
        node: u32,
        request: Request,
    ) -> impl Future<Output = Result<Outcome, RequestError>> + Send + use<> {
        let node = Arc::clone(&self.nodes[&NodeId(node)]);
        let context = CallContext { id: RequestId(Uuid::nil()), timeout: Duration::from_secs(5) };
        async move { node.call(context, request).await }
    }

    fn put(&self, node: u32, key: &str, value: &str, level: ConsistencyLevel) {
        let Outcome::Put(done) = self.world.run(self.call(node, put(key, value, level))).unwrap()
        else {
            panic!("a put answers a put");
        };
        assert!(done.applied);
    }

    fn get(&self, node: u32, key: &str, level: ConsistencyLevel) -> Vec<String> {
        let get = Get {
            table: cities(),
            key: key.to_owned().into(),
            consistency: level,
            with_context: false,
        };
        let Outcome::Got(got) = self.world.run(self.call(node, Request::Get(get))).unwrap() else {
            panic!("a get answers a get");
        };
        got.values.iter().map(|read| String::from_utf8(read.value.to_vec()).unwrap()).collect()
    }

    /// How many entries each replica of a key has.
    fn entries(&self, key: &str) -> Vec<usize> {
        let of = |node: &Arc<Node>| {
            let table = node.store().catalog().table(&cities()).cloned().unwrap();
            let row = node.store().row_key(&table, key.to_owned().into());
            node.store().read(&row).unwrap().row.entries().len()
        };
        let entries: Vec<usize> = self.nodes.values().map(of).filter(|&n| n > 0).collect();
        assert_eq!(entries.len(), 3);
        entries
    }

    fn stop(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).unwrap();
        self.world.run(async move { node.stop().await }).unwrap();
    }
}

fn cities() -> TableName {
    "geo.cities".parse().unwrap()
}

fn put(key: &str, value: &str, consistency: ConsistencyLevel) -> Request {
    let item = PutItem {
        key: key.to_owned().into(),
        value: Some(value.to_owned().into()),
        expiry: Expiry::Never,
        context: None,
        write_id: None,
    };
    Request::Put(Put { table: cities(), item, condition: None, consistency, with_context: false })
}

#[test]
fn nodes_replicate_without_tokio() {
    let cluster = Cluster::of(3);
    let quorum = ConsistencyLevel::Quorum;
    for key in ["a", "b", "c", "d"] {
        cluster.put(1, key, "value", quorum);
        assert_eq!(cluster.get(2, key, quorum), ["value"]);
        assert_eq!(cluster.get(3, key, ConsistencyLevel::All), ["value"]);
    }
    // Clocks are compared, catalogs too, and nothing is left over.
    cluster.world.pass(60_000);
    for node in cluster.nodes.values() {
        assert_eq!((node.in_flight(), node.hints_queued(), node.differing_vnodes()), (0, 0, 0));
        assert!(node.condition().failure.is_none());
    }
}

#[test]
fn a_node_that_was_away_gets_its_hints() {
    let mut cluster = Cluster::of(3);
    cluster.stop(NodeId(3));
    cluster.world.pass(100);
    cluster.put(1, "a", "value", ConsistencyLevel::Quorum);
    cluster.world.pass(1_000);
    let hints = |cluster: &Cluster| cluster.nodes[&NodeId(1)].hints().counts();
    assert_eq!(hints(&cluster), BTreeMap::from([(NodeId(3), 1)]));
    cluster.start(NodeId(3), 1);
    cluster.world.pass(60_000);
    assert_eq!(hints(&cluster), BTreeMap::new());
    assert_eq!(cluster.get(3, "a", ConsistencyLevel::All), ["value"]);
}

#[test]
fn a_write_that_is_handed_on_twice_is_stored_once() {
    let cluster = Cluster::of(5);
    cluster.world.doubles.store(true, Ordering::Relaxed);
    for key in 0..20 {
        let key = key.to_string();
        cluster.put(1, &key, "value", ConsistencyLevel::Quorum);
        cluster.world.pass(1_000);
        assert_eq!(cluster.get(2, &key, ConsistencyLevel::All), ["value"]);
        assert!(cluster.entries(&key).into_iter().all(|entries| entries == 1));
    }
}

#[test]
fn a_node_that_stops_answers_what_waits_and_ends_its_tasks() {
    let mut cluster = Cluster::of(3);
    cluster.put(1, "a", "value", ConsistencyLevel::All);
    cluster.world.cut.store(true, Ordering::Relaxed);
    let waiting = cluster.call(1, put("a", "other", ConsistencyLevel::All));
    let stopping = Arc::clone(&cluster.nodes[&NodeId(1)]);
    let both = async move { futures::join!(waiting, async move { stopping.stop().await }) };
    let (answer, stopped) = cluster.world.run(both);
    stopped.unwrap();
    assert_eq!(answer.unwrap_err().effect(), Effect::Unknown, "the dot may be elsewhere");
    cluster.nodes.remove(&NodeId(1));
    cluster.world.pass(100);
    assert_eq!(cluster.hosts[&NodeId(1)].tasks.load(Ordering::Relaxed), 0);
    cluster.world.cut.store(false, Ordering::Relaxed);
    cluster.start(NodeId(1), 1);
    assert_eq!(cluster.get(1, "a", ConsistencyLevel::One), ["value", "other"]);
}

#[test]
fn a_crash_leaves_no_task_and_a_new_life_finds_the_disk() {
    let mut cluster = Cluster::of(3);
    cluster.put(1, "a", "value", ConsistencyLevel::All);
    let incarnation = cluster.nodes[&NodeId(1)].opened().incarnation;
    cluster.world.cut.store(true, Ordering::Relaxed);
    cluster.world.pass(4_000);
    assert!(cluster.nodes[&NodeId(1)].in_flight() > 0, "it compares clocks");
    cluster.nodes.remove(&NodeId(1));
    cluster.world.pass(100);
    assert_eq!(cluster.hosts[&NodeId(1)].tasks.load(Ordering::Relaxed), 0);
    cluster.world.cut.store(false, Ordering::Relaxed);
    cluster.start(NodeId(1), 1);
    let opened = cluster.nodes[&NodeId(1)].opened();
    assert!(!opened.clean && opened.incarnation != incarnation);
    assert_eq!(cluster.get(1, "a", ConsistencyLevel::One), ["value"]);
}

#[test]
fn the_same_world_twice_says_the_same() {
    let trace = || {
        let mut cluster = Cluster::of(4);
        for key in 0..20 {
            cluster.put(key % 3 + 1, &key.to_string(), "value", ConsistencyLevel::Quorum);
        }
        cluster.stop(NodeId(4));
        for key in 20..40 {
            cluster.put(key % 3 + 1, &key.to_string(), "value", ConsistencyLevel::Quorum);
        }
        cluster.start(NodeId(4), 1);
        cluster.world.pass(60_000);
        cluster.world.trace()
    };
    assert_eq!(trace(), trace());
}
