//! The batch machine. States in the order in which a batch meets them.

use meridian_crdt::{Context, Delta, Dot, Entry};
use meridian_types::{Hlc, KeptAs, Millis, Mutation, NodeId, broken};

use super::{BatchAction, BatchDone, BatchEvent, BatchFailure, BatchPlan};
use crate::message::{LoggedBatch, NamedWrite, Reserve, VnodeDot};

/// Runs one atomic batch. See the module.
///
/// INVARIANT: one reply; no write goes out before enough nodes keep the batch; a dot that was not
/// taken when its replica was given up is never taken.
#[derive(Clone, Debug)]
pub struct BatchMachine {
    plan: BatchPlan,
    naming: Vec<Naming>,
    /// By candidate, as far as they were asked.
    keeping: Vec<Keeping>,
    logged: Option<LoggedBatch>,
    written: Vec<Option<bool>>,
    state: State,
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reserving,
    Logging,
    Writing,
    Done,
}

/// How far a write has come to its dot.
#[derive(Clone, Debug)]
enum Naming {
    /// This one of its reservers was asked.
    Asked(usize),
    Reserved {
        dot: Dot,
        context: Context,
        not_below: Hlc,
    },
    /// By an earlier try.
    Named(Delta),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Asked,
    Kept,
    Perhaps,
    No,
}

impl BatchMachine {
    /// Starts a batch: asks for its dots.
    pub fn start(plan: BatchPlan, out: &mut Vec<BatchAction>) -> Self {
        let writes = plan.writes.len();
        let mut machine = Self {
            plan,
            naming: vec![Naming::Asked(0); writes],
            keeping: Vec::new(),
            logged: None,
            written: vec![None; writes],
            state: State::Reserving,
            answered: false,
        };
        for write in 0..writes {
            machine.ask(write, out);
        }
        machine
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: BatchEvent, now: Millis, out: &mut Vec<BatchAction>) {
        match (event, self.state) {
            (_, State::Done) => return,
            (BatchEvent::Reserved { write, from, dot, context, not_below }, State::Reserving) => {
                self.name(write, from, Naming::Reserved { dot, context, not_below }, out);
            }
            (BatchEvent::Named { write, from, delta }, State::Reserving) => {
                self.name(write, from, Naming::Named(delta), out);
            }
            (BatchEvent::NotReserved { write, from }, State::Reserving) => {
                self.ask_next(write, from, out);
            }
            (BatchEvent::Kept { by }, State::Logging) => self.kept(by, Keeping::Kept, out),
            (BatchEvent::NotKept { by, perhaps }, State::Logging) => {
                self.kept(by, if perhaps { Keeping::Perhaps } else { Keeping::No }, out);
            }
            (BatchEvent::Written { write }, State::Writing) => self.wrote(write, true, out),
            (BatchEvent::NotWritten { write }, State::Writing) => self.wrote(write, false, out),
            // Late answers, and the time.
            _ => {}
        }
        if now >= self.plan.deadline {
            self.give_up(out);
        }
    }

