//! Operations, as a client means them, and the requests that they are.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_crdt::Context;
use meridian_service::{
    AtomicBatch, Batch, Delete, Expiry, Get, MultiGet, Put, PutItem, Request, Scan, TableWrite,
};
use meridian_types::{ConsistencyLevel, Millis, TableId};

use crate::history::{Ask, Key, WriteAsk, WriteKind, WriteName};
use crate::world::Cluster;

/// A token as it was given, and the set of dots that it is.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) sealed: Bytes,
    pub(super) context: Context,
}

/// A write that a client wants.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) write: WriteName,
    pub(super) key: Key,
    pub(super) kind: WriteKind,
    pub(super) token: Option<Token>,
}

/// An operation: what its retries have in common.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    Write(Wanted),
    WriteMany(Vec<Wanted>),
    WriteAtomic(Vec<Wanted>),
    Get(Key),
    GetMany(Vec<Key>),
    Scan { table: TableId, cursor: Option<Bytes>, limit: usize },
}

impl Wanted {
    fn ask(&self) -> WriteAsk {
        let context = self.token.as_ref().map(|token| token.context.clone());
        WriteAsk { write: self.write, key: self.key, kind: self.kind, context, conditional: false }
    }

    fn item(&self, bytes: usize) -> PutItem {
        let (value, expiry) = match self.kind {
            WriteKind::Put { expires } => {
                let expiry = expires.map_or(Expiry::TableDefault, Expiry::At);
                (Some(self.write.value(bytes)), expiry)
            }
            WriteKind::Delete => (None, Expiry::TableDefault),
        };
        PutItem {
            key: self.key.to_bytes(),
            value,
            expiry,
            context: self.token.as_ref().map(|token| token.sealed.clone()),
            write_id: Some(self.write.write_id()),
        }
    }
}

impl Doing {
    /// As the checks are told it.
    pub(super) fn ask(&self) -> Ask {
        match self {
            Self::Write(wanted) => Ask::Write(wanted.ask()),
            Self::WriteMany(wanted) => {
                Ask::Batch { atomic: false, writes: wanted.iter().map(Wanted::ask).collect() }
            }
            Self::WriteAtomic(wanted) => {
                Ask::Batch { atomic: true, writes: wanted.iter().map(Wanted::ask).collect() }
            }
            Self::Get(key) => Ask::Get(*key),
            Self::GetMany(keys) => Ask::MultiGet(keys.clone()),
            Self::Scan { table, limit, .. } => Ask::Scan { table: *table, limit: *limit },
        }
    }

    fn table(&self) -> Option<TableId> {
        match self {
            Self::Write(wanted) => Some(wanted.key.table),
            Self::WriteMany(wanted) | Self::WriteAtomic(wanted) => {
                wanted.first().map(|wanted| wanted.key.table)
            }
            Self::Get(key) => Some(key.table),
            Self::GetMany(keys) => keys.first().map(|key| key.table),
            Self::Scan { table, .. } => Some(*table),
        }
    }

    /// As a node is asked it; values have `bytes` at least.
    pub(super) fn request(
        &self,
        consistency: ConsistencyLevel,
        bytes: usize,
        cluster: &Cluster,
    ) -> Option<Request> {
        let id = self.table()?;
        let name =
            |id| cluster.tables.iter().find(|table| table.id == id).map(|table| table.name.clone());
        let table = name(id)?;
        Some(match self {
            Self::Write(wanted) if wanted.kind == WriteKind::Delete => {
                let PutItem { key, context, write_id, .. } = wanted.item(bytes);
                let report_existed = false;
                Request::Delete(Delete {
                    table,
                    key,
                    context,
                    write_id,
                    consistency,
                    report_existed,
                })
            }
            Self::Write(wanted) => {
                let (item, condition) = (wanted.item(bytes), None);
                Request::Put(Put { table, item, condition, consistency, with_context: true })
            }
            Self::WriteMany(wanted) => {
                let items = wanted.iter().map(|wanted| wanted.item(bytes)).collect();
                Request::Batch(Batch { table, items, consistency })
            }
            Self::WriteAtomic(wanted) => {
                let one = |wanted: &Wanted| {
                    Some(TableWrite { table: name(wanted.key.table)?, item: wanted.item(bytes) })
                };
                let writes = wanted.iter().map(one).collect::<Option<_>>()?;
                Request::AtomicBatch(AtomicBatch { writes, consistency })
            }
            Self::Get(key) => {
                let key = key.to_bytes();
                Request::Get(Get { table, key, consistency, with_context: true })
            }
            Self::GetMany(keys) => {
                let keys = keys.iter().map(|key| key.to_bytes()).collect();
                Request::MultiGet(MultiGet { table, keys, consistency, with_context: true })
            }
            Self::Scan { cursor, limit, .. } => Request::Scan(Scan {
                table,
                cursor: cursor.clone(),
                limit: *limit,
                prefix: Bytes::new(),
                with_values: true,
                consistency,
            }),
        })
    }
}

/// One of several, by weight; nothing where all weights are 0.
pub(super) fn weighed<T: Copy>(
    weights: &BTreeMap<T, u32>,
    draw: &mut crate::sim::Draw,
) -> Option<T> {
    let total: u64 = weights.values().map(|&weight| u64::from(weight)).sum();
    let mut at = draw.below(total);
    for (&what, &weight) in weights {
        match at.checked_sub(u64::from(weight)) {
            Some(rest) => at = rest,
            None => return Some(what),
        }
    }
    None
}

/// When a value stops being visible that lives so long.
pub(super) fn expires(wall: Millis, ttl: crate::sim::Micros) -> Option<Millis> {
    Some(wall.plus(ttl.to_millis()))
}
