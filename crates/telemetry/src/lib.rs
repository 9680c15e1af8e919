//! What a node says about itself: the names of metrics and span fields, in one place.
//!
//! [`Metrics`] belongs to one node. There is no global recorder, because a test runs many nodes in
//! one process. Handles are made once and cached by whoever counts; counting is one or two relaxed
//! atomic additions and takes no lock. Doors observe requests, the runtime everything else.
//!
//! Knows: names, units, labels, how histograms are kept.
//! Must not know: who counts, and what for.
//!
//! Invariants: a metric's name and unit never change their meaning; no label holds a key, a value
//! or anything else that a client chose.
#![deny(missing_docs)]

mod admission;
mod doors;
mod hints;
mod histogram;
mod metrics;
mod names;
mod peers;
mod requests;
pub mod span;
mod storage;

pub use admission::AdmissionMetrics;
pub use doors::{Door, DoorMetrics};
pub use hints::{HintFate, HintMetrics};
pub use histogram::{Histogram, Snapshot};
pub use metrics::Metrics;
pub use peers::{PeerMetrics, Peers};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use requests::{Level, Operation, RequestResult, Requests};
pub use storage::{RepairMetrics, StorageGauge, StorageMetrics};
