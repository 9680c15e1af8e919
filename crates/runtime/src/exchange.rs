//! A request that waits for other nodes: its machine, and who waits for its answer.

use std::sync::Arc;

use meridian_coordinator::{GetMachine, PutMachine};
use meridian_service::RequestError;
use meridian_types::{ConsistencyLevel, Epoch, Millis, NodeId, RequestId};
use meridian_wire::replica::PeerBody;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::get::{GetAnswer, ReadRow};
use crate::in_flight::Call;
use crate::node::Inner;
use crate::page::PageExchange;
use crate::put::PutAnswer;

/// One waiting request.
#[expect(
    clippy::large_enum_variant,
    reason = "each lives in an allocation of its own, and most are puts and gets"
)]
pub(crate) enum Exchange {
    Put(Running<PutMachine, PutAnswer>),
    Get(Running<GetMachine, GetAnswer>, ReadRow),
    Page(PageExchange),
    Ask(Ask),
}

/// A machine that runs, and who waits for its answer.
pub(crate) struct Running<M, A> {
    pub(crate) machine: M,
    /// The client's request, for the traces of the nodes that it touches.
    pub(crate) trace: RequestId,
    /// When nobody waits for the answer any more.
    pub(crate) deadline: Millis,
    /// Whether a hint counts for its level, so that it must be durable before it does.
    pub(crate) counts_hints: bool,
    answered: bool,
    reply: Option<oneshot::Sender<A>>,
    answer: Option<A>,
    pub(crate) scheduled: Option<Millis>,
}

impl<M, A> Running<M, A> {
    pub(crate) fn new(machine: M, trace: RequestId, deadline: Millis) -> Self {
        Self {
            machine,
            trace,
            deadline,
            counts_hints: false,
            answered: false,
            reply: None,
            answer: None,
            scheduled: None,
        }
    }

    /// Answers whoever waits, or keeps the answer for whoever will look.
    pub(crate) fn reply(&mut self, answer: A) {
        self.answered = true;
        match self.reply.take() {
            // A client that went away is no failure of its request.
            Some(reply) => drop(reply.send(answer)),
            None => self.answer = Some(answer),
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    /// The answer, if it was given before anybody waited.
    pub(crate) fn take_answer(&mut self) -> Option<A> {
        self.answer.take()
    }

    /// Where the answer will come.
    pub(crate) fn wait(&mut self) -> Waiting<A> {
        if let Some(answer) = self.take_answer() {
            return Waiting::Answered(answer);
        }
        let (sender, receiver) = oneshot::channel();
        self.reply = Some(sender);
        Waiting::For(receiver)
    }
}

/// An answer, or where it will come.
pub(crate) enum Waiting<A> {
    Answered(A),
    For(oneshot::Receiver<A>),
}

impl<T> Waiting<Result<T, RequestError>> {
    /// Waits for the answer of a read. A machine that ends with its node answers "stopping".
    pub(crate) async fn answer(self) -> Result<T, RequestError> {
        match self {
            Self::Answered(answer) => answer,
            Self::For(reply) => reply.await.unwrap_or(Err(RequestError::Stopping)),
        }
    }

    /// Waits for the answer of a write at a level. A machine that ends with its node leaves the
    /// write unknown: other replicas may have it.
    pub(crate) async fn written(self, level: ConsistencyLevel) -> Result<T, RequestError> {
        let Self::For(reply) = self else { return self.answer().await };
        reply.await.unwrap_or_else(|_ended| {
            let why = "the node stopped".to_owned();
            Err(RequestError::Failed { level, acks: Vec::new(), why, write: true })
        })
    }
}

/// What one node is asked without a machine: repair, catalogs, requests that are handed on.
pub(crate) struct Ask {
    pub(crate) to: NodeId,
    pub(crate) reply: Option<oneshot::Sender<Result<PeerBody, Lost>>>,
    pub(crate) deadline: Millis,
}

/// A question that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// Nothing was sent: the link is down or its queue is full.
    #[error("the link took no message")]
    NotSent,
    /// The link went down after it was sent.
    #[error("the link went down")]
    Down,
    /// No answer came in time.
    #[error("no answer came in time")]
    Late,
}

impl Inner {
    /// Puts a request into the table. Whoever starts it locks it before the first message goes
    /// out, so that no answer overtakes what is done to it until then.
    pub(crate) fn register(
        &self,
        call: Call,
        exchange: Exchange,
        bytes: usize,
    ) -> Arc<Mutex<Exchange>> {
        let exchange = Arc::new(Mutex::new(exchange));
        self.exchanges.insert(call, Arc::clone(&exchange), bytes);
        exchange
    }

