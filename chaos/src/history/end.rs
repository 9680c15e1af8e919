//! What replicas store when everything has had time to heal.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_crdt::{Row, VnodeClock};
use meridian_types::{KeyspaceId, Millis, NodeId, VnodeId};

use super::Key;
use crate::sim::Micros;

/// The end of a run, read from the stores themselves.
#[derive(Clone, Debug, Default)]
pub struct Final {
    /// When.
    pub at: Micros,
    /// The true wall time then: what is expired is decided at one time for all replicas.
    pub wall: Millis,
    /// Every node.
    pub replicas: BTreeMap<NodeId, ReplicaState>,
}

/// One node's store.
#[derive(Clone, Debug, Default)]
pub struct ReplicaState {
    /// Whether it runs and, by its own word, has everything that its clocks claim. A node that was
    /// not healed (still down, rebuilding, its disk refused) is not sound.
    pub sound: bool,
    /// The vnodes that it is a replica of.
    pub vnodes: BTreeMap<(KeyspaceId, VnodeId), VnodeState>,
}

/// One vnode of one replica, clock and rows of one instant.
#[derive(Clone, Debug, Default)]
pub struct VnodeState {
    /// Its clock.
    pub clock: Arc<VnodeClock>,
    /// Its rows as they are stored, markers included. A key that no client uses is left out.
    pub rows: BTreeMap<Key, Row>,
}

impl Final {
    /// What a replica stores of a key; `None` where the replica does not have the vnode.
    #[must_use]
    pub fn vnode(&self, node: NodeId, keyspace: KeyspaceId, vnode: VnodeId) -> Option<&VnodeState> {
        self.replicas.get(&node)?.vnodes.get(&(keyspace, vnode))
    }
}
