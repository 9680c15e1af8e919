//! Everything that travels comes back as it was, and arbitrary bytes are refused in peace.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_crdt::{SessionTokenError, TokenError};
use meridian_service::{
    AtomicBatch, Batch, BatchOutcome, ClusterView, Condition, CreateKeyspace, CreateTable,
    DcShortfall, DcTally, DcView, Delete, Effect, Expiry, Get, GetOutcome, MultiGet, NodeView,
    Outcome, Put, PutItem, PutOutcome, ReadValue, ReplicaRow, Request, RequestError, Scan,
    ScanOutcome, ScanRow, TableView, TableWrite, Touch, TouchOutcome,
};
use meridian_types::catalog::Version;
use meridian_types::varint::DecodeError;
use meridian_types::{
    CatalogError, Compaction, Compression, ConflictPolicy, ConsistencyLevel, DcId, Hlc,
    Incarnation, KeyError, KeyspaceDef, KeyspaceId, Millis, NodeId, TableDef, TableId,
    TableNameError, TableOptions, WriteId,
};
use proptest::prelude::*;
use prost::Message;

use super::*;

const DEFAULTS: Defaults =
    Defaults { consistency: ConsistencyLevel::Two, page_rows: 100, now: Millis(1_000) };

fn every_error() -> Vec<RequestError> {
    let level = ConsistencyLevel::EachQuorum;
    let missing = vec![DcShortfall { datacenter: "eu".into(), required: 2, alive: 0, replicas: 3 }];
    let acks = vec![DcTally { datacenter: "us".into(), acked: 1, required: 2, replicas: 3 }];
    let storage = |effect| RequestError::Storage { why: "wal-7: EIO".into(), effect };
    let failed = |write| RequestError::Failed { level, acks: acks.clone(), why: "x".into(), write };
    let mut all = vec![
        RequestError::InvalidArgument { what: "timeout", why: "no".into() },
        RequestError::UnknownTable("geo.cities".parse().unwrap()),
        RequestError::Level { level, why: "is not there yet" },
        RequestError::Unavailable { level, missing },
        RequestError::Timeout { level, acks: acks.clone(), write: true },
        RequestError::Timeout { level, acks: acks.clone(), write: false },
        failed(true),
        failed(false),
        RequestError::Overloaded { queue: "in flight", limit: 4_096 },
        storage(Effect::Unknown),
        storage(Effect::NotApplied),
        RequestError::Siblings { count: 3 },
        RequestError::Stopping,
        RequestError::SessionBehind { level },
    ];
    all.extend(
        [
            KeyError::EmptyKey,
            KeyError::KeyTooLarge { bytes: 9, limit: 8 },
            KeyError::ValueTooLarge { bytes: 9, limit: 8 },
        ]
        .map(RequestError::Key),
    );
    all.extend(
        [
            DecodeError::Truncated { at: 3, what: "base" }.into(),
            DecodeError::Invalid { at: 3, what: "dots" }.into(),
            DecodeError::Trailing { at: 3, left: 7 }.into(),
            DecodeError::UnknownVersion { what: "context", version: 200 }.into(),
            TokenError::OtherTable { given: TableId(1), asked: TableId(2) },
            TokenError::OtherKey,
            TokenError::Forged,
        ]
        .map(RequestError::Context),
    );
    all.extend(
        [
            DecodeError::Invalid { at: 3, what: "vnode of a session" }.into(),
            SessionTokenError::Forged,
        ]
        .map(RequestError::Session),
    );
    all.extend(
        [
            CatalogError::Exists("a".into()),
            CatalogError::NoKeyspace("a".into()),
            CatalogError::NoReplicas("a".into()),
            CatalogError::NoRoom("a".into()),
            CatalogError::SameId { name: "a".into(), holder: "b".into() },
            CatalogError::Inconsistent("a".into()),
            CatalogError::Name(TableNameError::NoKeyspace("a".into())),
            CatalogError::Name(TableNameError::BadPart { which: "table", part: "A".into() }),
            CatalogError::UnknownOption { option: "policy", given: "x".into(), allowed: "lww" },
        ]
        .map(RequestError::Catalog),
    );
    all
}

#[test]
fn every_error_round_trips_through_a_status() {
    for error in every_error() {
        let status = status_of(&error);
        assert_eq!(status.code() as u8, error.code().grpc, "{error}");
        assert_eq!(error_of(&status), Some(error));
    }
}

