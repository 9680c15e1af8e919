//! The threads of a database, for those who want it to have some: one that writes and syncs the
//! log, one that has memory ready for memtables, and some that flush and compact. Everything they do
//! is a method of the database; only the clock is here.

#![allow(
    clippy::disallowed_methods,
    reason = "the driver of the engine: threads and the clock of the sync interval live here"
)]

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::db::{Core, Db};
use crate::options::SyncPolicy;

/// How long writes may gather before they are handed to the operating system: a killed process
/// loses at most this. Long enough that a busy writer does not pay a wake-up for each batch.
const NAP: Duration = Duration::from_millis(1);
/// With [`SyncPolicy::Always`], how long a write that nobody waits for may stay in memory.
const UNWAITED_TICK: Duration = Duration::from_millis(100);
/// How often the WAL thread looks at the age of its segment when nothing happens.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// How long a failed job is left alone: a full disk does not empty within milliseconds.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How far threads that flush and compact stand back behind others (`setpriority`): a ninth of the
/// share of a thread at 0.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// The threads of a database. Dropping it stops and joins them; the database goes on without.
pub struct Workers {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts the WAL thread and `threads` (at least one) for flushes and compactions.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(db: &Db, threads: usize) -> std::io::Result<Self> {
        let core = db.core.clone();
        let mut workers = Self { core: core.clone(), threads: Vec::new() };
        if core.log.thread_starts() {
            let thread = std::thread::Builder::new().name("lsm-wal".to_owned());
            let log_core = core.clone();
            let handle = thread.spawn(move || write_log(&log_core)).inspect_err(|_cause| {
                // Writers must not wait for a thread that never began.
                let _nothing_pending = core.log.thread_ends();
            })?;
            workers.threads.push(handle);
            core.shared.supply.start();
            let thread = std::thread::Builder::new().name("lsm-memory".to_owned());
            let memory_core = core.clone();
            let prepare = move || memory_core.shared.supply.prepare_until_stopped();
            workers.threads.push(thread.spawn(prepare)?);
        }
        core.jobs.set_stopping(false);
        core.limiter.start(monotonic);
        for number in 0..threads.max(1) {
            let thread = std::thread::Builder::new().name(format!("lsm-job-{number}"));
            let job_core = core.clone();
            core.jobs.threads.fetch_add(1, Ordering::AcqRel);
            let handle = thread.spawn(move || run_jobs(&job_core)).inspect_err(|_cause| {
                core.jobs.threads.fetch_sub(1, Ordering::AcqRel);
            })?;
            workers.threads.push(handle);
        }
        Ok(workers)
    }

    /// Stops and joins the threads; what was written is synced.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.core.jobs.set_stopping(true);
        self.core.limiter.stop();
        self.core.log.ask_thread_to_stop();
        self.core.shared.supply.stop();
        for thread in self.threads.drain(..) {
            // A panicked worker has poisoned the database or left its job to the next one.
            let _panicked = thread.join();
        }
    }
}

/// A thread for flushes and compactions.
fn run_jobs(core: &Core) {
    give_way();
    let _counted = Counted { core };
    while !core.jobs.is_stopping() {
        let seen = core.jobs.changes();
        core.now_ms.store(now_ms(), Ordering::Relaxed);
        let go_on = match core.poll_job() {
            Ok(true) => true,
            Ok(false) => core.sleep_until_job(seen, IDLE_TICK),
            // Kept in the statistics and told to stalled writers; tried again after a while.
            Err(_cause) => core.sleep_until_job(core.jobs.changes(), RETRY_PAUSE),
        };
        if !go_on {
            return;
        }
    }
}

/// A merge that shares a core with a writer must not hold it up for whole slices of the scheduler
/// (milliseconds): the worst put of a fill falls from several of them to less than one. Merges that
/// get too little slow the writers down, and have more then.
#[cfg(target_os = "linux")]
fn give_way() {
    // Of this thread only, on this system. Refused: it works as it did.
    let _refused = rustix::process::setpriority_process(None, NICE);
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

/// Time since the first call.
fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

struct Counted<'a> {
    core: &'a Core,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.core.jobs.threads.fetch_sub(1, Ordering::AcqRel);
        self.core.jobs.notify();
    }
}

/// The WAL thread.
fn write_log(core: &Core) {
    let log = &core.log;
    let _ends = Ends { core };
    let mut unsynced_since: Option<Instant> = None;
    let mut segment = (log.segment(), Instant::now());
    while !log.is_stopping() && log.poisoned().is_none() {
        let most = match (log.policy(), unsynced_since) {
            (SyncPolicy::Every { interval, .. }, Some(since)) => {
                interval.saturating_sub(since.elapsed())
            }
            (SyncPolicy::Always, _) => UNWAITED_TICK,
            _ => IDLE_TICK,
        };
        log.sleep_until_work(most);
        // A failure has poisoned the log, which ends the loop and is told to every writer.
        let _poisoned = write_and_sync(core, &mut unsynced_since);
        if log.segment() != segment.0 {
            segment = (log.segment(), Instant::now());
        } else if segment.1.elapsed() >= core.options.wal_segment_age {
            let _poisoned = log.rotate();
            segment = (log.segment(), Instant::now());
        }
        if log.policy() != SyncPolicy::Always {
            log.nap(NAP);
        }
    }
}

fn write_and_sync(core: &Core, unsynced_since: &mut Option<Instant>) -> Result<(), crate::Error> {
    let log = &core.log;
    if log.policy() == SyncPolicy::Always {
        return log.lead();
    }
    log.write_pending()?;
    let Some((batches, _bytes)) = log.unsynced() else {
        *unsynced_since = None;
        return Ok(());
    };
    if let SyncPolicy::Every { interval, writes } = log.policy() {
        let since = unsynced_since.get_or_insert_with(Instant::now);
        if batches >= writes || since.elapsed() >= interval {
            log.sync()?;
            *unsynced_since = None;
        }
    }
    Ok(())
}

/// Hands the log back to the writers however the thread ends.
struct Ends<'a> {
    core: &'a Core,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        // An error here has poisoned the log; writers and waiters are told.
        let _poisoned = self.core.log.thread_ends();
    }
}
