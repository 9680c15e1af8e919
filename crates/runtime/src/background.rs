//! What runs beside the requests: wake-ups, the control plane, catalogs, figures.

use std::sync::Arc;
use std::time::Duration;

use meridian_transport::Class;
use meridian_types::NodeId;
use meridian_wire::replica::{CatalogMessage, CatalogReply, PeerBody, catalog_digest};
use tokio::task::JoinSet;

use crate::node::Inner;

/// How often a node asks one other for its catalog's digest.
const CATALOG_EVERY: Duration = Duration::from_secs(2);

/// How long it waits for the answer.
const CATALOG_TIMEOUT_MS: u64 = 5_000;

/// How often gauges are brought up to date.
const FIGURES_EVERY: Duration = Duration::from_secs(1);

/// How often hints whose window has closed are dropped.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

pub(crate) fn start(inner: &Arc<Inner>, tasks: &mut JoinSet<()>) {
    tasks.spawn(wake_requests(Arc::clone(inner)));
    tasks.spawn(compare_catalogs(Arc::clone(inner)));
    tasks.spawn(show_figures(Arc::clone(inner)));
    tasks.spawn(expire_hints(Arc::clone(inner)));
    tasks.spawn(crate::intents::deliver(Arc::clone(inner)));
}

/// Wakes waiting requests when their time has come.
async fn wake_requests(inner: Arc<Inner>) {
    let timers = inner.exchanges.timers();
    loop {
        let now = inner.clock.now();
        match timers.pop_due(now) {
            Ok(call) => inner.wake(call),
            Err(None) => timers.earlier().await,
            Err(Some(next)) => {
                let wait = Duration::from_millis(next.since(now).max(1));
                tokio::select! {
                    () = timers.earlier() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}

/// Compares catalogs with one node after the other.
async fn compare_catalogs(inner: Arc<Inner>) {
    let others: Vec<NodeId> =
        inner.topology.nodes().iter().map(|node| node.id).filter(|&n| n != inner.id).collect();
    let mut every = tokio::time::interval(CATALOG_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Nodes that start together begin with different peers.
    let first = usize::try_from(inner.id.0).unwrap_or(0) % others.len().max(1);
    for &peer in others.iter().cycle().skip(first) {
        every.tick().await;
        if !inner.is_alive(peer) {
            continue;
        }
        let digest = CatalogMessage::Digest(catalog_digest(&inner.store.catalog()));
        let body = PeerBody::Catalog(digest);
        let answer = inner.ask(peer, Class::Control, None, body, CATALOG_TIMEOUT_MS).await;
        let Ok(PeerBody::CatalogReply(CatalogReply::Catalog(theirs))) = answer else { continue };
        let node = Arc::clone(&inner);
        let joined = tokio::task::spawn_blocking(move || node.join_catalog(&theirs)).await;
        if let Ok(Err(error)) = joined {
            tracing::error!(peer = inner.name_of(peer), %error, "the catalog was not joined");
        }
    }
}

async fn show_figures(inner: Arc<Inner>) {
    let mut every = tokio::time::interval(FIGURES_EVERY);
    loop {
        every.tick().await;
        inner.show_figures();
    }
}

async fn expire_hints(inner: Arc<Inner>) {
    let mut every = tokio::time::interval(EXPIRE_EVERY);
    loop {
        every.tick().await;
        let node = Arc::clone(&inner);
        let expired =
            tokio::task::spawn_blocking(move || node.hints.log().expire(crate::clock::now()));
        match expired.await {
            Ok(Ok(by_target)) => {
                for (target, hints) in by_target {
                    tracing::warn!(
                        peer = inner.name_of(target),
                        hints,
                        "the window of hints has closed; anti-entropy will bring their writes"
                    );
                }
            }
            Ok(Err(error)) => inner.note_failure(error.to_string()),
            Err(_) => {}
        }
    }
}
