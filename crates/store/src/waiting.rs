//! Readers of sessions that wait for a vnode's clock to have what their session has seen.
//!
//! Whoever waits is woken under the vnode's lock, when the storage engine shows the change that
//! brought the last dot. Nobody waits for a vnode that lacks nothing, so a write compares one
//! length more than without sessions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use meridian_crdt::{Context, VnodeClock};
use meridian_types::{KeyspaceId, Mutation, VnodeId, broken};

use crate::store::Store;

/// Readers that wait at once, of all vnodes together. Each holds a context of some hundred bytes at
/// most; more are told at once that they would wait.
pub const MAX_WAITING: usize = 1_024;

/// What becomes of a reader that wants a vnode to have what it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The vnode has it. It is not told again.
    IsThere,
    /// The reader will be told. This is its number, for [`Store::stop_waiting`].
    Waits(u64),
    /// As many wait as may.
    Full,
}

/// One reader.
struct Waiter {
    number: u64,
    seen: Context,
    tell: Box<dyn FnOnce() + Send>,
    _room: Room,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// The readers of one vnode.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Waiter>);

impl Waiters {
    /// To be called whenever the clock has become more.
    pub(crate) fn wake(&mut self, clock: &VnodeClock) {
        if self.0.is_empty() {
            return;
        }
        for waiter in self.0.extract_if(.., |waiter| clock.has_all(&waiter.seen)) {
            (waiter.tell)();
        }
    }

    fn remove(&mut self, number: u64) {
        self.0.retain(|waiter| waiter.number != number);
    }
}

/// Counts those that wait.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    taken: Arc<AtomicUsize>,
    numbers: AtomicU64,
}

/// A place in it, until it is dropped.
struct Room(Arc<AtomicUsize>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WaitingRoom {
    fn enter(&self) -> Option<Room> {
        let more = |taken| (taken < MAX_WAITING).then_some(taken + 1);
        let entered = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.is_ok().then(|| Room(Arc::clone(&self.taken)))
    }
}

impl Store {
    /// Whether a vnode has everything that a session has seen of it. What is read from now on shows
    /// all of it, or what replaced it.
    #[must_use]
    pub fn has_seen(&self, keyspace: KeyspaceId, vnode: VnodeId, seen: &Context) -> bool {
        broken(Mutation::IgnoreSession) || self.clock(keyspace, vnode).has_all(seen)
    }

    /// Calls `tell` once when [`Self::has_seen`] has come to hold, unless it does already. `tell`
    /// must be quick and must not use the store: it runs under the vnode's lock.
    ///
    /// A vnode that this replica's ring does not have is never waited for: it counts as full.
    #[must_use]
    pub fn when_seen(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        seen: &Context,
        tell: Box<dyn FnOnce() + Send>,
    ) -> Awaited {
        let Some(vnodes) = self.vnodes_of(keyspace, vnode) else { return Awaited::Full };
        let mut state = vnodes.lock(vnode);
        if state.clock().has_all(seen) || broken(Mutation::IgnoreSession) {
            return Awaited::IsThere;
        }
        let room = self.waiting_room();
        let Some(place) = room.enter() else { return Awaited::Full };
        let number = room.numbers.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter { number, seen: seen.clone(), tell, _room: place };
        state.waiters().0.push(waiter);
        Awaited::Waits(number)
    }

    /// Forgets a reader that waits no longer. One that was told already is not known any more.
    pub fn stop_waiting(&self, keyspace: KeyspaceId, vnode: VnodeId, number: u64) {
        if let Some(vnodes) = self.vnodes_of(keyspace, vnode) {
            vnodes.lock(vnode).waiters().remove(number);
        }
    }

    /// How many readers wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting_room().taken.load(Ordering::Relaxed)
    }
}
