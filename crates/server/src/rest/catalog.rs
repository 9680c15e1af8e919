//! Keyspaces, tables and the cluster.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes as Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use meridian_service::{
    AcceptLoss, ClusterView, CreateKeyspace, CreateTable, NodeView, Outcome, Request, Service,
    TableView,
};
use meridian_types::{KeyspaceDef, TableDef, TableName, TableOptions, VnodeId};
use serde::{Deserialize, Serialize};

use super::Desk;
use super::extract::{Call, Refusal, json};
use super::kv::answer;
use super::problem::invalid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKeyspace {
    name: String,
    #[serde(default)]
    replication: BTreeMap<String, u8>,
    #[serde(default)]
    if_not_exists: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTable {
    name: String,
    #[serde(default)]
    options: TableOptions,
    #[serde(default)]
    if_not_exists: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LossToAccept {
    node: String,
    keyspace: String,
    /// None names all.
    #[serde(default)]
    vnodes: Vec<u32>,
}

#[derive(Serialize)]
struct JsonKeyspace {
    name: String,
    replication: BTreeMap<String, u8>,
}

impl From<KeyspaceDef> for JsonKeyspace {
    fn from(def: KeyspaceDef) -> Self {
        Self { name: def.name, replication: def.replication }
    }
}

#[derive(Serialize)]
struct JsonTable {
    name: String,
    id: u32,
    options: TableOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<BTreeMap<String, u8>>,
    /// As the answering node estimates them for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_bytes: Option<u64>,
}

impl From<TableDef> for JsonTable {
    fn from(def: TableDef) -> Self {
        Self {
            name: def.name.into(),
            id: def.id.0,
            options: def.options,
            replication: None,
            estimated_rows: None,
            disk_bytes: None,
        }
    }
}

impl From<TableView> for JsonTable {
    fn from(view: TableView) -> Self {
        Self {
            replication: Some(view.replication),
            estimated_rows: Some(view.estimated_rows),
            disk_bytes: Some(view.disk_bytes),
            ..view.def.into()
        }
    }
}

#[derive(Serialize)]
struct JsonCluster {
    name: String,
    answered_by: u32,
    default_consistency: &'static str,
    datacenters: Vec<String>,
    nodes: Vec<JsonNode>,
}

#[derive(Serialize)]
struct JsonNode {
    id: u32,
    name: String,
    datacenter: String,
    rack: String,
    alive: bool,
    incarnation: Option<String>,
    hints: u64,
    differing_vnodes: u64,
    unsound_vnodes: u64,
    behind_dots: u64,
    behind_ms: u64,
}

impl From<NodeView> for JsonNode {
    fn from(node: NodeView) -> Self {
        Self {
            id: node.id.0,
            name: node.name,
            datacenter: node.datacenter,
            rack: node.rack,
            alive: node.alive,
            // 64 bits do not fit a JSON number everywhere.
            incarnation: node.incarnation.map(|incarnation| format!("{:016x}", incarnation.0)),
            hints: node.hints,
            differing_vnodes: node.differing_vnodes,
            unsound_vnodes: node.unsound_vnodes,
            behind_dots: node.behind_dots,
            behind_ms: node.behind_ms,
        }
    }
}

impl From<ClusterView> for JsonCluster {
    fn from(view: ClusterView) -> Self {
        Self {
            name: view.name,
            answered_by: view.answered_by.0,
            default_consistency: view.default_consistency.name(),
            datacenters: view.datacenters.into_iter().map(|dc| dc.name).collect(),
            nodes: view.nodes.into_iter().map(Into::into).collect(),
        }
    }
}

/// `201` for what is new, `200` for what was there and was said to be fine.
fn created(outcome: Outcome) -> Option<Response> {
    let Outcome::Created { new } = outcome else { return None };
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Some((status, Json(serde_json::json!({ "new": new }))).into_response())
}

pub(super) async fn create_keyspace<S: Service>(
    State(desk): State<Desk<S>>,
    call: Call,
    body: Result<Body, BytesRejection>,
) -> Response {
    let request = body.map_err(Refusal::from).and_then(|body| {
        let NewKeyspace { name, replication, if_not_exists } = json(&body)?;
        Ok(Request::CreateKeyspace(CreateKeyspace { name, replication, if_not_exists }))
    });
    answer(&desk, &call, request, created).await
}

pub(super) async fn create_table<S: Service>(
    State(desk): State<Desk<S>>,
    call: Call,
    body: Result<Body, BytesRejection>,
) -> Response {
    let request = body.map_err(Refusal::from).and_then(|body| {
        let NewTable { name, options, if_not_exists } = json(&body)?;
        Ok(Request::CreateTable(CreateTable { name: table(&name)?, options, if_not_exists }))
    });
    answer(&desk, &call, request, created).await
}

pub(super) async fn accept_loss<S: Service>(
    State(desk): State<Desk<S>>,
    call: Call,
    body: Result<Body, BytesRejection>,
) -> Response {
    let request = body.map_err(Refusal::from).and_then(|body| {
        let LossToAccept { node, keyspace, vnodes } = json(&body)?;
        let vnodes = vnodes.into_iter().map(VnodeId).collect();
        Ok(Request::AcceptLoss(AcceptLoss { node, keyspace, vnodes }))
    });
    answer(&desk, &call, request, |outcome| match outcome {
        Outcome::LossAccepted { vnodes } => {
            Some(Json(serde_json::json!({ "vnodes": vnodes })).into_response())
        }
        _ => None,
    })
    .await
}

fn table(name: &str) -> Result<TableName, Refusal> {
    let parsed = name.parse();
    Ok(parsed.map_err(|why: meridian_types::TableNameError| invalid("name", why.to_string()))?)
}

pub(super) async fn keyspaces<S: Service>(State(desk): State<Desk<S>>, call: Call) -> Response {
    answer(&desk, &call, Ok(Request::ListTables), |outcome| match outcome {
        Outcome::Tables { keyspaces, .. } => {
            let keyspaces: Vec<JsonKeyspace> = keyspaces.into_iter().map(Into::into).collect();
            Some(Json(serde_json::json!({ "keyspaces": keyspaces })).into_response())
        }
        _ => None,
    })
    .await
}

pub(super) async fn tables<S: Service>(State(desk): State<Desk<S>>, call: Call) -> Response {
    answer(&desk, &call, Ok(Request::ListTables), |outcome| match outcome {
        Outcome::Tables { tables, .. } => {
            let tables: Vec<JsonTable> = tables.into_iter().map(Into::into).collect();
            Some(Json(serde_json::json!({ "tables": tables })).into_response())
        }
        _ => None,
    })
    .await
}

pub(super) async fn describe<S: Service>(State(desk): State<Desk<S>>, call: Call) -> Response {
    let request = table(call.last_part()).map(Request::DescribeTable);
    answer(&desk, &call, request, |outcome| match outcome {
        Outcome::Table(view) => Some(Json(JsonTable::from(view)).into_response()),
        _ => None,
    })
    .await
}

pub(super) async fn cluster<S: Service>(State(desk): State<Desk<S>>, call: Call) -> Response {
    answer(&desk, &call, Ok(Request::Cluster), |outcome| match outcome {
        Outcome::Cluster(view) => Some(Json(JsonCluster::from(view)).into_response()),
        _ => None,
    })
    .await
}
