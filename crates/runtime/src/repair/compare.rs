//! Asks a peer whether its clocks are this node's.

use std::sync::Arc;

use meridian_repair::message::{RepairReply, RepairRequest};
use meridian_repair::{combined_digest, differing};
use meridian_transport::Class;
use meridian_types::{KeyspaceId, NodeId, VnodeId};
use meridian_wire::replica::PeerBody;

use crate::node::Inner;

/// How long a comparison waits for its answer; the machine gives up at the same time.
const TIMEOUT_MS: u64 = meridian_node::limits::COMPARE_TIMEOUT_MS;

/// What a comparison found.
pub(super) struct Compared {
    /// Of this node's clocks.
    pub(super) digest: u128,
    /// The vnodes whose clocks differ.
    pub(super) differing: Vec<VnodeId>,
}

/// Compares; `None` where no answer came.
pub(super) async fn compare(
    inner: &Arc<Inner>,
    peer: NodeId,
    keyspace: KeyspaceId,
    gaps: bool,
) -> Option<Compared> {
    let mine = digests(inner, keyspace, peer).await?;
    let digest = combined_digest(mine.iter().copied());
    let body = PeerBody::Repair(RepairRequest::Compare { keyspace, digest, gaps });
    match inner.ask(peer, Class::Background, None, body, TIMEOUT_MS).await {
        Ok(PeerBody::RepairReply(RepairReply::Same { .. })) => {
            Some(Compared { digest, differing: Vec::new() })
        }
        Ok(PeerBody::RepairReply(RepairReply::Differs { digests, .. })) => {
            Some(Compared { digest, differing: differing(&mine, &digests) })
        }
        _ => None,
    }
}

/// Digests of the clocks that this node shares with a peer; off the async threads, because the
/// clocks of a node's thousands of vnodes take a while after a burst of writes.
async fn digests(
    inner: &Arc<Inner>,
    keyspace: KeyspaceId,
    peer: NodeId,
) -> Option<Vec<(VnodeId, u128)>> {
    let vnodes = inner.shared_vnodes(keyspace, peer);
    inner.off_thread(move |inner| inner.store.clock_digests(keyspace, &vnodes)).await.ok()
}
