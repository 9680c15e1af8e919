//! Writes at ANY that reached no replica (rule 14): durable on this node, until the replica that
//! gave them their dot durably has them. See [`crate::kept`].

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use meridian_coordinator::message::{NamedWrite, ReplicaReply, ReplicaRequest, Reserve, VnodeDot};
use meridian_crdt::{Context, Delta, Entry};
use meridian_service::{Effect, RequestError};
use meridian_store::{HintError, HintId, Intent, LocalWrite, WriteContext};
use meridian_transport::Class;
use meridian_types::{Hlc, KeptAs, Mutation, RowKey, WriteId, broken};
use parking_lot::Mutex;

use crate::node::Inner;

/// How often undelivered intents are tried.
const TRY_EVERY_MS: u64 = 1_000;

/// Intents that are read from the log at a time.
const PAGE: usize = 64;

/// Bytes of them.
const PAGE_BYTES: usize = 4 << 20;

/// The calls for dots that are under way, by intent.
///
/// INVARIANT: an answer is taken under the lock, and only that of the latest call. So a dot that
/// [`Self::needs`] has denied is never taken afterwards.
#[derive(Debug, Default)]
pub(crate) struct IntentCalls(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    open: BTreeMap<HintId, u64>,
    last: u64,
}

impl IntentCalls {
    fn begin(&self, id: HintId) -> u64 {
        let mut calls = self.0.lock();
        calls.last += 1;
        let call = calls.last;
        calls.open.insert(id, call);
        call
    }

    /// Takes the answer to a call, unless that is waited for no more.
    fn take(&self, node: &Inner, id: HintId, call: u64, named: &Intent) -> Result<bool, HintError> {
        let mut calls = self.0.lock();
        if calls.open.get(&id) != Some(&call) {
            return Ok(false);
        }
        calls.open.remove(&id);
        node.hints.log().name_intent(id, named)?;
        Ok(true)
    }

    /// Whether an intent has this dot. If not, it will not get it either.
    pub(crate) fn needs(
        &self,
        node: &Inner,
        number: u64,
        dot: VnodeDot,
    ) -> Result<bool, HintError> {
        let id = HintId(number);
        let mut calls = self.0.lock();
        let intent = node.hints.log().intent(id)?;
        let named = intent.and_then(|intent| Some(VnodeDot::of(&intent.row, &intent.delta()?)));
        if named == Some(dot) {
            return Ok(true);
        }
        calls.open.remove(&id);
        Ok(false)
    }
}

/// Keeps an intent, durably; its stamp.
pub(crate) async fn keep(
    inner: &Arc<Inner>,
    row: RowKey,
    write: LocalWrite,
) -> Result<Hlc, RequestError> {
    let now = inner.host.wall();
    let failed = |why: String| RequestError::Storage { why, effect: Effect::Unknown };
    let stamp = inner.store.tick(now).map_err(|error| failed(error.to_string()))?;
    let LocalWrite { value, expires, context, write_id, must_win: _ } = write;
    let (context, over_what_is_here) = match context {
        _ if broken(Mutation::IntentWithoutContext) => (Context::default(), false),
        WriteContext::None => (Context::default(), false),
        WriteContext::Seen(context) => (context, false),
        WriteContext::WhatIsHere => (Context::default(), true),
    };
    let intent = Intent {
        row,
        value,
        expires,
        stamp,
        context,
        over_what_is_here,
        dot: None,
        write_id: write_id.unwrap_or_else(|| WriteId(inner.fresh_uuid())),
        created: now,
    };
    let kept = inner.off_thread(move |inner| {
        inner.hints.log().append_intent(&intent)?;
        inner.hints.log().flush()
    });
    match kept.await {
        Ok(Ok(())) => Ok(stamp),
        Ok(Err(HintError::IntentsFull { .. })) => {
            Err(RequestError::Overloaded { queue: "intents", limit: inner.intent_limit() })
        }
        Ok(Err(error)) => {
            inner.note_failure(error.to_string());
            Err(failed(error.to_string()))
        }
        Err(given_up) => Err(failed(given_up.to_string())),
    }
}

