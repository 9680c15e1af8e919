//! The end of the log: groups are written to it and made durable. Who waits for what is in
//! `settle`; the essay is in the parent.

use std::sync::OnceLock;
use std::time::Duration;

use super::queue::{CommitQueue, Group, Taken};
use super::settle::Waiters;
use crate::error::Error;
use crate::key::Seqno;
use crate::options::{SyncPolicy, WAL_BUFFER_BYTES, WAL_SEGMENT_SEALED_BYTES};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::wal::format::CHUNK_HEADER;
use crate::wal::writer::{Refused, WalWriter};

/// The WAL thread is woken out of its nap when this much waits.
const NAP_BYTES: usize = 1 << 20;
/// How long a group waits for the batches that it expects: less than a sync takes.
const GATHER: Duration = Duration::from_micros(50);
/// A spare buffer larger than this is given back to the allocator.
const SPARE_BYTES: usize = 4 << 20;

/// How long the WAL thread leaves a full disk alone before it tries again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Who sees to it that what is queued reaches the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    /// Each writer, within its call.
    Writers = 0,
    /// The WAL thread.
    Thread = 1,
    /// Whoever holds the driver, when it is called. Nobody may wait for that.
    Driver = 2,
}

/// The end of the file. Exclusive: whoever has it writes.
pub(super) struct Tail {
    wal: WalWriter,
    spare: Vec<u8>,
    batches_unsynced: u32,
    /// The last group in the file, and the last durable one.
    written: Group,
    synced: Group,
}

/// The end of the log and everybody who waits for it.
pub(crate) struct Log {
    policy: SyncPolicy,
    segment_bytes: u64,
    queue: Mutex<CommitQueue>,
    /// Batches in the queue, for those who do not want its lock.
    pub(super) pending: AtomicU32,
    work: Condvar,
    space: Condvar,
    gathered: Condvar,
    tail: Mutex<Tail>,
    segment: AtomicU64,
    /// The segment ends as soon as it is large enough.
    ends_soon: AtomicBool,
    durable: AtomicU64,
    /// A [`Keeper`].
    keeper: AtomicU8,
    pub(super) waiters: Waiters,
    poison: OnceLock<Error>,
    /// Whether `CommitQueue::full` is set.
    is_full: AtomicBool,
}

/// Figures of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// The segment written to.
    pub segment: u64,
    /// Its bytes.
    pub segment_bytes: u64,
    /// Its bytes that no sync has covered.
    pub unsynced_bytes: u64,
    /// Bytes that wait to be written to the file.
    pub buffered_bytes: u64,
}

impl Log {
    pub(crate) fn new(wal: WalWriter, policy: SyncPolicy, segment_bytes: u64) -> Self {
        let last = wal.synced();
        Self {
            policy,
            segment_bytes,
            queue: Mutex::new(CommitQueue::new(last)),
            pending: AtomicU32::new(0),
            work: Condvar::new(),
            space: Condvar::new(),
            gathered: Condvar::new(),
            segment: AtomicU64::new(wal.segment()),
            ends_soon: AtomicBool::new(false),
            tail: Mutex::new(Tail {
                wal,
                spare: vec![0; CHUNK_HEADER],
                batches_unsynced: 0,
                written: 0,
                synced: 0,
            }),
            durable: AtomicU64::new(last),
            keeper: AtomicU8::new(Keeper::Writers as u8),
            waiters: Waiters::default(),
            poison: OnceLock::new(),
            is_full: AtomicBool::new(false),
        }
    }

    pub(crate) const fn policy(&self) -> SyncPolicy {
        self.policy
    }

    /// A lower bound of the segment that the next batch goes to.
    pub(crate) fn segment(&self) -> u64 {
        self.segment.load(Ordering::Acquire)
    }

    pub(crate) fn durable(&self) -> Seqno {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.poison.get().cloned()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.poison.get().map_or(Ok(()), |cause| Err(cause.clone()))
    }

    /// Refuses every write from now on; the first cause stays.
    pub(crate) fn poison(&self, cause: Error) -> Error {
        let cause = self.poison.get_or_init(|| cause).clone();
        self.settle_all();
        self.space.notify_all();
        cause
    }

    /// The error of writers and waiters while the disk is full.
    pub(super) fn check_full(&self) -> Result<(), Error> {
        if !self.is_full() {
            return Ok(());
        }
        self.queue.lock().full.clone().map_or(Ok(()), Err)
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }

