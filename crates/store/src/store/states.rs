//! What this replica can prove of each vnode (rule 10): verbs for whoever makes good what was lost.
//!
//! Changes for the better ride on the log with the rows that they speak of: whatever a power cut
//! takes back, it takes back together. Changes for the worse are a start's (`found`), but for the
//! first record of a vnode, which goes into the batch of its first change.

use meridian_lsm::WriteBatch;
use meridian_types::NodeId;

use super::*;
use crate::standing::{
    EndedPull, Goods, OtherReplicas, PeerStanding, ReadClass, Standing, VnodeKind, VnodeState,
};
use crate::vnodes::Vnode;

/// What a vnode lacks until it is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its state.
    pub kind: VnodeKind,
    /// The reads that it is good for.
    pub goods: Goods,
    /// Whom it must still be pulled from: in full where it is fresh or rebuilding.
    pub todo: Vec<NodeId>,
    /// Whether it waits for nothing but [`Store::end_rebuild`].
    pub through: bool,
}

impl Store {
    /// What reads a vnode is good for; costs one look into memory. The vnode must be one of the
    /// ring's.
    #[must_use]
    pub fn standing(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Standing {
        let view = self.inner.view();
        view.keyspaces
            .get(&keyspace)
            .map_or_else(Vnodes::nothing_known, |vnodes| vnodes.standing(vnode))
    }

    /// Whether all vnodes from `first` to `last`, included, may answer a read of this class.
    #[must_use]
    pub fn all_answer(
        &self,
        keyspace: KeyspaceId,
        first: VnodeId,
        last: VnodeId,
        class: ReadClass,
    ) -> bool {
        let view = self.inner.view();
        let Some(vnodes) = view.keyspaces.get(&keyspace) else { return false };
        (first.0..=last.0).all(|vnode| vnodes.standing(VnodeId(vnode)).answers(class))
    }

    /// What this replica can prove of a vnode.
    #[must_use]
    pub fn state(&self, keyspace: KeyspaceId, vnode: VnodeId) -> VnodeState {
        let life = self.inner.actor.incarnation;
        match self.inner.vnodes(keyspace) {
            Ok(vnodes) if vnodes.check(vnode).is_ok() => vnodes.lock(vnode).state(life),
            Ok(_) | Err(_) => VnodeState::begun(VnodeKind::Fresh, life),
        }
    }

    /// As [`Self::state`], of several vnodes, in their order.
    #[must_use]
    pub fn states(&self, keyspace: KeyspaceId, vnodes: &[VnodeId]) -> Vec<VnodeState> {
        vnodes.iter().map(|vnode| self.state(keyspace, *vnode)).collect()
    }

    /// What this replica says of a vnode to those who compare or pull.
    #[must_use]
    pub fn peer_standing(&self, keyspace: KeyspaceId, vnode: VnodeId) -> PeerStanding {
        let life = self.inner.actor.incarnation;
        match self.inner.vnodes(keyspace) {
            Ok(vnodes) if vnodes.check(vnode).is_ok() => {
                vnodes.peer_standing(&vnodes.lock(vnode), life)
            }
            Ok(_) | Err(_) => {
                let (kind, goods) = (VnodeKind::Fresh, Goods::NONE);
                PeerStanding { kind, goods, loss: life }
            }
        }
    }

    /// Says who the other replicas are: after a start nothing is good for a read before that, but
    /// what is sound. Ends a suspicion that nothing speaks for any more.
    ///
    /// # Errors
    /// Nothing was changed, but for an error of the storage engine that says otherwise.
    pub fn judge(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        others: &OtherReplicas,
    ) -> Result<Progress, StoreError> {
        let inner = &*self.inner;
        let vnodes = inner.vnodes(keyspace)?;
        vnodes.check(vnode)?;
        let mut locked = vnodes.lock(vnode);
        let mut state = locked.state(inner.actor.incarnation);
        if state.kind == VnodeKind::Suspect && state.is_through(others) {
            inner.check_open()?;
            state.end(others);
            let batch = WriteBatch::new();
            inner.write_state(&mut locked, batch, Carried::default(), state.clone())?;
        }
        Ok(show(&vnodes, vnode, &state, others))
    }

    /// Notes a pull that has ended: joins the clock that the peer had at its start, after the last
    /// of its rows was joined and never before, together with what the pull says of the vnode. For
    /// a vnode that is sound it is the join of the clock and nothing more.
    ///
    /// Of an LWW table everything that is here is proven by a full pull: its rows have no context
    /// that could be missing.
    ///
    /// # Errors
    /// As [`Self::judge`]; a row that cannot be read.
    pub fn pull_ended(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        pull: &EndedPull,
        peer: &VnodeClock,
        others: &OtherReplicas,
    ) -> Result<Progress, StoreError> {
        let inner = &*self.inner;
        let vnodes = inner.vnodes(keyspace)?;
        vnodes.check(vnode)?;
        let proven = match pull.full {
            true => inner.loose_lww(&vnodes, vnode)?,
            false => VnodeClock::default(),
        };
        let mut locked = vnodes.lock(vnode);
        inner.check_open()?;
        let mut state = locked.state(inner.actor.incarnation);
        let changed = state.pull_ended(pull);
        if state.kind == VnodeKind::Suspect && state.is_through(others) {
            state.end(others);
        }
        let mut clock = VnodeClock::clone(locked.clock());
        clock.join(peer);
        clock.join(&proven);
        inner.join_clock_in(
            &mut locked,
            WriteBatch::new(),
            clock,
            changed.then(|| state.clone()),
        )?;
        Ok(show(&vnodes, vnode, &state, others))
    }

    /// Notes that a keyspace was created in this life, by the word of the node that created it: of
    /// vnodes that nothing was known of before this start nobody can have lost anything.
    ///
    /// # Errors
    /// As [`Self::judge`]; some of the vnodes may have begun.
    pub fn begin(&self, keyspace: KeyspaceId, begun: &[VnodeId]) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let vnodes = inner.vnodes(keyspace)?;
        begun.iter().try_for_each(|vnode| vnodes.check(*vnode))?;
        let life = inner.actor.incarnation;
        for vnode in begun {
            let mut locked = vnodes.lock(*vnode);
            inner.check_open()?;
            let state = locked.state(life);
            if state.kind != VnodeKind::Fresh || state.loss != life {
                continue;
            }
            let (batch, state) = (WriteBatch::new(), VnodeState::sound());
            inner.write_state(&mut locked, batch, Carried::default(), state.clone())?;
            vnodes.publish(*vnode, Standing::new(&state, Goods::EVERY));
        }
        Ok(())
    }

