//! What all doors share: the service behind them, the limits in front of it, and the measuring.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_service::{
    CallContext, Effect, InSession, Outcome, PutItem, Request, RequestError, Service,
    SessionOutcome,
};
use meridian_telemetry::{Level, Operation, RequestResult, Requests, span};
use meridian_types::{ConsistencyLevel, KeyError, RequestId};
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::{DoorLimits, DoorsOptions};

/// Longest causal context, in bytes: one of a key with a hundred siblings has a few kilobytes.
const MAX_CONTEXT_BYTES: usize = 64 << 10;
/// Longest session token, in bytes: nodes give shorter ones.
const MAX_SESSION_BYTES: usize = 16 << 10;
/// Longest cursor, in bytes: a cursor names a position and perhaps a key.
const MAX_CURSOR_BYTES: usize = 8 << 10;

/// The service with its limits.
pub(crate) struct Front<S> {
    service: Arc<S>,
    requests: Arc<Requests>,
    pub(crate) options: Arc<DoorsOptions>,
    /// Requests whose client may be gone already.
    tasks: TaskTracker,
}

impl<S> Clone for Front<S> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            requests: self.requests.clone(),
            options: self.options.clone(),
            tasks: self.tasks.clone(),
        }
    }
}

impl<S: Service> Front<S> {
    pub(crate) fn new(
        service: Arc<S>,
        requests: Arc<Requests>,
        options: Arc<DoorsOptions>,
    ) -> Self {
        Self { service, requests, options, tasks: TaskTracker::new() }
    }

    pub(crate) fn limits(&self) -> &DoorLimits {
        &self.options.limits
    }

    /// A context for a request that came without an id, or with a timeout of its own.
    pub(crate) fn context(&self, id: Option<RequestId>, timeout: Option<Duration>) -> CallContext {
        let limits = self.limits();
        CallContext {
            id: id.unwrap_or_else(|| RequestId(Uuid::now_v7())),
            timeout: timeout.unwrap_or(limits.default_timeout).min(limits.max_timeout),
        }
    }

    /// The requests that may outlive their connections.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// As [`Self::call`], and goes on to the end although the caller is dropped: an HTTP client
    /// that leaves takes its handler along, but a write that was begun has to reach its replicas
    /// or become hints.
    ///
    /// # Panics
    /// Where the service does.
    pub(crate) async fn call_to_the_end(
        &self,
        context: CallContext,
        request: Request,
    ) -> Result<Outcome, RequestError> {
        let front = self.clone();
        let task = self.tasks.spawn(async move { front.call(context, request).await });
        match task.await {
            Ok(result) => result,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The tokio runtime is shutting down around us.
                Err(_cancelled) => Err(RequestError::Storage {
                    why: "the process is ending".to_owned(),
                    effect: Effect::Unknown,
                }),
            },
        }
    }

    /// Checks, serves and measures one request.
    pub(crate) async fn call(
        &self,
        context: CallContext,
        request: Request,
    ) -> Result<Outcome, RequestError> {
        let started = Instant::now();
        let (operation, level) = labels(&request);
        let result = match check(self.limits(), &request) {
            Ok(()) => {
                let span = span_of(&context, &request, operation, level);
                self.service.call(context, request).instrument(span).await
            }
            Err(refused) => Err(refused),
        };
        let ended = match &result {
            Ok(_) => RequestResult::Ok,
            Err(error) => {
                tracing::debug!(
                    request_id = %context.id, code = error.code().id, "request failed: {error}"
                );
                RequestResult::Error(error.code().name)
            }
        };
        self.requests.observe(operation, level, started.elapsed(), ended);
        result
    }
}

/// A request as part of a session, where there is one.
pub(crate) fn in_session(tokens: Option<Vec<Bytes>>, request: Request) -> Request {
    match tokens {
        None => request,
        Some(tokens) => Request::InSession(InSession { tokens, request: Box::new(request) }),
    }
}

/// What is answered, and the session's next token where it was answered in one.
pub(crate) fn apart(outcome: Outcome) -> (Outcome, Option<Bytes>) {
    match outcome {
        Outcome::InSession(SessionOutcome { token, outcome }) => (*outcome, Some(token)),
        plain => (plain, None),
    }
}

fn labels(request: &Request) -> (Operation, Level) {
    let level = |level: ConsistencyLevel| Level::from_number(level as u8);
    match request {
        Request::Get(get) => (Operation::Get, level(get.consistency)),
        Request::Put(put) => (Operation::Put, level(put.consistency)),
        Request::Delete(delete) => (Operation::Delete, level(delete.consistency)),
        Request::Touch(touch) => (Operation::Touch, level(touch.consistency)),
        Request::MultiGet(get) => (Operation::MultiGet, level(get.consistency)),
        Request::Batch(batch) => (Operation::Batch, level(batch.consistency)),
        Request::AtomicBatch(batch) => (Operation::Batch, level(batch.consistency)),
        Request::Scan(scan) => (Operation::Scan, level(scan.consistency)),
        Request::Replicas(get) => (Operation::Replicas, level(get.consistency)),
        Request::InSession(inside) => labels(&inside.request),
        Request::CreateKeyspace(_)
        | Request::CreateTable(_)
        | Request::DescribeTable(_)
        | Request::ListTables
        | Request::Cluster
        | Request::AcceptLoss(_) => (Operation::Admin, Level::NONE),
    }
}

