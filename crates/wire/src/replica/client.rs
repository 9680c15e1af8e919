//! A client's request and its outcome on their way between two nodes.

use meridian_service::{InSession, Outcome, Request, RequestError, SessionOutcome};
use meridian_types::{ConsistencyLevel, Millis};

use super::WireFault;
use crate::client::{Defaults, IntoRequest, Malformed};
use crate::v1;
use crate::v1::client_outcome::Outcome as Said;
use crate::v1::client_request::Request as Asked;

/// Never used: a node fills in what its client left out before it hands a request on.
const DEFAULTS: Defaults =
    Defaults { consistency: ConsistencyLevel::LocalQuorum, page_rows: 0, now: Millis(0) };

impl From<Request> for v1::ClientRequest {
    fn from(request: Request) -> Self {
        let request = match request {
            Request::Get(get) => Asked::Get(get.into()),
            Request::Put(put) => Asked::Put(put.into()),
            Request::Delete(delete) => Asked::Delete(delete.into()),
            Request::Touch(touch) => Asked::Touch(touch.into()),
            Request::MultiGet(get) => Asked::MultiGet(get.into()),
            Request::Batch(batch) => Asked::Batch(batch.into()),
            Request::AtomicBatch(batch) => Asked::AtomicBatch(batch.into()),
            Request::Scan(scan) => Asked::Scan(scan.into()),
            Request::Replicas(get) => Asked::Replicas(get.into()),
            Request::CreateKeyspace(create) => Asked::CreateKeyspace(create.into()),
            Request::CreateTable(create) => Asked::CreateTable(create.into()),
            Request::DescribeTable(name) => {
                Asked::DescribeTable(v1::DescribeTableRequest { name: name.into() })
            }
            Request::ListTables => Asked::ListTables(v1::ListTablesRequest {}),
            Request::Cluster => Asked::Cluster(v1::ClusterRequest {}),
            Request::AcceptLoss(accept) => Asked::AcceptLoss(accept.into()),
            Request::InSession(InSession { tokens, request }) => {
                let request = Some(Box::new((*request).into()));
                Asked::InSession(Box::new(v1::SessionRequest { tokens, request }))
            }
        };
        Self { request: Some(request) }
    }
}

impl TryFrom<v1::ClientRequest> for Request {
    type Error = WireFault;

    fn try_from(request: v1::ClientRequest) -> Result<Self, WireFault> {
        let request = match request.request.ok_or(WireFault::Missing("client's request"))? {
            Asked::InSession(inside) => return in_session(*inside),
            Asked::Get(get) => get.into_request(&DEFAULTS),
            Asked::Put(put) => put.into_request(&DEFAULTS),
            Asked::Delete(delete) => delete.into_request(&DEFAULTS),
            Asked::Touch(touch) => touch.into_request(&DEFAULTS),
            Asked::MultiGet(get) => get.into_request(&DEFAULTS),
            Asked::Batch(batch) => batch.into_request(&DEFAULTS),
            Asked::AtomicBatch(batch) => batch.into_request(&DEFAULTS),
            Asked::Scan(scan) => scan.into_request(&DEFAULTS),
            Asked::Replicas(get) => get.into_replicas_request(&DEFAULTS),
            Asked::CreateKeyspace(create) => create.into_request(&DEFAULTS),
            Asked::CreateTable(create) => create.into_request(&DEFAULTS),
            Asked::DescribeTable(describe) => describe.into_request(&DEFAULTS),
            Asked::ListTables(list) => list.into_request(&DEFAULTS),
            Asked::Cluster(cluster) => cluster.into_request(&DEFAULTS),
            Asked::AcceptLoss(accept) => accept.into_request(&DEFAULTS),
        };
        request
            .map_err(|why| WireFault::Invalid { field: "client's request", why: why.to_string() })
    }
}

