//! Storage and repair of the node itself.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::Histogram;
use crate::histogram::SharedHistogram;
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
    /// Segments of the write-ahead log.
    WalSegments,
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
    /// Bytes in the row cache.
    RowCacheBytes,
    /// Hits of the row cache since the start.
    RowCacheHits,
    /// Misses of the row cache since the start.
    RowCacheMisses,
    /// Nanoseconds that writes were held back since the start.
    StallNanos,
    /// An estimate of the rows.
    EstimatedRows,
    /// Bytes free on the data's file system.
    DiskFreeBytes,
    /// Vnodes that may have markers or expired values.
    VnodesWithMarkers,
    /// Markers and expired values forgotten since the start.
    ForgottenEntries,
    /// Rows that went with them since the start.
    ForgottenRows,
}

impl StorageGauge {
    /// All of them.
    pub const EVERY: [Self; 20] = [
        Self::MemtableBytes,
        Self::SealedMemtables,
        Self::WalBytes,
        Self::WalSegments,
        Self::TableFiles,
        Self::TableBytes,
        Self::LevelZeroFiles,
        Self::CompactionDebtBytes,
        Self::BlockCacheBytes,
        Self::BlockCacheHits,
        Self::BlockCacheMisses,
        Self::RowCacheBytes,
        Self::RowCacheHits,
        Self::RowCacheMisses,
        Self::StallNanos,
        Self::EstimatedRows,
        Self::DiskFreeBytes,
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
            Self::WalSegments => "wal_segments",
            Self::TableFiles => "table_files",
            Self::TableBytes => "table_bytes",
            Self::LevelZeroFiles => "level_zero_files",
            Self::CompactionDebtBytes => "compaction_debt_bytes",
            Self::BlockCacheBytes => "block_cache_bytes",
            Self::BlockCacheHits => "block_cache_hits",
            Self::BlockCacheMisses => "block_cache_misses",
            Self::RowCacheBytes => "row_cache_bytes",
            Self::RowCacheHits => "row_cache_hits",
            Self::RowCacheMisses => "row_cache_misses",
            Self::StallNanos => "stall_nanos",
            Self::EstimatedRows => "estimated_rows",
            Self::DiskFreeBytes => "disk_free_bytes",
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

/// Figures and times of the storage engine.
#[derive(Debug, Default)]
pub struct StorageMetrics {
    gauges: Family<StorageLabels, Gauge>,
    /// Time of one sync of the write-ahead log.
    pub wal_sync: Arc<Histogram>,
    /// Time of one flush.
    pub flush: Arc<Histogram>,
    /// Time of one compaction.
    pub compaction: Arc<Histogram>,
}

impl StorageMetrics {
    /// Sets a figure. Takes a lock: for jobs that run every few seconds.
    pub fn set(&self, gauge: StorageGauge, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.gauges.get_or_create(&StorageLabels { figure: gauge.name() }).set(value);
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(n::STORAGE.0, n::STORAGE.1, self.gauges.clone());
        for ((name, help), times) in [
            (n::WAL_SYNC, &self.wal_sync),
            (n::FLUSH, &self.flush),
            (n::COMPACTION, &self.compaction),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, SharedHistogram(times.clone()));
        }
    }
}

/// Repairs that reads make.
#[derive(Clone, Debug)]
pub struct RepairMetrics {
    /// Replicas that were repaired before the answer.
    pub blocking: Counter,
    /// Replicas that were repaired after the answer.
    pub background: Counter,
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
            digest_mismatches: mismatches,
        }
    }
}
