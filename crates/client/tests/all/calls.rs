//! Calls that succeed.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_client::{
    AtomicBatch, BatchOutcome, ClusterView, ConsistencyLevel, CreateKeyspace, CreateTable, Expiry,
    GetOutcome, KeyspaceDef, Millis, Outcome, PutItem, PutOutcome, ReadValue, ReplicaRow, Request,
    RequestError, ScanOutcome, ScanRow, TableDef, TableOptions, TableView, TableWrite,
    TouchOutcome,
};
use meridian_types::catalog::Version;
use meridian_types::{Hlc, KeyspaceId, NodeId, TableId};

use crate::fake::{Answer, Node, client, options};

fn value(value: &'static str) -> ReadValue {
    ReadValue { value: value.into(), stamp: Hlc(7), expires: None }
}

fn two_siblings() -> GetOutcome {
    GetOutcome { values: vec![value("a"), value("bb")], context: Some("context".into()) }
}

fn table_view() -> TableView {
    let version = Version { stamp: Hlc(1), node: NodeId(1) };
    let def = TableDef {
        id: TableId(2),
        keyspace: KeyspaceId(1),
        name: "geo.cities".parse().unwrap(),
        options: TableOptions::default(),
        version,
    };
    TableView { def, replication: BTreeMap::new(), estimated_rows: 3, disk_bytes: 4 }
}

fn cluster_view() -> ClusterView {
    ClusterView {
        name: "test".into(),
        answered_by: NodeId(1),
        default_consistency: ConsistencyLevel::One,
        datacenters: Vec::new(),
        nodes: Vec::new(),
    }
}

/// A node that answers every request with an outcome of its kind.
fn answer(request: &Request) -> Answer {
    match request {
        Request::Get(_) => Outcome::Got(two_siblings()),
        Request::Put(_) | Request::Delete(_) => {
            Outcome::Put(PutOutcome { applied: true, stamp: Hlc(9), ..PutOutcome::default() })
        }
        Request::Touch(_) => Outcome::Touched(TouchOutcome { existed: true, changed: true }),
        Request::MultiGet(_) => {
            Outcome::MultiGot(vec![Ok(two_siblings()), Err(RequestError::Stopping)])
        }
        Request::Batch(batch) => Outcome::Batch(BatchOutcome {
            results: batch.items.iter().map(|_| Ok(PutOutcome::default())).collect(),
        }),
        Request::AtomicBatch(batch) => Outcome::Batch(BatchOutcome {
            results: batch.writes.iter().map(|_| Ok(PutOutcome::default())).collect(),
        }),
        Request::Scan(scan) => page(scan.cursor.as_ref()),
        Request::Replicas(_) => Outcome::Replicas(vec![ReplicaRow {
            node: "us-1".into(),
            datacenter: "us".into(),
            values: Ok(vec![value("a")]),
            clock_digest: Some(5),
        }]),
        Request::CreateKeyspace(_) => Outcome::Created { new: true },
        Request::CreateTable(_) => Outcome::Created { new: false },
        Request::DescribeTable(_) => Outcome::Table(table_view()),
        Request::ListTables => {
            Outcome::Tables { keyspaces: Vec::<KeyspaceDef>::new(), tables: vec![table_view().def] }
        }
        Request::Cluster => Outcome::Cluster(cluster_view()),
        Request::AcceptLoss(_) => Outcome::LossAccepted { vnodes: 3 },
        Request::InSession(_) => panic!("a session is in the metadata"),
    }
    .into()
}

/// Three pages of one row each.
fn page(cursor: Option<&Bytes>) -> Outcome {
    let at = cursor.map_or(0, |cursor| cursor[0]);
    let rows = vec![ScanRow { key: vec![at].into(), values: vec![value("a")] }];
    Outcome::Page(ScanOutcome { rows, next: (at < 2).then(|| vec![at + 1].into()) })
}

