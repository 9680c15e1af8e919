//! What the doors do besides requests: passwords, limits, health, metrics, who may be let in.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: what is not as expected ends it, and the doors measure real time"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::fake::Fake;
use common::http::{ask, raw};
use common::{everywhere, open};
use meridian_server::{Check, DoorError, DoorLimits, Doors, DoorsOptions, Health, Password};
use meridian_service::{CallContext, Outcome, Request, RequestError, Service};
use meridian_telemetry::Metrics;
use meridian_wire::client::error_of;
use meridian_wire::v1;
use parking_lot::Mutex;
use tonic::metadata::MetadataValue;

type Kv = v1::kv_client::KvClient<tonic::transport::Channel>;

async fn channel(at: std::net::SocketAddr) -> tonic::transport::Channel {
    let endpoint = tonic::transport::Endpoint::new(format!("http://{at}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// Takes down what comes with a request.
#[derive(Default)]
struct Listening(Mutex<Vec<CallContext>>);

impl Service for Listening {
    async fn call(&self, context: CallContext, _: Request) -> Result<Outcome, RequestError> {
        self.0.lock().push(context);
        Ok(Outcome::Tables { keyspaces: Vec::new(), tables: Vec::new() })
    }
}

const ID: &str = "0192d3a4-0000-7000-8000-000000000001";

#[tokio::test]
async fn ids_and_deadlines_are_handed_on() {
    let service = Arc::new(Listening::default());
    let house = open(service.clone(), everywhere()).await;
    let rest = house.at.rest.unwrap();
    let with_id = [("meridian-request-id", ID)];
    let answer = ask(rest, "GET", "/v1/tables?timeout=250ms", &with_id, b"").await;
    assert_eq!((answer.status, answer.header("meridian-request-id")), (200, Some(ID)));
    let answer = ask(rest, "GET", "/v1/tables?timeout=7d", &[], b"").await;
    assert!(answer.header("meridian-request-id").is_some_and(|id| id != ID));

    let mut admin = v1::admin_client::AdminClient::new(channel(house.at.grpc.unwrap()).await);
    let mut request = tonic::Request::new(v1::ListTablesRequest {});
    request.set_timeout(Duration::from_millis(100));
    request.metadata_mut().insert("meridian-request-id", MetadataValue::from_static(ID));
    let answer = admin.list_tables(request).await.unwrap();
    assert_eq!(answer.metadata().get("meridian-request-id").unwrap(), ID);

    let taken = service.0.lock().clone();
    let timeouts: Vec<_> = taken.iter().map(|context| context.timeout).collect();
    let limits = DoorLimits::DEFAULT;
    // gRPC's deadline leaves a tenth for the way back.
    let expected = [Duration::from_millis(250), limits.max_timeout, Duration::from_millis(90)];
    assert_eq!(timeouts, expected);
    assert_eq!((taken[0].id.to_string(), taken[2].id.to_string()), (ID.into(), ID.into()));
}

#[tokio::test]
async fn bad_requests_are_named_and_ask_nothing() {
    let service = Arc::new(Listening::default());
    let house = open(service.clone(), everywhere()).await;
    let rest = house.at.rest.unwrap();
    let long = format!("/v1/kv/geo/cities/{}", "x".repeat(5_000));
    for (method, path, headers, body, status, code, word) in [
        (
            "GET",
            "/v1/kv/geo/cities/k?consistency=SOME",
            &[][..],
            "",
            400,
            "MER-1001",
            "EACH_QUORUM",
        ),
        ("GET", "/v1/kv/geo/cities/k?timeout=5", &[], "", 400, "MER-1001", "500ms"),
        ("GET", "/v1/kv/geo/cities/k?level=ONE", &[], "", 400, "MER-1001", "level"),
        ("GET", "/v1/kv/geo/Cities/k", &[], "", 400, "MER-1001", "Cities"),
        ("GET", "/v1/kv/geo/cities/%zz", &[], "", 400, "MER-1001", "hexadecimal"),
        ("GET", &long, &[], "", 400, "MER-1002", "at most 4096"),
        ("GET", "/v1/kv/geo/cities?limit=0", &[], "", 400, "MER-1001", "limit"),
        ("GET", "/v1/kv/geo/cities?limit=10001", &[], "", 400, "MER-1001", "10000"),
        ("GET", "/v1/kv/geo/cities?cursor=*", &[], "", 400, "MER-1001", "cursor"),
        (
            "PUT",
            "/v1/kv/geo/cities/k",
            &[("meridian-context", "*")],
            "",
            400,
            "MER-1001",
            "Context",
        ),
        ("PUT", "/v1/kv/geo/cities/k", &[("if-match", "\"5\"")], "", 400, "MER-1001", "only *"),
        ("PUT", "/v1/kv/geo/cities/k", &[("idempotency-key", "x")], "", 400, "MER-1001", "UUID"),
        ("PUT", "/v1/kv/geo/cities/k?ttl=1s&expires=5", &[], "", 400, "MER-1001", "ttl"),
        ("GET", "/v1/tables", &[("meridian-request-id", "x")], "", 400, "MER-1001", "request id"),
        ("POST", "/v1/kv/geo/cities:mget", &[], "{\"keys\":1}", 400, "MER-0002", "expected"),
        ("POST", "/v1/kv/geo/cities:mget", &[], "{\"keys\":[]}", 400, "MER-1001", "0 in one"),
        ("POST", "/v1/kv/geo/cities:nope", &[], "", 404, "MER-0004", ":mget"),
        (
            "POST",
            "/v1/tables",
            &[],
            "{\"name\":\"a.b\",\"options\":{\"x\":1}}",
            400,
            "MER-0002",
            "x",
        ),
        ("POST", "/v1/tables", &[], "{\"name\":\"ab\"}", 400, "MER-1001", "keyspace.table"),
        ("GET", "/nope", &[], "", 404, "MER-0004", "/nope"),
        ("PATCH", "/v1/tables", &[], "", 405, "MER-0004", "method"),
    ] {
        let answer = ask(rest, method, path, headers, body.as_bytes()).await;
        let problem = answer.json();
        assert_eq!(answer.status, status, "{path}: {problem}");
        assert_eq!(problem["code"], code, "{path}: {problem}");
        assert_eq!(problem["effect"], "not_applied");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}: {problem}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let mut kv = Kv::new(channel(house.at.grpc.unwrap()).await);
    let bad = v1::GetRequest { table: "cities".into(), ..Default::default() };
    let status = kv.get(bad).await.unwrap_err();
    let Some(RequestError::InvalidArgument { what: "table", .. }) = error_of(&status) else {
        panic!("{status:?}")
    };
    assert!(service.0.lock().is_empty(), "nothing was asked");
}

#[tokio::test]
async fn requests_of_too_many_bytes_are_refused() {
    let limits = DoorLimits { request_bytes: 1_000, ..DoorLimits::DEFAULT };
    let house = open(Arc::new(Fake::default()), DoorsOptions { limits, ..everywhere() }).await;
    let rest = house.at.rest.unwrap();
    let answer = ask(rest, "PUT", "/v1/kv/geo/cities/k", &[], &[b'x'; 1_001]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("MER-0003")));
    let mut kv = Kv::new(channel(house.at.grpc.unwrap()).await);
    let item = v1::Write { value: Some(vec![b'x'; 1_001].into()), ..Default::default() };
    let table = "geo.cities".to_owned();
    let put = v1::PutRequest { table, item: Some(item), ..Default::default() };
    assert_eq!(kv.put(put).await.unwrap_err().code(), tonic::Code::OutOfRange);
    let head = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(200_000));
    assert!(matches!(raw(rest, head.as_bytes()).await.status, 414 | 431));
}

#[tokio::test]
async fn a_password_is_asked_for_at_every_door() {
    let password = Some(Password::new("secret".into()));
    let house = open(Arc::new(Fake::default()), DoorsOptions { password, ..everywhere() }).await;
    let rest = house.at.rest.unwrap();
    let cases: [(&[(&str, &str)], u16); 4] = [
        (&[], 401),
        (&[("authorization", "Bearer wrong")], 401),
        (&[("authorization", "Basic secret")], 401),
        (&[("authorization", "Bearer secret")], 200),
    ];
    for (headers, status) in cases {
        for path in ["/v1/tables", "/metrics", "/health"] {
            assert_eq!(ask(rest, "GET", path, headers, b"").await.status, status, "{path}");
        }
    }
    assert_eq!(ask(rest, "GET", "/health/live", &[], b"").await.status, 200);

    let channel = channel(house.at.grpc.unwrap()).await;
    let mut admin = v1::admin_client::AdminClient::new(channel.clone());
    let refused = admin.list_tables(v1::ListTablesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let mut request = tonic::Request::new(v1::ListTablesRequest {});
    request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    assert!(admin.list_tables(request).await.is_ok());
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let check = tonic_health::pb::HealthCheckRequest { service: "meridian.v1.Kv".into() };
    assert_eq!(health.check(check).await.unwrap().into_inner().status, 1);
}

#[tokio::test]
async fn health_shows_the_worst_and_its_reason() {
    let house = open(Arc::new(Fake::default()), everywhere()).await;
    let rest = house.at.rest.unwrap();
    let answer = ask(rest, "GET", "/health", &[], b"").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ok")));
    *house.mood.0.lock() =
        Health { cluster: Check::degraded("eu-1 does not answer"), ..Health::ok() };
    let answer = ask(rest, "GET", "/health", &[], b"").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("degraded")));
    assert_eq!(answer.json()["cluster"]["reason"], "eu-1 does not answer");
    *house.mood.0.lock() = Health { data: Check::failed("sst-7 is corrupt"), ..Health::ok() };
    assert_eq!(ask(rest, "GET", "/health", &[], b"").await.status, 503);
    assert_eq!(ask(rest, "GET", "/health/live", &[], b"").await.status, 200);
}

