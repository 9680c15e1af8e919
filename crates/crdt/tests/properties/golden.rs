//! The bytes that are on disks and in clients' hands: a change here is a change of format.
//!
//! Explained byte by byte in `docs/formats/rows.md`, with these same examples.

use bytes::Bytes;
use meridian_crdt::{
    Actor, Context, ContextToken, Delta, Dot, Entry, Row, Session, SessionToken, TokenKey,
    TokenScope, VnodeClock,
};
use meridian_types::{Hlc, Incarnation, KeyspaceId, Millis, NodeId, TableId, VnodeId};

/// Node 300, so that its number takes two bytes.
fn dot(counter: u64) -> Dot {
    let incarnation = Incarnation(0x0123_4567_89ab_cdef);
    Dot::new(Actor { node: NodeId(300), incarnation }, counter)
}

fn other_dot(counter: u64) -> Dot {
    Dot::new(Actor { node: NodeId(2), incarnation: Incarnation(0xff) }, counter)
}

fn entry(counter: u64, value: Option<&'static str>) -> Entry {
    Entry {
        dot: dot(counter),
        stamp: Hlc::new(Millis(1_790_000_000_000), 5),
        expires: None,
        value: value.map(|text| Bytes::from_static(text.as_bytes())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn row_is(row: &Row, expected: &[&str]) {
    assert_eq!(hex(&row.to_bytes()), expected.concat());
    assert_eq!(Row::from_bytes(&row.to_bytes().into()).as_ref(), Ok(row));
}

/// Node 300, incarnation 0x0123456789abcdef.
const ACTOR: &str = "ac020123456789abcdef";
/// Node 2, incarnation 0xff.
const OTHER: &str = "0200000000000000ff";
/// 1,790,000,000,000 ms and 5.
const STAMP: &str = "01a0c4506c000005";

#[test]
fn clocks_contexts_and_sets() {
    let mut clock = VnodeClock::default();
    for counter in [1, 2, 3, 4, 7, 9, 10] {
        clock.insert(dot(counter));
    }
    clock.insert(other_dot(200));
    // Ranges 200; then 1 to 4, 7, 9 to 10: distance from the lowest possible, length less one.
    let expected = ["01", "02", OTHER, "01", "c70100", ACTOR, "03", "0003", "0100", "0001"];
    assert_eq!(hex(&clock.to_bytes()), expected.concat());
    assert_eq!(hex(&clock.to_context().to_bytes()), expected.concat());
    assert_eq!(hex(&clock.dots().to_bytes()), expected.concat());
    assert_eq!(VnodeClock::from_bytes(&clock.to_bytes()), Ok(clock.clone()));
    assert_eq!(format!("{:032x}", clock.digest()), "d0652c38708e187f5149f0a88906bb03");
    assert_eq!(hex(&VnodeClock::default().to_bytes()), "0100");
}

#[test]
fn rows() {
    let nothing = Context::default;
    row_is(&Row::default(), &["01", "00"]);
    let plain = Row::new([entry(1, Some("value"))], nothing());
    row_is(&plain, &["11", ACTOR, "01", STAMP, "76616c7565"]);
    assert_eq!(format!("{:032x}", plain.digest()), "73f10ace543be9d98a988e5ad734cd80");

    let expires = Some(Millis(1_790_000_060_000));
    let expiring = Row::new([Entry { expires, ..entry(1, Some("value")) }], nothing());
    row_is(&expiring, &["91", ACTOR, "01", STAMP, "e0acc5a28c34", "76616c7565"]);

    let seen: Context = [dot(2)].into_iter().collect();
    let deleted = Row::new([entry(3, None)], seen.clone());
    row_is(&deleted, &["71", "01", ACTOR, "01", "0100", ACTOR, "03", STAMP]);
    row_is(&Row::new([], seen), &["21", "01", ACTOR, "01", "0100", "00"]);

    let siblings = Row::new([entry(3, None), entry(2, Some("v"))], nothing());
    let first = ["00", ACTOR, "02", STAMP, "01", "76"].concat();
    row_is(&siblings, &["01", "02", &first, "01", ACTOR, "03", STAMP, "00"]);
    assert_eq!(format!("{:032x}", siblings.digest()), "666f029b26360adc8ad2940b50727402");
    assert_eq!(format!("{:032x}", Row::default().digest()), "0".repeat(32));
}

#[test]
fn deltas() {
    let delta = Delta { entry: entry(2, Some("new")), context: [dot(1)].into_iter().collect() };
    let expected = ["31", "01", ACTOR, "01", "0000", ACTOR, "02", STAMP, "6e6577"];
    assert_eq!(hex(&delta.to_bytes()), expected.concat());
    assert_eq!(Delta::from_bytes(&delta.to_bytes().into()), Ok(delta));
}

#[test]
fn tokens() {
    let key = TokenKey::derive(b"golden");
    let scope = TokenScope { table: TableId(300), key: b"key" };
    let context: Context = [dot(1)].into_iter().collect();
    let token = ContextToken::seal(&key, scope, &context);
    let signed = ["01", "ac02", "bbea0d63a05165e3", "01", ACTOR, "01", "0000"].concat();
    let code = "6f086ba0c7a230c1a1227df15ef3507a";
    assert_eq!(hex(token.as_bytes()), [signed.as_str(), code].concat());
    assert_eq!(ContextToken::open(&key, scope, token.as_bytes()), Ok(context));
}

#[test]
fn sessions() {
    let key = TokenKey::derive(b"golden");
    let mut session = Session::default();
    session.note(KeyspaceId(3), VnodeId(3), [dot(1)], None);
    session.note(KeyspaceId(1), VnodeId(7), [dot(1), dot(2), other_dot(200)], None);
    let token = SessionToken::seal(&key, &session);
    // Two actors; the last vnode first: twice the count of its actors, each by its place above.
    let newest = ["01", "07", "04", "00", "01", "c70100", "01", "01", "0001"].concat();
    let oldest = ["03", "03", "02", "01", "01", "0000"].concat();
    let signed = ["01", "02", OTHER, ACTOR, "02", &newest, &oldest, "00"].concat();
    let code = "d177abb81015ecd701f4a67192dbfa07";
    assert_eq!(hex(token.as_bytes()), [signed.as_str(), code].concat());
    assert_eq!(SessionToken::open(&key, token.as_bytes()), Ok(session));
}
