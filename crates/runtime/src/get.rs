//! Runs get machines: reads this node's store, asks other replicas, repairs the stale, answers.

use std::sync::Arc;

use bytes::Bytes;
use meridian_coordinator::message::{ReadKind, Refusal, ReplicaRequest};
use meridian_coordinator::{
    Failure, GetAction, GetActions, GetDone, GetEvent, GetMachine, GetOptions, ReadPlan,
};
use meridian_crdt::{Context, Row};
use meridian_service::{CallContext, RequestError};
use meridian_store::Commit;
use meridian_transport::Class;
use meridian_types::{ConsistencyLevel, Epoch, Millis, NodeId, ReadClass, RowKey};
use meridian_wire::replica::PeerBody;

use crate::catalog::TableRef;
use crate::exchange::{Exchange, Running, Waiting, epoch_of};
use crate::in_flight::Call;
use crate::node::Inner;
use crate::put::millis;
use crate::rebuild::Reading;

pub(crate) type GetAnswer = Result<GetDone, RequestError>;
type RunningGet = Running<GetMachine, GetAnswer>;

/// The row that a read reads, and the layout that it was planned with.
#[derive(Clone, Debug)]
pub(crate) struct ReadRow {
    pub(crate) row: RowKey,
    pub(crate) class: ReadClass,
    pub(crate) epoch: Epoch,
    /// What the reader's session has seen of the vnode.
    pub(crate) seen: Option<Arc<Context>>,
}

impl Inner {
    /// Reads one row at a level.
    ///
    /// As with writes, everything up to the first wait happens on the caller's stack.
    pub(crate) fn get_row(
        self: &Arc<Self>,
        call: &CallContext,
        table: &TableRef,
        key: Bytes,
        level: ConsistencyLevel,
        with_context: bool,
        seen: Option<Arc<Context>>,
    ) -> Result<Waiting<GetAnswer>, RequestError> {
        let row = self.store.row_key(&table.def, key);
        let placement = &table.keyspace.placement;
        let replicas = placement.replicas(row.vnode);
        let alive = |node| self.is_alive(node);
        let class = ReadClass::of(level);
        let doubtful = |node| self.is_doubtful(node, row.keyspace, row.vnode, class);
        let (me, topology) = (self.id, &self.topology);
        let plan = ReadPlan::new(level, self.dc, me, replicas, alive, doubtful, topology)?;
        self.check_time(call, level)?;
        self.check_room()?;
        self.hedges.read_began();
        let now = self.host.now();
        let options = GetOptions {
            policy: table.def.options.policy,
            with_context,
            deadline: now.plus(millis(call.timeout)),
            hedge_at: self.options.hedge_after.map(|after| now.plus(millis(after))),
        };
        let mut actions = GetActions::new();
        let machine = GetMachine::start_in_session(&plan, options, seen.clone(), &mut actions);
        let mut get = Running::new(machine, call.id, options.deadline);
        let epoch = epoch_of(placement, self.dc);
        let bytes = row.key.len();
        let target = ReadRow { row, class, epoch, seen };
        let number = self.exchanges.next_call();
        let actions = self.read_here(&mut get, &target, actions, now);
        if get.machine.is_done() {
            self.perform_get(number, &mut get, &target, actions, now);
            return Ok(get.wait());
        }
        let waiting = get.wait();
        let exchange = self.register(number, Exchange::Get(get, target), bytes);
        if let Exchange::Get(get, target) = &mut *exchange.lock() {
            self.perform_get(number, get, target, actions, now);
            self.get_stepped(number, get);
        }
        Ok(waiting)
    }

    /// Reads what this node is asked for; what is left to do goes over links, and may be answered
    /// as soon as it is sent.
    fn read_here(
        &self,
        get: &mut RunningGet,
        target: &ReadRow,
        actions: GetActions,
        now: Millis,
    ) -> GetActions {
        let mut rest = GetActions::new();
        for action in actions {
            match action {
                GetAction::Read { from, kind, covering }
                    if from == self.id && !(covering && self.is_behind(target)) =>
                {
                    match self.read_store(target, kind) {
                        (event, None) => get.machine.step(event, now, &mut rest),
                        // Read again by whoever can wait for it.
                        (_, Some(_)) => rest.push(GetAction::Read { from, kind, covering }),
                    }
                }
                other => rest.push(other),
            }
        }
        rest
    }

