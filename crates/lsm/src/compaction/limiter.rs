//! How fast flushes and compactions write. A bucket that all of them draw from: a compaction waits
//! until its bytes are there; a flush is counted and not held, since writers wait for it.
//!
//! What is owed is counted in bytes and paid at the rate of the moment: what was taken while readers
//! came first is not waited for once writers do. A compaction that is held may hold up flushes (the
//! thread is the same) and writers with them, so the automatic rate looks at what they wait for, not
//! only at whether they wait already.
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
/// Where giving way begins, so that a compaction of a second gives way as well: bytes a second.
const BUSY_RATE: u64 = 64 << 20;
/// As good as no limit: bytes a second.
const HIGHEST_RATE: u64 = 4 << 30;
/// Longest sleep without looking at the rate, and whether it is time to stop.
const TICK: Duration = Duration::from_millis(100);
/// Thousandths of the way to where writers are slowed down, from which compactions give way to nobody.
const BACKLOG_COMES_FIRST: u64 = 500;
/// Thousandths from which they are as fast as they can.
const BACKLOG_HOLDS_WRITERS: u64 = 1000;

/// What the automatic rate follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Blocks that readers did not find in the cache, since the start.
    pub(crate) reads: u64,
    /// Thousandths of the way to where writers are slowed down.
    pub(crate) backlog: u64,
}

/// Bytes that may be written by now.
#[derive(Debug, Default)]
struct Bucket {
    /// Bytes taken since the start.
    taken: u64,
    /// Bytes that came in; beyond what was taken only as many as a burst has.
    paid: u64,
    paid_at: Duration,
    /// Of [`RateLimit::Auto`]; 0 before the first look.
    rate: u64,
    looked_at: Duration,
    reads: u64,
}

fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX)
}

impl Bucket {
    /// Counts what came in at this rate.
    fn pay(&mut self, now: Duration, rate: u64) {
        let came = bytes_in(now.saturating_sub(self.paid_at), rate);
        let most = self.taken.saturating_add(bytes_in(BURST, rate));
        (self.paid, self.paid_at) = (self.paid.saturating_add(came).min(most), now);
    }

    /// Takes `bytes`; returns what has to be paid before whoever took them goes on.
    fn take(&mut self, now: Duration, bytes: u64, rate: u64) -> u64 {
        self.pay(now, rate);
        self.taken = self.taken.saturating_add(bytes);
        self.taken
    }

