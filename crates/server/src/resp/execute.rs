//! Asking the service, and turning its outcomes into Redis's replies.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use meridian_service::{
    CallContext, CreateKeyspace, CreateTable, Delete, Effect, Expiry, Get, GetOutcome, Outcome,
    Put, ReadValue, Request, RequestError, Scan, ScanOutcome, Service, Touch,
};
use meridian_types::{ConflictPolicy, ConsistencyLevel, Millis, TableName, TableOptions};

use super::action::{ExpiryShape, Filter, InfoParts, Shape, TouchRule, Work};
use super::clients::Clients;
use super::command::REDIS_VERSION;
use super::error::CommandError;
use super::glob;
use super::reply::Reply;
use crate::clock;
use crate::front::Front;

/// Deletes of one `DEL` that run at the same time.
const DELETES_AT_ONCE: usize = 64;
/// How often a page of `SCAN` is made larger so that it ends between two positions.
const SCAN_ATTEMPTS: u32 = 6;

/// Which numbered databases are known to have a table.
#[derive(Debug, Default)]
pub(super) struct Databases {
    known: AtomicU32,
}

/// Carries out work for the connections of the RESP door.
pub(super) struct Executor<S> {
    pub(super) front: Front<S>,
    pub(super) databases: Databases,
    pub(super) clients: Clients,
}

type Replied = Result<Reply, CommandError>;

/// One read key: its value, if it has one.
fn single(got: GetOutcome) -> Result<Option<ReadValue>, CommandError> {
    let mut values = got.values;
    match values.len() {
        0 | 1 => Ok(values.pop()),
        count => Err(RequestError::Siblings { count }.into()),
    }
}

impl<S: Service> Executor<S> {
    /// Carries out one command's work. `database` is the number of the database that it is about.
    pub(super) async fn run(
        &self,
        context: CallContext,
        database: Option<u8>,
        work: Work,
    ) -> Reply {
        if let Some(number) = self.missing(database)
            && let Err(error) = Box::pin(self.create(context, number)).await
        {
            return error.into();
        }
        self.carry_out(context, database, work).await.unwrap_or_else(Reply::from)
    }

    async fn carry_out(&self, context: CallContext, database: Option<u8>, work: Work) -> Replied {
        match work {
            Work::Ask(request, shape) => {
                let outcome = self.front.call(context, request).await?;
                shape.reply(outcome)
            }
            Work::Swap(put) => Box::pin(self.swap(context, put)).await,
            Work::Delete { table, keys, consistency } => {
                Box::pin(self.delete(context, table, keys, consistency)).await
            }
            Work::TouchIf(touch, rule) => Box::pin(self.touch_if(context, touch, rule)).await,
            Work::Scan(scan, filter) => Box::pin(self.scan(context, scan, filter)).await,
            Work::Info(table, parts) => {
                Ok(Box::pin(self.info(context, database, table, parts)).await)
            }
        }
    }

    /// The number of the database, where it may have no table yet.
    fn missing(&self, database: Option<u8>) -> Option<u8> {
        let number = database?;
        let known = self.databases.known.load(Ordering::Relaxed) & 1 << number != 0;
        (!known && self.front.options.resp_create_databases).then_some(number)
    }

    async fn create(&self, context: CallContext, number: u8) -> Result<(), CommandError> {
        let table = super::session::database(&self.front.options, number)
            .map_err(|why| CommandError::Refused(why.to_string()))?;
        let described = self.front.call(context, Request::DescribeTable(table.clone())).await;
        match described {
            Ok(_) => {}
            Err(RequestError::UnknownTable(_)) => {
                let keyspace = CreateKeyspace {
                    name: table.keyspace().to_owned(),
                    replication: std::collections::BTreeMap::new(),
                    if_not_exists: true,
                };
                self.front.call(context, Request::CreateKeyspace(keyspace)).await?;
                // Redis has one value a key, so the last writer wins.
                let options =
                    TableOptions { policy: ConflictPolicy::Lww, ..TableOptions::default() };
                let create = CreateTable { name: table, options, if_not_exists: true };
                self.front.call(context, Request::CreateTable(create)).await?;
            }
            Err(error) => return Err(error.into()),
        }
        self.databases.known.fetch_or(1 << number, Ordering::Relaxed);
        Ok(())
    }

    async fn read(
        &self,
        context: CallContext,
        get: Get,
    ) -> Result<Option<ReadValue>, CommandError> {
        match self.front.call(context, Request::Get(get)).await? {
            Outcome::Got(got) => single(got),
            _ => Err(CommandError::OtherOutcome),
        }
    }

    async fn swap(&self, context: CallContext, put: Put) -> Replied {
        let get = Get {
            table: put.table.clone(),
            key: put.item.key.clone(),
            consistency: put.consistency,
            with_context: false,
        };
        let old = self.read(context, get).await?;
        match self.front.call(context, Request::Put(put)).await? {
            Outcome::Put(_) => Ok(value(old)),
            _ => Err(CommandError::OtherOutcome),
        }
    }

