//! A simulated machine: a disk and a clock, which stay, and the lives of a node on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_crdt::{DotSet, VnodeClock};
use meridian_runtime::Node;
use meridian_store::LogDriver;
use meridian_types::{KeyspaceId, NodeId, VnodeId};
use parking_lot::Mutex;

use super::cluster::Cluster;
use crate::history::{FaultId, Loss, LossCause};
use crate::sim::{Disk, DiskSnapshot, Micros, NodeClock, Owner};

/// The clocks of a store.
pub(super) type Clocks = BTreeMap<(KeyspaceId, VnodeId), Arc<VnodeClock>>;

/// See the module.
pub(super) struct Machine {
    pub(super) disk: Disk,
    pub(super) clock: Arc<Mutex<NodeClock>>,
    /// How many lives there were, the present one included.
    pub(super) lives: u32,
    pub(super) life: Option<Life>,
    /// Windows that keep it down.
    pub(super) held: u32,
    /// Windows that keep its process from running.
    pub(super) paused: u32,
    /// It never comes back.
    pub(super) gone: bool,
    /// Bytes on its disk have rotted.
    pub(super) rotten: bool,
    pub(super) snapshots: BTreeMap<FaultId, DiskSnapshot>,
    /// What its last life had, until the next one says what is left.
    pub(super) ended: Option<Ended>,
    /// What the disk had when the last start looked.
    pub(super) found: Clocks,
}

/// A life: from a start to the next crash or stop.
pub(super) struct Life {
    pub(super) owner: Owner,
    /// Once it has started.
    pub(super) up: Option<Up>,
}

/// A node that runs.
pub(super) struct Up {
    pub(super) node: Arc<Node>,
    pub(super) log: Log,
}

/// What the world keeps in mind of a log that it drives.
pub(super) struct Log {
    pub(super) driver: LogDriver,
    pub(super) write_planned: bool,
    /// When the planned sync is done; others are outdated.
    pub(super) sync_at: Option<Micros>,
    pub(super) job_planned: bool,
    /// Bytes in the file that were not synced at the last look.
    pub(super) unsynced: u64,
    /// Bytes that were written since the last flush.
    pub(super) unflushed: u64,
}

impl Log {
    pub(super) fn new(driver: LogDriver) -> Self {
        let (write_planned, sync_at, job_planned) = (false, None, false);
        Self { driver, write_planned, sync_at, job_planned, unsynced: 0, unflushed: 0 }
    }

    /// Counts what was written since the last look.
    pub(super) fn count(&mut self) {
        let unsynced = self.driver.unsynced().map_or(0, |unsynced| unsynced.bytes);
        self.unflushed += unsynced.saturating_sub(self.unsynced);
        self.unsynced = unsynced;
    }
}

/// What there was when a life ended.
pub(super) struct Ended {
    pub(super) at: Micros,
    pub(super) cause: LossCause,
    pub(super) had: Clocks,
    /// What every other machine had; those that were down, by what they found at a later start.
    pub(super) others: BTreeMap<NodeId, Option<Clocks>>,
}

impl Machine {
    pub(super) fn owner(&self) -> Option<Owner> {
        self.life.as_ref().map(|life| life.owner)
    }

    pub(super) fn up(&self) -> Option<&Up> {
        self.life.as_ref()?.up.as_ref()
    }

    pub(super) fn up_mut(&mut self) -> Option<&mut Up> {
        self.life.as_mut()?.up.as_mut()
    }

    /// Whether the owner is this machine's present life.
    pub(super) fn is_now(&self, owner: Owner) -> bool {
        self.owner() == Some(owner)
    }

    /// Whether it runs and nothing has failed in it. What it can prove of each vnode is another matter.
    pub(super) fn is_whole(&self) -> bool {
        self.up().is_some_and(|up| up.node.condition().failure.is_none())
    }
}

/// The clocks of everything that a node holds.
pub(super) fn clocks_of(node: &Node, id: NodeId, cluster: &Cluster) -> Clocks {
    let held = cluster.vnodes.iter().filter(|(_, vnode)| vnode.replicas.contains(&id));
    held.map(|(&(ks, vnode), _)| ((ks, vnode), node.store().clock(ks, vnode))).collect()
}

impl Ended {
    /// What is lost, now that it is known what is left. `later` has what machines that were down
    /// found when they started since.
    pub(super) fn losses(
        self,
        node: NodeId,
        left: &Clocks,
        later: impl Fn(NodeId) -> Option<Clocks>,
    ) -> Vec<Loss> {
        let empty = Arc::<VnodeClock>::default();
        let mut others = self.others;
        for (other, had) in &mut others {
            if had.is_none() {
                *had = later(*other);
            }
        }
        let mut losses = Vec::new();
        for (&(keyspace, vnode), had) in &self.had {
            let dots = had.beyond(left.get(&(keyspace, vnode)).unwrap_or(&empty));
            if dots.is_empty() {
                continue;
            }
            let mut elsewhere = DotSet::default();
            for clocks in others.values().flatten() {
                if let Some(clock) = clocks.get(&(keyspace, vnode)) {
                    elsewhere.union_with(clock.dots());
                }
            }
            let gone = dots.difference(&elsewhere);
            let (cause, since) = (self.cause, self.at);
            losses.push(Loss { node, cause, since, keyspace, vnode, dots, gone });
        }
        losses
    }
}
