//! What this replica says to those who forget, and what it has heard from them (rules 8 and 12).
//!
//! What was heard is in memory, of the vnodes that are being looked at, and holds for one layout and
//! one life of whoever said it. It is void from the first message of a full pull on: a replica that
//! rebuilds is not what it was.

use std::sync::Arc;

use meridian_crdt::{Evidence, Promise};
use meridian_lsm::WriteBatch;
use meridian_types::{Mutation, NodeId, broken};

use super::*;
use crate::forgetting::{Heard, PromisedStamp};
use crate::records::{self, PROMISED_KEY};
use crate::standing::VnodeKind;

type VnodeName = (KeyspaceId, VnodeId);

/// Vnodes that evidence is kept of at once, at most: each a clock and a promise of every replica,
/// some hundred bytes. What finds no room is not kept, and asked for again.
pub const MAX_EVIDENCE_VNODES: usize = 1_024;

/// What the others said.
#[derive(Debug, Default)]
pub(super) struct Told {
    vnodes: BTreeMap<VnodeName, BTreeMap<NodeId, Heard>>,
    /// By peer: how often what it had said became void.
    voided: BTreeMap<NodeId, u64>,
}

/// A question to a replica. What became void after it was asked is not heard any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    peer: NodeId,
    voided: u64,
}

impl Store {
    /// What this replica says of some vnodes to those who want to forget; of one that is fresh or
    /// rebuilding, nothing. What is not durable yet is said when it is asked for again.
    ///
    /// # Errors
    /// The storage engine refuses writes: nothing is promised then.
    pub fn evidence(
        &self,
        keyspace: KeyspaceId,
        vnodes: &[VnodeId],
        now: Millis,
    ) -> Result<Vec<(VnodeId, Evidence)>, StoreError> {
        let inner = &*self.inner;
        let known = inner.vnodes(keyspace)?;
        vnodes.iter().try_for_each(|vnode| known.check(*vnode))?;
        let promised = inner.promise(now)?;
        let said = vnodes.iter().map(|vnode| Ok((*vnode, inner.say(&known, *vnode, promised)?)));
        let said: Result<Vec<_>, StoreError> = said.collect();
        Ok(said?.into_iter().filter_map(|(vnode, said)| Some((vnode, said?))).collect())
    }

    /// To be called before a replica is asked.
    #[must_use]
    pub fn asking(&self, peer: NodeId) -> Asked {
        let voided = self.inner.told.lock().voided.get(&peer).copied().unwrap_or_default();
        Asked { peer, voided }
    }

    /// Keeps what a replica said of a vnode, knowing this layout.
    pub fn hear(
        &self,
        asked: Asked,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        layout: u64,
        evidence: Evidence,
    ) {
        let mut told = self.inner.told.lock();
        let is_void = told.voided.get(&asked.peer).copied().unwrap_or_default() != asked.voided;
        let name = (keyspace, vnode);
        let has_room = told.vnodes.contains_key(&name) || told.vnodes.len() < MAX_EVIDENCE_VNODES;
        if has_room && (!is_void || broken(Mutation::EvidenceOverLives)) {
            let heard = Heard { layout, evidence: Arc::new(evidence) };
            told.vnodes.entry(name).or_default().insert(asked.peer, heard);
        }
    }

    /// Whatever a replica said is void: it is out of reach, or another life of it has begun.
    pub fn void_evidence(&self, peer: NodeId) {
        if broken(Mutation::EvidenceOverLives) {
            return;
        }
        let mut told = self.inner.told.lock();
        *told.voided.entry(peer).or_default() += 1;
        told.vnodes.values_mut().for_each(|heard| _ = heard.remove(&peer));
        told.vnodes.retain(|_, heard| !heard.is_empty());
    }

    /// As [`Self::void_evidence`], of one vnode: its replica pulls it in full. To be called before
    /// its first page is read.
    pub fn void_evidence_of(&self, keyspace: KeyspaceId, vnode: VnodeId, peer: NodeId) {
        if broken(Mutation::EvidenceOverLives) {
            return;
        }
        let mut told = self.inner.told.lock();
        *told.voided.entry(peer).or_default() += 1;
        if let Some(heard) = told.vnodes.get_mut(&(keyspace, vnode)) {
            heard.remove(&peer);
        }
    }

    /// Forgets what was heard of a vnode, when it was looked through.
    pub fn drop_evidence(&self, keyspace: KeyspaceId, vnode: VnodeId) {
        self.inner.told.lock().vnodes.remove(&(keyspace, vnode));
    }
}

impl Inner {
    /// A stamp that no later write of this node gets. It may be told when the record of it is
    /// durable: another life must begin above it.
    pub(super) fn promise(&self, now: Millis) -> Result<PromisedStamp, StoreError> {
        let (stamp, due) = self.stamps.promise(now);
        if let Some(mark) = due {
            self.check_open()?;
            let mut batch = WriteBatch::new();
            batch.merge(&self.clocks, PROMISED_KEY, records::stamp_to_bytes(mark));
            let commit = self.write(batch, Carried::default())?;
            self.stamps.promise_stored(mark, commit);
        }
        Ok(PromisedStamp { stamp, now })
    }

    /// What is said of one vnode.
    pub(super) fn say(
        &self,
        vnodes: &Vnodes,
        vnode: VnodeId,
        promised: PromisedStamp,
    ) -> Result<Option<Evidence>, StoreError> {
        let mut locked = vnodes.lock(vnode);
        if locked.state(self.actor.incarnation).kind.is_unproven() {
            return Ok(None);
        }
        let given_out = self.reservations.highest(vnodes.keyspace, vnode);
        let counter = locked.clock().highest(self.actor).max(given_out);
        let next = Promise { counter, stamp: promised.stamp };
        let durable = self.db.durable_seqno();
        let (clock, commit) = (locked.clock().clone(), locked.commit());
        let (clock, promise) = locked.forgetting.say(
            (&clock, commit),
            next,
            promised.now,
            |commit| commit.seqno() <= durable,
            |stamp| self.stamps.is_promise_durable(stamp, durable),
        );
        let ended = self.ended.iter().map(|incarnation| {
            (Actor { node: self.actor.node, incarnation: *incarnation }, Promise::UNKNOWN)
        });
        let promises = ended.chain([(self.actor, promise)]).collect();
        Ok(Some(Evidence { clock, promises }))
    }

    /// What the others said of a vnode, if all of them did, and for this layout.
    pub(super) fn heard(
        &self,
        name: VnodeName,
        others: &[NodeId],
        layout: u64,
    ) -> Option<Vec<Arc<Evidence>>> {
        let told = self.told.lock();
        let heard = told.vnodes.get(&name);
        let from = |peer: &NodeId| {
            let heard = heard?.get(peer)?;
            let is_of_layout = heard.layout == layout || broken(Mutation::EvidenceOverEpochs);
            is_of_layout.then(|| heard.evidence.clone())
        };
        others.iter().map(from).collect()
    }

    /// Whether a replica of this state may forget.
    pub(super) fn is_proven(&self, vnode: &crate::vnodes::Vnode) -> bool {
        let kind = vnode.state(self.actor.incarnation).kind;
        matches!(kind, VnodeKind::Sound | VnodeKind::Suspect)
    }
}