/// Sessions are not nested, so no message makes this go deep.
fn in_session(inside: v1::SessionRequest) -> Result<Request, WireFault> {
    let v1::SessionRequest { tokens, request } = inside;
    let request = *request.ok_or(WireFault::Missing("request of a session"))?;
    if matches!(request.request, Some(Asked::InSession(_))) {
        let why = "a session in a session".to_owned();
        return Err(WireFault::Invalid { field: "client's request", why });
    }
    let request = Box::new(request.try_into()?);
    Ok(Request::InSession(InSession { tokens, request }))
}

impl From<Result<Outcome, RequestError>> for v1::ClientOutcome {
    fn from(result: Result<Outcome, RequestError>) -> Self {
        let outcome = match result {
            Err(error) => Said::Error((&error).into()),
            Ok(Outcome::Got(got)) => Said::Got(got.into()),
            Ok(Outcome::Put(put)) => Said::Put(put.into()),
            Ok(Outcome::Touched(touched)) => Said::Touched(touched.into()),
            Ok(Outcome::MultiGot(results)) => Said::MultiGot(results.into()),
            Ok(Outcome::Batch(batch)) => Said::Batch(batch.into()),
            Ok(Outcome::Page(page)) => Said::Page(page.into()),
            Ok(Outcome::Replicas(rows)) => Said::Replicas(rows.into()),
            Ok(Outcome::Created { new }) => Said::Created(v1::CreatedResponse { new }),
            Ok(Outcome::LossAccepted { vnodes }) => {
                Said::LossAccepted(v1::AcceptLossResponse { vnodes })
            }
            Ok(Outcome::Table(view)) => Said::Table(view.into()),
            Ok(Outcome::Tables { keyspaces, tables }) => Said::Tables(v1::ListTablesResponse {
                keyspaces: keyspaces.into_iter().map(Into::into).collect(),
                tables: tables.into_iter().map(Into::into).collect(),
            }),
            Ok(Outcome::Cluster(view)) => Said::Cluster(view.into()),
            Ok(Outcome::InSession(SessionOutcome { token, outcome })) => {
                let outcome = Some(Box::new(Ok(*outcome).into()));
                Said::InSession(Box::new(v1::SessionOutcome { token, outcome }))
            }
        };
        Self { outcome: Some(outcome) }
    }
}

impl v1::ClientOutcome {
    pub(super) fn into_result(self) -> Result<Result<Outcome, RequestError>, WireFault> {
        let outcome = self.outcome.ok_or(WireFault::Missing("outcome"))?;
        result_of(outcome).map_err(|malformed| WireFault::Missing(malformed.what))
    }
}

fn result_of(outcome: Said) -> Result<Result<Outcome, RequestError>, Malformed> {
    Ok(Ok(match outcome {
        Said::Error(error) => return Ok(Err(error.try_into()?)),
        Said::Got(got) => Outcome::Got(got.into()),
        Said::Put(put) => Outcome::Put(put.into()),
        Said::Touched(touched) => Outcome::Touched(touched.into()),
        Said::MultiGot(results) => Outcome::MultiGot(results.try_into()?),
        Said::Batch(batch) => Outcome::Batch(batch.try_into()?),
        Said::Page(page) => Outcome::Page(page.into()),
        Said::Replicas(rows) => Outcome::Replicas(rows.try_into()?),
        Said::Created(created) => Outcome::Created { new: created.new },
        Said::LossAccepted(accepted) => Outcome::LossAccepted { vnodes: accepted.vnodes },
        Said::Table(view) => Outcome::Table(view.try_into()?),
        Said::Tables(tables) => tables.try_into()?,
        Said::InSession(inside) => {
            let v1::SessionOutcome { token, outcome } = *inside;
            let malformed = Malformed { what: "outcome in a session" };
            match outcome.and_then(|outcome| outcome.outcome) {
                None | Some(Said::InSession(_) | Said::Error(_)) => return Err(malformed),
                Some(outcome) => {
                    let outcome = Box::new(result_of(outcome)?.map_err(|_error| malformed)?);
                    Outcome::InSession(SessionOutcome { token, outcome })
                }
            }
        }
        Said::Cluster(view) => Outcome::Cluster(view.try_into()?),
    }))
}