    /// After a step: moves the wake-up, and forgets the request at its end.
    pub(crate) fn after_step(
        &self,
        call: Call,
        done: bool,
        wakeup: Option<Millis>,
        scheduled: &mut Option<Millis>,
    ) {
        let wakeup = if done { None } else { wakeup };
        self.exchanges.timers().reschedule(call, *scheduled, wakeup);
        *scheduled = wakeup;
        if done {
            self.exchanges.remove(call);
        }
    }

    /// Tells every waiting request that a node is gone.
    pub(crate) fn tell_node_down(self: &Arc<Self>, node: NodeId) {
        for (call, exchange) in self.exchanges.all() {
            match &mut *exchange.lock() {
                Exchange::Put(put) => self.put_node_down(call, put, node),
                Exchange::Get(get, row) => self.get_node_down(call, get, row, node),
                Exchange::Page(page) => self.page_node_down(call, page, node),
                Exchange::Ask(ask) if ask.to == node => self.end_ask(call, ask, Err(Lost::Down)),
                Exchange::Ask(_) => {}
            }
        }
    }

    /// Wakes one request whose time has come.
    pub(crate) fn wake(self: &Arc<Self>, call: Call) {
        let Some(exchange) = self.exchanges.get(call) else { return };
        match &mut *exchange.lock() {
            Exchange::Put(put) => {
                put.scheduled = None;
                self.put_time_passed(call, put);
            }
            Exchange::Get(get, row) => {
                get.scheduled = None;
                self.get_time_passed(call, get, row);
            }
            Exchange::Page(page) => self.page_time_passed(call, page),
            Exchange::Ask(ask) => self.end_ask(call, ask, Err(Lost::Late)),
        }
    }

    pub(crate) fn end_ask(&self, call: Call, ask: &mut Ask, answer: Result<PeerBody, Lost>) {
        self.exchanges.timers().reschedule(call, Some(ask.deadline), None);
        self.exchanges.remove(call);
        if let Some(reply) = ask.reply.take() {
            // Whoever asked may have stopped waiting.
            drop(reply.send(answer));
        }
    }

    /// Asks one node and waits for its answer, at most `timeout_ms`.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        to: NodeId,
        class: meridian_transport::Class,
        trace: Option<RequestId>,
        body: PeerBody,
        timeout_ms: u64,
    ) -> Result<PeerBody, Lost> {
        let call = self.exchanges.next_call();
        let (sender, receiver) = oneshot::channel();
        let deadline = self.host.now().plus(timeout_ms);
        self.register(call, Exchange::Ask(Ask { to, reply: Some(sender), deadline }), 0);
        self.exchanges.timers().reschedule(call, None, Some(deadline));
        let message = crate::peer::encode_by(call, trace, timeout_ms, body);
        if self.send(to, class, message).is_err() {
            self.with_ask(call, |ask| self.end_ask(call, ask, Err(Lost::NotSent)));
        }
        receiver.await.unwrap_or(Err(Lost::Down))
    }

    pub(crate) fn with_ask(&self, call: Call, then: impl FnOnce(&mut Ask)) {
        let Some(exchange) = self.exchanges.get(call) else { return };
        if let Exchange::Ask(ask) = &mut *exchange.lock() {
            then(ask);
        }
    }
}

/// The layout that a request is planned with, by what its datacenter's placement says.
pub(crate) fn epoch_of(
    placement: &meridian_topology::Placement,
    dc: meridian_types::DcId,
) -> Epoch {
    placement.epoch(dc).unwrap_or(meridian_topology::Placement::INITIAL_EPOCH)
}
