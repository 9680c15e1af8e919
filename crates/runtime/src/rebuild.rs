//! Makes good what this replica may have lost (rule 10): judges its vnodes, and does what the
//! machine asks for until they are sound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_coordinator::message::Refusal;
use meridian_crdt::{RowVersion, VnodeClock};
use meridian_node::{Lack, NodeEvent, RebuildAction, RebuildEvent};
use meridian_repair::PullKind;
use meridian_store::{Commit, EndedPull, OtherReplicas, Progress, StoreError, VnodeState};
use meridian_types::{
    KeyspaceId, Mutation, NodeId, PeerStanding, ReadClass, RowKey, VnodeId, VnodeKind, broken,
};

use crate::control::ControlEvent;
use crate::node::Inner;
use crate::repair::{Comparison, compare, pull};

/// A row as a reader may be shown it.
pub(crate) struct Reading {
    pub(crate) version: RowVersion,
    /// What must settle before anybody is shown it: above ONE another replica's answer may go with
    /// it, and a power cut must not take back what was shown.
    pub(crate) unsettled: Option<Commit>,
}

/// What vnodes of one keyspace lack.
pub(crate) type Lacks = Vec<(VnodeId, Option<Lack>)>;

/// How long a comparison may take, in milliseconds: other vnodes wait for it.
const COMPARE_TIMEOUT_MS: u64 = 2_000;

/// Does what the machine asks for, in a task of its own.
pub(crate) fn perform(inner: &Arc<Inner>, action: RebuildAction) {
    match action {
        RebuildAction::Compare { peer, keyspace, vnodes } => {
            inner.spawn(move |inner| async move {
                let unsettled = settle(&inner, peer, keyspace, vnodes).await;
                inner.tell_rebuild(RebuildEvent::Compared { peer, keyspace, unsettled });
            });
        }
        RebuildAction::Pull { peer, keyspace, vnode, full } => {
            inner.spawn(move |inner| async move {
                let full = full && !broken(Mutation::RebuildWithoutFullPull);
                let kind = if full { PullKind::Full } else { PullKind::Missing };
                let pulled = pull(&inner, peer, keyspace, vnode, kind).await;
                let done = pulled.is_ok();
                match pulled {
                    Ok(pulled) => inner.peers.pulled(peer, pulled.rows),
                    Err(error) => {
                        inner.peers.exchange_failed(peer);
                        let peer = inner.name_of(peer);
                        tracing::debug!(peer, %vnode, full, %error, "a pull to make good ended");
                    }
                }
                inner.tell_rebuild(RebuildEvent::PullEnded { peer, keyspace, vnode, done });
            });
        }
        RebuildAction::End { keyspace, vnode } => inner.block(move |inner| {
            let others = inner.other_replicas(keyspace, vnode);
            let ended = inner.store.end_rebuild(keyspace, vnode, &others);
            let done = ended.is_ok();
            match ended {
                Ok(progress) => inner.tell_progress(keyspace, vnode, progress),
                Err(error) => inner.note_storage_error(&error),
            }
            inner.tell_rebuild(RebuildEvent::Ended { keyspace, vnode, done });
        }),
    }
}

/// Compares clocks with a peer, and notes what that alone proves: a replica that lost a tail at most
/// has what a peer with the same clock has, and of a peer that has nothing there is nothing to pull.
/// The vnodes for which it proves nothing; `None` where no answer came.
async fn settle(
    inner: &Arc<Inner>,
    peer: NodeId,
    keyspace: KeyspaceId,
    vnodes: Vec<VnodeId>,
) -> Option<BTreeSet<VnodeId>> {
    // Before the clocks are looked at: what is heard of later began the sweeping anew.
    let states = move |inner: &Arc<Inner>| {
        let states = inner.store.states(keyspace, &vnodes);
        vnodes.into_iter().zip(states).collect::<Vec<_>>()
    };
    let states = inner.off_thread(states).await.ok()?;
    let compared = compare(inner, peer, keyspace, (false, true), COMPARE_TIMEOUT_MS).await?;
    inner.peers.said_of_itself(peer, keyspace, &compared.unsound);
    let settle = move |inner: &Arc<Inner>| {
        let mut unsettled = BTreeSet::new();
        let mut lacks = Lacks::new();
        for (vnode, state) in states {
            if inner.is_stuck(keyspace, vnode, &state) {
                // By now the peer may be sound: then it is pulled from once more.
                if !compared.standing_of(vnode).kind.is_unproven() {
                    unsettled.insert(vnode);
                }
                continue;
            }
            match inner.proven_by(peer, keyspace, vnode, &state, &compared) {
                Some(Ok(progress)) => lacks.push((vnode, inner.lack(keyspace, vnode, progress))),
                Some(Err(error)) => {
                    inner.note_storage_error(&error);
                    unsettled.insert(vnode);
                }
                None => drop(unsettled.insert(vnode)),
            }
        }
        inner.tell_rebuild(RebuildEvent::Judged { keyspace, vnodes: lacks });
        unsettled
    };
    inner.off_thread(settle).await.ok()
}

