//! Atomic batches, as their coordinator and as one of those who keep them.
//!
//! The coordinator drives a [`BatchMachine`] in a task of its own, which a client that goes away does
//! not end. What it leaves is brought about by [`finish`] here, and, when the coordinator has been
//! silent, by [`replay`] at the nodes that keep the batch. All of them send the same deltas, so it
//! does not matter who does, or that several do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_coordinator::batch::is_whole;
use meridian_coordinator::message::{
    LoggedBatch, NamedWrite, Refusal, ReplicaReply, ReplicaRequest, VnodeDot,
};
use meridian_coordinator::{
    BatchAction, BatchDone, BatchEvent, BatchFailure, BatchMachine, BatchPlan,
};
use meridian_service::{CallContext, RequestError};
use meridian_store::{BatchError, Batches, KeptBatch, KeptWrite, MAX_BATCH_BYTES};
use meridian_transport::Class;
use meridian_types::{BatchId, ConsistencyLevel, Millis, Mutation, NodeId, broken};
use meridian_wire::replica::PeerBody;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::catalog::TableRef;
use crate::node::Inner;
use crate::put::millis;

/// Batches that are written and not known to be whole yet. Beyond it those who keep them see to
/// them.
const MAX_FINISHING: usize = 4_096;

/// How often a coordinator asks whether its batches are whole: behind the sync of the log, so that
/// it is asked of what is durable anyway.
const FINISH_EVERY_MS: u64 = 250;

/// Batches that are asked about, or brought about, at once.
const AT_ONCE: usize = 256;

/// Bytes of batches that are read from the log at a time.
const PAGE_BYTES: usize = 4 << 20;

/// How long a coordinator is silent before the first of those who keep its batch brings it about;
/// the others wait twice as long.
const SILENCE_MS: u64 = 10_000;

/// How often the log is looked through.
const REPLAY_EVERY_MS: u64 = 2_000;

/// Dots that somebody was told that they are not needed, remembered against a batch with them that
/// is still on its way here. It is on its way for seconds.
const MAX_GIVEN_UP: usize = 16_384;

/// What a node has to do with batches.
#[derive(Debug)]
pub(crate) struct BatchKeeper {
    log: Arc<Batches>,
    /// Those that this node coordinates.
    running: Mutex<BTreeMap<BatchId, Arc<Mutex<BatchMachine>>>>,
    finishing: Mutex<VecDeque<(LoggedBatch, Millis)>>,
    given_up: Mutex<GivenUp>,
}

#[derive(Debug, Default)]
struct GivenUp {
    dots: BTreeSet<(BatchId, VnodeDot)>,
    oldest: VecDeque<(BatchId, VnodeDot)>,
}

impl GivenUp {
    fn insert(&mut self, one: (BatchId, VnodeDot)) {
        if self.dots.insert(one) {
            self.oldest.push_back(one);
        }
        if self.oldest.len() > MAX_GIVEN_UP
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.dots.remove(&oldest);
        }
    }
}

impl BatchKeeper {
    pub(crate) fn new(log: Arc<Batches>) -> Self {
        let (running, finishing) = (Mutex::default(), Mutex::default());
        Self { log, running, finishing, given_up: Mutex::default() }
    }

    /// Keeps a batch, durably. Waits for the disk.
    pub(crate) fn keep(&self, batch: &LoggedBatch, now: Millis) -> Result<(), KeepError> {
        if broken(Mutation::ForgetBatchLog) {
            return Ok(());
        }
        {
            let given_up = self.given_up.lock();
            if batch.writes.iter().any(|write| given_up.dots.contains(&(batch.id, write.dot()))) {
                return Err(KeepError::GivenUp);
            }
            self.log.keep(&stored(batch, now))?;
        }
        Ok(self.log.flush()?)
    }

    /// Whether a batch has this dot, or may come to have it. If not, it will not be kept here with
    /// it. Waits for the disk.
    pub(crate) fn needs(&self, id: BatchId, dot: VnodeDot) -> Result<bool, BatchError> {
        let machine = self.running.lock().get(&id).cloned();
        if machine.is_some_and(|machine| machine.lock().needs(dot)) {
            return Ok(true);
        }
        if self.finishing.lock().iter().any(|(batch, _)| batch.id == id) {
            return Ok(true);
        }
        let mut given_up = self.given_up.lock();
        let kept = self.log.batch(id)?.map(logged);
        if kept.is_some_and(|batch| batch.writes.iter().any(|write| write.dot() == dot)) {
            return Ok(true);
        }
        given_up.insert((id, dot));
        Ok(false)
    }

