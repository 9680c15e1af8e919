//! `/metrics` and `/health`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use meridian_service::Service;
use meridian_telemetry::Metrics;
use serde::Serialize;

use super::Desk;
use super::problem::Problem;
use crate::{CheckStatus, Health, codes};

pub(super) async fn metrics<S: Service>(State(desk): State<Desk<S>>) -> Response {
    match desk.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(why) => Problem::door(codes::BUG, why.to_string()).into_response(),
    }
}

#[derive(Serialize)]
struct Report {
    status: CheckStatus,
    #[serde(flatten)]
    checks: Health,
}

pub(super) async fn health<S: Service>(State(desk): State<Desk<S>>) -> Response {
    let checks = desk.health.health();
    let status = checks.worst();
    let code = match status {
        CheckStatus::Ok | CheckStatus::Degraded => StatusCode::OK,
        CheckStatus::Failed => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(Report { status, checks })).into_response()
}

/// Whether the process answers at all; nothing about how well.
pub(super) async fn live() -> Response {
    StatusCode::OK.into_response()
}
