//! The get machine. States in the order in which a read meets them.

use std::sync::Arc;

use meridian_crdt::{Context, Row, RowVersion, VnodeClock};
use meridian_types::{ConsistencyLevel, Millis, Mutation, NodeId, broken};
use smallvec::SmallVec;

use super::read_repair::Repair;
use super::reconcile::{reader_context, reconcile};
use super::{GetAction, GetActions, GetDone, GetEvent, GetOptions};
use crate::failure::{Cause, Failure};
use crate::message::{ReadKind, Refusal};
use crate::plan::ReadPlan;
use crate::read_set::{Asks, ReadSet};
use crate::tally::Verdict;

/// Runs one read. See the crate's documentation for the states.
///
/// INVARIANT: one reply; one repair at most for a replica; above ONE, what was answered is held by
/// as many replicas as the level names (monotonic quorum reads). In a session one of the versions
/// that make the answer, or all together, have everything that the session has seen.
#[derive(Clone, Debug)]
pub struct GetMachine {
    level: ConsistencyLevel,
    options: GetOptions,
    hedge_at: Option<Millis>,
    readers: ReadSet,
    versions: SmallVec<[(NodeId, RowVersion); 1]>,
    digests: SmallVec<[(NodeId, u128); 2]>,
    first_refusal: Option<(NodeId, Refusal)>,
    /// What the reader's session has seen of the vnode: the answer must cover it.
    seen: Option<Arc<Context>>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// The nearest replica's row and the others' digests are under way.
    Matching,
    /// They differ: the others' rows are under way.
    Joining,
    /// The rows are joined; the stale replicas are being told.
    Repairing(Box<Repair>),
    /// Answered from one replica; others that were asked may show that somebody is stale.
    Lingering,
    Done,
}

impl GetMachine {
    /// Starts a read: asks the plan's contacts.
    pub fn start(plan: &ReadPlan, options: GetOptions, out: &mut GetActions) -> Self {
        Self::start_in_session(plan, options, None, out)
    }

    /// As [`Self::start`], for a session that has seen `seen` of the vnode.
    pub fn start_in_session(
        plan: &ReadPlan,
        options: GetOptions,
        seen: Option<Arc<Context>>,
        out: &mut GetActions,
    ) -> Self {
        let mut asks = Asks::new();
        let readers = ReadSet::start(plan, &mut asks);
        push_reads(&asks, seen.is_some(), out);
        Self {
            level: plan.level,
            options,
            hedge_at: options.hedge_at,
            readers,
            versions: SmallVec::new(),
            digests: SmallVec::new(),
            first_refusal: None,
            seen,
            state: State::Matching,
        }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: GetEvent, now: Millis, out: &mut GetActions) {
        if self.is_done() {
            return;
        }
        match event {
            GetEvent::DataArrived { from, version } => self.data_arrived(from, version, out),
            GetEvent::DigestArrived { from, digest } => self.digest_arrived(from, digest, out),
            GetEvent::ReadRefused { from, refusal: Refusal::Behind } => self.is_behind(from, out),
            GetEvent::ReadRefused { from, refusal } => {
                self.first_refusal.get_or_insert((from, refusal));
                let news = self.readers.failed(from);
                self.read_failed(from, news, out);
            }
            GetEvent::Repaired { from } => {
                if let State::Repairing(repair) = &mut self.state {
                    repair.joined_by(from, &mut self.readers);
                }
            }
            GetEvent::RepairRefused { from, refusal } => {
                self.first_refusal.get_or_insert((from, refusal));
                self.repair_failed(from, out);
            }
            GetEvent::NodeDown { node } | GetEvent::SendRefused { to: node } => {
                let news = self.readers.lost(node);
                self.read_failed(node, news, out);
                self.repair_failed(node, out);
            }
            GetEvent::TimePassed => {}
        }
        self.hedge(now, out);
        self.advance(out);
        self.give_up(now, out);
    }

