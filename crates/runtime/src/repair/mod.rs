//! Compares clocks with peers and pulls what differs (rule 7); serves the same to them.

mod compare;
mod evidence;
mod pull;
mod serve;

use std::sync::Arc;

use meridian_node::limits::COMPARE_TIMEOUT_MS;
use meridian_node::{AntiEntropyAction, AntiEntropyEvent, NodeEvent};
use meridian_types::{KeyspaceId, NodeId, VnodeId};

use crate::control::ControlEvent;
use crate::node::Inner;

pub(crate) use compare::{Comparison, compare};
pub(crate) use pull::pull;
use pull::pull_many;

/// Bytes of rows in one page of a pull: small enough to share a link with requests.
const PAGE_BYTES: usize = 256 << 10;

/// The keyspaces of which this node has vnodes in common with each peer.
pub(crate) fn shares(inner: &Inner) -> Vec<(NodeId, KeyspaceId)> {
    let view = inner.catalog.load();
    let mut shares = Vec::new();
    for keyspace in view.keyspaces() {
        shares.extend(keyspace.shared.peers().map(|peer| (peer, keyspace.def.id)));
    }
    shares
}

/// Does what the machine asks for, in a task of its own.
pub(crate) fn perform(inner: &Arc<Inner>, action: AntiEntropyAction) {
    match action {
        AntiEntropyAction::Compare { peer, keyspace, gaps } => {
            inner.spawn(move |inner| async move {
                let compared =
                    compare(&inner, peer, keyspace, (gaps, false), COMPARE_TIMEOUT_MS).await;
                let event = match compared {
                    Some(compared) => {
                        let (digest, differing) = (compared.digest, compared.differing());
                        inner.peers.said_of_itself(peer, keyspace, &compared.unsound);
                        inner.peers.compared(peer);
                        inner.lags.compared(peer, keyspace, &differing);
                        AntiEntropyEvent::Compared { peer, keyspace, digest, differing }
                    }
                    None => {
                        inner.peers.exchange_failed(peer);
                        AntiEntropyEvent::CompareFailed { peer, keyspace }
                    }
                };
                inner.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(event)));
            });
        }
        AntiEntropyAction::Pull { peer, keyspace, vnodes } => {
            inner.spawn(move |inner| async move {
                if let Err(error) = pull_many(&inner, peer, keyspace, &vnodes).await {
                    inner.peers.exchange_failed(peer);
                    tracing::debug!(peer = inner.name_of(peer), %error, "a pull ended");
                }
                let ended = AntiEntropyEvent::PullEnded { keyspace, vnodes };
                inner.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(ended)));
            });
        }
    }
}

impl Inner {
    /// The vnodes of a keyspace that both this node and a peer hold, in their order.
    fn shared_vnodes(&self, keyspace: KeyspaceId, peer: NodeId) -> Arc<[VnodeId]> {
        let view = self.catalog.load();
        let shared = view.keyspace(keyspace).and_then(|k| k.shared.with(peer));
        shared.cloned().unwrap_or_default()
    }
}
