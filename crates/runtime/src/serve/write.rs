//! Writes of single keys: puts, deletes, changes of expiry.

use std::sync::Arc;

use bytes::Bytes;
use meridian_coordinator::{Access, Route, route};
use meridian_crdt::{ContextToken, TokenScope};
use meridian_service::{
    CallContext, Condition, Delete, Expiry, Get, GetOutcome, Outcome, Put, PutItem, PutOutcome,
    Request, RequestError, Touch, TouchOutcome,
};
use meridian_store::{LocalWrite, WriteContext};
use meridian_types::{ConflictPolicy, ConsistencyLevel, Hlc, Millis, TableName, WriteId};

use super::{Budget, Handed, read_level};
use crate::catalog::TableRef;
use crate::node::Inner;
use crate::session::Sessional;

/// A write whose leading replica is this node, resolved down to what is stored.
pub(super) struct ResolvedWrite {
    pub(super) key: Bytes,
    pub(super) write: LocalWrite,
}

impl Inner {
    pub(crate) async fn put(
        self: &Arc<Self>,
        context: &CallContext,
        mut put: Put,
        handed: Handed,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        let table = self.check_write(&put.table, &put.item)?;
        if let Some(session) = session {
            let written = Box::pin(self.put_in_session(context, &table, put, handed, session));
            return written.await.map(Outcome::Put);
        }
        match self.route_write(&table, &put.item.key, put.consistency, handed)? {
            Route::Here => self.put_here(context, &table, put, None).await.map(Outcome::Put),
            Route::HandTo(node) => {
                let level = put.consistency;
                // Named here, so that it is minted once however often it arrives there.
                put.item.write_id.get_or_insert_with(|| WriteId(self.fresh_uuid()));
                self.hand_to(context, node, level, Request::Put(put)).await
            }
            Route::StoreIntent => self.keep_intent(&table, put.item).await.map(Outcome::Put),
        }
    }

    pub(crate) async fn delete(
        self: &Arc<Self>,
        context: &CallContext,
        delete: Delete,
        handed: Handed,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        let Delete { table, key, context: seen, write_id, consistency, report_existed } = delete;
        let existed = if report_existed {
            let before = self.value_before(context, &table, &key, consistency, session).await?;
            if before.values.is_empty() {
                // Nothing to delete is not worth a marker that every replica keeps.
                let nothing = PutOutcome { applied: true, existed: Some(false), ..<_>::default() };
                return Ok(Outcome::Put(nothing));
            }
            Some(true)
        } else {
            None
        };
        let item = PutItem { key, value: None, expiry: Expiry::Never, context: seen, write_id };
        let put = Put { table, item, condition: None, consistency, with_context: false };
        match self.put(context, put, handed, session).await? {
            Outcome::Put(done) => Ok(Outcome::Put(PutOutcome { existed, ..done })),
            other => Ok(other),
        }
    }

    pub(crate) async fn touch(
        self: &Arc<Self>,
        context: &CallContext,
        touch: Touch,
        handed: Handed,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        let Touch { table, key, expiry, consistency } = touch;
        let budget = Budget::new(context, self.host.now());
        let before = self.value_before(context, &table, &key, consistency, session).await?;
        let value = match before.values.as_slice() {
            [] => return Ok(Outcome::Touched(TouchOutcome::default())),
            [value] => value.clone(),
            several => return Err(RequestError::Siblings { count: several.len() }),
        };
        let expires = match expiry {
            Expiry::At(at) => Some(at),
            Expiry::Never | Expiry::TableDefault | Expiry::Keep => None,
        };
        if expires == value.expires {
            return Ok(Outcome::Touched(TouchOutcome { existed: true, changed: false }));
        }
        let item = PutItem {
            key,
            value: Some(value.value),
            expiry,
            context: before.context,
            write_id: None,
        };
        let put = Put { table, item, condition: None, consistency, with_context: false };
        let left = budget.left(self.host.now());
        self.put(&left, put, handed, session).await?;
        Ok(Outcome::Touched(TouchOutcome { existed: true, changed: true }))
    }

    pub(super) fn check_write(
        &self,
        table: &TableName,
        item: &PutItem,
    ) -> Result<Arc<TableRef>, RequestError> {
        self.options.limits.check_key(&item.key)?;
        self.options.limits.check_value(item.value.as_ref().map_or(0, Bytes::len))?;
        self.table(table)
    }

