//! The one table of keys.

/// What a key's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// As text, but never shown.
    Secret,
    /// A path; a relative one is relative to the file that names it, otherwise to the working
    /// directory.
    Path,
    /// `IP:port`.
    Address,
    /// `IP:port`, or `off`.
    Switchable,
    /// A whole number within bounds, both included.
    Number {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// The unit, for people.
        unit: &'static str,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
}

impl Kind {
    /// What is allowed, as errors and the reference say it.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self {
            Self::Text => "a text that is not empty".to_owned(),
            Self::Secret => "a text of at least 16 characters".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Address => "IP:port, like 127.0.0.1:5001".to_owned(),
            Self::Switchable => "IP:port, like 127.0.0.1:7001, or off".to_owned(),
            Self::Number { min, max, unit } => format!("{min} to {max} {unit}"),
            Self::Word(words) => words.join(", "),
            Self::Bool => "true or false".to_owned(),
        }
    }
}

/// What a key is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing can start without it; the text says what to write.
    Required(&'static str),
    /// Not set.
    Unset,
    /// A text.
    Text(&'static str),
    /// A number.
    Number(u64),
    /// A switch.
    Bool(bool),
}

impl std::fmt::Display for Default {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Required(_) => f.write_str("must be set"),
            Self::Unset => f.write_str("not set"),
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Bool(switch) => switch.fmt(f),
        }
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`.
    pub path: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub default: Default,
    /// What it is for, how to choose it, and what it costs.
    pub about: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: Default, about: &'static str) -> Key {
    Key { path, kind, default, about }
}

const fn number(
    path: &'static str,
    [min, default, max]: [u64; 3],
    unit: &'static str,
    about: &'static str,
) -> Key {
    key(path, Kind::Number { min, max, unit }, Default::Number(default), about)
}

/// Section of a map from a node's name to its address.
pub(crate) const PEERS: &str = "peers";

const LEVELS: [&str; 9] =
    ["ANY", "ONE", "LOCAL_ONE", "TWO", "THREE", "QUORUM", "LOCAL_QUORUM", "EACH_QUORUM", "ALL"];

/// Every key, in the order of the reference. `peers.<node>` is beside it: one key per node.
pub const KEYS: &[Key] = &[
    key(
        "node.name",
        Kind::Text,
        Default::Required(
            "write the node's name as the shape has it: name = \"us-1\" under [node]",
        ),
        "This node's name in the shape. A one-node shape needs none.",
    ),
    key(
        "node.data_dir",
        Kind::Path,
        Default::Text("meridian-data"),
        "Everything the node keeps: the WAL, tables, hints, its identity. Belongs to one node of \
         one cluster; another one's directory is refused.",
    ),
    number(
        "node.worker_threads",
        [0, 0, 1_024],
        "threads",
        "Threads that serve requests. 0 takes one per core.",
    ),
    key(
        "cluster.name",
        Kind::Text,
        Default::Text("meridian"),
        "Nodes of another cluster are refused, and so are data directories.",
    ),
    key(
        "cluster.secret",
        Kind::Secret,
        Default::Required(
            "write secret = \"...\" under [cluster], the same on every node; `head -c 32 \
             /dev/urandom | base64` makes one",
        ),
        "Seals causal contexts, so that a forged one is an error and not a lost write. The same on \
         every node; changing it makes the contexts that clients hold invalid.",
    ),
    key(
        "cluster.shape",
        Kind::Text,
        Default::Text("one-node"),
        "The cluster's datacenters, racks, nodes and default replication: the name of a shape that \
         comes with the program, the path of a shape file (it ends in .toml), or the text of one \
         (it has line breaks).",
    ),
    key(
        "links.listen",
        Kind::Address,
        Default::Text("127.0.0.1:5001"),
        "Where other nodes reach this one. Not used by a one-node shape.",
    ),
    number(
        "links.keep_alive_ms",
        [10, 500, 60_000],
        "milliseconds",
        "How often a link that is silent is asked whether it still lives.",
    ),
    number(
        "links.down_after_ms",
        [50, 3_000, 600_000],
        "milliseconds",
        "How long a link may be silent before the node behind it counts as down: writes then become \
         hints, and levels that need it are refused. At least twice keep_alive_ms and more than the \
         longest round trip.",
    ),
    key(
        "doors.resp",
        Kind::Switchable,
        Default::Text("127.0.0.1:7001"),
        "Where Redis clients connect.",
    ),
    key(
        "doors.rest",
        Kind::Switchable,
        Default::Text("127.0.0.1:8001"),
        "REST, /metrics and /health.",
    ),
    key(
        "doors.grpc",
        Kind::Switchable,
        Default::Text("127.0.0.1:9001"),
        "gRPC: the Rust client and the command line.",
    ),
    key(
        "doors.password",
        Kind::Secret,
        Default::Unset,
        "Asked for at every door: AUTH on RESP, a bearer token on REST and gRPC.",
    ),
    key(
        "doors.allow_open_listeners",
        Kind::Bool,
        Default::Bool(false),
        "Doors and links listen beyond this machine although nobody is asked for a password there. \
         Only behind a firewall: whoever reaches the port may read and write everything.",
    ),
    key(
        "storage.sync",
        Kind::Word(&["every", "always", "os"]),
        Default::Text("every"),
        "When a write is on the disk: `every` syncs after sync_interval_ms or sync_writes (a power \
         cut on one node loses at most that, the other replicas have it), `always` before a replica \
         acknowledges (each write waits for the disk, many share one sync), `os` whenever the \
         system likes.",
    ),
    number(
        "storage.sync_interval_ms",
        [1, 100, 60_000],
        "milliseconds",
        "With sync = \"every\": the longest time between a write and its sync.",
    ),
    number(
        "storage.sync_writes",
        [1, 1_000, 10_000_000],
        "writes",
        "With sync = \"every\": the most writes between two syncs.",
    ),
    number(
        "storage.block_cache_mb",
        [1, 32, 1 << 20],
        "MiB",
        "Uncompressed blocks of all tables in memory. Give a server a third of its memory.",
    ),
    number(
        "storage.memtable_mb",
        [1, 64, 4_096],
        "MiB",
        "Writes of one table kept in memory before they are flushed. Larger means fewer, larger \
         flushes and a longer replay at start.",
    ),
    number(
        "storage.memtables_mb",
        [4, 256, 1 << 20],
        "MiB",
        "Memtables of all tables together, full and filling. At least memtable_mb.",
    ),
    number(
        "storage.wal_segment_mb",
        [1, 1_024, 65_536],
        "MiB",
        "When a new WAL file begins. Old ones go once all in them is flushed.",
    ),
    number("storage.workers", [1, 2, 64], "threads", "Threads that flush and compact."),
    key(
        "replication.default_consistency",
        Kind::Word(&LEVELS),
        Default::Text("LOCAL_QUORUM"),
        "Level of requests that name none. docs/consistency.md says what each holds.",
    ),
    number(
        "replication.request_timeout_ms",
        [10, 2_000, 60_000],
        "milliseconds",
        "How long a request that names no deadline may take.",
    ),
    number(
        "replication.hint_window_s",
        [0, 10_800, 604_800],
        "seconds",
        "How long hints are kept for a replica that is away. After that anti-entropy brings it what \
         it missed. 0 keeps none.",
    ),
    number(
        "replication.anti_entropy_interval_ms",
        [100, 3_000, 3_600_000],
        "milliseconds",
        "How often replicas compare their clocks and pull what they lack. Up to five times as long \
         while nothing differs and nothing is written.",
    ),
    key(
        "forgetting.enabled",
        Kind::Bool,
        Default::Bool(false),
        "Deletes and expired values are forgotten when every replica durably knows them. Off, they \
         are kept for ever. docs/healing.md says what it needs.",
    ),
    number(
        "forgetting.interval_s",
        [1, 60, 86_400],
        "seconds",
        "How long a node waits after it looked through what it may forget.",
    ),
    number(
        "forgetting.max_skew_s",
        [1, 60, 86_400],
        "seconds",
        "By how much the wall clocks of the cluster may differ: expired values are kept three times, \
         deletes of last-write-wins tables twice as long.",
    ),
    key(
        "telemetry.level",
        Kind::Text,
        Default::Text("info"),
        "Which log lines are written: error, warn, info, debug, trace, or a list of \
         target=level.",
    ),
    key(
        "telemetry.format",
        Kind::Word(&["text", "json"]),
        Default::Text("text"),
        "How log lines are written (to standard error).",
    ),
    number(
        "limits.key_bytes",
        [1, 4_096, 60_000],
        "bytes",
        "Longest key. Keys are repeated in indexes and filters.",
    ),
    number(
        "limits.value_bytes",
        [1, 8 << 20, 8 << 20],
        "bytes",
        "Longest value. A value travels in one message.",
    ),
    number("limits.batch_keys", [1, 10_000, 100_000], "keys", "Most keys of a batch or multi-get."),
    number("limits.page_rows", [1, 10_000, 100_000], "rows", "Most rows of a page of a scan."),
    number(
        "limits.connections",
        [1, 10_000, 1_000_000],
        "connections",
        "Most connections of each door; a further one is refused. An idle one costs a few KiB.",
    ),
];

/// The key with this path.
#[must_use]
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The environment variable that sets a key.
pub(crate) fn variable(path: &str) -> String {
    format!("MERIDIAN_{}", path.replace('.', "__").to_ascii_uppercase())
}