#[tokio::test]
async fn every_call_has_its_answer() {
    let node = Node::start(answer).await;
    let client = client(&[&node]).await;
    let cities = client.table("geo.cities").unwrap();
    assert_eq!(cities.get("k").await, Ok(two_siblings()));
    assert_eq!(cities.put("k", "v").await.map(|put| put.stamp), Ok(Hlc(9)));
    assert_eq!(cities.delete("k").await.map(|put| put.applied), Ok(true));
    let touched = cities.touch("k", Expiry::At(Millis(5))).await;
    assert_eq!(touched, Ok(TouchOutcome { existed: true, changed: true }));
    let both = cities.multi_get(["a", "b"]).await;
    assert_eq!(both, Ok(vec![Ok(two_siblings()), Err(RequestError::Stopping)]));
    assert_eq!(cities.batch(vec![item("a"), item("b")]).await.unwrap().results.len(), 2);
    let write = |key| TableWrite { table: cities.name().clone(), item: item(key) };
    let writes = vec![write("a"), write("b")];
    let atomic = AtomicBatch { writes, consistency: ConsistencyLevel::Quorum };
    assert_eq!(client.atomic_batch(atomic).await.unwrap().results.len(), 2);
    assert_eq!(cities.replicas("k").await.unwrap()[0].clock_digest, Some(5));
    assert_eq!(client.describe_table(cities.name().clone()).await, Ok(table_view()));
    assert_eq!(client.list_tables().await, Ok((Vec::new(), vec![table_view().def])));
    assert_eq!(client.cluster().await, Ok(cluster_view()));
    let keyspace =
        CreateKeyspace { name: "geo".into(), replication: BTreeMap::new(), if_not_exists: true };
    assert_eq!(client.create_keyspace(keyspace).await, Ok(true));
    let table = CreateTable {
        name: cities.name().clone(),
        options: TableOptions::default(),
        if_not_exists: true,
    };
    assert_eq!(client.create_table(table).await, Ok(false));
}

/// The fake gives each answer a token that names all tokens that came with its request.
#[tokio::test]
async fn a_session_keeps_its_tokens_by_itself() {
    let node = Node::start(answer).await;
    let client = client(&[&node]).await;
    let session = client.session();
    assert!(session.tokens().is_empty());
    let cities = session.table("geo.cities").unwrap();
    cities.put("k", "v").await.unwrap();
    assert_eq!(session.tokens(), ["1()"]);
    assert_eq!(cities.get("k").await, Ok(two_siblings()));
    assert_eq!(session.clone().tokens(), ["2(1())"]);
    // Both begin with the same token, and neither joins the other's.
    let (one, other) = tokio::join!(cities.get("k"), cities.batch(vec![item("a")]));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(session.tokens().len(), 2);
    let mut pages = cities.scan().pages();
    assert!(pages.next_page().await.unwrap().is_some());
    let [last] = &session.tokens()[..] else { panic!("{:?}", session.tokens()) };
    assert!(last.starts_with(b"5(") && last.ends_with(b")"), "{last:?}");
    // What is no part of a session carries none, and neither does another client.
    session.client().list_tables().await.unwrap();
    client.table("geo.cities").unwrap().get("k").await.unwrap();
    let asked = node.asked();
    let tokens = |at: usize| asked[at].1.get_all_bin(meridian_wire::client::SESSION).iter().count();
    assert_eq!((tokens(0), tokens(1), tokens(4), tokens(5), tokens(6)), (1, 1, 2, 0, 0));
    let further = client.session_from(session.tokens());
    assert_eq!(further.tokens(), session.tokens());
}