    /// How long until `due` is paid, if the rate stays.
    fn left(&mut self, now: Duration, due: u64, rate: u64) -> Duration {
        self.pay(now, rate);
        let missing = u128::from(due.saturating_sub(self.paid));
        let nanos = (missing * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The fixed rate, or the automatic one as of the last look; looks if it is time to.
    fn rate_at(&mut self, now: Duration, fixed: Option<u64>, load: &impl Fn() -> Load) -> u64 {
        if let Some(rate) = fixed {
            return rate;
        }
        if self.rate == 0 || now.saturating_sub(self.looked_at) >= LOOK {
            self.look(now, load());
        }
        self.rate
    }

    /// Halves the rate while readers wait for the disk, and raises it by a quarter while they do
    /// not. Doubles it while so much is undone that writers will soon be slowed down: they come
    /// before readers.
    fn look(&mut self, now: Duration, load: Load) {
        let passed = now.saturating_sub(self.looked_at);
        let reads = u128::from(load.reads.saturating_sub(self.reads));
        let busy = reads * 1000 / passed.as_millis().max(1) >= u128::from(BUSY_READS_PER_SECOND);
        self.rate = if self.rate == 0 || load.backlog >= BACKLOG_HOLDS_WRITERS {
            HIGHEST_RATE
        } else if load.backlog >= BACKLOG_COMES_FIRST {
            (self.rate * 2).min(HIGHEST_RATE)
        } else if busy {
            (self.rate / 2).clamp(LOWEST_RATE, BUSY_RATE)
        } else {
            (self.rate / 4 * 5).min(HIGHEST_RATE)
        };
        (self.looked_at, self.reads) = (now, load.reads);
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
    pub(crate) fn wrote(&self, bytes: u64, hold: bool, load: impl Fn() -> Load) {
        let fixed = match self.limit {
            RateLimit::None => return,
            RateLimit::BytesPerSecond(rate) => Some(rate),
            RateLimit::Auto => None,
        };
        let Some(clock) = self.clock.get() else { return };
        let mut bucket = self.bucket.lock();
        let mut now = clock();
        let rate = bucket.rate_at(now, fixed, &load);
        let due = bucket.take(now, bytes, rate);
        while hold && !self.stopping.load(Ordering::Acquire) {
            let rate = bucket.rate_at(now, fixed, &load);
            let left = bucket.left(now, due, rate);
            if left.is_zero() {
                return;
            }
            self.stopped.wait_for(&mut bucket, left.min(TICK));
            now = clock();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

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
                let due = bucket.take(now, bytes, rate);
                let waited = bucket.left(now, due, rate);
                now += waited;
                total += bytes;
                prop_assert!(bucket.left(now, due, rate).is_zero());
                let paid = bytes_in(now - begun + BURST, rate);
                prop_assert!(total <= paid + 100, "{total} of {paid}");
                // And nobody waits for more than what was taken.
                prop_assert!(bytes_in(waited, rate) <= total + 100);
            }
        }

        /// Readers that never stop, a writer that the disk is fast enough for, one thread that
        /// compacts: the compactions give way, and never so far that the writer stops; if it
        /// fills a memtable in a second or more, not even so far that it is slowed down.
        #[test]
        fn giving_way_never_holds_writers_up(
            disk in 100..2000u64,
            share in 1..60u64,
            rewritten in 1..10u64,
            flushed in 1..128u64,
        ) {
            let (disk, flushed) = (disk * MIB, flushed * MIB);
            // The rate is looked at ten times a second.
            let written = (disk * share / 100 / (1 + rewritten)).min(6 * flushed);
            let mut history = History::default();
            let most = history.run(disk, written, flushed, rewritten);
            let bound = if written > flushed { STOPPED } else { SLOWED };
            prop_assert!(most < bound, "{most} runs");
            if disk * share / 100 <= LOWEST_RATE / 4 {
                prop_assert!(history.highest_rate <= BUSY_RATE);
            }
        }
    }

    /// Runs in level 0 at which writers stop, at which they are slowed down, and at which a
    /// compaction begins.
    const STOPPED: u64 = 32;
    const SLOWED: u64 = 16;
    const MERGED: u64 = 4;

    /// A database in outline: what is written is flushed to level 0, and what is there is merged.
    #[derive(Default)]
    struct History {
        bucket: Bucket,
        now: Duration,
        runs: u64,
        in_memory: u64,
        most_runs: u64,
        merges: u64,
        /// After the first compaction, in which it comes down.
        highest_rate: u64,
    }

    impl History {
        fn pass(&mut self, time: Duration, written: u64, flushed: u64) {
            self.now += time;
            self.in_memory += bytes_in(time, written);
            while self.in_memory >= flushed {
                self.in_memory -= flushed;
                self.runs += 1;
                self.bucket.take(self.now, flushed, self.bucket.rate);
            }
            self.most_runs = self.most_runs.max(self.runs);
        }

        /// Ten minutes; returns the most runs that there were at once.
        fn run(&mut self, disk: u64, written: u64, flushed: u64, rewritten: u64) -> u64 {
            let chunk = (flushed / 4).max(MIB);
            while self.now < Duration::from_secs(600) {
                if self.runs < MERGED {
                    self.pass(Duration::from_millis(100), written, flushed);
                    continue;
                }
                let merged = self.runs;
                let mut left = merged * flushed * rewritten;
                while left > 0 {
                    let bytes = left.min(chunk);
                    left -= bytes;
                    self.pass(bytes_to_time(bytes, disk), written, flushed);
                    let due = self.bucket.take(self.now, bytes, self.bucket.rate);
                    self.hold(due, written, flushed);
                }
                self.runs -= merged;
                if self.merges == 0 {
                    self.highest_rate = 0;
                }
                self.merges += 1;
            }
            self.most_runs
        }

        fn hold(&mut self, due: u64, written: u64, flushed: u64) {
            loop {
                let millis = u64::try_from(self.now.as_millis()).unwrap();
                let reads = BUSY_READS_PER_SECOND * 2 * millis / 1000;
                let load = || Load { reads, backlog: self.runs * 1000 / SLOWED };
                let rate = self.bucket.rate_at(self.now, None, &load);
                self.highest_rate = self.highest_rate.max(rate);
                let left = self.bucket.left(self.now, due, rate);
                if left.is_zero() {
                    return;
                }
                self.pass(left.min(TICK), written, flushed);
            }
        }
    }

    fn bytes_to_time(bytes: u64, rate: u64) -> Duration {
        Duration::from_nanos(bytes * 1_000_000_000 / rate)
    }

    #[test]
    fn compactions_give_way_to_reads_and_writers_go_first() {
        let mut bucket = Bucket::default();
        let mut reads = 0;
        let mut now = Duration::from_secs(1);
        let mut second = |bucket: &mut Bucket, more: u64, backlog: u64| {
            for _ in 0..10 {
                now += LOOK;
                reads += more / 10;
                bucket.rate_at(now, None, &|| Load { reads, backlog });
            }
            bucket.rate
        };
        let busy = BUSY_READS_PER_SECOND * 2;
        assert_eq!(second(&mut bucket, 0, 0), HIGHEST_RATE);
        assert_eq!(second(&mut bucket, busy, 0), LOWEST_RATE);
        assert_eq!(second(&mut bucket, busy, BACKLOG_COMES_FIRST - 1), LOWEST_RATE);
        assert_eq!(second(&mut bucket, busy, BACKLOG_COMES_FIRST), HIGHEST_RATE);
        assert_eq!(second(&mut bucket, busy, 0), LOWEST_RATE);
        second(&mut bucket, busy, 0);
        let recovering = second(&mut bucket, 0, 0);
        assert!(recovering > LOWEST_RATE && recovering < HIGHEST_RATE, "{recovering}");
        bucket.look(
            Duration::from_secs(60),
            Load { reads: u64::MAX, backlog: BACKLOG_HOLDS_WRITERS },
        );
        assert_eq!(bucket.rate, HIGHEST_RATE);
        let mut bucket = Bucket { rate: HIGHEST_RATE, ..Bucket::default() };
        bucket.look(LOOK, Load { reads: busy, backlog: 0 });
        assert_eq!(bucket.rate, BUSY_RATE);
    }

    #[test]
    fn what_is_owed_is_paid_at_the_rate_of_the_moment() {
        let mut bucket = Bucket::default();
        let now = Duration::from_secs(1);
        // A flush, which nobody waits for, and then a piece of a compaction.
        bucket.take(now, 64 * MIB, LOWEST_RATE);
        let due = bucket.take(now, MIB, LOWEST_RATE);
        let slow = bucket.left(now, due, LOWEST_RATE);
        assert!(slow > Duration::from_secs(7), "{slow:?}");
        let fast = bucket.left(now, due, HIGHEST_RATE);
        assert!(fast < Duration::from_millis(20), "{fast:?}");
        // What came in at a high rate is no burst at a low one.
        let now = now + Duration::from_secs(1);
        assert!(bucket.left(now, due, HIGHEST_RATE).is_zero());
        let due = bucket.take(now, MIB, LOWEST_RATE);
        assert!(!bucket.left(now, due, LOWEST_RATE).is_zero());
    }
}
