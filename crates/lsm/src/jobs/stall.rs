//! How much writers are held up by what is undone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::compaction::choice::slowdown_runs;
use crate::db::Core;
use crate::error::Error;
use crate::options::{
    Compaction, L0_SLOWDOWN_FACTOR, L0_STOP_FACTOR, PENDING_SLOWDOWN_BYTES, PENDING_STOP_BYTES,
    SEALED_SLOWDOWN, SEALED_STOP,
};
use crate::tree::Tree;
use crate::version::levels::Version;

/// Delay of a byte where slowing down begins, and just before writers stop: 64 MiB/s to 1 MiB/s.
const SLOWEST_NANOS_PER_BYTE: u64 = 1000;
const FASTEST_NANOS_PER_BYTE: u64 = 15;
/// Shorter delays are added up: a sleep costs a context switch.
const SHORTEST_SLEEP_NANOS: u64 = 1_000_000;
/// How long a stopped writer sleeps before it looks again, if nobody wakes it.
const STOPPED_TICK: Duration = Duration::from_millis(100);

const STOP_TO_SLOWDOWN: usize = L0_STOP_FACTOR / L0_SLOWDOWN_FACTOR;

fn megabytes(bytes: u64) -> usize {
    usize::try_from(bytes >> 20).unwrap_or(usize::MAX)
}

/// Tables of level 0 that the strategy means to merge. Those of earlier time windows stay.
fn waiting_runs(strategy: Compaction, version: &Version) -> usize {
    let young = version.level(0);
    let Compaction::TimeWindow { window_ms, .. } = strategy else { return young.len() };
    let mut windows = young.iter().map(|table| table.record.times.written / window_ms.max(1));
    let Some(newest) = windows.next() else { return 0 };
    1 + windows.take_while(|window| *window == newest).count()
}

/// What is undone in a tree: how much there is, from where writers are slowed down, and from where
/// they stop.
fn undone(tree: &Tree) -> [(usize, usize, usize); 3] {
    let view = tree.view();
    let strategy = tree.config_ref().compaction;
    let slow = slowdown_runs(strategy);
    let pending = tree.counters().pending_bytes.load(Ordering::Relaxed);
    [
        (view.sealed.len(), SEALED_SLOWDOWN, SEALED_STOP),
        (waiting_runs(strategy, &view.version), slow, slow * STOP_TO_SLOWDOWN),
        (megabytes(pending), megabytes(PENDING_SLOWDOWN_BYTES), megabytes(PENDING_STOP_BYTES)),
    ]
}

/// How full a database is for a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pressure {
    None,
    /// Thousandths of the way from slowing down to stopping.
    Slow(u64),
    Stop,
}

impl Core {
    fn pressure(&self, trees: &[Tree]) -> Pressure {
        let mut worst = Pressure::None;
        let total = self.shared.supply.allocated();
        let most = self.options.memtable_total_bytes;
        if total > most + most / 2 && self.sealed.load(Ordering::Acquire) > 0 {
            return Pressure::Stop;
        }
        for tree in trees {
            for (have, slow, stop) in undone(tree) {
                if have >= stop {
                    return Pressure::Stop;
                }
                if have >= slow {
                    let part = (have - slow + 1) as u64 * 1000 / (stop - slow) as u64;
                    worst = match worst {
                        Pressure::Slow(other) => Pressure::Slow(other.max(part)),
                        _ => Pressure::Slow(part),
                    };
                }
            }
        }
        worst
    }

    /// How far the database is on its way to slowing writers down, in thousandths: 1000 or more, and
    /// it does.
    pub(crate) fn backlog_permille(&self) -> u64 {
        let of_tree = |tree: &Tree| {
            undone(tree).map(|(have, slow, _stop)| have as u64 * 1000 / slow.max(1) as u64)
        };
        let worst = self.trees.read().values().flat_map(of_tree).max().unwrap_or(0);
        let total = self.shared.supply.allocated();
        let is_short = total > self.options.memtable_total_bytes;
        if is_short && self.sealed.load(Ordering::Acquire) > 0 { worst.max(1000) } else { worst }
    }

    /// How far a writer to these trees would be held up.
    pub(crate) fn stall_permille(&self, trees: &[Tree]) -> u64 {
        match self.pressure(trees) {
            Pressure::None => 0,
            Pressure::Slow(part) => part.min(999),
            Pressure::Stop => 1000,
        }
    }

    /// Lets a writer in: at once, after a delay that grows with what is undone, or not before
    /// some of it is done. Without worker threads a stopped writer does the work itself.
    pub(crate) fn admit(&self, trees: &[Tree], bytes: usize) -> Result<(), Error> {
        let mut stopped = false;
        let mut seen = 0;
        loop {
            match self.pressure(trees) {
                Pressure::None => return Ok(()),
                Pressure::Slow(part) => {
                    self.delay(part, bytes as u64);
                    return Ok(());
                }
                Pressure::Stop => {
                    if !stopped {
                        self.jobs.stops.fetch_add(1, Ordering::Relaxed);
                        stopped = true;
                    }
                    seen = self.wait_for_jobs(seen)?;
                }
            }
        }
    }

    /// `seen`: the changes before the caller looked; returns those now.
    fn wait_for_jobs(&self, seen: u64) -> Result<u64, Error> {
        self.log.check()?;
        let stalled = |cause: &Error| Error::Stalled { cause: cause.to_string() };
        if self.jobs.threads.load(Ordering::Acquire) == 0 {
            return match self.poll_job() {
                Ok(true) => Ok(seen),
                // Somebody else is at it.
                Ok(false) => {
                    std::thread::yield_now();
                    Ok(seen)
                }
                Err(cause @ Error::Poisoned { .. }) => Err(cause),
                Err(cause) => Err(stalled(&cause)),
            };
        }
        let mut running = self.jobs.running.lock();
        if let Some(cause) = &running.failure {
            return Err(stalled(cause));
        }
        if running.changes == seen {
            self.jobs.changed.wait_for(&mut running, STOPPED_TICK);
        }
        Ok(running.changes)
    }

    fn delay(&self, part: u64, bytes: u64) {
        let jobs = &self.jobs;
        jobs.slowdowns.fetch_add(1, Ordering::Relaxed);
        if jobs.threads.load(Ordering::Acquire) == 0 {
            return;
        }
        let span = SLOWEST_NANOS_PER_BYTE - FASTEST_NANOS_PER_BYTE;
        let nanos = bytes * (FASTEST_NANOS_PER_BYTE + span * part.min(1000) / 1000);
        jobs.slowdown_nanos.fetch_add(nanos, Ordering::Relaxed);
        let debt = jobs.debt_nanos.fetch_add(nanos, Ordering::Relaxed) + nanos;
        if debt >= SHORTEST_SLEEP_NANOS {
            jobs.debt_nanos.store(0, Ordering::Relaxed);
            let mut running = jobs.running.lock();
            let most = Duration::from_nanos(debt).min(STOPPED_TICK);
            jobs.changed.wait_for(&mut running, most);
        }
    }
}
