//! Time as data: wall-clock milliseconds, and the hybrid logical clock.
//!
//! Source: Kulkarni, Demirbas et al., "Logical Physical Clocks" (2014). The physical part is in
//! milliseconds, the logical part orders events within one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This time plus a number of milliseconds, at most the largest time.
    #[must_use]
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// How many milliseconds this is after `earlier`; 0 when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A stamp of the hybrid logical clock: 48 bits of milliseconds, then 16 bits that count.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The stamp below all others.
    pub const ZERO: Self = Self(0);

    /// A stamp from its two parts.
    #[must_use]
    pub fn new(millis: Millis, logical: u16) -> Self {
        Self(millis.0.min((1 << 48) - 1) << 16 | u64::from(logical))
    }

    /// The wall-clock part.
    #[must_use]
    pub fn millis(self) -> Millis {
        Millis(self.0 >> 16)
    }

    /// The counting part.
    #[must_use]
    pub fn logical(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The smallest stamp above this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis().0, self.logical())
    }
}

/// A node's clock: its stamps rise, and are above every stamp that it has observed.
///
/// Time is an argument. A wall clock that steps back does not take the stamps with it.
#[derive(Clone, Debug)]
pub struct HlcClock {
    last: Hlc,
    max_ahead: u64,
}

impl HlcClock {
    /// How far ahead of the local wall clock an observed stamp may be before it is refused.
    pub const DEFAULT_MAX_AHEAD_MS: u64 = 60_000;

    /// A clock that starts above `last`, the highest stamp that this node knows to have given.
    #[must_use]
    pub fn new(last: Hlc, max_ahead_ms: u64) -> Self {
        Self { last, max_ahead: max_ahead_ms }
    }

    /// The next stamp: above all that were given or observed, and not below `now`.
    pub fn tick(&mut self, now: Millis) -> Hlc {
        self.last = Hlc::new(now, 0).max(self.last.next());
        self.last
    }

    /// Takes note of a stamp from elsewhere, so that later stamps are above it.
    ///
    /// # Errors
    /// A stamp too far ahead of `now`: following it would carry one node's broken wall clock
    /// through the cluster. The clock is unchanged.
    pub fn observe(&mut self, stamp: Hlc, now: Millis) -> Result<(), StampTooFarAhead> {
        let ahead_ms = stamp.millis().since(now);
        if ahead_ms > self.max_ahead {
            return Err(StampTooFarAhead { ahead_ms, limit_ms: self.max_ahead });
        }
        self.last = self.last.max(stamp);
        Ok(())
    }

    /// The highest stamp given or observed so far.
    #[must_use]
    pub fn last(&self) -> Hlc {
        self.last
    }
}

/// A stamp from a clock that runs ahead of this node's. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stamp is {ahead_ms} ms ahead of this node's clock; at most {limit_ms} ms are allowed")]
pub struct StampTooFarAhead {
    /// Milliseconds ahead of the local wall clock.
    pub ahead_ms: u64,
    /// The limit in force.
    pub limit_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_when_the_wall_clock_stands_or_steps_back() {
        let mut clock = HlcClock::new(Hlc::ZERO, 1000);
        let a = clock.tick(Millis(100));
        let b = clock.tick(Millis(100));
        let c = clock.tick(Millis(50));
        let d = clock.tick(Millis(200));
        assert!(a < b && b < c && c < d);
        assert_eq!(d, Hlc::new(Millis(200), 0));
    }

    #[test]
    fn observed_stamps_are_followed_within_the_limit_only() {
        let mut clock = HlcClock::new(Hlc::ZERO, 1000);
        let near = Hlc::new(Millis(1_500), 7);
        clock.observe(near, Millis(1_000)).unwrap();
        assert!(clock.tick(Millis(1_000)) > near);
        let far = Hlc::new(Millis(5_000), 0);
        assert_eq!(
            clock.observe(far, Millis(1_000)),
            Err(StampTooFarAhead { ahead_ms: 4_000, limit_ms: 1_000 })
        );
        assert!(clock.last() < far);
    }
}
