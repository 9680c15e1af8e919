//! Requests about writes that somebody keeps until they are done (rule 14).

use std::sync::Arc;

use meridian_coordinator::message::{
    LoggedBatch, Refusal, ReplicaReply, ReplicaRequest, Reserve, VnodeDot, WriteDelta, Written,
};
use meridian_store::{BatchError, Commit, HintError, Reserved, Reserving};
use meridian_types::{KeptAs, NodeId};
use tokio::sync::oneshot;

use super::Asker;
use crate::batches::KeepError;
use crate::node::Inner;

impl Inner {
    /// Answers a request about a kept write, as a task of its own: most wait for the disk.
    pub(super) fn kept_asked(self: &Arc<Self>, asker: Asker, request: ReplicaRequest) {
        let Ok(permit) = Arc::clone(&self.kept).try_acquire_owned() else {
            return self.answer(asker, ReplicaReply::Refused(Refusal::Overloaded));
        };
        self.spawn(move |inner| async move {
            let reply = inner.serve_kept(asker.node, request).await;
            inner.answer(asker, reply);
            drop(permit);
        });
    }

    /// What this node says to a request about a kept write, which may be its own.
    pub(crate) async fn serve_kept(
        self: &Arc<Self>,
        from: NodeId,
        request: ReplicaRequest,
    ) -> ReplicaReply {
        let served = match request {
            ReplicaRequest::Reserve(reserve) => self.give_dot(from, reserve).await,
            ReplicaRequest::Write(write) => self.apply_own(&write).await,
            ReplicaRequest::StillNeeded { kept_as, dot } => {
                self.still_needs(kept_as, dot).await.map(ReplicaReply::Needed)
            }
            ReplicaRequest::Holds(dots) => self.held(dots).await,
            ReplicaRequest::KeepBatch(batch) => self.keep_batch(batch).await,
            other => Err(Refusal::Malformed(format!("{other:?} is about no kept write"))),
        };
        served.unwrap_or_else(ReplicaReply::Refused)
    }

    async fn give_dot(
        self: &Arc<Self>,
        keeper: NodeId,
        reserve: Reserve,
    ) -> Result<ReplicaReply, Refusal> {
        let Reserve { row, write_id, kept_as, holders, over_what_is_here } = reserve;
        let row = &row;
        let asked = Reserving { row, write_id, keeper, kept_as, holders, over_what_is_here };
        let reserved = self.store.reserve(asked, self.host.wall());
        match reserved.map_err(|error| self.refusal(&error))? {
            Reserved::Dot { dot, context, not_below } => {
                Ok(ReplicaReply::Reserved { dot, context, not_below })
            }
            Reserved::Written { delta, commit } => {
                self.settled(&commit).await?;
                Ok(ReplicaReply::Named(delta))
            }
        }
    }

    async fn apply_own(self: &Arc<Self>, write: &WriteDelta) -> Result<ReplicaReply, Refusal> {
        let WriteDelta { row, delta, write_id, .. } = write;
        let applied = self.store.apply(row, delta, *write_id, self.host.wall());
        let applied = applied.map_err(|error| self.refusal(&error))?;
        self.settled(&applied.commit).await?;
        Ok(ReplicaReply::Written(Written { known: !applied.new, credit: None }))
    }

    async fn held(self: &Arc<Self>, dots: Vec<VnodeDot>) -> Result<ReplicaReply, Refusal> {
        let held = self.off_thread(move |inner| {
            let dots: Vec<_> = dots.iter().map(|one| (one.keyspace, one.vnode, one.dot)).collect();
            inner.store.holds(&dots).map_err(|error| inner.refusal(&error))
        });
        let held = held.await.map_err(|given_up| Refusal::Storage(given_up.to_string()))?;
        held.map(ReplicaReply::Held)
    }

    async fn keep_batch(self: &Arc<Self>, batch: LoggedBatch) -> Result<ReplicaReply, Refusal> {
        let kept = self.off_thread(move |inner| inner.batches.keep(&batch, inner.host.wall()));
        match kept.await.map_err(|given_up| Refusal::Storage(given_up.to_string()))? {
            Ok(()) => Ok(ReplicaReply::BatchKept),
            Err(KeepError::GivenUp) => Err(Refusal::GivenUp),
            Err(KeepError::Log(BatchError::Full { .. })) => Err(Refusal::Overloaded),
            Err(KeepError::Log(error)) => {
                self.note_failure(error.to_string());
                Err(Refusal::Storage(error.to_string()))
            }
        }
    }

    async fn still_needs(
        self: &Arc<Self>,
        kept_as: KeptAs,
        dot: VnodeDot,
    ) -> Result<bool, Refusal> {
        let failed = |error: HintError| Refusal::Storage(error.to_string());
        let needed = self.off_thread(move |inner| match kept_as {
            KeptAs::Intent(number) => inner.intents.needs(inner, number, dot).map_err(failed),
            KeptAs::Batch(id) => {
                inner.batches.needs(id, dot).map_err(|error| Refusal::Storage(error.to_string()))
            }
        });
        needed.await.map_err(|given_up| Refusal::Storage(given_up.to_string()))?
    }

    /// Waits until a commit is as durable as the sync policy says.
    pub(crate) async fn settled(self: &Arc<Self>, commit: &Commit) -> Result<(), Refusal> {
        if self.store.is_settled(commit) {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        // Whoever waited may have stopped.
        self.when_settled(commit, move |_, settled| drop(sender.send(settled)));
        receiver
            .await
            .unwrap_or_else(|_closed| Err(Refusal::Storage("the node stopped".to_owned())))
    }
}
