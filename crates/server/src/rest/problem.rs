//! Errors as `application/problem+json` (RFC 9457), from the catalogue that all doors share.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use meridian_service::{DcShortfall, DcTally, Effect, ErrorCode, RequestError};
use meridian_types::ConsistencyLevel;
use serde::Serialize;

/// Seconds after which an overloaded or unreachable node is worth another try.
const RETRY_AFTER: &str = "1";

pub(super) fn invalid(what: &'static str, why: String) -> RequestError {
    RequestError::InvalidArgument { what, why }
}

/// One problem.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    effect: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Shortfall>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acks: Vec<Tally>,
}

#[derive(Clone, Debug, Serialize)]
struct Shortfall {
    datacenter: String,
    required: usize,
    alive: usize,
    replicas: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Tally {
    datacenter: String,
    acked: usize,
    required: usize,
    replicas: usize,
}

impl From<&DcShortfall> for Shortfall {
    fn from(dc: &DcShortfall) -> Self {
        let DcShortfall { datacenter, required, alive, replicas } = dc.clone();
        Self { datacenter, required, alive, replicas }
    }
}

impl From<&DcTally> for Tally {
    fn from(dc: &DcTally) -> Self {
        let DcTally { datacenter, acked, required, replicas } = dc.clone();
        Self { datacenter, acked, required, replicas }
    }
}

impl Problem {
    /// A refusal of the door itself.
    pub(super) fn door(code: ErrorCode, detail: String) -> Self {
        Self {
            kind: format!("urn:meridian:error:{}", code.id),
            title: code.name,
            status: code.http,
            detail,
            code: code.id,
            effect: Effect::NotApplied.name(),
            retryable: false,
            level: None,
            missing: Vec::new(),
            acks: Vec::new(),
        }
    }

    /// Says that something may have been written.
    pub(super) fn with_unknown_effect(self) -> Self {
        Self { effect: Effect::Unknown.name(), ..self }
    }
}

impl From<&RequestError> for Problem {
    fn from(error: &RequestError) -> Self {
        let mut problem = Self::door(error.code(), error.to_string());
        problem.effect = error.effect().name();
        problem.retryable = error.is_retryable();
        let mut about = |level: &ConsistencyLevel| problem.level = Some(level.name());
        match error {
            RequestError::Level { level, .. } => about(level),
            RequestError::Unavailable { level, missing } => {
                about(level);
                problem.missing = missing.iter().map(Into::into).collect();
            }
            RequestError::Timeout { level, acks, .. }
            | RequestError::Failed { level, acks, .. } => {
                about(level);
                problem.acks = acks.iter().map(Into::into).collect();
            }
            _ => {}
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let busy = matches!(self.status, 429 | 503);
        let code = HeaderValue::from_static(self.code);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(HeaderName::from_static("meridian-error"), code);
        if busy {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}
