//! From what was given to [`Options`]: each value within its bounds, then all of them together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use meridian_topology::{NodeInfo, Shape, Topology};
use meridian_types::{Limits, NodeId};

use crate::OptionsError;
use crate::keys::PEERS;
use crate::options::{
    ClusterOptions, DoorsOptions, ForgettingOptions, LimitsOptions, LinksOptions, LogFormat,
    NodeOptions, Options, ReplicationOptions, Secret, StorageOptions, SyncPolicy, TelemetryOptions,
};
use crate::raw::{self, Raw};
use crate::source::{Layers, Sources, read_text};
use crate::value::allowed;

/// Reads values by key: bounds and defaults come from the table of keys.
pub(crate) struct Validation<'a> {
    pub(crate) layers: &'a Layers,
    pub(crate) sources: &'a Sources,
}

impl<'a> Validation<'a> {
    pub(crate) fn new(layers: &'a Layers, sources: &'a Sources) -> Self {
        Self { layers, sources }
    }

    pub(crate) fn options(&self, raw: Raw) -> Result<Options, OptionsError> {
        // What is wrong is said before what is missing: it cannot be right by accident.
        let doors = self.doors(raw.doors)?;
        let storage = self.storage(&raw.storage)?;
        let replication = self.replication(&raw.replication)?;
        let forgetting = self.forgetting(&raw.forgetting)?;
        let telemetry = self.telemetry(raw.telemetry)?;
        let limits = self.limits(&raw.limits)?;
        let threads = self.size("node.worker_threads", raw.node.worker_threads)?;
        let data_dir = self.path("node.data_dir", raw.node.data_dir)?;
        let shape = self.shape(raw.cluster.shape.as_deref())?;
        let links = self.links(&raw.links, &shape, doors.allow_open)?;
        let me = self.node(raw.node.name.as_deref(), &shape)?;
        let peers = self.peers(&raw.peers, me.id, shape.topology())?;
        Ok(Options {
            peers,
            links,
            node: NodeOptions {
                name: me.name.clone(),
                id: me.id,
                dc: me.dc,
                data_dir,
                worker_threads: Some(threads).filter(|&threads| threads > 0),
            },
            cluster: ClusterOptions {
                name: self.text("cluster.name", raw.cluster.name)?,
                secret: self.secret("cluster.secret", raw.cluster.secret)?,
                shape,
            },
            doors: doors.options,
            storage,
            replication,
            forgetting,
            telemetry,
            limits,
        })
    }

    fn shape(&self, given: Option<&str>) -> Result<Shape, OptionsError> {
        let key = "cluster.shape";
        let text = given.unwrap_or("one-node");
        let failed = |file: String| {
            move |error| {
                let (origin, error) = (self.layers.origin(key), Box::new(error));
                OptionsError::Shape { origin, file, error }
            }
        };
        if text.contains('\n') {
            return Shape::parse(text).map_err(failed(String::new()));
        }
        if Path::new(text).extension().is_none_or(|ending| ending != "toml") {
            return Shape::named(text).map_err(failed(String::new()));
        }
        let path = self.relative(key, text);
        let content = read_text("the shape file", &path)?;
        Shape::parse(&content).map_err(failed(format!(" ({})", path.display())))
    }

