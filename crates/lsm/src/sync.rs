//! The primitives of the rooms that a checker of interleavings runs: the crates in `models/` mount
//! the same sources over a twin of this module.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::atomic;

/// Turns of a busy wait before a batch is left with another writer: about as long as an insertion
/// takes.
pub(crate) const SPINS: u32 = 128;

/// Sleeping on a word.
pub(crate) mod atomic_wait {
    pub(crate) use atomic_wait::{wait, wake_all};
}

/// The standard library's locks.
pub(crate) mod standard {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}
