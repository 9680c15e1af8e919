//! Everything that nodes say comes back as it was, and nothing else is taken for it.

mod golden;
mod repair_strategies;
mod strategies;

use proptest::prelude::*;

use super::*;
use strategies::message;

fn round_trip(message: &PeerMessage) -> PeerMessage {
    PeerMessage::decode(message.encode()).unwrap()
}

proptest! {
    #[test]
    fn whatever_is_said_is_understood(message in message()) {
        prop_assert_eq!(round_trip(&message), message);
    }

    #[test]
    fn equal_messages_are_equal_bytes(message in message()) {
        prop_assert_eq!(round_trip(&message).encode(), message.encode());
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = PeerMessage::decode(bytes.into());
    }

    #[test]
    fn damaged_messages_are_refused_or_read(
        message in message(), at in any::<prop::sample::Index>(), bits in 1u8.., cut in any::<bool>(),
    ) {
        let mut bytes = message.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if cut {
            bytes.truncate(at);
        }
        let _ = PeerMessage::decode(bytes.into());
    }
}

#[test]
fn keys_and_values_are_views_into_the_received_buffer() {
    let message = strategies::a_write(Bytes::from_static(b"key"), Bytes::from(vec![7; 100]));
    let received = message.encode();
    let range = received.as_ptr_range();
    let PeerBody::Request(ReplicaRequest::Write(write)) =
        PeerMessage::decode(received.clone()).unwrap().body
    else {
        panic!("another kind");
    };
    assert!(range.contains(&write.row.key.as_ptr()));
    assert!(range.contains(&write.delta.entry.value.unwrap().as_ptr()));
}

#[test]
fn a_request_that_cannot_be_read_says_whom_to_tell() {
    let read = v1::ReadRow { row: None, kind: 1, epoch: 0, class: 1, seen: None };
    let request = v1::ReplicaRequest { request: Some(v1::replica_request::Request::Read(read)) };
    let message = v1::PeerMessage {
        call: 9,
        trace: None,
        deadline_ms: None,
        body: Some(Body::Request(request)),
    };
    let error = PeerMessage::decode(message.encode_to_vec().into()).unwrap_err();
    assert_eq!(error.asked, Some(9));
    assert_eq!(error.fault, WireFault::Missing("row of a read"));

    let reply = v1::ReplicaReply { reply: None };
    let message =
        v1::PeerMessage { call: 9, trace: None, deadline_ms: None, body: Some(Body::Reply(reply)) };
    let error = PeerMessage::decode(message.encode_to_vec().into()).unwrap_err();
    assert_eq!(error.asked, None);
}

#[test]
fn every_number_of_a_kind_that_is_not_known_is_refused() {
    for kind in [0, 3, i32::MAX, -1] {
        let row = Some(v1::RowKey::default());
        let read = v1::ReadRow { row, kind, epoch: 0, class: 1, seen: None };
        let request =
            v1::ReplicaRequest { request: Some(v1::replica_request::Request::Read(read)) };
        assert!(ReplicaRequest::try_from(request).is_err(), "{kind}");
    }
}

/// Empty rows take two bytes each in a message.
fn message_of_empty_rows(rows: usize) -> Vec<u8> {
    let page = v1::PulledPage { rows: vec![v1::PulledRow::default(); rows], ..Default::default() };
    let reply = v1::RepairReply { reply: Some(v1::repair_reply::Reply::Page(page)) };
    v1::PeerMessage {
        call: 1,
        trace: None,
        deadline_ms: None,
        body: Some(Body::RepairReply(reply)),
    }
    .encode_to_vec()
}

#[test]
fn a_message_cannot_claim_many_times_its_size() {
    let too_many = PeerMessage::decode(message_of_empty_rows(MAX_PARTS).into());
    assert_eq!(too_many.unwrap_err().fault, WireFault::TooManyParts);
    // One field leads to the rows; as many parts as are left are read, and then found damaged.
    let most = PeerMessage::decode(message_of_empty_rows(MAX_PARTS - 2).into());
    assert!(matches!(most.unwrap_err().fault, WireFault::Damaged { field: "row" | "clock", .. }));
}