    /// Leaves a batch to [`finish`].
    fn finish_later(&self, batch: LoggedBatch, since: Millis) {
        let mut finishing = self.finishing.lock();
        if finishing.len() < MAX_FINISHING {
            finishing.push_back((batch, since));
        }
    }

    /// Batches that are not known to be whole: those that this node coordinated and those that it
    /// keeps.
    pub(crate) fn open(&self) -> u64 {
        self.finishing.lock().len() as u64 + self.log.counters().batches
    }
}

/// A batch is not kept here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// Somebody was told that it would not be.
    #[error("a dot of it was given up")]
    GivenUp,
    /// The log does not take it.
    #[error(transparent)]
    Log(#[from] BatchError),
}

fn stored(batch: &LoggedBatch, created: Millis) -> KeptBatch {
    let one = |write: &NamedWrite| {
        let NamedWrite { row, delta, write_id } = write.clone();
        KeptWrite { row, delta, write_id }
    };
    let LoggedBatch { id, holders, writes } = batch;
    KeptBatch {
        id: *id,
        holders: holders.clone(),
        created,
        writes: writes.iter().map(one).collect(),
    }
}

fn logged(batch: KeptBatch) -> LoggedBatch {
    let KeptBatch { id, holders, created: _, writes } = batch;
    let one = |KeptWrite { row, delta, write_id }| NamedWrite { row, delta, write_id };
    LoggedBatch { id, holders, writes: writes.into_iter().map(one).collect() }
}

/// A batch as its driver needs it.
pub(crate) struct Batching {
    pub(crate) call: CallContext,
    pub(crate) level: ConsistencyLevel,
    pub(crate) plan: BatchPlan,
    /// The table of each write.
    pub(crate) tables: Vec<Arc<TableRef>>,
}

/// Forgets a batch that runs, however its driver ends.
struct Run {
    inner: Arc<Inner>,
    id: BatchId,
    machine: Arc<Mutex<BatchMachine>>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.inner.batches.running.lock().remove(&self.id);
    }
}

impl Inner {
    /// Runs a batch beside its client, and waits for its answer.
    pub(crate) async fn run_batch(
        self: &Arc<Self>,
        batching: Batching,
    ) -> Result<BatchDone, RequestError> {
        let level = batching.level;
        let (reply, answer) = oneshot::channel();
        self.spawn(move |inner| drive(inner, batching, reply));
        answer.await.unwrap_or_else(|_ended| {
            let why = "the node stopped".to_owned();
            Err(RequestError::Failed { level, acks: Vec::new(), why, write: true })
        })
    }

    async fn batch_event(
        self: Arc<Self>,
        action: BatchAction,
        batching: Arc<Batching>,
        overloaded: Arc<Mutex<bool>>,
    ) -> BatchEvent {
        match action {
            BatchAction::Reserve { write, at: from, request } => {
                let request = ReplicaRequest::Reserve(request);
                match self.ask_about_kept(from, Class::Foreground, request).await {
                    Ok(ReplicaReply::Reserved { dot, context, not_below }) => {
                        BatchEvent::Reserved { write, from, dot, context, not_below }
                    }
                    Ok(ReplicaReply::Named(delta)) => BatchEvent::Named { write, from, delta },
                    Ok(_) | Err(_) => BatchEvent::NotReserved { write, from },
                }
            }
            BatchAction::Keep { at: by, batch } => {
                let request = ReplicaRequest::KeepBatch(batch);
                match self.ask_about_kept(by, Class::Foreground, request).await {
                    Ok(ReplicaReply::BatchKept) => BatchEvent::Kept { by },
                    Ok(ReplicaReply::Refused(Refusal::Overloaded)) => {
                        *overloaded.lock() = true;
                        BatchEvent::NotKept { by, perhaps: false }
                    }
                    Ok(ReplicaReply::Refused(Refusal::GivenUp))
                    | Err(crate::exchange::Lost::NotSent) => {
                        BatchEvent::NotKept { by, perhaps: false }
                    }
                    Ok(_) | Err(_) => BatchEvent::NotKept { by, perhaps: true },
                }
            }
            BatchAction::Write { write, named } => {
                let (call, level) = (batching.call, batching.level);
                let waiting = match batching.tables.get(write) {
                    Some(table) => self.put_named(&call, table, named, level),
                    None => Err(RequestError::Stopping),
                };
                let written = match waiting {
                    Ok(waiting) => waiting.written(level).await,
                    Err(error) => Err(error),
                };
                match written {
                    Ok(_) => BatchEvent::Written { write },
                    Err(_) => BatchEvent::NotWritten { write },
                }
            }
            BatchAction::Reply(_) | BatchAction::Done(_) => BatchEvent::TimePassed,
        }
    }

