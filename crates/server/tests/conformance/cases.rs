//! The list.

use super::*;

pub(super) const LEVEL: ConsistencyLevel = ConsistencyLevel::EachQuorum;

pub(super) fn table() -> TableName {
    "geo.cities".parse().unwrap()
}

pub(super) fn key() -> Bytes {
    // A slash, a blank, a percent sign, and bytes that are no text.
    Bytes::from_static(b"a/b c%\xff\x00")
}

pub(super) fn read(key: Bytes) -> Get {
    Get { table: table(), key, consistency: LEVEL, with_context: false }
}

pub(super) fn item(key: Bytes, value: Option<&'static [u8]>, expiry: Expiry) -> PutItem {
    let value = value.map(Bytes::from_static);
    PutItem { key, value, expiry, context: None, write_id: None }
}

pub(super) fn write(expiry: Expiry, condition: Option<Condition>) -> Request {
    let item = item(key(), Some(b"\x00value\r\n"), expiry);
    Request::Put(Put { table: table(), item, condition, consistency: LEVEL, with_context: false })
}

pub(super) fn value(bytes: &'static [u8]) -> ReadValue {
    ReadValue { value: Bytes::from_static(bytes), stamp: Hlc(7 << 16), expires: Some(Millis(9)) }
}

pub(super) fn got(values: &[&'static [u8]]) -> GetOutcome {
    let values = values.iter().map(|bytes| value(bytes)).collect();
    GetOutcome { values, context: Some(Bytes::from_static(b"\x01ctx")) }
}

pub(super) fn written(applied: bool) -> PutOutcome {
    let context = Some(Bytes::from_static(b"\x01after"));
    PutOutcome { applied, existed: Some(true), context, stamp: Hlc(8 << 16) }
}

pub(super) fn def() -> TableDef {
    TableDef {
        id: TableId(1),
        keyspace: KeyspaceId(2),
        name: table(),
        options: TableOptions::default(),
        version: Version::default(),
    }
}

pub(super) fn errors() -> Vec<RequestError> {
    let missing = vec![DcShortfall { datacenter: "eu".into(), required: 2, alive: 0, replicas: 3 }];
    let acks = vec![DcTally { datacenter: "us".into(), acked: 1, required: 2, replicas: 3 }];
    let storage =
        |effect| RequestError::Storage { why: "sst-7 at 12: bad checksum".into(), effect };
    vec![
        RequestError::InvalidArgument { what: "cursor", why: "of another\r\ntable".into() },
        KeyError::EmptyKey.into(),
        TokenError::Forged.into(),
        RequestError::UnknownTable(table()),
        CatalogError::Exists("geo".into()).into(),
        RequestError::Level { level: LEVEL, why: "is for writes only" },
        RequestError::Siblings { count: 2 },
        SessionTokenError::Forged.into(),
        RequestError::Unavailable { level: LEVEL, missing },
        RequestError::Timeout { level: LEVEL, acks: acks.clone(), write: true },
        RequestError::Timeout { level: LEVEL, acks: acks.clone(), write: false },
        RequestError::Failed { level: LEVEL, acks, why: "disk".into(), write: true },
        RequestError::Overloaded { queue: "requests in flight", limit: 7 },
        RequestError::Stopping,
        RequestError::SessionBehind { level: LEVEL },
        storage(Effect::Unknown),
        storage(Effect::NotApplied),
    ]
}

pub(super) fn key_cases() -> Vec<(Request, Scripted)> {
    let soon = Expiry::At(Millis(99_999_999_999_999));
    let delete = Delete {
        table: table(),
        key: key(),
        context: None,
        write_id: None,
        consistency: LEVEL,
        report_existed: false,
    };
    let touch =
        |expiry| Request::Touch(Touch { table: table(), key: key(), expiry, consistency: LEVEL });
    let touched = |existed| Ok(Outcome::Touched(TouchOutcome { existed, changed: existed }));
    vec![
        (Request::Get(read(key())), Ok(Outcome::Got(got(&[])))),
        (Request::Get(read(key())), Ok(Outcome::Got(got(&[b"one\xfe"])))),
        (Request::Get(read(key())), Ok(Outcome::Got(got(&[b""])))),
        (Request::Get(read(key())), Ok(Outcome::Got(got(&[b"one", b"two\r\n--"])))),
        (write(Expiry::TableDefault, None), Ok(Outcome::Put(written(true)))),
        (write(soon, None), Ok(Outcome::Put(written(true)))),
        (write(Expiry::Keep, None), Ok(Outcome::Put(written(true)))),
        (write(Expiry::TableDefault, Some(Condition::Absent)), Ok(Outcome::Put(written(true)))),
        (write(Expiry::TableDefault, Some(Condition::Absent)), Ok(Outcome::Put(written(false)))),
        (write(Expiry::TableDefault, Some(Condition::Present)), Ok(Outcome::Put(written(false)))),
        (Request::Delete(delete), Ok(Outcome::Put(written(true)))),
        (touch(soon), touched(true)),
        (touch(soon), touched(false)),
        (touch(Expiry::Never), touched(true)),
        (
            Request::Replicas(read(key())),
            Ok(Outcome::Replicas(vec![ReplicaRow {
                node: "us-1".into(),
                datacenter: "us".into(),
                values: Ok(vec![value(b"x")]),
                clock_digest: Some(5),
            }])),
        ),
    ]
}

pub(super) fn many_cases() -> Vec<(Request, Scripted)> {
    let keys = vec![key(), Bytes::from_static(b"plain")];
    let mget = MultiGet { table: table(), keys, consistency: LEVEL, with_context: false };
    let mget = || Request::MultiGet(mget.clone());
    let items = vec![
        item(key(), Some(b"v\xff"), Expiry::TableDefault),
        item(Bytes::from_static(b"plain"), Some(b"w"), Expiry::TableDefault),
    ];
    let batch = Batch { table: table(), items, consistency: LEVEL };
    let batch = || Request::Batch(batch.clone());
    let writes = ["cities", "rivers"].map(|name| TableWrite {
        table: TableName::new("geo", name).unwrap(),
        item: item(key(), Some(b"v\xff"), Expiry::TableDefault),
    });
    let atomic = AtomicBatch { writes: writes.to_vec(), consistency: LEVEL };
    let atomic = || Request::AtomicBatch(atomic.clone());
    let results = |results| Ok(Outcome::Batch(BatchOutcome { results }));
    let scan = |cursor: Option<u64>| {
        Request::Scan(Scan {
            table: table(),
            cursor: cursor.map(|n| Bytes::copy_from_slice(&n.to_be_bytes())),
            limit: 17,
            prefix: Bytes::from_static(b"pre"),
            with_values: false,
            consistency: LEVEL,
        })
    };
    let row = |key| ScanRow { key, values: Vec::new() };
    let next = |n: u64| Some(Bytes::copy_from_slice(&n.to_be_bytes()));
    let rows = vec![row(Bytes::from_static(b"pre1")), row(Bytes::from_static(b"pre\xff"))];
    let full = ScanOutcome { rows, next: next(u64::MAX) };
    vec![
        (mget(), Ok(Outcome::MultiGot(vec![Ok(got(&[b"v\xff"])), Ok(got(&[]))]))),
        (mget(), Ok(Outcome::MultiGot(vec![Ok(got(&[])), Err(RequestError::Stopping)]))),
        (batch(), results(vec![Ok(written(true)), Ok(written(true))])),
        (batch(), results(vec![Err(RequestError::Stopping), Ok(written(true))])),
        (batch(), results(vec![Err(RequestError::Stopping), Err(RequestError::Stopping)])),
        (atomic(), results(vec![Ok(written(true)), Ok(written(true))])),
        (atomic(), Err(RequestError::Stopping)),
        (scan(None), Ok(Outcome::Page(full))),
        (scan(Some(u64::MAX)), Ok(Outcome::Page(ScanOutcome::default()))),
    ]
}

pub(super) fn admin_cases() -> Vec<(Request, Scripted)> {
    let replication = BTreeMap::from([("us".to_owned(), 3)]);
    let keyspace = CreateKeyspace {
        name: "geo".into(),
        replication: replication.clone(),
        if_not_exists: true,
    };
    let options = TableOptions {
        policy: ConflictPolicy::Lww,
        compression: Compression::Zstd,
        default_ttl_ms: Some(60_000),
        ..TableOptions::default()
    };
    let create = CreateTable { name: table(), options, if_not_exists: false };
    let keyspace_def = KeyspaceDef {
        id: KeyspaceId(2),
        name: "geo".into(),
        replication: replication.clone(),
        version: Version::default(),
    };
    let tables = Outcome::Tables { keyspaces: vec![keyspace_def], tables: vec![def()] };
    let view = TableView { def: def(), replication, estimated_rows: 5, disk_bytes: 6 };
    let cluster = ClusterView {
        name: "test".into(),
        answered_by: NodeId(1),
        default_consistency: LEVEL,
        datacenters: vec![DcView { id: DcId(0), name: "us".into() }],
        nodes: Vec::new(),
    };
    let vnodes = vec![VnodeId(3), VnodeId(7)];
    let accept = AcceptLoss { node: "us-1".into(), keyspace: "geo".into(), vnodes };
    vec![
        (Request::CreateKeyspace(keyspace), Ok(Outcome::Created { new: true })),
        (Request::CreateTable(create.clone()), Ok(Outcome::Created { new: true })),
        (Request::CreateTable(create), Ok(Outcome::Created { new: false })),
        (Request::DescribeTable(table()), Ok(Outcome::Table(view))),
        (Request::ListTables, Ok(tables)),
        (Request::Cluster, Ok(Outcome::Cluster(cluster))),
        (Request::AcceptLoss(accept), Ok(Outcome::LossAccepted { vnodes: 2 })),
    ]
}

pub(super) fn cases() -> Vec<(Request, Scripted)> {
    let mut cases = key_cases();
    cases.extend(many_cases());
    cases.extend(admin_cases());
    for error in errors() {
        cases.push((Request::Get(read(key())), Err(error.clone())));
        cases.push((write(Expiry::TableDefault, None), Err(error)));
    }
    cases
}
