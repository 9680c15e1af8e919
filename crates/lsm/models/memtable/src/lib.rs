//! The memtable of `meridian-lsm`, its very sources, under every interleaving of a few threads and
//! every outcome that the memory orders allow (loom; Norris and Demsky, CDSChecker, 2013).
//!
//! The sources take their atomics and locks from `crate::sync`; here that is the checker's. A node
//! whose link was published without a release, or read without an acquire, is a node whose own
//! links nobody is known to have initialised: the checker says so.
//!
//! Knows: the sources of the memtable. Must not know: the rest of the engine.
//!
//! Bound: two preemptions of a thread, which is what nearly all known bugs need; the environment
//! variable `LOOM_MAX_PREEMPTIONS` raises it.

#![deny(missing_docs)]
#![allow(dead_code, reason = "the models use a part of what is mounted")]
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

#[path = "../../../src/key/mod.rs"]
mod key;
#[path = "../../../src/memtable/mod.rs"]
mod memtable;
#[path = "../../../src/prefetch.rs"]
mod prefetch;

pub use key::Seqno;

pub mod models;

mod sync {
    //! The twin of the engine's `sync`.

    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic;

    /// A lock with the interface of `parking_lot`.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(inner: T) -> Self {
            Self(loom::sync::Mutex::new(inner))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a panic ends the model")
        }
    }

    /// Nobody sleeps in a model, and so nobody is woken.
    pub(crate) mod atomic_wait {
        use loom::sync::atomic::AtomicU32;

        pub(crate) fn wait(_word: &AtomicU32, _while_it_is: u32) {
            loom::thread::yield_now();
        }

        pub(crate) fn wake_all(_word: &AtomicU32) {}
    }
}

/// What the documentation of the mounted sources names.
#[derive(Debug)]
pub struct Db;
