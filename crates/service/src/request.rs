//! What may be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use meridian_types::{
    ConsistencyLevel, Millis, RequestId, TableName, TableOptions, VnodeId, WriteId,
};

/// What comes with every request, whatever it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// The request's name in logs and traces, on every node that it touches.
    pub id: RequestId,
    /// How long the caller waits. What is not decided by then is answered with
    /// [`crate::RequestError::Timeout`].
    pub timeout: Duration,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads one key.
    Get(Get),
    /// Writes one key.
    Put(Put),
    /// Deletes one key.
    Delete(Delete),
    /// Changes when a key expires.
    Touch(Touch),
    /// Reads many keys, each on its own.
    MultiGet(MultiGet),
    /// Writes or deletes many keys of one table, each on its own: not atomic.
    Batch(Batch),
    /// Writes or deletes many keys, all of them or none, however the node dies that is asked. Not
    /// isolated: others may see some of the writes before the rest.
    AtomicBatch(AtomicBatch),
    /// Reads a page of a table, in the order of the ring.
    Scan(Scan),
    /// Shows what every replica of a key stores: for operators, tests and proofs.
    Replicas(Get),
    /// Creates a keyspace.
    CreateKeyspace(CreateKeyspace),
    /// Creates a table.
    CreateTable(CreateTable),
    /// Describes one table.
    DescribeTable(TableName),
    /// Lists keyspaces and tables.
    ListTables,
    /// Shows datacenters, nodes and their liveness.
    Cluster,
    /// Has a node accept that what it cannot make good is lost (rule 10).
    AcceptLoss(AcceptLoss),
    /// Another request, as part of a session.
    InSession(InSession),
}

/// A request of a session: it is shown what the session wrote and what it was shown before, and
/// what it writes comes after that, on whichever node it asks and at every level.
///
/// Reads and writes of keys can be part of a session, and pages of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSession {
    /// What the session was given with its answers: the last token, or those of the last requests
    /// that ran beside each other. None at the beginning.
    pub tokens: Vec<Bytes>,
    /// The request.
    pub request: Box<Request>,
}

impl InSession {
    /// Most tokens of one request.
    pub const MAX_TOKENS: usize = 8;
}

impl Request {
    /// How much of memory and links the request's keys and values take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Get(get) | Self::Replicas(get) => get.key.len(),
            Self::Put(put) => put.item.bytes(),
            Self::Delete(delete) => delete.key.len(),
            Self::Touch(touch) => touch.key.len(),
            Self::MultiGet(gets) => gets.keys.iter().map(Bytes::len).sum(),
            Self::Batch(batch) => batch.items.iter().map(PutItem::bytes).sum(),
            Self::InSession(part) => {
                part.request.bytes() + part.tokens.iter().map(Bytes::len).sum::<usize>()
            }
            _ => 0,
        }
    }

    /// How many keys it reads or writes; 1 where it is about none.
    #[must_use]
    pub fn keys(&self) -> usize {
        match self {
            Self::MultiGet(gets) => gets.keys.len(),
            Self::Batch(batch) => batch.items.len(),
            Self::InSession(part) => part.request.keys(),
            _ => 1,
        }
    }

    /// Whether it reads or writes data. The others are about the cluster, and are few.
    #[must_use]
    pub fn is_of_data(&self) -> bool {
        match self {
            Self::CreateKeyspace(_)
            | Self::CreateTable(_)
            | Self::DescribeTable(_)
            | Self::ListTables
            | Self::Cluster
            | Self::AcceptLoss(_) => false,
            Self::InSession(part) => part.request.is_of_data(),
            _ => true,
        }
    }
}

/// Reads one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// The table.
    pub table: TableName,
    /// The key.
    pub key: Bytes,
    /// How many replicas must answer.
    pub consistency: ConsistencyLevel,
    /// Whether the causal context is wanted with the values. It costs a little to seal one.
    pub with_context: bool,
}

/// When a value stops being visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// As the table says.
    #[default]
    TableDefault,
    /// Never.
    Never,
    /// From this time on.
    At(Millis),
    /// As the value that is there now (`KEEPTTL`): read first, at the same level.
    Keep,
}

/// What must hold for a write to happen. Checked against a read at the same level, so two such
/// writes that run at the same time may both succeed; compare-and-set needs SERIAL.
pub type WriteCondition = Option<Condition>;

