//! How many reads may ask one more replica than they need.
//!
//! A slow replica is passed over by asking another. But when all are slow because there is too
//! much to do, every read would ask one more, and make it worse. So a part of the reads may
//! (Dean and Barroso, "The Tail at Scale", 2013), and the others wait.

use std::sync::atomic::{AtomicU64, Ordering};

/// One read in so many may ask one more replica: 5 %.
const READS_FOR_A_HEDGE: u64 = 20;

/// Hedges that are saved up at most, while reads need none: those of 2,000 reads.
const HEDGES_SAVED: u64 = 100;

/// A budget of hedges, shared by the reads of a node.
#[derive(Debug, Default)]
pub struct HedgeBudget {
    reads: AtomicU64,
    /// Hedges that were made, or that were not and are no longer saved up.
    spent: AtomicU64,
}

impl HedgeBudget {
    /// A read begins.
    pub fn read_began(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a hedge from the budget, if there is one.
    pub fn take(&self) -> bool {
        // The first few reads of a node's life may hedge as well.
        let earned = HEDGES_SAVED + self.reads.load(Ordering::Relaxed) / READS_FOR_A_HEDGE;
        let take = |spent: u64| {
            let spent = spent.max(earned - HEDGES_SAVED);
            (spent < earned).then_some(spent + 1)
        };
        self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_read_in_twenty_may_hedge() {
        let budget = HedgeBudget::default();
        while budget.take() {}
        let mut hedges = 0;
        for _ in 0..10_000 {
            budget.read_began();
            hedges += u64::from(budget.take());
        }
        assert_eq!(hedges, 500);
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let budget = HedgeBudget::default();
        for _ in 0..1_000_000 {
            budget.read_began();
        }
        let hedges = (0..1_000_000).filter(|_| budget.take()).count() as u64;
        assert_eq!(hedges, HEDGES_SAVED);
    }
}
