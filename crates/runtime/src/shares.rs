//! What hints and repair may take of a node that has enough to do without them.
//!
//! Requests, hints and repair come over links of their own, and meet at the processor and the disk.
//! While a node is not loaded they do not hurt each other, and each goes as fast as it can. On a
//! loaded one hints and repair get a part of what requests get, an eighth each: what they
//! bring is late already, and a client waits now. They never get nothing, or a node that is always
//! loaded would never heal.
//!
//! Pure: time and load are arguments.

use meridian_types::Millis;
use parking_lot::Mutex;

use crate::node::Inner;

/// From this load on, in thousandths, hints and repair are held back.
const LOADED_PERMILLE: u64 = 200;

/// Of the bytes that requests bring in a second, hints and repair may bring one part of so many,
/// each.
const PART: u64 = 8;

/// They may always bring so many bytes in a second: a million small rows in an hour.
const LEAST_PER_SECOND: u64 = 64 << 10;

/// What one wait may be at most, in milliseconds: well below what a puller waits for its page.
const LONGEST_WAIT_MS: u64 = 2_000;

/// What comes after requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Hints that other nodes deliver.
    Hints,
    /// Rows that this node pulls, or is asked for.
    Repair,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    loaded: bool,
    per_second: u64,
    /// Bytes that requests had brought when it was last looked at, and when that was.
    requests: (u64, Millis),
    hints: Bucket,
    repair: Bucket,
}

/// What may be brought now: at most that of a second, and less than nothing after a large page.
#[derive(Debug, Default)]
struct Bucket {
    left: i64,
    at: Millis,
}

impl Shares {
    /// Follows the load, and the bytes that requests have brought since the start.
    pub(crate) fn follow(&self, load_permille: u64, request_bytes: u64, now: Millis) {
        let mut state = self.0.lock();
        let (before, at) = std::mem::replace(&mut state.requests, (request_bytes, now));
        let took = now.since(at).max(1);
        let brought = request_bytes.saturating_sub(before).saturating_mul(1_000) / took;
        state.per_second = (brought / PART).max(LEAST_PER_SECOND);
        state.loaded = load_permille >= LOADED_PERMILLE;
    }

    /// Takes so many bytes for a work that is done anyway. How long to wait before the next, in
    /// milliseconds.
    pub(crate) fn take(&self, work: Work, bytes: u64, now: Millis) -> u64 {
        let mut state = self.0.lock();
        if !state.loaded {
            return 0;
        }
        let per_second = state.per_second;
        let bucket = match work {
            Work::Hints => &mut state.hints,
            Work::Repair => &mut state.repair,
        };
        bucket.fill(per_second, now);
        bucket.left -= i64::try_from(bytes).unwrap_or(i64::MAX);
        let owed = bucket.left.min(0).unsigned_abs();
        (owed.saturating_mul(1_000) / per_second).min(LONGEST_WAIT_MS)
    }
}

impl Inner {
    /// Takes bytes of rows for repair, and waits until repair may go on.
    pub(crate) async fn pace_repair(&self, bytes: u64) {
        let wait = self.shares.take(Work::Repair, bytes, self.host.now());
        if wait > 0 {
            self.host.pause(wait).await;
        }
    }
}

impl Bucket {
    fn fill(&mut self, per_second: u64, now: Millis) {
        let most = i64::try_from(per_second).unwrap_or(i64::MAX);
        let came = per_second.saturating_mul(now.since(self.at)) / 1_000;
        let came = i64::try_from(came).unwrap_or(i64::MAX);
        // What is owed from before is bounded: a wait is never longer than some seconds.
        self.left = self.left.max(-most.saturating_mul(4)).saturating_add(came).min(most);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that a work brings in ten seconds, in pages, waiting as it is told.
    fn brought(shares: &Shares, work: Work, page: u64) -> u64 {
        let (mut now, mut bytes) = (Millis(100_000), 0);
        while now < Millis(110_000) {
            bytes += page;
            now = now.plus(shares.take(work, page, now).max(1));
        }
        bytes
    }

    #[test]
    fn a_node_that_is_not_loaded_holds_nobody_back() {
        let shares = Shares::default();
        shares.follow(LOADED_PERMILLE - 1, 1 << 30, Millis(1_000));
        assert_eq!(brought(&shares, Work::Hints, 1 << 20), 10_000 << 20);
    }

    #[test]
    fn on_a_loaded_one_each_gets_an_eighth_of_what_requests_get() {
        let shares = Shares::default();
        shares.follow(0, 0, Millis(98_000));
        shares.follow(500, 16 << 20, Millis(99_000));
        for (work, page) in [(Work::Hints, 10_000), (Work::Repair, 256 << 10)] {
            let per_second = brought(&shares, work, page) / 10;
            let share = 2 << 20;
            assert!((share..share * 12 / 10).contains(&per_second), "{work:?}: {per_second}");
        }
    }

    #[test]
    fn nobody_starves_and_no_wait_is_long() {
        let shares = Shares::default();
        shares.follow(1_000, 0, Millis(1_000));
        let per_second = brought(&shares, Work::Hints, 100) / 10;
        assert!((LEAST_PER_SECOND..LEAST_PER_SECOND * 12 / 10).contains(&per_second));
        assert_eq!(shares.take(Work::Repair, 1 << 40, Millis(120_000)), LONGEST_WAIT_MS);
        assert_ne!(shares.take(Work::Repair, 0, Millis(120_001)), 0);
        assert_eq!(shares.take(Work::Repair, 0, Millis(130_000)), 0, "debts are bounded");
    }
}
