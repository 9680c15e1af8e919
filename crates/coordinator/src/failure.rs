//! Why a machine gave up, in numbers; names are put in where the topology is at hand.

use meridian_service::{Effect, RequestError};
use meridian_topology::Topology;
use meridian_types::{ConsistencyLevel, NodeId};

use crate::message::Refusal;
use crate::tally::Tally;

/// How a request failed after its plan was made. It carries ids and counts, no text, so that a
/// request that succeeds pays nothing for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The level.
    pub level: ConsistencyLevel,
    /// Whether it was a write, of which something may have been applied.
    pub write: bool,
    /// What ended it.
    pub cause: Cause,
    /// Who answered.
    pub tally: Tally,
}

/// What ended a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// Too few replicas answered before the deadline, or too many went down to wait for it.
    Silence,
    /// A replica refused: the first refusal. Together with others it made the level unreachable.
    Refused {
        /// Who.
        node: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// The leading replica refused the write before anything was sent.
    NotMinted {
        /// The leading replica.
        node: NodeId,
        /// Why.
        refusal: Refusal,
    },
}

impl Failure {
    /// The error for the client, with names.
    #[must_use]
    pub fn into_error(self, topology: &Topology) -> RequestError {
        let Self { level, write, cause, tally } = self;
        let acks = tally.report(topology, write);
        match cause {
            Cause::Silence => RequestError::Timeout { level, acks, write },
            Cause::Refused { refusal: Refusal::Behind, .. } if !write => {
                RequestError::SessionBehind { level }
            }
            Cause::Refused { node, refusal } => {
                let why = format!("{}: {refusal}", node_name(topology, node));
                RequestError::Failed { level, acks, why, write }
            }
            // A failed log write may still be in the log.
            Cause::NotMinted { refusal: Refusal::Storage(why), .. } => {
                RequestError::Storage { why, effect: Effect::Unknown }
            }
            Cause::NotMinted { node, refusal } => {
                let why = format!("{}: {refusal}; nothing was written", node_name(topology, node));
                RequestError::Failed { level, acks, why, write: false }
            }
        }
    }
}

pub(crate) fn node_name(topology: &Topology, node: NodeId) -> String {
    topology.node(node).map_or_else(|| format!("node {node}"), |info| info.name.clone())
}
