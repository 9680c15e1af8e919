//! Requests as clients see them: how long they took, by operation and level, and what went wrong.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use crate::Histogram;
use crate::names::{REQUEST_DURATION, REQUEST_ERRORS};

/// What a request asks, for its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Reads one key.
    Get,
    /// Writes one key.
    Put,
    /// Deletes one key.
    Delete,
    /// Changes an expiry.
    Touch,
    /// Reads many keys.
    MultiGet,
    /// Writes many keys.
    Batch,
    /// Reads a page.
    Scan,
    /// Shows what replicas store.
    Replicas,
    /// Asks or changes the catalog or the cluster.
    Admin,
}

impl Operation {
    /// All of them.
    pub const EVERY: [Self; 9] = [
        Self::Get,
        Self::Put,
        Self::Delete,
        Self::Touch,
        Self::MultiGet,
        Self::Batch,
        Self::Scan,
        Self::Replicas,
        Self::Admin,
    ];

    /// The label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Touch => "touch",
            Self::MultiGet => "multi_get",
            Self::Batch => "batch",
            Self::Scan => "scan",
            Self::Replicas => "replicas",
            Self::Admin => "admin",
        }
    }
}

/// A consistency level, for its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Labels by the levels' numbers. 0 is for requests that have no level.
    const NAMES: [&'static str; 12] = [
        "none",
        "any",
        "one",
        "local_one",
        "two",
        "three",
        "quorum",
        "local_quorum",
        "each_quorum",
        "all",
        "serial",
        "local_serial",
    ];

    /// Of a request without a level.
    pub const NONE: Self = Self(0);

    /// The level with this number, [`Self::NONE`] where there is no such level.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        if usize::from(number) < Self::NAMES.len() { Self(number) } else { Self::NONE }
    }

    /// The label.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.0)]
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestResult {
    /// With an answer.
    Ok,
    /// With an error of this name.
    Error(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    consistency: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    operation: &'static str,
    consistency: &'static str,
    error: &'static str,
}

type PerLevel = [OnceLock<Histogram>; Level::NAMES.len()];

/// Latencies and errors of requests. Observed by the doors.
#[derive(Default)]
pub struct Requests {
    durations: [PerLevel; Operation::EVERY.len()],
    errors: Family<ErrorLabels, Counter>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Requests {
    /// Counts one request that was answered after `time`.
    pub fn observe(&self, op: Operation, level: Level, time: Duration, result: RequestResult) {
        self.cell(op, level).get_or_init(Histogram::default).observe(time);
        if let RequestResult::Error(error) = result {
            let labels = ErrorLabels { operation: op.name(), consistency: level.name(), error };
            self.errors.get_or_create(&labels).inc();
        }
    }

    /// The latencies of an operation at a level; `None` before the first.
    #[must_use]
    pub fn duration(&self, op: Operation, level: Level) -> Option<&Histogram> {
        self.cell(op, level).get()
    }

    fn cell(&self, op: Operation, level: Level) -> &OnceLock<Histogram> {
        &self.durations[op as usize][usize::from(level.0)]
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(REQUEST_ERRORS.0, REQUEST_ERRORS.1, self.errors.clone());
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = REQUEST_DURATION;
        let kind = prometheus_client::metrics::MetricType::Histogram;
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
        for (op, levels) in Operation::EVERY.iter().zip(&self.durations) {
            for (level, histogram) in Level::NAMES.into_iter().zip(levels) {
                if let Some(histogram) = histogram.get() {
                    let labels = RequestLabels { operation: op.name(), consistency: level };
                    histogram.encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}
