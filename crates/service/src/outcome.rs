//! What is answered.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_types::{
    ConsistencyLevel, DcId, Hlc, Incarnation, KeyspaceDef, Millis, NodeId, TableDef,
};

use crate::RequestError;

/// One answer; its kind is that of the request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To [`crate::Request::Get`].
    Got(GetOutcome),
    /// To [`crate::Request::Put`] and [`crate::Request::Delete`].
    Put(PutOutcome),
    /// To [`crate::Request::Touch`].
    Touched(TouchOutcome),
    /// To [`crate::Request::MultiGet`], in the order of the keys.
    MultiGot(Vec<Result<GetOutcome, RequestError>>),
    /// To [`crate::Request::Batch`] and [`crate::Request::AtomicBatch`]; to the latter every result is
    /// a success.
    Batch(BatchOutcome),
    /// To [`crate::Request::Scan`].
    Page(ScanOutcome),
    /// To [`crate::Request::Replicas`].
    Replicas(Vec<ReplicaRow>),
    /// To [`crate::Request::CreateKeyspace`] and [`crate::Request::CreateTable`]: whether it is new.
    Created {
        /// False when it was there already and that was said to be fine.
        new: bool,
    },
    /// To [`crate::Request::DescribeTable`].
    Table(TableView),
    /// To [`crate::Request::ListTables`].
    Tables {
        /// The keyspaces, by name.
        keyspaces: Vec<KeyspaceDef>,
        /// The tables, by name.
        tables: Vec<TableDef>,
    },
    /// To [`crate::Request::Cluster`].
    Cluster(ClusterView),
    /// To [`crate::Request::AcceptLoss`].
    LossAccepted {
        /// How many vnodes something may be missing of.
        vnodes: u64,
    },
    /// To [`crate::Request::InSession`].
    InSession(SessionOutcome),
}

/// The answer to a request of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOutcome {
    /// What the session has seen now, sealed: for its next request, instead of the tokens that came
    /// with this one.
    pub token: Bytes,
    /// The request's own outcome.
    pub outcome: Box<Outcome>,
}

/// A value as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadValue {
    /// The value.
    pub value: Bytes,
    /// When it was written.
    pub stamp: Hlc,
    /// When it stops being visible.
    pub expires: Option<Millis>,
}

/// The values of a key: none, one, or several siblings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOutcome {
    /// The values, by dot, so that every reader of the same state sees the same order.
    pub values: Vec<ReadValue>,
    /// The sealed causal context, where it was asked for: also of a key without a value.
    pub context: Option<Bytes>,
}

/// A write that the level's replicas have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOutcome {
    /// Whether the condition held; a write without one always applies.
    pub applied: bool,
    /// Whether there was a value before; `None` where nobody looked.
    pub existed: Option<bool>,
    /// The sealed context after the write, where it was asked for.
    pub context: Option<Bytes>,
    /// The write's stamp.
    pub stamp: Hlc,
}

/// A change of expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TouchOutcome {
    /// Whether there was a value to change.
    pub existed: bool,
    /// Whether its expiry changed.
    pub changed: bool,
}

/// The writes of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchOutcome {
    /// One result a write, in the order of the request.
    pub results: Vec<Result<PutOutcome, RequestError>>,
}

/// A row of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRow {
    /// The key.
    pub key: Bytes,
    /// The values; empty where only keys were asked for.
    pub values: Vec<ReadValue>,
}

/// A page of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanOutcome {
    /// The rows, in the order of the ring.
    pub rows: Vec<ScanRow>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<Bytes>,
}

/// What one replica stores under a key.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaRow {
    /// The replica.
    pub node: String,
    /// Its datacenter.
    pub datacenter: String,
    /// The values that it would show, or why it did not answer.
    pub values: Result<Vec<ReadValue>, String>,
    /// Digest of the vnode clock: equal digests mean equal histories.
    pub clock_digest: Option<u128>,
}

/// A table and how large it is on the answering node.
#[derive(Clone, Debug, PartialEq)]
pub struct TableView {
    /// Its definition.
    pub def: TableDef,
    /// Replicas by datacenter.
    pub replication: BTreeMap<String, u8>,
    /// An estimate of the rows on the answering node.
    pub estimated_rows: u64,
    /// Bytes on the answering node's disk.
    pub disk_bytes: u64,
}

/// The cluster as the answering node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    /// The cluster's name.
    pub name: String,
    /// The answering node.
    pub answered_by: NodeId,
    /// Level of requests that name none.
    pub default_consistency: ConsistencyLevel,
    /// The datacenters.
    pub datacenters: Vec<DcView>,
    /// The nodes.
    pub nodes: Vec<NodeView>,
}

/// A datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DcView {
    /// Its id.
    pub id: DcId,
    /// Its name.
    pub name: String,
}

/// A node as another one sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Its rack.
    pub rack: String,
    /// Whether the answering node reaches it.
    pub alive: bool,
    /// Its incarnation, where it was heard of.
    pub incarnation: Option<Incarnation>,
    /// Hints that the answering node keeps for it.
    pub hints: u64,
    /// Vnodes whose clock differs from the answering node's at the last exchange.
    pub differing_vnodes: u64,
    /// Vnodes that it may have lost something of, and does not answer every read of.
    pub unsound_vnodes: u64,
    /// Writes that it has and the answering node lacked at the last exchange.
    pub behind_dots: u64,
    /// How old the oldest of these was written, in milliseconds.
    pub behind_ms: u64,
}