#[test]
fn every_kind_of_error_is_among_those_that_are_tried() {
    let mut seen: Vec<_> = every_error().iter().map(|e| e.code().id).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, meridian_service::ErrorCode::EVERY.map(|c| c.id));
}

#[test]
fn every_level_has_its_number() {
    assert_eq!(ConsistencyLevel::EVERY.map(consistency).map(i32::from).len(), 11);
    for level in ConsistencyLevel::EVERY {
        assert_eq!(level_of(consistency(level).into()), Some(level));
        let name = format!("CONSISTENCY_{}", level.name());
        assert_eq!(consistency(level).as_str_name(), name);
    }
}

#[test]
fn a_foreign_status_is_no_error_of_ours() {
    assert_eq!(error_of(&tonic::Status::unavailable("connection refused")), None);
    let junk = Bytes::from_static(b"\xff\x07junk");
    assert_eq!(error_of(&tonic::Status::with_details(tonic::Code::Aborted, "x", junk)), None);
}

#[test]
fn a_long_message_stays_within_a_header() {
    let why = "ü".repeat(100_000);
    let status = status_of(&RequestError::InvalidArgument { what: "cursor", why });
    assert!(status.message().len() <= 1 << 10);
}

fn table() -> meridian_types::TableName {
    "geo.cities".parse().unwrap()
}

fn item(expiry: Expiry) -> PutItem {
    PutItem {
        key: Bytes::from_static(b"k\0"),
        value: Some(Bytes::from_static(b"")),
        expiry,
        context: Some(Bytes::from_static(b"ctx")),
        write_id: Some(WriteId::from_bytes([7; 16])),
    }
}

#[test]
fn requests_come_back() {
    let consistency = ConsistencyLevel::LocalOne;
    let key = Bytes::from_static(b"key");
    let get = Get { table: table(), key: key.clone(), consistency, with_context: true };
    let message = v1::GetRequest::from(get.clone());
    assert_eq!(message.clone().into_request(&DEFAULTS), Ok(Request::Get(get.clone())));
    assert_eq!(message.into_replicas_request(&DEFAULTS), Ok(Request::Replicas(get)));
    for (expiry, condition) in [
        (Expiry::TableDefault, None),
        (Expiry::Never, Some(Condition::Absent)),
        (Expiry::At(Millis(77)), Some(Condition::Present)),
        (Expiry::Keep, None),
    ] {
        let item = item(expiry);
        let put = Put { table: table(), item, condition, consistency, with_context: true };
        let back = v1::PutRequest::from(put.clone()).into_request(&DEFAULTS);
        assert_eq!(back, Ok(Request::Put(put)));
    }
    let touch = Touch { table: table(), key: key.clone(), expiry: Expiry::Never, consistency };
    let back = v1::TouchRequest::from(touch.clone()).into_request(&DEFAULTS);
    assert_eq!(back, Ok(Request::Touch(touch)));
    let delete = Delete {
        table: table(),
        key: key.clone(),
        context: None,
        write_id: Some(WriteId::from_bytes([9; 16])),
        consistency,
        report_existed: true,
    };
    let back = v1::DeleteRequest::from(delete.clone()).into_request(&DEFAULTS);
    assert_eq!(back, Ok(Request::Delete(delete)));
    let keys = vec![key.clone(), key];
    let get = MultiGet { table: table(), keys, consistency, with_context: false };
    let back = v1::MultiGetRequest::from(get.clone()).into_request(&DEFAULTS);
    assert_eq!(back, Ok(Request::MultiGet(get)));
    let items = vec![item(Expiry::Never), PutItem { value: None, ..item(Expiry::Keep) }];
    let batch = Batch { table: table(), items, consistency };
    let back = v1::BatchRequest::from(batch.clone()).into_request(&DEFAULTS);
    assert_eq!(back, Ok(Request::Batch(batch)));
    let writes = vec![
        TableWrite { table: table(), item: item(Expiry::Never) },
        TableWrite { table: "geo.rivers".parse().unwrap(), item: item(Expiry::TableDefault) },
    ];
    let batch = AtomicBatch { writes, consistency };
    let back = v1::AtomicBatchRequest::from(batch.clone()).into_request(&DEFAULTS);
    assert_eq!(back, Ok(Request::AtomicBatch(batch)));
    let scan = Scan {
        table: table(),
        cursor: Some(Bytes::from_static(b"c")),
        limit: 17,
        prefix: Bytes::from_static(b"p"),
        with_values: true,
        consistency,
    };
    let back = v1::ScanRequest::from(scan.clone()).into_request(&DEFAULTS);
    assert_eq!(back, Ok(Request::Scan(scan)));
}

