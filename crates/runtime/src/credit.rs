//! How many hints this node bears from each other node at once.
//!
//! Hints come on connections of their own, but they are written to the same disk as requests. So a
//! node that holds back its own writers asks those who bring hints to slow down, and to pause
//! before requests have to wait for room.

use std::sync::atomic::{AtomicU32, Ordering};

use meridian_node::limits::HINT_WINDOW;

/// From this share of a full stall on no hint is borne, in thousandths: what is left is for
/// requests.
const PAUSE_PERMILLE: u64 = 800;

/// The credit in force.
pub(crate) struct HintCredit(AtomicU32);

impl HintCredit {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(credit(0, 0)))
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Follows the load: how far the storage engine holds writers back, and how full the room for
    /// requests is, both in thousandths.
    pub(crate) fn follow(&self, stall_permille: u64, in_flight_permille: u64) {
        self.0.store(credit(stall_permille, in_flight_permille), Ordering::Relaxed);
    }
}

fn credit(stall_permille: u64, in_flight_permille: u64) -> u32 {
    let load = stall_permille.max(in_flight_permille);
    if load >= PAUSE_PERMILLE {
        return 0;
    }
    let whole = u32::try_from(HINT_WINDOW).unwrap_or(u32::MAX);
    let left = u32::try_from(PAUSE_PERMILLE - load).unwrap_or(0);
    let all = u32::try_from(PAUSE_PERMILLE).unwrap_or(u32::MAX);
    (whole * left / all).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_node_bears_a_window_and_a_stalled_one_nothing() {
        let bears = HintCredit::new();
        assert_eq!(bears.get() as usize, HINT_WINDOW);
        let mut before = bears.get();
        for load in (0..=1000).step_by(50) {
            bears.follow(load, 0);
            assert!(bears.get() <= before, "more load, more hints at {load}");
            before = bears.get();
            let stalled = bears.get();
            bears.follow(0, load);
            assert_eq!(bears.get(), stalled, "whichever is fuller");
        }
        assert_eq!(before, 0);
        bears.follow(PAUSE_PERMILLE - 1, 0);
        assert_eq!(bears.get(), 1);
    }
}
