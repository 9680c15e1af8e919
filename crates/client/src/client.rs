//! The client: calls, attempts, failover.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_service::{
    AcceptLoss, AtomicBatch, Batch, BatchOutcome, ClusterView, CreateKeyspace, CreateTable, Delete,
    Effect, Get, GetOutcome, InSession, MultiGet, Outcome, Put, PutOutcome, ReplicaRow, Request,
    RequestError, Scan, ScanOutcome, SessionOutcome, TableView, Touch, TouchOutcome,
};
use meridian_types::{ConsistencyLevel, KeyspaceDef, RequestId, TableDef, TableName, WriteId};
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use uuid::Uuid;

use crate::call::{Envelope, error_from};
use crate::endpoints::Endpoints;
use crate::retry::{Next, after};
use crate::session::{Kept, Session, is_part};
use crate::{ClientError, ClientOptions, Table};

/// A client of a cluster. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// The session that its calls are part of.
    session: Option<Arc<Kept>>,
}

struct Inner {
    options: ClientOptions,
    endpoints: Endpoints,
    authorization: Option<MetadataValue<Ascii>>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty as $variant:ident) -> $answer:ty = $pattern:pat => $value:expr;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// See [`ClientError`].
        pub async fn $name(&self, request: $request) -> Result<$answer, ClientError> {
            match self.call(Request::$variant(request)).await? {
                $pattern => Ok($value),
                _ => Err(self.other_kind()),
            }
        })*
    };
}

