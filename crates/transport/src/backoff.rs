//! How long to wait before the next attempt to dial.

use std::time::Duration;

/// Doubles from the least to the most, with jitter: between half of it and all of it.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(least: Duration, most: Duration, seed: u64) -> Self {
        Self { least, most, next: least, random: seed }
    }

    /// Starts again from the least: the last attempt was a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.least;
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        let whole = self.next;
        self.next = (self.next * 2).min(self.most);
        let half = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX).max(1);
        whole / 2 + Duration::from_micros(self.random() % half)
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_start_again() {
        let (least, most) = (Duration::from_millis(50), Duration::from_millis(500));
        let mut backoff = Backoff::new(least, most, 7);
        let mut whole = least;
        for _ in 0..20 {
            let delay = backoff.next_delay();
            assert!(whole / 2 <= delay && delay < whole, "{delay:?} of {whole:?}");
            whole = (whole * 2).min(most);
        }
        backoff.reset();
        assert!(backoff.next_delay() < least);
    }

    #[test]
    fn seeds_differ() {
        let of =
            |seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(1), seed).next_delay();
        assert_ne!(of(1), of(2));
    }
}