/// Brings intents to replicas, for as long as the node runs.
pub(crate) async fn deliver(inner: Arc<Inner>) {
    loop {
        if inner.hints.log().counters().intents > 0
            && let Err(error) = deliver_all(&inner).await
        {
            tracing::error!(%error, "intents cannot be read or kept");
            inner.note_failure(error.to_string());
        }
        inner.host.pause(TRY_EVERY_MS).await;
    }
}

async fn deliver_all(inner: &Arc<Inner>) -> Result<(), HintError> {
    let mut after: Option<HintId> = None;
    loop {
        let page = inner.hints.log().intents(after, PAGE, PAGE_BYTES)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(*last);
        let named = page.into_iter().map(|(id, intent)| name(inner, id, intent));
        let named: Vec<_> = stream::iter(named.collect::<Vec<_>>()).buffered(PAGE).collect().await;
        // Durable before the first delta leaves: a dot that is forgotten here would be given up.
        if let Ok(flushed) = inner.off_thread(|inner| inner.hints.log().flush()).await {
            flushed?;
        }
        let (ids, writes): (Vec<HintId>, Vec<NamedWrite>) = named.into_iter().flatten().unzip();
        let holders = inner.bring(&writes).await;
        let done = ids.iter().zip(writes.iter().zip(&holders));
        let done = done.filter(|(_, (write, holders))| inner.is_done(write, holders));
        let done: Vec<HintId> = done.map(|(id, _)| *id).collect();
        if !done.is_empty() {
            inner.hints.log().remove_intents(&done)?;
        }
    }
}

/// The intent as a write that has its dot: a replica is asked for one where it has none yet.
async fn name(inner: &Arc<Inner>, id: HintId, intent: Intent) -> Option<(HintId, NamedWrite)> {
    let mints_anew = broken(Mutation::ReplayMintsAnew);
    let named = match intent.dot {
        Some(_) if !mints_anew => intent,
        _ => ask_for_dot(inner, id, intent).await?,
    };
    let delta = named.delta()?;
    Some((id, NamedWrite { row: named.row, delta, write_id: Some(named.write_id) }))
}

async fn ask_for_dot(inner: &Arc<Inner>, id: HintId, intent: Intent) -> Option<Intent> {
    let replica = *inner.living_replicas(&intent.row).first()?;
    let call = inner.intents.begin(id);
    let (mut write_id, mut kept_as) = (intent.write_id, KeptAs::Intent(id.0));
    if broken(Mutation::ReplayMintsAnew) {
        (write_id, kept_as) = (WriteId(inner.fresh_uuid()), KeptAs::Intent(inner.host.random()));
    }
    let request = ReplicaRequest::Reserve(Reserve {
        row: intent.row.clone(),
        write_id,
        kept_as,
        holders: Vec::new(),
        over_what_is_here: intent.over_what_is_here,
    });
    let named = match inner.ask_about_kept(replica, Class::Background, request).await {
        Ok(ReplicaReply::Reserved { dot, context, not_below }) => {
            let context = if intent.over_what_is_here { context } else { intent.context };
            let stamp = intent.stamp.max(not_below);
            Intent { dot: Some(dot), context, stamp, ..intent }
        }
        Ok(ReplicaReply::Named(Delta { entry, context })) => {
            let Entry { dot, stamp, expires, value } = entry;
            Intent { dot: Some(dot), stamp, expires, value, context, ..intent }
        }
        Ok(_) | Err(_) => return None,
    };
    let taken = inner.off_thread(move |inner| {
        let taken = inner.intents.take(inner, id, call, &named)?;
        Ok::<_, HintError>(taken.then_some(named))
    });
    match taken.await {
        Ok(Ok(named)) => named,
        Ok(Err(error)) => {
            inner.note_failure(error.to_string());
            None
        }
        Err(_) => None,
    }
}
