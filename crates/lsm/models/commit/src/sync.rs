//! The twin of the engine's `sync`.

pub(crate) use shuttle::sync::atomic;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use shuttle::sync as checked;

/// A sleep that is to end by itself before this is a pause; the others end when they are woken.
const PAUSE: Duration = Duration::from_millis(200);

/// Few, so that the way behind them is gone often.
pub(crate) const SPINS: u32 = 2;

/// A lock with the interface of `parking_lot`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checked::Mutex<T>);

/// Its guard; empty while it sleeps.
pub(crate) struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    guard: Option<checked::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(checked::Mutex::new(inner))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().expect("a panic ends the model");
        MutexGuard { lock: self, guard: Some(guard) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard { lock: self, guard: Some(guard) })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("it is awake")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("it is awake")
    }
}

/// A condition with the interface of `parking_lot`.
#[derive(Debug, Default)]
pub(crate) struct Condvar(checked::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(checked::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let asleep = guard.guard.take().expect("it is awake");
        guard.guard = Some(self.0.wait(asleep).expect("a panic ends the model"));
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, most: Duration) {
        if most >= PAUSE {
            return self.wait(guard);
        }
        guard.guard = None;
        shuttle::thread::yield_now();
        guard.guard = Some(guard.lock.0.lock().expect("a panic ends the model"));
    }
}

/// A futex: the word may change between the look at it and the sleep, and then there is none.
pub(crate) mod atomic_wait {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use shuttle::sync::atomic::{AtomicU32, Ordering};
    use shuttle::sync::{Condvar, Mutex};

    type Bed = Arc<(Mutex<()>, Condvar)>;

    thread_local! {
        // All threads of a model are one of the operating system's.
        static BEDS: RefCell<BTreeMap<usize, Bed>> = const { RefCell::new(BTreeMap::new()) };
    }

    fn bed(word: &AtomicU32) -> Bed {
        BEDS.with_borrow_mut(|beds| {
            beds.entry(std::ptr::from_ref(word).addr()).or_default().clone()
        })
    }

    /// Between two interleavings.
    pub(crate) fn forget() {
        BEDS.with_borrow_mut(BTreeMap::clear);
    }

    pub(crate) fn wait(word: &AtomicU32, value: u32) {
        let bed = bed(word);
        let guard = bed.0.lock().expect("a panic ends the model");
        if word.load(Ordering::SeqCst) == value {
            drop(bed.1.wait(guard).expect("a panic ends the model"));
        }
    }

    pub(crate) fn wake_all(word: &AtomicU32) {
        let bed = bed(word);
        let _guard = bed.0.lock().expect("a panic ends the model");
        bed.1.notify_all();
    }
}

/// The standard library's locks.
pub(crate) mod standard {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
}
