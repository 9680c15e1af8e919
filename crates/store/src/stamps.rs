//! The node's hybrid logical clock, and the mark that keeps its stamps rising over restarts.
//!
//! The wall clock may step back while the node is down. So a *mark* above all stamps given is kept
//! in the storage engine, moved on ahead of the stamps in the batch of whichever write comes near
//! it; a node that starts begins above the mark. In a tidy stop the mark is the last stamp itself,
//! so that restarts do not drive the stamps ahead of the wall clock.
//!
//! INVARIANT: no stamp is given or followed above the mark in memory, and the write that moves the
//! mark carries it.

use meridian_types::{Hlc, HlcClock, Millis, StampTooFarAhead};
use parking_lot::Mutex;

/// How far the mark is set ahead of the stamp that moves it, in milliseconds: at most that much is
/// a node's clock ahead of its wall clock after a crash.
pub(crate) const MARK_AHEAD_MS: u64 = 1_000;

/// The mark is moved when a stamp comes this near to it, in milliseconds. Longer than the interval
/// between two syncs of the log, so that a power cut that takes the last move back still leaves a
/// mark above every stamp.
pub(crate) const MARK_NEAR_MS: u64 = 500;

#[derive(Debug)]
pub(crate) struct Stamps {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    clock: HlcClock,
    mark: Hlc,
    /// The wall clock as last told.
    now: Millis,
}

impl State {
    fn observe(&mut self, stamp: Hlc, now: Millis) -> Result<Option<Hlc>, StampTooFarAhead> {
        self.now = now;
        if stamp <= self.clock.last() {
            return Ok(None);
        }
        self.clock.observe(stamp, now)?;
        Ok(self.move_mark(stamp))
    }

    /// The new mark, if a stamp comes too near to the one there is.
    fn move_mark(&mut self, stamp: Hlc) -> Option<Hlc> {
        if stamp.millis().plus(MARK_NEAR_MS) < self.mark.millis() {
            return None;
        }
        self.mark = Hlc::new(stamp.millis().plus(MARK_AHEAD_MS), 0);
        Some(self.mark)
    }
}

impl Stamps {
    /// Begins above `mark`.
    pub(crate) fn new(mark: Hlc, max_ahead_ms: u64, now: Millis) -> Self {
        let clock = HlcClock::new(mark, max_ahead_ms);
        Self { state: Mutex::new(State { clock, mark, now }) }
    }

    /// The next stamp, and the mark that the write must carry.
    pub(crate) fn tick(&self, now: Millis) -> (Hlc, Option<Hlc>) {
        let mut state = self.state.lock();
        state.now = now;
        let stamp = state.clock.tick(now);
        (stamp, state.move_mark(stamp))
    }

    /// Follows a stamp from elsewhere; the mark that the write must carry.
    pub(crate) fn observe(&self, stamp: Hlc, now: Millis) -> Result<Option<Hlc>, StampTooFarAhead> {
        self.state.lock().observe(stamp, now)
    }

    /// Follows a stamp that other replicas have taken already; the mark that the write must carry.
    /// One that is too far ahead of the last wall clock seen is not followed, and its row is taken
    /// all the same: it is in the cluster, and to leave it out here alone would only make replicas
    /// differ.
    pub(crate) fn follow(&self, stamp: Hlc) -> Option<Hlc> {
        let mut state = self.state.lock();
        let now = state.now;
        state.observe(stamp, now).ok().flatten()
    }

    /// A write that carried the mark failed: the next one carries it again.
    pub(crate) fn mark_lost(&self) {
        self.state.lock().mark = Hlc::ZERO;
    }

    /// The highest stamp given or followed.
    pub(crate) fn last(&self) -> Hlc {
        self.state.lock().clock.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_stay_below_the_mark_and_the_mark_moves_seldom() {
        let stamps = Stamps::new(Hlc::ZERO, 60_000, Millis(0));
        let (mut mark, mut moves) = (Hlc::ZERO, 0);
        for now in 10_000..20_000 {
            let (stamp, moved) = stamps.tick(Millis(now));
            moves += u32::from(moved.is_some());
            mark = moved.unwrap_or(mark);
            assert!(stamp < mark);
        }
        assert!((10..30).contains(&moves), "{moves}");
    }

    #[test]
    fn a_clock_that_stepped_back_over_a_restart_gives_stamps_above_the_mark() {
        let stamps = Stamps::new(Hlc::ZERO, 60_000, Millis(0));
        let (before, mark) = stamps.tick(Millis(50_000));
        let followed = Hlc::new(Millis(70_000), 3);
        let mark = stamps.observe(followed, Millis(50_000)).unwrap().or(mark).unwrap();
        let restarted = Stamps::new(mark, 60_000, Millis(0));
        let (after, _) = restarted.tick(Millis(1_000));
        assert!(after > before && after > followed);
    }

    #[test]
    fn a_stamp_that_is_too_far_ahead_is_refused_and_not_followed() {
        let stamps = Stamps::new(Hlc::ZERO, 1_000, Millis(0));
        let far = Hlc::new(Millis(5_000), 0);
        assert!(stamps.observe(far, Millis(1_000)).is_err());
        assert!(stamps.tick(Millis(1_000)).0 < far);
    }

    #[test]
    fn a_lost_mark_is_carried_again() {
        let stamps = Stamps::new(Hlc::ZERO, 1_000, Millis(0));
        assert!(stamps.tick(Millis(1_000)).1.is_some());
        assert!(stamps.tick(Millis(1_000)).1.is_none());
        stamps.mark_lost();
        assert!(stamps.tick(Millis(1_000)).1.is_some());
    }
}