    /// Takes the commit lock, once there is room in the buffer.
    pub(crate) fn queue(&self) -> Result<MutexGuard<'_, CommitQueue>, Error> {
        if self.is_full() {
            if self.keeper() == Keeper::Writers {
                self.write_pending()?;
            }
            self.check_full()?;
        }
        let mut queue = self.queue.lock();
        self.check()?;
        while queue.bytes() > WAL_BUFFER_BYTES {
            match self.keeper() {
                Keeper::Writers => break,
                Keeper::Thread => self.space.wait(&mut queue),
                Keeper::Driver => return Err(Error::WouldWait),
            }
            self.check()?;
        }
        Ok(queue)
    }

    /// Releases the commit lock after a push and sees to it that the batch reaches the file.
    pub(crate) fn unlock(&self, mut queue: MutexGuard<'_, CommitQueue>) -> Result<(), Error> {
        self.pending.store(queue.batches(), Ordering::Release);
        // With `Always` somebody is about to wait, and may write it on this very thread: who does
        // that need not wait for another one to be woken, twice.
        let waits = self.policy == SyncPolicy::Always;
        let wake = (queue.idle && !waits) || queue.bytes() > NAP_BYTES;
        queue.idle &= !wake;
        let gathered = queue.wanted > 0 && queue.batches() >= queue.wanted;
        if gathered {
            queue.wanted = 0;
        }
        drop(queue);
        if gathered {
            self.gathered.notify_one();
        }
        match self.keeper() {
            Keeper::Writers => {}
            Keeper::Thread => {
                if wake {
                    self.work.notify_one();
                }
                return Ok(());
            }
            Keeper::Driver => return Ok(()),
        }
        match self.write_inline() {
            // It is numbered and stays in the buffer; the next one is refused.
            Err(Error::Full { .. }) => Ok(()),
            written => written,
        }
    }

    fn write_inline(&self) -> Result<(), Error> {
        self.at_the_tail(|tail| {
            self.write_locked(tail)?;
            match self.policy {
                SyncPolicy::Every { writes, .. } if tail.batches_unsynced >= writes => {
                    self.sync_locked(tail)
                }
                _ => Ok(()),
            }
        })
    }

    /// Does something at the end of the log, then, without any lock held, wakes those whose
    /// commits it made durable.
    fn at_the_tail<T>(&self, act: impl FnOnce(&mut Tail) -> Result<T, Error>) -> Result<T, Error> {
        self.with_tail(self.tail.lock(), act)
    }

    fn with_tail<T>(
        &self,
        mut tail: MutexGuard<'_, Tail>,
        act: impl FnOnce(&mut Tail) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = tail.synced;
        let done = act(&mut tail);
        let now = tail.synced;
        drop(tail);
        if matches!(done, Err(Error::Full { .. })) {
            self.settle_all();
        } else if before != now {
            self.settle(before, now);
        }
        if self.policy == SyncPolicy::Always {
            // Pairs with the fence in `try_lead`: either that one finds the end of the log free, or
            // this one sees its batch.
            fence(Ordering::SeqCst);
            if self.pending.load(Ordering::Acquire) > 0 {
                // Those in it came while the end of the log was taken, and sleep.
                self.wake_thread();
            }
        }
        done
    }

    /// Writes and syncs what gathers, if nobody is at the end of the log now and `seqno` is not
    /// durable yet. Says whether it was free.
    pub(super) fn try_lead(&self, seqno: Seqno) -> Result<bool, Error> {
        fence(Ordering::SeqCst);
        let Some(tail) = self.tail.try_lock() else { return Ok(false) };
        let lead = |tail: &mut Tail| match self.durable() < seqno {
            true => self.lead_locked(tail),
            false => Ok(()),
        };
        self.with_tail(tail, lead)?;
        Ok(true)
    }

    /// Writes and syncs what gathers, if anything does.
    pub(crate) fn lead(&self) -> Result<(), Error> {
        self.at_the_tail(|tail| self.lead_locked(tail))
    }

    /// Waits for a moment for those who shared the last sync: they have just been woken, and one
    /// sync more each time would go to whoever is first.
    fn gather(&self) {
        let expected = self.expected();
        let gathering = 1..expected;
        let mut queue = self.queue.lock();
        if gathering.contains(&queue.batches()) {
            queue.wanted = expected;
            self.gathered.wait_for(&mut queue, GATHER);
            queue.wanted = 0;
        }
    }

    fn lead_locked(&self, tail: &mut Tail) -> Result<(), Error> {
        self.gather();
        self.write_locked(tail)?;
        self.sync_locked(tail)
    }

    pub(super) fn wake_thread(&self) {
        let mut queue = self.queue.lock();
        if queue.idle && !queue.is_empty() {
            queue.idle = false;
            drop(queue);
            self.work.notify_one();
        }
    }

    pub(super) fn group_of(&self, seqno: Seqno) -> Group {
        self.queue.lock().group_of(seqno)
    }

    pub(super) fn keeper(&self) -> Keeper {
        match self.keeper.load(Ordering::SeqCst) {
            1 => Keeper::Thread,
            2 => Keeper::Driver,
            _ => Keeper::Writers,
        }
    }

    /// Writes what is in the buffer to the file.
    pub(crate) fn write_pending(&self) -> Result<(), Error> {
        self.at_the_tail(|tail| self.write_locked(tail))
    }

    fn write_locked(&self, tail: &mut Tail) -> Result<(), Error> {
        self.check()?;
        let Some(mut taken) = self.take(tail) else { return Ok(()) };
        self.space.notify_all();
        let due = self.is_due(tail) || tail.wal.is_spoilt();
        let begun = if due { self.rotate_locked(tail) } else { Ok(()) };
        let written = begun.and_then(|()| {
            let appended = tail.wal.append(&mut taken.chunk, taken.last);
            appended.map_err(|cause| self.refused(tail, cause))
        });
        if let Err(cause) = written {
            self.hand_back(tail, taken, &cause);
            return Err(cause);
        }
        self.has_room();
        // After the rotation, whose sync covers what was written before and not this chunk.
        tail.batches_unsynced = tail.batches_unsynced.saturating_add(taken.batches);
        tail.written = taken.group;
        taken.chunk.truncate(CHUNK_HEADER);
        taken.chunk.shrink_to(SPARE_BYTES);
        tail.spare = taken.chunk;
        Ok(())
    }

    /// Whether the next chunk goes into a new segment.
    fn is_due(&self, tail: &Tail) -> bool {
        let bytes = tail.wal.bytes();
        tail.wal.has_chunks()
            && (bytes >= self.segment_bytes
                || (bytes >= WAL_SEGMENT_SEALED_BYTES && self.ends_soon.load(Ordering::Acquire)))
    }

    /// A memtable was sealed.
    pub(crate) fn end_segment_soon(&self) {
        self.ends_soon.store(true, Ordering::Release);
    }

    fn take(&self, tail: &mut Tail) -> Option<Taken> {
        let mut queue = self.queue.lock();
        let taken = queue.take(&mut tail.spare);
        self.pending.store(0, Ordering::Release);
        taken
    }

    /// Puts what a full disk did not take before what came since.
    fn hand_back(&self, tail: &mut Tail, taken: Taken, cause: &Error) {
        let mut queue = self.queue.lock();
        tail.spare = queue.hand_back(taken, tail.wal.written());
        self.pending.store(queue.batches(), Ordering::Release);
        if matches!(cause, Error::Full { .. }) {
            queue.full = Some(cause.clone());
            self.is_full.store(true, Ordering::Release);
        }
    }

    fn has_room(&self) {
        if self.is_full() {
            self.queue.lock().full = None;
            self.is_full.store(false, Ordering::Release);
        }
    }

    fn rotate_locked(&self, tail: &mut Tail) -> Result<(), Error> {
        tail.wal.rotate().map_err(|cause| self.refused(tail, cause))?;
        // In this order: whoever reads the new segment reads a durable seqno that covers all
        // segments before it.
        self.synced_up_to(tail);
        self.ends_soon.store(false, Ordering::Release);
        self.segment.store(tail.wal.segment(), Ordering::Release);
        Ok(())
    }

    /// A full disk passes; everything else stops the database.
    fn refused(&self, tail: &Tail, refused: Refused) -> Error {
        match refused {
            Refused::Full(cause) => {
                let file = tail.wal.path().to_path_buf();
                Error::Full { file, cause: cause.to_string() }
            }
            Refused::Broken(cause) => self.poison_by(tail, &cause),
        }
    }

    fn poison_by(&self, tail: &Tail, cause: &meridian_vfs::IoError) -> Error {
        let file = tail.wal.path().to_path_buf();
        self.poison(Error::Poisoned { file, cause: cause.to_string() })
    }

    /// Makes everything pushed so far durable.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.at_the_tail(|tail| {
            self.write_locked(tail)?;
            self.sync_locked(tail)
        })
    }

    /// Makes everything up to `seqno`, which was pushed before, durable.
    pub(crate) fn sync_to(&self, seqno: Seqno) -> Result<(), Error> {
        if self.durable() >= seqno { self.check() } else { self.sync() }
    }

    fn sync_locked(&self, tail: &mut Tail) -> Result<(), Error> {
        self.check()?;
        tail.wal.sync().map_err(|cause| self.poison_by(tail, &cause))?;
        self.expect(tail.batches_unsynced);
        self.synced_up_to(tail);
        Ok(())
    }

    fn synced_up_to(&self, tail: &mut Tail) {
        tail.batches_unsynced = 0;
        tail.synced = tail.written;
        self.durable.store(tail.wal.synced(), Ordering::Release);
    }

    /// Ends the segment if anything was written to it, or was about to be.
    pub(crate) fn rotate(&self) -> Result<(), Error> {
        self.at_the_tail(|tail| {
            self.write_locked(tail)?;
            if tail.wal.has_chunks() { self.rotate_locked(tail) } else { Ok(()) }
        })
    }

    /// Writes the close chunk; nothing can be written afterwards.
    /// Returns the last segment and its length.
    pub(crate) fn close(&self, closed: Error) -> Result<(u64, u64), Error> {
        let end = self.at_the_tail(|tail| {
            self.write_locked(tail)?;
            tail.wal.close().map_err(|cause| self.refused(tail, cause))?;
            self.synced_up_to(tail);
            Ok((tail.wal.segment(), tail.wal.bytes()))
        })?;
        self.poison(closed);
        Ok(end)
    }

    pub(crate) fn stats(&self) -> WalStats {
        let tail = self.tail.lock();
        let buffered = self.queue.lock().bytes() - CHUNK_HEADER;
        WalStats {
            segment: tail.wal.segment(),
            segment_bytes: tail.wal.bytes(),
            unsynced_bytes: tail.wal.unsynced_bytes(),
            buffered_bytes: buffered as u64,
        }
    }
}

