//! What each command comes to.

use bytes::Bytes;
use meridian_service::{Condition, Expiry, Request};
use meridian_types::{ConsistencyLevel, Millis};

use super::*;
use crate::resp::action::{ExpiryShape, Shape, TouchRule, Work};
use crate::resp::reply::{Protocol, Reply};
use crate::resp::session::Answers;
use crate::{Password, clock};

struct Bench {
    session: Session,
    options: DoorsOptions,
    clients: Clients,
}

impl Bench {
    fn new(password: Option<&str>) -> Self {
        let password = password.map(|password| Password::new(password.to_owned()));
        let options = DoorsOptions { password, ..DoorsOptions::default() };
        let session = Session::new(1, &options).unwrap();
        Self { session, options, clients: Clients::default() }
    }

    fn tell(&mut self, line: &str) -> Understood {
        let words: Vec<_> =
            line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let (options, clients) = (&self.options, &self.clients);
        let mut desk = Desk { session: &mut self.session, options, clients };
        understand(&mut desk, Args::Words(&words))
    }

    fn work(&mut self, line: &str) -> Work {
        match self.tell(line) {
            Ok(Action::Run(work)) => work,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn reply(&mut self, line: &str) -> Reply {
        match self.tell(line) {
            Ok(Action::Reply(reply)) => reply,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn error(&mut self, line: &str) -> String {
        match self.tell(line) {
            Err(error) => error.to_string(),
            other => panic!("{line}: {other:?}"),
        }
    }
}

fn put(work: Work) -> (meridian_service::Put, Option<Shape>) {
    match work {
        Work::Ask(Request::Put(put), shape) => (put, Some(shape)),
        Work::Swap(put) => (put, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_table_is_in_order_and_says_what_it_holds() {
    assert!(COMMANDS.is_sorted_by_key(|command| command.name));
    for command in &COMMANDS {
        let found = table::find(command.name.to_uppercase().as_bytes()).unwrap();
        assert_eq!(found.name, command.name);
        let page = include_str!("../../../../../docs/redis.md");
        let name = command.name.to_uppercase();
        assert!(page.contains(&format!("`{name}")), "docs/redis.md does not name {name}");
    }
    assert!(table::find(b"nosuch").is_none() && table::find(&[b'x'; 100]).is_none());
}

#[test]
fn set_takes_its_options() {
    let mut bench = Bench::new(None);
    let before = clock::now();
    let (plain, shape) = put(bench.work("SET k v"));
    assert_eq!((plain.item.expiry, plain.condition), (Expiry::TableDefault, None));
    assert_eq!((plain.table.as_str(), shape), ("redis.db0", Some(Shape::Done)));
    assert_eq!(plain.consistency, ConsistencyLevel::LocalQuorum);
    let (timed, _) = put(bench.work("set k v px 5000 nx"));
    let Expiry::At(at) = timed.item.expiry else { panic!("no expiry") };
    assert!(at >= before.plus(5_000) && at <= clock::now().plus(5_000));
    assert_eq!(timed.condition, Some(Condition::Absent));
    let (at, shape) = put(bench.work("SET k v XX PXAT 12345"));
    assert_eq!((at.item.expiry, shape), (Expiry::At(Millis(12_345)), Some(Shape::DoneIf)));
    let (at, _) = put(bench.work("SET k v EXAT 12"));
    assert_eq!(at.item.expiry, Expiry::At(Millis(12_000)));
    let (kept, shape) = put(bench.work("SET k v KEEPTTL GET"));
    assert_eq!((kept.item.expiry, shape), (Expiry::Keep, None));
    for bad in
        ["SET k v EX", "SET k v EX 1 PX 1", "SET k v NX XX", "SET k v KEEPTTL EX 1", "SET k v W"]
    {
        assert_eq!(bench.error(bad), "ERR syntax error", "{bad}");
    }
    for bad in ["SET k v EX 0", "SET k v PX -5", "SET k v EX 9223372036854775807"] {
        assert_eq!(bench.error(bad), "ERR invalid expire time in 'set' command", "{bad}");
    }
    assert_eq!(bench.error("SET k v EX x"), "ERR value is not an integer or out of range");
    assert_eq!(bench.error("SETEX k 0 v"), "ERR invalid expire time in 'setex' command");
}

#[test]
fn many_keys_are_one_request() {
    let mut bench = Bench::new(None);
    let Work::Ask(Request::MultiGet(get), Shape::Values) = bench.work("MGET a b a") else {
        panic!("no multi-get")
    };
    assert_eq!(get.keys, ["a", "b", "a"]);
    let Work::Ask(Request::Batch(batch), Shape::AllDone) = bench.work("MSET a 1 b 2") else {
        panic!("no batch")
    };
    assert_eq!(batch.items[1].value.as_deref(), Some(&b"2"[..]));
    assert_eq!(bench.error("MSET a 1 b"), "ERR wrong number of arguments for 'mset' command");
    let Work::Delete { keys, .. } = bench.work("UNLINK a b") else { panic!("no delete") };
    assert_eq!(keys, ["a", "b"]);
}

#[test]
fn expiries_are_changed_and_told() {
    let mut bench = Bench::new(None);
    let Work::Ask(Request::Touch(touch), Shape::Existed) = bench.work("PEXPIREAT k 99999999999999")
    else {
        panic!("no touch")
    };
    assert_eq!(touch.expiry, Expiry::At(Millis(99_999_999_999_999)));
    assert!(matches!(bench.work("EXPIRE k -1"), Work::Delete { .. }));
    assert!(matches!(bench.work("EXPIREAT k 1"), Work::Delete { .. }));
    assert!(matches!(bench.work("EXPIRE k 10 GT"), Work::TouchIf(_, TouchRule::Later)));
    assert_eq!(bench.error("EXPIRE k 10 ZZ"), "ERR Unsupported option ZZ");
    let text = "ERR invalid expire time in 'expire' command";
    assert_eq!(bench.error("EXPIRE k 9223372036854775807"), text);
    let shape = Shape::Expiry(ExpiryShape::AtMillis);
    assert!(matches!(bench.work("PEXPIRETIME k"), Work::Ask(Request::Get(_), s) if s == shape));
    assert!(matches!(bench.work("PERSIST k"), Work::Ask(Request::Touch(_), Shape::Changed)));
}

#[test]
fn a_scan_takes_a_numeric_cursor() {
    let mut bench = Bench::new(None);
    let Work::Scan(scan, filter) = bench.work("SCAN 258 MATCH user:* COUNT 7") else { panic!() };
    assert_eq!(scan.cursor.as_deref(), Some(&[0, 0, 0, 0, 0, 0, 1, 2][..]));
    assert_eq!((scan.limit, scan.prefix.as_ref()), (7, &b"user:"[..]));
    assert_eq!(filter.pattern.as_deref(), Some(&b"user:*"[..]));
    let Work::Scan(scan, filter) = bench.work("SCAN 0 TYPE list") else { panic!() };
    assert!(scan.cursor.is_none() && filter.nothing);
    let largest = u64::MAX.to_string();
    assert!(matches!(bench.work(&format!("SCAN {largest}")), Work::Scan(..)));
    assert_eq!(bench.error("SCAN x"), "ERR invalid cursor");
    assert_eq!(bench.error("SCAN 0 COUNT 0"), "ERR syntax error");
    assert_eq!(bench.error("SCAN 0 MATCH"), "ERR syntax error");
}

#[test]
fn a_connection_chooses() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.reply("CONSISTENCY"), Reply::word("LOCAL_QUORUM"));
    assert_eq!(bench.reply("CONSISTENCY each-quorum"), Reply::OK);
    assert_eq!(bench.session.level, ConsistencyLevel::EachQuorum);
    assert!(bench.error("CONSISTENCY SOME").starts_with("ERR `SOME` is no consistency level"));
    assert_eq!(bench.reply("SELECT 3"), Reply::OK);
    assert_eq!((bench.session.table.as_str(), bench.session.database), ("redis.db3", Some(3)));
    assert_eq!(bench.error("SELECT 16"), "ERR DB index is out of range");
    assert_eq!(bench.error("SELECT -1"), "ERR DB index is out of range");
    assert_eq!(bench.reply("SELECT geo.cities"), Reply::OK);
    assert_eq!((bench.session.table.as_str(), bench.session.database), ("geo.cities", None));
    assert!(bench.error("SELECT geo.C").starts_with("ERR the table name `C`"));
    assert_eq!(bench.reply("CLIENT SETNAME me"), Reply::OK);
    assert_eq!(bench.reply("CLIENT GETNAME"), Reply::Text("me".into()));
    assert_eq!(bench.reply("CLIENT REPLY OFF"), Reply::Silence);
    assert_eq!(bench.session.answers, Answers::Off);
    assert_eq!(bench.reply("CLIENT REPLY ON"), Reply::OK);
    assert!(matches!(bench.reply("HELLO 3"), Reply::Map(_)));
    assert_eq!(bench.session.protocol, Protocol::Resp3);
    assert_eq!(bench.error("HELLO 4"), "NOPROTO unsupported protocol version");
    assert_eq!(bench.reply("RESET"), Reply::Simple("RESET"));
    assert_eq!(bench.session.protocol, Protocol::Resp2);
    assert_eq!(bench.session.table.as_str(), "redis.db0");
    assert!(matches!(bench.tell("QUIT"), Ok(Action::Quit)));
}

#[test]
fn nothing_is_done_before_the_password() {
    let mut bench = Bench::new(Some("secret"));
    for line in ["GET k", "SET k v", "PING", "CONFIG GET *", "CLIENT LIST", "COMMAND", "INFO"] {
        assert_eq!(bench.error(line), "NOAUTH Authentication required.", "{line}");
    }
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(bench.error("AUTH wrong"), wrong);
    assert_eq!(bench.error("AUTH someone secret"), wrong);
    assert!(bench.error("HELLO 3").starts_with("NOAUTH HELLO must be called"));
    assert_eq!(bench.error("HELLO 3 AUTH default wrong"), wrong);
    assert_eq!(bench.session.protocol, Protocol::Resp2, "a refused HELLO changes nothing");
    assert!(matches!(bench.reply("HELLO 3 AUTH default secret SETNAME me"), Reply::Map(_)));
    assert_eq!(bench.session.name, "me");
    bench.work("GET k");
    assert_eq!(bench.reply("RESET"), Reply::Simple("RESET"));
    assert_eq!(bench.error("GET k"), "NOAUTH Authentication required.");
    assert_eq!(bench.reply("AUTH default secret"), Reply::OK);
    let mut open = Bench::new(None);
    assert!(open.error("AUTH x").starts_with("ERR AUTH <password> called without any password"));
}

#[test]
fn unknown_words_are_repeated_but_not_at_length() {
    let mut bench = Bench::new(None);
    let text = "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' ";
    assert_eq!(bench.error("NOSUCH a b"), text);
    assert!(bench.error(&format!("NOSUCH {}", "x".repeat(5_000))).len() < 300);
    assert_eq!(bench.error("GET"), "ERR wrong number of arguments for 'get' command");
    assert_eq!(bench.error("CLIENT NOPE"), "ERR unknown subcommand 'NOPE'. Try CLIENT HELP.");
    assert!(bench.error("FLUSHDB").starts_with("ERR a whole table is not deleted"));
    assert!(bench.error("CONFIG SET a b").starts_with("ERR settings are not changed"));
}

#[test]
fn tools_are_told_what_they_ask() {
    let mut bench = Bench::new(None);
    let Reply::Map(settings) = bench.reply("CONFIG GET save appendonly") else { panic!() };
    assert_eq!(settings.len(), 2);
    assert_eq!(bench.reply("COMMAND COUNT"), Reply::count(COMMANDS.len()));
    let Reply::Array(rows) = bench.reply("COMMAND INFO get nosuch") else { panic!() };
    assert!(matches!(rows[..], [Reply::Array(_), Reply::Null]));
    let Reply::Map(docs) = bench.reply("COMMAND DOCS get") else { panic!() };
    assert_eq!(docs.len(), 1);
}