/// See [`WriteCondition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Only if the key has no value.
    Absent,
    /// Only if the key has a value.
    Present,
}

/// Writes one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The table.
    pub table: TableName,
    /// The key and what is written to it.
    pub item: PutItem,
    /// What must hold for it.
    pub condition: WriteCondition,
    /// How many replicas must have it.
    pub consistency: ConsistencyLevel,
    /// Whether the context after the write is wanted.
    pub with_context: bool,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutItem {
    /// The key.
    pub key: Bytes,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
    /// When the value stops being visible.
    pub expiry: Expiry,
    /// What the writer has read of this key (a sealed token): the write replaces that and nothing
    /// else. Without one, a `siblings` table keeps the new value beside what is there.
    pub context: Option<Bytes>,
    /// The write's name, the same in every retry, so that it is stored once. One is made where
    /// none is given.
    pub write_id: Option<WriteId>,
}

impl PutItem {
    fn bytes(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        self.key.len() + len(&self.value) + len(&self.context)
    }
}

/// Deletes one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// The table.
    pub table: TableName,
    /// The key.
    pub key: Bytes,
    /// What the writer has read of this key. Without one, what the leading replica has at that
    /// moment is deleted, and values written concurrently elsewhere stay.
    pub context: Option<Bytes>,
    /// The write's name, the same in every retry.
    pub write_id: Option<WriteId>,
    /// How many replicas must have it.
    pub consistency: ConsistencyLevel,
    /// Whether to read first and tell if there was a value.
    pub report_existed: bool,
}

/// Changes when a key's value expires. The value is read and written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The table.
    pub table: TableName,
    /// The key.
    pub key: Bytes,
    /// The new expiry: [`Expiry::Never`] or [`Expiry::At`].
    pub expiry: Expiry,
    /// Level of the read and of the write.
    pub consistency: ConsistencyLevel,
}

/// Reads many keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiGet {
    /// The table.
    pub table: TableName,
    /// The keys.
    pub keys: Vec<Bytes>,
    /// How many replicas must answer, for each key.
    pub consistency: ConsistencyLevel,
    /// Whether the causal contexts are wanted.
    pub with_context: bool,
}

/// Writes many keys of one table, in parallel; each succeeds or fails on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The table.
    pub table: TableName,
    /// The writes.
    pub items: Vec<PutItem>,
    /// How many replicas must have each.
    pub consistency: ConsistencyLevel,
}

/// Writes many keys of one keyspace, all or none of them. It costs two round trips more than
/// [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtomicBatch {
    /// The writes; no key twice. [`Expiry::Keep`] is refused.
    pub writes: Vec<TableWrite>,
    /// How many replicas must have each before the answer.
    pub consistency: ConsistencyLevel,
}

/// One write and its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableWrite {
    /// The table.
    pub table: TableName,
    /// The key and what is written to it.
    pub item: PutItem,
}

/// Reads a page of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The table.
    pub table: TableName,
    /// Where the page before ended: [`crate::ScanOutcome::next`]. `None` starts at the beginning.
    pub cursor: Option<Bytes>,
    /// Most rows of the page.
    pub limit: usize,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// Whether values are wanted, or keys alone.
    pub with_values: bool,
    /// How many replicas must answer, for each row.
    pub consistency: ConsistencyLevel,
}

/// Has a node answer reads of vnodes as they are, although something may be missing in them that no
/// replica is left to prove: an operator's word, durable, and taken back by nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptLoss {
    /// The node that accepts. Another one refuses.
    pub node: String,
    /// The keyspace.
    pub keyspace: String,
    /// The vnodes; none names all that the node holds.
    pub vnodes: Vec<VnodeId>,
}

/// Creates a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateKeyspace {
    /// Its name.
    pub name: String,
    /// Replicas by datacenter; empty takes the cluster's default map.
    pub replication: BTreeMap<String, u8>,
    /// Whether a keyspace of that name is fine.
    pub if_not_exists: bool,
}

/// Creates a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    /// Its name.
    pub name: TableName,
    /// What is chosen for it.
    pub options: TableOptions,
    /// Whether a table of that name is fine, whatever its options.
    pub if_not_exists: bool,
}