    /// Whether this node lacks something that the reader's session has seen.
    fn is_behind(&self, target: &ReadRow) -> bool {
        let ReadRow { row, seen, .. } = target;
        seen.as_ref().is_some_and(|seen| !self.store.has_seen(row.keyspace, row.vnode, seen))
    }

    /// Reads once this node has what the session has seen, or says that it is behind.
    fn read_when_seen(self: &Arc<Self>, call: Call, target: ReadRow, kind: ReadKind) {
        self.spawn(move |inner| async move {
            let (from, until) = (inner.id, inner.session_wait());
            let RowKey { keyspace, vnode, .. } = target.row;
            let (mut event, unsettled) = match &target.seen {
                Some(seen) if !inner.wait_for_seen(keyspace, vnode, seen, until).await => {
                    (GetEvent::ReadRefused { from, refusal: Refusal::Behind }, None)
                }
                _ => inner.read_store(&target, kind),
            };
            if let Some(commit) = unsettled
                && let Err(refusal) = inner.settled(&commit).await
            {
                event = GetEvent::ReadRefused { from, refusal };
            }
            inner.step_get(call, event);
        });
    }

    /// What the store has, and what must settle before that is shown.
    fn read_store(&self, target: &ReadRow, kind: ReadKind) -> (GetEvent, Option<Commit>) {
        let from = self.id;
        let Reading { version, unsettled } = match self.read_as(&target.row, target.class) {
            Ok(reading) => reading,
            Err(refusal) => return (GetEvent::ReadRefused { from, refusal }, None),
        };
        let event = match kind {
            ReadKind::Data => GetEvent::DataArrived { from, version },
            ReadKind::Digest => GetEvent::DigestArrived { from, digest: version.row.digest() },
        };
        (event, unsettled)
    }

    /// Steps a get with what the store had, when that has settled. Whoever calls this may hold the
    /// get's lock, and it may have settled just now.
    fn step_get_when_settled(
        self: &Arc<Self>,
        call: Call,
        commit: &Commit,
        event: impl FnOnce(Result<(), Refusal>) -> GetEvent + Send + 'static,
    ) {
        self.when_settled(commit, move |inner, settled| {
            let event = event(settled);
            inner.spawn(move |inner| async move { inner.step_get(call, event) });
        });
    }

    /// Steps a waiting get. Events for gets that are over do nothing.
    fn step_get(self: &Arc<Self>, call: Call, event: GetEvent) {
        let Some(exchange) = self.exchanges.get(call) else { return };
        if let Exchange::Get(get, row) = &mut *exchange.lock() {
            self.step_get_locked(call, get, row, event);
        }
    }

    pub(crate) fn get_node_down(
        self: &Arc<Self>,
        call: Call,
        get: &mut RunningGet,
        row: &ReadRow,
        node: NodeId,
    ) {
        self.step_get_locked(call, get, row, GetEvent::NodeDown { node });
    }

    pub(crate) fn get_time_passed(
        self: &Arc<Self>,
        call: Call,
        get: &mut RunningGet,
        row: &ReadRow,
    ) {
        self.step_get_locked(call, get, row, GetEvent::TimePassed);
    }

    pub(crate) fn step_get_locked(
        self: &Arc<Self>,
        call: Call,
        get: &mut RunningGet,
        row: &ReadRow,
        event: GetEvent,
    ) {
        let now = self.host.now();
        if get.machine.hedge_is_due(now) && !self.hedges.take() {
            get.machine.forgo_hedge();
        }
        let mut actions = GetActions::new();
        get.machine.step(event, now, &mut actions);
        self.perform_get(call, get, row, actions, now);
        self.get_stepped(call, get);
    }

    fn get_stepped(&self, call: Call, get: &mut RunningGet) {
        let (done, wakeup) = (get.machine.is_done(), get.machine.next_wakeup());
        self.after_step(call, done, wakeup, &mut get.scheduled);
    }

