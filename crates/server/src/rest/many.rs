//! Many keys in one request: `POST /v1/kv/{keyspace}/{table}:mget`, `:batch` and `:touch`.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes as Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use meridian_service::{
    AtomicBatch, Batch, Expiry, GetOutcome, MultiGet, Outcome, PutItem, PutOutcome, Request,
    RequestError, Service, TableWrite, Touch,
};
use meridian_types::{Millis, TableName};
use serde::{Deserialize, Serialize};

use super::Desk;
use super::extract::{Call, Refusal, after, json};
use super::kv::{Envelope, answer};
use super::problem::{Problem, invalid};
use super::text::{JsonBytes, parse_token, token};
use crate::codes;

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        let code = match rejection.status().as_u16() {
            413 => codes::TOO_LARGE,
            _ => codes::MALFORMED,
        };
        Self::Door(code, rejection.body_text())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<JsonBytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Items {
    items: Vec<Item>,
    /// All of them or none.
    #[serde(default)]
    atomic: bool,
}

/// One write of a batch. `value: null` deletes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    /// In an atomic batch: another table of the keyspace.
    #[serde(default)]
    table: Option<String>,
    key: JsonBytes,
    value: Option<JsonBytes>,
    #[serde(default)]
    ttl_ms: Option<u64>,
    #[serde(default)]
    expires: Option<u64>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    write_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Touched {
    key: JsonBytes,
    #[serde(default)]
    ttl_ms: Option<u64>,
    #[serde(default)]
    expires: Option<u64>,
}

/// Neither is `or`; both are refused.
fn expiry(ttl_ms: Option<u64>, expires: Option<u64>, or: Expiry) -> Result<Expiry, RequestError> {
    match (ttl_ms, expires) {
        (None, None) => Ok(or),
        (Some(ttl), None) => Ok(Expiry::At(after(Duration::from_millis(ttl)))),
        (None, Some(at)) => Ok(Expiry::At(Millis(at))),
        (Some(_), Some(_)) => Err(invalid("ttl_ms", "it contradicts expires".to_owned())),
    }
}

impl Item {
    fn into_write(mut self, table: &TableName) -> Result<TableWrite, RequestError> {
        let table = match self.table.take() {
            Some(name) => TableName::new(table.keyspace(), &name)
                .map_err(|why| invalid("table", why.to_string()))?,
            None => table.clone(),
        };
        Ok(TableWrite { table, item: self.into_item()? })
    }

    fn into_item(self) -> Result<PutItem, RequestError> {
        let parse = |text: String| {
            text.parse().map_err(|why| invalid("write_id", format!("a UUID: {why}")))
        };
        let context = self.context.map(|text| parse_token("context", text.as_bytes()));
        Ok(PutItem {
            key: self.key.into_bytes("key")?,
            value: self.value.map(|value| value.into_bytes("value")).transpose()?,
            expiry: expiry(self.ttl_ms, self.expires, Expiry::TableDefault)?,
            context: context.transpose()?,
            write_id: self.write_id.map(parse).transpose()?,
        })
    }
}

fn understand(call: &Call, table: TableName, verb: &str, body: &Body) -> Result<Request, Refusal> {
    let consistency = call.consistency;
    match verb {
        "mget" => {
            let Keys { keys } = json(body)?;
            let keys = keys.into_iter().map(|key| key.into_bytes("keys"));
            let keys = keys.collect::<Result<_, _>>()?;
            Ok(Request::MultiGet(MultiGet { table, keys, consistency, with_context: true }))
        }
        "batch" => {
            let Items { items, atomic } = json(body)?;
            if atomic {
                let writes = items.into_iter().map(|item| item.into_write(&table));
                let writes = writes.collect::<Result<_, _>>()?;
                return Ok(Request::AtomicBatch(AtomicBatch { writes, consistency }));
            }
            let items = items.into_iter().map(|item| match &item.table {
                Some(_) => Err(invalid("table", "only an atomic batch has it".to_owned())),
                None => item.into_item(),
            });
            let items = items.collect::<Result<_, _>>()?;
            Ok(Request::Batch(Batch { table, items, consistency }))
        }
        "touch" => {
            let Touched { key, ttl_ms, expires } = json(body)?;
            let expiry = expiry(ttl_ms, expires, Expiry::Never)?;
            let key = key.into_bytes("key")?;
            Ok(Request::Touch(Touch { table, key, expiry, consistency }))
        }
        other => {
            let why = format!("`{other}`; use :mget, :batch or :touch");
            Err(Refusal::Door(codes::UNKNOWN_ROUTE, why))
        }
    }
}

/// One key's result among many.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum One<T> {
    Ok(T),
    Error(Problem),
}

impl<T> One<T> {
    fn of<U>(result: Result<U, RequestError>, ok: impl FnOnce(U) -> T) -> Self {
        match result {
            Ok(outcome) => Self::Ok(ok(outcome)),
            Err(error) => Self::Error(Problem::from(&error)),
        }
    }
}

#[derive(Serialize)]
struct Results<T> {
    results: Vec<One<T>>,
}

#[derive(Serialize)]
struct Written {
    applied: bool,
    stamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
}

impl From<PutOutcome> for Written {
    fn from(put: PutOutcome) -> Self {
        let PutOutcome { applied, context, stamp, existed: _ } = put;
        Self { applied, stamp: stamp.to_string(), context: context.as_deref().map(token) }
    }
}

fn respond(outcome: Outcome) -> Option<Response> {
    match outcome {
        Outcome::MultiGot(results) => {
            let show = |result| One::of(result, |got: GetOutcome| Envelope::from(&got));
            let results = results.into_iter().map(show).collect();
            Some(Json(Results { results }).into_response())
        }
        Outcome::Batch(batch) => {
            let show = |result| One::of(result, Written::from);
            let results = batch.results.into_iter().map(show).collect();
            Some(Json(Results { results }).into_response())
        }
        Outcome::Touched(touched) => {
            let (existed, changed) = (touched.existed, touched.changed);
            let body = serde_json::json!({ "existed": existed, "changed": changed });
            Some(Json(body).into_response())
        }
        _ => None,
    }
}

pub(super) async fn post<S: Service>(
    State(desk): State<Desk<S>>,
    call: Call,
    body: Result<Body, BytesRejection>,
) -> Response {
    let request = body.map_err(Refusal::from).and_then(|body| {
        let (table, verb) = call.table_and_verb()?;
        understand(&call, table, verb.unwrap_or_default(), &body)
    });
    answer(&desk, &call, request, respond).await
}