    /// Tells everybody who keeps these batches that they are whole.
    fn forget_batches(self: &Arc<Self>, whole: &[LoggedBatch]) {
        let mut by_holder: BTreeMap<NodeId, Vec<BatchId>> = BTreeMap::new();
        for batch in whole {
            for holder in &batch.holders {
                by_holder.entry(*holder).or_default().push(batch.id);
            }
        }
        for (holder, ids) in by_holder {
            if holder == self.id {
                self.block(move |inner| inner.forget_own_batches(&ids));
                continue;
            }
            let body = PeerBody::Request(ReplicaRequest::ForgetBatches(ids));
            let message = crate::peer::encode(self.exchanges.next_call(), None, body);
            if let Err(why) = self.send(holder, Class::Background, message) {
                // It finds out itself when it brings them about.
                tracing::debug!(peer = self.name_of(holder), ?why, "batches are forgotten later");
            }
        }
    }

    pub(crate) fn forget_own_batches(&self, ids: &[BatchId]) {
        if let Err(error) = self.batches.log.forget(ids) {
            tracing::error!(%error, "batches cannot be forgotten");
            self.note_failure(error.to_string());
        }
    }

    /// Brings batches about; those that are whole now, and the others.
    async fn bring_batches(
        self: &Arc<Self>,
        batches: Vec<LoggedBatch>,
    ) -> (Vec<LoggedBatch>, Vec<LoggedBatch>) {
        let writes: Vec<NamedWrite> =
            batches.iter().flat_map(|batch| batch.writes.iter().cloned()).collect();
        let durable = self.bring(&writes).await;
        let view = self.catalog.load();
        let mut whole = writes.iter().zip(&durable).map(|(write, durable)| {
            let Some(keyspace) = view.keyspace(write.row.keyspace) else { return false };
            is_whole(write, keyspace.placement.replicas(write.row.vnode), durable)
        });
        batches.into_iter().partition(|batch| {
            // Every write is looked at, whichever of them are not whole.
            whole.by_ref().take(batch.writes.len()).filter(|whole| !whole).count() == 0
        })
    }
}

/// Drives a batch to its end.
async fn drive(
    inner: Arc<Inner>,
    batching: Batching,
    reply: oneshot::Sender<Result<BatchDone, RequestError>>,
) {
    let batching = Arc::new(batching);
    let (id, deadline) = (batching.plan.id, batching.plan.deadline);
    let mut actions = Vec::new();
    let machine = BatchMachine::start(batching.plan.clone(), &mut actions);
    let machine = Arc::new(Mutex::new(machine));
    inner.batches.running.lock().insert(id, Arc::clone(&machine));
    let run = Run { inner: Arc::clone(&inner), id, machine };
    let overloaded = Arc::new(Mutex::new(false));
    let mut reply = Some(reply);
    let mut works: FuturesUnordered<BoxFuture<'static, BatchEvent>> = FuturesUnordered::new();
    let sleep = inner.host.sleep(deadline);
    works.push(Box::pin(async move {
        sleep.await;
        BatchEvent::TimePassed
    }));
    loop {
        for action in std::mem::take(&mut actions) {
            match action {
                BatchAction::Reply(result) => {
                    let error = |failure| error_of(failure, batching.level, *overloaded.lock());
                    if let Some(reply) = reply.take() {
                        // A client that went away is no failure of its batch.
                        drop(reply.send(result.map_err(error)));
                    }
                }
                BatchAction::Done(batch) => {
                    if let Some(batch) = batch {
                        inner.batches.finish_later(batch, inner.host.now());
                    }
                    return;
                }
                action => {
                    let (batching, overloaded) = (Arc::clone(&batching), Arc::clone(&overloaded));
                    let event = Arc::clone(&inner).batch_event(action, batching, overloaded);
                    works.push(Box::pin(event));
                }
            }
        }
        let Some(event) = works.next().await else { return };
        run.machine.lock().step(event, inner.host.now(), &mut actions);
    }
}

