//! What was not begun, so that the rest ends in time.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::names as n;

/// What an overloaded node leaves undone.
#[derive(Debug, Default)]
pub struct AdmissionMetrics {
    /// Requests that were refused because they would have waited for too long, or were too many.
    pub refused: Counter,
    /// Steps of requests that were left out because nobody waited for them any more.
    pub late: Counter,
    /// Bytes of the requests whose clients wait.
    pub waiting_bytes: Gauge,
    /// By how much the node's own timers are late, in milliseconds, for longer than a moment.
    pub lag_ms: Gauge,
}

impl AdmissionMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(n::REFUSED.0, n::REFUSED.1, self.refused.clone());
        registry.register(n::LATE.0, n::LATE.1, self.late.clone());
        registry.register(n::WAITING_BYTES.0, n::WAITING_BYTES.1, self.waiting_bytes.clone());
        registry.register(n::LAG.0, n::LAG.1, self.lag_ms.clone());
    }
}
