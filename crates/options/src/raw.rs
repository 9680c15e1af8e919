//! What may be given: everything optional, nothing checked against anything else.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The merged layers, typed.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct Raw {
    pub(crate) node: Node,
    pub(crate) cluster: Cluster,
    pub(crate) peers: BTreeMap<String, String>,
    pub(crate) links: Links,
    pub(crate) doors: Doors,
    pub(crate) storage: Storage,
    pub(crate) replication: Replication,
    pub(crate) forgetting: Forgetting,
    pub(crate) telemetry: Telemetry,
    pub(crate) limits: Limits,
}

macro_rules! section {
    ($name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Debug, Default, Deserialize)]
        #[cfg_attr(test, derive(serde::Serialize))]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $(pub(crate) $field: Option<$kind>,)*
        }
    };
}

section!(Node { name: String, data_dir: String, worker_threads: u64 });
section!(Cluster { name: String, secret: String, shape: String });
section!(Links { listen: String, keep_alive_ms: u64, down_after_ms: u64 });
section!(Doors {
    resp: String,
    rest: String,
    grpc: String,
    password: String,
    allow_open_listeners: bool,
});
section!(Storage {
    sync: String,
    sync_interval_ms: u64,
    sync_writes: u64,
    block_cache_mb: u64,
    memtable_mb: u64,
    memtables_mb: u64,
    wal_segment_mb: u64,
    workers: u64,
});
section!(Replication {
    default_consistency: String,
    request_timeout_ms: u64,
    hint_window_s: u64,
    anti_entropy_interval_ms: u64,
});
section!(Forgetting { enabled: bool, interval_s: u64, max_skew_s: u64 });
section!(Telemetry { level: String, format: String });
section!(Limits {
    key_bytes: u64,
    value_bytes: u64,
    batch_keys: u64,
    page_rows: u64,
    connections: u64,
});
