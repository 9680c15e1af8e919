//! One key.

use axum::Json;
use axum::body::Bytes as Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use meridian_service::{
    Condition, Delete, Get, GetOutcome, Outcome, Put, PutItem, PutOutcome, ReadValue, ReplicaRow,
    Request, RequestError, Service,
};
use meridian_types::{Hlc, RequestId};
use serde::Serialize;

use super::extract::{CONTEXT, Call, REQUEST_ID, Refusal, SESSION};
use super::problem::{Problem, invalid};
use super::text::{JsonBytes, token, token_header};
use super::{Desk, multipart};
use crate::codes;
use crate::front::{apart, in_session};

/// When a value was written, in the hybrid logical clock's terms.
const STAMP: HeaderName = HeaderName::from_static("meridian-stamp");
/// Milliseconds since the Unix epoch from which on a value is not visible.
const EXPIRES: HeaderName = HeaderName::from_static("meridian-expires");

/// Asks the service and answers, with the request's id either way.
pub(super) async fn answer<S: Service>(
    desk: &Desk<S>,
    call: &Call,
    request: Result<Request, Refusal>,
    respond: impl FnOnce(Outcome) -> Option<Response>,
) -> Response {
    let result = match request {
        Ok(request) => {
            let request = in_session(call.session.clone(), request);
            desk.front.call_to_the_end(call.context, request).await.map_err(Refusal::Request)
        }
        Err(refusal) => Err(refusal),
    };
    let response = match result {
        Ok(outcome) => {
            let (outcome, token) = apart(outcome);
            let mut response = respond(outcome).unwrap_or_else(|| {
                let why = "the node answered with another kind of outcome".to_owned();
                Problem::door(codes::BUG, why).with_unknown_effect().into_response()
            });
            if let Some(token) = token.as_deref().and_then(token_header) {
                response.headers_mut().insert(SESSION, token);
            }
            response
        }
        Err(Refusal::Request(error)) => Problem::from(&error).into_response(),
        Err(Refusal::Door(code, why)) => Problem::door(code, why).into_response(),
    };
    with_id(response, call.context.id)
}

