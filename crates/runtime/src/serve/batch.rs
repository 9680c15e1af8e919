//! Many keys in one request, each on its own, or all or none.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use meridian_coordinator::batch::keepers;
use meridian_coordinator::{BatchPlan, BatchWrite, WritePlan};
use meridian_crdt::Context;
use meridian_service::{
    AtomicBatch, Batch, BatchOutcome, CallContext, Effect, Expiry, Get, MultiGet, Outcome, Put,
    PutItem, PutOutcome, RequestError, TableWrite,
};
use meridian_store::{LocalWrite, WriteContext};
use meridian_types::{BatchId, ConsistencyLevel, TableName, WriteId};

use super::write::ResolvedWrite;
use super::{Budget, Handed};
use crate::batches::Batching;
use crate::catalog::TableRef;
use crate::node::Inner;
use crate::session::Sessional;

/// Bytes of keys and values of one atomic batch: it travels, and is kept, in one piece.
pub(crate) const MAX_ATOMIC_BYTES: usize = 4 << 20;

/// Keys of one request that are under way at once: enough to hide a link's round trip, few enough
/// that one request does not fill the table of waiting ones.
pub(crate) const KEYS_AT_ONCE: usize = 256;

impl Inner {
    pub(crate) async fn multi_get(
        self: &Arc<Self>,
        context: &CallContext,
        request: MultiGet,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        let MultiGet { table, keys, consistency, with_context } = request;
        self.check_count(keys.len())?;
        self.table(&table)?;
        let budget = &Budget::new(context, self.host.now());
        let gets = keys.into_iter().map(|key| {
            let get = Get { table: table.clone(), key, consistency, with_context };
            async move { self.get(&budget.left(self.host.now()), get, session).await }
        });
        Ok(Outcome::MultiGot(stream::iter(gets).buffered(KEYS_AT_ONCE).collect().await))
    }

    pub(crate) async fn batch(
        self: &Arc<Self>,
        context: &CallContext,
        request: Batch,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        let Batch { table, items, consistency } = request;
        self.check_count(items.len())?;
        self.table(&table)?;
        let budget = &Budget::new(context, self.host.now());
        let puts = items.into_iter().map(|item| {
            let table = table.clone();
            let put = Put { table, item, condition: None, consistency, with_context: false };
            async move {
                let left = budget.left(self.host.now());
                match self.put(&left, put, Handed::No, session).await? {
                    Outcome::Put(done) => Ok(done),
                    _ => Err(RequestError::Stopping),
                }
            }
        });
        let results = stream::iter(puts).buffered(KEYS_AT_ONCE).collect().await;
        Ok(Outcome::Batch(BatchOutcome { results }))
    }

    /// All of the writes, or none.
    pub(crate) async fn atomic_batch(
        self: &Arc<Self>,
        context: &CallContext,
        request: AtomicBatch,
    ) -> Result<Outcome, RequestError> {
        let AtomicBatch { writes, consistency: level } = request;
        self.check_atomic(&writes)?;
        let id = BatchId(self.fresh_uuid());
        let (mut tables, mut planned) = (Vec::new(), Vec::new());
        for (table, item) in writes.into_iter().map(|write| (write.table, write.item)) {
            let (table, write) = self.plan_write(&table, item, level)?;
            tables.push(table);
            planned.push(write);
        }
        check_rows(&planned)?;
        let stamp = self.store.tick(self.host.wall()).map_err(|error| RequestError::Storage {
            why: error.to_string(),
            effect: Effect::NotApplied,
        })?;
        let alive = |node| self.is_alive(node);
        let turn = self.host.random();
        let (candidates, copies) = keepers(&self.topology, self.dc, self.id, turn, alive);
        let deadline = crate::batches::deadline(self.host.now(), context);
        let plan = BatchPlan { id, stamp, writes: planned, candidates, copies, deadline };
        let batching = Batching { call: *context, level, plan, tables };
        let done = self.run_batch(batching).await?;
        let one = |stamp| Ok(PutOutcome { applied: true, stamp, ..PutOutcome::default() });
        let results = done.stamps.into_iter().map(one).collect();
        Ok(Outcome::Batch(BatchOutcome { results }))
    }

    fn check_atomic(&self, writes: &[TableWrite]) -> Result<(), RequestError> {
        self.check_count(writes.len())?;
        let refuse = |why| Err(RequestError::InvalidArgument { what: "writes", why });
        let Some(first) = writes.first() else {
            return refuse("an atomic batch has one write at least".to_owned());
        };
        let bytes = |write: &TableWrite| {
            write.item.key.len() + write.item.value.as_ref().map_or(0, Bytes::len)
        };
        let bytes: usize = writes.iter().map(bytes).sum();
        if bytes > MAX_ATOMIC_BYTES {
            return refuse(format!(
                "{bytes} bytes; an atomic batch has at most {MAX_ATOMIC_BYTES}"
            ));
        }
        let keyspace = first.table.keyspace();
        match writes.iter().find(|write| write.table.keyspace() != keyspace) {
            Some(other) => refuse(format!(
                "{} is not in {keyspace}; an atomic batch is in one keyspace",
                other.table
            )),
            None => Ok(()),
        }
    }

    /// A write of an atomic batch, and its table; refused where its level cannot be met.
    fn plan_write(
        &self,
        table: &TableName,
        item: PutItem,
        level: ConsistencyLevel,
    ) -> Result<(Arc<TableRef>, BatchWrite), RequestError> {
        let table = self.check_write(table, &item)?;
        if item.expiry == Expiry::Keep {
            let why = "an atomic batch reads nothing, so it keeps no expiry".to_owned();
            return Err(RequestError::InvalidArgument { what: "expiry", why });
        }
        let ResolvedWrite { key, write } = self.resolve(&table, item, None)?;
        let LocalWrite { value, expires, context, write_id, must_win: _ } = write;
        let row = self.store.row_key(&table.def, key);
        let replicas = table.keyspace.placement.replicas(row.vnode);
        let alive = |node| self.is_alive(node);
        WritePlan::named(level, self.dc, self.id, replicas, alive, &self.topology)?;
        let (context, over_what_is_here) = match context {
            WriteContext::None => (Context::default(), false),
            WriteContext::Seen(context) => (context, false),
            WriteContext::WhatIsHere => (Context::default(), true),
        };
        let write_id = write_id.unwrap_or_else(|| WriteId(self.fresh_uuid()));
        let reservers = self.living_replicas(&row);
        let write =
            BatchWrite { row, value, expires, context, over_what_is_here, write_id, reservers };
        Ok((table, write))
    }

    fn check_count(&self, keys: usize) -> Result<(), RequestError> {
        let limit = self.options.limits.batch_keys;
        if keys <= limit {
            return Ok(());
        }
        let why = format!("{keys} keys are too many; at most {limit} are allowed in one request");
        Err(RequestError::InvalidArgument { what: "keys", why })
    }
}

/// Two writes of one row would be concurrent with each other.
fn check_rows(writes: &[BatchWrite]) -> Result<(), RequestError> {
    let mut rows: Vec<_> = writes.iter().map(|write| (&write.row.table, &write.row.key)).collect();
    rows.sort_unstable();
    match rows.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let key = pair[0].1;
            let why = format!("the key {key:?} is written twice in one atomic batch");
            Err(RequestError::InvalidArgument { what: "writes", why })
        }
        None => Ok(()),
    }
}