fn error_of(failure: BatchFailure, level: ConsistencyLevel, overloaded: bool) -> RequestError {
    if overloaded && !failure.is_unknown() {
        let limit = usize::try_from(MAX_BATCH_BYTES).unwrap_or(usize::MAX);
        return RequestError::Overloaded { queue: "atomic batches", limit };
    }
    let (why, write) = (failure.to_string(), failure.is_unknown());
    RequestError::Failed { level, acks: Vec::new(), why, write }
}

/// When a batch must be decided.
pub(crate) fn deadline(now: Millis, call: &CallContext) -> Millis {
    now.plus(millis(call.timeout))
}

/// Sees to it that batches of this node's become whole and are forgotten, for as long as it runs.
pub(crate) async fn finish(inner: Arc<Inner>) {
    loop {
        inner.host.pause(FINISH_EVERY_MS).await;
        let some: Vec<(LoggedBatch, Millis)> = {
            let finishing = &mut inner.batches.finishing.lock();
            let most = finishing.len().min(AT_ONCE);
            finishing.drain(..most).collect()
        };
        if some.is_empty() {
            continue;
        }
        let since: BTreeMap<BatchId, Millis> =
            some.iter().map(|(batch, since)| (batch.id, *since)).collect();
        let batches = some.into_iter().map(|(batch, _)| batch).collect();
        let (whole, open) = inner.bring_batches(batches).await;
        inner.forget_batches(&whole);
        let now = inner.host.now();
        for batch in open {
            let since = since.get(&batch.id).copied().unwrap_or(now);
            if now.since(since) < SILENCE_MS {
                inner.batches.finish_later(batch, since);
            }
        }
    }
}

/// Brings about the batches that this node keeps and whose coordinators are silent, for as long as
/// it runs.
pub(crate) async fn replay(inner: Arc<Inner>) {
    loop {
        inner.host.pause(REPLAY_EVERY_MS).await;
        if inner.batches.log.counters().batches == 0 {
            continue;
        }
        if let Err(error) = replay_all(&inner).await {
            tracing::error!(%error, "atomic batches cannot be read");
            inner.note_failure(error.to_string());
        }
    }
}

async fn replay_all(inner: &Arc<Inner>) -> Result<(), BatchError> {
    let mut after = None;
    loop {
        let read =
            inner.off_thread(move |inner| inner.batches.log.page(after, AT_ONCE, PAGE_BYTES));
        let Ok(page) = read.await else { return Ok(()) };
        let page = page?;
        let mut silent = Vec::new();
        after = None;
        for batch in page {
            match batch {
                Ok(batch) => {
                    after = Some(batch.id);
                    if is_silent(inner, &batch) {
                        silent.push(logged(batch));
                    }
                }
                Err(error @ BatchError::Damaged { id, .. }) => {
                    after = Some(id);
                    tracing::error!(%error, "others keep it as well");
                }
                Err(error) => return Err(error),
            }
        }
        if !silent.is_empty() {
            let (whole, _open) = inner.bring_batches(silent).await;
            inner.forget_batches(&whole);
        }
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Whether a batch's coordinator, and those who keep it and come first, have been silent for long
/// enough. A wall clock that stepped makes it early, which does no harm.
fn is_silent(inner: &Inner, batch: &KeptBatch) -> bool {
    let turns = if batch.holders.first() == Some(&inner.id) { 1 } else { 2 };
    inner.host.wall().0.abs_diff(batch.created.0) >= SILENCE_MS * turns
}