    /// An operator accepts what is lost: these vnodes answer reads from now on as they are. Those
    /// that were fresh or rebuilding go on pulling. Durable when it returns.
    ///
    /// # Errors
    /// As [`Self::pull_ended`]; some of the vnodes may have been accepted.
    pub fn accept_loss(
        &self,
        keyspace: KeyspaceId,
        accepted: &[VnodeId],
    ) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let vnodes = inner.vnodes(keyspace)?;
        accepted.iter().try_for_each(|vnode| vnodes.check(*vnode))?;
        for vnode in accepted {
            let proven = inner.loose_lww(&vnodes, *vnode)?;
            let mut locked = vnodes.lock(*vnode);
            inner.check_open()?;
            let mut state = locked.state(inner.actor.incarnation);
            if state.kind == VnodeKind::Sound {
                continue;
            }
            state.accept();
            let nobody = OtherReplicas::default();
            if state.kind == VnodeKind::Suspect {
                state.end(&nobody);
            }
            let mut clock = VnodeClock::clone(locked.clock());
            clock.join(&proven);
            inner.join_clock_in(&mut locked, WriteBatch::new(), clock, Some(state.clone()))?;
            vnodes.publish(*vnode, Standing::new(&state, state.goods(&nobody)));
        }
        self.sync()
    }
}

/// Shows readers what a vnode is good for, and says what it lacks. To be called under its lock.
pub(super) fn show(
    vnodes: &Vnodes,
    vnode: VnodeId,
    state: &VnodeState,
    others: &OtherReplicas,
) -> Progress {
    let goods = state.goods(others);
    vnodes.publish(vnode, Standing::new(state, goods));
    let through = state.kind.is_unproven() && state.is_through(others);
    Progress { kind: state.kind, goods, todo: state.todo(others), through }
}

impl Inner {
    /// Replaces the clock of a vnode by one that has more, and its state, if there is a new one: in
    /// one batch with rows.
    pub(super) fn join_clock_in(
        &self,
        vnode: &mut Vnode,
        mut batch: WriteBatch,
        clock: VnodeClock,
        state: Option<VnodeState>,
    ) -> Result<(), StoreError> {
        let news = clock.beyond(vnode.clock());
        if !news.is_empty() {
            let (keyspace, id) = vnode.id();
            self.add_dots(&mut batch, keyspace, id, &news);
        }
        match state {
            Some(state) => self.write_state(vnode, batch, Carried::default(), state)?,
            None if batch.is_empty() => return Ok(()),
            None => self.write_in(vnode, batch, Carried::default())?,
        };
        if !news.is_empty() {
            vnode.replace(clock);
        }
        Ok(())
    }
}
