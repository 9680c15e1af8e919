//! Up to where writes are visible: in seqno order, however their insertions end.
//!
//! A batch that is in its memtables before one that was numbered earlier is left with that one's
//! writer, who shows both: writers do not wake each other one by one. (With a chain of turns,
//! sixty-four writers on two cores spent nine tenths of their time on waking each other up.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::PoisonError;
use std::time::Duration;

use crate::error::Error;
use crate::key::Seqno;
use crate::sync::SPINS;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::standard::{Condvar, Mutex, MutexGuard};

/// How long a sleeper goes without looking whether the database is poisoned.
const POISON_TICK: Duration = Duration::from_millis(20);

/// Batches that are in their memtables, by their first and last seqno; the next one on top.
type Early = BinaryHeap<Reverse<(Seqno, Seqno)>>;

/// The last seqno up to which every write is in its memtable.
///
/// INVARIANT: it is moved by one writer at a time: by the one whose batch is next, or, if that
/// batch is in `early`, by whoever has the lock.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    seqno: AtomicU64,
    /// Those who left a batch in `early` or wait for a seqno.
    waiting: AtomicUsize,
    // The standard library's: `notify_all` is one system call, after which all run at once.
    early: Mutex<Early>,
    moved: Condvar,
}

impl Visible {
    /// Whoever reads this seqno finds the memtable entries up to it.
    pub(crate) fn get(&self) -> Seqno {
        self.seqno.load(Ordering::Acquire)
    }

    /// Sets it where nobody writes yet.
    pub(crate) fn begin(&self, seqno: Seqno) {
        self.seqno.store(seqno, Ordering::SeqCst);
    }

    /// A batch is in its memtables; returns when it is visible, or with what `check` says when that
    /// cannot be any more.
    pub(crate) fn publish(
        &self,
        first: Seqno,
        last: Seqno,
        check: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        for _ in 0..SPINS {
            if self.get() == first - 1 {
                self.pass(last);
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let mut early = self.lock();
        early.push(Reverse((first, last)));
        self.wait_locked(early, last, check).or_else(|cause| {
            let mut early = self.lock();
            if self.get() >= last {
                return Ok(());
            }
            // Its writer is told that it is not visible: nobody shows it now.
            early.retain(|Reverse(batch)| *batch != (first, last));
            Err(cause)
        })
    }

    /// Waits until `seqno`, which somebody was given, is visible.
    pub(crate) fn wait(
        &self,
        seqno: Seqno,
        check: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.get() >= seqno { Ok(()) } else { self.wait_locked(self.lock(), seqno, check) }
    }

    fn lock(&self) -> MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_locked(
        &self,
        mut early: MutexGuard<'_, Early>,
        seqno: Seqno,
        check: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Sequentially consistent with `pass`: either that one sees who waits, or `drain` sees its
        // seqno.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.drain(&mut early);
        let mut told = Ok(());
        while self.get() < seqno && told.is_ok() {
            let waited = self.moved.wait_timeout(early, POISON_TICK);
            early = waited.unwrap_or_else(PoisonError::into_inner).0;
            told = check();
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        told
    }

    /// The batch that was next is visible; and with it those behind it that have waited.
    fn pass(&self, last: Seqno) {
        self.seqno.store(last, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let mut early = self.lock();
            self.drain(&mut early);
            drop(early);
            self.moved.notify_all();
        }
    }

    fn drain(&self, early: &mut Early) {
        let mut moved = false;
        while let Some(Reverse((first, last))) = early.peek().copied()
            && self.seqno.load(Ordering::SeqCst) == first - 1
        {
            self.seqno.store(last, Ordering::SeqCst);
            early.pop();
            moved = true;
        }
        if moved {
            self.moved.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_early_is_shown_with_what_it_waited_for() {
        let visible = Visible::default();
        let running = || Ok(());
        std::thread::scope(|scope| {
            // Batches of one to four seqnos; the first one ends last.
            let mut next = 3;
            for length in (1..=4).cycle().take(40) {
                let (first, last) = (next, next + length - 1);
                next = last + 1;
                let visible = &visible;
                scope.spawn(move || {
                    visible.publish(first, last, &running).unwrap();
                    assert!(visible.get() >= last);
                });
            }
            // All of them have spun and wait before the one that they wait for.
            while visible.waiting.load(Ordering::SeqCst) < 40 {
                std::thread::yield_now();
            }
            assert_eq!(visible.get(), 0);
            visible.publish(1, 2, &running).unwrap();
            visible.wait(next - 1, &running).unwrap();
        });
        assert!(visible.lock().is_empty());
    }

    #[test]
    fn a_batch_that_was_given_up_is_not_shown() {
        let visible = Visible::default();
        let gone = Error::TreeDropped { tree: "t".to_owned() };
        let stopped = || Err(gone.clone());
        assert!(visible.publish(2, 2, &stopped).is_err());
        visible.publish(1, 1, &|| Ok(())).unwrap();
        assert_eq!(visible.get(), 1);
    }
}
