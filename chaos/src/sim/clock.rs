//! Simulated time, and what a node's wall clock makes of it.

use std::ops::{Add, Sub};

use meridian_types::Millis;

/// Wall time at the beginning of the simulated world: 2026-01-01T00:00:00Z. Far from 0, so that a
/// clock may be set back.
const WORLD_BEGINS: Millis = Millis(1_767_225_600_000);

/// Microseconds since the world began: the one time that is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// The beginning.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Whole milliseconds since the world began.
    #[must_use]
    pub const fn to_millis(self) -> u64 {
        self.0 / 1_000
    }
}

impl Add for Micros {
    type Output = Self;

    /// At most the largest time.
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Micros {
    type Output = Self;

    /// 0 where `other` is later.
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// A node's clocks. The wall clock may be wrong, drift and step; the other counts true time from
/// the node's start and goes on while the process does not run.
#[derive(Clone, Debug, Default)]
pub struct NodeClock {
    /// How far the wall clock was ahead at `since`, in microseconds.
    ahead: i64,
    drift_ppm: i64,
    since: Micros,
}

impl NodeClock {
    /// A clock that is ahead by some microseconds (behind, where negative) and gains `drift_ppm`
    /// microseconds a second.
    #[must_use]
    pub fn new(ahead_micros: i64, drift_ppm: i64) -> Self {
        Self { ahead: ahead_micros, drift_ppm, since: Micros::ZERO }
    }

    /// What the wall clock shows.
    #[must_use]
    pub fn wall(&self, now: Micros) -> Millis {
        let true_micros = Micros::from_millis(WORLD_BEGINS.0) + now;
        Millis(true_micros.0.saturating_add_signed(self.ahead(now)) / 1_000)
    }

    /// How far the wall clock is ahead of the truth, in microseconds.
    #[must_use]
    pub fn ahead(&self, now: Micros) -> i64 {
        let passed = i64::try_from((now - self.since).0).unwrap_or(i64::MAX);
        let gained = i128::from(passed) * i128::from(self.drift_ppm) / 1_000_000;
        let most = if gained < 0 { i64::MIN } else { i64::MAX };
        self.ahead.saturating_add(i64::try_from(gained).unwrap_or(most))
    }

    /// Sets the wall clock forward, or back.
    pub fn step(&mut self, now: Micros, micros: i64) {
        self.ahead = self.ahead(now).saturating_add(micros);
        self.since = now;
    }

    /// Changes the drift; what was gained stays.
    pub fn set_drift(&mut self, now: Micros, drift_ppm: i64) {
        self.step(now, 0);
        self.drift_ppm = drift_ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_true_clock_shows_the_true_time() {
        let clock = NodeClock::default();
        assert_eq!(clock.wall(Micros::from_secs(5)), WORLD_BEGINS.plus(5_000));
    }

    #[test]
    fn a_step_moves_the_wall_clock_both_ways() {
        let mut clock = NodeClock::new(2_000, 0);
        assert_eq!(clock.wall(Micros::ZERO), WORLD_BEGINS.plus(2));
        clock.step(Micros::from_secs(1), -5_000_000);
        assert_eq!(clock.wall(Micros::from_secs(1)).0, WORLD_BEGINS.0 + 1_002 - 5_000);
        clock.step(Micros::from_secs(1), 5_000_000);
        assert_eq!(clock.wall(Micros::from_secs(1)).0, WORLD_BEGINS.0 + 1_002);
    }

    #[test]
    fn drift_adds_up_and_what_was_gained_stays() {
        let mut clock = NodeClock::new(0, 200);
        assert_eq!(clock.ahead(Micros::from_secs(10)), 2_000);
        clock.set_drift(Micros::from_secs(10), -100);
        assert_eq!(clock.ahead(Micros::from_secs(10)), 2_000);
        assert_eq!(clock.ahead(Micros::from_secs(30)), 0);
    }

    #[test]
    fn extreme_skew_saturates() {
        let mut clock = NodeClock::new(i64::MIN, i64::MIN);
        clock.step(Micros(u64::MAX), i64::MIN);
        assert_eq!(clock.wall(Micros::from_secs(1)), Millis(0));
    }
}