    async fn delete(
        &self,
        context: CallContext,
        table: TableName,
        mut keys: Vec<Bytes>,
        consistency: ConsistencyLevel,
    ) -> Replied {
        let request = |key| {
            Request::Delete(Delete {
                table: table.clone(),
                key,
                context: None,
                write_id: None,
                consistency,
                report_existed: true,
            })
        };
        let existed = |outcome| match outcome {
            Outcome::Put(put) => Ok(usize::from(put.existed == Some(true))),
            _ => Err(CommandError::OtherOutcome),
        };
        if keys.len() == 1
            && let Some(key) = keys.pop()
        {
            return existed(self.front.call(context, request(key)).await?).map(Reply::count);
        }
        self.check_keys(&keys)?;
        // A key that is given twice is deleted once, so two deletes of it never race.
        keys.sort_unstable();
        keys.dedup();
        let of = keys.len();
        let calls = keys.into_iter().map(|key| self.front.call(context, request(key)));
        let all = futures::stream::iter(calls).buffer_unordered(DELETES_AT_ONCE);
        let results: Vec<_> = all.collect().await;
        let mut counts = Vec::with_capacity(of);
        for outcome in whole(results, true)? {
            counts.push(existed(outcome)?);
        }
        Ok(Reply::count(counts.into_iter().sum()))
    }

    /// Refuses all keys of a command if one is not allowed, before the first is written.
    fn check_keys(&self, keys: &[Bytes]) -> Result<(), RequestError> {
        let limits = &self.front.limits().data;
        if keys.len() > limits.batch_keys {
            let why =
                format!("{} in one request; 1 to {} are allowed", keys.len(), limits.batch_keys);
            return Err(RequestError::InvalidArgument { what: "keys", why });
        }
        Ok(keys.iter().try_for_each(|key| limits.check_key(key))?)
    }

    async fn touch_if(&self, context: CallContext, touch: Touch, rule: TouchRule) -> Replied {
        let get = Get {
            table: touch.table.clone(),
            key: touch.key.clone(),
            consistency: touch.consistency,
            with_context: false,
        };
        let Some(value) = self.read(context, get).await? else { return Ok(Reply::Integer(0)) };
        let Expiry::At(wanted) = touch.expiry else { return Err(CommandError::Syntax) };
        let allowed = match (rule, value.expires) {
            (TouchRule::None, old) => old.is_none(),
            (TouchRule::Some, old) => old.is_some(),
            (TouchRule::Later, old) => old.is_some_and(|old| wanted > old),
            (TouchRule::Sooner, old) => old.is_none_or(|old| wanted < old),
        };
        if !allowed {
            return Ok(Reply::Integer(0));
        }
        if wanted <= clock::now() {
            let (table, keys) = (touch.table, vec![touch.key]);
            return self.delete(context, table, keys, touch.consistency).await;
        }
        Shape::Existed.reply(self.front.call(context, Request::Touch(touch)).await?)
    }

    /// A page whose end is one position on the ring. Where several keys lie on one position (their
    /// tokens share 64 bits), the page is made larger until it ends behind all of them.
    async fn scan(&self, context: CallContext, mut scan: Scan, filter: Filter) -> Replied {
        let largest = self.front.limits().data.page_rows;
        for _ in 0..SCAN_ATTEMPTS {
            let request = Request::Scan(scan.clone());
            let Outcome::Page(page) = self.front.call(context, request).await? else {
                return Err(CommandError::OtherOutcome);
            };
            let next = match &page.next {
                None => Some(0),
                Some(next) => <[u8; 8]>::try_from(next.as_ref()).ok().map(u64::from_be_bytes),
            };
            // 0 would mean the end to the client.
            match (next, &page.next) {
                (Some(0), Some(_)) | (None, _) => {}
                (Some(next), _) => return Ok(page_reply(next, page, &filter)),
            }
            if scan.limit >= largest {
                break;
            }
            scan.limit = scan.limit.saturating_mul(4).min(largest);
        }
        Err(CommandError::Refused(
            "too many keys lie on one position of the ring for a numeric cursor; scan through \
             REST or gRPC"
                .to_owned(),
        ))
    }