/// Judges every vnode that this node holds, and ends at once what nobody else has a part in.
///
/// # Errors
/// The store refuses; nothing may be served.
pub(crate) fn judge_all(inner: &Inner) -> Result<BTreeMap<KeyspaceId, Lacks>, StoreError> {
    let view = inner.catalog.load();
    let keyspaces = view.keyspaces().map(|keyspace| keyspace.def.id);
    keyspaces.map(|keyspace| Ok((keyspace, inner.judge(keyspace)?))).collect()
}

/// Whether the rule that a vnode of this kind does not answer is left out.
fn is_left_out(kind: VnodeKind) -> bool {
    match kind {
        VnodeKind::Sound => false,
        VnodeKind::Suspect => broken(Mutation::ServeAfterUnclean),
        VnodeKind::Fresh => broken(Mutation::FreshAfterWipe),
        VnodeKind::Rebuilding => broken(Mutation::ReadWhileRebuilding),
    }
}

impl Inner {
    /// Judges the vnodes of a keyspace that this node holds; those that lack something.
    pub(crate) fn judge(&self, keyspace: KeyspaceId) -> Result<Lacks, StoreError> {
        let mut lacks = self.judge_some(keyspace, &self.own_vnodes(keyspace))?;
        lacks.retain(|(_, lack)| lack.is_some());
        Ok(lacks)
    }

    /// Judges some vnodes; what each lacks.
    pub(crate) fn judge_some(
        &self,
        keyspace: KeyspaceId,
        vnodes: &[VnodeId],
    ) -> Result<Lacks, StoreError> {
        let judge = |vnode: VnodeId| {
            let others = self.other_replicas(keyspace, vnode);
            let mut progress = self.store.judge(keyspace, vnode, &others)?;
            if progress.through && others.all.is_empty() {
                progress = self.store.end_rebuild(keyspace, vnode, &others)?;
            }
            Ok((vnode, self.lack(keyspace, vnode, progress)))
        };
        vnodes.iter().map(|vnode| judge(*vnode)).collect()
    }

    /// The vnodes of a keyspace that this node holds.
    pub(crate) fn own_vnodes(&self, keyspace: KeyspaceId) -> Vec<VnodeId> {
        let view = self.catalog.load();
        let keyspace = view.keyspace(keyspace);
        keyspace.map(|k| k.placement.vnodes_of(self.id).collect()).unwrap_or_default()
    }

    fn other_replicas(&self, keyspace: KeyspaceId, vnode: VnodeId) -> OtherReplicas {
        let view = self.catalog.load();
        let Some(keyspace) = view.keyspace(keyspace) else { return OtherReplicas::default() };
        let replicas = keyspace.placement.replicas(vnode);
        let others = |nodes: &[NodeId]| nodes.iter().copied().filter(|n| *n != self.id).collect();
        OtherReplicas { local: others(replicas.in_dc(self.dc)), all: others(replicas.all()) }
    }

    /// Whether this node may answer a read of a row in this vnode.
    pub(crate) fn answers(&self, keyspace: KeyspaceId, vnode: VnodeId, class: ReadClass) -> bool {
        let standing = self.store.standing(keyspace, vnode);
        standing.answers(class) || is_left_out(standing.kind())
    }

    /// Whether a replica is likely to refuse such reads.
    pub(crate) fn is_doubtful(
        &self,
        node: NodeId,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        class: ReadClass,
    ) -> bool {
        match node == self.id {
            true => !self.answers(keyspace, vnode, class),
            false => self.peers.is_doubtful(node, keyspace, vnode, class),
        }
    }

    /// Whether it may answer such reads of all vnodes from `first` to `last`.
    pub(crate) fn all_answer(
        &self,
        keyspace: KeyspaceId,
        first: VnodeId,
        last: VnodeId,
        class: ReadClass,
    ) -> bool {
        let one = |vnode: u32| self.answers(keyspace, VnodeId(vnode), class);
        self.store.all_answer(keyspace, first, last, class) || (first.0..=last.0).all(one)
    }

