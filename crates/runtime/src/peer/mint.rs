//! Writes that were accepted without a replica, minted at this one.

use std::sync::Arc;

use meridian_coordinator::Intent;
use meridian_coordinator::message::{Refusal, ReplicaReply, Written};
use meridian_service::CallContext;
use meridian_types::{ConsistencyLevel, RowKey};

use super::Asker;
use crate::node::Inner;

impl Inner {
    /// Mints a write that was accepted elsewhere at ANY when no replica was alive (rule 14).
    pub(super) fn mint_intent(self: &Arc<Self>, asker: Asker, intent: Intent) {
        let table = self.catalog.load().table_by_id(intent.row.table).cloned();
        let Some(table) = table else {
            let refusal = Refusal::UnknownTable(intent.row.table);
            return self.answer(asker, ReplicaReply::Refused(refusal));
        };
        let Intent { row, value, expires, context: _, stamp, write_id } = intent;
        let created = self.host.wall();
        let kept = meridian_store::Intent { row, value, expires, stamp, write_id, created };
        let id = asker.trace.unwrap_or_else(|| self.fresh_request_id());
        let context = CallContext { id, timeout: self.options.request_timeout };
        let row = kept.row.clone();
        let mint = |_: &RowKey, now| self.store.mint_intent(&kept, now);
        let level = ConsistencyLevel::One;
        let waiting = self.put_minted(&context, &table, row, Some(write_id), level, mint);
        self.spawn(move |inner| async move {
            let written = match waiting {
                Ok(waiting) => waiting.written(level).await,
                Err(error) => Err(error),
            };
            let reply = match written {
                Ok(_) => ReplicaReply::Written(Written::default()),
                Err(error) => ReplicaReply::Refused(Refusal::Storage(error.to_string())),
            };
            inner.answer(asker, reply);
        });
    }
}
