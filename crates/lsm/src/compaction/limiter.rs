//! How fast flushes and compactions write. A bucket that all of them draw from: a compaction waits
//! until its bytes are there; a flush is counted and not held, since writers wait for it.
//!
//! The clock comes from [`crate::Workers`]; without one nothing is held.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::options::RateLimit;

/// Time since some moment of the past.
pub(crate) type Clock = fn() -> Duration;

/// A bucket holds what comes in this time: short enough that readers do not notice one.
const BURST: Duration = Duration::from_millis(50);
/// How often the automatic rate is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Blocks read for the foreground in a second, from which compactions give way: a disk that is
/// asked less often than this has time for both.
const BUSY_READS_PER_SECOND: u64 = 200;
/// What compactions keep in any case, so that giving way does not pile up work: bytes a second.
const LOWEST_RATE: u64 = 8 << 20;
/// As good as no limit: bytes a second.
const HIGHEST_RATE: u64 = 4 << 30;
/// Longest sleep without looking whether it is time to stop.
const TICK: Duration = Duration::from_millis(100);

/// What the automatic rate follows: totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Blocks that readers did not find in the cache.
    pub(crate) reads: u64,
    /// Batches that were delayed or stopped.
    pub(crate) delays: u64,
}

/// Bytes that may be written by now.
#[derive(Debug, Default)]
struct Bucket {
    /// When everything taken so far is paid for.
    paid_at: Duration,
    /// Of [`RateLimit::Auto`]; 0 before the first look.
    rate: u64,
    looked_at: Duration,
    load: Load,
}

impl Bucket {
    /// Takes `bytes`; returns how long to wait for them.
    fn take(&mut self, now: Duration, bytes: u64, rate: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now.saturating_sub(BURST)) + cost;
        self.paid_at.saturating_sub(now)
    }

    /// Halves the rate while readers wait for the disk, and raises it by a quarter while they do
    /// not; writers that are held up come before readers.
    fn adjust(&mut self, now: Duration, load: Load) -> u64 {
        if self.rate == 0 {
            (self.rate, self.looked_at, self.load) = (HIGHEST_RATE, now, load);
        }
        let passed = now.saturating_sub(self.looked_at);
        if passed < LOOK {
            return self.rate;
        }
        let reads = u128::from(load.reads.saturating_sub(self.load.reads));
        let busy = reads * 1000 / passed.as_millis().max(1) >= u128::from(BUSY_READS_PER_SECOND);
        self.rate = if load.delays > self.load.delays {
            HIGHEST_RATE
        } else if busy {
            (self.rate / 2).max(LOWEST_RATE)
        } else {
            (self.rate / 4 * 5).min(HIGHEST_RATE)
        };
        (self.looked_at, self.load) = (now, load);
        self.rate
    }
}

/// The bucket of a database.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: RateLimit,
    clock: OnceLock<Clock>,
    bucket: Mutex<Bucket>,
    stopping: AtomicBool,
    stopped: Condvar,
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            clock: OnceLock::new(),
            bucket: Mutex::default(),
            stopping: AtomicBool::new(false),
            stopped: Condvar::new(),
        }
    }

    /// There is a clock from now on; a second one changes nothing.
    pub(crate) fn start(&self, clock: Clock) {
        self.clock.get_or_init(|| clock);
        self.stopping.store(false, Ordering::Release);
    }

    /// Lets everybody go who waits: what is under way ends unheld.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stopped.notify_all();
    }

    /// The rate in bytes a second as of the last look; 0 for none.
    pub(crate) fn rate(&self) -> u64 {
        match self.limit {
            RateLimit::None => 0,
            RateLimit::BytesPerSecond(rate) => rate,
            RateLimit::Auto => self.bucket.lock().rate,
        }
    }

    /// Counts bytes written; `hold`: and waits for them.
    pub(crate) fn wrote(&self, bytes: u64, hold: bool, load: impl FnOnce() -> Load) {
        let fixed = match self.limit {
            RateLimit::None => return,
            RateLimit::BytesPerSecond(rate) => Some(rate),
            RateLimit::Auto => None,
        };
        let Some(clock) = self.clock.get() else { return };
        let mut bucket = self.bucket.lock();
        let rate = fixed.unwrap_or_else(|| bucket.adjust(clock(), load()));
        let begun = clock();
        let wait = bucket.take(begun, bytes, rate);
        while hold && !self.stopping.load(Ordering::Acquire) {
            let left = wait.saturating_sub(clock().saturating_sub(begun));
            if left.is_zero() {
                return;
            }
            self.stopped.wait_for(&mut bucket, left.min(TICK));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_more_is_written_than_the_rate_and_a_burst(
            rate in 1_000_000..100_000_000u64,
            writes in proptest::collection::vec((0..1_000_000u64, 0..200_000u64), 1..100),
        ) {
            let (mut bucket, mut now, mut total) = (Bucket::default(), Duration::from_secs(9), 0);
            let begun = now;
            for (bytes, micros) in writes {
                now += Duration::from_micros(micros);
                let waited = bucket.take(now, bytes, rate);
                now += waited;
                total += bytes;
                let paid = (now - begun + BURST).as_nanos() * u128::from(rate) / 1_000_000_000;
                prop_assert!(u128::from(total) <= paid + 100, "{total} of {paid}");
                // And nobody waits for more than what was taken.
                prop_assert!(waited.as_nanos() <= u128::from(total) * 1_000_000_000 / u128::from(rate));
            }
        }
    }

    #[test]
    fn compactions_give_way_to_reads_and_writers_go_first() {
        let mut bucket = Bucket::default();
        let mut load = Load::default();
        let mut now = Duration::from_secs(1);
        let mut second = |bucket: &mut Bucket, reads: u64, delays: u64| {
            for _ in 0..10 {
                now += LOOK;
                load.reads += reads / 10;
                load.delays += delays;
                bucket.adjust(now, load);
            }
            bucket.rate
        };
        assert_eq!(second(&mut bucket, 0, 0), HIGHEST_RATE);
        assert_eq!(second(&mut bucket, BUSY_READS_PER_SECOND * 2, 0), LOWEST_RATE);
        assert_eq!(second(&mut bucket, BUSY_READS_PER_SECOND * 2, 0), LOWEST_RATE);
        assert_eq!(second(&mut bucket, BUSY_READS_PER_SECOND * 2, 1), HIGHEST_RATE);
        second(&mut bucket, BUSY_READS_PER_SECOND * 2, 0);
        let recovering = second(&mut bucket, 0, 0);
        assert!(recovering > LOWEST_RATE && recovering < HIGHEST_RATE, "{recovering}");
    }
}
