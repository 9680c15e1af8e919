//! Arbitrary messages of every kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meridian_coordinator::message::{
    LoggedBatch, NamedWrite, PageReply, PageRequest, PageRow, ReadKind, Refusal, Reserve, VnodeDot,
    WriteDelta, Written,
};
use meridian_crdt::{
    Actor, Context, Delta, Dot, Entry, Row, RowVersion, SessionTokenError, VnodeClock,
};
use meridian_service::{
    AtomicBatch, Batch, BatchOutcome, Condition, CreateKeyspace, CreateTable, DcShortfall, DcTally,
    Delete, Effect, Expiry, Get, GetOutcome, InSession, MultiGet, Outcome, Put, PutItem,
    PutOutcome, ReadValue, ReplicaRow, Request, RequestError, Scan, ScanOutcome, ScanRow,
    SessionOutcome, TableWrite, Touch, TouchOutcome,
};
use meridian_types::catalog::Version;
use meridian_types::{
    BatchId, ConflictPolicy, ConsistencyLevel, Epoch, Goods, Hlc, Incarnation, KeptAs, KeyspaceId,
    Millis, NodeId, PeerStanding, ReadClass, RingPosition, RowKey, StampTooFarAhead, TableId,
    TableName, TableOptions, VnodeId, VnodeKind, WriteId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::repair_strategies::{repair_reply, repair_request};
use crate::replica::*;

pub(super) fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

pub(super) fn text() -> impl Strategy<Value = String> {
    "[a-z ]{0,12}"
}

fn dot() -> impl Strategy<Value = Dot> {
    let actor = (0u32..5, 0u64..3)
        .prop_map(|(node, life)| Actor { node: NodeId(node), incarnation: Incarnation(life) });
    (actor, 1u64..50).prop_map(|(actor, counter)| Dot::new(actor, counter))
}

fn context() -> impl Strategy<Value = Context> {
    vec(dot(), 0..8).prop_map(|dots| dots.into_iter().collect())
}

pub(super) fn clock() -> impl Strategy<Value = VnodeClock> {
    vec(dot(), 0..12).prop_map(|dots| {
        let mut clock = VnodeClock::default();
        for dot in dots {
            clock.insert(dot);
        }
        clock
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (dot(), any::<u64>(), option::of(any::<u64>()), option::of(bytes())).prop_map(
        |(dot, stamp, expires, value)| Entry {
            dot,
            stamp: Hlc(stamp),
            expires: expires.map(Millis),
            value,
        },
    )
}

pub(super) fn row() -> impl Strategy<Value = Row> {
    (vec(entry(), 0..4), context()).prop_map(|(entries, context)| Row::new(entries, context))
}

fn row_key() -> impl Strategy<Value = RowKey> {
    (any::<u32>(), any::<u32>(), any::<u32>(), bytes()).prop_map(|(keyspace, table, vnode, key)| {
        RowKey { keyspace: KeyspaceId(keyspace), table: TableId(table), vnode: VnodeId(vnode), key }
    })
}

fn position() -> impl Strategy<Value = RingPosition> {
    (any::<u64>(), bytes()).prop_map(|(token, key)| RingPosition { token, key })
}

fn kind() -> impl Strategy<Value = ReadKind> {
    prop_oneof![Just(ReadKind::Data), Just(ReadKind::Digest)]
}

fn class() -> impl Strategy<Value = ReadClass> {
    proptest::sample::select(&ReadClass::EVERY[..])
}

pub(super) fn standing() -> impl Strategy<Value = PeerStanding> {
    (proptest::sample::select(&VnodeKind::EVERY[..]), 0u8..16, any::<u64>()).prop_map(
        |(kind, goods, loss)| PeerStanding {
            kind,
            goods: Goods::from_bits(goods).unwrap(),
            loss: Incarnation(loss),
        },
    )
}

fn write() -> impl Strategy<Value = WriteDelta> {
    let delta = (entry(), context()).prop_map(|(entry, context)| Delta { entry, context });
    (row_key(), delta, option::of(any::<[u8; 16]>()), vec(any::<u32>(), 0..4), any::<(u32, u64)>())
        .prop_map(|(row, delta, write_id, forward_to, (reply_to, epoch))| WriteDelta {
            row,
            delta,
            write_id: write_id.map(WriteId::from_bytes),
            forward_to: forward_to.into_iter().map(NodeId).collect(),
            reply_to: NodeId(reply_to),
            hinted: epoch % 2 == 0,
            epoch: Epoch(epoch),
        })
}

fn page_request() -> impl Strategy<Value = PageRequest> {
    let seen = vec((any::<u32>().prop_map(VnodeId), context()), 0..3);
    (any::<(u32, u32, u64, usize)>(), option::of(position()), bytes(), (kind(), class()), seen)
        .prop_map(|((keyspace, table, until, limit), after, prefix, (kind, class), seen)| {
            PageRequest {
                keyspace: KeyspaceId(keyspace),
                table: TableId(table),
                after,
                until,
                limit,
                prefix,
                kind,
                class,
                seen,
            }
        })
}

fn replica_request() -> impl Strategy<Value = ReplicaRequest> {
    prop_oneof![
        write().prop_map(ReplicaRequest::Write),
        (row_key(), kind(), class(), any::<u64>(), option::of(context())).prop_map(
            |(row, kind, class, epoch, seen)| {
                ReplicaRequest::Read { row, kind, class, epoch: Epoch(epoch), seen }
            }
        ),
        (row_key(), row(), context(), any::<u64>()).prop_map(|(row, version, coverage, epoch)| {
            ReplicaRequest::Join { row, version, coverage, epoch: Epoch(epoch) }
        }),
        page_request().prop_map(ReplicaRequest::Page),
        coordinated().prop_map(ReplicaRequest::Coordinate),
        (row_key(), any::<[u8; 16]>(), kept_as(), vec(any::<u32>(), 0..3), any::<bool>()).prop_map(
            |(row, write_id, kept_as, holders, over_what_is_here)| {
                ReplicaRequest::Reserve(Reserve {
                    row,
                    write_id: WriteId::from_bytes(write_id),
                    kept_as,
                    holders: holders.into_iter().map(NodeId).collect(),
                    over_what_is_here,
                })
            }
        ),
        (kept_as(), vnode_dot())
            .prop_map(|(kept_as, dot)| ReplicaRequest::StillNeeded { kept_as, dot }),
        vec(vnode_dot(), 0..4).prop_map(ReplicaRequest::Holds),
        logged_batch().prop_map(ReplicaRequest::KeepBatch),
        vec(batch_id(), 0..4).prop_map(ReplicaRequest::ForgetBatches),
    ]
}

fn batch_id() -> impl Strategy<Value = BatchId> {
    any::<[u8; 16]>().prop_map(BatchId::from_bytes)
}

fn kept_as() -> impl Strategy<Value = KeptAs> {
    prop_oneof![any::<u64>().prop_map(KeptAs::Intent), batch_id().prop_map(KeptAs::Batch)]
}

fn vnode_dot() -> impl Strategy<Value = VnodeDot> {
    (any::<u32>(), any::<u32>(), dot()).prop_map(|(keyspace, vnode, dot)| VnodeDot {
        keyspace: KeyspaceId(keyspace),
        vnode: VnodeId(vnode),
        dot,
    })
}

fn logged_batch() -> impl Strategy<Value = LoggedBatch> {
    let one = |write: WriteDelta| {
        let WriteDelta { row, delta, write_id, .. } = write;
        NamedWrite { row, delta, write_id }
    };
    (batch_id(), vec(any::<u32>(), 0..3), vec(write().prop_map(one), 0..4)).prop_map(
        |(id, holders, writes)| LoggedBatch {
            id,
            holders: holders.into_iter().map(NodeId).collect(),
            writes,
        },
    )
}

fn table() -> impl Strategy<Value = TableName> {
    ("[a-z]{1,8}", "[a-z0-9_-]{1,8}")
        .prop_map(|(keyspace, table)| TableName::new(&keyspace, &table).unwrap())
}

fn level() -> impl Strategy<Value = ConsistencyLevel> {
    prop::sample::select(&ConsistencyLevel::EVERY[..])
}

fn item() -> impl Strategy<Value = PutItem> {
    let expiry = prop_oneof![
        Just(Expiry::TableDefault),
        Just(Expiry::Never),
        Just(Expiry::Keep),
        any::<u64>().prop_map(|at| Expiry::At(Millis(at))),
    ];
    (bytes(), option::of(bytes()), expiry, option::of(bytes()), option::of(any::<[u8; 16]>()))
        .prop_map(|(key, value, expiry, context, write_id)| PutItem {
            key,
            value,
            expiry,
            context,
            write_id: write_id.map(WriteId::from_bytes),
        })
}

fn get() -> impl Strategy<Value = Get> {
    (table(), bytes(), level(), any::<bool>()).prop_map(
        |(table, key, consistency, with_context)| Get { table, key, consistency, with_context },
    )
}

fn put() -> impl Strategy<Value = Put> {
    let condition = prop_oneof![Just(Condition::Absent), Just(Condition::Present)];
    (table(), item(), option::of(condition), level(), any::<bool>()).prop_map(
        |(table, item, condition, consistency, with_context)| Put {
            table,
            item,
            condition,
            consistency,
            with_context,
        },
    )
}

fn coordinated() -> impl Strategy<Value = Request> {
    let inside = (vec(bytes(), 0..3), client_request()).prop_map(|(tokens, request)| {
        Request::InSession(InSession { tokens, request: Box::new(request) })
    });
    prop_oneof![3 => client_request(), 1 => inside]
}

fn client_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        get().prop_map(Request::Get),
        get().prop_map(Request::Replicas),
        put().prop_map(Request::Put),
        put().prop_map(|put| Request::Delete(Delete {
            table: put.table,
            key: put.item.key,
            context: put.item.context,
            write_id: put.item.write_id,
            consistency: put.consistency,
            report_existed: put.with_context,
        })),
        (get(), any::<u64>()).prop_map(|(get, at)| Request::Touch(Touch {
            table: get.table,
            key: get.key,
            expiry: if get.with_context { Expiry::Never } else { Expiry::At(Millis(at)) },
            consistency: get.consistency,
        })),
        (get(), vec(bytes(), 0..5)).prop_map(|(get, keys)| Request::MultiGet(MultiGet {
            table: get.table,
            keys,
            consistency: get.consistency,
            with_context: get.with_context,
        })),
        (table(), vec(item(), 0..5), level()).prop_map(|(table, items, consistency)| {
            Request::Batch(Batch { table, items, consistency })
        }),
        (vec((table(), item()), 0..5), level()).prop_map(|(writes, consistency)| {
            let one = |(table, item)| TableWrite { table, item };
            let writes = writes.into_iter().map(one).collect();
            Request::AtomicBatch(AtomicBatch { writes, consistency })
        }),
        (get(), option::of(bytes()), 1usize..10_000).prop_map(|(get, cursor, limit)| {
            Request::Scan(Scan {
                table: get.table,
                cursor,
                limit,
                prefix: get.key,
                with_values: get.with_context,
                consistency: get.consistency,
            })
        }),
        (text(), any::<u8>(), any::<bool>()).prop_map(|(name, replicas, if_not_exists)| {
            let replication = BTreeMap::from([("us".to_owned(), replicas), (name.clone(), 1)]);
            Request::CreateKeyspace(CreateKeyspace { name, replication, if_not_exists })
        }),
        (table(), option::of(any::<u64>()), any::<bool>()).prop_map(
            |(name, default_ttl_ms, if_not_exists)| {
                let options = TableOptions { default_ttl_ms, ..TableOptions::default() };
                Request::CreateTable(CreateTable { name, options, if_not_exists })
            }
        ),
        table().prop_map(Request::DescribeTable),
        Just(Request::ListTables),
        Just(Request::Cluster),
    ]
}

fn error() -> impl Strategy<Value = RequestError> {
    let tallies = || {
        vec((text(), 0usize..9, 0usize..9), 0..3).prop_map(|dcs| {
            let one = |(datacenter, acked, required)| DcTally {
                datacenter,
                acked,
                required,
                replicas: acked + required,
            };
            dcs.into_iter().map(one).collect::<Vec<_>>()
        })
    };
    prop_oneof![
        table().prop_map(RequestError::UnknownTable),
        (level(), vec((text(), 0usize..9), 0..3)).prop_map(|(level, dcs)| {
            let one = |(datacenter, alive)| DcShortfall {
                datacenter,
                required: alive + 1,
                alive,
                replicas: alive + 2,
            };
            RequestError::Unavailable { level, missing: dcs.into_iter().map(one).collect() }
        }),
        (level(), tallies(), any::<bool>())
            .prop_map(|(level, acks, write)| RequestError::Timeout { level, acks, write }),
        (level(), tallies(), text(), any::<bool>())
            .prop_map(|(level, acks, why, write)| RequestError::Failed { level, acks, why, write }),
        any::<usize>().prop_map(|limit| RequestError::Overloaded { queue: "requests", limit }),
        text().prop_map(|why| RequestError::Storage { why, effect: Effect::Unknown }),
        any::<usize>().prop_map(|count| RequestError::Siblings { count }),
        Just(RequestError::Stopping),
        Just(RequestError::Session(SessionTokenError::Forged)),
        level().prop_map(|level| RequestError::SessionBehind { level }),
    ]
}

fn value() -> impl Strategy<Value = ReadValue> {
    (bytes(), any::<u64>(), option::of(any::<u64>())).prop_map(|(value, stamp, expires)| {
        ReadValue { value, stamp: Hlc(stamp), expires: expires.map(Millis) }
    })
}

fn got() -> impl Strategy<Value = GetOutcome> {
    (vec(value(), 0..3), option::of(bytes()))
        .prop_map(|(values, context)| GetOutcome { values, context })
}

fn put_outcome() -> impl Strategy<Value = PutOutcome> {
    (any::<bool>(), option::of(any::<bool>()), option::of(bytes()), any::<u64>()).prop_map(
        |(applied, existed, context, stamp)| PutOutcome {
            applied,
            existed,
            context,
            stamp: Hlc(stamp),
        },
    )
}

fn result<T: std::fmt::Debug>(
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = Result<T, RequestError>> {
    prop_oneof![of.prop_map(Ok), error().prop_map(Err)]
}

fn replica_row() -> impl Strategy<Value = ReplicaRow> {
    let values = prop_oneof![vec(value(), 0..3).prop_map(Ok), text().prop_map(Err)];
    (text(), text(), values, option::of(any::<u128>())).prop_map(
        |(node, datacenter, values, clock_digest)| ReplicaRow {
            node,
            datacenter,
            values,
            clock_digest,
        },
    )
}

fn coordinated_outcome() -> impl Strategy<Value = Outcome> {
    let inside = (bytes(), outcome()).prop_map(|(token, outcome)| {
        Outcome::InSession(SessionOutcome { token, outcome: Box::new(outcome) })
    });
    prop_oneof![3 => outcome(), 1 => inside]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        got().prop_map(Outcome::Got),
        put_outcome().prop_map(Outcome::Put),
        any::<(bool, bool)>()
            .prop_map(|(existed, changed)| { Outcome::Touched(TouchOutcome { existed, changed }) }),
        vec(result(got()), 0..3).prop_map(Outcome::MultiGot),
        vec(result(put_outcome()), 0..3)
            .prop_map(|results| Outcome::Batch(BatchOutcome { results })),
        (vec((bytes(), vec(value(), 0..3)), 0..3), option::of(bytes())).prop_map(|(rows, next)| {
            let rows = rows.into_iter().map(|(key, values)| ScanRow { key, values }).collect();
            Outcome::Page(ScanOutcome { rows, next })
        }),
        vec(replica_row(), 0..3).prop_map(Outcome::Replicas),
        any::<bool>().prop_map(|new| Outcome::Created { new }),
        (0usize..4).prop_map(|tables| {
            let catalog = a_catalog(tables);
            Outcome::Tables {
                keyspaces: catalog.keyspaces().cloned().collect(),
                tables: catalog.tables().cloned().collect(),
            }
        }),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        any::<u32>().prop_map(|table| Refusal::UnknownTable(TableId(table))),
        text().prop_map(Refusal::Storage),
        Just(Refusal::Overloaded),
        Just(Refusal::DeadlinePassed),
        Just(Refusal::Behind),
        any::<(u64, u64)>().prop_map(|(ahead_ms, limit_ms)| {
            Refusal::Stamp(StampTooFarAhead { ahead_ms, limit_ms })
        }),
        any::<(u64, u64)>()
            .prop_map(|(asked, has)| Refusal::StaleEpoch { asked: Epoch(asked), has: Epoch(has) }),
        Just(Refusal::Rebuilding),
        text().prop_map(Refusal::Malformed),
        Just(Refusal::GivenUp),
    ]
}

fn page_row() -> impl Strategy<Value = PageRow> {
    (position(), option::of(row()), any::<u128>()).prop_map(|(position, row, digest)| PageRow {
        position,
        row,
        digest,
    })
}

fn replica_reply() -> impl Strategy<Value = ReplicaReply> {
    prop_oneof![
        (any::<bool>(), option::of(any::<u32>()))
            .prop_map(|(known, credit)| ReplicaReply::Written(Written { known, credit })),
        (row(), clock())
            .prop_map(|(row, clock)| ReplicaReply::Row(RowVersion { row, clock: Arc::new(clock) })),
        any::<u128>().prop_map(ReplicaReply::Digest),
        Just(ReplicaReply::Joined),
        (vec(page_row(), 0..4), option::of(position()))
            .prop_map(|(rows, end)| ReplicaReply::Page(PageReply { rows, end })),
        result(coordinated_outcome())
            .prop_map(|result| ReplicaReply::Coordinated(Box::new(result))),
        refusal().prop_map(ReplicaReply::Refused),
        (dot(), context(), any::<u64>()).prop_map(|(dot, context, stamp)| {
            ReplicaReply::Reserved { dot, context, not_below: Hlc(stamp) }
        }),
        write().prop_map(|write| ReplicaReply::Named(write.delta)),
        any::<bool>().prop_map(ReplicaReply::Needed),
        vec(any::<bool>(), 0..5).prop_map(ReplicaReply::Held),
        Just(ReplicaReply::BatchKept),
    ]
}

fn body() -> impl Strategy<Value = PeerBody> {
    prop_oneof![
        5 => replica_request().prop_map(PeerBody::Request),
        5 => replica_reply().prop_map(PeerBody::Reply),
        2 => repair_request().prop_map(PeerBody::Repair),
        2 => repair_reply().prop_map(PeerBody::RepairReply),
        1 => prop_oneof![
            (0usize..4).prop_map(|tables| CatalogMessage::Publish(a_catalog(tables))),
            any::<u128>().prop_map(CatalogMessage::Digest),
            Just(CatalogMessage::Ask),
            (0usize..4, any::<u32>()).prop_map(|(tables, keyspace)| CatalogMessage::Created {
                catalog: a_catalog(tables),
                keyspace: KeyspaceId(keyspace),
            }),
        ].prop_map(PeerBody::Catalog),
        1 => prop_oneof![
            Just(CatalogReply::Joined),
            Just(CatalogReply::Same),
            (0usize..4).prop_map(|tables| CatalogReply::Catalog(a_catalog(tables))),
            text().prop_map(CatalogReply::Refused),
        ].prop_map(PeerBody::CatalogReply),
    ]
}

/// A message of any kind.
pub(super) fn message() -> impl Strategy<Value = PeerMessage> {
    let head = (any::<u64>(), option::of(any::<[u8; 16]>()), option::of(any::<u32>()));
    (head, body()).prop_map(|((call, trace, deadline_ms), body)| PeerMessage {
        call,
        trace: trace.map(RequestId::from_bytes),
        deadline_ms,
        body,
    })
}

/// A catalog with so many tables.
pub(super) fn a_catalog(tables: usize) -> Catalog {
    let version = |stamp| Version { stamp: Hlc(stamp), node: NodeId(2) };
    let mut catalog = Catalog::default();
    let replication = BTreeMap::from([("eu".to_owned(), 3), ("us".to_owned(), 2)]);
    catalog.create_keyspace("geo", replication, version(7)).unwrap();
    for n in 0..tables {
        let name = TableName::new("geo", &format!("t{n}")).unwrap();
        let options = TableOptions { policy: ConflictPolicy::Lww, ..TableOptions::default() };
        catalog.create_table(&name, options, version(8 + n as u64)).unwrap();
    }
    catalog
}

/// A write of this key and value.
pub(super) fn a_write(key: Bytes, value: Bytes) -> PeerMessage {
    let actor = Actor { node: NodeId(3), incarnation: Incarnation(0x0102_0304_0506_0708) };
    let stamp = Hlc::new(Millis(1_700_000_000_000), 5);
    let entry = Entry { dot: Dot::new(actor, 42), stamp, expires: None, value: Some(value) };
    let write = WriteDelta {
        row: RowKey { keyspace: KeyspaceId(1), table: TableId(2), vnode: VnodeId(300), key },
        delta: Delta { entry, context: Context::default() },
        write_id: Some(WriteId::from_bytes([0xab; 16])),
        forward_to: vec![NodeId(4), NodeId(5)],
        reply_to: NodeId(3),
        hinted: false,
        epoch: Epoch(1),
    };
    let trace = Some(RequestId::from_bytes([0x11; 16]));
    PeerMessage {
        call: 7,
        trace,
        deadline_ms: None,
        body: PeerBody::Request(ReplicaRequest::Write(write)),
    }
}

/// A request that is handed on and has these keys.
pub(super) fn a_multi_get(keys: Vec<Bytes>) -> PeerMessage {
    let request = Request::MultiGet(MultiGet {
        table: "geo.cities".parse().unwrap(),
        keys,
        consistency: ConsistencyLevel::One,
        with_context: false,
    });
    let body = PeerBody::Request(ReplicaRequest::Coordinate(request));
    PeerMessage { call: 8, trace: None, deadline_ms: None, body }
}
