//! The primitives of the rooms that a checker of interleavings runs: the crates in `models/` mount
//! the same sources over a twin of this module.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::atomic;

/// Turns of a busy wait before a batch is left with another writer: about as long as an insertion
/// takes.
pub(crate) const SPINS: u32 = 128;

/// Sleeping on a word.
#[cfg(not(miri))]
pub(crate) mod atomic_wait {
    pub(crate) use atomic_wait::{wait, wake_all};
}

/// Miri knows no futex with the arguments that the crate gives it. Whoever sleeps on a word may be
/// woken for no reason, so that a turn of waiting is a sleep too.
#[cfg(miri)]
pub(crate) mod atomic_wait {
    use super::atomic::{AtomicU32, Ordering};

    pub(crate) fn wait(word: &AtomicU32, while_it_is: u32) {
        if word.load(Ordering::Relaxed) == while_it_is {
            std::thread::yield_now();
        }
    }

    pub(crate) fn wake_all(_word: &AtomicU32) {}
}

/// The standard library's locks.
pub(crate) mod standard {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}
