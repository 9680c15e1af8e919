//! What this node's store has, read and repaired for other nodes.

use std::sync::Arc;

use meridian_coordinator::message::{
    PageReply, PageRequest, PageRow, ReadKind, Refusal, ReplicaReply,
};
use meridian_crdt::{Context, Row};
use meridian_store::Commit;
use meridian_types::{Mutation, ReadClass, RowKey, Token, broken};

use super::Asker;
use crate::node::Inner;
use crate::rebuild::Reading;

impl Inner {
    pub(super) fn read_copy(
        self: &Arc<Self>,
        asker: Asker,
        row: &RowKey,
        kind: ReadKind,
        class: ReadClass,
    ) {
        let Reading { version, unsettled } = match self.read_as(row, class) {
            Ok(reading) => reading,
            Err(refusal) => return self.answer(asker, ReplicaReply::Refused(refusal)),
        };
        if self.is_late(asker) {
            return self.answer(asker, ReplicaReply::Refused(Refusal::DeadlinePassed));
        }
        let reply = match kind {
            ReadKind::Data => ReplicaReply::Row(version),
            ReadKind::Digest => ReplicaReply::Digest(version.row.digest()),
        };
        match unsettled {
            None => self.answer(asker, reply),
            Some(commit) => self.answer_when_settled(asker, reply, &commit),
        }
    }

    /// Reads once this node has what the reader's session has seen, or says that it is behind.
    pub(super) fn read_copy_in_session(
        self: &Arc<Self>,
        asker: Asker,
        row: RowKey,
        (kind, class): (ReadKind, ReadClass),
        seen: Context,
    ) {
        if self.store.has_seen(row.keyspace, row.vnode, &seen) {
            return self.read_copy(asker, &row, kind, class);
        }
        self.spawn(move |inner| async move {
            let until = inner.session_wait();
            if inner.wait_for_seen(row.keyspace, row.vnode, &seen, until).await {
                inner.read_copy(asker, &row, kind, class);
            } else {
                inner.answer(asker, ReplicaReply::Refused(Refusal::Behind));
            }
        });
    }

    /// As [`Self::read_copy_in_session`], of a page.
    pub(super) fn read_page_in_session(self: &Arc<Self>, asker: Asker, request: PageRequest) {
        self.spawn(move |inner| async move {
            if inner.wait_for_page(&request).await {
                inner.answer_page(asker, request);
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

    /// Answers with a page, as durable as the reader needs it.
    pub(super) fn answer_page(self: &Arc<Self>, asker: Asker, request: PageRequest) {
        let Ok(permit) = Arc::clone(&self.blocking).try_acquire_owned() else {
            return self.answer(asker, ReplicaReply::Refused(Refusal::Overloaded));
        };
        self.block(move |inner| {
            let late = || Err(Refusal::DeadlinePassed);
            let read = if inner.is_late(asker) { late() } else { inner.read_page(&request) };
            let read = if inner.is_late(asker) { late() } else { read };
            match read {
                Ok((page, commit)) => {
                    inner.answer_when_settled(asker, ReplicaReply::Page(page), &commit);
                }
                Err(refusal) => inner.answer(asker, ReplicaReply::Refused(refusal)),
            }
            drop(permit);
        });
    }

    /// A page, and what must settle before it is shown.
    pub(crate) fn read_page(&self, request: &PageRequest) -> Result<(PageReply, Commit), Refusal> {
        let PageRequest { keyspace, table, after, until, limit, prefix, kind, class, .. } = request;
        let page = self.store.page(*table, after.as_ref(), *until, *limit, prefix);
        let page = page.map_err(|error| self.refusal(&error))?;
        let vnode_of = |token: u64| self.topology.vnode_of(Token(u128::from(token) << 64));
        let first = vnode_of(after.as_ref().map_or(0, |after| after.token));
        let last = vnode_of(page.end.as_ref().map_or(*until, |end| end.token));
        if !self.all_answer(*keyspace, first, last, *class) {
            return Err(Refusal::Rebuilding);
        }
        let at_once = *class == ReadClass::One || broken(Mutation::AnswerUnsynced);
        let commit = if at_once { Commit::default() } else { self.store.latest() };
        let rows = page.rows.into_iter().map(|(position, row)| {
            let digest = row.digest();
            let row = (*kind == ReadKind::Data).then_some(row);
            PageRow { position, row, digest }
        });
        Ok((PageReply { rows: rows.collect(), end: page.end }, commit))
    }
}
