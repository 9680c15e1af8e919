//! Runs tasks on one thread, in an order that the seed decides.
//!
//! Time does not pass here: tasks run until none is ready, then whoever calls moves the time to
//! the next event. A task belongs to an [`Owner`], a life of a node for instance, whose tasks can
//! all be ended at once, as `kill -9` does, or kept from running, as a pause does.
//!
//! Invariants:
//! - A killed owner's tasks are dropped before any other task is polled, and never polled again;
//!   nothing that it spawned runs, before or after.
//! - Which task is polled next depends on the order of wake-ups and on the draws, on nothing else.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use meridian_types::NodeId;
use parking_lot::Mutex;

use super::Draw;

/// Polls at one time after which tasks are taken to wake each other for ever. A busy moment of a
/// hundred nodes takes a few thousand.
const MAX_POLLS_AT_ONCE: u64 = 1_000_000;

/// Something to run.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whose a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// One life of a node: from a start to the next crash or stop.
    Node {
        /// The node.
        id: NodeId,
        /// How many lives it had before.
        life: u32,
    },
    /// A client.
    Client(u32),
    /// The world itself.
    World,
}

impl Owner {
    /// The owner as numbers, for hashes.
    pub(crate) fn parts(self) -> (u8, u32, u32) {
        match self {
            Self::Node { id, life } => (0, id.0, life),
            Self::Client(number) => (1, number, 0),
            Self::World => (2, 0, 0),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { id, life } => write!(f, "node {id} life {life}"),
            Self::Client(number) => write!(f, "client {number}"),
            Self::World => f.write_str("world"),
        }
    }
}

/// Which of the tasks that are ready is polled next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one that has been ready for longest.
    Fifo,
    /// Any, by chance.
    Seeded,
}

/// Tasks go on waking each other while no time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{polls} polls at one time and no end; the last was of {last}")]
pub struct Livelock {
    /// Polls that were made.
    pub polls: u64,
    /// Whose task was polled last.
    pub last: Owner,
}

/// Runs tasks. Dropped, it drops them all.
pub struct Executor {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    shared: Arc<Shared>,
    order: Order,
    /// Tasks that are ready, of the owners that are frozen.
    frozen: BTreeMap<Owner, Vec<Arc<Wakeup>>>,
    /// Owners with a processor of their own, which does one thing after the other.
    rationed: BTreeMap<Owner, Ration>,
    /// Tasks whose turn it is on their owner's processor.
    released: VecDeque<(Owner, Arc<Wakeup>)>,
    /// Whose tasks were polled since somebody asked.
    polled: BTreeSet<Owner>,
}

/// A processor.
struct Ration {
    free: bool,
    /// What is ready and waits for it, in order.
    waiting: VecDeque<Arc<Wakeup>>,
}

struct Slot {
    owner: Owner,
    task: Task,
    wakeup: Arc<Wakeup>,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
}

/// What tasks ask for while they run.
#[derive(Default)]
struct Inbox {
    ready: VecDeque<Arc<Wakeup>>,
    spawned: Vec<(Owner, Task)>,
    killed: Vec<Owner>,
    /// Every owner that was ever killed: a few dozen in a history.
    dead: BTreeSet<Owner>,
}

struct Wakeup {
    slot: usize,
    /// Whether it waits already.
    ready: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.ready.swap(true, Ordering::Relaxed) {
            self.shared.inbox.lock().ready.push_back(Arc::clone(self));
        }
    }
}

/// Spawns and kills from anywhere, also from inside a task.
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

impl Spawner {
    /// Spawns a task. It dies with its owner; a dead owner's is dropped unpolled.
    pub fn spawn(&self, owner: Owner, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_boxed(owner, Box::pin(task));
    }

    /// As [`Self::spawn`], for a task that is boxed already.
    pub fn spawn_boxed(&self, owner: Owner, task: Task) {
        self.shared.inbox.lock().spawned.push((owner, task));
    }

    /// Ends an owner and all its tasks. One that is being polled is dropped when the poll returns:
    /// whatever it does until then must show nowhere, see [`Self::is_dead`].
    pub fn kill(&self, owner: Owner) {
        let mut inbox = self.shared.inbox.lock();
        if inbox.dead.insert(owner) {
            inbox.killed.push(owner);
        }
    }

    /// Whether an owner was killed.
    #[must_use]
    pub fn is_dead(&self, owner: Owner) -> bool {
        self.shared.inbox.lock().dead.contains(&owner)
    }
}

