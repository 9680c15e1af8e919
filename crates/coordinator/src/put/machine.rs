//! The put machine. States in the order in which a write meets them.

use meridian_crdt::{Context, Delta};
use meridian_types::{ConsistencyLevel, Millis, Mutation, NodeId, broken};
use smallvec::SmallVec;

use super::{PutAction, PutActions, PutDone, PutEvent, PutTiming, PutWrite};
use crate::failure::{Cause, Failure};
use crate::message::{Refusal, WriteDelta};
use crate::plan::WritePlan;
use crate::tally::{Tally, Verdict};

/// Runs one write. See the crate's documentation for the states.
///
/// INVARIANT: one reply; one hint at most for a replica; at the end every replica has acked or has
/// a hint, unless nothing was minted.
#[derive(Clone, Debug)]
pub struct PutMachine {
    level: ConsistencyLevel,
    leader: NodeId,
    write: PutWrite,
    timing: PutTiming,
    tally: Tally,
    copies: SmallVec<[Copy; 9]>,
    first_refusal: Option<(NodeId, Refusal)>,
    /// From when it is minted.
    delta: Option<Delta>,
    state: State,
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The leading replica applies the write first.
    Minting,
    /// Copies are out, or hints are kept.
    Replicating {
        hint_at: Millis,
    },
    Done,
}

/// One replica's copy of the write.
#[derive(Clone, Debug)]
struct Copy {
    node: NodeId,
    /// The datacenter's place in the tally.
    dc: u16,
    sent: Sent,
    acked: bool,
    failed: bool,
    hinted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Nothing was sent: it was down, or it is the leading replica.
    No,
    /// By the leading replica.
    Directly,
    /// By the leading replica, with the datacenter's others to forward to.
    ToForwarder,
    /// By its datacenter's forwarder, as far as anybody knows here.
    ByForwarder,
}

impl Copy {
    /// Whether nobody has answered for this replica yet, one way or the other.
    fn is_silent(&self) -> bool {
        !self.acked && !self.hinted
    }
}

impl PutMachine {
    /// Starts a write: asks for [`PutAction::Mint`].
    pub fn start(
        plan: WritePlan,
        write: PutWrite,
        timing: PutTiming,
        out: &mut PutActions,
    ) -> Self {
        let WritePlan { level, leader, tally, replicas } = plan;
        let copies = replicas.iter().map(|replica| Copy {
            node: replica.node,
            dc: replica.dc,
            sent: Sent::No,
            acked: false,
            failed: !replica.alive,
            hinted: false,
        });
        out.push(PutAction::Mint);
        Self {
            level,
            leader,
            write,
            timing,
            tally,
            copies: copies.collect(),
            first_refusal: None,
            delta: None,
            state: State::Minting,
            answered: false,
        }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: PutEvent, now: Millis, out: &mut PutActions) {
        match (event, self.state) {
            (_, State::Done) => return,
            (PutEvent::Minted(delta), State::Minting) => self.minted(delta, now, out),
            (PutEvent::MintFailed(refusal), State::Minting) => self.mint_failed(refusal, out),
            (PutEvent::ReplicaAcked { from }, _) => self.acked(from),
            (PutEvent::ReplicaRefused { from, refusal }, _) => {
                self.first_refusal.get_or_insert((from, refusal));
                self.failed(from, out);
            }
            (PutEvent::NodeDown { node } | PutEvent::SendRefused { to: node }, _) => {
                self.failed(node, out);
            }
            (PutEvent::HintStored { .. }, _) => self.tally.hint_stored(),
            (PutEvent::Minted(_) | PutEvent::MintFailed(_) | PutEvent::TimePassed, _) => {}
        }
        self.hint_the_silent(now, out);
        self.answer(now, out);
        self.finish(now, out);
    }

