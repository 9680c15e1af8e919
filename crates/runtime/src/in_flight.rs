//! Requests that wait for other nodes: their machines by call number, and when each wants to be
//! woken.
//!
//! A machine is stepped where its event arrives, under its own lock: by the task that started it,
//! by the link's task that carries an answer, by the timer. There is no mailbox between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use meridian_types::Millis;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Locks that calls are spread over, so that two workers seldom meet. A power of two.
const SHARDS: usize = 32;

/// Most requests that wait at once. Each holds its values in memory until the last replica
/// answered or has a hint, so this bounds memory: 16,384 requests of 1 KiB are 16 MiB.
pub(crate) const MAX_IN_FLIGHT: usize = 16_384;

/// Most bytes of the keys and values of those that wait, beyond which no other is begun: a request
/// of 8 MiB is one of 16,384 as well.
pub(crate) const MAX_BYTES_IN_FLIGHT: usize = 256 << 20;

/// Names one waiting request in messages between nodes.
pub(crate) type Call = u64;

/// Waiting requests of type `X`.
pub(crate) struct InFlight<X> {
    shards: [Mutex<BTreeMap<Call, Held<X>>>; SHARDS],
    next: AtomicU64,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    closed: AtomicBool,
    timers: Timers,
}

/// A request, and what it weighs.
struct Held<X> {
    exchange: Arc<Mutex<X>>,
    bytes: usize,
}

impl<X> InFlight<X> {
    /// An empty table. `first` must differ between two lives of a node, so that a late answer to
    /// the life before meets no request of this one.
    pub(crate) fn new(first: Call) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicU64::new(first),
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            timers: Timers::default(),
        }
    }

    pub(crate) fn next_call(&self) -> Call {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether there is room for another request.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MAX_IN_FLIGHT && self.bytes() < MAX_BYTES_IN_FLIGHT
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How full it is, in thousandths, by number or by bytes.
    pub(crate) fn fill_permille(&self) -> u64 {
        let permille = |part: usize, whole: usize| (1_000 * part / whole) as u64;
        permille(self.len(), MAX_IN_FLIGHT).max(permille(self.bytes(), MAX_BYTES_IN_FLIGHT))
    }

    /// Bytes of the keys and values of those that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps a request, unless the table is closed: then it ends with whoever holds it.
    pub(crate) fn insert(&self, call: Call, exchange: Arc<Mutex<X>>, bytes: usize) {
        let mut shard = self.shard(call).lock();
        // Set before a shard is emptied under its lock, so no request stays behind.
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(before) = shard.insert(call, Held { exchange, bytes }) {
            self.forget(&before);
        }
    }

    fn forget(&self, held: &Held<X>) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(held.bytes, Ordering::Relaxed);
    }

    /// Forgets all requests, and takes no more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for shard in &self.shards {
            let forgotten = std::mem::take(&mut *shard.lock());
            forgotten.values().for_each(|held| self.forget(held));
        }
    }

    pub(crate) fn get(&self, call: Call) -> Option<Arc<Mutex<X>>> {
        self.shard(call).lock().get(&call).map(|held| Arc::clone(&held.exchange))
    }

    pub(crate) fn remove(&self, call: Call) {
        let removed = self.shard(call).lock().remove(&call);
        if let Some(held) = &removed {
            self.forget(held);
        }
    }

    /// All waiting requests at this moment.
    pub(crate) fn all(&self) -> Vec<(Call, Arc<Mutex<X>>)> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.lock().iter().map(|(call, x)| (*call, Arc::clone(&x.exchange))));
        }
        all
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    fn shard(&self, call: Call) -> &Mutex<BTreeMap<Call, Held<X>>> {
        let at = usize::try_from(call % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }
}

/// When each waiting request wants to be woken; one entry each.
#[derive(Default)]
pub(crate) struct Timers {
    due: Mutex<Due>,
    earlier: Notify,
}

