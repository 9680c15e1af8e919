//! What a node counts about each of the others.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::Histogram;
use crate::histogram::SharedHistogram;
use crate::names as n;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
    dc: String,
}

type Times = Family<PeerLabels, SharedHistogram>;
type Counters = Family<PeerLabels, Counter>;
type Gauges = Family<PeerLabels, Gauge>;

macro_rules! peers {
    ($($(#[$doc:meta])* $field:ident: $kind:ident $named:expr;)*) => {
        /// Everything that is counted about one peer. Make it once for each peer and keep it.
        #[derive(Clone, Debug)]
        pub struct PeerMetrics {
            $($(#[$doc])* pub $field: peers!(@handle $kind),)*
        }

        /// The families behind [`PeerMetrics`], by peer and its datacenter.
        #[derive(Debug, Default)]
        pub struct Peers {
            $($field: peers!(@family $kind),)*
        }

        impl Peers {
            /// The counters of one peer.
            #[must_use]
            pub fn peer(&self, peer: &str, dc: &str) -> PeerMetrics {
                let labels = PeerLabels { peer: peer.to_owned(), dc: dc.to_owned() };
                PeerMetrics { $($field: peers!(@get $kind self.$field, &labels),)* }
            }

            pub(crate) fn register(&self, registry: &mut Registry) {
                $(peers!(@register $kind registry, $named, self.$field);)*
            }
        }
    };
    (@handle Times) => { Arc<Histogram> };
    (@handle Counters) => { Counter };
    (@handle Gauges) => { Gauge };
    (@family $kind:ident) => { $kind };
    (@get Times $family:expr, $labels:expr) => { $family.get_or_create_owned($labels).0 };
    (@get $kind:ident $family:expr, $labels:expr) => { $family.get_or_create_owned($labels) };
    (@register Times $registry:expr, $named:expr, $family:expr) => {
        $registry.register_with_unit($named.0, $named.1, Unit::Seconds, $family.clone())
    };
    (@register $kind:ident $registry:expr, $named:expr, $family:expr) => {
        $registry.register($named.0, $named.1, $family.clone())
    };
}

peers! {
    /// Requests that the peer acknowledged as a replica.
    acks: Counters n::REPLICA_ACKS;
    /// Requests that it answered with a failure.
    failures: Counters n::REPLICA_FAILURES;
    /// Requests that it did not answer in time.
    silences: Counters n::REPLICA_SILENCES;
    /// Time from asking it to its answer.
    duration: Times n::REPLICA_DURATION;
    /// Hints stored for it.
    hints_stored: Counters n::HINTS_STORED;
    /// Hints that it took, or no longer needed.
    hints_delivered: Counters n::HINTS_DELIVERED;
    /// Hints that were given up.
    hints_dropped: Counters n::HINTS_DROPPED;
    /// Hints that wait for it.
    hints_pending: Gauges n::HINTS_PENDING;
    /// Dots that this node has and the peer lacked at the last exchange.
    clock_lag: Gauges n::CLOCK_LAG;
    /// Dots that the peer has and this node lacked at the last exchange.
    clock_behind: Gauges n::CLOCK_BEHIND;
    /// Age of the oldest of these, in milliseconds.
    clock_behind_time: Gauges n::CLOCK_BEHIND_TIME;
    /// Vnodes whose clocks differed at the last exchange.
    differing_vnodes: Gauges n::DIFFERING_VNODES;
    /// Exchanges of clocks that came to their end.
    anti_entropy_rounds: Counters n::ANTI_ENTROPY_ROUNDS;
    /// Exchanges and pulls that broke off.
    anti_entropy_failures: Counters n::ANTI_ENTROPY_FAILURES;
    /// Rows pulled from it.
    anti_entropy_rows: Counters n::ANTI_ENTROPY_ROWS;
    /// 1 while the link to it is up, 0 otherwise.
    link_up: Gauges n::LINK_UP;
    /// Times that the link came up.
    link_connects: Counters n::LINK_CONNECTS;
    /// Bytes sent to it.
    link_sent_bytes: Counters n::LINK_SENT_BYTES;
    /// Bytes received from it.
    link_received_bytes: Counters n::LINK_RECEIVED_BYTES;
    /// Messages that wait to be sent to it.
    link_queued: Gauges n::LINK_QUEUED;
    /// Time of a keep-alive to it and back.
    link_round_trip: Times n::LINK_ROUND_TRIP;
}