#[test]
fn admin_requests_come_back() {
    let create = CreateKeyspace {
        name: "geo".into(),
        replication: BTreeMap::from([("us".to_owned(), 3), ("eu".to_owned(), 1)]),
        if_not_exists: true,
    };
    let back = v1::CreateKeyspaceRequest::from(create.clone()).into_request(&DEFAULTS);
    assert_eq!(back, Ok(Request::CreateKeyspace(create)));
    for policy in [ConflictPolicy::Siblings, ConflictPolicy::Lww] {
        for compression in
            [Compression::None, Compression::Lz4, Compression::Snappy, Compression::Zstd]
        {
            let default_ttl_ms = Some(5);
            for compaction in Compaction::EVERY {
                let options = TableOptions { policy, default_ttl_ms, compression, compaction };
                let create = CreateTable { name: table(), options, if_not_exists: false };
                let back = v1::CreateTableRequest::from(create.clone()).into_request(&DEFAULTS);
                assert_eq!(back, Ok(Request::CreateTable(create)));
            }
        }
    }
    let bare = v1::CreateTableRequest { name: "geo.cities".into(), ..Default::default() };
    let options = TableOptions::default();
    let create = CreateTable { name: table(), options, if_not_exists: false };
    assert_eq!(bare.into_request(&DEFAULTS), Ok(Request::CreateTable(create)));
}

#[test]
fn what_a_request_leaves_out_is_filled_in() {
    let get = v1::GetRequest { table: "geo.cities".into(), ..Default::default() };
    let Ok(Request::Get(get)) = get.into_request(&DEFAULTS) else { panic!("no get") };
    assert_eq!(get.consistency, ConsistencyLevel::Two);
    let scan = v1::ScanRequest { table: "geo.cities".into(), ..Default::default() };
    let Ok(Request::Scan(scan)) = scan.into_request(&DEFAULTS) else { panic!("no scan") };
    assert_eq!(scan.limit, 100);
    let after = v1::Expiry { kind: v1::expiry::Kind::After.into(), millis: 500 };
    let item = v1::Write { expiry: Some(after), ..Default::default() };
    let table = "geo.cities".to_owned();
    let put = v1::PutRequest { table, item: Some(item), ..Default::default() };
    let Ok(Request::Put(put)) = put.into_request(&DEFAULTS) else { panic!("no put") };
    assert_eq!(put.item.expiry, Expiry::At(Millis(1_500)));
}

