//! The password in front of the services.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use crate::{Password, codes};

/// Health stays open: a load balancer has no password.
const OPEN: &str = "/grpc.health.v1.Health/";

/// Lets in who shows the password; everybody where there is none.
pub(super) fn protect(router: Router, password: Option<Password>) -> Router {
    match password {
        Some(password) => router.layer(from_fn_with_state(password, check)),
        None => router,
    }
}

async fn check(State(password): State<Password>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with(OPEN) {
        return next.run(request).await;
    }
    let given = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    if bearer(given).is_some_and(|given| password.accepts(given)) {
        return next.run(request).await;
    }
    let text = format!("{} not_applied: a password is needed", codes::UNAUTHENTICATED.id);
    tonic::Status::unauthenticated(text).into_http::<axum::body::Body>().into_response()
}

/// The token of an `authorization` header.
pub(crate) fn bearer(header: Option<&[u8]>) -> Option<&[u8]> {
    let (scheme, token) = header?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}
