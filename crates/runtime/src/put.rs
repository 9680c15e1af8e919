//! Runs put machines: mints on this node's store, sends copies, keeps hints, answers.

use std::sync::Arc;

use bytes::Bytes;
use meridian_coordinator::message::{NamedWrite, Refusal, ReplicaRequest, WriteDelta};
use meridian_coordinator::{
    Failure, PutAction, PutActions, PutDone, PutEvent, PutMachine, PutTiming, PutWrite, WritePlan,
};
use meridian_crdt::{Context, Delta};
use meridian_service::{CallContext, RequestError};
use meridian_store::{Commit, LocalWrite, Minted, StoreError};
use meridian_transport::Class;
use meridian_types::{ConsistencyLevel, Millis, Mutation, NodeId, RequestId, RowKey, broken};
use meridian_wire::replica::PeerBody;

use crate::catalog::TableRef;
use crate::exchange::{Exchange, Running, Waiting, epoch_of};
use crate::in_flight::Call;
use crate::node::Inner;

/// A write that the level's replicas have.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) done: PutDone,
    /// What the writer has seen now.
    pub(crate) context: Context,
}

pub(crate) type PutAnswer = Result<Written, RequestError>;
type RunningPut = Running<PutMachine, PutAnswer>;

impl Inner {
    /// Writes one row at a level, with this node as its leading replica.
    ///
    /// Everything up to the first wait happens on the caller's stack, and a write that needs no
    /// other node never enters the table of waiting requests.
    pub(crate) fn put_row(
        self: &Arc<Self>,
        call: &CallContext,
        table: &TableRef,
        key: Bytes,
        write: LocalWrite,
        level: ConsistencyLevel,
    ) -> Result<Waiting<PutAnswer>, RequestError> {
        let row = self.store.row_key(&table.def, key);
        let write_id = write.write_id;
        let placement = &table.keyspace.placement;
        let replicas = placement.replicas(row.vnode);
        let alive = |node| self.is_alive(node);
        let plan = WritePlan::new(level, self.dc, self.id, replicas, alive, &self.topology)?;
        self.check_time(call, level)?;
        let what = PutWrite { row, write_id, epoch: epoch_of(placement, self.dc) };
        self.begin_put(call, plan, what, |row| {
            let Minted { delta, commit, .. } = self.store.mint(row, write, self.host.wall())?;
            Ok((delta, Some(commit)))
        })
    }

    /// Writes one row at a level whose dot was reserved: this node need not be a replica.
    pub(crate) fn put_named(
        self: &Arc<Self>,
        call: &CallContext,
        table: &TableRef,
        named: NamedWrite,
        level: ConsistencyLevel,
    ) -> Result<Waiting<PutAnswer>, RequestError> {
        let NamedWrite { row, delta, write_id } = named;
        let placement = &table.keyspace.placement;
        let replicas = placement.replicas(row.vnode);
        let alive = |node| self.is_alive(node);
        let plan = WritePlan::named(level, self.dc, self.id, replicas, alive, &self.topology)?;
        let is_replica = replicas.contains(self.id);
        let what = PutWrite { row, write_id, epoch: epoch_of(placement, self.dc) };
        self.begin_put(call, plan, what, |row| {
            if !is_replica {
                return Ok((delta, None));
            }
            let applied = self.store.apply(row, &delta, write_id, self.host.wall())?;
            Ok((delta, Some(applied.commit)))
        })
    }

    /// Starts a put whose delta comes from `mint`, with what to wait for before it leaves.
    fn begin_put(
        self: &Arc<Self>,
        call: &CallContext,
        plan: WritePlan,
        what: PutWrite,
        mint: impl FnOnce(&RowKey) -> Result<(Delta, Option<Commit>), StoreError>,
    ) -> Result<Waiting<PutAnswer>, RequestError> {
        self.check_room()?;
        let (level, row) = (plan.level, what.row.clone());
        let now = self.host.now();
        let timing = PutTiming {
            deadline: now.plus(millis(call.timeout)),
            hint_after_ms: millis(self.options.hint_after),
        };
        // The first action is always `Mint`, and it is done here.
        let machine = PutMachine::start(plan, what, timing, &mut PutActions::new());
        let mut put = Running::new(machine, call.id, timing.deadline);
        put.counts_hints = level == ConsistencyLevel::Any;
        let mut bytes = row.key.len();
        let (event, unsettled) = match mint(&row) {
            Ok((delta, commit)) => {
                bytes += delta.entry.value.as_ref().map_or(0, Bytes::len);
                let settled = commit.as_ref().is_none_or(|commit| self.store.is_settled(commit));
                let waits = !settled && !broken(Mutation::AckBeforeSettled);
                (PutEvent::Minted(delta), commit.filter(|_| waits))
            }
            Err(error) => (PutEvent::MintFailed(self.refusal(&error)), None),
        };
        Ok(match unsettled {
            Some(commit) => self.wait_for_mint(put, bytes, event, &commit),
            None => {
                let mut actions = PutActions::new();
                put.machine.step(event, now, &mut actions);
                self.run_put(put, bytes, actions, now)
            }
        })
    }