#[tokio::test]
async fn a_failed_request_leaves_its_session_as_it_was() {
    let behind = RequestError::SessionBehind { level: ConsistencyLevel::One };
    let node = Node::start(move |request| match request {
        Request::Get(_) => behind.clone().into(),
        other => answer(other),
    })
    .await;
    let session = client(&[&node]).await.session();
    let cities = session.table("geo.cities").unwrap();
    cities.put("k", "v").await.unwrap();
    let before = session.tokens();
    assert!(cities.get("k").await.is_err());
    assert_eq!(session.tokens(), before);
    assert!(node.asked().len() > 2, "it is tried again");
}

fn item(key: &'static str) -> PutItem {
    PutItem {
        key: key.into(),
        value: Some("v".into()),
        expiry: Expiry::TableDefault,
        context: None,
        write_id: None,
    }
}

#[tokio::test]
async fn siblings_are_resolved_and_replaced_by_a_put_after_them() {
    let node = Node::start(answer).await;
    let client = client(&[&node]).await;
    let carts = client.table("shop.carts").unwrap().at(ConsistencyLevel::Quorum);
    let longest = |values: &[ReadValue]| values.iter().map(|v| &v.value).max().unwrap().clone();
    let cart = carts.get_resolved("ann", longest).await.unwrap();
    assert_eq!((cart.value.as_deref(), cart.siblings), (Some(&b"bb"[..]), 2));
    carts.put_after(&cart, "new").await.unwrap();
    carts.delete_after(&cart).await.unwrap();
    let asked = node.asked();
    let Request::Put(put) = &asked[1].0 else { panic!("{asked:?}") };
    assert_eq!(put.item.context.as_deref(), Some(&b"context"[..]));
    assert_eq!((&put.item.key[..], put.consistency), (&b"ann"[..], ConsistencyLevel::Quorum));
    let Request::Delete(delete) = &asked[2].0 else { panic!("{asked:?}") };
    assert_eq!(delete.context.as_deref(), Some(&b"context"[..]));
}

#[tokio::test]
async fn pages_follow_each_other_to_the_last() {
    let node = Node::start(answer).await;
    let client = client(&[&node]).await;
    let scan = client.table("geo.cities").unwrap().scan().prefix("z").limit(1).keys_only();
    let mut pages = scan.pages();
    let mut keys = Vec::new();
    while let Some(page) = pages.next_page().await.unwrap() {
        keys.extend(page.rows.into_iter().map(|row| row.key[0]));
    }
    assert_eq!(keys, [0, 1, 2]);
    let asked = node.asked();
    let Request::Scan(scan) = &asked[1].0 else { panic!("{asked:?}") };
    assert_eq!((&scan.prefix[..], scan.limit, scan.with_values), (&b"z"[..], 1, false));
}

#[tokio::test]
async fn requests_carry_an_id_a_deadline_and_the_password() {
    let node = Node::start(answer).await;
    let mut options = options([&node.addr]);
    options.password = Some("secret".into());
    assert!(!format!("{options:?}").contains("secret"));
    let client = meridian_client::Client::connect(options).await.unwrap();
    client.cluster().await.unwrap();
    let (_, metadata) = &node.asked()[0];
    assert_eq!(metadata.get("authorization").unwrap(), "Bearer secret");
    assert_eq!(metadata.get("meridian-request-id").unwrap().len(), 36);
    assert!(metadata.contains_key("grpc-timeout"));
}

#[tokio::test]
async fn every_write_has_a_name() {
    let node = Node::start(answer).await;
    let client = client(&[&node]).await;
    let cities = client.table("geo.cities").unwrap();
    cities.put("k", "v").await.unwrap();
    cities.delete("k").await.unwrap();
    cities.batch(vec![item("a"), item("b")]).await.unwrap();
    let mut ids = Vec::new();
    for (request, _) in node.asked() {
        match request {
            Request::Put(put) => ids.push(put.item.write_id.unwrap()),
            Request::Delete(delete) => ids.push(delete.write_id.unwrap()),
            Request::Batch(batch) => ids.extend(batch.items.iter().map(|i| i.write_id.unwrap())),
            other => panic!("{other:?}"),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}