fn with_id(mut response: Response, id: RequestId) -> Response {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A value in JSON.
#[derive(Serialize)]
pub(super) struct JsonValue {
    value: JsonBytes,
    stamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

impl From<&ReadValue> for JsonValue {
    fn from(value: &ReadValue) -> Self {
        Self {
            value: JsonBytes::from(value.value.as_ref()),
            stamp: value.stamp.to_string(),
            expires: value.expires.map(|millis| millis.0),
        }
    }
}

/// What a key holds, in JSON.
#[derive(Serialize)]
pub(super) struct Envelope {
    values: Vec<JsonValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
}

impl From<&GetOutcome> for Envelope {
    fn from(got: &GetOutcome) -> Self {
        Self {
            values: got.values.iter().map(Into::into).collect(),
            context: got.context.as_deref().map(token),
        }
    }
}

fn read(call: &Call) -> Result<Get, Refusal> {
    Ok(Get {
        table: call.table()?,
        key: call.key()?,
        consistency: call.consistency,
        with_context: true,
    })
}

pub(super) async fn get<S: Service>(State(desk): State<Desk<S>>, call: Call) -> Response {
    let request = read(&call).map(Request::Get);
    answer(&desk, &call, request, |outcome| match outcome {
        Outcome::Got(got) => Some(show(&call, &got)),
        _ => None,
    })
    .await
}

fn show(call: &Call, got: &GetOutcome) -> Response {
    let mut response = match got.values.as_slice() {
        _ if call.wants_json() => Json(Envelope::from(got)).into_response(),
        [] => Problem::door(codes::NO_VALUE, "the key has no value".to_owned()).into_response(),
        [value] if is_known(&call.headers, value) => {
            (StatusCode::NOT_MODIFIED, value_headers(value)).into_response()
        }
        [value] => {
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            (kind, value_headers(value), value.value.clone()).into_response()
        }
        siblings => multipart::siblings(siblings),
    };
    context_header(&mut response, got.context.as_deref());
    response
}

fn context_header(response: &mut Response, context: Option<&[u8]>) {
    if let Some(value) = context.and_then(token_header) {
        response.headers_mut().insert(CONTEXT, value);
    }
}

pub(super) fn etag(stamp: Hlc) -> String {
    format!("\"{:016x}\"", stamp.0)
}

fn is_known(headers: &HeaderMap, value: &ReadValue) -> bool {
    let tag = etag(value.stamp);
    let given = headers.get(header::IF_NONE_MATCH).and_then(|given| given.to_str().ok());
    given.is_some_and(|given| given.split(',').any(|given| given.trim() == tag))
}

/// The headers that describe one value.
pub(super) fn value_headers(value: &ReadValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    put(header::ETAG, etag(value.stamp));
    put(STAMP, value.stamp.to_string());
    if let Some(millis) = value.expires {
        put(EXPIRES, millis.0.to_string());
    }
    headers
}

/// `If-None-Match: *` and `If-Match: *`. A tag of one version is not a condition here: the causal
/// context says exactly what a write replaces.
fn condition(headers: &HeaderMap) -> Result<Option<Condition>, RequestError> {
    let any = |name: HeaderName, what| match headers.get(name) {
        None => Ok(false),
        Some(star) if star.as_bytes() == b"*" => Ok(true),
        Some(_) => {
            let why = "only * is understood for a write; send the Meridian-Context of a read to \
                       replace what was read"
                .to_owned();
            Err(invalid(what, why))
        }
    };
    let absent = any(header::IF_NONE_MATCH, "If-None-Match")?;
    let present = any(header::IF_MATCH, "If-Match")?;
    match (absent, present) {
        (false, false) => Ok(None),
        (true, false) => Ok(Some(Condition::Absent)),
        (false, true) => Ok(Some(Condition::Present)),
        (true, true) => Err(invalid("If-Match", "it contradicts If-None-Match".to_owned())),
    }
}

fn write(call: &Call, body: Body) -> Result<Put, Refusal> {
    Ok(Put {
        table: call.table()?,
        item: PutItem {
            key: call.key()?,
            value: Some(body),
            expiry: call.expiry()?,
            context: call.causal_context()?,
            write_id: call.write_id()?,
        },
        condition: condition(&call.headers)?,
        consistency: call.consistency,
        with_context: true,
    })
}

pub(super) async fn put<S: Service>(
    State(desk): State<Desk<S>>,
    call: Call,
    body: Result<Body, axum::extract::rejection::BytesRejection>,
) -> Response {
    let request = body.map_err(Refusal::from).and_then(|body| write(&call, body)).map(Request::Put);
    answer(&desk, &call, request, written).await
}

fn written(outcome: Outcome) -> Option<Response> {
    let Outcome::Put(put) = outcome else { return None };
    let PutOutcome { applied, context, stamp, existed: _ } = put;
    let mut response = if applied {
        let mut response = StatusCode::NO_CONTENT.into_response();
        for (name, text) in [(header::ETAG, etag(stamp)), (STAMP, stamp.to_string())] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    } else {
        let why = "the key has, or has not, a value, against the condition".to_owned();
        Problem::door(codes::CONDITION, why).into_response()
    };
    context_header(&mut response, context.as_deref());
    Some(response)
}

fn removal(call: &Call) -> Result<Request, Refusal> {
    Ok(Request::Delete(Delete {
        table: call.table()?,
        key: call.key()?,
        context: call.causal_context()?,
        write_id: call.write_id()?,
        consistency: call.consistency,
        report_existed: false,
    }))
}

pub(super) async fn delete<S: Service>(State(desk): State<Desk<S>>, call: Call) -> Response {
    let request = removal(&call);
    answer(&desk, &call, request, written).await
}

#[derive(Serialize)]
struct JsonReplica {
    node: String,
    datacenter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<JsonValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_digest: Option<String>,
}

impl From<ReplicaRow> for JsonReplica {
    fn from(row: ReplicaRow) -> Self {
        let ReplicaRow { node, datacenter, values, clock_digest } = row;
        let (values, error) = match values {
            Ok(values) => (Some(values.iter().map(Into::into).collect()), None),
            Err(why) => (None, Some(why)),
        };
        let clock_digest = clock_digest.map(|digest| format!("{digest:032x}"));
        Self { node, datacenter, values, error, clock_digest }
    }
}

pub(super) async fn replicas<S: Service>(State(desk): State<Desk<S>>, call: Call) -> Response {
    let request = read(&call).map(Request::Replicas);
    answer(&desk, &call, request, |outcome| match outcome {
        Outcome::Replicas(rows) => {
            let rows: Vec<JsonReplica> = rows.into_iter().map(Into::into).collect();
            Some(Json(serde_json::json!({ "replicas": rows })).into_response())
        }
        _ => None,
    })
    .await
}
