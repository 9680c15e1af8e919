//! gRPC: the native protocol, with reflection, health and errors that travel whole.
//!
//! The conversions are in `meridian-wire`; here is only who is asked, and for how long.

pub(crate) mod auth;
mod services;

use std::time::Duration;

use bytes::Bytes;
use meridian_service::Service;
use meridian_types::{Millis, RequestId};
use meridian_wire::client::{Defaults, REQUEST_ID, SESSION};
use meridian_wire::v1::admin_server::AdminServer;
use meridian_wire::v1::kv_server::KvServer;
use tokio::net::TcpListener;
use tonic::metadata::MetadataMap;

use crate::doors::DoorError;
use crate::front::Front;
use crate::listener::Hall;
use crate::{clock, http};

/// The deadline's own metadata, as gRPC names it.
const TIMEOUT: &str = "grpc-timeout";
/// The share of a deadline, and the most, that is kept for the way back: an answer that says how
/// many replicas acknowledged is worth more than the client's own timeout.
const WAY_BACK_SHARE: u32 = 10;
/// See [`WAY_BACK_SHARE`].
const WAY_BACK_MOST: Duration = Duration::from_millis(500);

/// Tells clients of `grpc.health.v1` that the door closes.
pub(crate) struct HealthReporter(tonic_health::server::HealthReporter);

const SERVICES: [&str; 3] = ["", "meridian.v1.Kv", "meridian.v1.Admin"];

impl HealthReporter {
    pub(crate) async fn not_serving(&self) {
        for service in SERVICES {
            self.0.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
        }
    }
}

/// The services behind this door.
struct Desk<S> {
    front: Front<S>,
}

impl<S: Service> Desk<S> {
    fn defaults(&self) -> Defaults {
        let now: Millis = clock::now();
        let options = &self.front.options;
        Defaults {
            consistency: options.default_consistency,
            page_rows: options.limits.default_page_rows,
            now,
        }
    }
}

fn request_id(metadata: &MetadataMap) -> Result<Option<RequestId>, tonic::Status> {
    let Some(text) = metadata.get(REQUEST_ID) else { return Ok(None) };
    let parsed = text.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| {
        tonic::Status::invalid_argument(format!("{REQUEST_ID}: a UUID is needed; not_applied"))
    })
}

/// The session that a request is part of.
fn session(metadata: &MetadataMap) -> Result<Option<Vec<Bytes>>, tonic::Status> {
    let mut tokens = None;
    for value in metadata.get_all_bin(SESSION) {
        let token = value.to_bytes().map_err(|_not_base64| {
            tonic::Status::invalid_argument(format!("{SESSION}: not base64; not_applied"))
        })?;
        let tokens = tokens.get_or_insert_with(Vec::new);
        if !token.is_empty() {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

/// The time that a deadline leaves for the service.
fn timeout(metadata: &MetadataMap) -> Result<Option<Duration>, tonic::Status> {
    let Some(text) = metadata.get(TIMEOUT) else { return Ok(None) };
    let parsed = text.to_str().ok().and_then(parse_timeout);
    let timeout = parsed.ok_or_else(|| {
        tonic::Status::invalid_argument(format!("{TIMEOUT}: not as gRPC has it; not_applied"))
    })?;
    Ok(Some(timeout - (timeout / WAY_BACK_SHARE).min(WAY_BACK_MOST)))
}

/// At most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3_600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

pub(crate) async fn open<S: Service>(
    hall: &Hall,
    listener: TcpListener,
    front: Front<S>,
) -> Result<HealthReporter, DoorError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in SERVICES {
        reporter.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let limits = *front.limits();
    let bytes = limits.request_bytes;
    let kv = KvServer::new(Desk { front: front.clone() })
        .max_decoding_message_size(bytes)
        .max_encoding_message_size(usize::MAX);
    let admin = AdminServer::new(Desk { front: front.clone() }).max_decoding_message_size(bytes);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(meridian_wire::FILE_DESCRIPTOR_SET)
        .with_service_name("meridian.v1.Kv")
        .with_service_name("meridian.v1.Admin")
        .build_v1()?;
    let routes = tonic::service::Routes::new(kv)
        .add_service(admin)
        .add_service(reflection)
        .add_service(health)
        .prepare()
        .into_axum_router();
    let router = auth::protect(routes, front.options.password.clone(), limits);
    let inside = hall.clone();
    let welcome = move |stream, _| http::serve(stream, router.clone(), inside.clone(), limits);
    hall.open(listener, welcome, http::DOOR_FULL);
    Ok(HealthReporter(reporter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_and_leave_time_for_the_way_back() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "S", "5", "5s", "-5S", "123456789S", "5 S", "ü"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
        let mut metadata = MetadataMap::new();
        assert_eq!(timeout(&metadata).unwrap(), None);
        metadata.insert(TIMEOUT, "100m".parse().unwrap());
        assert_eq!(timeout(&metadata).unwrap(), Some(Duration::from_millis(90)));
        metadata.insert(TIMEOUT, "5S".parse().unwrap());
        assert_eq!(timeout(&metadata).unwrap(), Some(Duration::from_millis(4_500)));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_deadlines_are_read_or_refused(text in ".{0,12}") {
            let _ = parse_timeout(&text);
        }
    }
}