    /// When [`GetEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        match self.state {
            State::Done => None,
            State::Lingering => Some(self.options.deadline),
            State::Matching | State::Joining | State::Repairing(_) => {
                let hedge = self.hedge_at.unwrap_or(self.options.deadline);
                Some(self.options.deadline.min(hedge))
            }
        }
    }

    /// Whether the machine is at its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the next step asks one more replica, unless it is the last.
    #[must_use]
    pub fn hedge_is_due(&self, now: Millis) -> bool {
        self.hedge_at.is_some_and(|at| now >= at)
    }

    /// Waits for those who were asked: the budget of hedges is spent.
    pub fn forgo_hedge(&mut self) {
        self.hedge_at = None;
    }

    /// Whether one replica's answer is enough, so that nobody waits for repairs.
    fn is_of_one(&self) -> bool {
        matches!(self.level, ConsistencyLevel::One | ConsistencyLevel::LocalOne)
    }

    fn data_arrived(&mut self, from: NodeId, version: RowVersion, out: &mut GetActions) {
        if !self.readers.answered(from, ReadKind::Data) {
            return;
        }
        if let State::Repairing(repair) = &mut self.state {
            repair.late_answer(from, version.row.digest(), &self.readers, out);
        } else {
            self.versions.push((from, version));
        }
    }

    fn digest_arrived(&mut self, from: NodeId, digest: u128, out: &mut GetActions) {
        if !self.readers.answered(from, ReadKind::Digest) {
            return;
        }
        match &mut self.state {
            State::Matching => self.digests.push((from, digest)),
            State::Joining => {
                let mut asks = Asks::new();
                self.readers.ask_for_data(&mut asks);
                push_reads(&asks, false, out);
            }
            State::Repairing(repair) => repair.late_answer(from, digest, &self.readers, out),
            // At ONE nobody is asked for digests.
            State::Lingering | State::Done => {}
        }
    }

    /// A replica lacks what the session has seen. At ONE another one is asked. Above, it still counts
    /// for the level: all rows are asked for, and together they cover what was seen.
    fn is_behind(&mut self, from: NodeId, out: &mut GetActions) {
        if self.readers.asked_for(from) != Some(ReadKind::Data) {
            return;
        }
        if let State::Repairing(repair) = &mut self.state {
            if self.readers.answered(from, ReadKind::Data) {
                repair.is_behind(from, out);
            }
            return;
        }
        let again = self.first_refusal.as_ref().is_some_and(|(node, _)| *node == from);
        self.first_refusal = Some((from, Refusal::Behind));
        if self.is_of_one() || again {
            let news = self.readers.failed(from);
            return self.read_failed(from, news, out);
        }
        self.state = State::Joining;
        let mut asks = Asks::from_slice(&[(from, ReadKind::Data)]);
        self.readers.ask_for_data(&mut asks);
        push_reads(&asks, false, out);
    }

    /// Whether the versions together have what the session has seen.
    fn is_covered(&self) -> bool {
        let Some(seen) = &self.seen else { return true };
        let clocks = || self.versions.iter().map(|(_, version)| &version.clock);
        clocks().any(|clock| clock.has_all(seen)) || {
            let mut all = VnodeClock::default();
            clocks().for_each(|clock| all.join(clock));
            all.has_all(seen)
        }
    }

    fn read_failed(&mut self, node: NodeId, news: bool, out: &mut GetActions) {
        if !news {
            return;
        }
        match &mut self.state {
            State::Matching | State::Joining => {
                let mut asks = Asks::new();
                self.readers.top_up(&mut asks);
                push_reads(&asks, self.asks_covering(), out);
            }
            State::Repairing(repair) => {
                repair.will_not_answer(node, &mut self.readers, out);
            }
            State::Lingering | State::Done => {}
        }
    }

    fn hedge(&mut self, now: Millis, out: &mut GetActions) {
        if self.hedge_at.is_none_or(|at| now < at) {
            return;
        }
        self.hedge_at = None;
        match &mut self.state {
            State::Matching | State::Joining => {
                let mut asks = Asks::new();
                self.readers.hedge(&mut asks);
                push_reads(&asks, self.asks_covering(), out);
            }
            State::Repairing(repair) => repair.hedge(&mut self.readers, out),
            State::Lingering | State::Done => {}
        }
    }

    /// Goes on to the next state as far as the answers allow.
    fn advance(&mut self, out: &mut GetActions) {
        if matches!(self.state, State::Matching) {
            self.match_answers(out);
        }
        if matches!(self.state, State::Joining) {
            self.join_answers(out);
        }
        match &self.state {
            State::Repairing(repair) => match repair.holders().verdict() {
                Verdict::Met => self.reply_joined(out),
                _ if broken(Mutation::ReplyBeforeRepair) => self.reply_joined(out),
                Verdict::Unreachable => self.fail(out),
                Verdict::Pending => {}
            },
            State::Lingering if !self.readers.is_waiting() => self.repair_afterwards(out),
            _ => {}
        }
    }

    fn match_answers(&mut self, out: &mut GetActions) {
        match self.readers.tally.verdict() {
            Verdict::Pending => return,
            Verdict::Unreachable => return self.fail(out),
            Verdict::Met => {}
        }
        // Without data there is no row yet: whoever was asked for it has not answered.
        let [(_, first), others @ ..] = self.versions.as_slice() else { return };
        if !agree(first, others, &self.digests) {
            let mut asks = Asks::new();
            self.readers.ask_for_data(&mut asks);
            push_reads(&asks, false, out);
            self.state = State::Joining;
            return;
        }
        let linger = self.is_of_one() && self.readers.is_waiting();
        let done = self.agreed(linger);
        out.push(GetAction::Reply(Ok(done)));
        if linger {
            self.state = State::Lingering;
        } else {
            self.end(out);
        }
    }

    /// The answer where all agree: the first row. It is kept if others may still show it stale.
    fn agreed(&mut self, keep: bool) -> GetDone {
        let reader = self
            .options
            .with_context
            .then(|| reader_context(self.versions.iter().map(|(_, version)| version)));
        let row = match self.versions.first_mut() {
            Some((_, version)) if keep => version.row.clone(),
            Some((_, version)) => std::mem::take(&mut version.row),
            None => Row::default(),
        };
        GetDone { row, reader, policy: self.options.policy, differed: false }
    }

    fn join_answers(&mut self, out: &mut GetActions) {
        match self.readers.tally.verdict() {
            Verdict::Pending => return,
            Verdict::Unreachable => return self.fail(out),
            Verdict::Met if !self.is_covered() => return self.ask_further(out),
            Verdict::Met => {}
        }
        let versions = self.versions.iter().map(|(_, version)| version);
        let joined = reconcile(self.options.policy, versions.clone());
        let reader = self.options.with_context.then(|| reader_context(versions));
        let repair = Repair::start(joined, reader, &self.versions, &mut self.readers, out);
        self.state = State::Repairing(Box::new(repair));
    }

    /// As many answered as the level names, and together they lack what the session has seen.
    fn ask_further(&mut self, out: &mut GetActions) {
        let mut asks = Asks::new();
        if !self.readers.is_waiting() && !self.readers.ask_another(&mut asks) {
            return self.fail(out);
        }
        push_reads(&asks, false, out);
    }

    /// While one row and digests are enough, whoever sends the row has what the session has seen.
    fn asks_covering(&self) -> bool {
        self.seen.is_some() && matches!(self.state, State::Matching)
    }

    fn repair_failed(&mut self, node: NodeId, out: &mut GetActions) {
        if let State::Repairing(repair) = &mut self.state {
            repair.failed(node, &mut self.readers, out);
        }
    }

    fn reply_joined(&mut self, out: &mut GetActions) {
        if let State::Repairing(repair) = std::mem::replace(&mut self.state, State::Done) {
            out.push(GetAction::Reply(Ok(repair.into_done(self.options.policy))));
        }
        self.end(out);
    }

    /// At ONE the client has its answer; if another replica answered too, both get the join.
    fn repair_afterwards(&mut self, out: &mut GetActions) {
        if self.versions.len() > 1 {
            let joined =
                reconcile(self.options.policy, self.versions.iter().map(|(_, version)| version));
            for (node, version) in &self.versions {
                if version.row.entries() != joined.row.entries() {
                    out.push(joined.repair_of(*node));
                }
            }
        }
        self.end(out);
    }

    fn give_up(&mut self, now: Millis, out: &mut GetActions) {
        if now < self.options.deadline {
            return;
        }
        match self.state {
            State::Done => {}
            State::Lingering => self.repair_afterwards(out),
            State::Matching | State::Joining | State::Repairing(_) => self.fail(out),
        }
    }

    fn fail(&mut self, out: &mut GetActions) {
        let cause = match self.first_refusal.take() {
            Some((node, refusal)) => Cause::Refused { node, refusal },
            None => Cause::Silence,
        };
        let tally = match &self.state {
            State::Repairing(repair) => repair.holders().clone(),
            _ => self.readers.tally.clone(),
        };
        out.push(GetAction::Reply(Err(Failure { level: self.level, write: false, cause, tally })));
        self.end(out);
    }

    fn end(&mut self, out: &mut GetActions) {
        self.state = State::Done;
        out.push(GetAction::Done);
    }
}

/// Whether all answers are of one row. A single answer costs no digest.
fn agree(first: &RowVersion, others: &[(NodeId, RowVersion)], digests: &[(NodeId, u128)]) -> bool {
    if others.is_empty() && digests.is_empty() {
        return true;
    }
    let digest = first.row.digest();
    others.iter().all(|(_, version)| version.row.digest() == digest)
        && digests.iter().all(|(_, other)| *other == digest)
}

/// `covering` is for those that send a row: a digest that is equal to a row's says as much.
fn push_reads(asks: &Asks, covering: bool, out: &mut GetActions) {
    out.extend(asks.iter().map(|&(from, kind)| {
        let covering = covering && kind == ReadKind::Data;
        GetAction::Read { from, kind, covering }
    }));
}
