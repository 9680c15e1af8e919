//! Waiting for the sync policy's promise.
//!
//! INVARIANT: whoever sleeps has pushed its batch and then found the end of the log taken. Whoever
//! had it looks at the queue after letting go of it, and wakes the WAL thread if something is there;
//! that one does not sleep while something is queued. So somebody always writes the sleeper's group.

use super::log::{Keeper, Log};
use super::queue::Group;
use crate::error::Error;
use crate::key::Seqno;
use crate::options::SyncPolicy;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Mutex, atomic_wait};

/// Called with the outcome when a commit is settled.
pub(crate) type OnSettled = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Those who wait.
#[derive(Default)]
pub(super) struct Waiters {
    calls: Mutex<Vec<(Seqno, OnSettled)>>,
    /// Where the waiters of a group sleep, by its number modulo two: one group gathers while the
    /// other is on its way. Counts the wake-ups.
    beds: [AtomicU32; 2],
    /// How many batches are expected to gather: as many as were in the last group or came while it
    /// was synced.
    expected: AtomicU32,
}

impl Waiters {
    fn bed(&self, group: Group) -> &AtomicU32 {
        &self.beds[usize::from(group & 1 == 1)]
    }

    fn wake(&self, group: Group) {
        let bed = self.bed(group);
        bed.fetch_add(1, Ordering::Release);
        atomic_wait::wake_all(bed);
    }
}

impl Log {
    /// Whether the policy's promise holds for `seqno`.
    pub(crate) fn is_settled(&self, seqno: Seqno) -> bool {
        self.policy() != SyncPolicy::Always || self.durable() >= seqno
    }

    /// Waits until the policy's promise holds for `seqno`. Whoever finds the end of the log free
    /// sees to it alone, for everybody who has gathered.
    pub(crate) fn wait(&self, seqno: Seqno) -> Result<(), Error> {
        while !self.is_settled(seqno) {
            self.check()?;
            self.check_full()?;
            match self.keeper() {
                Keeper::Writers => return self.sync_to(seqno),
                Keeper::Driver => return Err(Error::WouldWait),
                Keeper::Thread => {}
            }
            if !self.try_lead(seqno)? {
                self.sleep(seqno);
            }
        }
        Ok(())
    }

    /// Sleeps until the group of `seqno` is settled, or anything else is to be looked at.
    fn sleep(&self, seqno: Seqno) {
        let bed = self.waiters.bed(self.group_of(seqno));
        let wakes = bed.load(Ordering::Acquire);
        let awake = self.is_settled(seqno) || self.poisoned().is_some() || self.is_full();
        if !awake && self.keeper() == Keeper::Thread {
            atomic_wait::wait(bed, wakes);
        }
    }

    pub(crate) fn on_settled(&self, seqno: Seqno, call: OnSettled) {
        if !self.is_settled(seqno) && self.keeper() == Keeper::Writers {
            return call(self.sync_to(seqno));
        }
        let mut calls = self.waiters.calls.lock();
        if self.is_settled(seqno) {
            drop(calls);
            call(Ok(()));
        } else if let Some(cause) = self.poisoned() {
            drop(calls);
            call(Err(cause));
        } else {
            calls.push((seqno, call));
            drop(calls);
            self.wake_thread();
        }
    }

    /// As many batches as are likely to come before the next sync.
    pub(super) fn expected(&self) -> u32 {
        self.waiters.expected.load(Ordering::Relaxed)
    }

    pub(super) fn expect(&self, batches: u32) {
        let expected = batches.saturating_add(self.pending.load(Ordering::Acquire));
        self.waiters.expected.store(expected, Ordering::Relaxed);
    }

    /// Wakes those in the groups behind `before`, up to `now`.
    pub(super) fn settle(&self, before: Group, now: Group) {
        self.waiters.wake(now);
        if now.wrapping_sub(before) > 1 {
            self.waiters.wake(now.wrapping_sub(1));
        }
        self.call();
    }

    /// Wakes everybody who waits.
    pub(super) fn settle_all(&self) {
        self.waiters.wake(0);
        self.waiters.wake(1);
        self.call();
    }

    /// Calls those whose commits are settled, without any lock held while they run.
    fn call(&self) {
        let ready: Vec<_> = {
            let mut calls = self.waiters.calls.lock();
            if self.poisoned().is_some() || self.is_full() {
                calls.drain(..).collect()
            } else {
                let durable = self.durable();
                calls.extract_if(.., |(seqno, _)| *seqno <= durable).collect()
            }
        };
        for (seqno, call) in ready {
            let refused = || self.check().and_then(|()| self.check_full());
            call(if self.is_settled(seqno) { Ok(()) } else { refused() });
        }
    }
}
