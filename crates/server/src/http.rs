//! Serving HTTP/1.1 and HTTP/2 on an accepted connection: REST and gRPC both come this way.

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

use crate::DoorLimits;
use crate::listener::Hall;

/// Bytes of all headers of a request. The longest is a causal context of 64 KiB, base64url-encoded.
const MAX_HEAD_BYTES: usize = 128 << 10;

/// What a connection is told for which there is no place.
pub(crate) const DOOR_FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\ncontent-length: 146\r\nconnection: close\r\n\r\n\
    {\"type\":\"urn:meridian:error:MER-0005\",\"title\":\"door_full\",\"status\":503,\
    \"detail\":\"this node has its maximum of connections\",\"effect\":\"not_applied\"}";

/// Answers a request, or gives up on a client that does not send it to its end. Twice the longest
/// timeout: a request that came in time may still take as long as it may.
pub(crate) async fn in_time(
    limits: &DoorLimits,
    request: Request,
    next: Next,
    too_slow: impl FnOnce() -> Response,
) -> Response {
    let answered = tokio::time::timeout(limits.max_timeout * 2, next.run(request)).await;
    answered.unwrap_or_else(|_elapsed| too_slow())
}

/// Serves one connection until the client leaves or the node stops.
pub(crate) async fn serve(stream: TcpStream, router: Router, hall: Hall, limits: DoorLimits) {
    // A connection on which nothing was sent has no head whose time could be measured.
    match tokio::time::timeout(limits.head_timeout, stream.peek(&mut [0])).await {
        Ok(Ok(1..)) => {}
        Ok(Ok(0)) | Ok(Err(_)) | Err(_) => return,
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = hall.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Mostly clients that leave without a goodbye.
        hall.metrics.malformed.inc();
        tracing::debug!("an HTTP connection broke off: {error}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(super::DOOR_FULL).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
