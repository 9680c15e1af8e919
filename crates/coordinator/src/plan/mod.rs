//! Who must answer, who is asked, and who is down: fixed at the start of a request.
//!
//! A plan is made from the preference list and the links' view of who is alive. What cannot be met
//! is refused here, before anything is sent, so that the refusal can say "nothing was written".

mod segments;
#[cfg(test)]
mod tests;

use meridian_service::RequestError;
use meridian_topology::{Replicas, Topology};
use meridian_types::{ConsistencyLevel, DcId, NodeId};
use smallvec::SmallVec;

pub use segments::{Segment, Segments};

use crate::failure::node_name;
use crate::required::{Access, tally_for};
use crate::tally::{Tally, Verdict};

/// A replica as a plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedReplica {
    /// The node.
    pub node: NodeId,
    /// Its datacenter's place in [`Tally::dcs`].
    pub dc: u16,
    /// Whether its link is up.
    pub alive: bool,
}

/// A vnode's replicas. Nine are three datacenters of three; more go to the heap.
pub type PlannedReplicas = SmallVec<[PlannedReplica; 9]>;

/// How a write goes out.
#[derive(Clone, Debug, PartialEq)]
pub struct WritePlan {
    /// The level.
    pub level: ConsistencyLevel,
    /// The coordinator, which mints the dot as a replica, unless the write has one.
    pub leader: NodeId,
    /// What the level waits for; replicas that are down are counted as failed already.
    pub tally: Tally,
    /// All replicas, those of a datacenter side by side, preferred first.
    pub replicas: PlannedReplicas,
}

impl WritePlan {
    /// Plans a write that `self_id`, a replica, coordinates.
    ///
    /// # Errors
    /// A level that does not fit, or that the replicas alive cannot meet; or `self_id` is no
    /// replica (see [`crate::route`]). Nothing was written.
    pub fn new(
        level: ConsistencyLevel,
        local_dc: DcId,
        self_id: NodeId,
        replicas: Replicas<'_>,
        alive: impl Fn(NodeId) -> bool,
        topology: &Topology,
    ) -> Result<Self, RequestError> {
        if !replicas.contains(self_id) {
            let tally = tally_for(level, Access::Write, local_dc, replicas)?;
            let acks = tally.report(topology, true);
            let why = format!(
                "{} is no replica of the key in its layout; nothing was written",
                node_name(topology, self_id)
            );
            return Err(RequestError::Failed { level, acks, why, write: false });
        }
        Self::named(level, local_dc, self_id, replicas, alive, topology)
    }

    /// Plans a write that has its dot already: `self_id` need not be a replica, and collects the
    /// acknowledgements.
    ///
    /// # Errors
    /// As [`Self::new`], but for the last.
    pub fn named(
        level: ConsistencyLevel,
        local_dc: DcId,
        self_id: NodeId,
        replicas: Replicas<'_>,
        alive: impl Fn(NodeId) -> bool,
        topology: &Topology,
    ) -> Result<Self, RequestError> {
        let mut tally = tally_for(level, Access::Write, local_dc, replicas)?;
        let planned = survey(&mut tally, replicas, |node| node == self_id || alive(node));
        refuse_unreachable(level, &tally, topology)?;
        Ok(Self { level, leader: self_id, tally, replicas: planned })
    }
}

/// How a read goes out.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadPlan {
    /// The level.
    pub level: ConsistencyLevel,
    /// What the level waits for; replicas that are down are counted as failed already.
    pub tally: Tally,
    /// The replicas alive that the level may ask, nearest first: [`Self::contacts`] of them are
    /// asked at once, the others are spares.
    pub replicas: PlannedReplicas,
    /// How many are asked at once.
    pub contacts: usize,
}

impl ReadPlan {
    /// Plans a read. `self_id` need not be a replica. Those that are `doubtful` may refuse it, so
    /// they are asked last; but what is known of them may be old, so they are asked.
    ///
    /// # Errors
    /// A level that does not fit, or that the replicas alive cannot meet.
    pub fn new(
        level: ConsistencyLevel,
        local_dc: DcId,
        self_id: NodeId,
        replicas: Replicas<'_>,
        alive: impl Fn(NodeId) -> bool,
        doubtful: impl Fn(NodeId) -> bool,
        topology: &Topology,
    ) -> Result<Self, RequestError> {
        let mut tally = tally_for(level, Access::Read, local_dc, replicas)?;
        let mut planned = survey(&mut tally, replicas, |node| node == self_id || alive(node));
        refuse_unreachable(level, &tally, topology)?;
        planned.retain(|replica| replica.alive && asks(&tally, replica.dc));
        let nearest = topology.nearest_dcs(local_dc);
        planned.sort_by_cached_key(|replica| {
            let dc = tally.dcs()[usize::from(replica.dc)].dc;
            let hops = match nearest.iter().position(|&near| near == dc) {
                _ if dc == local_dc => 0,
                Some(at) => at + 1,
                None => usize::MAX,
            };
            (doubtful(replica.node), replica.node != self_id, hops)
        });
        let contacts = contacts_first(&tally, &mut planned);
        Ok(Self { level, tally, replicas: planned, contacts })
    }

    /// The replicas that are asked at once, nearest first.
    #[must_use]
    pub fn contacts(&self) -> &[PlannedReplica] {
        &self.replicas[..self.contacts]
    }
}

/// Whether a level asks anything of a datacenter.
fn asks(tally: &Tally, dc: u16) -> bool {
    tally.total_required() > 0 || tally.dcs()[usize::from(dc)].required > 0
}

/// Lists the replicas and counts those that are down as failed.
fn survey(
    tally: &mut Tally,
    replicas: Replicas<'_>,
    alive: impl Fn(NodeId) -> bool,
) -> PlannedReplicas {
    let mut planned = PlannedReplicas::new();
    // The tally was made from the same list, so its datacenters are in the same order.
    for (at, (_, nodes)) in replicas.per_dc().enumerate() {
        for &node in nodes {
            let alive = alive(node);
            if !alive {
                tally.fail(at);
            }
            let dc = u16::try_from(at).unwrap_or(u16::MAX);
            planned.push(PlannedReplica { node, dc, alive });
        }
    }
    planned
}

fn refuse_unreachable(
    level: ConsistencyLevel,
    tally: &Tally,
    topology: &Topology,
) -> Result<(), RequestError> {
    if tally.verdict() == Verdict::Unreachable {
        return Err(RequestError::Unavailable { level, missing: tally.shortfalls(topology) });
    }
    Ok(())
}

/// Moves the nearest replicas that suffice for the level to the front; how many they are.
fn contacts_first(tally: &Tally, planned: &mut PlannedReplicas) -> usize {
    let mut chosen: SmallVec<[u16; 4]> = SmallVec::from_elem(0, tally.dcs().len());
    let mut total = 0;
    let mut spares = PlannedReplicas::new();
    planned.retain(|replica| {
        let dc = usize::from(replica.dc);
        let needed = chosen[dc] < tally.dcs()[dc].required || total < tally.total_required();
        if needed {
            chosen[dc] += 1;
            total += 1;
        } else {
            spares.push(*replica);
        }
        needed
    });
    let contacts = planned.len();
    planned.extend(spares);
    contacts
}