#[test]
fn bad_fields_are_named() {
    let table = "geo.cities".to_owned();
    let named = |message: Result<Request, RequestError>| match message {
        Err(RequestError::InvalidArgument { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let get = v1::GetRequest { table: "cities".into(), ..Default::default() };
    assert_eq!(named(get.into_request(&DEFAULTS)), "table");
    let get = v1::GetRequest { table: table.clone(), consistency: 12, ..Default::default() };
    assert_eq!(named(get.into_request(&DEFAULTS)), "consistency");
    let put = v1::PutRequest { table: table.clone(), ..Default::default() };
    assert_eq!(named(put.into_request(&DEFAULTS)), "item");
    let write_id = Some(Bytes::from_static(b"short"));
    let delete = v1::DeleteRequest { table: table.clone(), write_id, ..Default::default() };
    assert_eq!(named(delete.into_request(&DEFAULTS)), "write_id");
    let touch = v1::TouchRequest { table: table.clone(), ..Default::default() };
    assert_eq!(named(touch.into_request(&DEFAULTS)), "expiry");
    let item = Some(v1::Write::default());
    let put = v1::PutRequest { table, item, condition: 3, ..Default::default() };
    assert_eq!(named(put.into_request(&DEFAULTS)), "condition");
    let replication = BTreeMap::from([("us".to_owned(), 256)]);
    let create = v1::CreateKeyspaceRequest { replication, ..Default::default() };
    assert_eq!(named(create.into_request(&DEFAULTS)), "replication");
}

fn values() -> Vec<ReadValue> {
    let value = Bytes::from_static(b"v");
    vec![
        ReadValue { value: value.clone(), stamp: Hlc(7), expires: None },
        ReadValue { value, stamp: Hlc(u64::MAX), expires: Some(Millis(3)) },
    ]
}

/// An outcome through its message and back.
fn back<M>(outcome: Outcome) -> M
where
    M: TryFrom<Outcome, Error = Malformed> + Message + Default,
{
    let message = M::try_from(outcome).unwrap();
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

#[test]
fn outcomes_come_back() {
    let got = GetOutcome { values: values(), context: Some(Bytes::from_static(b"c")) };
    assert_eq!(GetOutcome::from(back::<v1::GetResponse>(Outcome::Got(got.clone()))), got);
    let put = PutOutcome { applied: true, existed: Some(false), context: None, stamp: Hlc(9) };
    assert_eq!(PutOutcome::from(back::<v1::WriteResponse>(Outcome::Put(put.clone()))), put);
    let touched = TouchOutcome { existed: true, changed: false };
    let message = back::<v1::TouchResponse>(Outcome::Touched(touched));
    assert_eq!(TouchOutcome::from(message), touched);
    let results: Vec<_> = every_error().into_iter().map(Err).chain([Ok(got)]).collect();
    let message = back::<v1::MultiGetResponse>(Outcome::MultiGot(results.clone()));
    assert_eq!(message.try_into(), Ok(results));
    let batch = BatchOutcome { results: vec![Ok(put), Err(RequestError::Stopping)] };
    let message = back::<v1::BatchResponse>(Outcome::Batch(batch.clone()));
    assert_eq!(message.try_into(), Ok(batch));
    let rows = vec![ScanRow { key: Bytes::from_static(b"k"), values: values() }];
    let page = ScanOutcome { rows, next: Some(Bytes::from_static(b"n")) };
    let message = back::<v1::ScanResponse>(Outcome::Page(page.clone()));
    assert_eq!(ScanOutcome::from(message), page);
    let row = |values, clock_digest| ReplicaRow {
        node: "us-1".into(),
        datacenter: "us".into(),
        values,
        clock_digest,
    };
    let rows = vec![row(Ok(values()), Some(u128::MAX - 5)), row(Err("down".into()), None)];
    let message = back::<v1::ReplicasResponse>(Outcome::Replicas(rows.clone()));
    assert_eq!(message.try_into(), Ok(rows));
}

#[test]
fn admin_outcomes_come_back() {
    let version = Version { stamp: Hlc(4), node: NodeId(2) };
    let replication = BTreeMap::from([("us".to_owned(), 3)]);
    let keyspace = KeyspaceDef {
        id: KeyspaceId(1),
        name: "geo".into(),
        replication: replication.clone(),
        version,
    };
    let def = TableDef {
        id: TableId(5),
        keyspace: KeyspaceId(1),
        name: table(),
        options: TableOptions { policy: ConflictPolicy::Lww, ..TableOptions::default() },
        version,
    };
    let (keyspaces, tables) = (vec![keyspace], vec![def.clone()]);
    let list = Outcome::Tables { keyspaces, tables };
    assert_eq!(back::<v1::ListTablesResponse>(list.clone()).try_into(), Ok(list));
    let view = TableView { def, replication, estimated_rows: 6, disk_bytes: 7 };
    let message = back::<v1::TableView>(Outcome::Table(view.clone()));
    assert_eq!(message.try_into(), Ok(view));
    let node = NodeView {
        id: NodeId(3),
        name: "us-1".into(),
        datacenter: "us".into(),
        rack: "a".into(),
        alive: true,
        incarnation: Some(Incarnation(u64::MAX)),
        hints: 4,
        differing_vnodes: 5,
        unsound_vnodes: 5,
        behind_dots: 6,
        behind_ms: 7,
    };
    let view = ClusterView {
        name: "test".into(),
        answered_by: NodeId(3),
        default_consistency: ConsistencyLevel::LocalQuorum,
        datacenters: vec![DcView { id: DcId(1), name: "us".into() }],
        nodes: vec![node],
    };
    let message = back::<v1::ClusterView>(Outcome::Cluster(view.clone()));
    assert_eq!(message.try_into(), Ok(view));
    assert!(back::<v1::CreatedResponse>(Outcome::Created { new: true }).new);
}

#[test]
fn an_outcome_of_another_kind_is_refused() {
    let wrong = v1::GetResponse::try_from(Outcome::Created { new: true });
    assert_eq!(wrong, Err(Malformed { what: "values" }));
}

proptest! {
    #[test]
    fn arbitrary_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = v1::BatchRequest::decode(bytes.as_slice()) {
            let _ = message.into_request(&DEFAULTS);
        }
        if let Ok(message) = v1::ReplicasResponse::decode(bytes.as_slice()) {
            let _ = Vec::<ReplicaRow>::try_from(message);
        }
        let status = tonic::Status::with_details(tonic::Code::Internal, "x", bytes.into());
        let _ = error_of(&status);
    }
}