    /// Reads the store for a reader of this class: what it has, what settles that for those who wait
    /// for it, or why it is not answered.
    pub(crate) fn read_as(&self, row: &RowKey, class: ReadClass) -> Result<Reading, Refusal> {
        if !self.answers(row.keyspace, row.vnode, class) {
            return Err(Refusal::Rebuilding);
        }
        let read = self.store.read_with_commit(row).map_err(|error| self.refusal(&error))?;
        let at_once = class == ReadClass::One || broken(Mutation::AnswerUnsynced);
        let unsettled = (!at_once && !self.store.is_settled(&read.commit)).then_some(read.commit);
        Ok(Reading { version: read.version, unsettled })
    }

    /// What this node can prove of vnodes that it is not sound for, for a peer; and of those that had
    /// a loss once, if `losses`.
    pub(crate) fn unsound(
        &self,
        keyspace: KeyspaceId,
        vnodes: &[VnodeId],
        losses: bool,
    ) -> Vec<(VnodeId, PeerStanding)> {
        let is_sound = |vnode| self.store.standing(keyspace, vnode).kind() == VnodeKind::Sound;
        let looked_at = vnodes.iter().copied().filter(|vnode| losses || !is_sound(*vnode));
        let told = looked_at.map(|vnode| (vnode, self.store.peer_standing(keyspace, vnode)));
        told.filter(|(_, standing)| *standing != PeerStanding::SOUND).collect()
    }

    /// Whether nobody is left to pull from, and that is not enough.
    fn is_stuck(&self, keyspace: KeyspaceId, vnode: VnodeId, state: &VnodeState) -> bool {
        let others = self.other_replicas(keyspace, vnode);
        state.kind.is_unproven() && state.todo(&others).is_empty() && !state.is_through(&others)
    }

    /// What a comparison proves of a vnode whose state was `state` before it, if it does.
    fn proven_by(
        &self,
        peer: NodeId,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        state: &VnodeState,
        compared: &Comparison,
    ) -> Option<Result<Progress, StoreError>> {
        let mine = compared.same(vnode)?;
        let at = compared.standing_of(vnode);
        // Loose rows have no clock.
        let nothing_there =
            at.kind != VnodeKind::Rebuilding && mine == VnodeClock::default().digest();
        let (full, proves) = match state.kind {
            VnodeKind::Sound | VnodeKind::Rebuilding => (false, false),
            VnodeKind::Suspect => (false, true),
            VnodeKind::Fresh => (true, nothing_there),
        };
        let pull = EndedPull { peer, at, full, round: state.round() };
        proves.then(|| self.count_pull(keyspace, vnode, &pull, &VnodeClock::default()))
    }

    fn count_pull(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        pull: &EndedPull,
        clock: &VnodeClock,
    ) -> Result<Progress, StoreError> {
        let others = self.other_replicas(keyspace, vnode);
        self.store.pull_ended(keyspace, vnode, pull, clock, &others)
    }

    /// A pull has come to its end: joins the peer's clock, and counts the pull where that matters.
    pub(crate) fn pull_ended(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        pull: &EndedPull,
        clock: &VnodeClock,
    ) -> Result<(), StoreError> {
        if self.store.standing(keyspace, vnode).kind() == VnodeKind::Sound {
            return self.store.join_clock(keyspace, vnode, clock);
        }
        let progress = self.count_pull(keyspace, vnode, pull, clock)?;
        self.tell_progress(keyspace, vnode, progress);
        Ok(())
    }

    fn lack(&self, keyspace: KeyspaceId, vnode: VnodeId, progress: Progress) -> Option<Lack> {
        let Progress { kind, todo, through, .. } = progress;
        let comparable = match kind {
            VnodeKind::Sound => return None,
            VnodeKind::Suspect => true,
            VnodeKind::Fresh => self.store.clock(keyspace, vnode).is_empty(),
            VnodeKind::Rebuilding => false,
        };
        let is_stuck = todo.is_empty() && !through;
        let others = is_stuck.then(|| self.other_replicas(keyspace, vnode).all);
        let (todo, again) = (todo.into_iter().collect(), others.unwrap_or_default());
        Some(Lack { todo, full: kind.is_unproven(), comparable, through, again })
    }

    fn tell_progress(&self, keyspace: KeyspaceId, vnode: VnodeId, progress: Progress) {
        let vnodes = vec![(vnode, self.lack(keyspace, vnode, progress))];
        self.tell_rebuild(RebuildEvent::Judged { keyspace, vnodes });
    }

    pub(crate) fn tell_rebuild(&self, event: RebuildEvent) {
        self.control.tell(ControlEvent::Node(NodeEvent::Rebuild(event)));
    }
}
