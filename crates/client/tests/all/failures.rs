//! Nodes that fail, refuse, or are not there.

use std::time::Duration;

use meridian_client::{
    Client, ClientError, Condition, ConsistencyLevel, Delete, Effect, Expiry, GetOutcome, Outcome,
    Put, PutItem, PutOutcome, Request, RequestError,
};
use meridian_types::WriteId;
use tonic::Status;

use crate::fake::{Answer, Node, client, nobody, options};

fn done() -> Answer {
    Outcome::Put(PutOutcome { applied: true, ..PutOutcome::default() }).into()
}

fn got() -> Answer {
    Outcome::Got(GetOutcome::default()).into()
}

fn timeout(write: bool) -> RequestError {
    RequestError::Timeout { level: ConsistencyLevel::Quorum, acks: Vec::new(), write }
}

fn unavailable() -> RequestError {
    RequestError::Unavailable { level: ConsistencyLevel::Quorum, missing: Vec::new() }
}

fn put(condition: Option<Condition>) -> Put {
    let item = PutItem {
        key: "k".into(),
        value: Some("v".into()),
        expiry: Expiry::Never,
        context: None,
        write_id: None,
    };
    let (table, consistency) = ("geo.cities".parse().unwrap(), ConsistencyLevel::Quorum);
    Put { table, item, condition, consistency, with_context: false }
}

fn write_ids(nodes: &[&Node]) -> Vec<Option<WriteId>> {
    let asked = nodes.iter().flat_map(|node| node.asked());
    let id = |request| match request {
        Request::Put(put) => put.item.write_id,
        other => panic!("{other:?}"),
    };
    asked.map(|(request, _)| id(request)).collect()
}

#[tokio::test]
async fn a_node_that_is_not_there_is_passed_over() {
    let answer = |request: &Request| match request {
        Request::Put(_) => done(),
        _ => got(),
    };
    let node = Node::start(answer).await;
    // More of them than there are attempts.
    let gone = [nobody(), nobody(), nobody(), nobody()];
    let addresses: Vec<_> = gone.iter().map(|nobody| &nobody.addr).chain([&node.addr]).collect();
    let connected = Client::connect(options(addresses.clone())).await.unwrap();
    connected.table("geo.cities").unwrap().get("k").await.unwrap();
    let fresh = Client::without_connection(options(addresses)).unwrap();
    fresh.put(put(Some(Condition::Absent))).await.unwrap();
    assert_eq!(node.asked().len(), 2);
}

#[tokio::test]
async fn without_any_node_nothing_was_written() {
    let gone = nobody();
    let refused = Client::connect(options([&gone.addr])).await.err().unwrap();
    assert!(refused.to_string().contains(&gone.addr.to_string()), "{refused}");
    let client = Client::without_connection(options([&gone.addr])).unwrap();
    let refused = client.put(put(None)).await.unwrap_err();
    assert!(matches!(refused, ClientError::NotReached { .. }), "{refused}");
    assert_eq!(refused.effect(), Effect::NotApplied);
}

#[tokio::test]
async fn a_node_that_dies_is_left_for_another() {
    let first = Node::start(|_| done()).await;
    let second = Node::start(|_| done()).await;
    let client = client(&[&first, &second]).await;
    client.put(put(None)).await.unwrap();
    drop(first);
    // It dies when it is told to, not at once.
    while second.asked().is_empty() {
        client.put(put(None)).await.unwrap();
    }
    for _ in 0..3 {
        client.put(put(None)).await.unwrap();
    }
    assert_eq!(second.asked().len(), 4);
}

#[tokio::test]
async fn an_error_of_the_node_is_the_callers() {
    let refusal = RequestError::UnknownTable("geo.cities".parse().unwrap());
    let node = Node::with(vec![refusal.clone().into()]).await;
    let error = client(&[&node]).await.put(put(None)).await.unwrap_err();
    assert_eq!(error.as_request_error(), Some(&refusal));
    assert_eq!(error.effect(), Effect::NotApplied);
    assert_eq!(node.asked().len(), 1);
}

