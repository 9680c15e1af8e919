//! What this node's store has, read and repaired for other nodes.

use std::sync::Arc;

use meridian_coordinator::message::{
    PageReply, PageRequest, PageRow, ReadKind, Refusal, ReplicaReply,
};
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

    /// Reads once this node has what the reader's session has seen, or says that it is behind.
    pub(super) fn read_copy_in_session(
        self: &Arc<Self>,
        asker: Asker,
        row: RowKey,
        kind: ReadKind,
        seen: Context,
    ) {
        if self.store.has_seen(row.keyspace, row.vnode, &seen) {
            return self.read_copy(asker, &row, kind);
        }
        self.spawn(move |inner| async move {
            let until = inner.session_wait();
            if inner.wait_for_seen(row.keyspace, row.vnode, &seen, until).await {
                inner.read_copy(asker, &row, kind);
            } else {
                inner.answer(asker, ReplicaReply::Refused(Refusal::Behind));
            }
        });
    }

    /// As [`Self::read_copy_in_session`], of a page.
    pub(super) fn read_page_in_session(self: &Arc<Self>, asker: Asker, request: PageRequest) {
        self.spawn(move |inner| async move {
            if inner.wait_for_page(&request).await {
                inner.answer_off_thread(asker, move |inner| inner.read_page(&request));
            } else {
                inner.answer(asker, ReplicaReply::Refused(Refusal::Behind));
            }
        });
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
        let PageRequest { table, after, until, limit, prefix, kind, .. } = request;
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
