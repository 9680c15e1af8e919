//! Every reply is read by another implementation as it was meant.

use proptest::prelude::*;
use redis_protocol::resp2::decode::decode as decode2;
use redis_protocol::resp2::types::OwnedFrame as Frame2;
use redis_protocol::resp3::decode::complete::decode as decode3;
use redis_protocol::resp3::types::OwnedFrame as Frame3;

use super::*;

fn encoded(reply: &Reply, protocol: Protocol) -> Vec<u8> {
    let mut out = BytesMut::new();
    reply.encode(protocol, &mut out);
    out.to_vec()
}

#[test]
fn replies_are_written_as_redis_writes_them() {
    let map = Reply::Map(vec![(Reply::word("proto"), Reply::Integer(3))]);
    for (reply, resp2, resp3) in [
        (Reply::OK, "+OK\r\n", "+OK\r\n"),
        (Reply::Error("ERR x\r\ny".into()), "-ERR x  y\r\n", "-ERR x  y\r\n"),
        (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (Reply::Integer(0), ":0\r\n", ":0\r\n"),
        (Reply::word("ab"), "$2\r\nab\r\n", "$2\r\nab\r\n"),
        (Reply::Text(String::new()), "$0\r\n\r\n", "$0\r\n\r\n"),
        (Reply::Verbatim("ab".into()), "$2\r\nab\r\n", "=6\r\ntxt:ab\r\n"),
        (Reply::Null, "$-1\r\n", "_\r\n"),
        (Reply::Array(vec![Reply::Null]), "*1\r\n$-1\r\n", "*1\r\n_\r\n"),
        (Reply::Set(vec![Reply::Integer(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
        (map, "*2\r\n$5\r\nproto\r\n:3\r\n", "%1\r\n$5\r\nproto\r\n:3\r\n"),
        (Reply::Silence, "", ""),
    ] {
        assert_eq!(encoded(&reply, Protocol::Resp2), resp2.as_bytes(), "{reply:?}");
        assert_eq!(encoded(&reply, Protocol::Resp3), resp3.as_bytes(), "{reply:?}");
    }
}

fn reply() -> impl Strategy<Value = Reply> {
    let text = "[ -~äö]{0,12}";
    let leaf = prop_oneof![
        prop::sample::select(vec!["OK", "PONG"]).prop_map(Reply::Simple),
        text.prop_map(Reply::Error),
        any::<i64>().prop_map(Reply::Integer),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|value| Reply::Bulk(value.into())),
        text.prop_map(Reply::Text),
        text.prop_map(Reply::Verbatim),
        Just(Reply::Null),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let pair = (text.prop_map(Reply::Text), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Reply::Array),
            prop::collection::vec(pair, 0..4).prop_map(Reply::Map),
        ]
    })
}

fn in_resp2(reply: &Reply) -> Frame2 {
    match reply {
        Reply::Simple(word) => Frame2::SimpleString(word.as_bytes().to_vec()),
        Reply::Error(text) => Frame2::Error(text.clone()),
        Reply::Integer(n) => Frame2::Integer(*n),
        Reply::Bulk(value) => Frame2::BulkString(value.to_vec()),
        Reply::Text(text) | Reply::Verbatim(text) => Frame2::BulkString(text.clone().into_bytes()),
        Reply::Null => Frame2::Null,
        Reply::Array(items) | Reply::Set(items) => {
            Frame2::Array(items.iter().map(in_resp2).collect())
        }
        Reply::Map(pairs) => {
            Frame2::Array(pairs.iter().flat_map(|(k, v)| [in_resp2(k), in_resp2(v)]).collect())
        }
        Reply::Silence => unreachable!("is not generated"),
    }
}

/// How often each kind of frame occurs: the other one's maps have an order of their own.
fn kinds(reply: &Reply, frame: &Frame3) -> bool {
    match (reply, frame) {
        (Reply::Simple(word), Frame3::SimpleString { data, .. }) => word.as_bytes() == data,
        (Reply::Error(text), Frame3::SimpleError { data, .. }) => text == data,
        (Reply::Integer(n), Frame3::Number { data, .. }) => n == data,
        (Reply::Bulk(value), Frame3::BlobString { data, .. }) => value == data,
        (Reply::Text(text), Frame3::BlobString { data, .. })
        | (Reply::Verbatim(text), Frame3::VerbatimString { data, .. }) => text.as_bytes() == data,
        (Reply::Null, Frame3::Null) => true,
        (Reply::Array(items), Frame3::Array { data, .. }) => {
            items.len() == data.len() && items.iter().zip(data).all(|(a, b)| kinds(a, b))
        }
        // Two keys of one text are one entry on the other side.
        (Reply::Map(pairs), Frame3::Map { data, .. }) => data.len() <= pairs.len(),
        _ => false,
    }
}

proptest! {
    #[test]
    fn another_implementation_reads_what_was_meant(reply in reply()) {
        let bytes = encoded(&reply, Protocol::Resp2);
        let (frame, read) = decode2(&bytes).unwrap().unwrap();
        prop_assert_eq!(read, bytes.len());
        prop_assert_eq!(frame, in_resp2(&reply));
        let bytes = encoded(&reply, Protocol::Resp3);
        let (frame, read) = decode3(&bytes).unwrap().unwrap();
        prop_assert_eq!(read, bytes.len());
        prop_assert!(kinds(&reply, &frame), "{:?}", frame);
    }
}
