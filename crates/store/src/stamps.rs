//! The node's hybrid logical clock, and the mark that keeps its stamps rising over restarts.
//!
//! The wall clock may step back while the node is down. So a *mark* above all stamps stored is kept
//! in the storage engine, moved on ahead of the stamps by the batch of whichever write comes near
//! it; a node that starts begins above the mark. In a tidy stop the mark is the last stamp itself,
//! so that restarts do not drive the stamps ahead of the wall clock.
//!
//! INVARIANT: a batch that stores a stamp carries a mark above it, unless one was stored before. So
//! whatever prefix of the log a power cut leaves, its mark is above its stamps: on LWW tables a
//! stamp above the mark is the highest, and its row need not be looked at. The stored mark is the
//! highest of those carried, whatever order batches of several threads end up in.

use meridian_lsm::{Commit, Seqno};
use meridian_types::{Hlc, HlcClock, Millis, Mutation, StampTooFarAhead, broken};
use parking_lot::Mutex;

/// How far the mark is set ahead of the stamp that moves it, in milliseconds: at most that much is
/// a node's clock ahead of its wall clock after a crash.
pub(crate) const MARK_AHEAD_MS: u64 = 1_000;

/// The mark is moved when a stamp comes this near to it, in milliseconds: a tiny record twice a
/// second. Longer than the interval between two syncs of the log, so that also stamps that only
/// other replicas still have, after a power cut, are below the mark.
pub(crate) const MARK_NEAR_MS: u64 = 500;

#[derive(Debug)]
pub(crate) struct Stamps {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    clock: HlcClock,
    /// The highest mark that is stored.
    stored: Hlc,
    /// The wall clock as last told.
    now: Millis,
    /// Above all stamps that were promised: the highest that is stored, and that is durable.
    promised: Hlc,
    promised_durably: Hlc,
    /// Those between, a second apart each, and their writes.
    unsynced: Vec<(Hlc, Seqno)>,
}

/// What a batch must store beside its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// The mark, if the stored one is too near.
    pub(crate) mark: Option<Hlc>,
    /// The batch's highest stamp that is too far ahead to be followed.
    pub(crate) ahead: Option<Hlc>,
}

impl Carried {
    /// What a batch must store that holds the stamps of both.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { mark: self.mark.max(other.mark), ahead: self.ahead.max(other.ahead) }
    }
}

impl State {
    fn carried(&self, stamp: Hlc) -> Carried {
        let is_near = stamp.millis().plus(MARK_NEAR_MS) >= self.stored.millis();
        let mark = is_near.then(|| Hlc::new(stamp.millis().plus(MARK_AHEAD_MS), 0));
        Carried { mark, ahead: None }
    }
}

impl Stamps {
    /// Begins above `mark`.
    pub(crate) fn new(mark: Hlc, max_ahead_ms: u64, now: Millis) -> Self {
        let clock = HlcClock::new(mark, max_ahead_ms);
        let (promised, promised_durably) = (Hlc::ZERO, Hlc::ZERO);
        let unsynced = Vec::new();
        let state = State { clock, stored: mark, now, promised, promised_durably, unsynced };
        Self { state: Mutex::new(state) }
    }

    /// The next stamp.
    pub(crate) fn tick(&self, now: Millis) -> (Hlc, Carried) {
        let mut state = self.state.lock();
        state.now = now;
        let stamp = state.clock.tick(now);
        (stamp, state.carried(stamp))
    }

    /// Follows a stamp from elsewhere.
    pub(crate) fn observe(&self, stamp: Hlc, now: Millis) -> Result<Carried, StampTooFarAhead> {
        let mut state = self.state.lock();
        state.now = now;
        if stamp > state.clock.last() {
            state.clock.observe(stamp, now)?;
        }
        Ok(state.carried(stamp))
    }

    /// Follows a stamp that other replicas have taken already. One that is too far ahead of the last
    /// wall clock told is not followed, and its row is taken all the same: it is in the cluster, and
    /// to leave it out here alone would only make replicas differ.
    pub(crate) fn follow(&self, stamp: Hlc) -> Carried {
        let mut state = self.state.lock();
        let now = state.now;
        if stamp > state.clock.last() && state.clock.observe(stamp, now).is_err() {
            return Carried { mark: None, ahead: Some(stamp) };
        }
        state.carried(stamp)
    }

