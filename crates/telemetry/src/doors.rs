//! What clients do to the doors before they ask anything.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::names::{DOOR_ACCEPTED, DOOR_CONNECTIONS, DOOR_MALFORMED, DOOR_REFUSED};

/// A front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// The Redis protocol.
    Resp,
    /// HTTP.
    Rest,
    /// gRPC.
    Grpc,
}

impl Door {
    /// The label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resp => "resp",
            Self::Rest => "rest",
            Self::Grpc => "grpc",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabels {
    door: &'static str,
}

/// The counters of one door.
#[derive(Clone, Debug)]
pub struct DoorMetrics {
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were refused because the door was full.
    pub refused: Counter,
    /// Connections that were closed because of malformed input.
    pub malformed: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Doors {
    connections: Family<DoorLabels, Gauge>,
    accepted: Family<DoorLabels, Counter>,
    refused: Family<DoorLabels, Counter>,
    malformed: Family<DoorLabels, Counter>,
}

impl Doors {
    pub(crate) fn door(&self, door: Door) -> DoorMetrics {
        let labels = DoorLabels { door: door.name() };
        DoorMetrics {
            connections: self.connections.get_or_create_owned(&labels),
            accepted: self.accepted.get_or_create_owned(&labels),
            refused: self.refused.get_or_create_owned(&labels),
            malformed: self.malformed.get_or_create_owned(&labels),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(DOOR_CONNECTIONS.0, DOOR_CONNECTIONS.1, self.connections.clone());
        registry.register(DOOR_ACCEPTED.0, DOOR_ACCEPTED.1, self.accepted.clone());
        registry.register(DOOR_REFUSED.0, DOOR_REFUSED.1, self.refused.clone());
        registry.register(DOOR_MALFORMED.0, DOOR_MALFORMED.1, self.malformed.clone());
    }
}
