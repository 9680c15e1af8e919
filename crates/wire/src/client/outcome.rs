//! Outcomes, both ways.

use bytes::Bytes;
use meridian_service::{
    BatchOutcome, ClusterView, DcView, GetOutcome, NodeView, Outcome, PutOutcome, ReadValue,
    ReplicaRow, RequestError, ScanOutcome, ScanRow, TableView, TouchOutcome,
};
use meridian_types::catalog::Version;
use meridian_types::{
    DcId, Hlc, Incarnation, KeyspaceDef, KeyspaceId, Millis, NodeId, TableDef, TableId,
};

use super::{Malformed, consistency, level_of};
use crate::v1;

/// Names the part that did not convert; what was wrong with it is of no use to a client.
fn bad<E>(what: &'static str) -> impl FnOnce(E) -> Malformed {
    move |_why| Malformed { what }
}

/// What a service gave that does not answer the request. A bug in the service.
fn other_kind(wanted: &'static str) -> Malformed {
    Malformed { what: wanted }
}

macro_rules! answers {
    ($($(#[$doc:meta])* $pattern:pat => $make:expr, $message:ident, $what:literal;)*) => {
        $(impl TryFrom<Outcome> for v1::$message {
            type Error = Malformed;

            fn try_from(outcome: Outcome) -> Result<Self, Malformed> {
                match outcome {
                    $pattern => Ok($make),
                    _ => Err(other_kind($what)),
                }
            }
        })*
    };
}

answers! {
    Outcome::Got(got) => got.into(), GetResponse, "values";
    Outcome::Put(put) => put.into(), WriteResponse, "write";
    Outcome::Touched(touched) => touched.into(), TouchResponse, "touch";
    Outcome::MultiGot(results) => results.into(), MultiGetResponse, "results of a multi-get";
    Outcome::Batch(batch) => batch.into(), BatchResponse, "results of a batch";
    Outcome::Page(page) => page.into(), ScanResponse, "page";
    Outcome::Replicas(rows) => rows.into(), ReplicasResponse, "replicas";
    Outcome::Created { new } => Self { new }, CreatedResponse, "creation";
    Outcome::Table(view) => view.into(), TableView, "table";
    Outcome::Tables { keyspaces, tables } => Self {
        keyspaces: keyspaces.into_iter().map(Into::into).collect(),
        tables: tables.into_iter().map(Into::into).collect(),
    }, ListTablesResponse, "tables";
    Outcome::Cluster(view) => view.into(), ClusterView, "cluster";
    Outcome::LossAccepted { vnodes } => Self { vnodes }, AcceptLossResponse, "accepted loss";
}

impl From<ReadValue> for v1::Value {
    fn from(value: ReadValue) -> Self {
        Self {
            value: value.value,
            stamp: value.stamp.0,
            expires_ms: value.expires.map(|millis| millis.0),
        }
    }
}

impl From<v1::Value> for ReadValue {
    fn from(value: v1::Value) -> Self {
        Self { value: value.value, stamp: Hlc(value.stamp), expires: value.expires_ms.map(Millis) }
    }
}

/// Values, whichever way they go.
fn each<A, B: From<A>>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(Into::into).collect()
}

/// Parts of an answer from outside.
fn try_each<A, B: TryFrom<A>>(items: Vec<A>) -> Result<Vec<B>, B::Error> {
    items.into_iter().map(TryInto::try_into).collect()
}

impl From<GetOutcome> for v1::GetResponse {
    fn from(got: GetOutcome) -> Self {
        Self { values: each(got.values), context: got.context }
    }
}

impl From<v1::GetResponse> for GetOutcome {
    fn from(got: v1::GetResponse) -> Self {
        Self { values: each(got.values), context: got.context }
    }
}

impl From<PutOutcome> for v1::WriteResponse {
    fn from(put: PutOutcome) -> Self {
        Self {
            applied: put.applied,
            existed: put.existed,
            context: put.context,
            stamp: put.stamp.0,
        }
    }
}

impl From<v1::WriteResponse> for PutOutcome {
    fn from(put: v1::WriteResponse) -> Self {
        Self {
            applied: put.applied,
            existed: put.existed,
            context: put.context,
            stamp: Hlc(put.stamp),
        }
    }
}

impl From<TouchOutcome> for v1::TouchResponse {
    fn from(touched: TouchOutcome) -> Self {
        Self { existed: touched.existed, changed: touched.changed }
    }
}

impl From<v1::TouchResponse> for TouchOutcome {
    fn from(touched: v1::TouchResponse) -> Self {
        Self { existed: touched.existed, changed: touched.changed }
    }
}

impl From<Vec<Result<GetOutcome, RequestError>>> for v1::MultiGetResponse {
    fn from(results: Vec<Result<GetOutcome, RequestError>>) -> Self {
        use v1::get_result::Result as One;
        let one = |result| match result {
            Ok(got) => One::Ok(v1::GetResponse::from(got)),
            Err(error) => One::Error(v1::ErrorDetail::from(&error)),
        };
        let wrap = |result| v1::GetResult { result: Some(one(result)) };
        Self { results: results.into_iter().map(wrap).collect() }
    }
}

impl TryFrom<v1::MultiGetResponse> for Vec<Result<GetOutcome, RequestError>> {
    type Error = Malformed;

    fn try_from(response: v1::MultiGetResponse) -> Result<Self, Malformed> {
        use v1::get_result::Result as One;
        let one = |result: v1::GetResult| match result.result {
            Some(One::Ok(got)) => Ok(Ok(got.into())),
            Some(One::Error(detail)) => Ok(Err(detail.try_into()?)),
            None => Err(Malformed { what: "result of a key" }),
        };
        response.results.into_iter().map(one).collect()
    }
}

impl From<BatchOutcome> for v1::BatchResponse {
    fn from(batch: BatchOutcome) -> Self {
        use v1::write_result::Result as One;
        let one = |result| match result {
            Ok(put) => One::Ok(v1::WriteResponse::from(put)),
            Err(error) => One::Error(v1::ErrorDetail::from(&error)),
        };
        let wrap = |result| v1::WriteResult { result: Some(one(result)) };
        Self { results: batch.results.into_iter().map(wrap).collect() }
    }
}

impl TryFrom<v1::BatchResponse> for BatchOutcome {
    type Error = Malformed;

    fn try_from(response: v1::BatchResponse) -> Result<Self, Malformed> {
        use v1::write_result::Result as One;
        let one = |result: v1::WriteResult| match result.result {
            Some(One::Ok(put)) => Ok(Ok(put.into())),
            Some(One::Error(detail)) => Ok(Err(detail.try_into()?)),
            None => Err(Malformed { what: "result of a write" }),
        };
        let results: Result<_, Malformed> = response.results.into_iter().map(one).collect();
        Ok(Self { results: results? })
    }
}

impl From<ScanOutcome> for v1::ScanResponse {
    fn from(page: ScanOutcome) -> Self {
        let row = |row: ScanRow| v1::ScanRow { key: row.key, values: each(row.values) };
        Self { rows: page.rows.into_iter().map(row).collect(), next: page.next }
    }
}

impl From<v1::ScanResponse> for ScanOutcome {
    fn from(page: v1::ScanResponse) -> Self {
        let row = |row: v1::ScanRow| ScanRow { key: row.key, values: each(row.values) };
        Self { rows: page.rows.into_iter().map(row).collect(), next: page.next }
    }
}

impl From<Vec<ReplicaRow>> for v1::ReplicasResponse {
    fn from(rows: Vec<ReplicaRow>) -> Self {
        let row = |row: ReplicaRow| {
            let digest = |digest: u128| Bytes::copy_from_slice(&digest.to_be_bytes());
            let (values, error) = match row.values {
                Ok(values) => (each(values), None),
                Err(why) => (Vec::new(), Some(why)),
            };
            let clock_digest = row.clock_digest.map(digest);
            v1::ReplicaRow {
                node: row.node,
                datacenter: row.datacenter,
                values,
                error,
                clock_digest,
            }
        };
        Self { replicas: rows.into_iter().map(row).collect() }
    }
}

impl TryFrom<v1::ReplicasResponse> for Vec<ReplicaRow> {
    type Error = Malformed;

    fn try_from(response: v1::ReplicasResponse) -> Result<Self, Malformed> {
        let row = |row: v1::ReplicaRow| {
            let digest = |bytes: Bytes| {
                let bytes = bytes.as_ref().try_into();
                bytes.map(u128::from_be_bytes).map_err(bad("clock digest"))
            };
            Ok(ReplicaRow {
                node: row.node,
                datacenter: row.datacenter,
                values: row.error.map_or_else(|| Ok(each(row.values)), Err),
                clock_digest: row.clock_digest.map(digest).transpose()?,
            })
        };
        response.replicas.into_iter().map(row).collect()
    }
}

impl From<Version> for v1::Version {
    fn from(version: Version) -> Self {
        Self { stamp: version.stamp.0, node: version.node.0 }
    }
}

impl From<v1::Version> for Version {
    fn from(version: v1::Version) -> Self {
        Self { stamp: Hlc(version.stamp), node: NodeId(version.node) }
    }
}

impl From<KeyspaceDef> for v1::KeyspaceDef {
    fn from(def: KeyspaceDef) -> Self {
        Self {
            id: def.id.0,
            name: def.name,
            replication: def.replication.into_iter().map(|(dc, n)| (dc, n.into())).collect(),
            version: Some(def.version.into()),
        }
    }
}

fn replicas((dc, n): (String, u32)) -> Result<(String, u8), Malformed> {
    u8::try_from(n).map(|n| (dc, n)).map_err(bad("number of replicas"))
}

impl TryFrom<v1::KeyspaceDef> for KeyspaceDef {
    type Error = Malformed;

    fn try_from(def: v1::KeyspaceDef) -> Result<Self, Malformed> {
        Ok(Self {
            id: KeyspaceId(def.id),
            name: def.name,
            replication: def.replication.into_iter().map(replicas).collect::<Result<_, _>>()?,
            version: def.version.unwrap_or_default().into(),
        })
    }
}

impl From<TableDef> for v1::TableDef {
    fn from(def: TableDef) -> Self {
        Self {
            id: def.id.0,
            keyspace: def.keyspace.0,
            name: def.name.into(),
            options: Some(def.options.into()),
            version: Some(def.version.into()),
        }
    }
}

impl TryFrom<v1::TableDef> for TableDef {
    type Error = Malformed;

    fn try_from(def: v1::TableDef) -> Result<Self, Malformed> {
        let options = super::catalog::options(def.options.unwrap_or_default());
        Ok(Self {
            id: TableId(def.id),
            keyspace: KeyspaceId(def.keyspace),
            name: def.name.parse().map_err(bad("table name"))?,
            options: options.map_err(bad("table options"))?,
            version: def.version.unwrap_or_default().into(),
        })
    }
}

impl From<TableView> for v1::TableView {
    fn from(view: TableView) -> Self {
        Self {
            def: Some(view.def.into()),
            replication: view.replication.into_iter().map(|(dc, n)| (dc, n.into())).collect(),
            estimated_rows: view.estimated_rows,
            disk_bytes: view.disk_bytes,
        }
    }
}

impl TryFrom<v1::TableView> for TableView {
    type Error = Malformed;

    fn try_from(view: v1::TableView) -> Result<Self, Malformed> {
        Ok(Self {
            def: view.def.ok_or(Malformed { what: "table definition" })?.try_into()?,
            replication: view.replication.into_iter().map(replicas).collect::<Result<_, _>>()?,
            estimated_rows: view.estimated_rows,
            disk_bytes: view.disk_bytes,
        })
    }
}

impl TryFrom<v1::ListTablesResponse> for Outcome {
    type Error = Malformed;

    fn try_from(list: v1::ListTablesResponse) -> Result<Self, Malformed> {
        let (keyspaces, tables) = (try_each(list.keyspaces)?, try_each(list.tables)?);
        Ok(Self::Tables { keyspaces, tables })
    }
}

impl From<NodeView> for v1::NodeView {
    fn from(node: NodeView) -> Self {
        Self {
            id: node.id.0,
            name: node.name,
            datacenter: node.datacenter,
            rack: node.rack,
            alive: node.alive,
            incarnation: node.incarnation.map(|incarnation| incarnation.0),
            hints: node.hints,
            differing_vnodes: node.differing_vnodes,
            unsound_vnodes: node.unsound_vnodes,
            behind_dots: node.behind_dots,
            behind_ms: node.behind_ms,
        }
    }
}

impl From<v1::NodeView> for NodeView {
    fn from(node: v1::NodeView) -> Self {
        Self {
            id: NodeId(node.id),
            name: node.name,
            datacenter: node.datacenter,
            rack: node.rack,
            alive: node.alive,
            incarnation: node.incarnation.map(Incarnation),
            hints: node.hints,
            differing_vnodes: node.differing_vnodes,
            unsound_vnodes: node.unsound_vnodes,
            behind_dots: node.behind_dots,
            behind_ms: node.behind_ms,
        }
    }
}

impl From<ClusterView> for v1::ClusterView {
    fn from(view: ClusterView) -> Self {
        let dc = |dc: DcView| v1::DcView { id: dc.id.0.into(), name: dc.name };
        Self {
            name: view.name,
            answered_by: view.answered_by.0,
            default_consistency: consistency(view.default_consistency).into(),
            datacenters: view.datacenters.into_iter().map(dc).collect(),
            nodes: each(view.nodes),
        }
    }
}

impl TryFrom<v1::ClusterView> for ClusterView {
    type Error = Malformed;

    fn try_from(view: v1::ClusterView) -> Result<Self, Malformed> {
        let dc = |dc: v1::DcView| {
            let id = u16::try_from(dc.id).map_err(bad("datacenter id"))?;
            Ok(DcView { id: DcId(id), name: dc.name })
        };
        Ok(Self {
            name: view.name,
            answered_by: NodeId(view.answered_by),
            default_consistency: level_of(view.default_consistency)
                .ok_or(Malformed { what: "default consistency" })?,
            datacenters: view.datacenters.into_iter().map(dc).collect::<Result<_, _>>()?,
            nodes: each(view.nodes),
        })
    }
}