/// What the WAL thread does; the thread itself and its clock are in `workers`.
impl Log {
    pub(crate) fn thread_starts(&self) -> bool {
        self.queue.lock().stopping = false;
        self.begins(Keeper::Thread)
    }

    /// Whether nobody kept it.
    fn begins(&self, keeper: Keeper) -> bool {
        let (from, to) = (Keeper::Writers as u8, keeper as u8);
        self.keeper.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// From here writers write themselves. A writer that saw the thread pushed its batch before
    /// this takes the commit lock, so the last write below finds it.
    pub(crate) fn thread_ends(&self) -> Result<(), Error> {
        self.keeper.store(Keeper::Writers as u8, Ordering::SeqCst);
        self.space.notify_all();
        let ended = self.sync();
        self.settle_all();
        ended
    }

    pub(crate) fn ask_thread_to_stop(&self) {
        self.queue.lock().stopping = true;
        self.work.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.queue.lock().stopping
    }

    /// Sleeps until there is something to write, it is time to stop, or `most` has passed.
    pub(crate) fn sleep_until_work(&self, most: Duration) {
        let mut queue = self.queue.lock();
        if queue.full.is_some() && !queue.stopping {
            self.work.wait_for(&mut queue, most.min(FULL_PAUSE));
        } else if queue.is_empty() && !queue.stopping {
            queue.idle = true;
            self.work.wait_for(&mut queue, most);
            queue.idle = false;
        }
    }

    /// Lets a group gather: sleeps `nap`, or until much waits.
    pub(crate) fn nap(&self, nap: Duration) {
        let mut queue = self.queue.lock();
        if queue.bytes() <= NAP_BYTES && !queue.stopping {
            self.work.wait_for(&mut queue, nap);
        }
    }

    /// What was written since the last sync: batches and bytes; `None` if nothing was.
    pub(crate) fn unsynced(&self) -> Option<(u32, u64)> {
        let tail = self.tail.lock();
        let bytes = tail.wal.unsynced_bytes();
        (bytes > 0).then_some((tail.batches_unsynced, bytes))
    }
}

/// What the driver does.
impl Log {
    /// Whether there is one from now on: nobody else may keep the log.
    pub(crate) fn driver_begins(&self) -> bool {
        self.begins(Keeper::Driver)
    }

    /// From here writers write themselves. Nothing is written now: a process that dies writes
    /// nothing either.
    pub(crate) fn driver_ends(&self) {
        self.keeper.store(Keeper::Writers as u8, Ordering::SeqCst);
    }

    /// Whether something is queued.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }
}
