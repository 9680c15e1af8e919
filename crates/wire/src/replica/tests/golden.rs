//! Messages as other versions and other processes have them. A change of these bytes is a change
//! of the protocol: see [`crate::replica::PROTOCOL`].

use std::fmt::Write;
use std::sync::Arc;

use meridian_coordinator::message::{
    LoggedBatch, NamedWrite, ReadKind, Refusal, ReplicaRequest, Reserve, VnodeDot, Written,
};
use meridian_crdt::{
    Actor, Context, Delta, Dot, Entry, Evidence, Promise, Row, RowVersion, VnodeClock,
};
use meridian_repair::message::{PullMany, PullPage, PulledPages, PulledRow, ToldEvidence};
use meridian_service::{InSession, Outcome, Request, SessionOutcome};
use meridian_types::{
    BatchId, Epoch, Goods, Hlc, Incarnation, KeptAs, KeyspaceId, NodeId, PeerStanding, ReadClass,
    RowKey, TableId, VnodeId, VnodeKind, WriteId,
};

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
    let message = PeerMessage { call: 300, trace: None, deadline_ms: None, body };
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
fn a_deadline() {
    let body = PeerBody::Catalog(CatalogMessage::Ask);
    let message = PeerMessage { call: 300, trace: None, deadline_ms: Some(2000), body };
    whole(&message, "08ac023a021a0078d00f");
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
    golden(PeerBody::Reply(ReplicaReply::Refused(Refusal::DeadlinePassed)), "08ac0222043a026200");
    golden(PeerBody::Reply(ReplicaReply::Refused(Refusal::Behind)), "08ac0222043a024200");
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
fn a_read_says_what_it_waits_for() {
    let row = RowKey {
        keyspace: KeyspaceId(1),
        table: TableId(2),
        vnode: VnodeId(3),
        key: Bytes::from_static(b"k"),
    };
    let (kind, class, epoch) = (ReadKind::Digest, ReadClass::Global, Epoch(1));
    golden(
        PeerBody::Request(ReplicaRequest::Read { row, kind, class, epoch, seen: None }),
        "08ac021a1312110a0908011002180322016b100218012003",
    );
    golden(PeerBody::Reply(ReplicaReply::Refused(Refusal::Rebuilding)), "08ac0222043a026a00");
}

#[test]
fn a_comparison_of_clocks() {
    let compare = |gaps| {
        let (keyspace, losses) = (KeyspaceId(1), false);
        RepairRequest::Compare { keyspace, digest: 5, gaps, losses }
    };
    golden(PeerBody::Repair(compare(false)), "08ac022a0f0a0d08011209110500000000000000");
    golden(PeerBody::Repair(compare(true)), "08ac022a110a0f080112091105000000000000001801");
    let digests = vec![(VnodeId(1), 2), (VnodeId(300), 4)];
    let standing = PeerStanding {
        kind: VnodeKind::Suspect,
        goods: Goods::from_bits(3).unwrap(),
        loss: Incarnation(7),
    };
    let unsound = vec![(VnodeId(300), standing)];
    golden(
        PeerBody::RepairReply(RepairReply::Same { unsound: unsound.clone() }),
        "08ac0232140a120a100a02ac02120a01030000000000000007",
    );
    golden(PeerBody::RepairReply(RepairReply::Same { unsound: Vec::new() }), "08ac0232020a00");
    let page = PullPage { standing, ..PullPage::default() };
    golden(
        PeerBody::RepairReply(RepairReply::Page(page)),
        "08ac0232151a130a020100220d08011003190700000000000000",
    );
    golden(
        PeerBody::RepairReply(RepairReply::Differs { digests: digests.clone(), unsound }),
        "08ac02323b12390a0301ac02122000000000000000000000000000000002000000000000000000000000000000041a100a02ac02120a01030000000000000007",
    );
    golden(
        PeerBody::RepairReply(RepairReply::Differs { digests, unsound: Vec::new() }),
        "08ac02322912270a0301ac0212200000000000000000000000000000000200000000000000000000000000000004",
    );
}

#[test]
fn a_pull_of_several_vnodes() {
    let mut clock = VnodeClock::default();
    clock.insert(Dot::new(Actor { node: NodeId(1), incarnation: Incarnation(2) }, 1));
    let (keyspace, max_bytes) = (KeyspaceId(1), 256);
    let vnodes = vec![(VnodeId(3), VnodeClock::default()), (VnodeId(300), clock.clone())];
    let pull = PullMany { keyspace, vnodes, max_bytes };
    golden(
        PeerBody::Repair(RepairRequest::PullMany(pull)),
        "08ac022a201a1e0801120303ac021a0201001a0e0101010000000000000002010000208002",
    );
    let rows =
        vec![PulledRow { table: TableId(2), key: Bytes::from_static(b"k"), row: Row::default() }];
    let page = PullPage { clock, standing: PeerStanding::SOUND, rows, next: None };
    let pages = PulledPages { covered: vec![VnodeId(3)], pages: vec![(VnodeId(300), page)] };
    golden(
        PeerBody::RepairReply(RepairReply::Pages(pages)),
        "08ac02322a2a280a01031202ac021a1f0a0e01010100000000000000020100001209080212016b1a0201002202100f",
    );
}

#[test]
fn what_a_session_has_seen() {
    let seen: Context =
        [Dot::new(Actor { node: NodeId(1), incarnation: Incarnation(2) }, 3)].into_iter().collect();
    let row = RowKey {
        keyspace: KeyspaceId(1),
        table: TableId(2),
        vnode: VnodeId(3),
        key: Bytes::from_static(b"k"),
    };
    let kind = ReadKind::Data;
    let class = ReadClass::One;
    let read = ReplicaRequest::Read { row, kind, class, epoch: Epoch(1), seen: Some(seen) };
    golden(
        PeerBody::Request(read),
        "08ac021a2312210a0908011002180322016b1001180120012a0e0101010000000000000002010200",
    );
    let request = Request::InSession(InSession {
        tokens: vec![Bytes::from_static(b"t")],
        request: Box::new(Request::Cluster),
    });
    golden(
        PeerBody::Request(ReplicaRequest::Coordinate(request)),
        "08ac021a0b2a0972070a017412026a00",
    );
    let outcome = Box::new(Outcome::Created { new: true });
    let outcome = SessionOutcome { token: Bytes::from_static(b"t"), outcome };
    let coordinated = ReplicaReply::Coordinated(Box::new(Ok(Outcome::InSession(outcome))));
    golden(PeerBody::Reply(coordinated), "08ac02220d320b6a090a017412044a020801");
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

#[test]
fn a_write_that_somebody_keeps() {
    let dot = Dot::new(Actor { node: NodeId(1), incarnation: Incarnation(2) }, 3);
    let key = Bytes::from_static(b"k");
    let row = RowKey { keyspace: KeyspaceId(1), table: TableId(2), vnode: VnodeId(300), key };
    let (write_id, id) = (WriteId::from_bytes([1; 16]), BatchId::from_bytes([2; 16]));
    let reserve = |kept_as, holders| Reserve {
        row: row.clone(),
        write_id,
        kept_as,
        holders,
        over_what_is_here: true,
    };
    let request = |request| PeerBody::Request(request);
    let intent = reserve(KeptAs::Intent(300), Vec::new());
    golden(
        request(ReplicaRequest::Reserve(intent)),
        "08ac021a293a270a0a0801100218ac0222016b12120901010101010101011101010101010101011a0308ac022801",
    );
    let batch = reserve(KeptAs::Batch(id), vec![NodeId(4), NodeId(5)]);
    golden(
        request(ReplicaRequest::Reserve(batch)),
        "08ac021a3e3a3c0a0a0801100218ac0222016b12120901010101010101011101010101010101011a141212090202020202020202110202020202020202220204052801",
    );
    let dot_of_vnode = VnodeDot { keyspace: KeyspaceId(1), vnode: VnodeId(300), dot };
    let kept_as = KeptAs::Intent(7);
    golden(
        request(ReplicaRequest::StillNeeded { kept_as, dot: dot_of_vnode }),
        "08ac021a1c421a0a0208071214080110ac021a0d08011102000000000000001803",
    );
    golden(
        request(ReplicaRequest::Holds(vec![dot_of_vnode])),
        "08ac021a184a160a14080110ac021a0d08011102000000000000001803",
    );
    let entry = Entry { dot, stamp: Hlc(4), expires: None, value: None };
    let delta = Delta { entry, context: Context::default() };
    let write = NamedWrite { row, delta: delta.clone(), write_id: Some(write_id) };
    let logged = LoggedBatch { id, holders: vec![NodeId(4)], writes: vec![write] };
    golden(
        request(ReplicaRequest::KeepBatch(logged)),
        "08ac021a50524e0a120902020202020202021102020202020202021201041a350a0a0801100218ac0222016b1213510100000000000000020300000000000000041a12090101010101010101110101010101010101",
    );
    golden(
        request(ReplicaRequest::ForgetBatches(vec![id])),
        "08ac021a165a140a12090202020202020202110202020202020202",
    );
    let reserved = ReplicaReply::Reserved { dot, context: Context::default(), not_below: Hlc(4) };
    golden(
        PeerBody::Reply(reserved),
        "08ac02221e421c0a0d0801110200000000000000180312020100190400000000000000",
    );
    golden(
        PeerBody::Reply(ReplicaReply::Named(delta)),
        "08ac0222154a1351010000000000000002030000000000000004",
    );
    golden(PeerBody::Reply(ReplicaReply::Needed(true)), "08ac0222025001");
    golden(PeerBody::Reply(ReplicaReply::Held(vec![true, false])), "08ac0222045a020100");
    golden(PeerBody::Reply(ReplicaReply::BatchKept), "08ac0222026200");
    golden(PeerBody::Reply(ReplicaReply::Refused(Refusal::GivenUp)), "08ac0222043a023a00");
}

#[test]
fn what_may_be_forgotten() {
    let ask = RepairRequest::Evidence {
        keyspace: KeyspaceId(1),
        layout: 2,
        vnodes: vec![VnodeId(3), VnodeId(300)],
    };
    golden(PeerBody::Repair(ask), "08ac022a0b2209080110021a0303ac02");
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(2) };
    let mut clock = VnodeClock::default();
    clock.insert(Dot::new(actor, 1));
    let promises = [(actor, Promise { counter: 1, stamp: Hlc(9) })].into();
    let told = ToldEvidence {
        incarnation: Incarnation(2),
        layout: 2,
        vnodes: vec![(VnodeId(3), Evidence { clock, promises })],
    };
    golden(
        PeerBody::RepairReply(RepairReply::Evidence(told)),
        "08ac023239323709020000000000000010021a2a0803120e01010100000000000000020100001a1608011102000000000000001801210900000000000000",
    );
}
