//! How many read repairs a node makes that no reader waits for: a table that is stale all over would
//! otherwise turn every read of it, and a scan of it, into writes at other replicas. What is not
//! repaired by a read, anti-entropy brings.

use meridian_types::Millis;
use parking_lot::Mutex;

/// Repairs after the answer that a node makes in a second, in the long run.
pub(crate) const REPAIRS_A_SECOND: u64 = 64;

/// Repairs that it makes at once after a quiet time.
pub(crate) const REPAIR_BURST: u64 = 256;

/// A bucket of repairs that refills with time.
#[derive(Debug)]
pub(crate) struct RepairBudget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// In thousandths of a repair.
    left: u64,
    at: Millis,
}

impl RepairBudget {
    /// A full one.
    pub(crate) fn new(now: Millis) -> Self {
        Self(Mutex::new(Bucket { left: REPAIR_BURST * 1_000, at: now }))
    }

    /// Whether there is room for one more.
    pub(crate) fn take(&self, now: Millis) -> bool {
        let mut bucket = self.0.lock();
        let refill = now.since(bucket.at).saturating_mul(REPAIRS_A_SECOND);
        bucket.left = bucket.left.saturating_add(refill).min(REPAIR_BURST * 1_000);
        bucket.at = bucket.at.max(now);
        match bucket.left.checked_sub(1_000) {
            Some(left) => {
                bucket.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_steady_rate() {
        let budget = RepairBudget::new(Millis(1_000));
        let taken = |now: u64| (0..1_000).filter(|_| budget.take(Millis(now))).count() as u64;
        assert_eq!(taken(1_000), REPAIR_BURST);
        assert_eq!(taken(1_500), REPAIRS_A_SECOND / 2);
        let steady: u64 = (0..10_000).filter(|ms| budget.take(Millis(1_500 + ms))).count() as u64;
        assert!((630..=640).contains(&steady), "{steady}");
        assert_eq!(taken(100_000), REPAIR_BURST);
        // The clock of a node never steps back; an older time takes nothing away.
        assert_eq!(taken(90_000), 0);
    }
}
