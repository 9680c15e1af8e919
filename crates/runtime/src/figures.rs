//! Brings the gauges up to date, and sums up how the node is.

use meridian_store::StoreStats;
use meridian_telemetry::StorageGauge;
use meridian_types::TableId;

use crate::in_flight::MAX_IN_FLIGHT;
use crate::node::{Inner, Node};

/// How the node is, for its health page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it is stopping.
    pub stopping: bool,
    /// The first thing that broke: a disk that failed, a file that is damaged.
    pub failure: Option<String>,
    /// Other nodes that cannot be reached, by name.
    pub unreachable: Vec<String>,
    /// How many other nodes there are.
    pub others: usize,
    /// Hints that wait for other nodes.
    pub hints: u64,
    /// Hints that found the queue to their log full; anti-entropy brings their writes.
    pub hints_dropped: u64,
    /// Requests that wait for other nodes, and how many may.
    pub in_flight: (usize, usize),
}

/// How large a table is on this node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TableSize {
    pub(crate) estimated_rows: u64,
    pub(crate) disk_bytes: u64,
}

impl Node {
    /// Why the log takes no writes any more, if it does not: after a failed write or sync nothing
    /// that it says is durable can be believed. The process must stop.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.inner.store.poisoned().map(|error| error.to_string())
    }

    /// How the node is now.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let inner = &self.inner;
        let unreachable = inner.peers.iter().filter(|peer| !inner.is_alive(peer.id));
        Condition {
            stopping: inner.is_stopping(),
            failure: self.poisoned().or_else(|| inner.failure()),
            unreachable: unreachable.map(|peer| inner.name_of(peer.id).to_owned()).collect(),
            others: inner.peers.iter().count(),
            hints: inner.hints.counts().values().sum(),
            hints_dropped: inner.hints.dropped(),
            in_flight: (inner.exchanges.len(), MAX_IN_FLIGHT),
        }
    }
}

impl Inner {
    pub(crate) fn table_size(&self, table: TableId) -> TableSize {
        let stats = self.store.stats();
        let table = stats.tables.iter().find(|stats| stats.table == table);
        table.map_or_else(TableSize::default, |stats| TableSize {
            estimated_rows: stats.estimated_rows,
            disk_bytes: stats.disk_bytes,
        })
    }

    pub(crate) fn show_figures(&self) {
        let hints = self.hints.counts();
        for peer in self.peers.iter() {
            let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let pending = hints.get(&peer.id).copied().unwrap_or(0);
            peer.metrics.hints_pending.set(gauge(pending));
            peer.metrics.differing_vnodes.set(gauge(peer.differing()));
            peer.metrics.link_up.set(i64::from(self.is_alive(peer.id)));
        }
        self.show_storage(&self.store.stats());
    }

    fn show_storage(&self, stats: &StoreStats) {
        let storage = self.metrics.storage();
        let rows = stats.tables.iter().map(|table| table.estimated_rows).sum();
        let bytes = stats.tables.iter().map(|table| table.disk_bytes).sum();
        storage.set(StorageGauge::EstimatedRows, rows);
        storage.set(StorageGauge::TableBytes, bytes);
    }
}
