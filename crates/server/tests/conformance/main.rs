//! What one door can do the others can: one list of requests and outcomes through all three.
//!
//! A scripted service takes down what it is asked and answers as the list says. Each door must
//! have asked exactly that, and must show exactly that outcome.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: what is not as expected ends it, and the doors measure real time"
)]

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod grpc_door;
mod resp_door;
mod rest_door;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cases::*;
use common::http::{Answer, ask};
use common::resp::{Client, Frame};
use meridian_crdt::{SessionTokenError, TokenError};
use meridian_service::{
    AcceptLoss, AtomicBatch, Batch, BatchOutcome, CallContext, ClusterView, Condition,
    CreateKeyspace, CreateTable, DcShortfall, DcTally, DcView, Delete, Effect, Expiry, Get,
    GetOutcome, MultiGet, Outcome, Put, PutItem, PutOutcome, ReadValue, ReplicaRow, Request,
    RequestError, Scan, ScanOutcome, ScanRow, Service, TableView, TableWrite, Touch, TouchOutcome,
};
use meridian_types::catalog::Version;
use meridian_types::{
    CatalogError, Compression, ConflictPolicy, ConsistencyLevel, DcId, Hlc, KeyError, KeyspaceDef,
    KeyspaceId, Millis, NodeId, TableDef, TableId, TableName, TableOptions, VnodeId,
};
use meridian_wire::client::{IntoRequest, error_of};
use meridian_wire::v1;
use parking_lot::Mutex;

type Scripted = Result<Outcome, RequestError>;

/// Answers as it is told and takes down what it was asked.
struct Script {
    answer: Mutex<Scripted>,
    asked: Mutex<Vec<Request>>,
}

impl Service for Script {
    async fn call(&self, _: CallContext, request: Request) -> Scripted {
        self.asked.lock().push(request);
        self.answer.lock().clone()
    }
}

/// What a client has seen, in the words that all doors have.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Values(Vec<Vec<u8>>),
    Written { applied: bool },
    Touched { existed: bool },
    Many(Vec<Self>),
    Page { keys: Vec<Vec<u8>>, more: bool },
    Replicas(usize),
    Created { new: bool },
    Table(String),
    Tables { keyspaces: usize, tables: usize },
    Cluster(String),
    LossAccepted(u64),
    Error { code: String, effect: String },
}

fn seen_error(error: &RequestError) -> Seen {
    let (code, effect) = (error.code().id.to_owned(), error.effect().name().to_owned());
    Seen::Error { code, effect }
}

fn seen_values(got: &GetOutcome) -> Seen {
    Seen::Values(got.values.iter().map(|value| value.value.to_vec()).collect())
}

fn seen(answer: &Scripted) -> Seen {
    match answer {
        Err(error) => seen_error(error),
        Ok(Outcome::Got(got)) => seen_values(got),
        Ok(Outcome::Put(put)) => Seen::Written { applied: put.applied },
        Ok(Outcome::Touched(touched)) => Seen::Touched { existed: touched.existed },
        Ok(Outcome::MultiGot(results)) => Seen::Many(
            results.iter().map(|r| r.as_ref().map_or_else(seen_error, seen_values)).collect(),
        ),
        Ok(Outcome::Batch(batch)) => {
            let one = |put: &PutOutcome| Seen::Written { applied: put.applied };
            let results = batch.results.iter();
            Seen::Many(results.map(|r| r.as_ref().map_or_else(seen_error, one)).collect())
        }
        Ok(Outcome::Page(page)) => Seen::Page {
            keys: page.rows.iter().map(|row| row.key.to_vec()).collect(),
            more: page.next.is_some(),
        },
        Ok(Outcome::Replicas(rows)) => Seen::Replicas(rows.len()),
        Ok(Outcome::Created { new }) => Seen::Created { new: *new },
        Ok(Outcome::Table(view)) => Seen::Table(view.def.name.to_string()),
        Ok(Outcome::Tables { keyspaces, tables }) => {
            Seen::Tables { keyspaces: keyspaces.len(), tables: tables.len() }
        }
        Ok(Outcome::Cluster(view)) => Seen::Cluster(view.name.clone()),
        Ok(Outcome::LossAccepted { vnodes }) => Seen::LossAccepted(*vnodes),
        Ok(Outcome::InSession(inside)) => seen(&Ok((*inside.outcome).clone())),
    }
}