#[tokio::test]
async fn requests_are_counted_by_operation_level_and_error() {
    let house = open(Arc::new(Fake::default()), everywhere()).await;
    let rest = house.at.rest.unwrap();
    ask(rest, "GET", "/v1/kv/no/table/k?consistency=ONE", &[], b"").await;
    ask(rest, "GET", "/v1/cluster", &[], b"").await;
    let answer = ask(rest, "GET", "/metrics", &[], b"").await;
    assert_eq!(answer.header("content-type"), Some(Metrics::CONTENT_TYPE));
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        "meridian_request_duration_seconds_count{operation=\"get\",consistency=\"one\"} 1",
        "meridian_request_errors_total{operation=\"get\",consistency=\"one\",error=\"unknown_table\"} 1",
        "meridian_request_duration_seconds_count{operation=\"admin\",consistency=\"none\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn levels_have_the_same_names_in_metrics() {
    for level in meridian_types::ConsistencyLevel::EVERY {
        let label = meridian_telemetry::Level::from_number(level as u8);
        assert_eq!(label.name(), level.name().to_lowercase());
    }
}

#[tokio::test]
async fn a_door_that_everybody_reaches_needs_a_password() {
    let public = Some(([0, 0, 0, 0], 0).into());
    let try_open = async |options: DoorsOptions| {
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Well));
        Doors::open(Arc::new(Fake::default()), metrics, health, options).await
    };
    let options = DoorsOptions { rest: public, ..DoorsOptions::default() };
    let refused = try_open(options.clone()).await;
    assert!(matches!(refused, Err(DoorError::Public { door: "rest", .. })));
    let said = DoorsOptions { allow_public_without_password: true, ..options.clone() };
    try_open(said).await.unwrap().close().await;
    let password = Some(Password::new("secret".into()));
    let doors = try_open(DoorsOptions { password, ..options }).await.unwrap();
    let taken = doors.addresses().rest.unwrap();
    let second = DoorsOptions {
        resp: Some(taken),
        allow_public_without_password: true,
        ..DoorsOptions::default()
    };
    assert!(matches!(try_open(second).await, Err(DoorError::Bind { door: "resp", .. })));
    let named = DoorsOptions { resp_keyspace: "Redis".into(), ..DoorsOptions::default() };
    assert!(matches!(try_open(named).await, Err(DoorError::Keyspace(_))));
    doors.close().await;
}

