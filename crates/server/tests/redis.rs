//! The RESP door in front of a table in memory: what Redis clients rely on.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: what is not as expected ends it, and the doors measure real time"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::fake::Fake;
use common::resp::{Client, Frame, bulk, ok};
use common::{everywhere, open};
use meridian_server::{DoorLimits, DoorsOptions, Password};
use meridian_service::{CallContext, Outcome, Request, RequestError, Service};
use meridian_types::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

async fn client(options: DoorsOptions) -> (common::House, Client) {
    let house = open(Arc::new(Fake::default()), options).await;
    let client = Client::connect(house.at.resp.unwrap()).await;
    (house, client)
}

#[tokio::test]
async fn values_come_and_go() {
    let (house, mut redis) = client(everywhere()).await;
    assert_eq!(redis.tell("GET a").await, Frame::Null);
    assert_eq!(redis.tell("SET a 1").await, ok());
    assert_eq!(redis.tell("GET a").await, bulk("1"));
    assert_eq!(redis.tell("STRLEN a").await, Frame::Integer(1));
    assert_eq!(redis.tell("TYPE a").await, Frame::SimpleString(b"string".to_vec()));
    assert_eq!(redis.tell("SET a 2 GET").await, bulk("1"));
    assert_eq!(redis.tell("SET a 3 NX").await, Frame::Null);
    assert_eq!(redis.tell("SETNX a 3").await, Frame::Integer(0));
    assert_eq!(redis.tell("SET a 3 XX").await, ok());
    assert_eq!(redis.tell("MSET b 2 c 3").await, ok());
    let values = vec![bulk("3"), bulk("2"), Frame::Null];
    assert_eq!(redis.tell("MGET a b x").await, Frame::Array(values));
    assert_eq!(redis.tell("EXISTS a a x").await, Frame::Integer(2));
    assert_eq!(redis.tell("DEL a a x").await, Frame::Integer(1));
    assert_eq!(redis.tell("UNLINK b").await, Frame::Integer(1));
    assert_eq!(redis.tell("GET a").await, Frame::Null);
    assert_eq!(redis.tell("QUIT").await, ok());
    assert_eq!(redis.next().await, None);
    house.doors.close().await;
}

#[tokio::test]
async fn expiries_are_kept() {
    let (_house, mut redis) = client(everywhere()).await;
    assert_eq!(redis.tell("TTL a").await, Frame::Integer(-2));
    assert_eq!(redis.tell("SET a 1").await, ok());
    assert_eq!(redis.tell("TTL a").await, Frame::Integer(-1));
    assert_eq!(redis.tell("PERSIST a").await, Frame::Integer(0));
    assert_eq!(redis.tell("EXPIREAT a 9999999999").await, Frame::Integer(1));
    assert_eq!(redis.tell("EXPIRETIME a").await, Frame::Integer(9_999_999_999));
    assert_eq!(redis.tell("PEXPIRETIME a").await, Frame::Integer(9_999_999_999_000));
    assert_eq!(redis.tell("EXPIREAT a 9999999998 GT").await, Frame::Integer(0));
    assert_eq!(redis.tell("EXPIREAT a 9999999998 LT").await, Frame::Integer(1));
    assert_eq!(redis.tell("EXPIREAT a 9999999999 NX").await, Frame::Integer(0));
    assert_eq!(redis.tell("SET a 2 KEEPTTL").await, ok());
    assert_eq!(redis.tell("EXPIRETIME a").await, Frame::Integer(9_999_999_998));
    assert_eq!(redis.tell("PERSIST a").await, Frame::Integer(1));
    assert_eq!(redis.tell("SETEX a 1000 3").await, ok());
    assert!(matches!(redis.tell("TTL a").await, Frame::Integer(990..=1000)));
    assert_eq!(redis.tell("EXPIRE a 0").await, Frame::Integer(1));
    assert_eq!(redis.tell("GET a").await, Frame::Null);
    assert_eq!(redis.tell("EXPIRE a 10").await, Frame::Integer(0));
    assert_eq!(redis.tell("SET a 1 PXAT 1").await, ok());
    assert_eq!(redis.tell("GET a").await, Frame::Null);
}

#[tokio::test]
async fn a_scan_shows_every_key_once() {
    let (_house, mut redis) = client(everywhere()).await;
    for n in 0..300 {
        assert_eq!(redis.tell(&format!("SET user:{n} x")).await, ok());
        assert_eq!(redis.tell(&format!("SET other:{n} x")).await, ok());
    }
    assert_eq!(redis.tell("DBSIZE").await, Frame::Integer(600));
    let (mut cursor, mut keys, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let page = redis.tell(&format!("SCAN {cursor} MATCH user:* COUNT 37")).await;
        let Frame::Array(parts) = page else { panic!("{page:?}") };
        let [Frame::BulkString(next), Frame::Array(page)] = &parts[..] else { panic!("{parts:?}") };
        keys.extend(page.iter().map(|key| format!("{key:?}")));
        cursor = String::from_utf8(next.clone()).unwrap();
        pages += 1;
        if cursor == "0" {
            break;
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), pages), (300, 9));
}

