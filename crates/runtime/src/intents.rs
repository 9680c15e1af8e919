//! Writes at ANY that reached no replica (rule 14): durable on this node without a dot, until a
//! replica is alive to mint them.

use std::sync::Arc;

use meridian_coordinator::Intent as MintIntent;
use meridian_coordinator::message::{ReplicaReply, ReplicaRequest};
use meridian_crdt::Context;
use meridian_service::{Effect, RequestError};
use meridian_store::{HintError, HintId, Intent, LocalWrite};
use meridian_transport::Class;
use meridian_types::{Hlc, NodeId, RowKey, WriteId};
use meridian_wire::replica::PeerBody;

use crate::node::Inner;

/// How often undelivered intents are tried.
const TRY_EVERY_MS: u64 = 1_000;

/// Intents that are read from the log at a time.
const PAGE: usize = 64;

/// Bytes of them.
const PAGE_BYTES: usize = 4 << 20;

/// How long one waits for a replica's answer.
const TIMEOUT_MS: u64 = 10_000;

/// Keeps an intent, durably; its stamp.
pub(crate) async fn keep(
    inner: &Arc<Inner>,
    row: RowKey,
    write: LocalWrite,
) -> Result<Hlc, RequestError> {
    let now = inner.host.wall();
    let failed = |why: String| RequestError::Storage { why, effect: Effect::Unknown };
    let stamp = inner.store.tick(now).map_err(|error| failed(error.to_string()))?;
    let intent = Intent {
        row,
        value: write.value,
        expires: write.expires,
        stamp,
        write_id: write.write_id.unwrap_or_else(|| WriteId(inner.fresh_uuid())),
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
            tracing::error!(%error, "intents cannot be read");
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
        let mut minted = Vec::new();
        for (id, intent) in page {
            if let Some(replica) = living_replica(inner, &intent.row)
                && mint_at(inner, replica, intent).await
            {
                minted.push(id);
            }
        }
        if !minted.is_empty() {
            inner.hints.log().remove_intents(&minted)?;
        }
    }
}

fn living_replica(inner: &Inner, row: &RowKey) -> Option<NodeId> {
    let view = inner.catalog.load();
    let replicas = view.keyspace(row.keyspace)?.placement.replicas(row.vnode);
    let here = replicas.in_dc(inner.dc).iter().chain(replicas.all());
    here.copied().find(|&node| inner.is_alive(node))
}

/// Whether the replica has minted it. Asked again, it answers with the same dot: the write has a
/// name.
async fn mint_at(inner: &Arc<Inner>, replica: NodeId, intent: Intent) -> bool {
    let Intent { row, value, expires, stamp, write_id, created: _ } = intent;
    let context = Context::default();
    let intent = MintIntent { row, value, expires, context, stamp, write_id };
    let body = PeerBody::Request(ReplicaRequest::Mint(intent));
    let answer = inner.ask(replica, Class::Background, None, body, TIMEOUT_MS).await;
    matches!(answer, Ok(PeerBody::Reply(ReplicaReply::Written(_))))
}