    /// What `INFO` shows.
    async fn info(
        &self,
        context: CallContext,
        database: Option<u8>,
        table: TableName,
        parts: InfoParts,
    ) -> Reply {
        let mut out = String::new();
        if parts.server {
            out.push_str("# Server\r\nredis_version:");
            out.push_str(REDIS_VERSION);
            out.push_str("\r\nredis_mode:standalone\r\nmeridian_version:");
            out.push_str(env!("CARGO_PKG_VERSION"));
            out.push_str(&format!("\r\nprocess_id:{}\r\n\r\n", std::process::id()));
        }
        if parts.clients {
            let (now, most) = (self.clients.count(), self.front.limits().connections);
            out.push_str(&format!(
                "# Clients\r\nconnected_clients:{now}\r\nmaxclients:{most}\r\n\r\n"
            ));
        }
        if parts.replication {
            out.push_str("# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n");
        }
        if parts.keyspace {
            out.push_str("# Keyspace\r\n");
            let rows = match self.front.call(context, Request::DescribeTable(table)).await {
                Ok(Outcome::Table(view)) => view.estimated_rows,
                // A database that nobody used yet has no table and no line.
                _ => 0,
            };
            if let Some(number) = database
                && rows > 0
            {
                out.push_str(&format!("db{number}:keys={rows},expires=0,avg_ttl=0\r\n"));
            }
        }
        Reply::Verbatim(out)
    }
}

fn page_reply(next: u64, page: ScanOutcome, filter: &Filter) -> Reply {
    let fits = |key: &Bytes| {
        !filter.nothing && filter.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, key))
    };
    let keys = page.rows.into_iter().map(|row| row.key).filter(fits).map(Reply::Bulk).collect();
    Reply::Array(vec![Reply::Text(next.to_string()), Reply::Array(keys)])
}

/// All outcomes, or an error that says how many failed. Writes of which some succeeded have an
/// unknown effect as a whole.
fn whole<T>(results: Vec<Result<T, RequestError>>, write: bool) -> Result<Vec<T>, CommandError> {
    let of = results.len();
    let mut errors = Vec::new();
    let mut good = Vec::with_capacity(of);
    for result in results {
        match result {
            Ok(outcome) => good.push(outcome),
            Err(error) => errors.push(error),
        }
    }
    let failed = errors.len();
    let unknown = errors.iter().any(|error| error.effect() == Effect::Unknown);
    let effect = if unknown || write && failed < of { Effect::Unknown } else { Effect::NotApplied };
    match errors.into_iter().next() {
        None => Ok(good),
        Some(error) => Err(CommandError::Partly { error, effect, failed, of }),
    }
}

fn value(value: Option<ReadValue>) -> Reply {
    value.map_or(Reply::Null, |value| Reply::Bulk(value.value))
}

fn flag(set: bool) -> Reply {
    Reply::Integer(set.into())
}

impl Shape {
    /// The reply to an outcome.
    fn reply(self, outcome: Outcome) -> Replied {
        match (self, outcome) {
            (Self::Done, Outcome::Put(_)) => Ok(Reply::OK),
            (Self::DoneIf, Outcome::Put(put)) => {
                Ok(if put.applied { Reply::OK } else { Reply::Null })
            }
            (Self::Applied, Outcome::Put(put)) => Ok(flag(put.applied)),
            (Self::Existed, Outcome::Touched(touched)) => Ok(flag(touched.existed)),
            (Self::Changed, Outcome::Touched(touched)) => Ok(flag(touched.changed)),
            (Self::Rows, Outcome::Table(view)) => {
                Ok(Reply::Integer(i64::try_from(view.estimated_rows).unwrap_or(i64::MAX)))
            }
            (Self::AllDone, Outcome::Batch(batch)) => whole(batch.results, true).map(|_| Reply::OK),
            (Self::Present, Outcome::MultiGot(results)) => {
                let there = |got: &GetOutcome| !got.values.is_empty();
                let got = whole(results, false)?;
                Ok(Reply::count(got.iter().filter(|got| there(got)).count()))
            }
            (Self::Values, Outcome::MultiGot(results)) => {
                let values = whole(results, false)?.into_iter().map(|got| single(got).map(value));
                Ok(Reply::Array(values.collect::<Result<_, _>>()?))
            }
            (shape, Outcome::Got(got)) => shape.of_one(single(got)?),
            _ => Err(CommandError::OtherOutcome),
        }
    }

    fn of_one(self, got: Option<ReadValue>) -> Replied {
        match self {
            Self::Value => Ok(value(got)),
            Self::Length => Ok(Reply::count(got.map_or(0, |value| value.value.len()))),
            Self::Type => Ok(Reply::Simple(if got.is_some() { "string" } else { "none" })),
            Self::Expiry(shape) => Ok(Reply::Integer(match got {
                None => -2,
                Some(value) => value.expires.map_or(-1, |at| shape.show(at, clock::now())),
            })),
            _ => Err(CommandError::OtherOutcome),
        }
    }
}

impl ExpiryShape {
    fn show(self, at: Millis, now: Millis) -> i64 {
        let left = at.since(now);
        let shown = match self {
            // Redis rounds to the nearest second.
            Self::Seconds => left.saturating_add(500) / 1_000,
            Self::Millis => left,
            Self::AtSeconds => at.0.saturating_add(500) / 1_000,
            Self::AtMillis => at.0,
        };
        i64::try_from(shown).unwrap_or(i64::MAX)
    }
}