    /// When [`PutEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        let answer = (!self.answered).then_some(self.timing.deadline);
        let rest = match self.state {
            State::Minting => Some(self.give_up_minting_at()),
            State::Replicating { hint_at } => {
                self.copies.iter().any(Copy::is_silent).then_some(hint_at)
            }
            State::Done => return None,
        };
        answer.into_iter().chain(rest).min()
    }

    /// Whether the machine is at its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is written.
    #[must_use]
    pub fn write(&self) -> &PutWrite {
        &self.write
    }

    /// What the write's client has seen once it is written: what it had seen before, and the
    /// write. `None` before it is minted.
    #[must_use]
    pub fn written_context(&self) -> Option<Context> {
        let delta = self.delta.as_ref()?;
        let mut context = delta.context.clone();
        context.insert(delta.entry.dot);
        Some(context)
    }

    fn minted(&mut self, delta: Delta, now: Millis, out: &mut PutActions) {
        self.delta = Some(delta);
        self.state = State::Replicating { hint_at: now.plus(self.timing.hint_after_ms) };
        self.acked(self.leader);
        self.send_copies(out);
        for at in 0..self.copies.len() {
            if self.copies[at].failed {
                self.hint(at, out);
            }
        }
    }

    /// One copy to each replica in the leader's datacenter, and one to each other datacenter,
    /// whose receiver forwards it.
    fn send_copies(&mut self, out: &mut PutActions) {
        let home = self.find(self.leader).map(|at| self.copies[at].dc);
        for at in 0..self.copies.len() {
            let copy = &self.copies[at];
            if copy.failed || copy.acked || copy.sent != Sent::No {
                continue;
            }
            if Some(copy.dc) == home {
                self.send(at, Sent::Directly, Vec::new(), out);
                continue;
            }
            let forward_to = self.leave_to_forwarder(at);
            let sent = if forward_to.is_empty() { Sent::Directly } else { Sent::ToForwarder };
            self.send(at, sent, forward_to, out);
        }
    }

    /// The replicas that a forwarder sends copies to: the others of its datacenter.
    fn leave_to_forwarder(&mut self, forwarder: usize) -> Vec<NodeId> {
        let dc = self.copies[forwarder].dc;
        let others = self.copies[forwarder + 1..].iter_mut();
        let open = others.filter(|copy| copy.dc == dc && !copy.failed && !copy.acked);
        open.map(|copy| {
            copy.sent = Sent::ByForwarder;
            copy.node
        })
        .collect()
    }

    fn mint_failed(&mut self, refusal: Refusal, out: &mut PutActions) {
        if !self.answered {
            self.reply(Err(Cause::NotMinted { node: self.leader, refusal }), out);
        }
        self.state = State::Done;
        out.push(PutAction::Done);
    }

    fn acked(&mut self, from: NodeId) {
        let Some(at) = self.find(from) else { return };
        let copy = &mut self.copies[at];
        if copy.acked {
            return;
        }
        copy.acked = true;
        if copy.failed {
            copy.failed = false;
            self.tally.revive(copy.dc.into());
        }
        self.tally.ack(copy.dc.into());
    }

    /// A replica will not ack, as far as is known: a hint is kept for it, and those that it was
    /// to forward to are sent their copies directly.
    fn failed(&mut self, node: NodeId, out: &mut PutActions) {
        let Some(at) = self.find(node).filter(|_| node != self.leader) else { return };
        let copy = &mut self.copies[at];
        if !copy.acked && !copy.failed {
            copy.failed = true;
            self.tally.fail(copy.dc.into());
            self.hint(at, out);
        }
        self.replace_forwarder(at, out);
    }

    /// A forwarder that acked may still have gone down before it forwarded anything.
    fn replace_forwarder(&mut self, at: usize, out: &mut PutActions) {
        let forwarder = &mut self.copies[at];
        if forwarder.sent != Sent::ToForwarder {
            return;
        }
        forwarder.sent = Sent::Directly;
        let dc = forwarder.dc;
        for at in 0..self.copies.len() {
            let copy = &self.copies[at];
            if copy.dc == dc && copy.sent == Sent::ByForwarder && !copy.acked && !copy.failed {
                self.send(at, Sent::Directly, Vec::new(), out);
            }
        }
    }

    fn hint_the_silent(&mut self, now: Millis, out: &mut PutActions) {
        let State::Replicating { hint_at } = self.state else { return };
        if now < hint_at {
            return;
        }
        for at in 0..self.copies.len() {
            self.hint(at, out);
        }
    }

    fn answer(&mut self, now: Millis, out: &mut PutActions) {
        if self.answered {
            return;
        }
        let minted = self.delta.as_ref().map(|delta| &delta.entry);
        let minted = minted.map(|entry| PutDone { dot: entry.dot, stamp: entry.stamp });
        match (self.tally.verdict(), minted) {
            (Verdict::Met, Some(done)) => self.reply(Ok(done), out),
            (verdict, Some(done))
                if broken(Mutation::SuccessWithoutQuorum)
                    && (verdict == Verdict::Unreachable || now >= self.timing.deadline) =>
            {
                self.reply(Ok(done), out);
            }
            // While the leader still mints, the replicas may come back before anything is sent.
            (Verdict::Unreachable, Some(_)) => {
                let cause = self.cause();
                self.reply(Err(cause), out);
            }
            _ if now >= self.timing.deadline => {
                let cause = self.cause();
                self.reply(Err(cause), out);
            }
            _ => {}
        }
    }

    fn cause(&mut self) -> Cause {
        match self.first_refusal.take() {
            Some((node, refusal)) => Cause::Refused { node, refusal },
            None => Cause::Silence,
        }
    }

    fn reply(&mut self, result: Result<PutDone, Cause>, out: &mut PutActions) {
        self.answered = true;
        out.push(PutAction::Reply(result.map_err(|cause| Failure {
            level: self.level,
            write: !broken(Mutation::UnknownAsNotApplied),
            cause,
            tally: self.tally.clone(),
        })));
    }

    fn finish(&mut self, now: Millis, out: &mut PutActions) {
        let over = match self.state {
            State::Minting => self.answered && now >= self.give_up_minting_at(),
            State::Replicating { .. } => self.answered && !self.copies.iter().any(Copy::is_silent),
            State::Done => false,
        };
        if over {
            self.state = State::Done;
            out.push(PutAction::Done);
        }
    }

    /// A storage that answers neither way has stopped; anti-entropy replicates what it may have
    /// written.
    fn give_up_minting_at(&self) -> Millis {
        self.timing.deadline.plus(self.timing.hint_after_ms)
    }

    fn hint(&mut self, at: usize, out: &mut PutActions) {
        if !self.copies[at].is_silent() {
            return;
        }
        let Some(write) = self.copy_of_delta(Vec::new(), true) else { return };
        let target = self.copies[at].node;
        self.copies[at].hinted = true;
        out.push(PutAction::StoreHint { target, write });
        if broken(Mutation::HintCountsAsAck) {
            self.acked(target);
        }
    }

    fn send(&mut self, at: usize, sent: Sent, forward_to: Vec<NodeId>, out: &mut PutActions) {
        let Some(write) = self.copy_of_delta(forward_to, false) else { return };
        self.copies[at].sent = sent;
        out.push(PutAction::Send { to: self.copies[at].node, write });
    }

    fn copy_of_delta(&self, forward_to: Vec<NodeId>, hinted: bool) -> Option<WriteDelta> {
        let delta = self.delta.as_ref()?;
        Some(WriteDelta {
            row: self.write.row.clone(),
            delta: delta.clone(),
            write_id: self.write.write_id,
            forward_to,
            reply_to: self.leader,
            hinted,
            epoch: self.write.epoch,
        })
    }

    fn find(&self, node: NodeId) -> Option<usize> {
        self.copies.iter().position(|copy| copy.node == node)
    }
}
