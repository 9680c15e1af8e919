//! The block cache of `meridian-lsm`, its very source, and the cache below it, under many
//! interleavings chosen at random (shuttle; Burckhardt and others, "A Randomized Scheduler with
//! Probabilistic Guarantees of Finding Bugs", 2010).
//!
//! The source takes its lock and its counters from `crate::sync`; here those are the checker's, and
//! so are the locks of `quick_cache`, by a feature. Memory orders are taken for sequentially
//! consistent.
//!
//! Knows: the source of the cache. Must not know: the rest of the engine; a block is a stand-in that
//! says whose it is, and how many there are.
//!
//! Bound: the environment variable `MERIDIAN_LSM_SCHEDULES` says how many interleavings of each
//! model are run.

#![deny(missing_docs)]
#![allow(dead_code, reason = "the models use a part of what is mounted")]
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

pub mod models;
mod table;

mod sync {
    //! The twin of the engine's `sync`.

    pub(crate) use shuttle::sync::atomic;

    use shuttle::sync::MutexGuard;

    /// A lock with the interface of `parking_lot`.
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(inner: T) -> Self {
            Self(shuttle::sync::Mutex::new(inner))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a panic ends the model")
        }
    }
}