impl Client {
    /// Connects to the first endpoint that answers. The others are connected to when they are
    /// needed.
    ///
    /// # Errors
    /// No endpoint answers, or one is malformed.
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        let client = Self::without_connection(options)?;
        let endpoints = &client.inner.endpoints;
        let mut reasons = Vec::new();
        for at in 0..endpoints.len() {
            match endpoints.channel(at).await {
                Ok(_) => return Ok(client),
                Err(ClientError::NotReached { why }) => reasons.push(why),
                Err(other) => return Err(other),
            }
        }
        Err(ClientError::NotReached { why: reasons.join("; ") })
    }

    /// A client that connects with its first call.
    ///
    /// # Errors
    /// An endpoint or the password is malformed.
    pub fn without_connection(options: ClientOptions) -> Result<Self, ClientError> {
        let endpoints = Endpoints::new(&options)?;
        let header = |password: &crate::Password| {
            format!("Bearer {}", password.reveal()).parse().map_err(|_invalid| {
                RequestError::InvalidArgument {
                    what: "password",
                    why: "it has characters that no header may have".to_owned(),
                }
            })
        };
        let authorization: Option<MetadataValue<Ascii>> =
            options.password.as_ref().map(header).transpose()?;
        let authorization = authorization.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        let inner = Arc::new(Inner { options, endpoints, authorization });
        Ok(Self { inner, session: None })
    }

    /// Sends a request, as often as it takes and may: see the module's *Failures*.
    ///
    /// A write without a write id gets one, so that its attempts are one write.
    ///
    /// # Errors
    /// The last attempt's error; an earlier one's where that alone may have written something.
    pub async fn call(&self, request: Request) -> Result<Outcome, ClientError> {
        let Some(session) = self.session.as_ref().filter(|_| is_part(&request)) else {
            return self.call_once(request).await;
        };
        // Never closed, so there is room when those before have ended.
        let room = session.room.acquire().await;
        let tokens = session.tokens();
        let inside = InSession { tokens: tokens.clone(), request: Box::new(request) };
        let outcome = self.call_once(Request::InSession(inside)).await?;
        let Outcome::InSession(SessionOutcome { token, outcome }) = outcome else {
            return Err(self.other_kind());
        };
        session.answered(&tokens, token);
        drop(room);
        Ok(*outcome)
    }

    /// A new session. See [`Session`].
    #[must_use]
    pub fn session(&self) -> Session {
        self.session_from(Vec::new())
    }

    /// A session that goes on where another had come: with its [`Session::tokens`].
    #[must_use]
    pub fn session_from(&self, tokens: Vec<Bytes>) -> Session {
        let session = Some(Kept::new(tokens));
        Session::new(Self { inner: Arc::clone(&self.inner), session })
    }

    pub(crate) fn session_tokens(&self) -> Vec<Bytes> {
        self.session.as_ref().map(|session| session.tokens()).unwrap_or_default()
    }

    async fn call_once(&self, mut request: Request) -> Result<Outcome, ClientError> {
        name_writes(&mut request);
        let id = RequestId(Uuid::now_v7());
        let Inner { options, endpoints, .. } = &*self.inner;
        let deadline = Instant::now() + options.timeout;
        let mut at = endpoints.choose(&[], Instant::now());
        let (mut asked, mut attempts, mut pause) = (Vec::new(), 0, options.pause);
        let mut unknown = None;
        loop {
            let error = match self.attempt(at, id, &request, deadline).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let next = after(&request, &error);
            if next == Next::OtherNode {
                asked.push(at);
            }
            let again = next == Next::SameNode || asked.len() >= endpoints.len();
            // A node that cannot be reached costs nothing, as long as there are others.
            attempts += u32::from(again || !matches!(error, ClientError::NotReached { .. }));
            let late = Instant::now() + if again { pause } else { Duration::ZERO } >= deadline;
            if next == Next::GiveUp || attempts >= options.attempts || late {
                return Err(worst(unknown, error));
            }
            if error.effect() == Effect::Unknown {
                unknown.get_or_insert(error);
            }
            if again {
                asked.clear();
                sleep(pause).await;
                pause *= 2;
            }
            if next == Next::OtherNode {
                at = endpoints.choose(&asked, Instant::now());
            }
        }
    }

    async fn attempt(
        &self,
        at: usize,
        id: RequestId,
        request: &Request,
        deadline: Instant,
    ) -> Result<Outcome, ClientError> {
        let Inner { options, endpoints, authorization } = &*self.inner;
        let left = || deadline.saturating_duration_since(Instant::now());
        let connected = timeout(left(), endpoints.channel(at)).await;
        let channel = connected.unwrap_or_else(|_elapsed| {
            let why = format!("{}: no connection in time", endpoints.name(at));
            Err(ClientError::NotReached { why })
        })?;
        let time: Duration = left();
        let envelope = Envelope {
            id,
            timeout: time,
            authorization: authorization.as_ref(),
            answer_bytes: options.answer_bytes,
            session: None,
        };
        let call = timeout(time, envelope.ask(channel, request.clone())).await;
        let failed = match call {
            Ok(Ok(outcome)) => return Ok(outcome),
            Ok(Err(failure)) => error_from(failure, request, endpoints.name(at)),
            Err(_elapsed) => {
                let status = tonic::Status::deadline_exceeded("no answer in time");
                error_from(status.into(), request, endpoints.name(at))
            }
        };
        let gone = matches!(
            failed,
            ClientError::NoAnswer { .. } | ClientError::Request(RequestError::Stopping)
        );
        if gone {
            endpoints.leave(at, Instant::now());
        }
        Err(failed)
    }

    /// A table, by its full name: short forms of the calls below, at the client's own level.
    ///
    /// # Errors
    /// A name that no table has.
    pub fn table(&self, name: &str) -> Result<Table, ClientError> {
        Ok(Table::new(self.clone(), name.parse::<TableName>()?, self.consistency()))
    }

    /// The level of the client's tables.
    #[must_use]
    pub fn consistency(&self) -> ConsistencyLevel {
        self.inner.options.consistency
    }

    calls! {
        /// Reads one key.
        get(Get as Get) -> GetOutcome = Outcome::Got(got) => got;
        /// Writes one key.
        put(Put as Put) -> PutOutcome = Outcome::Put(put) => put;
        /// Deletes one key.
        delete(Delete as Delete) -> PutOutcome = Outcome::Put(put) => put;
        /// Changes when a key expires.
        touch(Touch as Touch) -> TouchOutcome = Outcome::Touched(touched) => touched;
        /// Reads many keys of a table, each on its own.
        multi_get(MultiGet as MultiGet) -> Vec<Result<GetOutcome, RequestError>> =
            Outcome::MultiGot(results) => results;
        /// Writes many keys of a table, each on its own: not atomic.
        batch(Batch as Batch) -> BatchOutcome = Outcome::Batch(batch) => batch;
        /// Writes many keys of a keyspace, all or none of them; not isolated. Every result is a
        /// success.
        atomic_batch(AtomicBatch as AtomicBatch) -> BatchOutcome = Outcome::Batch(batch) => batch;
        /// Reads a page of a table. [`Table::scan`] goes from page to page.
        scan(Scan as Scan) -> ScanOutcome = Outcome::Page(page) => page;
        /// Shows what every replica of a key stores.
        replicas(Get as Replicas) -> Vec<ReplicaRow> = Outcome::Replicas(rows) => rows;
        /// Creates a keyspace; whether it is new.
        create_keyspace(CreateKeyspace as CreateKeyspace) -> bool = Outcome::Created { new } => new;
        /// Creates a table; whether it is new.
        create_table(CreateTable as CreateTable) -> bool = Outcome::Created { new } => new;
        /// Has a node accept that what no replica is left to prove is lost; of how many vnodes
        /// something may be missing.
        accept_loss(AcceptLoss as AcceptLoss) -> u64 = Outcome::LossAccepted { vnodes } => vnodes;
        /// Describes a table.
        describe_table(TableName as DescribeTable) -> TableView = Outcome::Table(view) => view;
    }

    /// Lists keyspaces and tables, by name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_tables(&self) -> Result<(Vec<KeyspaceDef>, Vec<TableDef>), ClientError> {
        match self.call(Request::ListTables).await? {
            Outcome::Tables { keyspaces, tables } => Ok((keyspaces, tables)),
            _ => Err(self.other_kind()),
        }
    }

    /// Shows the cluster as the node that answers sees it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cluster(&self) -> Result<ClusterView, ClientError> {
        match self.call(Request::Cluster).await? {
            Outcome::Cluster(view) => Ok(view),
            _ => Err(self.other_kind()),
        }
    }

    /// Every method gets the outcome of its own kind, as each kind has a call of its own.
    fn other_kind(&self) -> ClientError {
        ClientError::Malformed {
            endpoint: self.inner.options.endpoints.join(", "),
            what: "an answer of another kind".to_owned(),
            effect: Effect::Unknown,
        }
    }
}

/// An earlier attempt that may have written something is worth more than a later one that did not.
fn worst(unknown: Option<ClientError>, last: ClientError) -> ClientError {
    match unknown {
        Some(unknown) if last.effect() == Effect::NotApplied => unknown,
        _ => last,
    }
}

/// Names every write that has no name yet.
fn name_writes(request: &mut Request) {
    let name = |id: &mut Option<WriteId>| {
        id.get_or_insert_with(|| WriteId(Uuid::now_v7()));
    };
    match request {
        Request::Put(put) => name(&mut put.item.write_id),
        Request::Delete(delete) => name(&mut delete.write_id),
        Request::Batch(batch) => batch.items.iter_mut().for_each(|item| name(&mut item.write_id)),
        Request::InSession(inside) => name_writes(&mut inside.request),
        Request::AtomicBatch(batch) => {
            batch.writes.iter_mut().for_each(|write| name(&mut write.item.write_id));
        }
        _ => {}
    }
}
