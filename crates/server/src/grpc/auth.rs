//! The password in front of the services.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use crate::{DoorLimits, Password, codes, http};

/// Health stays open: a load balancer has no password.
const OPEN: &str = "/grpc.health.v1.Health/";

/// Lets in who shows the password, everybody where there is none.
pub(super) fn protect(router: Router, password: Option<Password>, limits: DoorLimits) -> Router {
    router.layer(from_fn_with_state((password, limits), check))
}

async fn check(
    State((password, limits)): State<(Option<Password>, DoorLimits)>,
    request: Request,
    next: Next,
) -> Response {
    let given = bearer(request.headers().get(AUTHORIZATION).map(|value| value.as_bytes()));
    let welcome = match &password {
        None => true,
        Some(_) if request.uri().path().starts_with(OPEN) => true,
        Some(password) => given.is_some_and(|given| password.accepts(given)),
    };
    if welcome {
        let text =
            format!("{} unknown: the request did not come to its end in time", codes::TOO_SLOW.id);
        let too_slow = || refuse(tonic::Status::deadline_exceeded(text));
        return http::in_time(&limits, request, next, too_slow).await;
    }
    let text = format!("{} not_applied: a password is needed", codes::UNAUTHENTICATED.id);
    refuse(tonic::Status::unauthenticated(text))
}

fn refuse(status: tonic::Status) -> Response {
    status.into_http::<axum::body::Body>().into_response()
}

/// The token of an `authorization` header.
pub(crate) fn bearer(header: Option<&[u8]>) -> Option<&[u8]> {
    let (scheme, token) = header?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}