#[tokio::test]
async fn a_write_whose_end_is_unknown_is_repeated_at_the_same_node_under_its_name() {
    let first = Node::with(vec![timeout(true).into(), timeout(true).into(), done()]).await;
    let second = Node::with(Vec::new()).await;
    client(&[&first, &second]).await.put(put(None)).await.unwrap();
    let ids = write_ids(&[&first]);
    assert_eq!(ids.len(), 3);
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]));
    let request_ids: Vec<_> =
        first.asked().iter().map(|(_, m)| m.get("meridian-request-id").cloned()).collect();
    assert!(request_ids.iter().all(|id| *id == request_ids[0]));
}

#[tokio::test]
async fn what_was_surely_not_done_is_tried_at_another_node() {
    let first = Node::with(vec![unavailable().into()]).await;
    let second = Node::with(vec![done()]).await;
    client(&[&first, &second]).await.put(put(Some(Condition::Absent))).await.unwrap();
    let ids = write_ids(&[&first, &second]);
    assert!(ids.len() == 2 && ids[0] == ids[1]);
}

#[tokio::test]
async fn a_write_that_could_not_be_repeated_truthfully_is_not() {
    let node = Node::with(vec![timeout(true).into(), timeout(true).into()]).await;
    let client = client(&[&node]).await;
    let error = client.put(put(Some(Condition::Absent))).await.unwrap_err();
    assert_eq!(error, timeout(true).into());
    let delete = Delete {
        table: "geo.cities".parse().unwrap(),
        key: "k".into(),
        context: None,
        write_id: None,
        consistency: ConsistencyLevel::One,
        report_existed: true,
    };
    let error = client.delete(delete).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(node.asked().len(), 2);
}

#[tokio::test]
async fn attempts_have_an_end() {
    let node = Node::start(|_| unavailable().into()).await;
    let error = client(&[&node]).await.put(put(None)).await.unwrap_err();
    assert_eq!(error, unavailable().into());
    assert_eq!(node.asked().len(), 3);
}

#[tokio::test]
async fn an_attempt_that_may_have_written_is_not_forgotten() {
    let node = Node::with(vec![timeout(true).into(), unavailable().into(), unavailable().into()]);
    let error = client(&[&node.await]).await.put(put(None)).await.unwrap_err();
    assert_eq!(error, timeout(true).into());
}

#[tokio::test]
async fn a_node_that_says_nothing_costs_the_callers_time_and_no_more() {
    let node = Node::start(|_| Answer::Silence).await;
    let mut options = options([&node.addr]);
    options.timeout = Duration::from_millis(200);
    let client = Client::connect(options).await.unwrap();
    let error = client.put(put(None)).await.unwrap_err();
    assert!(matches!(error, ClientError::NoAnswer { .. }), "{error}");
    assert_eq!(error.effect(), Effect::Unknown);
    let error = client.table("geo.cities").unwrap().get("k").await.unwrap_err();
    assert_eq!(error.effect(), Effect::NotApplied);
}

#[tokio::test]
async fn a_wrong_password_is_refused_once() {
    let refused = || Answer::Status(Status::unauthenticated("a password is needed"));
    let node = Node::start(move |_| refused()).await;
    let error = client(&[&node]).await.put(put(None)).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("a password is needed"));
    assert_eq!((error.effect(), node.asked().len()), (Effect::NotApplied, 1));
}

#[tokio::test]
async fn an_answer_over_the_bound_is_an_error() {
    let large = || GetOutcome { values: Vec::new(), context: Some(vec![0; 2_000].into()) };
    let node = Node::start(move |_| Outcome::Got(large()).into()).await;
    let mut options = options([&node.addr]);
    options.answer_bytes = 1_000;
    let client = Client::connect(options).await.unwrap();
    let error = client.table("geo.cities").unwrap().get("k").await.unwrap_err();
    assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
    assert_eq!(node.asked().len(), 1);
}
