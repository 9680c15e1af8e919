//! What runs beside the requests: wake-ups, the control plane, catalogs, figures.

use std::sync::Arc;

use meridian_transport::Class;
use meridian_types::NodeId;
use meridian_wire::replica::{CatalogMessage, CatalogReply, PeerBody, catalog_digest};

use crate::alarm::Alarm;
use crate::node::Inner;
use crate::tasks::Tasks;

/// How often a node asks one other for its catalog's digest.
const CATALOG_EVERY_MS: u64 = 2_000;

/// How long it waits for the answer.
const CATALOG_TIMEOUT_MS: u64 = 5_000;

/// How often gauges are brought up to date.
const FIGURES_EVERY_MS: u64 = 1_000;

/// How often hints whose window has closed are dropped.
const EXPIRE_EVERY_MS: u64 = 60_000;

pub(crate) fn start(inner: &Arc<Inner>, tasks: &mut Tasks) {
    tasks.spawn(&*inner.host, wake_requests(Arc::clone(inner)));
    tasks.spawn(&*inner.host, watch_load(Arc::clone(inner)));
    tasks.spawn(&*inner.host, compare_catalogs(Arc::clone(inner)));
    tasks.spawn(&*inner.host, show_figures(Arc::clone(inner)));
    tasks.spawn(&*inner.host, expire_hints(Arc::clone(inner)));
    tasks.spawn(&*inner.host, crate::superseded::sweep(Arc::clone(inner)));
    tasks.spawn(&*inner.host, crate::intents::deliver(Arc::clone(inner)));
    tasks.spawn(&*inner.host, crate::kept::ask_keepers(Arc::clone(inner)));
    tasks.spawn(&*inner.host, crate::forgetting::run(Arc::clone(inner)));
    tasks.spawn(&*inner.host, crate::batches::finish(Arc::clone(inner)));
    tasks.spawn(&*inner.host, crate::batches::replay(Arc::clone(inner)));
}

/// Wakes waiting requests when their time has come.
async fn wake_requests(inner: Arc<Inner>) {
    let timers = inner.exchanges.timers();
    let mut alarm = Alarm::new(Arc::clone(&inner.host));
    loop {
        match timers.pop_due(inner.host.now()) {
            Ok(call) => inner.wake(call),
            Err(until) => {
                tokio::select! {
                    biased;
                    () = alarm.until(until) => {}
                    () = timers.earlier() => {}
                }
            }
        }
    }
}

/// Measures how late the node's timers are, and how much it answers.
async fn watch_load(inner: Arc<Inner>) {
    loop {
        let next = inner.admission.tick(inner.host.now());
        inner.host.sleep(next).await;
    }
}

/// Compares catalogs with one node after the other.
async fn compare_catalogs(inner: Arc<Inner>) {
    let others: Vec<NodeId> =
        inner.topology.nodes().iter().map(|node| node.id).filter(|&n| n != inner.id).collect();
    // Nodes that start together begin with different peers.
    let first = usize::try_from(inner.id.0).unwrap_or(0) % others.len().max(1);
    for &peer in others.iter().cycle().skip(first) {
        inner.host.pause(CATALOG_EVERY_MS).await;
        if !inner.is_alive(peer) {
            continue;
        }
        let digest = CatalogMessage::Digest(catalog_digest(&inner.store.catalog()));
        let body = PeerBody::Catalog(digest);
        let answer = inner.ask(peer, Class::Control, None, body, CATALOG_TIMEOUT_MS).await;
        let Ok(PeerBody::CatalogReply(CatalogReply::Catalog(theirs))) = answer else { continue };
        let joined = inner.off_thread(move |inner| inner.join_catalog(&theirs, None)).await;
        if let Ok(Err(error)) = joined {
            tracing::error!(peer = inner.name_of(peer), %error, "the catalog was not joined");
        }
    }
}

async fn show_figures(inner: Arc<Inner>) {
    loop {
        inner.show_figures();
        inner.host.pause(FIGURES_EVERY_MS).await;
    }
}

async fn expire_hints(inner: Arc<Inner>) {
    loop {
        let expired = inner.off_thread(|inner| inner.hints.log().expire(inner.host.wall()));
        match expired.await {
            Ok(Ok(by_target)) => {
                inner.tell_given_up();
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
        inner.host.pause(EXPIRE_EVERY_MS).await;
    }
}