#[derive(Default)]
struct Due {
    calls: BTreeSet<(Millis, Call)>,
    /// Until when the task that wakes them sleeps; for ever without one.
    sleeps_until: Option<Millis>,
}

impl Timers {
    /// Moves a request's wake-up from one time to another.
    pub(crate) fn reschedule(&self, call: Call, from: Option<Millis>, to: Option<Millis>) {
        if from == to {
            return;
        }
        let mut due = self.due.lock();
        if let Some(at) = from {
            due.calls.remove(&(at, call));
        }
        let Some(at) = to else { return };
        due.calls.insert((at, call));
        if due.sleeps_until.is_none_or(|until| at < until) {
            due.sleeps_until = Some(at);
            drop(due);
            self.earlier.notify_one();
        }
    }

    /// Takes one request that is due, or says until when to sleep: until the next one is due, or
    /// something earlier comes.
    pub(crate) fn pop_due(&self, now: Millis) -> Result<Call, Option<Millis>> {
        let mut due = self.due.lock();
        let first = due.calls.first().copied();
        match first {
            Some((at, call)) if at <= now => {
                due.calls.pop_first();
                Ok(call)
            }
            first => {
                // A later time is slept for once the earlier has come: most requests end long
                // before their time, and the sleep need not move for each.
                let next = first.map(|(at, _)| at);
                let asleep = due.sleeps_until.filter(|until| *until > now);
                due.sleeps_until = match (next, asleep) {
                    (Some(next), Some(asleep)) => Some(next.min(asleep)),
                    (next, asleep) => asleep.or(next),
                };
                Err(due.sleeps_until)
            }
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
    fn a_sleep_moves_for_an_earlier_time_only() {
        let timers = Timers::default();
        timers.reschedule(1, None, Some(Millis(20)));
        assert_eq!(timers.pop_due(Millis(5)), Err(Some(Millis(20))));
        timers.reschedule(1, Some(Millis(20)), None);
        timers.reschedule(2, None, Some(Millis(40)));
        assert_eq!(timers.pop_due(Millis(6)), Err(Some(Millis(20))), "it sleeps already");
        assert_eq!(timers.pop_due(Millis(20)), Err(Some(Millis(40))));
        timers.reschedule(3, None, Some(Millis(30)));
        assert_eq!(timers.pop_due(Millis(21)), Err(Some(Millis(30))));
        assert_eq!(timers.pop_due(Millis(30)), Ok(3));
        timers.reschedule(2, Some(Millis(40)), None);
        assert_eq!(timers.pop_due(Millis(31)), Err(None));
    }

    #[test]
    fn a_closed_table_forgets_all_and_keeps_nothing() {
        let table = InFlight::new(7);
        let waiting = Arc::new(Mutex::new(()));
        table.insert(1, Arc::clone(&waiting), 10);
        table.close();
        table.insert(2, Arc::clone(&waiting), 10);
        assert_eq!((table.len(), table.all().len(), Arc::strong_count(&waiting)), (0, 0, 1));
        assert_eq!(table.bytes(), 0);
    }

    #[test]
    fn counts_what_waits_once() {
        let table = InFlight::new(7);
        let call = table.next_call();
        table.insert(call, Arc::new(Mutex::new(())), 7);
        table.insert(call, Arc::new(Mutex::new(())), 9);
        assert_eq!((table.len(), table.all().len(), table.bytes()), (1, 1, 9));
        table.remove(call);
        table.remove(call);
        assert_eq!((table.len(), table.bytes()), (0, 0));
        assert!(table.get(call).is_none() && table.has_room());
    }

    #[test]
    fn large_requests_fill_it_as_well_as_many() {
        let table = InFlight::new(7);
        table.insert(1, Arc::new(Mutex::new(())), MAX_BYTES_IN_FLIGHT - 1);
        assert!(table.has_room());
        table.insert(2, Arc::new(Mutex::new(())), 1);
        assert!(!table.has_room());
        table.remove(1);
        assert!(table.has_room());
    }
}
