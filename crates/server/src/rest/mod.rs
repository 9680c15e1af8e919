//! REST: HTTP as people and scripts use it.
//!
//! `/v1/kv/{keyspace}/{table}/{key}` holds values as they are; `Accept: application/json` shows
//! them in an envelope. The causal context travels in `Meridian-Context` both ways. Errors are
//! `application/problem+json` from the catalogue that all doors share.

mod catalog;
mod extract;
mod kv;
mod many;
mod multipart;
mod page;
mod problem;
mod status;
mod text;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, extract::Request};
use meridian_service::Service;
use meridian_telemetry::Metrics;
use tokio::net::TcpListener;

use crate::front::Front;
use crate::grpc::auth::bearer;
use crate::listener::Hall;
use crate::{HealthSource, codes, http};
use problem::Problem;

/// What the handlers see.
struct Desk<S> {
    front: Front<S>,
    metrics: Arc<Metrics>,
    health: Arc<dyn HealthSource>,
}

impl<S> Clone for Desk<S> {
    fn clone(&self) -> Self {
        let Self { front, metrics, health } = self;
        Self { front: front.clone(), metrics: metrics.clone(), health: health.clone() }
    }
}

fn router<S: Service>(desk: Desk<S>) -> Router {
    let body = DefaultBodyLimit::max(desk.front.limits().request_bytes);
    Router::new()
        .route("/v1/kv/{keyspace}/{table}/{*key}", get(kv::get).put(kv::put).delete(kv::delete))
        .route("/v1/kv/{keyspace}/{table}", get(page::scan).post(many::post))
        .route("/v1/replicas/{keyspace}/{table}/{*key}", get(kv::replicas))
        .route("/v1/keyspaces", get(catalog::keyspaces).post(catalog::create_keyspace))
        .route("/v1/tables", get(catalog::tables).post(catalog::create_table))
        .route("/v1/tables/{table}", get(catalog::describe))
        .route("/v1/cluster", get(catalog::cluster))
        .route("/v1/repair/accept-loss", axum::routing::post(catalog::accept_loss))
        .route("/metrics", get(status::metrics))
        .route("/health", get(status::health))
        .route("/health/live", get(status::live))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(body)
        .layer(from_fn_with_state(desk.clone(), check::<S>))
        .with_state(desk)
}

async fn unknown(uri: Uri) -> Response {
    let why = format!("there is no such path here: {}", uri.path());
    Problem::door(codes::UNKNOWN_ROUTE, why).into_response()
}

async fn wrong_method(uri: Uri) -> Response {
    let why = format!("{} does not take this method", uri.path());
    let mut response = Problem::door(codes::UNKNOWN_ROUTE, why).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// Lets in who shows the password; `/health/live` is open to everybody.
async fn check<S: Service>(State(desk): State<Desk<S>>, request: Request, next: Next) -> Response {
    let limits = *desk.front.limits();
    let too_slow = || {
        let why = "the request did not come to its end in time".to_owned();
        Problem::door(codes::TOO_SLOW, why).with_unknown_effect().into_response()
    };
    let Some(password) = &desk.front.options.password else {
        return http::in_time(&limits, request, next, too_slow).await;
    };
    let header = request.headers().get(axum::http::header::AUTHORIZATION);
    let given = bearer(header.map(|value| value.as_bytes()));
    if request.uri().path() == "/health/live" || given.is_some_and(|g| password.accepts(g)) {
        return http::in_time(&limits, request, next, too_slow).await;
    }
    let why = "a password is needed: authorization: Bearer <password>".to_owned();
    let mut response = Problem::door(codes::UNAUTHENTICATED, why).into_response();
    let wanted = axum::http::HeaderValue::from_static("Bearer");
    response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, wanted);
    response
}

pub(crate) fn open<S: Service>(
    hall: &Hall,
    listener: TcpListener,
    front: Front<S>,
    metrics: Arc<Metrics>,
    health: Arc<dyn HealthSource>,
) {
    let limits = *front.limits();
    let router = router(Desk { front, metrics, health });
    let inside = hall.clone();
    let welcome = move |stream, _| http::serve(stream, router.clone(), inside.clone(), limits);
    hall.open(listener, welcome, http::DOOR_FULL);
}
