//! What this node's store has, read and repaired for other nodes.

use std::sync::Arc;

use meridian_coordinator::message::{PageReply, PageRequest, PageRow, ReadKind, ReplicaReply};
use meridian_crdt::{Context, Row};
use meridian_types::RowKey;

use super::Asker;
use crate::node::Inner;

impl Inner {
    pub(super) fn read_copy(&self, asker: Asker, row: &RowKey, kind: ReadKind) {
        let reply = match (self.store.read(row), kind) {
            (Ok(version), ReadKind::Data) => ReplicaReply::Row(version),
            (Ok(version), ReadKind::Digest) => ReplicaReply::Digest(version.row.digest()),
            (Err(error), _) => ReplicaReply::Refused(self.refusal(&error)),
        };
        self.answer(asker, reply);
    }

    /// Joins what another replica has: a read has found this one behind.
    pub(super) fn join_copy(
        self: &Arc<Self>,
        asker: Asker,
        row: &RowKey,
        version: &Row,
        coverage: &Context,
    ) {
        match self.store.join(row, version, coverage) {
            Ok(commit) => self.answer_when_settled(asker, ReplicaReply::Joined, &commit),
            Err(error) => self.answer(asker, ReplicaReply::Refused(self.refusal(&error))),
        }
    }

    pub(crate) fn read_page(&self, request: &PageRequest) -> ReplicaReply {
        let PageRequest { keyspace: _, table, after, until, limit, prefix, kind, class: _ } =
            request;
        let page = match self.store.page(*table, after.as_ref(), *until, *limit, prefix) {
            Ok(page) => page,
            Err(error) => return ReplicaReply::Refused(self.refusal(&error)),
        };
        let rows = page.rows.into_iter().map(|(position, row)| {
            let digest = row.digest();
            let row = (*kind == ReadKind::Data).then_some(row);
            PageRow { position, row, digest }
        });
        ReplicaReply::Page(PageReply { rows: rows.collect(), end: page.end })
    }
}
