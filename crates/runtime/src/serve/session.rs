//! Reads and writes of sessions.

use std::sync::Arc;

use bytes::Bytes;
use meridian_coordinator::{GetDone, Route};
use meridian_service::{
    CallContext, InSession, Outcome, Put, PutOutcome, Request, RequestError, SessionOutcome,
};
use meridian_types::{ConsistencyLevel, Mutation, NodeId, WriteId, broken};

use super::{Budget, Handed};
use crate::catalog::TableRef;
use crate::node::Inner;
use crate::session::{Need, OpenSession};

impl Inner {
    /// Reads a row that shows everything that the session has seen of it.
    pub(crate) async fn read_in_session(
        self: &Arc<Self>,
        context: &CallContext,
        table: &TableRef,
        key: Bytes,
        level: ConsistencyLevel,
        session: &OpenSession,
    ) -> Result<GetDone, RequestError> {
        let (keyspace, vnode) = (table.keyspace.def.id, self.store.vnode_of(&key));
        let (asked, seen) = match session.need(keyspace, vnode) {
            Need::Nothing => (level, None),
            Need::Dots(seen) => (level, Some(seen)),
            // What was seen is somewhere among them, and at this level all of them have it then.
            Need::Everything => (ConsistencyLevel::All, None),
        };
        let answer = match self.get_row(context, table, key, asked, true, seen) {
            Ok(waiting) => waiting.answer().await,
            Err(refused) => Err(refused),
        };
        let done =
            answer.map_err(|error| if asked == level { error } else { behind(level, error) })?;
        let dots = done.row.entries().iter().map(|entry| entry.dot);
        session.note(keyspace, vnode, dots, done.reader.as_ref());
        Ok(done)
    }

    /// Writes a row after everything that the session has seen: the dot is minted by a replica that
    /// has all of it.
    pub(super) async fn put_in_session(
        self: &Arc<Self>,
        context: &CallContext,
        table: &TableRef,
        mut put: Put,
        handed: Handed,
        session: &OpenSession,
    ) -> Result<PutOutcome, RequestError> {
        let level = put.consistency;
        let budget = Budget::new(context, self.host.now());
        let (keyspace, vnode) = (table.keyspace.def.id, self.store.vnode_of(&put.item.key));
        let leaders = self.leaders(table, &put, handed)?;
        if session.need(keyspace, vnode) == Need::Everything && handed == Handed::No {
            // Afterwards every replica has what was seen of the row.
            let key = put.item.key.clone();
            self.read_in_session(context, table, key, super::read_level(level), session).await?;
        }
        // The same for all that are tried, so that it is one write.
        put.item.write_id.get_or_insert_with(|| WriteId(self.fresh_uuid()));
        for leader in leaders {
            let left = budget.left(self.host.now());
            let result = if leader == self.id {
                self.put_as_leader(&left, table, put.clone(), session).await
            } else {
                self.put_through(&left, leader, put.clone(), session).await
            };
            match result {
                Err(RequestError::SessionBehind { .. }) => {}
                other => return other,
            }
        }
        Err(RequestError::SessionBehind { level })
    }

    /// Who may mint the dot, in the order in which they are asked.
    fn leaders(
        &self,
        table: &TableRef,
        put: &Put,
        handed: Handed,
    ) -> Result<Vec<NodeId>, RequestError> {
        let level = put.consistency;
        let first = match self.route_write(table, &put.item.key, level, handed)? {
            Route::Here if handed == Handed::On => return Ok(vec![self.id]),
            Route::Here => self.id,
            Route::HandTo(node) => node,
            Route::StoreIntent => {
                let why = "cannot be promised to a session while no replica is alive: the write \
                           would have no place in its order; nothing was written";
                return Err(RequestError::Level { level, why });
            }
        };
        let replicas = table.keyspace.placement.replicas(self.store.vnode_of(&put.item.key));
        let local_only =
            matches!(level, ConsistencyLevel::LocalOne | ConsistencyLevel::LocalQuorum);
        let further: &[_] = if local_only { &[] } else { self.topology.nearest_dcs(self.dc) };
        let dcs = std::iter::once(&self.dc).chain(further);
        let others = dcs.flat_map(|dc| replicas.in_dc(*dc)).copied();
        let others = others.filter(|node| *node != first && self.is_alive(*node));
        Ok(std::iter::once(first).chain(others).collect())
    }

    async fn put_as_leader(
        self: &Arc<Self>,
        context: &CallContext,
        table: &TableRef,
        put: Put,
        session: &OpenSession,
    ) -> Result<PutOutcome, RequestError> {
        let (keyspace, vnode) = (table.keyspace.def.id, self.store.vnode_of(&put.item.key));
        if let Need::Dots(seen) = session.need(keyspace, vnode) {
            let until = self.session_wait();
            if !self.wait_for_seen(keyspace, vnode, &seen, until).await {
                return Err(RequestError::SessionBehind { level: put.consistency });
            }
        }
        self.put_here(context, table, put, Some(session)).await
    }

    /// Has another replica write it; what the session has seen then comes back with the answer.
    async fn put_through(
        self: &Arc<Self>,
        context: &CallContext,
        leader: NodeId,
        put: Put,
        session: &OpenSession,
    ) -> Result<PutOutcome, RequestError> {
        let level = put.consistency;
        let tokens = vec![session.seal(&self.token_key)];
        let inside = InSession { tokens, request: Box::new(Request::Put(put)) };
        let handed = self.hand_to(context, leader, level, Request::InSession(inside)).await?;
        match handed {
            Outcome::InSession(SessionOutcome { token, outcome }) => match *outcome {
                Outcome::Put(done) => {
                    session.join(&self.token_key, &token)?;
                    Ok(done)
                }
                _ => Err(self.other_answer(leader)),
            },
            _ => Err(self.other_answer(leader)),
        }
    }

    /// Notes a write of the session.
    pub(super) fn note_written(
        &self,
        table: &TableRef,
        key: &Bytes,
        dot: meridian_crdt::Dot,
        session: &OpenSession,
    ) {
        if !broken(Mutation::SessionWithoutWrites) {
            let vnode = self.store.vnode_of(key);
            session.note(table.keyspace.def.id, vnode, [dot], None);
        }
    }
}

/// A read that was made stricter for its session fails with its session.
fn behind(level: ConsistencyLevel, error: RequestError) -> RequestError {
    match error {
        RequestError::Unavailable { .. }
        | RequestError::Timeout { .. }
        | RequestError::Failed { .. } => RequestError::SessionBehind { level },
        other => other,
    }
}
