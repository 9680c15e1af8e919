//! Reads of single keys, and what each replica has of one.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use meridian_coordinator::GetDone;
use meridian_coordinator::message::{ReadKind, ReplicaReply, ReplicaRequest};
use meridian_crdt::{Context, ContextToken, Row, RowVersion, TokenScope};
use meridian_service::{
    CallContext, Get, GetOutcome, Outcome, ReadValue, ReplicaRow, RequestError,
};
use meridian_transport::Class;
use meridian_types::{Epoch, NodeId, ReadClass, RowKey};
use meridian_wire::replica::PeerBody;

use crate::catalog::TableRef;
use crate::exchange::epoch_of;
use crate::node::Inner;
use crate::put::millis;
use crate::session::Sessional;

impl Inner {
    pub(crate) async fn get(
        self: &Arc<Self>,
        context: &CallContext,
        get: Get,
        session: Sessional<'_>,
    ) -> Result<GetOutcome, RequestError> {
        let Get { table, key, consistency, with_context } = get;
        self.options.limits.check_key(&key)?;
        let table = self.table(&table)?;
        let done = match session {
            None => {
                let read = key.clone();
                self.get_row(context, &table, read, consistency, with_context, None)?.answer().await
            }
            Some(session) => {
                let read = key.clone();
                Box::pin(self.read_in_session(context, &table, read, consistency, session)).await
            }
        }?;
        Ok(self.outcome(&table, &key, &done, with_context))
    }

    fn outcome(
        &self,
        table: &TableRef,
        key: &Bytes,
        done: &GetDone,
        with_context: bool,
    ) -> GetOutcome {
        let reader = done.reader.as_ref().filter(|_| with_context);
        let context = reader.map(|context| self.seal(table, key, context));
        GetOutcome { values: self.visible_values(&done.row), context }
    }

    /// What a reader sees of a row now.
    pub(crate) fn visible_values(&self, row: &Row) -> Vec<ReadValue> {
        let value = |entry: &meridian_crdt::Entry| {
            let value = entry.value.clone()?;
            Some(ReadValue { value, stamp: entry.stamp, expires: entry.expires })
        };
        row.visible(self.host.wall()).filter_map(value).collect()
    }

    pub(crate) fn seal(&self, table: &TableRef, key: &[u8], context: &Context) -> Bytes {
        let scope = TokenScope { table: table.def.id, key };
        ContextToken::seal(&self.token_key, scope, context).into_bytes().into()
    }

    /// Asks every replica of a key what it has, alive or not.
    pub(crate) async fn replicas(
        self: &Arc<Self>,
        context: &CallContext,
        get: Get,
    ) -> Result<Outcome, RequestError> {
        self.options.limits.check_key(&get.key)?;
        let table = self.table(&get.table)?;
        let row = self.store.row_key(&table.def, get.key);
        let epoch = epoch_of(&table.keyspace.placement, self.dc);
        let nodes = table.keyspace.placement.replicas(row.vnode).all();
        let asked = nodes.iter().map(|&node| self.replica_row(context, node, row.clone(), epoch));
        Ok(Outcome::Replicas(join_all(asked).await))
    }

    async fn replica_row(
        self: &Arc<Self>,
        context: &CallContext,
        node: NodeId,
        row: RowKey,
        epoch: Epoch,
    ) -> ReplicaRow {
        let version = self.version_at(context, node, row, epoch).await;
        let clock_digest = version.as_ref().ok().map(|version| version.clock.digest());
        ReplicaRow {
            node: self.name_of(node).to_owned(),
            datacenter: self.dc_name_of(node).to_owned(),
            values: version.map(|version| self.visible_values(&version.row)),
            clock_digest,
        }
    }

    async fn version_at(
        self: &Arc<Self>,
        context: &CallContext,
        node: NodeId,
        row: RowKey,
        epoch: Epoch,
    ) -> Result<RowVersion, String> {
        if node == self.id {
            let read = self.read_as(&row, ReadClass::One);
            return read.map(|read| read.version).map_err(|refusal| refusal.to_string());
        }
        let request = ReplicaRequest::Read {
            row,
            kind: ReadKind::Data,
            class: ReadClass::One,
            epoch,
            seen: None,
        };
        let body = PeerBody::Request(request);
        let timeout = millis(context.timeout);
        match self.ask(node, Class::Control, Some(context.id), body, timeout).await {
            Ok(PeerBody::Reply(ReplicaReply::Row(version))) => Ok(version),
            Ok(PeerBody::Reply(ReplicaReply::Refused(refusal))) => Err(refusal.to_string()),
            Ok(_) => Err("answered something else".to_owned()),
            Err(lost) => Err(lost.to_string()),
        }
    }
}
