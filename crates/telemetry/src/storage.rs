//! Storage and repair of the node itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::names as n;

/// A figure of the storage engine, set from its statistics every few seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StorageGauge {
    /// Bytes in memtables.
    MemtableBytes,
    /// Memtables that wait for their flush.
    SealedMemtables,
    /// Bytes of the write-ahead log.
    WalBytes,
    /// Table files.
    TableFiles,
    /// Bytes of table files.
    TableBytes,
    /// Files of level 0: where stalls begin.
    LevelZeroFiles,
    /// Bytes that compaction still has to move.
    CompactionDebtBytes,
    /// Bytes in the block cache.
    BlockCacheBytes,
    /// Hits of the block cache since the start.
    BlockCacheHits,
    /// Misses of the block cache since the start.
    BlockCacheMisses,
    /// Nanoseconds that writes were held back since the start.
    StallNanos,
    /// Writes that had to wait for a flush or a compaction since the start.
    Stops,
    /// An estimate of the rows.
    EstimatedRows,
    /// Vnodes that may have markers or expired values.
    VnodesWithMarkers,
    /// Markers and expired values forgotten since the start.
    ForgottenEntries,
    /// Rows that went with them since the start.
    ForgottenRows,
}

impl StorageGauge {
    /// All of them.
    pub const EVERY: [Self; 16] = [
        Self::MemtableBytes,
        Self::SealedMemtables,
        Self::WalBytes,
        Self::TableFiles,
        Self::TableBytes,
        Self::LevelZeroFiles,
        Self::CompactionDebtBytes,
        Self::BlockCacheBytes,
        Self::BlockCacheHits,
        Self::BlockCacheMisses,
        Self::StallNanos,
        Self::Stops,
        Self::EstimatedRows,
        Self::VnodesWithMarkers,
        Self::ForgottenEntries,
        Self::ForgottenRows,
    ];

    /// The label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MemtableBytes => "memtable_bytes",
            Self::SealedMemtables => "sealed_memtables",
            Self::WalBytes => "wal_bytes",
            Self::TableFiles => "table_files",
            Self::TableBytes => "table_bytes",
            Self::LevelZeroFiles => "level_zero_files",
            Self::CompactionDebtBytes => "compaction_debt_bytes",
            Self::BlockCacheBytes => "block_cache_bytes",
            Self::BlockCacheHits => "block_cache_hits",
            Self::BlockCacheMisses => "block_cache_misses",
            Self::StallNanos => "stall_nanos",
            Self::Stops => "stops",
            Self::EstimatedRows => "estimated_rows",
            Self::VnodesWithMarkers => "vnodes_with_markers",
            Self::ForgottenEntries => "forgotten_entries",
            Self::ForgottenRows => "forgotten_rows",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StorageLabels {
    figure: &'static str,
}

/// Figures of the storage engine.
#[derive(Debug, Default)]
pub struct StorageMetrics {
    gauges: Family<StorageLabels, Gauge>,
}

impl StorageMetrics {
    /// Sets a figure. Takes a lock: for jobs that run every few seconds.
    pub fn set(&self, gauge: StorageGauge, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.gauges.get_or_create(&StorageLabels { figure: gauge.name() }).set(value);
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(n::STORAGE.0, n::STORAGE.1, self.gauges.clone());
    }
}

/// Repairs that reads make.
#[derive(Clone, Debug)]
pub struct RepairMetrics {
    /// Replicas that were repaired before the answer.
    pub blocking: Counter,
    /// Replicas that were repaired after the answer.
    pub background: Counter,
    /// Replicas that were not repaired after the answer, because too many were.
    pub given_up: Counter,
    /// Reads whose replicas' digests differed.
    pub digest_mismatches: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepairLabels {
    when: &'static str,
}

impl RepairMetrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let repairs = Family::<RepairLabels, Counter>::default();
        let mismatches = Counter::default();
        registry.register(n::READ_REPAIRS.0, n::READ_REPAIRS.1, repairs.clone());
        registry.register(n::DIGEST_MISMATCHES.0, n::DIGEST_MISMATCHES.1, mismatches.clone());
        let of = |when| repairs.get_or_create_owned(&RepairLabels { when });
        Self {
            blocking: of("blocking"),
            background: of("background"),
            given_up: of("given_up"),
            digest_mismatches: mismatches,
        }
    }
}
