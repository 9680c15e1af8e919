//! Runs page machines: one page of a run of the ring, agreed on by a level's replicas.

use std::sync::Arc;

use meridian_coordinator::message::{PageRequest, Refusal, ReplicaRequest};
use meridian_coordinator::page::{
    PageAction, PageActions, PageDone, PageEvent, PageMachine, PageTiming,
};
use meridian_coordinator::{ReadPlan, Segment};
use meridian_service::{CallContext, RequestError};
use meridian_transport::Class;
use meridian_types::{ConsistencyLevel, Millis, NodeId};
use meridian_wire::replica::PeerBody;

use crate::catalog::TableRef;
use crate::exchange::{Exchange, Running};
use crate::in_flight::Call;
use crate::node::Inner;
use crate::put::millis;

pub(crate) type PageAnswer = Result<PageDone, RequestError>;
pub(crate) type PageExchange = Running<PageMachine, PageAnswer>;

impl Inner {
    /// Reads a page of one segment of the ring at a level.
    pub(crate) async fn page_of(
        self: &Arc<Self>,
        call: &CallContext,
        table: &TableRef,
        segment: Segment,
        request: PageRequest,
        level: ConsistencyLevel,
    ) -> PageAnswer {
        let replicas = table.keyspace.placement.replicas(segment.vnode);
        let alive = |node| self.is_alive(node);
        // Of the first vnode only: a segment has many, and what is refused goes on to another.
        let (keyspace, vnode, class) = (request.keyspace, segment.vnode, request.class);
        let doubtful = |node| self.is_doubtful(node, keyspace, vnode, class);
        let (me, topology) = (self.id, &self.topology);
        let plan = ReadPlan::new(level, self.dc, me, replicas, alive, doubtful, topology)?;
        self.check_time(call, level)?;
        self.check_room()?;
        let now = self.host.now();
        let timing = PageTiming { deadline: now.plus(millis(call.timeout)), hedge_at: None };
        let mut actions = PageActions::new();
        let machine = PageMachine::start(&plan, request, timing, &mut actions);
        let mut page = Running::new(machine, call.id, timing.deadline);
        let waiting = page.wait();
        let number = self.exchanges.next_call();
        let exchange = self.register(number, Exchange::Page(page), 0);
        if let Exchange::Page(page) = &mut *exchange.lock() {
            self.perform_page(number, page, actions, now);
            self.page_stepped(number, page);
        }
        waiting.answer().await
    }

    fn step_page(self: &Arc<Self>, call: Call, event: PageEvent) {
        let Some(exchange) = self.exchanges.get(call) else { return };
        if let Exchange::Page(page) = &mut *exchange.lock() {
            self.step_page_locked(call, page, event);
        }
    }

    pub(crate) fn page_node_down(
        self: &Arc<Self>,
        call: Call,
        page: &mut PageExchange,
        node: NodeId,
    ) {
        self.step_page_locked(call, page, PageEvent::NodeDown { node });
    }

    pub(crate) fn page_time_passed(self: &Arc<Self>, call: Call, page: &mut PageExchange) {
        page.scheduled = None;
        self.step_page_locked(call, page, PageEvent::TimePassed);
    }

    pub(crate) fn step_page_locked(
        self: &Arc<Self>,
        call: Call,
        page: &mut PageExchange,
        event: PageEvent,
    ) {
        let now = self.host.now();
        let mut actions = PageActions::new();
        page.machine.step(event, now, &mut actions);
        self.perform_page(call, page, actions, now);
        self.page_stepped(call, page);
    }

    fn page_stepped(&self, call: Call, page: &mut PageExchange) {
        let (done, wakeup) = (page.machine.is_done(), page.machine.next_wakeup());
        self.after_step(call, done, wakeup, &mut page.scheduled);
    }

    fn perform_page(
        self: &Arc<Self>,
        call: Call,
        page: &mut PageExchange,
        mut actions: PageActions,
        now: Millis,
    ) {
        while !actions.is_empty() {
            let mut next = PageActions::new();
            for action in actions {
                match action {
                    PageAction::Read { from, request } if from == self.id => {
                        self.read_own_page(call, request);
                    }
                    PageAction::Read { from, request } => {
                        let body = PeerBody::Request(ReplicaRequest::Page(request));
                        let left = page.deadline.since(now);
                        let trace = Some(page.trace);
                        let message = crate::peer::encode_by(call, trace, left, body);
                        if self.send(from, Class::Foreground, message).is_err() {
                            let event = PageEvent::SendRefused { to: from };
                            page.machine.step(event, now, &mut next);
                        }
                    }
                    PageAction::Reply(result) => {
                        let answer = result.map_err(|failure| failure.into_error(&self.topology));
                        page.reply(answer);
                    }
                    PageAction::Done => {}
                }
            }
            actions = next;
        }
    }

    /// A page reads many blocks, so also the node's own is read on a thread that may wait.
    fn read_own_page(self: &Arc<Self>, call: Call, request: PageRequest) {
        if request.seen.is_empty() {
            return self.read_own_page_now(call, request);
        }
        self.spawn(move |inner| async move {
            if inner.wait_for_page(&request).await {
                inner.read_own_page_now(call, request);
            } else {
                let (from, refusal) = (inner.id, Refusal::Behind);
                inner.step_page(call, PageEvent::ReadRefused { from, refusal });
            }
        });
    }

    fn read_own_page_now(self: &Arc<Self>, call: Call, request: PageRequest) {
        self.block(move |inner| {
            let from = inner.id;
            let refused = move |refusal| PageEvent::ReadRefused { from, refusal };
            match inner.read_page(&request) {
                Ok((page, commit)) => inner.when_settled(&commit, move |inner, settled| {
                    let arrived = |()| PageEvent::PageArrived { from, page };
                    inner.step_page(call, settled.map_or_else(refused, arrived));
                }),
                Err(refusal) => inner.step_page(call, refused(refusal)),
            }
        });
    }
}
