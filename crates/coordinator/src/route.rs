//! Where a request is coordinated.

use meridian_service::RequestError;
use meridian_topology::{Replicas, Topology};
use meridian_types::{ConsistencyLevel, DcId, NodeId};

use crate::required::{Access, tally_for};

/// Who coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// This node.
    Here,
    /// Another node, which is a replica: the request is sent to it as
    /// [`crate::message::ReplicaRequest::Coordinate`], and its answer is passed on. It is handed
    /// on once only: who gets it and is no replica refuses it.
    HandTo(NodeId),
    /// This node keeps the write until a replica has it: the level is ANY and none is alive.
    StoreIntent,
}

/// Decides who coordinates.
///
/// A dot is minted by a replica, never by a bystander (rule 1), so a write is handed to an alive
/// replica in the coordinator's datacenter, or in the nearest one that has any. Anybody may
/// coordinate a read: handing it on would cost a hop more than asking the replicas.
///
/// # Errors
/// A level that does not fit; a local level with no replica of this datacenter alive (it does not
/// move to another datacenter, whose "local" would mean something else); or no replica alive at
/// all. Nothing was written.
pub fn route(
    access: Access,
    level: ConsistencyLevel,
    local_dc: DcId,
    self_id: NodeId,
    replicas: Replicas<'_>,
    alive: impl Fn(NodeId) -> bool,
    topology: &Topology,
) -> Result<Route, RequestError> {
    if access == Access::Read || replicas.contains(self_id) {
        return Ok(Route::Here);
    }
    let first_alive = |dc: DcId| replicas.in_dc(dc).iter().copied().find(|&node| alive(node));
    let mut tally = tally_for(level, access, local_dc, replicas)?;
    if let Some(node) = first_alive(local_dc) {
        return Ok(Route::HandTo(node));
    }
    let local_only = matches!(level, ConsistencyLevel::LocalOne | ConsistencyLevel::LocalQuorum);
    if !local_only
        && let Some(node) = topology.nearest_dcs(local_dc).iter().find_map(|&dc| first_alive(dc))
    {
        return Ok(Route::HandTo(node));
    }
    if level == ConsistencyLevel::Any {
        return Ok(Route::StoreIntent);
    }
    for (at, (_, nodes)) in replicas.per_dc().enumerate() {
        for _ in nodes.iter().filter(|&&node| !alive(node)) {
            tally.fail(at);
        }
    }
    Err(RequestError::Unavailable { level, missing: tally.shortfalls(topology) })
}
