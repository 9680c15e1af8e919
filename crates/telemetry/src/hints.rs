//! What became of hints.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::names as n;

/// Where a hint went, or is. `found + stored` is the sum of the others since the node's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HintFate {
    /// Was there at the node's start.
    Found,
    /// Was kept since.
    Stored,
    /// Its replica took it.
    Delivered,
    /// Its replica had the write already.
    Superseded,
    /// Its window closed.
    Expired,
    /// Given up because there were too many.
    Dropped,
    /// Its bytes were damaged.
    Damaged,
    /// Waits.
    Pending,
}

impl HintFate {
    /// The label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Damaged => "damaged",
            Self::Pending => "pending",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HintLabels {
    fate: &'static str,
}

/// The accounts of a node's hints.
#[derive(Debug, Default)]
pub struct HintMetrics {
    gauges: Family<HintLabels, Gauge>,
}

impl HintMetrics {
    /// Sets a figure. Takes a lock: for jobs that run every few seconds.
    pub fn set(&self, fate: HintFate, hints: u64) {
        let hints = i64::try_from(hints).unwrap_or(i64::MAX);
        self.gauges.get_or_create(&HintLabels { fate: fate.name() }).set(hints);
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(n::HINTS.0, n::HINTS.1, self.gauges.clone());
    }
}