    /// A batch that carried a mark is stored.
    pub(crate) fn stored(&self, carried: Carried) {
        if let Some(mark) = carried.mark {
            let mut state = self.state.lock();
            state.stored = state.stored.max(mark);
        }
    }

    /// A stamp below all that follow, and what must be stored first where the record of promises is
    /// not above it.
    pub(crate) fn promise(&self, now: Millis) -> (Hlc, Option<Hlc>) {
        let mut state = self.state.lock();
        state.now = now;
        let stamp = state.clock.tick(now);
        let is_due = state.promised < stamp && !broken(Mutation::PromiseNotDurable);
        (stamp, is_due.then(|| Hlc::new(stamp.millis().plus(MARK_AHEAD_MS), 0)))
    }

    /// A record of promises is stored.
    pub(crate) fn promise_stored(&self, mark: Hlc, commit: Commit) {
        let mut state = self.state.lock();
        state.promised = state.promised.max(mark);
        state.unsynced.push((mark, commit.seqno()));
    }

    /// Whether another life is sure to begin above a promised stamp, where all up to `durable` is.
    pub(crate) fn is_promise_durable(&self, stamp: Hlc, durable: Seqno) -> bool {
        let mut state = self.state.lock();
        let State { promised_durably, unsynced, .. } = &mut *state;
        unsynced.retain(|(mark, seqno)| {
            let is_durable = *seqno <= durable;
            if is_durable {
                *promised_durably = (*promised_durably).max(*mark);
            }
            !is_durable
        });
        stamp <= *promised_durably || broken(Mutation::PromiseNotDurable)
    }

    /// The highest stamp given or followed.
    pub(crate) fn last(&self) -> Hlc {
        self.state.lock().clock.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps() -> Stamps {
        Stamps::new(Hlc::ZERO, 60_000, Millis(0))
    }

    #[test]
    fn stamps_stay_below_the_mark_and_the_mark_moves_seldom() {
        let stamps = stamps();
        let (mut stored, mut moves) = (Hlc::ZERO, 0);
        for now in 10_000..20_000 {
            let (stamp, carried) = stamps.tick(Millis(now));
            moves += u32::from(carried.mark.is_some());
            stored = stored.max(carried.mark.unwrap_or_default());
            stamps.stored(carried);
            assert!(stamp < stored);
        }
        assert!((10..30).contains(&moves), "{moves}");
    }

    #[test]
    fn a_mark_is_carried_until_one_is_stored() {
        let stamps = stamps();
        let (_, lost) = stamps.tick(Millis(10_000));
        let (_, carried) = stamps.tick(Millis(10_000));
        assert!(lost.mark.is_some() && carried.mark.is_some());
        stamps.stored(carried);
        assert_eq!(stamps.tick(Millis(10_000)).1, Carried::default());
        // An older one that is stored late changes nothing.
        let newer = stamps.tick(Millis(12_000)).1;
        stamps.stored(newer);
        stamps.stored(lost);
        assert_eq!(stamps.tick(Millis(12_000)).1, Carried::default());
    }

    #[test]
    fn a_clock_that_stepped_back_over_a_restart_gives_stamps_above_the_mark() {
        let stamps = stamps();
        let (before, _) = stamps.tick(Millis(50_000));
        let followed = Hlc::new(Millis(70_000), 3);
        let mark = stamps.observe(followed, Millis(50_000)).unwrap().mark.unwrap();
        let restarted = Stamps::new(mark, 60_000, Millis(1_000));
        let (after, _) = restarted.tick(Millis(1_000));
        assert!(after > before && after > followed);
    }

    #[test]
    fn a_stamp_that_is_too_far_ahead_is_not_followed() {
        let stamps = Stamps::new(Hlc::ZERO, 1_000, Millis(1_000));
        let far = Hlc::new(Millis(5_000), 0);
        assert!(stamps.observe(far, Millis(1_000)).is_err());
        assert_eq!(stamps.follow(far), Carried { mark: None, ahead: Some(far) });
        assert!(stamps.tick(Millis(1_000)).0 < far);
        let near = Hlc::new(Millis(1_500), 0);
        assert!(stamps.follow(near).mark.unwrap() > near);
        assert!(stamps.tick(Millis(1_000)).0 > near);
    }
}
