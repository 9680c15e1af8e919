//! Requests that wait for other nodes: their machines by call number, and when each wants to be
//! woken.
//!
//! A machine is stepped where its event arrives, under its own lock: by the task that started it,
//! by the link's task that carries an answer, by the timer. There is no mailbox between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use meridian_types::Millis;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Locks that calls are spread over, so that two workers seldom meet. A power of two.
const SHARDS: usize = 32;

/// Most requests that wait at once. Each holds its values in memory until the last replica
/// answered or has a hint, so this bounds memory: 16,384 requests of 1 KiB are 16 MiB.
pub(crate) const MAX_IN_FLIGHT: usize = 16_384;

/// Names one waiting request in messages between nodes.
pub(crate) type Call = u64;

/// Waiting requests of type `X`.
pub(crate) struct InFlight<X> {
    shards: [Mutex<BTreeMap<Call, Arc<Mutex<X>>>>; SHARDS],
    next: AtomicU64,
    waiting: AtomicUsize,
    timers: Timers,
}

impl<X> InFlight<X> {
    /// An empty table. `first` must differ between two lives of a node, so that a late answer to
    /// the life before meets no request of this one.
    pub(crate) fn new(first: Call) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicU64::new(first),
            waiting: AtomicUsize::new(0),
            timers: Timers::default(),
        }
    }

    pub(crate) fn next_call(&self) -> Call {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether there is room for another request.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MAX_IN_FLIGHT
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn insert(&self, call: Call, exchange: Arc<Mutex<X>>) {
        if self.shard(call).lock().insert(call, exchange).is_none() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, call: Call) -> Option<Arc<Mutex<X>>> {
        self.shard(call).lock().get(&call).cloned()
    }

    pub(crate) fn remove(&self, call: Call) {
        if self.shard(call).lock().remove(&call).is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// All waiting requests at this moment.
    pub(crate) fn all(&self) -> Vec<(Call, Arc<Mutex<X>>)> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.lock().iter().map(|(call, x)| (*call, Arc::clone(x))));
        }
        all
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    fn shard(&self, call: Call) -> &Mutex<BTreeMap<Call, Arc<Mutex<X>>>> {
        let at = usize::try_from(call % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }
}

/// When each waiting request wants to be woken; one entry each.
#[derive(Default)]
pub(crate) struct Timers {
    due: Mutex<BTreeSet<(Millis, Call)>>,
    earlier: Notify,
}

impl Timers {
    /// Moves a request's wake-up from one time to another.
    pub(crate) fn reschedule(&self, call: Call, from: Option<Millis>, to: Option<Millis>) {
        if from == to {
            return;
        }
        let mut due = self.due.lock();
        let first = due.first().map(|(at, _)| *at);
        if let Some(at) = from {
            due.remove(&(at, call));
        }
        let Some(at) = to else { return };
        due.insert((at, call));
        drop(due);
        if first.is_none_or(|first| at < first) {
            self.earlier.notify_one();
        }
    }

    /// Takes one request that is due, or says when the next one is.
    pub(crate) fn pop_due(&self, now: Millis) -> Result<Call, Option<Millis>> {
        let mut due = self.due.lock();
        match due.first().copied() {
            Some((at, call)) if at <= now => {
                due.pop_first();
                Ok(call)
            }
            first => Err(first.map(|(at, _)| at)),
        }
    }

    /// Waits until something is due earlier than what was first before.
    pub(crate) async fn earlier(&self) {
        self.earlier.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_come_in_order_and_move() {
        let timers = Timers::default();
        timers.reschedule(1, None, Some(Millis(30)));
        timers.reschedule(2, None, Some(Millis(20)));
        timers.reschedule(1, Some(Millis(30)), Some(Millis(10)));
        assert_eq!(timers.pop_due(Millis(5)), Err(Some(Millis(10))));
        assert_eq!(timers.pop_due(Millis(25)), Ok(1));
        assert_eq!(timers.pop_due(Millis(25)), Ok(2));
        assert_eq!(timers.pop_due(Millis(99)), Err(None));
    }

    #[test]
    fn counts_what_waits_once() {
        let table = InFlight::new(7);
        let call = table.next_call();
        table.insert(call, Arc::new(Mutex::new(())));
        table.insert(call, Arc::new(Mutex::new(())));
        assert_eq!((table.len(), table.all().len()), (1, 1));
        table.remove(call);
        table.remove(call);
        assert_eq!(table.len(), 0);
        assert!(table.get(call).is_none() && table.has_room());
    }
}
