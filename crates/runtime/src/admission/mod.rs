//! Decides whether a request is begun at all.
//!
//! A node that begins everything it is asked for ends nothing in time once it is asked for more
//! than it can do: what waits grows, every request is answered after its client has gone, and all
//! the work is for nobody. So a request that cannot make its deadline is refused before anything is
//! done for it, and the client hears so at once.
//!
//! Two things say how long a request will wait:
//!
//! - *What waits before it*, in bytes, over the bytes that were answered per second. That is a
//!   figure only while the node is busy: of an idle node it would say how little it was asked. So
//!   it counts between two ticks at which more than [`FREE_BYTES`] waited, and is forgotten
//!   when less does.
//! - *How late the node's own timers are*: a task that is ready waits behind others, and so does
//!   every step of a request. One late timer says that the process stood still for a moment, two in
//!   a row that there is more to do than is done (as in `CoDel`, Nichols and Jacobson 2012: what
//!   matters is the delay that stands, not the longest).
//!
//! Pure but for counters that several threads move: time is an argument.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_types::{Millis, Mutation, broken};
use parking_lot::Mutex;

/// Most bytes of requests whose clients wait.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// What a request weighs beside its keys and values: its machine, its place in tables and queues.
pub(crate) const WEIGHT: u64 = 1 << 10;

/// As long as no more bytes than this wait, 1,024 small requests, the time that they take is no
/// matter: a node does that in a fraction of a second.
const FREE_BYTES: u64 = 1 << 20;

/// How often the node's timers are looked at, and what was answered is counted.
pub(crate) const TICK_MS: u64 = 50;

/// How often a request waits behind other tasks: at the door, at a replica, when the answer comes
/// back, and once for what goes wrong.
const STEPS: u64 = 4;

/// A request is begun where the expected wait is at most this part of the time that it has: the
/// other half is for the work itself, and for estimates that are wrong.
const PART_FOR_WAITING: u64 = 2;

/// Timers that are late by so much, in milliseconds, are those of a fully loaded node.
const FULL_LAG_MS: u64 = 250;

/// Why a request is not begun. Nothing was done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overloaded {
    /// More than [`MAX_BYTES`] wait.
    Bytes,
    /// It would wait for longer than it can.
    Wait {
        /// How long it may wait, in milliseconds.
        at_most_ms: u64,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    waiting: AtomicU64,
    /// Bytes of requests that were answered since the start.
    answered: AtomicU64,
    /// Bytes that are answered per second while the node is busy; 0: not known.
    per_second: AtomicU64,
    /// By how much the last two timers were late at least, in milliseconds.
    lag_ms: AtomicU64,
    /// Twice what the last was late.
    lag_limit_ms: AtomicU64,
    /// When the next is due.
    due: AtomicU64,
    last: Mutex<Tick>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tick {
    at: Millis,
    answered: u64,
    busy: bool,
    lag_ms: u64,
}

impl Admission {
    /// Lets a request in, or says why not. Whoever is let in calls [`Self::ended`] once.
    pub(crate) fn admit(&self, bytes: u64, left_ms: u64, now: Millis) -> Result<(), Overloaded> {
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let refused = self.refusal(before, bytes, left_ms, now);
        match refused.filter(|_| !broken(Mutation::AdmitAll)) {
            Some(why) => {
                self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                Err(why)
            }
            None => Ok(()),
        }
    }

    fn refusal(&self, before: u64, bytes: u64, left_ms: u64, now: Millis) -> Option<Overloaded> {
        // The first is let in whatever it weighs.
        if before > 0 && before.saturating_add(bytes) > MAX_BYTES {
            return Some(Overloaded::Bytes);
        }
        let at_most_ms = left_ms / PART_FOR_WAITING;
        (self.wait_ms(before, now) > at_most_ms).then_some(Overloaded::Wait { at_most_ms })
    }

    /// How long a request waits that comes behind so many bytes.
    fn wait_ms(&self, before: u64, now: Millis) -> u64 {
        let queued = match self.per_second.load(Ordering::Relaxed) {
            0 => 0,
            per_second => before.saturating_mul(1_000) / per_second,
        };
        queued.saturating_add(STEPS * self.lag_ms(now))
    }

    /// A request that was let in is answered, or given up.
    pub(crate) fn ended(&self, bytes: u64) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.answered.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes note of the time: the timer that was due fired now. The next is due at the time that
    /// this returns.
    pub(crate) fn tick(&self, now: Millis) -> Millis {
        let due = Millis(self.due.load(Ordering::Relaxed));
        let next = now.plus(TICK_MS);
        self.due.store(next.0, Ordering::Relaxed);
        let lag_ms = if due == Millis(0) { 0 } else { now.since(due) };
        self.measure(lag_ms, now);
        next
    }

    fn measure(&self, lag_ms: u64, now: Millis) {
        let answered = self.answered();
        let busy = self.waiting() > FREE_BYTES;
        let mut last = self.last.lock();
        let before = std::mem::replace(&mut *last, Tick { at: now, answered, busy, lag_ms });
        drop(last);
        self.lag_ms.store(lag_ms.min(before.lag_ms), Ordering::Relaxed);
        self.lag_limit_ms.store(2 * lag_ms, Ordering::Relaxed);
        let took = now.since(before.at);
        let per_second = match (busy && before.busy, took) {
            (false, _) => 0,
            (true, 0) => return,
            (true, took) => {
                let now = (answered - before.answered).saturating_mul(1_000) / took;
                match self.per_second.load(Ordering::Relaxed) {
                    0 => now.max(1),
                    known => (known / 2 + now / 2).max(1),
                }
            }
        };
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Bytes of requests whose clients wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Bytes of requests that were answered since the start.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// By how much what is ready waits, in milliseconds, for longer than a moment. A timer that is
    /// overdue says so before it fires, where the one before it was late as well.
    pub(crate) fn lag_ms(&self, now: Millis) -> u64 {
        let overdue = now.since(Millis(self.due.load(Ordering::Relaxed)));
        let grown = overdue.min(self.lag_limit_ms.load(Ordering::Relaxed));
        self.lag_ms.load(Ordering::Relaxed).max(grown)
    }

    /// How loaded the node is, in thousandths.
    pub(crate) fn load_permille(&self, now: Millis) -> u64 {
        let bytes = 1_000 * self.waiting() / MAX_BYTES;
        let lag = 1_000 * self.lag_ms(now) / FULL_LAG_MS;
        bytes.max(lag).min(1_000)
    }
}