/// Leaves out what doors choose differently: whether a context or the former value is wanted.
fn essence(mut request: Request) -> Request {
    match &mut request {
        Request::Get(get) | Request::Replicas(get) => get.with_context = false,
        Request::Put(put) => put.with_context = false,
        Request::MultiGet(get) => get.with_context = false,
        Request::Delete(delete) => delete.report_existed = false,
        _ => {}
    }
    request
}

/// What the service was asked, once.
fn asked(script: &Script) -> Request {
    let mut asked = std::mem::take(&mut *script.asked.lock());
    assert_eq!(asked.len(), 1, "{asked:?}");
    essence(asked.remove(0))
}

#[tokio::test]
async fn one_list_through_all_three_doors() {
    let script = Arc::new(Script {
        answer: Mutex::new(Err(RequestError::Stopping)),
        asked: Mutex::new(Vec::new()),
    });
    let house = common::open(script.clone(), common::everywhere()).await;
    let endpoint = format!("http://{}", house.at.grpc.unwrap());
    let channel = tonic::transport::Endpoint::new(endpoint).unwrap().connect().await.unwrap();
    let mut kv = v1::kv_client::KvClient::new(channel.clone());
    let mut admin = v1::admin_client::AdminClient::new(channel);
    let mut resp = Client::connect(house.at.resp.unwrap()).await;
    assert_eq!(resp.tell("SELECT geo.cities").await, common::resp::ok());
    assert_eq!(resp.tell(&format!("CONSISTENCY {}", LEVEL.name())).await, common::resp::ok());
    let rest = house.at.rest.unwrap();

    let (mut through_resp, cases) = (0, cases());
    for (request, answer) in &cases {
        *script.answer.lock() = answer.clone();
        let shown = grpc_door::run(&mut kv, &mut admin, request.clone()).await;
        assert_eq!(asked(&script), *request, "gRPC");
        assert_eq!(shown, *answer, "gRPC: {request:?}");

        for json in [false, true] {
            let shown = rest_door::run(rest, request, json).await;
            assert_eq!(asked(&script), *request, "REST");
            assert_eq!(rest_door::read(request, &shown), seen(answer), "REST: {request:?}");
        }

        if let Some(words) = resp_door::command(request) {
            resp.send(&[words.iter().map(Vec::as_slice).collect()]).await;
            let frame = resp.next().await.unwrap();
            assert_eq!(asked(&script), *request, "RESP");
            let shown = resp_door::read(request, frame);
            assert_eq!(shown, resp_door::expected(answer), "RESP: {request:?}");
            through_resp += 1;
        }
    }
    assert!(through_resp > cases.len() * 3 / 4, "{through_resp} of {}", cases.len());
    house.doors.close().await;
}

#[test]
fn every_error_and_every_request_is_in_the_list() {
    let mut codes: Vec<_> = errors().iter().map(|error| error.code().id).collect();
    codes.dedup();
    assert_eq!(codes, meridian_service::ErrorCode::EVERY.map(|code| code.id));
    let mut kinds: Vec<_> =
        cases().iter().map(|(request, _)| std::mem::discriminant(request)).collect();
    kinds.dedup();
    let mut distinct = Vec::new();
    for kind in kinds {
        if !distinct.contains(&kind) {
            distinct.push(kind);
        }
    }
    assert_eq!(distinct.len(), 15, "Request has a variant that no door is tried with");
    // The wire's defaults are not what makes the requests equal.
    let bare = v1::GetRequest { table: "geo.cities".into(), ..Default::default() };
    let defaults = meridian_wire::client::Defaults {
        consistency: ConsistencyLevel::One,
        page_rows: 1,
        now: Millis(0),
    };
    assert_ne!(bare.into_request(&defaults), Ok(Request::Get(read(key()))));
}
