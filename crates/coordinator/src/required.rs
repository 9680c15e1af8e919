//! From a consistency level to the numbers that it waits for.

use meridian_service::RequestError;
use meridian_topology::Replicas;
use meridian_types::{ConsistencyLevel, DcId, Mutation, broken};

use crate::tally::{DcCount, Tally};

/// What a level is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Rows are read.
    Read,
    /// A row is written.
    Write,
}

/// More than half.
fn majority(replicas: usize) -> usize {
    if broken(Mutation::QuorumOfOne) {
        return 1;
    }
    replicas / 2 + 1
}

/// Replicas are counted in 16 bits: a placement has at most 64 datacenters of 16 replicas.
fn count(replicas: usize) -> u16 {
    u16::try_from(replicas).unwrap_or(u16::MAX)
}

/// What a level waits for, as a tally in which nothing is counted yet.
///
/// # Errors
/// A level that does not fit the access, is not there yet, or asks for a datacenter that has no
/// replicas. Nothing was sent; another level may be tried.
pub(crate) fn tally_for(
    level: ConsistencyLevel,
    access: Access,
    local_dc: DcId,
    replicas: Replicas<'_>,
) -> Result<Tally, RequestError> {
    use ConsistencyLevel as L;
    let refuse = |why| Err(RequestError::Level { level, why });
    let all = replicas.len();
    let (total, in_each): (usize, fn(usize) -> usize) = match level {
        L::Any if access == Access::Read => {
            return refuse("is for writes only; read at ONE or above");
        }
        L::Any | L::One => (1, |_| 0),
        L::Two => (2, |_| 0),
        L::Three => (3, |_| 0),
        L::Quorum => (majority(all), |_| 0),
        L::All => (all, |_| 0),
        L::LocalOne => (0, |_| 1),
        L::LocalQuorum if broken(Mutation::LocalCountsRemote) => {
            (majority(replicas.in_dc(local_dc).len()), |_| 0)
        }
        L::LocalQuorum | L::EachQuorum => (0, majority),
        L::Serial | L::LocalSerial => {
            return refuse("is not there yet; use QUORUM, LOCAL_QUORUM or EACH_QUORUM");
        }
    };
    let local_only = matches!(level, L::LocalOne | L::LocalQuorum);
    if local_only && replicas.in_dc(local_dc).is_empty() {
        return refuse(
            "needs replicas in the coordinator's datacenter, and this keyspace has none there; \
             use a level that is not local, or ask a node of another datacenter",
        );
    }
    let dcs = replicas.per_dc().map(|(dc, nodes)| {
        let required = if local_only && dc != local_dc { 0 } else { in_each(nodes.len()) };
        let (required, replicas) = (count(required), count(nodes.len()));
        DcCount { dc, required, replicas, acked: 0, failed: 0 }
    });
    Ok(Tally::new(count(total), level == L::Any, dcs.collect()))
}
