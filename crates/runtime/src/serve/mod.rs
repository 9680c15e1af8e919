//! Serves requests: the inside of the one door.

mod admin;
mod admit;
mod batch;
mod cluster;
mod loss;
mod read;
mod scan;
mod session;
mod write;

use std::sync::Arc;
use std::time::Duration;

use meridian_coordinator::message::{Refusal, ReplicaReply, ReplicaRequest};
use meridian_service::{CallContext, Effect, Outcome, Request, RequestError, Service};
use meridian_transport::Class;
use meridian_types::{ConsistencyLevel, Millis, NodeId, RequestId, TableName};
use meridian_wire::replica::PeerBody;

use crate::catalog::TableRef;
use crate::exchange::Lost;
use crate::node::{Inner, Node};
use crate::put::millis;
use crate::session::Sessional;

/// Whether another node has handed a request on to this one; it is not handed on again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    No,
    On,
}

impl Service for Node {
    async fn call(&self, context: CallContext, request: Request) -> Result<Outcome, RequestError> {
        if self.inner.is_stopping() {
            return Err(RequestError::Stopping);
        }
        let timeout = context.timeout.min(self.inner.options.max_timeout);
        let context = CallContext { timeout, ..context };
        self.inner.admit_and_serve(context, request, Handed::No).await
    }
}

impl Inner {
    pub(crate) async fn serve(
        self: &Arc<Self>,
        context: CallContext,
        request: Request,
        handed: Handed,
    ) -> Result<Outcome, RequestError> {
        self.serve_part(context, request, handed, None).await
    }

    /// As [`Self::serve`], as part of a session where there is one.
    pub(crate) async fn serve_part(
        self: &Arc<Self>,
        context: CallContext,
        request: Request,
        handed: Handed,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        match request {
            Request::Get(get) => self.get(&context, get, session).await.map(Outcome::Got),
            Request::Put(put) => self.put(&context, put, handed, session).await,
            Request::Delete(delete) => self.delete(&context, delete, handed, session).await,
            Request::Touch(touch) => self.touch(&context, touch, handed, session).await,
            Request::MultiGet(gets) => Box::pin(self.multi_get(&context, gets, session)).await,
            Request::Batch(batch) => Box::pin(self.batch(&context, batch, session)).await,
            Request::AtomicBatch(batch) => Box::pin(self.atomic_batch(&context, batch)).await,
            Request::Scan(scan) => Box::pin(self.scan(&context, scan, session)).await,
            Request::InSession(inside) => self.in_session(context, inside, handed).await,
            Request::Replicas(get) => Box::pin(self.replicas(&context, get)).await,
            Request::CreateKeyspace(create) => {
                Box::pin(self.create_keyspace(&context, create)).await
            }
            Request::CreateTable(create) => Box::pin(self.create_table(&context, create)).await,
            Request::DescribeTable(name) => self.describe_table(&name),
            Request::ListTables => Ok(self.list_tables()),
            Request::Cluster => Ok(self.cluster()),
            Request::AcceptLoss(accept) => Box::pin(self.accept_loss(accept)).await,
        }
    }

    /// A name for a request that came without one.
    pub(crate) fn fresh_request_id(&self) -> RequestId {
        RequestId(self.fresh_uuid())
    }

    pub(crate) fn table(&self, name: &TableName) -> Result<Arc<TableRef>, RequestError> {
        let view = self.catalog.load();
        view.table(name).cloned().ok_or_else(|| match self.store.catalog().why_not_in_use(name) {
            Some(why) => why.into(),
            None => RequestError::UnknownTable(name.clone()),
        })
    }

    /// What a node's answer to another question is for a client.
    fn other_answer(&self, node: NodeId) -> RequestError {
        let why = format!("{} answered something else", self.name_of(node));
        RequestError::Storage { why, effect: Effect::Unknown }
    }

    /// Has another node serve the request, as a replica of its key.
    pub(crate) async fn hand_to(
        self: &Arc<Self>,
        context: &CallContext,
        node: NodeId,
        level: ConsistencyLevel,
        request: Request,
    ) -> Result<Outcome, RequestError> {
        self.check_room()?;
        let body = PeerBody::Request(ReplicaRequest::Coordinate(request));
        let timeout = millis(context.timeout);
        let answer = self.ask(node, Class::Foreground, Some(context.id), body, timeout).await;
        match answer {
            Ok(PeerBody::Reply(ReplicaReply::Coordinated(result))) => *result,
            // It did nothing. But this node has waited for as long, and may have been heard twice.
            Ok(PeerBody::Reply(ReplicaReply::Refused(refusal @ Refusal::DeadlinePassed))) => {
                let why = format!("{}: {refusal}", self.name_of(node));
                Err(RequestError::Failed { level, acks: Vec::new(), why, write: true })
            }
            Ok(PeerBody::Reply(ReplicaReply::Refused(Refusal::Overloaded))) => {
                let queue = "requests handed on";
                Err(RequestError::Overloaded { queue, limit: crate::peer::MAX_HANDED })
            }
            Ok(other) => {
                tracing::warn!(peer = %self.name_of(node), ?other, "an unexpected answer");
                Err(self.other_answer(node))
            }
            Err(Lost::NotSent) => {
                let why = format!("{} takes no messages; nothing was written", self.name_of(node));
                Err(RequestError::Failed { level, acks: Vec::new(), why, write: false })
            }
            Err(why @ (Lost::Down | Lost::Late)) => {
                let why = format!("{}, which was handed the request: {why}", self.name_of(node));
                Err(RequestError::Failed { level, acks: Vec::new(), why, write: true })
            }
        }
    }
}

/// Shares one timeout among the steps of a request.
pub(crate) struct Budget {
    context: CallContext,
    until: Millis,
}

impl Budget {
    pub(crate) fn new(context: &CallContext, now: Millis) -> Self {
        Self { context: *context, until: now.plus(millis(context.timeout)) }
    }

    /// The request's context with the time that is left.
    pub(crate) fn left(&self, now: Millis) -> CallContext {
        CallContext { timeout: Duration::from_millis(self.until.since(now)), ..self.context }
    }
}

/// The level at which a write looks at what is there.
pub(crate) fn read_level(level: ConsistencyLevel) -> ConsistencyLevel {
    match level {
        ConsistencyLevel::Any => ConsistencyLevel::One,
        other => other,
    }
}