    /// When [`BatchEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        (self.state != State::Done).then_some(self.plan.deadline)
    }

    /// Whether the machine is at its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the batch has the dot, or may come to have it. If not, it never will.
    #[must_use]
    pub fn needs(&self, dot: VnodeDot) -> bool {
        if self.state == State::Done {
            return false;
        }
        let reserver = dot.dot.actor.node;
        let mut writes = self.plan.writes.iter().zip(&self.naming);
        writes.any(|(write, naming)| {
            let here = (write.row.keyspace, write.row.vnode) == (dot.keyspace, dot.vnode);
            here && match naming {
                Naming::Asked(at) => write.reservers.get(*at) == Some(&reserver),
                Naming::Reserved { dot: named, .. } => *named == dot.dot,
                Naming::Named(delta) => delta.entry.dot == dot.dot,
            }
        })
    }

    fn ask(&mut self, write: usize, out: &mut Vec<BatchAction>) {
        let Naming::Asked(at) = self.naming[write] else { return };
        let asked = &self.plan.writes[write];
        let Some(&replica) = asked.reservers.get(at) else {
            return self.fail(BatchFailure::NotReserved(write), out);
        };
        let request = Reserve {
            row: asked.row.clone(),
            write_id: asked.write_id,
            kept_as: KeptAs::Batch(self.plan.id),
            holders: self.plan.candidates.clone(),
            over_what_is_here: asked.over_what_is_here,
        };
        out.push(BatchAction::Reserve { write, at: replica, request });
    }

    /// Whether the answer is that of the replica that is waited for.
    fn is_asked(&self, write: usize, from: NodeId) -> bool {
        match (self.naming.get(write), self.plan.writes.get(write)) {
            (Some(Naming::Asked(at)), Some(asked)) => asked.reservers.get(*at) == Some(&from),
            _ => false,
        }
    }

    fn ask_next(&mut self, write: usize, from: NodeId, out: &mut Vec<BatchAction>) {
        if self.is_asked(write, from)
            && let Naming::Asked(at) = &mut self.naming[write]
        {
            *at += 1;
            self.ask(write, out);
        }
    }

    fn name(&mut self, write: usize, from: NodeId, naming: Naming, out: &mut Vec<BatchAction>) {
        if !self.is_asked(write, from) {
            return;
        }
        self.naming[write] = naming;
        if !self.naming.iter().any(|naming| matches!(naming, Naming::Asked(_))) {
            self.log(out);
        }
    }

    /// Every write has its dot: from here the batch is a list of deltas.
    fn log(&mut self, out: &mut Vec<BatchAction>) {
        let floors = self.naming.iter().map(|naming| match naming {
            Naming::Reserved { not_below, .. } => *not_below,
            Naming::Named(_) | Naming::Asked(_) => Hlc::ZERO,
        });
        let stamp = floors.fold(self.plan.stamp, Hlc::max);
        let writes = self.plan.writes.iter().zip(&self.naming).filter_map(|(write, naming)| {
            let delta = match naming {
                Naming::Reserved { dot, context, .. } => {
                    let over = if write.over_what_is_here { context } else { &write.context };
                    let (value, expires) = (write.value.clone(), write.expires);
                    let entry = Entry { dot: *dot, stamp, expires, value };
                    Delta { entry, context: over.clone() }
                }
                Naming::Named(delta) => delta.clone(),
                Naming::Asked(_) => return None,
            };
            Some(NamedWrite { row: write.row.clone(), delta, write_id: Some(write.write_id) })
        });
        let (id, holders) = (self.plan.id, self.plan.candidates.clone());
        self.logged = Some(LoggedBatch { id, holders, writes: writes.collect() });
        self.state = State::Logging;
        if broken(Mutation::AckBatchBeforeLog) {
            return self.write(out);
        }
        self.ask_keepers(out);
    }

    /// As many as are still needed are asked to keep the batch.
    fn ask_keepers(&mut self, out: &mut Vec<BatchAction>) {
        let Some(batch) = &self.logged else { return };
        let hopes = |keeping: &&Keeping| matches!(keeping, Keeping::Asked | Keeping::Kept);
        let mut hoped = self.keeping.iter().filter(hopes).count();
        while hoped < self.plan.copies
            && let Some(&at) = self.plan.candidates.get(self.keeping.len())
        {
            self.keeping.push(Keeping::Asked);
            out.push(BatchAction::Keep { at, batch: batch.clone() });
            hoped += 1;
        }
    }

    fn kept(&mut self, by: NodeId, keeping: Keeping, out: &mut Vec<BatchAction>) {
        let at = self.plan.candidates.iter().position(|&candidate| candidate == by);
        let Some(asked) = at.and_then(|at| self.keeping.get_mut(at)) else { return };
        if *asked != Keeping::Asked {
            return;
        }
        *asked = keeping;
        self.ask_keepers(out);
        let count = |keeping| self.keeping.iter().filter(|one| **one == keeping).count();
        let (kept, needed) = (count(Keeping::Kept), self.plan.copies);
        if kept >= needed {
            self.write(out);
        } else if count(Keeping::Asked) == 0 {
            match kept + count(Keeping::Perhaps) {
                0 => self.fail(BatchFailure::NotLogged { kept, needed }, out),
                _ => self.fail(self.unknown(), out),
            }
        }
    }

    fn write(&mut self, out: &mut Vec<BatchAction>) {
        self.state = State::Writing;
        let writes = self.logged.iter().flat_map(|batch| batch.writes.iter().enumerate());
        out.extend(writes.map(|(write, named)| BatchAction::Write { write, named: named.clone() }));
        self.answer(out);
    }

    fn wrote(&mut self, write: usize, ok: bool, out: &mut Vec<BatchAction>) {
        if let Some(result @ None) = self.written.get_mut(write) {
            *result = Some(ok);
        }
        self.answer(out);
    }

    fn answer(&mut self, out: &mut Vec<BatchAction>) {
        if self.written.contains(&None) {
            return;
        }
        if self.written.contains(&Some(false)) {
            return self.fail(self.unknown(), out);
        }
        let writes = self.logged.iter().flat_map(|batch| &batch.writes);
        let stamps = writes.map(|write| write.delta.entry.stamp).collect();
        self.end(Ok(BatchDone { stamps }), out);
    }

    fn unknown(&self) -> BatchFailure {
        let written = self.written.iter().filter(|written| **written == Some(true)).count();
        BatchFailure::Unknown { written, writes: self.written.len() }
    }

    /// The deadline has come.
    fn give_up(&mut self, out: &mut Vec<BatchAction>) {
        match self.state {
            State::Reserving => self.fail(BatchFailure::Late, out),
            State::Logging | State::Writing => self.fail(self.unknown(), out),
            State::Done => {}
        }
    }

    fn fail(&mut self, failure: BatchFailure, out: &mut Vec<BatchAction>) {
        self.end(Err(failure), out);
    }

    fn end(&mut self, result: Result<BatchDone, BatchFailure>, out: &mut Vec<BatchAction>) {
        if self.answered {
            return;
        }
        self.answered = true;
        // Who only perhaps keeps it goes on alone; where enough do, this node helps.
        let helps = self.state == State::Writing;
        self.state = State::Done;
        out.push(BatchAction::Reply(result));
        out.push(BatchAction::Done(self.logged.take().filter(|_| helps)));
    }
}