    fn perform_get(
        self: &Arc<Self>,
        call: Call,
        get: &mut RunningGet,
        target: &ReadRow,
        mut actions: GetActions,
        now: Millis,
    ) {
        while !actions.is_empty() {
            let mut next = GetActions::new();
            for action in actions {
                let event = match action {
                    GetAction::Read { from, kind, covering } => {
                        self.read(call, get, target, from, kind, covering)
                    }
                    GetAction::Repair { to, version, coverage } => {
                        self.repair(call, get, target, to, version, coverage)
                    }
                    GetAction::Reply(result) => {
                        let answer = self.get_answer(result);
                        get.reply(answer);
                        None
                    }
                    GetAction::Done => None,
                };
                if let Some(event) = event {
                    get.machine.step(event, now, &mut next);
                }
            }
            actions = next;
        }
    }

    /// Reads here, or asks another replica; what is known at once comes back as an event.
    fn read(
        self: &Arc<Self>,
        call: Call,
        get: &RunningGet,
        target: &ReadRow,
        from: NodeId,
        kind: ReadKind,
        covering: bool,
    ) -> Option<GetEvent> {
        if from == self.id {
            if covering && self.is_behind(target) {
                self.read_when_seen(call, target.clone(), kind);
                return None;
            }
            let (event, unsettled) = self.read_store(target, kind);
            let Some(commit) = unsettled else { return Some(event) };
            let refused = move |refusal| GetEvent::ReadRefused { from, refusal };
            self.step_get_when_settled(call, &commit, move |settled| {
                settled.map_or_else(refused, |()| event)
            });
            return None;
        }
        let ReadRow { row, class, epoch, seen } = target.clone();
        let seen = seen.filter(|_| covering).map(|seen| Context::clone(&seen));
        let request = ReplicaRequest::Read { row, kind, class, epoch, seen };
        let (trace, body) = (Some(get.trace), PeerBody::Request(request));
        let left = get.deadline.since(self.host.now());
        let message = crate::peer::encode_by(call, trace, left, body);
        let sent = self.send(from, Class::Foreground, message);
        sent.err().map(|_| GetEvent::SendRefused { to: from })
    }

    fn repair(
        self: &Arc<Self>,
        call: Call,
        get: &RunningGet,
        target: &ReadRow,
        to: NodeId,
        version: Row,
        coverage: Context,
    ) -> Option<GetEvent> {
        if !get.machine.is_done() {
            self.metrics.repairs().blocking.inc();
        } else if self.repair_budget.take(self.host.now()) {
            self.metrics.repairs().background.inc();
        } else {
            self.metrics.repairs().given_up.inc();
            return None;
        }
        if to == self.id {
            return self.repair_here(call, target, &version, &coverage);
        }
        let (row, epoch) = (target.row.clone(), target.epoch);
        let request = ReplicaRequest::Join { row, version, coverage, epoch };
        let message = crate::peer::encode(call, Some(get.trace), PeerBody::Request(request));
        let sent = self.send(to, Class::Foreground, message);
        sent.err().map(|_| GetEvent::SendRefused { to })
    }

    /// Counts as done when it is as durable as the sync policy says, like any other replica's.
    fn repair_here(
        self: &Arc<Self>,
        call: Call,
        target: &ReadRow,
        version: &Row,
        coverage: &Context,
    ) -> Option<GetEvent> {
        let from = self.id;
        let commit = match self.store.join(&target.row, version, coverage) {
            Ok(commit) => commit,
            Err(error) => {
                return Some(GetEvent::RepairRefused { from, refusal: self.refusal(&error) });
            }
        };
        if self.store.is_settled(&commit) {
            return Some(GetEvent::Repaired { from });
        }
        self.step_get_when_settled(call, &commit, move |settled| {
            let refused = |refusal| GetEvent::RepairRefused { from, refusal };
            settled.map_or_else(refused, |()| GetEvent::Repaired { from })
        });
        None
    }

    fn get_answer(&self, result: Result<GetDone, Failure>) -> GetAnswer {
        let done = result.map_err(|failure| failure.into_error(&self.topology))?;
        if done.differed {
            self.metrics.repairs().digest_mismatches.inc();
        }
        Ok(done)
    }
}