    pub(super) fn route_write(
        &self,
        table: &TableRef,
        key: &Bytes,
        level: ConsistencyLevel,
        handed: Handed,
    ) -> Result<Route, RequestError> {
        if handed == Handed::On {
            return Ok(Route::Here);
        }
        let replicas = table.keyspace.placement.replicas(self.store.vnode_of(key));
        let alive = |node| self.is_alive(node);
        route(Access::Write, level, self.dc, self.id, replicas, alive, &self.topology)
    }

    pub(super) async fn put_here(
        self: &Arc<Self>,
        context: &CallContext,
        table: &TableRef,
        put: Put,
        session: Sessional<'_>,
    ) -> Result<PutOutcome, RequestError> {
        let Put { table: name, item, condition, consistency, with_context } = put;
        let mut context = *context;
        let before = if condition.is_some() || item.expiry == Expiry::Keep {
            let budget = Budget::new(&context, self.host.now());
            let before =
                self.value_before(&context, &name, &item.key, consistency, session).await?;
            context = budget.left(self.host.now());
            Some(before)
        } else {
            None
        };
        let existed = before.as_ref().map(|before| !before.values.is_empty());
        let holds = match condition {
            None => true,
            Some(Condition::Absent) => existed == Some(false),
            Some(Condition::Present) => existed == Some(true),
        };
        if !holds {
            return Ok(PutOutcome { applied: false, existed, ..PutOutcome::default() });
        }
        let ResolvedWrite { key, mut write } = self.resolve(table, item, before.as_ref())?;
        write.must_win = session.is_some();
        let waiting = self.put_row(&context, table, key.clone(), write, consistency)?;
        let written = waiting.written(consistency).await?;
        if let Some(session) = session {
            self.note_written(table, &key, written.done.dot, session);
        }
        let context = with_context.then(|| self.seal(table, &key, &written.context));
        Ok(PutOutcome { applied: true, existed, context, stamp: written.done.stamp })
    }

    pub(super) fn resolve(
        &self,
        table: &TableRef,
        item: PutItem,
        before: Option<&GetOutcome>,
    ) -> Result<ResolvedWrite, RequestError> {
        let PutItem { key, value, expiry, context, write_id } = item;
        let now = self.host.wall();
        let expires = match expiry {
            Expiry::At(at) => Some(at),
            Expiry::Never => None,
            Expiry::TableDefault => table.def.options.default_ttl_ms.map(|ttl| now.plus(ttl)),
            Expiry::Keep => kept_expiry(before)?,
        };
        let scope = TokenScope { table: table.def.id, key: &key };
        let context = match context {
            Some(token) => WriteContext::Seen(ContextToken::open(&self.token_key, scope, &token)?),
            None if value.is_none() && table.def.options.policy == ConflictPolicy::Siblings => {
                WriteContext::WhatIsHere
            }
            None => WriteContext::None,
        };
        let expires = expires.filter(|_| value.is_some());
        Ok(ResolvedWrite {
            key,
            write: LocalWrite { value, expires, context, write_id, must_win: false },
        })
    }

    async fn value_before(
        self: &Arc<Self>,
        context: &CallContext,
        table: &TableName,
        key: &Bytes,
        level: ConsistencyLevel,
        session: Sessional<'_>,
    ) -> Result<GetOutcome, RequestError> {
        let get = Get {
            table: table.clone(),
            key: key.clone(),
            consistency: read_level(level),
            with_context: true,
        };
        self.get(context, get, session).await
    }

    /// Keeps a write at ANY that no replica can take now (rule 14): durable here, without a dot,
    /// until a replica is alive to mint it.
    async fn keep_intent(
        self: &Arc<Self>,
        table: &TableRef,
        item: PutItem,
    ) -> Result<PutOutcome, RequestError> {
        let ResolvedWrite { key, write } = self.resolve(table, item, None)?;
        let row = self.store.row_key(&table.def, key);
        let stamp = crate::intents::keep(self, row, write).await?;
        Ok(PutOutcome { applied: true, existed: None, context: None, stamp })
    }
}

fn kept_expiry(before: Option<&GetOutcome>) -> Result<Option<Millis>, RequestError> {
    match before.map(|before| before.values.as_slice()) {
        None | Some([]) => Ok(None),
        Some([value]) => Ok(value.expires),
        Some(several) => Err(RequestError::Siblings { count: several.len() }),
    }
}

/// The stamp that a write accepted at this time would have had.
pub(crate) fn stamp_at(now: Millis) -> Hlc {
    Hlc::new(now, 0)
}