/// The key that a request is about, for its span.
fn key_of(request: &Request) -> Option<&[u8]> {
    match request {
        Request::Get(get) | Request::Replicas(get) => Some(&get.key),
        Request::Put(put) => Some(&put.item.key),
        Request::Delete(delete) => Some(&delete.key),
        Request::Touch(touch) => Some(&touch.key),
        Request::InSession(inside) => key_of(&inside.request),
        _ => None,
    }
}

/// One span a request, at debug level: where that is off it costs a comparison.
fn span_of(
    context: &CallContext,
    request: &Request,
    operation: Operation,
    level: Level,
) -> tracing::Span {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return tracing::Span::none();
    }
    let span = tracing::debug_span!(
        "request",
        request_id = %context.id,
        operation = operation.name(),
        consistency = level.name(),
        key_hash = tracing::field::Empty,
    );
    if let Some(key) = key_of(request) {
        let hash = xxhash_rust::xxh3::xxh3_64(key);
        span.record(span::KEY_HASH, tracing::field::display(format_args!("{hash:016x}")));
    }
    span
}

fn invalid(what: &'static str, why: String) -> RequestError {
    RequestError::InvalidArgument { what, why }
}

/// Refuses what no table could hold, the same at every door, before anything is sent anywhere.
fn check(limits: &DoorLimits, request: &Request) -> Result<(), RequestError> {
    let data = &limits.data;
    match request {
        Request::Get(get) | Request::Replicas(get) => data.check_key(&get.key)?,
        Request::Put(put) => check_item(limits, &put.item)?,
        Request::Delete(delete) => {
            data.check_key(&delete.key)?;
            check_context(delete.context.as_deref())?;
        }
        Request::Touch(touch) => data.check_key(&touch.key)?,
        Request::MultiGet(get) => {
            check_count(data.batch_keys, get.keys.len())?;
            get.keys.iter().try_for_each(|key| data.check_key(key))?;
        }
        Request::Batch(batch) => {
            check_count(data.batch_keys, batch.items.len())?;
            batch.items.iter().try_for_each(|item| check_item(limits, item))?;
        }
        Request::AtomicBatch(batch) => {
            check_count(data.batch_keys, batch.writes.len())?;
            batch.writes.iter().try_for_each(|write| check_item(limits, &write.item))?;
        }
        Request::Scan(scan) => {
            if scan.limit == 0 || scan.limit > data.page_rows {
                let why =
                    format!("{} rows a page; 1 to {} are allowed", scan.limit, data.page_rows);
                return Err(invalid("limit", why));
            }
            if scan.prefix.len() > data.key_bytes {
                let (bytes, limit) = (scan.prefix.len(), data.key_bytes);
                return Err(KeyError::KeyTooLarge { bytes, limit }.into());
            }
            if scan.cursor.as_ref().is_some_and(|cursor| cursor.len() > MAX_CURSOR_BYTES) {
                return Err(invalid("cursor", format!("longer than {MAX_CURSOR_BYTES} bytes")));
            }
        }
        Request::InSession(InSession { tokens, request }) => {
            if tokens.iter().any(|token| token.len() > MAX_SESSION_BYTES) {
                let why = format!("a token longer than {MAX_SESSION_BYTES} bytes");
                return Err(invalid("session", why));
            }
            // One in another is refused by the service.
            if !matches!(**request, Request::InSession(_)) {
                check(limits, request)?;
            }
        }
        Request::CreateKeyspace(_)
        | Request::CreateTable(_)
        | Request::DescribeTable(_)
        | Request::ListTables
        | Request::Cluster
        | Request::AcceptLoss(_) => {}
    }
    Ok(())
}

fn check_count(limit: usize, count: usize) -> Result<(), RequestError> {
    if count == 0 || count > limit {
        return Err(invalid("keys", format!("{count} in one request; 1 to {limit} are allowed")));
    }
    Ok(())
}

fn check_item(limits: &DoorLimits, item: &PutItem) -> Result<(), RequestError> {
    limits.data.check_key(&item.key)?;
    if let Some(value) = &item.value {
        limits.data.check_value(value.len())?;
    }
    check_context(item.context.as_deref())
}

fn check_context(context: Option<&[u8]>) -> Result<(), RequestError> {
    match context {
        Some(context) if context.len() > MAX_CONTEXT_BYTES => {
            let why = format!("{} bytes; at most {MAX_CONTEXT_BYTES} are allowed", context.len());
            Err(invalid("context", why))
        }
        _ => Ok(()),
    }
}