impl Executor {
    /// An executor without tasks.
    #[must_use]
    pub fn new(order: Order) -> Self {
        let shared = Arc::default();
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            shared,
            order,
            frozen: BTreeMap::new(),
            rationed: BTreeMap::new(),
            released: VecDeque::new(),
            polled: BTreeSet::new(),
        }
    }

    /// What spawns and kills.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: Arc::clone(&self.shared) }
    }

    /// Spawns a task; see [`Spawner::spawn`].
    pub fn spawn(&self, owner: Owner, task: impl Future<Output = ()> + Send + 'static) {
        self.spawner().spawn(owner, task);
    }

    /// Ends an owner: when this returns, its tasks are dropped.
    pub fn kill(&mut self, owner: Owner) {
        self.spawner().kill(owner);
        self.take_in();
    }

    /// Keeps an owner's tasks from running until [`Self::thaw`].
    pub fn freeze(&mut self, owner: Owner) {
        self.frozen.entry(owner).or_default();
    }

    /// Lets an owner's tasks run again.
    pub fn thaw(&mut self, owner: Owner) {
        let ready = self.frozen.remove(&owner).unwrap_or_default();
        self.shared.inbox.lock().ready.extend(ready);
    }

    /// Whether an owner's tasks are kept from running.
    #[must_use]
    pub fn is_frozen(&self, owner: Owner) -> bool {
        self.frozen.contains_key(&owner)
    }

    /// Gives an owner a processor: one of its tasks is polled, and the others wait until
    /// [`Self::refill`], in the order in which they became ready.
    pub fn ration(&mut self, owner: Owner) {
        self.rationed.insert(owner, Ration { free: true, waiting: VecDeque::new() });
    }

    /// The owner's processor is done with what it did, and goes on with what waits.
    pub fn refill(&mut self, owner: Owner) {
        let Some(ration) = self.rationed.get_mut(&owner) else { return };
        match ration.waiting.pop_front() {
            Some(wakeup) => self.released.push_back((owner, wakeup)),
            None => ration.free = true,
        }
    }

    /// Whose tasks were polled since this was last asked.
    pub fn take_polled(&mut self) -> BTreeSet<Owner> {
        take(&mut self.polled)
    }

    /// How many tasks an owner has.
    #[must_use]
    pub fn tasks_of(&self, owner: Owner) -> usize {
        self.slots.iter().flatten().filter(|slot| slot.owner == owner).count()
    }

    /// Polls every task that is ready, and those that become ready meanwhile; returns the number of
    /// polls.
    ///
    /// # Errors
    /// There was no end of it. The tasks are as the last poll left them.
    pub fn run_ready(&mut self, draw: &mut Draw) -> Result<u64, Livelock> {
        let mut polls = 0;
        loop {
            self.take_in();
            let released = self.released.pop_front();
            let polled = if let Some((owner, wakeup)) = released {
                let polled = self.poll(wakeup, true);
                if polled.is_none() {
                    self.refill(owner);
                }
                polled
            } else {
                let Some(wakeup) = self.next(draw) else { return Ok(polls) };
                self.poll(wakeup, false)
            };
            let Some(owner) = polled else { continue };
            polls += 1;
            if polls >= MAX_POLLS_AT_ONCE {
                return Err(Livelock { polls, last: owner });
            }
        }
    }

    /// Carries out what was asked for, until nothing is: a task that is dropped may ask as well.
    fn take_in(&mut self) {
        loop {
            let mut inbox = self.shared.inbox.lock();
            if inbox.killed.is_empty() && inbox.spawned.is_empty() {
                return;
            }
            let (killed, spawned) = (take(&mut inbox.killed), take(&mut inbox.spawned));
            let is_dead = |(owner, _): &(Owner, Task)| inbox.dead.contains(owner);
            let (stillborn, spawned): (Vec<_>, Vec<_>) = spawned.into_iter().partition(is_dead);
            drop(inbox);
            drop(stillborn);
            for owner in killed {
                self.remove_all_of(owner);
            }
            for (owner, task) in spawned {
                self.insert(owner, task);
            }
        }
    }

    fn remove_all_of(&mut self, owner: Owner) {
        self.frozen.remove(&owner);
        self.rationed.remove(&owner);
        for at in 0..self.slots.len() {
            if self.slots[at].as_ref().is_some_and(|slot| slot.owner == owner) {
                self.slots[at] = None;
                self.free.push(at);
            }
        }
    }

    fn insert(&mut self, owner: Owner, task: Task) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let ready = AtomicBool::new(false);
        let wakeup = Arc::new(Wakeup { slot: at, ready, shared: Arc::clone(&self.shared) });
        wakeup.wake_by_ref();
        self.slots[at] = Some(Slot { owner, task, wakeup });
    }

    /// The task to poll next.
    fn next(&self, draw: &mut Draw) -> Option<Arc<Wakeup>> {
        let ready = &mut self.shared.inbox.lock().ready;
        match self.order {
            Order::Seeded if ready.len() > 1 => {
                let at = draw.index(ready.len());
                ready.swap_remove_back(at)
            }
            Order::Seeded | Order::Fifo => ready.pop_front(),
        }
    }

    /// Polls one task; `None` where it is gone or frozen, or its processor is busy and it is not its
    /// turn.
    fn poll(&mut self, wakeup: Arc<Wakeup>, its_turn: bool) -> Option<Owner> {
        let at = wakeup.slot;
        // The slot may be another's by now.
        let is_its = |slot: &&mut Slot| Arc::ptr_eq(&slot.wakeup, &wakeup);
        let slot = self.slots[at].as_mut().filter(is_its)?;
        let owner = slot.owner;
        if let Some(held) = self.frozen.get_mut(&owner) {
            held.push(wakeup);
            return None;
        }
        if let Some(ration) = self.rationed.get_mut(&owner).filter(|_| !its_turn) {
            if !ration.free {
                ration.waiting.push_back(wakeup);
                return None;
            }
            ration.free = false;
        }
        self.polled.insert(owner);
        wakeup.ready.store(false, Ordering::Relaxed);
        let waker = Waker::from(wakeup);
        let polled = slot.task.as_mut().poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(()) = polled {
            self.slots[at] = None;
            self.free.push(at);
        }
        Some(owner)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            *slot = None;
        }
        // They refer back to what is shared. Nothing runs any more, so what a drop spawned is
        // dropped too, and that until no more comes.
        loop {
            let mut inbox = self.shared.inbox.lock();
            let (ready, spawned) = (take(&mut inbox.ready), take(&mut inbox.spawned));
            drop(inbox);
            if ready.is_empty() && spawned.is_empty() {
                return;
            }
        }
    }
}