struct Well;

impl meridian_server::HealthSource for Well {
    fn health(&self) -> Health {
        Health::ok()
    }
}

#[tokio::test]
async fn contexts_replace_what_was_read_and_nothing_else() {
    let house = open(Arc::new(Fake::default()), everywhere()).await;
    let rest = house.at.rest.unwrap();
    ask(rest, "POST", "/v1/keyspaces", &[], br#"{"name":"app"}"#).await;
    ask(rest, "POST", "/v1/tables", &[], br#"{"name":"app.carts"}"#).await;
    let cart = "/v1/kv/app/carts/anna";
    for value in [&b"milk"[..], b"eggs"] {
        assert_eq!(ask(rest, "PUT", cart, &[], value).await.status, 204);
    }
    let both = ask(rest, "GET", cart, &[], b"").await;
    assert_eq!(both.status, 300);
    let context = both.header("meridian-context").unwrap();
    assert_eq!(ask(rest, "PUT", cart, &[], b"tea").await.status, 204);
    let merged = ask(rest, "PUT", cart, &[("meridian-context", context)], b"milk, eggs").await;
    assert_eq!(merged.status, 204);
    let json = ask(rest, "GET", cart, &[("accept", "application/json")], b"").await.json();
    let values: Vec<_> = json["values"].as_array().unwrap().iter().map(|v| &v["value"]).collect();
    assert_eq!(values, ["tea", "milk, eggs"]);
    let with_context = [("meridian-context", context)];
    let other = ask(rest, "PUT", "/v1/kv/app/carts/ben", &with_context, b"x").await;
    assert_eq!(other.json()["code"], "MER-1003");

    let tag = ask(rest, "PUT", "/v1/kv/app/carts/eva", &[], b"x").await;
    let tag = tag.header("etag").unwrap().to_owned();
    let known = ask(rest, "GET", "/v1/kv/app/carts/eva", &[("if-none-match", &tag)], b"").await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = ask(rest, "HEAD", "/v1/kv/app/carts/eva", &[], b"").await;
    assert_eq!((head.status, head.header("etag"), head.body.len()), (200, Some(&*tag), 0));
}

#[tokio::test]
async fn reflection_shows_the_clients_services() {
    use tokio_stream::StreamExt;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let house = open(Arc::new(Fake::default()), everywhere()).await;
    let mut client = ServerReflectionClient::new(channel(house.at.grpc.unwrap()).await);
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert_eq!(names, ["meridian.v1.Kv", "meridian.v1.Admin"]);
}

/// Waits with every request until it is told to go on, then serves it.
#[derive(Default)]
struct Held {
    inside: Fake,
    arrived: tokio::sync::Notify,
    go: tokio::sync::Notify,
}

impl Service for Held {
    async fn call(&self, _: CallContext, request: Request) -> Result<Outcome, RequestError> {
        if matches!(request, Request::CreateKeyspace(_)) {
            self.arrived.notify_one();
            self.go.notified().await;
        }
        self.inside.serve(request)
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_its_write_along() {
    use tokio::io::AsyncWriteExt;
    let service = Arc::new(Held::default());
    let house = open(service.clone(), everywhere()).await;
    let mut stream = tokio::net::TcpStream::connect(house.at.rest.unwrap()).await.unwrap();
    let body = r#"{"name":"app"}"#;
    let request = format!(
        "POST /v1/keyspaces HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    service.arrived.notified().await;
    drop(stream);
    let rest = meridian_telemetry::Door::Rest;
    while house.metrics.door(rest).connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    let closing = tokio::spawn(house.doors.close());
    tokio::task::yield_now().await;
    assert!(!closing.is_finished(), "the request still runs");
    service.go.notify_one();
    closing.await.unwrap();
    let made = service.inside.serve(Request::ListTables).unwrap();
    assert!(matches!(made, Outcome::Tables { keyspaces, .. } if keyspaces.len() == 1));
}