#[test]
fn a_group_does_not_hide_what_comes_after_it() {
    let mut bytes = vec![99 << 3 & 0x7f | 3 | 0x80, 6, 99 << 3 & 0x7f | 4 | 0x80, 6];
    bytes.extend(message_of_empty_rows(MAX_PARTS));
    let hidden = PeerMessage::decode(bytes.into()).unwrap_err();
    assert!(matches!(hidden.fault, WireFault::Invalid { field: "group", .. }));
}

#[test]
fn large_keys_and_values_are_not_taken_for_parts() {
    // Both would read as a great many empty fields, or as a group.
    for filler in [&b"\x0a\x00"[..], b"\x0b"] {
        let bytes = Bytes::from(filler.repeat(1 << 20));
        let message = strategies::a_write(bytes.slice(..4096), bytes.clone());
        assert_eq!(round_trip(&message), message);
        let keys = strategies::a_multi_get(vec![bytes.clone(), bytes]);
        assert_eq!(round_trip(&keys), keys);
    }
}

#[test]
fn a_catalog_from_outside_keeps_the_rules_of_one_from_here() {
    let catalog = strategies::a_catalog(3);
    let mut sent = v1::Catalog::from(&catalog);
    sent.tables[0].id ^= 1;
    let field = |catalog: v1::Catalog| match Catalog::try_from(catalog) {
        Err(WireFault::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(sent), "table");
    let mut sent = v1::Catalog::from(&catalog);
    sent.keyspaces.clear();
    assert_eq!(field(sent), "table");
    let mut sent = v1::Catalog::from(&catalog);
    sent.keyspaces[0].id ^= 1;
    assert_eq!(field(sent), "keyspace");
}

#[test]
fn catalogs_have_equal_digests_if_they_are_equal() {
    assert_eq!(
        catalog_digest(&strategies::a_catalog(3)),
        catalog_digest(&strategies::a_catalog(3))
    );
    assert_ne!(
        catalog_digest(&strategies::a_catalog(3)),
        catalog_digest(&strategies::a_catalog(2))
    );
}

#[test]
fn a_squeezed_message_is_the_message() {
    let value = Bytes::from(vec![7; 100_000]);
    let message = strategies::a_write(Bytes::from_static(b"k"), value);
    let squeezed = message.encode_squeezed();
    assert!(squeezed.len() < 1_000, "{}", squeezed.len());
    assert_eq!(PeerMessage::decode(squeezed), Ok(message));
    // Small ones, and those that do not become smaller, are sent as they are.
    let small = strategies::a_write(Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    assert_eq!(small.encode_squeezed(), small.encode());
}

#[test]
fn what_is_squeezed_wrongly_is_refused() {
    let squeezed = |bytes, zstd: Vec<u8>| {
        let squeezed = v1::Squeezed { bytes, zstd: zstd.into() };
        let body = Some(Body::Squeezed(squeezed));
        v1::PeerMessage { body, ..Default::default() }.encode_to_vec()
    };
    let frame = |plain: &[u8]| zstd::bulk::compress(plain, 1).unwrap();
    let message = message_of_empty_rows(10);
    let twice = squeezed(message.len() as u64, frame(&message));
    for (bytes, frame) in [
        (5, frame(&[0; 100])),
        (100, frame(&[0; 5])),
        (u64::MAX, frame(&[0; 5])),
        (5, b"no frame".to_vec()),
        (twice.len() as u64, frame(&twice)),
    ] {
        let fault = PeerMessage::decode(squeezed(bytes, frame).into()).unwrap_err().fault;
        let field = "squeezed message";
        assert!(matches!(&fault, WireFault::Invalid { field: f, .. } if *f == field), "{fault}");
    }
    let rows = message_of_empty_rows(MAX_PARTS);
    let many = PeerMessage::decode(squeezed(rows.len() as u64, frame(&rows)).into());
    assert_eq!(many.unwrap_err().fault, WireFault::TooManyParts);
}