    fn node<'s>(
        &self,
        given: Option<&str>,
        shape: &'s Shape,
    ) -> Result<&'s NodeInfo, OptionsError> {
        let key = "node.name";
        let nodes = shape.topology().nodes();
        let names = || nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
        match (given, nodes) {
            (Some(name), _) => shape
                .topology()
                .node_named(name)
                .ok_or_else(|| self.invalid(key, format!("{name:?}"), names())),
            (None, [only]) => Ok(only),
            (None, _) => Err(self
                .missing(key, &format!("write name = \"...\" under [node], one of {}", names()))),
        }
    }

    fn peers(
        &self,
        given: &BTreeMap<String, String>,
        me: NodeId,
        topology: &Topology,
    ) -> Result<BTreeMap<NodeId, String>, OptionsError> {
        let mut peers = BTreeMap::new();
        for (name, address) in given {
            let key = format!("{PEERS}.{name}");
            let node = topology.node_named(name).ok_or_else(|| {
                let names: Vec<_> = topology.nodes().iter().map(|n| n.name.as_str()).collect();
                self.invalid(&key, format!("{address:?}"), format!("keys for {}", names.join(", ")))
            })?;
            if !is_host_and_port(address) {
                return Err(self.invalid(&key, format!("{address:?}"), "host:port"));
            }
            peers.insert(node.id, address.clone());
        }
        peers.remove(&me);
        for node in topology.nodes() {
            if node.id != me && !peers.contains_key(&node.id) {
                let how = format!("write {} = \"host:port\" under [peers]", node.name);
                return Err(self.missing(&format!("{PEERS}.{}", node.name), &how));
            }
        }
        Ok(peers)
    }

    fn links(
        &self,
        raw: &raw::Links,
        shape: &Shape,
        allow_open: bool,
    ) -> Result<LinksOptions, OptionsError> {
        let listen = self.address("links.listen", raw.listen.as_deref())?;
        let alone = shape.topology().nodes().len() == 1;
        if !alone && !allow_open && !listen.ip().is_loopback() {
            return Err(self.open_listener(
                "links.listen",
                listen,
                "nodes are not authenticated yet",
            ));
        }
        let keep_alive = self.millis("links.keep_alive_ms", raw.keep_alive_ms)?;
        let down_after = self.millis("links.down_after_ms", raw.down_after_ms)?;
        if down_after < keep_alive * 2 {
            return Err(self.conflict(
                "links.down_after_ms",
                down_after.as_millis(),
                format!(
                    "`links.keep_alive_ms` is {}; down_after_ms must be at least twice that, so \
                     that one lost answer does not take a node down",
                    keep_alive.as_millis()
                ),
            ));
        }
        Ok(LinksOptions { listen: (!alone).then_some(listen), keep_alive, down_after })
    }

    fn doors(&self, raw: raw::Doors) -> Result<Doors, OptionsError> {
        let allow_open = self.switch("doors.allow_open_listeners", raw.allow_open_listeners);
        let password = raw.password.map(Secret::new);
        if password.as_ref().is_some_and(|p| p.expose().is_empty()) {
            return Err(self.invalid("doors.password", "empty", "a text that is not empty"));
        }
        let door = |key, given: Option<String>| -> Result<Option<SocketAddr>, OptionsError> {
            let Some(address) = self.switchable(key, given.as_deref())? else { return Ok(None) };
            if password.is_none() && !allow_open && !address.ip().is_loopback() {
                return Err(self.open_listener(key, address, "no `doors.password` is set"));
            }
            Ok(Some(address))
        };
        let options = DoorsOptions {
            resp: door("doors.resp", raw.resp)?,
            rest: door("doors.rest", raw.rest)?,
            grpc: door("doors.grpc", raw.grpc)?,
            password: password.clone(),
        };
        Ok(Doors { options, allow_open })
    }

    fn storage(&self, raw: &raw::Storage) -> Result<StorageOptions, OptionsError> {
        let interval = self.millis("storage.sync_interval_ms", raw.sync_interval_ms)?;
        let writes = self.number("storage.sync_writes", raw.sync_writes)?;
        let sync = match self.word("storage.sync", raw.sync.as_deref())? {
            "always" => SyncPolicy::Always,
            "os" => SyncPolicy::Os,
            _ => SyncPolicy::Every { interval, writes: u32::try_from(writes).unwrap_or(u32::MAX) },
        };
        let memtable = self.size("storage.memtable_mb", raw.memtable_mb)?;
        let memtables = self.size("storage.memtables_mb", raw.memtables_mb)?;
        if memtables < memtable {
            return Err(self.conflict(
                "storage.memtables_mb",
                memtables,
                format!(
                    "`storage.memtable_mb` is {memtable}; all memtables together need at least \
                     the room of one"
                ),
            ));
        }
        Ok(StorageOptions {
            sync,
            block_cache_bytes: self.number("storage.block_cache_mb", raw.block_cache_mb)? << 20,
            memtable_bytes: memtable << 20,
            memtables_bytes: memtables << 20,
            wal_segment_bytes: self.number("storage.wal_segment_mb", raw.wal_segment_mb)? << 20,
            workers: self.size("storage.workers", raw.workers)?,
        })
    }

    fn replication(&self, raw: &raw::Replication) -> Result<ReplicationOptions, OptionsError> {
        let key = "replication.default_consistency";
        let word = self.word(key, raw.default_consistency.as_deref())?;
        let default_consistency =
            word.parse().map_err(|_refused| self.invalid(key, word, allowed(key)))?;
        let hint_window = self.number("replication.hint_window_s", raw.hint_window_s)?;
        Ok(ReplicationOptions {
            default_consistency,
            request_timeout: self
                .millis("replication.request_timeout_ms", raw.request_timeout_ms)?,
            hint_window: Duration::from_secs(hint_window),
            anti_entropy_interval: self
                .millis("replication.anti_entropy_interval_ms", raw.anti_entropy_interval_ms)?,
        })
    }

    fn forgetting(&self, raw: &raw::Forgetting) -> Result<ForgettingOptions, OptionsError> {
        let seconds = |key, given| Ok(Duration::from_secs(self.number(key, given)?));
        Ok(ForgettingOptions {
            enabled: self.switch("forgetting.enabled", raw.enabled),
            interval: seconds("forgetting.interval_s", raw.interval_s)?,
            max_skew: seconds("forgetting.max_skew_s", raw.max_skew_s)?,
        })
    }

    fn telemetry(&self, raw: raw::Telemetry) -> Result<TelemetryOptions, OptionsError> {
        let format = match self.word("telemetry.format", raw.format.as_deref())? {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        };
        Ok(TelemetryOptions { level: self.text("telemetry.level", raw.level)?, format })
    }

    fn limits(&self, raw: &raw::Limits) -> Result<LimitsOptions, OptionsError> {
        Ok(LimitsOptions {
            sizes: Limits {
                key_bytes: self.size("limits.key_bytes", raw.key_bytes)?,
                value_bytes: self.size("limits.value_bytes", raw.value_bytes)?,
                batch_keys: self.size("limits.batch_keys", raw.batch_keys)?,
                page_rows: self.size("limits.page_rows", raw.page_rows)?,
            },
            connections: self.size("limits.connections", raw.connections)?,
        })
    }
}

struct Doors {
    options: DoorsOptions,
    allow_open: bool,
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
}
