//! Messages as other versions and other processes have them. A change of these bytes is a change
//! of the protocol: see [`crate::replica::PROTOCOL`].

use std::fmt::Write;
use std::sync::Arc;

use meridian_coordinator::message::{Refusal, Written};
use meridian_crdt::{Actor, Context, Dot, Entry, Row, RowVersion, VnodeClock};
use meridian_types::{Epoch, Hlc, Incarnation, KeyspaceId, NodeId, VnodeId};

use super::strategies::{a_catalog, a_multi_get, a_write};
use crate::replica::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

#[track_caller]
fn golden(body: PeerBody, expected: &str) {
    let message = PeerMessage { call: 300, trace: None, body };
    whole(&message, expected);
}

#[track_caller]
fn whole(message: &PeerMessage, expected: &str) {
    assert_eq!(hex(&message.encode()), expected);
}

#[test]
fn a_delta() {
    whole(
        &a_write(Bytes::from_static(b"k"), Bytes::from_static(b"v")),
        "080712120911111111111111111111111111111111111a400a3e0a0a0801100218ac0222016b1214110301020304050607082a018bcfe568000005761a1209abababababababab11abababababababab2202040528033801",
    );
}

#[test]
fn small_answers() {
    golden(PeerBody::Reply(ReplicaReply::Written(Written::default())), "08ac0222020a00");
    let known = Written { known: true, credit: Some(7) };
    golden(PeerBody::Reply(ReplicaReply::Written(known)), "08ac0222060a0408011007");
    golden(
        PeerBody::Reply(ReplicaReply::Digest(1 << 64 | 2)),
        "08ac0222141a12090100000000000000110200000000000000",
    );
    let stale = Refusal::StaleEpoch { asked: Epoch(1), has: Epoch(2) };
    golden(PeerBody::Reply(ReplicaReply::Refused(stale)), "08ac0222083a062a0408011002");
}

#[test]
fn a_row_with_its_clock() {
    let dot = Dot::new(Actor { node: NodeId(1), incarnation: Incarnation(2) }, 3);
    let entry = Entry { dot, stamp: Hlc(4), expires: None, value: Some(Bytes::from_static(b"v")) };
    let mut clock = VnodeClock::default();
    clock.insert(dot);
    let row = Row::new([entry], Context::default());
    let version = RowVersion { row, clock: Arc::new(clock) };
    golden(
        PeerBody::Reply(ReplicaReply::Row(version)),
        "08ac02222812260a141101000000000000000203000000000000000476120e0101010000000000000002010200",
    );
}

#[test]
fn a_comparison_of_clocks() {
    let compare = |gaps| RepairRequest::Compare { keyspace: KeyspaceId(1), digest: 5, gaps };
    golden(PeerBody::Repair(compare(false)), "08ac022a0f0a0d08011209110500000000000000");
    golden(PeerBody::Repair(compare(true)), "08ac022a110a0f080112091105000000000000001801");
    let differs = RepairReply::Differs(vec![(VnodeId(1), 2), (VnodeId(300), 4)]);
    golden(
        PeerBody::RepairReply(differs),
        "08ac02322912270a0301ac0212200000000000000000000000000000000200000000000000000000000000000004",
    );
}

#[test]
fn a_request_handed_on() {
    whole(
        &a_multi_get(vec![Bytes::from_static(b"k")]),
        "08081a152a132a110a0a67656f2e63697469657312016b1802",
    );
}

#[test]
fn a_published_catalog() {
    golden(
        PeerBody::Catalog(CatalogMessage::Publish(a_catalog(1))),
        "08ac023a560a540a2808d987c3c00f120367656f1a060a02657510031a060a0275731002220b0907000000000000001002122808f1a6d24110d987c3c00f1a0667656f2e743022060802180220012a0b0908000000000000001002",
    );
}
