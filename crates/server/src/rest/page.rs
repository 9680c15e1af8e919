//! Pages of a table.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meridian_service::{Outcome, Request, Scan, ScanOutcome, Service};
use serde::Serialize;

use super::Desk;
use super::extract::{Call, Refusal};
use super::kv::{JsonValue, answer};
use super::text::{JsonBytes, parse_token, token};

#[derive(Serialize)]
struct Row {
    key: JsonBytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<JsonValue>>,
}

#[derive(Serialize)]
struct Page {
    rows: Vec<Row>,
    next: Option<String>,
}

fn page(outcome: ScanOutcome, with_values: bool) -> Page {
    let row = |row: &meridian_service::ScanRow| Row {
        key: JsonBytes::from(row.key.as_ref()),
        values: with_values.then(|| row.values.iter().map(Into::into).collect()),
    };
    Page { rows: outcome.rows.iter().map(row).collect(), next: outcome.next.as_deref().map(token) }
}

fn request<S: Service>(desk: &Desk<S>, call: &Call) -> Result<Request, Refusal> {
    let cursor = call.query.cursor.as_deref();
    Ok(Request::Scan(Scan {
        table: call.table()?,
        cursor: cursor.map(|text| parse_token("cursor", text.as_bytes())).transpose()?,
        limit: call.query.limit.unwrap_or(desk.front.limits().default_page_rows),
        prefix: call.query.prefix.clone().unwrap_or_default().into(),
        with_values: call.query.values.unwrap_or(false),
        consistency: call.consistency,
    }))
}

pub(super) async fn scan<S: Service>(State(desk): State<Desk<S>>, call: Call) -> Response {
    let with_values = call.query.values.unwrap_or(false);
    let request = request(&desk, &call);
    answer(&desk, &call, request, |outcome| match outcome {
        Outcome::Page(outcome) => Some(Json(page(outcome, with_values)).into_response()),
        _ => None,
    })
    .await
}
