//! One node's metrics.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::doors::Doors;
use crate::names::PREFIX;
use crate::{
    AdmissionMetrics, Door, DoorMetrics, HintMetrics, Peers, RepairMetrics, Requests,
    StorageMetrics,
};

/// All metrics of one node, behind one registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Arc<Requests>,
    admission: AdmissionMetrics,
    doors: Doors,
    peers: Peers,
    repairs: RepairMetrics,
    storage: StorageMetrics,
    hints: HintMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let requests = Arc::new(Requests::default());
        requests.register(&mut registry);
        registry.register_collector(Box::new(requests.clone()));
        let admission = AdmissionMetrics::default();
        admission.register(&mut registry);
        let doors = Doors::default();
        doors.register(&mut registry);
        let peers = Peers::default();
        peers.register(&mut registry);
        let storage = StorageMetrics::default();
        storage.register(&mut registry);
        let repairs = RepairMetrics::registered(&mut registry);
        let hints = HintMetrics::default();
        hints.register(&mut registry);
        Self { registry, requests, admission, doors, peers, repairs, storage, hints }
    }

    /// Latencies and errors of requests, by operation and level.
    #[must_use]
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// What was not begun, or not done in the end.
    #[must_use]
    pub fn admission(&self) -> &AdmissionMetrics {
        &self.admission
    }

    /// The counters of one door. Make it once and keep it.
    #[must_use]
    pub fn door(&self, door: Door) -> DoorMetrics {
        self.doors.door(door)
    }

    /// The counters about other nodes.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Repairs made by reads.
    #[must_use]
    pub fn repairs(&self) -> &RepairMetrics {
        &self.repairs
    }

    /// The accounts of hints.
    #[must_use]
    pub fn hints(&self) -> &HintMetrics {
        &self.hints
    }

    /// Figures of the storage engine.
    #[must_use]
    pub fn storage(&self) -> &StorageMetrics {
        &self.storage
    }

    /// The media type of [`Self::encode`]'s text.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Everything in the text format that Prometheus scrapes.
    ///
    /// # Errors
    /// None in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::with_capacity(16 << 10);
        prometheus_client::encoding::text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Level, Operation, RequestResult, StorageGauge};

    #[test]
    fn what_was_counted_is_scraped_with_its_labels() {
        let metrics = Metrics::new();
        let level = Level::from_number(7);
        let time = Duration::from_micros(100);
        metrics.requests().observe(Operation::Get, level, time, RequestResult::Ok);
        let timeout = RequestResult::Error("timeout");
        metrics.requests().observe(Operation::Put, level, time, timeout);
        let peer = metrics.peers().peer("eu-1", "eu");
        peer.acks.inc();
        peer.hints_pending.set(3);
        peer.link_round_trip.observe(time);
        metrics.door(Door::Resp).accepted.inc();
        metrics.repairs().blocking.inc();
        metrics.storage().set(StorageGauge::TableBytes, 42);
        metrics.hints().set(crate::HintFate::Superseded, 7);
        metrics.admission().refused.inc();

        let text = metrics.encode().unwrap();
        for line in [
            "meridian_request_duration_seconds_count{operation=\"get\",consistency=\"local_quorum\"} 1",
            "meridian_request_errors_total{operation=\"put\",consistency=\"local_quorum\",error=\"timeout\"} 1",
            "meridian_replica_acks_total{peer=\"eu-1\",dc=\"eu\"} 1",
            "meridian_hints_pending{peer=\"eu-1\",dc=\"eu\"} 3",
            "meridian_link_round_trip_seconds_count{peer=\"eu-1\",dc=\"eu\"} 1",
            "meridian_door_accepted_total{door=\"resp\"} 1",
            "meridian_read_repairs_total{when=\"blocking\"} 1",
            "meridian_storage{figure=\"table_bytes\"} 42",
            "meridian_hints{fate=\"superseded\"} 7",
            "meridian_requests_refused_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn handles_of_one_peer_share_their_counters() {
        let metrics = Metrics::new();
        metrics.peers().peer("a", "us").acks.inc();
        metrics.peers().peer("a", "us").acks.inc();
        assert_eq!(metrics.peers().peer("a", "us").acks.get(), 2);
    }
}
