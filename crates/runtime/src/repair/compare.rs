//! Asks a peer whether its clocks are this node's.

use std::sync::Arc;

use meridian_crdt::VnodeClock;
use meridian_repair::message::{RepairReply, RepairRequest};
use meridian_repair::{combined_digest, differing};
use meridian_transport::Class;
use meridian_types::{KeyspaceId, NodeId, PeerStanding, VnodeId};
use meridian_wire::replica::PeerBody;

use crate::node::Inner;

/// What a comparison has shown.
pub(crate) struct Comparison {
    /// Over all own clocks.
    pub(super) digest: u128,
    /// Digests of the own clocks, as they were when the peer was asked.
    mine: Vec<(VnodeId, u128)>,
    /// Those of the peer's, later; `None`: all are the same.
    theirs: Option<Vec<(VnodeId, u128)>>,
    /// What the peer is not sound for.
    pub(crate) unsound: Vec<(VnodeId, PeerStanding)>,
}

impl Comparison {
    /// The vnodes whose clocks differ.
    pub(super) fn differing(&self) -> Vec<VnodeId> {
        self.theirs.as_ref().map_or_else(Vec::new, |theirs| differing(&self.mine, theirs))
    }

    /// The digest of a vnode's clock, if the peer's is the same.
    pub(crate) fn same(&self, vnode: VnodeId) -> Option<u128> {
        let digest = |list: &[(VnodeId, u128)]| {
            let at = list.binary_search_by_key(&vnode, |(vnode, _)| *vnode).ok()?;
            Some(list[at].1)
        };
        let mine = digest(&self.mine)?;
        let theirs = self.theirs.as_ref().map_or(Some(mine), |theirs| digest(theirs));
        (theirs == Some(mine)).then_some(mine)
    }

    /// What the peer could prove of a vnode, before its clock was looked at.
    pub(crate) fn standing_of(&self, vnode: VnodeId) -> PeerStanding {
        let at = self.unsound.binary_search_by_key(&vnode, |(vnode, _)| *vnode);
        at.map_or(PeerStanding::SOUND, |at| self.unsound[at].1)
    }
}

/// Compares the clocks of all vnodes that are shared with a peer; `None` where no answer came.
pub(crate) async fn compare(
    inner: &Arc<Inner>,
    peer: NodeId,
    keyspace: KeyspaceId,
    (gaps, losses): (bool, bool),
    timeout_ms: u64,
) -> Option<Comparison> {
    let (held, mine) = digests(inner, keyspace, peer).await?;
    let digest = combined_digest(mine.iter().copied());
    let body = PeerBody::Repair(RepairRequest::Compare { keyspace, digest, gaps, losses });
    let comparison = match inner.ask(peer, Class::Background, None, body, timeout_ms).await {
        Ok(PeerBody::RepairReply(RepairReply::Same { unsound })) => {
            Comparison { digest, mine, theirs: None, unsound }
        }
        Ok(PeerBody::RepairReply(RepairReply::Differs { digests, unsound })) => {
            Comparison { digest, mine, theirs: Some(digests), unsound }
        }
        _ => return None,
    };
    let has = |(vnode, _): &(VnodeId, _)| {
        comparison.same(*vnode).is_some() && comparison.standing_of(*vnode) == PeerStanding::SOUND
    };
    inner.peer_has(peer, keyspace, held.into_iter().filter(has));
    Some(comparison)
}

/// Clocks of this node's, while there are hints for the peer.
pub(super) type Held = Vec<(VnodeId, Arc<VnodeClock>)>;

/// Digests of the clocks that this node shares with a peer; off the async threads, because the
/// clocks of a node's thousands of vnodes take a while after a burst of writes.
async fn digests(
    inner: &Arc<Inner>,
    keyspace: KeyspaceId,
    peer: NodeId,
) -> Option<(Held, Vec<(VnodeId, u128)>)> {
    let vnodes = inner.shared_vnodes(keyspace, peer);
    let read = move |inner: &Arc<Inner>| {
        // Before the digests: a peer of the same digest has at least what was here before.
        let held = inner.held_if_hints(peer, keyspace, &vnodes);
        (held, inner.store.clock_digests(keyspace, &vnodes))
    };
    inner.off_thread(read).await.ok()
}