    /// Runs a put whose dot is minted.
    fn run_put(
        self: &Arc<Self>,
        mut put: RunningPut,
        bytes: usize,
        actions: PutActions,
        now: Millis,
    ) -> Waiting<PutAnswer> {
        let call = self.exchanges.next_call();
        if put.machine.is_done() {
            self.perform_put(call, &mut put, actions, now);
            return put.wait();
        }
        let waiting = put.wait();
        let exchange = self.register(call, Exchange::Put(put), bytes);
        if let Exchange::Put(put) = &mut *exchange.lock() {
            self.perform_put(call, put, actions, now);
            self.put_stepped(call, put);
        }
        waiting
    }

    /// With a log that is synced before the answer, the dot leaves the node after the sync only.
    fn wait_for_mint(
        self: &Arc<Self>,
        mut put: RunningPut,
        bytes: usize,
        event: PutEvent,
        commit: &Commit,
    ) -> Waiting<PutAnswer> {
        let call = self.exchanges.next_call();
        let waiting = put.wait();
        let exchange = self.register(call, Exchange::Put(put), bytes);
        if let Exchange::Put(put) = &mut *exchange.lock() {
            self.put_stepped(call, put);
        }
        self.when_settled(commit, move |inner, settled| {
            inner.step_put(call, settled.map_or_else(PutEvent::MintFailed, |()| event));
        });
        waiting
    }

    /// Steps a waiting put. Events for puts that are over do nothing.
    pub(crate) fn step_put(self: &Arc<Self>, call: Call, event: PutEvent) {
        let Some(exchange) = self.exchanges.get(call) else { return };
        if let Exchange::Put(put) = &mut *exchange.lock() {
            self.step_put_locked(call, put, event);
        }
    }

    pub(crate) fn put_node_down(self: &Arc<Self>, call: Call, put: &mut RunningPut, node: NodeId) {
        self.step_put_locked(call, put, PutEvent::NodeDown { node });
    }

    pub(crate) fn put_time_passed(self: &Arc<Self>, call: Call, put: &mut RunningPut) {
        self.step_put_locked(call, put, PutEvent::TimePassed);
    }

    pub(crate) fn step_put_locked(
        self: &Arc<Self>,
        call: Call,
        put: &mut RunningPut,
        event: PutEvent,
    ) {
        let now = self.host.now();
        let mut actions = PutActions::new();
        put.machine.step(event, now, &mut actions);
        self.perform_put(call, put, actions, now);
        self.put_stepped(call, put);
    }

    fn put_stepped(&self, call: Call, put: &mut RunningPut) {
        let (done, wakeup) = (put.machine.is_done(), put.machine.next_wakeup());
        self.after_step(call, done, wakeup, &mut put.scheduled);
    }

    /// Does what the machine asks for, and what it asks for because of that.
    fn perform_put(
        self: &Arc<Self>,
        call: Call,
        put: &mut RunningPut,
        mut actions: PutActions,
        now: Millis,
    ) {
        let mut copies = EncodedCopies { call, trace: put.trace, plain: None };
        while !actions.is_empty() {
            let mut next = PutActions::new();
            for action in actions {
                match action {
                    PutAction::Mint | PutAction::Done => {}
                    PutAction::Send { to, write } => {
                        if self.send(to, Class::Foreground, copies.of(write)).is_err() {
                            put.machine.step(PutEvent::SendRefused { to }, now, &mut next);
                        }
                    }
                    PutAction::StoreHint { target, write } => {
                        let counts = put.counts_hints && !put.is_answered();
                        self.hints.store(self, target, write, call, counts);
                    }
                    PutAction::Reply(result) => {
                        let answer = self.put_answer(&put.machine, result);
                        put.reply(answer);
                    }
                }
            }
            actions = next;
        }
    }

    fn put_answer(&self, machine: &PutMachine, result: Result<PutDone, Failure>) -> PutAnswer {
        let done = result.map_err(|failure| failure.into_error(&self.topology))?;
        Ok(Written { done, context: machine.written_context().unwrap_or_default() })
    }

    /// What a store's error is to the machine that asked. An error of the disk stops the node's
    /// promises, so it is also logged and shown in its health.
    pub(crate) fn refusal(&self, error: &StoreError) -> Refusal {
        match error {
            StoreError::UnknownTable(table) => Refusal::UnknownTable(*table),
            StoreError::Stamp(stamp) => Refusal::Stamp(*stamp),
            StoreError::TooManyReserved { .. } => Refusal::Overloaded,
            StoreError::BehindPull { .. } => Refusal::Rebuilding,
            StoreError::Key(_)
            | StoreError::UnknownKeyspace(_)
            | StoreError::WrongKeyspace { .. }
            | StoreError::WrongVnode { .. }
            | StoreError::NoSuchVnode { .. } => Refusal::Malformed(error.to_string()),
            _ => {
                self.note_storage_error(error);
                Refusal::Storage(error.to_string())
            }
        }
    }
}

/// The copies of one write differ only in whom they are forwarded to: those that are forwarded to
/// nobody are encoded once.
struct EncodedCopies {
    call: Call,
    trace: RequestId,
    plain: Option<Bytes>,
}

impl EncodedCopies {
    fn of(&mut self, write: WriteDelta) -> Bytes {
        let forwarded = !write.forward_to.is_empty();
        if let (false, Some(plain)) = (forwarded, &self.plain) {
            return plain.clone();
        }
        let body = PeerBody::Request(ReplicaRequest::Write(write));
        let encoded = crate::peer::encode(self.call, Some(self.trace), body);
        if !forwarded {
            self.plain = Some(encoded.clone());
        }
        encoded
    }
}

pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