#[tokio::test]
async fn numbered_databases_appear_when_they_are_used() {
    let house = open(Arc::new(Fake::default()), everywhere()).await;
    let mut redis = Client::connect(house.at.resp.unwrap()).await;
    assert_eq!(redis.tell("SELECT 7").await, ok());
    assert_eq!(redis.tell("SET a 1").await, ok());
    assert_eq!(redis.tell("SELECT 0").await, ok());
    assert_eq!(redis.tell("GET a").await, Frame::Null);
    assert_eq!(redis.tell("SELECT redis.db7").await, ok());
    assert_eq!(redis.tell("GET a").await, bulk("1"));
    assert_eq!(redis.tell("SELECT redis.db9").await, ok());
    let error = redis.error("GET a").await;
    assert!(error.starts_with("NOTABLE MER-1004 not_applied: there is no table `redis.db9`"));

    let strict = DoorsOptions { resp_create_databases: false, ..everywhere() };
    let (_house, mut redis) = client(strict).await;
    assert!(redis.error("SET a 1").await.starts_with("NOTABLE MER-1004"));
}

#[tokio::test]
async fn siblings_are_an_error_that_names_the_other_doors() {
    let house = open(Arc::new(Fake::default()), everywhere()).await;
    let rest = house.at.rest.unwrap();
    let table = br#"{"name":"app.carts"}"#;
    let made = common::http::ask(rest, "POST", "/v1/keyspaces", &[], br#"{"name":"app"}"#).await;
    assert_eq!(made.status, 201);
    assert_eq!(common::http::ask(rest, "POST", "/v1/tables", &[], table).await.status, 201);
    let mut redis = Client::connect(house.at.resp.unwrap()).await;
    assert_eq!(redis.tell("SELECT app.carts").await, ok());
    assert_eq!(redis.tell("SET k milk").await, ok());
    assert_eq!(redis.tell("GET k").await, bulk("milk"));
    assert_eq!(redis.tell("SET k eggs").await, ok());
    let text = "SIBLINGS MER-1007 not_applied: the key has 2 concurrent values; read it through \
                REST, gRPC or `meridian get`, and write it with the context that comes with them";
    assert_eq!(redis.error("GET k").await, text);
    assert_eq!(redis.error("TTL k").await, text);
    assert_eq!(redis.error("MGET k").await, text);
    assert_eq!(redis.tell("EXISTS k").await, Frame::Integer(1));
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order() {
    let (_house, mut redis) = client(everywhere()).await;
    let (names, count) = (["a", "b", "c"], 2_000);
    let values: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let mut commands = Vec::new();
    for (n, value) in values.iter().enumerate() {
        let name = names[n % 3].as_bytes();
        commands.push(vec![&b"SET"[..], name, value.as_bytes()]);
        commands.push(vec![&b"GET"[..], name]);
    }
    redis.send(&commands).await;
    for value in &values {
        assert_eq!(redis.next().await, Some(ok()));
        assert_eq!(redis.next().await, Some(bulk(value)));
    }
}

/// Holds reads of the key `slow` back until it is told otherwise.
struct Slow {
    inside: Fake,
    waiting: AtomicUsize,
    arrived: Notify,
    go: Notify,
}

impl Service for Slow {
    async fn call(&self, _: CallContext, request: Request) -> Result<Outcome, RequestError> {
        if matches!(&request, Request::Get(get) if get.key == "slow") {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.arrived.notify_one();
            self.go.notified().await;
        }
        self.inside.serve(request)
    }
}

fn slow() -> Arc<Slow> {
    let (arrived, go) = (Notify::new(), Notify::new());
    Arc::new(Slow { inside: Fake::default(), waiting: AtomicUsize::new(0), arrived, go })
}

#[tokio::test]
async fn a_slow_command_does_not_hold_back_the_next_ones_but_their_answers() {
    let service = slow();
    let house = open(service.clone(), everywhere()).await;
    let mut redis = Client::connect(house.at.resp.unwrap()).await;
    let mut other = Client::connect(house.at.resp.unwrap()).await;
    assert_eq!(redis.tell("SET slow before").await, ok());
    let get = vec![&b"GET"[..], b"slow"];
    let commands =
        [get.clone(), vec![b"SET", b"quick", b"1"], vec![b"SET", b"slow", b"after"], get.clone()];
    redis.send(&commands).await;
    service.arrived.notified().await;
    // The write to another key is done while the first read waits; the one to its key is not.
    while other.tell("GET quick").await == Frame::Null {}
    let rest = house.at.rest.unwrap();
    let slow = async || {
        let kept = "/v1/kv/redis/db0?values=true&prefix=slow";
        common::http::ask(rest, "GET", kept, &[], b"").await.json()["rows"][0]["values"][0].clone()
    };
    assert_eq!(slow().await["value"], "before");
    service.go.notify_one();
    assert_eq!(redis.next().await, Some(bulk("before")));
    assert_eq!(redis.next().await, Some(ok()));
    assert_eq!(redis.next().await, Some(ok()));
    service.arrived.notified().await;
    service.go.notify_one();
    assert_eq!(redis.next().await, Some(bulk("after")));
    assert_eq!(service.waiting.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn closing_answers_what_runs() {
    let service = slow();
    let house = open(service.clone(), everywhere()).await;
    let (mut busy, mut idle) = (
        Client::connect(house.at.resp.unwrap()).await,
        Client::connect(house.at.resp.unwrap()).await,
    );
    assert_eq!(idle.tell("PING").await, Frame::SimpleString(b"PONG".to_vec()));
    busy.send(&[vec![b"GET", b"slow"]]).await;
    service.arrived.notified().await;
    let closing = tokio::spawn(house.doors.close());
    assert_eq!(idle.next().await, None, "a connection without a request is closed at once");
    assert!(!closing.is_finished());
    service.go.notify_one();
    assert_eq!(busy.next().await, Some(Frame::Null));
    assert_eq!(busy.next().await, None);
    closing.await.unwrap();
    assert!(tokio::net::TcpStream::connect(house.at.resp.unwrap()).await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_its_write_along() {
    let service = slow();
    let house = open(service.clone(), everywhere()).await;
    let mut redis = Client::connect(house.at.resp.unwrap()).await;
    // SET ... GET reads first, so the write is still to come when the client leaves.
    redis.send(&[vec![b"SET", b"slow", b"kept", b"GET"]]).await;
    service.arrived.notified().await;
    // Not a goodbye but a broken connection.
    redis.stream.set_zero_linger().unwrap();
    drop(redis);
    ping(&house).await;
    service.go.notify_one();
    let mut other = Client::connect(house.at.resp.unwrap()).await;
    while other.tell("EXISTS slow").await == Frame::Integer(0) {}
}

/// A round trip of another client.
async fn ping(house: &common::House) {
    let mut other = Client::connect(house.at.resp.unwrap()).await;
    assert_eq!(other.tell("PING").await, Frame::SimpleString(b"PONG".to_vec()));
}

#[tokio::test]
async fn the_reason_is_read_although_the_value_is_still_on_its_way() {
    let (_house, mut redis) = client(everywhere()).await;
    redis.send(&[vec![b"SET", b"a", &vec![b'x'; (8 << 20) + 1]]]).await;
    let text =
        "ERR MER-1002 not_applied: an argument has 8388609 bytes; at most 8388608 are allowed";
    assert_eq!(redis.next().await, Some(Frame::Error(text.into())));
    assert_eq!(redis.next().await, None);
}

#[tokio::test]
async fn a_client_that_only_listens_is_still_answered() {
    let service = slow();
    let house = open(service.clone(), everywhere()).await;
    let mut redis = Client::connect(house.at.resp.unwrap()).await;
    redis.send(&[vec![b"GET", b"slow"], vec![b"SET", b"a", b"1"], vec![b"GET", b"a"]]).await;
    redis.stream.shutdown().await.unwrap();
    service.arrived.notified().await;
    // Behind the end of the stream in the kernel's order, so the door has seen that as well.
    ping(&house).await;
    service.go.notify_one();
    for expected in [Frame::Null, ok(), bulk("1")] {
        assert_eq!(redis.next().await, Some(expected));
    }
    assert_eq!(redis.next().await, None);
}

#[tokio::test]
async fn what_breaks_a_limit_is_named_and_changes_nothing() {
    let limits = DoorLimits {
        data: Limits { value_bytes: 10, key_bytes: 5, batch_keys: 3, page_rows: 10 },
        request_bytes: 200,
        inline_bytes: 64,
        ..DoorLimits::DEFAULT
    };
    let (house, mut redis) = client(DoorsOptions { limits, ..everywhere() }).await;
    let text = "ERR MER-1002 not_applied: the key has 6 bytes; at most 5 are allowed";
    assert_eq!(redis.error("SET 123456 x").await, text);
    assert!(redis.error("MSET a 1 123456 2").await.starts_with(text));
    assert!(redis.error("DEL a 123456").await.starts_with(text));
    let text = "ERR MER-1001 not_applied: keys: 4 in one request; 1 to 3 are allowed";
    assert_eq!(redis.error("MGET a b c d").await, text);
    assert_eq!(redis.tell("DBSIZE").await, Frame::Integer(0), "nothing was written");

    redis.send(&[vec![b"SET", b"a", b"12345678901"], vec![b"PING"]]).await;
    let text = "ERR MER-1002 not_applied: an argument has 11 bytes; at most 10 are allowed";
    assert_eq!(redis.next().await, Some(Frame::Error(text.into())));
    assert_eq!(redis.next().await, None, "the connection is closed");

    let mut redis = Client::connect(house.at.resp.unwrap()).await;
    redis.stream.write_all(b"PING\r\n*1\r\n!").await.unwrap();
    assert_eq!(redis.next().await, Some(Frame::SimpleString(b"PONG".to_vec())));
    let text = "ERR Protocol error: expected '$', got '!'";
    assert_eq!(redis.next().await, Some(Frame::Error(text.into())));
    assert_eq!(redis.next().await, None);
    while house.metrics.door(meridian_telemetry::Door::Resp).malformed.get() < 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn strangers_get_little() {
    let password = Some(Password::new("secret".into()));
    let (house, mut redis) = client(DoorsOptions { password, ..everywhere() }).await;
    assert_eq!(redis.error("GET a").await, "NOAUTH Authentication required.");
    // What follows the password in the same packet is read as from somebody inside.
    let big = vec![b'x'; 100_000];
    redis.send(&[vec![b"AUTH", b"secret"], vec![b"SET", b"a", &big], vec![b"STRLEN", b"a"]]).await;
    assert_eq!(redis.next().await, Some(ok()));
    assert_eq!(redis.next().await, Some(ok()));
    assert_eq!(redis.next().await, Some(Frame::Integer(100_000)));
    let mut stranger = Client::connect(house.at.resp.unwrap()).await;
    stranger.send(&[vec![b"SET", b"a", &big]]).await;
    let Some(Frame::Error(text)) = stranger.next().await else { panic!("no error") };
    assert!(text.contains("at most 16384 are allowed"), "{text}");
}

#[tokio::test]
async fn a_full_door_says_so() {
    let limits = DoorLimits { connections: 2, ..DoorLimits::DEFAULT };
    let (house, mut first) = client(DoorsOptions { limits, ..everywhere() }).await;
    let mut second = Client::connect(house.at.resp.unwrap()).await;
    let pong = Frame::SimpleString(b"PONG".to_vec());
    assert_eq!(first.tell("PING").await, pong);
    assert_eq!(second.tell("PING").await, pong);
    let mut third = Client::connect(house.at.resp.unwrap()).await;
    let text = "ERR max number of clients reached";
    assert_eq!(third.next().await, Some(Frame::Error(text.into())));
    assert_eq!(third.next().await, None);
    assert_eq!(first.tell("QUIT").await, ok());
    // The place is free once the connection's task has ended.
    loop {
        let mut again = Client::connect(house.at.resp.unwrap()).await;
        again.send(&[vec![b"PING"]]).await;
        if again.next().await == Some(pong.clone()) {
            break;
        }
    }
}

#[tokio::test]
async fn answers_can_be_left_out() {
    let (_house, mut redis) = client(everywhere()).await;
    let line = |line: &'static str| line.split(' ').map(str::as_bytes).collect::<Vec<_>>();
    redis
        .send(&[
            line("CLIENT REPLY SKIP"),
            line("SET a 1"),
            line("GET a"),
            line("CLIENT REPLY OFF"),
            line("SET a 2"),
            line("NOSUCH"),
            line("CLIENT REPLY ON"),
            line("GET a"),
        ])
        .await;
    for expected in [bulk("1"), ok(), bulk("2")] {
        assert_eq!(redis.next().await, Some(expected));
    }
}

#[tokio::test]
async fn a_dialect_is_chosen_and_commands_may_be_typed() {
    let (house, _) = client(everywhere()).await;
    let mut stream = tokio::net::TcpStream::connect(house.at.resp.unwrap()).await.unwrap();
    stream.write_all(b"GET x\r\nHELLO 3\r\nGET x\r\nQUIT\r\n").await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert!(answers.starts_with("$-1\r\n%7\r\n$6\r\nserver\r\n$8\r\nmeridian\r\n"), "{answers}");
    assert!(answers.ends_with("_\r\n+OK\r\n"), "{answers}");
}
