//! Brings the gauges up to date, and sums up how the node is.

use std::sync::atomic::Ordering;

use meridian_lsm::TreeStats;
use meridian_node::Outlook;
use meridian_store::StoreStats;
use meridian_telemetry::{HintFate, StorageGauge};
use meridian_transport::ClassStats;
use meridian_types::TableId;
use prometheus_client::metrics::counter::Counter;

use crate::in_flight::MAX_IN_FLIGHT;
use crate::node::{Inner, Node};

/// How the node is, for its health page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it is stopping.
    pub stopping: bool,
    /// The first thing that broke: a disk that failed, a file that is damaged. Or a disk that is
    /// full, for as long as it refuses writes and a little longer.
    pub failure: Option<String>,
    /// Other nodes that cannot be reached, by name.
    pub unreachable: Vec<String>,
    /// How many other nodes there are.
    pub others: usize,
    /// What this node may have lost, and makes good.
    pub lost: Lost,
    /// Hints that wait for other nodes.
    pub hints: u64,
    /// Hints that found the queue to their log full; anti-entropy brings their writes.
    pub hints_dropped: u64,
    /// Requests that wait for other nodes, and how many may.
    pub in_flight: (usize, usize),
}

/// What a node may have lost (rule 10), and what it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Vnodes that it does not answer every read of.
    pub vnodes: usize,
    /// Those among them that nobody is left to pull from: only an operator's word ends them.
    pub stuck: usize,
    /// Nodes that it must pull from and that cannot be reached, by name.
    pub waits_for: Vec<String>,
}

/// How large a table is on this node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TableSize {
    pub(crate) estimated_rows: u64,
    pub(crate) disk_bytes: u64,
}

impl Node {
    /// Why the process must stop and be started again, if it must: after a failed write or sync of
    /// the log nothing that it says is durable can be believed; and a damaged file is left out, and
    /// what it held rebuilt, by the next start.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.inner.store.must_stop()
    }

    /// Requests that wait for other nodes, and questions of the node's own.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.exchanges.len()
    }

    /// Hints that are not in the log yet.
    #[must_use]
    pub fn hints_queued(&self) -> usize {
        self.inner.hints.queued()
    }

    /// Vnodes that differed from another node's when they were compared last, over all nodes.
    #[must_use]
    pub fn differing_vnodes(&self) -> u64 {
        self.inner.peers.iter().map(crate::peers::Peer::differing).sum()
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
            lost: inner.lost(),
            hints: inner.hints.counts().values().sum(),
            hints_dropped: inner.hints.dropped(),
            in_flight: (inner.exchanges.len(), MAX_IN_FLIGHT),
        }
    }
}

impl Inner {
    fn lost(&self) -> Lost {
        let outlook = self.outlook.load();
        let names = outlook.missing.iter().map(|node| self.name_of(*node).to_owned());
        let Outlook { vnodes, stuck, .. } = **outlook;
        Lost { vnodes, stuck, waits_for: names.collect() }
    }

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
            let pending = hints.get(&peer.id).copied().unwrap_or(0);
            peer.metrics.hints_pending.set(gauge(pending));
            peer.metrics.differing_vnodes.set(gauge(peer.differing()));
            let lag = self.lags.of(peer.id, self.host.wall());
            peer.metrics.clock_behind.set(gauge(lag.behind));
            peer.metrics.clock_behind_time.set(gauge(lag.behind_ms));
            peer.metrics.clock_lag.set(gauge(lag.ahead));
            peer.metrics.link_up.set(i64::from(self.is_alive(peer.id)));
        }
        self.show_links();
        self.show_hints();
        let storage = self.store.stats();
        self.show_storage(&storage);
        let now = self.host.now();
        let admission = self.metrics.admission();
        admission.waiting_bytes.set(gauge(self.admission.waiting()));
        admission.lag_ms.set(gauge(self.admission.lag_ms(now)));
        let requests = self.exchanges.fill_permille().max(self.admission.load_permille(now));
        let stall = storage.engine.stall_permille;
        self.hint_credit.follow(stall, requests);
        let brought = self.foreground_bytes.load(Ordering::Relaxed) + self.admission.answered();
        self.shares.follow(stall.max(requests), brought, now);
    }

    fn show_hints(&self) {
        let log = self.hints.log();
        let counted = log.counters();
        for (fate, hints) in [
            (HintFate::Found, counted.found),
            (HintFate::Stored, counted.stored + self.hints.dropped()),
            (HintFate::Delivered, counted.delivered),
            (HintFate::Superseded, counted.superseded),
            (HintFate::Expired, counted.expired),
            (HintFate::Dropped, counted.dropped + self.hints.dropped()),
            (HintFate::Damaged, counted.damaged),
            (HintFate::Pending, log.counts().values().sum()),
        ] {
            self.metrics.hints().set(fate, hints);
        }
    }

    /// The links count for themselves; the metrics follow.
    fn show_links(&self) {
        let Some(links) = self.links.get() else { return };
        for stats in links.stats() {
            let Some(peer) = self.peers.get(stats.id) else { continue };
            let sum = |of: fn(&ClassStats) -> u64| stats.classes.iter().map(|(_, c)| of(c)).sum();
            let metrics = &peer.metrics;
            follow(&metrics.link_connects, stats.ups);
            follow(&metrics.link_sent_bytes, sum(|class| class.sent_bytes));
            follow(&metrics.link_received_bytes, sum(|class| class.received_bytes));
            metrics.link_queued.set(gauge(sum(|class| class.queued_messages as u64)));
        }
        for state in links.states() {
            if let (Some(peer), Some(time)) = (self.peers.get(state.id), state.round_trip) {
                peer.metrics.link_round_trip.observe(time);
                peer.set_round_trip(time);
            }
        }
    }

    fn show_storage(&self, stats: &StoreStats) {
        let storage = self.metrics.storage();
        let engine = &stats.engine;
        let trees = |of: fn(&TreeStats) -> u64| engine.trees.iter().map(of).sum();
        let tables = |tree: &TreeStats| tree.levels.iter().map(|level| level.tables).sum();
        let level_zero = |tree: &TreeStats| tree.levels.first().map_or(0, |level| level.tables);
        let rows = stats.tables.iter().map(|table| table.estimated_rows).sum();
        for (figure, value) in [
            (StorageGauge::EstimatedRows, rows),
            (StorageGauge::TableBytes, stats.disk_bytes),
            (StorageGauge::TableFiles, trees(tables)),
            (StorageGauge::LevelZeroFiles, trees(level_zero)),
            (StorageGauge::MemtableBytes, engine.memtable_bytes),
            (StorageGauge::SealedMemtables, trees(|tree| tree.sealed_memtables)),
            (StorageGauge::CompactionDebtBytes, engine.pending_compaction_bytes),
            (StorageGauge::StallNanos, engine.slowdown_nanos),
            (StorageGauge::Stops, engine.stops),
            (StorageGauge::WalBytes, engine.wal.segment_bytes),
            (StorageGauge::VnodesWithMarkers, stats.vnodes_with_markers as u64),
            (StorageGauge::ForgottenEntries, stats.forgotten_entries),
            (StorageGauge::ForgottenRows, stats.forgotten_rows),
            (StorageGauge::BlockCacheBytes, engine.cache.bytes),
            (StorageGauge::BlockCacheHits, engine.cache.hits),
            (StorageGauge::BlockCacheMisses, engine.cache.misses),
        ] {
            storage.set(figure, value);
        }
    }
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Moves a counter up to what somebody else has counted.
fn follow(counter: &Counter, counted: u64) {
    counter.inc_by(counted.saturating_sub(counter.get()));
}
