//! One direction between two datacenters: its conditions, live, and what it carries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_topology::Link;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

/// What one direction of a link is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// How long bytes are under way.
    pub latency: Duration,
    /// By how much the latency varies, up and down.
    pub jitter: Duration,
    /// How many chunks of a hundred are lost. A lost one comes a round trip later, as TCP's fast
    /// retransmit brings it, and holds up what is behind it.
    pub loss_percent: f64,
    /// Nothing passes.
    pub cut: bool,
}

impl From<&Link> for Conditions {
    fn from(link: &Link) -> Self {
        let Link { latency, jitter, loss_percent } = *link;
        Self { latency, jitter, loss_percent, cut: false }
    }
}

/// One direction as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WayStatus {
    /// Where it comes from.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// Its conditions.
    pub conditions: Conditions,
    /// Bytes that arrived.
    pub passed_bytes: u64,
    /// Bytes under way, or held by a cut.
    pub held_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Way {
    conditions: watch::Sender<Conditions>,
    passed: AtomicU64,
    held: AtomicU64,
}

impl Way {
    pub(super) fn new(conditions: Conditions) -> Self {
        let conditions = watch::Sender::new(conditions);
        Self { conditions, passed: AtomicU64::new(0), held: AtomicU64::new(0) }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Conditions)) {
        self.conditions.send_modify(change);
    }

    pub(super) fn conditions(&self) -> Conditions {
        *self.conditions.borrow()
    }

    /// Returns once the way is not cut.
    pub(super) async fn opened(&self) {
        // The sender is `self`, so it cannot be gone.
        let _ = self.conditions.subscribe().wait_for(|c| !c.cut).await;
    }

    pub(super) fn took(&self, bytes: u64) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were taken left, to their target or with their connection.
    pub(super) fn let_go(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn passed(&self, bytes: u64) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn status(&self, from: &str, to: &str) -> WayStatus {
        WayStatus {
            from: from.to_owned(),
            to: to.to_owned(),
            conditions: self.conditions(),
            passed_bytes: self.passed.load(Ordering::Relaxed),
            held_bytes: self.held.load(Ordering::Relaxed),
        }
    }
}

/// When the chunks of one direction of one connection arrive: never before one that set out
/// earlier.
#[derive(Debug)]
pub(super) struct Arrivals {
    random: ChaCha8Rng,
    last: Option<Instant>,
}

impl Arrivals {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), last: None }
    }

    pub(super) fn next(&mut self, now: Instant, conditions: &Conditions) -> Instant {
        let mut delay = conditions.latency;
        if !conditions.jitter.is_zero() {
            let most = conditions.jitter * 2;
            let some = most.mul_f64(self.random.random_range(0.0..=1.0));
            delay = (delay + some).saturating_sub(conditions.jitter);
        }
        if conditions.loss_percent > 0.0
            && self.random.random_range(0.0..100.0) < conditions.loss_percent
        {
            delay += conditions.latency * 2;
        }
        let arrival = self.last.map_or(now + delay, |last| last.max(now + delay));
        self.last = Some(arrival);
        arrival
    }
}
