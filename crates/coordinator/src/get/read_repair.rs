//! The last state of a read whose answers differed: stale replicas are told the joined row, until
//! as many hold it as the level names.
//!
//! The joined row is fixed when this begins. So an answer or a repair more can only add a replica
//! that holds it, and a spare that was never asked serves as well as one that was.

use meridian_crdt::{ConflictPolicy, Context, RowVersion};
use meridian_types::{Mutation, NodeId, broken};
use smallvec::SmallVec;

use super::reconcile::Reconciled;
use super::{GetAction, GetActions, GetDone};
use crate::message::ReadKind;
use crate::read_set::{ReadSet, Reader, ReaderState, nearest_useful};
use crate::tally::Tally;

/// Repairs under way for one read.
///
/// INVARIANT: a replica is sent the row once at most.
#[derive(Clone, Debug)]
pub(super) struct Repair {
    joined: Reconciled,
    reader: Option<Context>,
    digest: u128,
    /// Counts who holds the joined row.
    holders: Tally,
    /// Who was sent it and has not answered.
    under_way: SmallVec<[NodeId; 2]>,
    /// Who was sent it and is not waited for any more. It may have joined it all the same.
    given_up: SmallVec<[NodeId; 1]>,
}

/// What is thought of replicas that were asked for something and have not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silent {
    MayHold,
    IsLost,
}

impl Repair {
    /// Repairs those of `versions` that are stale, or spares instead of those that are out of
    /// reach by now.
    pub(super) fn start(
        joined: Reconciled,
        reader: Option<Context>,
        versions: &[(NodeId, RowVersion)],
        readers: &mut ReadSet,
        out: &mut GetActions,
    ) -> Self {
        let mut repair = Self {
            digest: joined.row.digest(),
            joined,
            reader,
            holders: readers.tally.without_acks(),
            under_way: SmallVec::new(),
            given_up: SmallVec::new(),
        };
        for (node, version) in versions {
            let Some(reader) = readers.get(*node) else { continue };
            if version.row.entries() == repair.joined.row.entries() {
                repair.holders.ack(reader.dc.into());
            } else if reader.lost {
                repair.will_not_hold(*node, readers);
            } else {
                repair.send(*node, out);
            }
        }
        repair.send_to_spares(readers, out);
        repair
    }

    /// Who holds the joined row.
    pub(super) fn holders(&self) -> &Tally {
        &self.holders
    }

    /// An answer to a read: its maker holds the joined row, or is told it.
    pub(super) fn late_answer(
        &mut self,
        from: NodeId,
        digest: u128,
        readers: &ReadSet,
        out: &mut GetActions,
    ) {
        let Some(reader) = readers.get(from) else { return };
        if digest == self.digest {
            self.holders.ack(reader.dc.into());
        } else {
            self.send(from, out);
        }
    }

    /// A replica that was asked lacks what the session has seen: it is told the joined row.
    pub(super) fn is_behind(&mut self, node: NodeId, out: &mut GetActions) {
        self.send(node, out);
    }

    /// A replica has joined the row, perhaps after it was given up.
    pub(super) fn joined_by(&mut self, node: NodeId, readers: &mut ReadSet) {
        let Some(reader) = readers.get_mut(node) else { return };
        if take(&mut self.given_up, node) {
            reader.state = ReaderState::Answered(ReadKind::Data);
            self.holders.revive(reader.dc.into());
        } else if !take(&mut self.under_way, node) {
            return;
        }
        self.holders.ack(reader.dc.into());
    }

    /// A replica refused the row, or is out of reach.
    pub(super) fn failed(&mut self, node: NodeId, readers: &mut ReadSet, out: &mut GetActions) {
        if take(&mut self.under_way, node) {
            self.given_up.push(node);
            self.will_not_answer(node, readers, out);
        }
    }

    /// A replica that might have held the row does not answer.
    pub(super) fn will_not_answer(
        &mut self,
        node: NodeId,
        readers: &mut ReadSet,
        out: &mut GetActions,
    ) {
        self.will_not_hold(node, readers);
        self.send_to_spares(readers, out);
    }

    /// Repairs one spare more than needed if all answer.
    pub(super) fn hedge(&mut self, readers: &mut ReadSet, out: &mut GetActions) {
        self.send_to_spare(Silent::IsLost, readers, out);
    }

    pub(super) fn into_done(self, policy: ConflictPolicy) -> GetDone {
        GetDone { row: self.joined.row, reader: self.reader, policy, differed: true }
    }

    fn will_not_hold(&mut self, node: NodeId, readers: &mut ReadSet) {
        if let Some(reader) = readers.get_mut(node) {
            reader.state = ReaderState::Failed;
            self.holders.fail(reader.dc.into());
        }
    }

    fn send_to_spares(&mut self, readers: &mut ReadSet, out: &mut GetActions) {
        while self.send_to_spare(Silent::MayHold, readers, out) {}
    }

    /// Sends the row to the nearest spare where holders are missing; whether there was one.
    fn send_to_spare(
        &mut self,
        silent: Silent,
        readers: &mut ReadSet,
        out: &mut GetActions,
    ) -> bool {
        let may_hold = silent == Silent::MayHold;
        let counts = |reader: &Reader| match reader.state {
            ReaderState::Spare | ReaderState::Failed => false,
            ReaderState::Asked(_) => may_hold,
            ReaderState::Answered(_) => may_hold || !self.under_way.contains(&reader.node),
        };
        let spare = nearest_useful(&readers.readers, &self.holders, counts);
        let Some(reader) = spare.map(|at| &mut readers.readers[at]) else { return false };
        // From here it is one of those that answered and were stale.
        reader.state = ReaderState::Answered(ReadKind::Data);
        self.send(reader.node, out);
        true
    }

    fn send(&mut self, to: NodeId, out: &mut GetActions) {
        self.under_way.push(to);
        out.push(self.joined.repair_of(to));
    }
}

impl Reconciled {
    pub(super) fn repair_of(&self, to: NodeId) -> GetAction {
        let coverage = match broken(Mutation::RepairWithoutContext) {
            true => Context::default(),
            false => self.coverage.clone(),
        };
        GetAction::Repair { to, version: self.row.clone(), coverage }
    }
}

/// Takes a node out of a list; whether it was there.
fn take<A: smallvec::Array<Item = NodeId>>(nodes: &mut SmallVec<A>, node: NodeId) -> bool {
    let at = nodes.iter().position(|&other| other == node);
    at.map(|at| nodes.swap_remove(at)).is_some()
}
