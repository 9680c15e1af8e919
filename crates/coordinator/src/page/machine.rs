//! The page machine: ask, wait for as many as the level names, merge.

use meridian_crdt::Context;
use meridian_types::{ConsistencyLevel, Millis, NodeId, VnodeId};

use super::merge::{defect, merge};
use super::{PageAction, PageActions, PageEvent, PageTiming};
use crate::failure::{Cause, Failure};
use crate::message::{PageReply, PageRequest, ReadKind, Refusal};
use crate::plan::ReadPlan;
use crate::read_set::{Asks, ReadSet};
use crate::tally::Verdict;

/// Reads one page. Exactly one reply.
#[derive(Clone, Debug)]
pub struct PageMachine {
    level: ConsistencyLevel,
    request: PageRequest,
    timing: PageTiming,
    readers: ReadSet,
    /// Those with rows first.
    pages: Vec<PageReply>,
    first_refusal: Option<(NodeId, Refusal)>,
    done: bool,
}

impl PageMachine {
    /// Starts a page: asks the plan's contacts. The plan is that of any vnode of the run, the
    /// request ends with the run; its kind is chosen for each replica.
    pub fn start(
        plan: &ReadPlan,
        request: PageRequest,
        timing: PageTiming,
        out: &mut PageActions,
    ) -> Self {
        let mut asks = Asks::new();
        let readers = ReadSet::start(plan, &mut asks);
        let machine = Self {
            level: plan.level,
            request,
            timing,
            readers,
            pages: Vec::new(),
            first_refusal: None,
            done: false,
        };
        machine.push_reads(&asks, out);
        machine
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: PageEvent, now: Millis, out: &mut PageActions) {
        if self.done {
            return;
        }
        match event {
            PageEvent::PageArrived { from, page } => self.page_arrived(from, page, out),
            PageEvent::ReadRefused { from, refusal } => self.refused(from, refusal, out),
            PageEvent::NodeDown { node } | PageEvent::SendRefused { to: node } => {
                self.failed(node, out);
            }
            PageEvent::TimePassed => {}
        }
        self.hedge(now, out);
        match self.readers.tally.verdict() {
            Verdict::Met => {
                let pages = std::mem::take(&mut self.pages);
                self.reply(Ok(merge(pages, self.request.limit)), out);
            }
            Verdict::Pending if now < self.timing.deadline => {}
            Verdict::Pending | Verdict::Unreachable => {
                let cause = match self.first_refusal.take() {
                    Some((node, refusal)) => Cause::Refused { node, refusal },
                    None => Cause::Silence,
                };
                let tally = self.readers.tally.clone();
                self.reply(Err(Failure { level: self.level, write: false, cause, tally }), out);
            }
        }
    }

    /// When [`PageEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        let hedge = self.timing.hedge_at.unwrap_or(self.timing.deadline);
        (!self.done).then(|| self.timing.deadline.min(hedge))
    }

    /// Whether the machine is at its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    fn page_arrived(&mut self, from: NodeId, page: PageReply, out: &mut PageActions) {
        let Some(kind) = self.readers.asked_for(from) else { return };
        self.request.kind = kind;
        if let Some(why) = defect(&page, &self.request) {
            return self.refused(from, Refusal::Malformed(why.to_owned()), out);
        }
        self.readers.answered(from, kind);
        match kind {
            ReadKind::Data => self.pages.insert(0, page),
            ReadKind::Digest => self.pages.push(page),
        }
    }

    /// Whoever sends rows has what the session has seen; what digests differ from is read again.
    fn seen_for(&self, kind: ReadKind) -> Vec<(VnodeId, Context)> {
        match kind {
            ReadKind::Data => self.request.seen.clone(),
            ReadKind::Digest => Vec::new(),
        }
    }

    fn refused(&mut self, from: NodeId, refusal: Refusal, out: &mut PageActions) {
        if refusal == Refusal::Behind {
            self.first_refusal = None;
        }
        self.first_refusal.get_or_insert((from, refusal));
        self.failed(from, out);
    }

    fn failed(&mut self, node: NodeId, out: &mut PageActions) {
        if self.readers.failed(node) {
            let mut asks = Asks::new();
            self.readers.top_up(&mut asks);
            self.push_reads(&asks, out);
        }
    }

    fn hedge(&mut self, now: Millis, out: &mut PageActions) {
        if self.timing.hedge_at.is_none_or(|at| now < at) {
            return;
        }
        self.timing.hedge_at = None;
        let mut asks = Asks::new();
        self.readers.hedge(&mut asks);
        self.push_reads(&asks, out);
    }

    fn reply(&mut self, result: Result<super::PageDone, Failure>, out: &mut PageActions) {
        self.done = true;
        out.push(PageAction::Reply(result));
        out.push(PageAction::Done);
    }

    fn push_reads(&self, asks: &Asks, out: &mut PageActions) {
        out.extend(asks.iter().map(|&(from, kind)| PageAction::Read {
            from,
            request: PageRequest { kind, seen: self.seen_for(kind), ..self.request.clone() },
        }));
    }
}
